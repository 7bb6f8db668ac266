package fault

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ami-factory/ami-factory/pkg/localcloud/events"
)

func (r Rule) aboutEvents() bool {
	return r.Source != "" || r.DetailType != "" || len(r.Pattern) > 0 || r.Lose || r.Repeat > 0 || r.Gap > 0 || r.Behind > 0
}

// checkEvents is check of a rule about events.
func (r Rule) checkEvents() (pattern events.Pattern, err error) {
	switch {
	case r.Source == "":
		return pattern, errors.New("source is missing (that of the events, such as aws.ec2, or * for all): detailType, pattern, lose, repeat, gap and behind are of rules about events")
	case r.Service != "" || r.Operation != "" || r.InstanceType != "" || r.Zone != "":
		return pattern, errors.New("a rule has a source, and is about events, or a service, and is about calls")
	case r.Code != "" || r.Message != "" || r.Status != 0:
		return pattern, errors.New("an event has no answer: code, message and status are of rules about calls; lose, delay, repeat and behind are of those about events")
	case !r.Lose && r.Delay == 0 && r.Repeat == 0 && r.Behind == 0:
		return pattern, errors.New("none of lose, delay, repeat and behind is given, so the rule would do nothing")
	case r.Lose && (r.Delay > 0 || r.Repeat > 0 || r.Behind > 0):
		return pattern, errors.New("an event that is lost cannot be delayed, repeated or held: lose excludes delay, repeat and behind")
	case r.Gap > 0 && r.Repeat == 0:
		return pattern, errors.New("gap is the time between repetitions, and repeat is not given")
	case len(r.Pattern) == 0:
		return pattern, nil
	}
	if pattern, err = events.ParsePattern(string(r.Pattern)); err != nil {
		return pattern, fmt.Errorf("pattern: %w", err)
	}
	return pattern, nil
}

// held is an event that waits for later ones.
type held struct {
	left    int // later events to come
	deliver func()
}

// release lets all held events go. s.mu is held.
func (r *counted) release() []func() {
	due := make([]func(), 0, len(r.held))
	for _, h := range r.held {
		due = append(due, h.deliver)
	}
	r.held = nil
	return due
}

// passed counts an event that the rule matches, and lets those go that waited for it.
// s.mu is held.
func (r *counted) passed() (due []func()) {
	r.held = slices.DeleteFunc(r.held, func(h *held) bool {
		h.left--
		if h.left > 0 {
			return false
		}
		due = append(due, h.deliver)
		return true
	})
	return due
}

func run(all []func()) {
	for _, f := range all {
		f()
	}
}

// Event lets an event arrive on its bus by calling deliver, as often and as late as the
// rules say. deliver must not block. It fits events.Config.Disturb.
func (s *Set) Event(e events.Arrival, deliver func()) {
	matches := func(r *counted) bool {
		return r.aboutEvents() && (r.Source == "*" || r.Source == e.Source) && (r.DetailType == "" || r.DetailType == e.DetailType) &&
			(r.Account == "" || r.Account == e.Account) && (r.Region == "" || r.Region == e.Region) && (len(r.Pattern) == 0 || r.pattern.Match(e.Document))
	}
	s.mu.Lock()
	var due []func()
	for _, r := range s.rules {
		if len(r.held) > 0 && matches(r) {
			due = append(due, r.passed()...)
		}
	}
	taker := s.taker(matches)
	now := deliver
	if taker != nil {
		now = s.disturbed(taker, deliver)
	}
	s.mu.Unlock()
	if now != nil {
		now()
	}
	run(due)
}

// disturbed is what delivers an event that a rule has taken, nil where that is not now.
// s.mu is held.
func (s *Set) disturbed(r *counted, deliver func()) (now func()) {
	all := func() {
		deliver()
		for i := range r.Repeat {
			s.later(time.Duration(r.Gap)*time.Duration(i+1), deliver)
		}
	}
	switch {
	case r.Lose:
		return nil
	case r.Behind > 0:
		h := &held{left: r.Behind, deliver: all}
		r.held = append(r.held, h)
		if r.Delay > 0 {
			s.clock.AfterFunc(time.Duration(r.Delay), func() { s.letGo(r, h) })
		}
		return nil
	}
	return func() { s.later(time.Duration(r.Delay), all) }
}

// later calls f after d, or now.
func (s *Set) later(d time.Duration, f func()) {
	if d <= 0 {
		f()
		return
	}
	s.clock.AfterFunc(d, f)
}

// letGo delivers an event that has been held for the rule's delay.
func (s *Set) letGo(r *counted, h *held) {
	s.mu.Lock()
	i := slices.Index(r.held, h)
	if i >= 0 {
		r.held = slices.Delete(r.held, i, i+1)
	}
	s.mu.Unlock()
	if i >= 0 {
		h.deliver()
	}
}
