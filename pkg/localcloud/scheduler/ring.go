package scheduler

import (
	"context"
	"hash/fnv"
	"maps"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/scheduler/types"
)

const (
	// longestSleep is how long the service sleeps at most, since a machine that is
	// suspended has timers that are late.
	longestSleep = time.Minute
	// tooLate is how late a schedule rings at most. What is later passed while the
	// machine slept, which is as if nothing had run.
	tooLate = 5 * time.Minute
)

// plan finds when the schedule is due after t.
func (one *schedule) plan(t time.Time) {
	one.next = time.Time{}
	if start := one.Settings.Start; start != nil && t.Before(*start) {
		t = start.Add(-time.Nanosecond)
	}
	next, ok := one.timing.after(t)
	if end := one.Settings.End; ok && (end == nil || !next.After(*end)) {
		one.next = next
	}
}

// offset is where in its flexible window a schedule rings: always at the same
// place, which follows from its name. AWS has another one each time.
func (one *schedule) offset() time.Duration {
	if one.Settings.Window.Mode != types.FlexibleTimeWindowModeFlexible {
		return 0
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(one.ARN)) // never fails
	seconds := uint64(aws.ToInt32(one.Settings.Window.MaximumWindowInMinutes)) * 60
	return time.Duration(h.Sum64()%seconds) * time.Second
}

// due is when the schedule rings next; false: not at all.
func (one *schedule) due() (time.Time, bool) {
	if one.next.IsZero() || one.Settings.State == types.ScheduleStateDisabled {
		return time.Time{}, false
	}
	return one.next.Add(one.offset()), true
}

// each calls f with every schedule, in order. s.mu is held.
func (s *Service) each(f func(*schedule)) {
	for _, named := range s.groups {
		for _, name := range slices.Sorted(maps.Keys(named)) {
			for _, one := range slices.Sorted(maps.Keys(named[name].Schedules)) {
				f(named[name].Schedules[one])
			}
		}
	}
}

// arm sets the timer to the earliest schedule. s.mu is held.
func (s *Service) arm() {
	if s.stop != nil {
		s.stop()
		s.stop = nil
	}
	if !s.ringing {
		return
	}
	var first time.Time
	s.each(func(one *schedule) {
		if due, ok := one.due(); ok && (first.IsZero() || due.Before(first)) {
			first = due
		}
	})
	if first.IsZero() {
		return
	}
	s.stop = s.cfg.Clock.AfterFunc(min(longestSleep, max(0, first.Sub(s.cfg.Clock.Now()))), s.ring)
}

// ring delivers what is due, and sets the timer again.
func (s *Service) ring() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ringing {
		return
	}
	now := s.cfg.Clock.Now()
	s.each(func(one *schedule) {
		due, ok := one.due()
		if !ok || due.After(now) {
			return
		}
		missed := now.Sub(due) > tooLate
		o := occurrence{schedule: one.copy(), time: one.next}
		if missed {
			s.cfg.Logger.Warn("the machine slept at the time of a schedule, which is not replayed", "schedule", one.ARN, "time", one.next)
			one.plan(now.Add(-one.offset()))
			return
		}
		one.plan(one.next)
		o.last = one.next.IsZero()
		s.work.Go(context.Background(), func(ctx context.Context) { s.deliver(ctx, o) })
	})
	s.arm()
}

// copy is the schedule as it is now.
func (one *schedule) copy() schedule { return *one }

// complete does what a schedule wants done after its last delivery.
func (s *Service) complete(o occurrence) {
	if !o.last || o.schedule.Settings.After != types.ActionAfterCompletionDelete {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.groups[o.schedule.At][o.schedule.Group]
	// One that was updated meanwhile may have a future again.
	if g == nil || g.Schedules[o.schedule.Name] == nil || !g.Schedules[o.schedule.Name].next.IsZero() {
		return
	}
	delete(g.Schedules, o.schedule.Name)
}
