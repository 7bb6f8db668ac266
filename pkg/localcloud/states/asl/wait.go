package asl

import (
	"context"
	"time"
)

// wait is the Wait state: it waits for a number of seconds or until a time.
type wait struct{ seconds, timestamp *template }

func (p *parser) wait(o *object, s *state, _ map[string]bool) body {
	p.transition(o, s)
	p.leaving(o, &s.clause)
	w := &wait{seconds: o.scalar("Seconds", "a number"), timestamp: o.scalar("Timestamp", "a string")}
	if (w.seconds == nil) == (w.timestamp == nil) {
		p.problems.add(CodeSchema, o.path, "a Wait state has either \"Seconds\" or \"Timestamp\"")
	}
	return w
}

func (w *wait) run(v *visit) (step, error) {
	d, err := w.duration(v)
	if err != nil {
		return step{}, err
	}
	if err := v.pause(func() error { return v.host.Clock().Sleep(v.ctx, d) }); err != nil {
		return step{}, context.Cause(v.ctx)
	}
	return v.through(v.state.clause, v.input, nil)
}

func (w *wait) duration(v *visit) (time.Duration, error) {
	if w.seconds != nil {
		n, err := v.whole(w.seconds, 0, 0, maxSeconds)
		return time.Duration(n) * time.Second, err
	}
	got, err := v.evaluate(w.timestamp, nil)
	if err != nil {
		return 0, err
	}
	text, ok := got.(string)
	if !ok {
		return 0, v.mismatch(w.timestamp, "string", got)
	}
	until, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		why := "The Timestamp field cannot be parsed as an ISO-8601 extended offset date-time format string: " + text
		return 0, v.failedEvaluation(why, v.field(w.timestamp.path), v.event)
	}
	return until.Sub(v.host.Clock().Now()), nil
}
