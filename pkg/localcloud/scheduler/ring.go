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
	// longestSleep is the longest time between checks, because timers are late on a
	// machine that was suspended.
	longestSleep = time.Minute
	// tooLate is the maximum delay of a schedule. Later times passed while the
	// machine was suspended, and are skipped as if the service had not run.
	tooLate = 5 * time.Minute
)

// plan computes when the schedule is next due after t.
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

// offset returns the schedule's offset in its flexible window. It derives from
// the name and is always the same; on AWS it varies.
func (one *schedule) offset() time.Duration {
	if one.Settings.Window.Mode != types.FlexibleTimeWindowModeFlexible {
		return 0
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(one.ARN)) // never fails
	seconds := uint64(aws.ToInt32(one.Settings.Window.MaximumWindowInMinutes)) * 60
	return time.Duration(h.Sum64()%seconds) * time.Second
}

// due returns when the schedule runs next, or false if never.
func (one *schedule) due() (time.Time, bool) {
	if one.next.IsZero() || one.Settings.State == types.ScheduleStateDisabled {
		return time.Time{}, false
	}
	return one.next.Add(one.offset()), true
}

// each calls f with every schedule, in order. The caller holds s.mu.
func (s *Service) each(f func(*schedule)) {
	for _, named := range s.groups {
		for _, name := range slices.Sorted(maps.Keys(named)) {
			for _, one := range slices.Sorted(maps.Keys(named[name].Schedules)) {
				f(named[name].Schedules[one])
			}
		}
	}
}

// arm sets the timer to the earliest schedule. The caller holds s.mu.
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

// ring delivers due schedules and sets the timer again.
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
			s.cfg.Logger.Warn("a schedule is skipped because the machine was suspended at its time", "schedule", one.ARN, "time", one.next)
			one.plan(now.Add(-one.offset()))
			return
		}
		one.plan(one.next)
		o.last = one.next.IsZero()
		s.work.Go(context.Background(), func(ctx context.Context) { s.deliver(ctx, o) })
	})
	s.arm()
}

// copy returns a copy of the schedule.
func (one *schedule) copy() schedule { return *one }

// complete applies ActionAfterCompletion after a schedule's last delivery.
func (s *Service) complete(o occurrence) {
	if !o.last || o.schedule.Settings.After != types.ActionAfterCompletionDelete {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.groups[o.schedule.At][o.schedule.Group]
	// A schedule that was updated in the meantime may be due again.
	if g == nil || g.Schedules[o.schedule.Name] == nil || !g.Schedules[o.schedule.Name].next.IsZero() {
		return
	}
	delete(g.Schedules, o.schedule.Name)
}
