package asl

import (
	"fmt"
	"math"
	"time"
)

// retrier is one element of Retry.
type retrier struct {
	errorEquals []string
	interval    time.Duration
	attempts    int
	backoff     float64
	maxDelay    time.Duration // 0: none
	jitter      bool          // JitterStrategy FULL
}

// catcher is one element of Catch.
type catcher struct {
	clause
	errorEquals []string
}

// policies reads Retry and Catch.
func (p *parser) policies(o *object, s *state) {
	retry := o.list("Retry")
	for i, v := range retry {
		ro, ok := newObject(v, fmt.Sprintf("%s[%d]", o.at("Retry"), i), p.problems)
		if !ok {
			continue
		}
		r := retrier{
			errorEquals: p.errorEquals(ro, i == len(retry)-1),
			interval:    time.Duration(ro.integer("IntervalSeconds", 1, 1, maxSeconds)) * time.Second,
			attempts:    ro.integer("MaxAttempts", 3, 0, maxSeconds),
			backoff:     ro.number("BackoffRate", 2, 1, math.MaxFloat64),
			maxDelay:    time.Duration(ro.integer("MaxDelaySeconds", 0, 1, 31622400)) * time.Second,
		}
		switch strategy := ro.text("JitterStrategy", false); strategy {
		case "", "NONE":
		case "FULL":
			r.jitter = true
		default:
			ro.bad("JitterStrategy", "%q is not FULL or NONE", strategy)
		}
		if r.maxDelay > 0 && r.maxDelay <= r.interval {
			ro.bad("MaxDelaySeconds", "must be greater than IntervalSeconds")
		}
		ro.done()
		s.retry = append(s.retry, r)
	}
	catch := o.list("Catch")
	for i, v := range catch {
		co, ok := newObject(v, fmt.Sprintf("%s[%d]", o.at("Catch"), i), p.problems)
		if !ok {
			continue
		}
		c := catcher{errorEquals: p.errorEquals(co, i == len(catch)-1)}
		c.next = co.text("Next", true)
		p.leaving(co, &c.clause)
		co.done()
		s.catch = append(s.catch, c)
	}
}

func (p *parser) errorEquals(o *object, last bool) (names []string) {
	list := o.list("ErrorEquals")
	if len(list) == 0 {
		p.problems.add(CodeSchema, o.path, "\"ErrorEquals\" must list at least one error name")
	}
	for _, v := range list {
		name, ok := v.(string)
		if !ok || name == "" {
			o.bad("ErrorEquals", "an error name is a string that is not empty")
			continue
		}
		if name == ErrAll && (len(list) > 1 || !last) {
			o.bad("ErrorEquals", "%s must stand alone, in the last element", ErrAll)
		}
		names = append(names, name)
	}
	return names
}

// delay returns the time to wait before retry number attempt, counted from 0.
func (r *retrier) delay(attempt int, random func() float64) time.Duration {
	d := float64(r.interval) * math.Pow(r.backoff, float64(attempt))
	d = min(d, float64(maxSeconds*time.Second))
	if r.maxDelay > 0 {
		d = min(d, float64(r.maxDelay))
	}
	if r.jitter {
		d *= random()
	}
	return time.Duration(d)
}
