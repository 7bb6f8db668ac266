package asl

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/sfn/types"
)

// fan describes the work of a Parallel or Map state.
type fan struct {
	n, limit int // number of strands, and how many may run at once
	// begin, if not nil, runs before a strand starts.
	begin func(i int, s *strand) error
	work  func(ctx context.Context, i int, s *strand) error
	// finish, if not nil, runs after a strand has succeeded.
	finish func(i int, s *strand) (last int64, err error)
	// abort, if not nil, runs after a strand has failed, or was stopped because
	// another one failed. after is the id of the preceding event.
	abort func(i int, failed bool, after int64) error
}

// fanOut runs the work on goroutines of the clock. The first error stops the
// running strands; it is returned when all have ended. The strand's next event
// follows the latest event of the branches, or the last event of the branch that
// failed.
func (v *visit) fanOut(f fan) error {
	ctx, cancel := context.WithCancelCause(v.ctx)
	defer cancel(nil)
	var (
		next, latest = 0, v.last
		running      = min(f.n, f.limit)
		strands      = make([]*strand, f.n)
		ended        = make([]bool, f.n)
		failed       = -1
		done         = make(chan struct{})
	)
	// All of this runs in turns, see turns.
	start := func(after int64) (i int, err error) {
		i = next
		next++
		strands[i] = v.branch(after)
		if f.begin != nil {
			err = f.begin(i, strands[i])
		}
		return i, err
	}
	one := func(i int) (last int64) {
		s := strands[i]
		err := f.work(ctx, i, s)
		last = s.last
		if err == nil && f.finish != nil {
			var own int64
			own, err = f.finish(i, s)
			latest = max(latest, own)
		}
		latest = max(latest, last)
		if err == nil {
			ended[i] = true
			return last
		}
		if ctx.Err() == nil {
			failed = i
			cancel(err) // the first cause stays
		}
		return last
	}
	worker := func(i int, turn <-chan struct{}) {
		<-turn
		defer v.turns.leave()
		for {
			last := one(i)
			if next >= f.n || ctx.Err() != nil {
				break
			}
			var err error
			if i, err = start(last); err != nil {
				cancel(err)
				break
			}
		}
		if running--; running == 0 {
			close(done)
		}
	}
	if f.n == 0 {
		return nil
	}
	var first []int
	for range running {
		i, err := start(v.last)
		if err != nil {
			cancel(err)
		}
		first = append(first, i)
	}
	for _, i := range first {
		turn := v.turns.ask() // in this order
		v.host.Clock().Go(func() { worker(i, turn) })
	}
	// Not with v.ctx: the branches end with it too, and must all have ended before
	// this returns.
	err := v.pause(func() error { return v.host.Clock().Wait(context.WithoutCancel(ctx), done, 0) })
	if err != nil {
		return err
	}
	v.last = latest
	if ctx.Err() == nil {
		return nil
	}
	if failed < 0 || v.ctx.Err() != nil {
		return context.Cause(ctx)
	}
	v.last = strands[failed].last
	for i, s := range strands {
		if s == nil || ended[i] {
			continue
		}
		if f.abort != nil {
			if err := f.abort(i, i == failed, v.last); err != nil {
				return err
			}
		}
		if err := s.aborted(v.last); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// aborted records that the strand did not leave its state. Only some types of
// states have such an event.
func (s *strand) aborted(after int64) error {
	if s.in == nil {
		return nil
	}
	switch s.in.typ {
	case "Task", "Wait", "Parallel", "Map":
		_, err := s.aside(types.HistoryEvent{Type: types.HistoryEventType(s.in.typ + "StateAborted")}, after)
		return err
	}
	return nil
}
