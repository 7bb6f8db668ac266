package asl

import (
	"context"
	"sync"
)

// fanOut runs work for 0 to n-1, at most limit at a time, on the clock's own
// goroutines. The first error ends what is running and is returned when all
// have ended. The strand's next event follows the latest of the branches'.
func (v *visit) fanOut(n, limit int, work func(ctx context.Context, i int, s *strand) error) error {
	if n == 0 {
		return nil
	}
	ctx, cancel := context.WithCancelCause(v.ctx)
	defer cancel(nil)
	var (
		mu      sync.Mutex
		next    int
		running = min(n, limit)
		latest  = v.last
		done    = make(chan struct{})
	)
	worker := func() {
		for {
			mu.Lock()
			i := next
			next++
			if i >= n || ctx.Err() != nil {
				running--
				if running == 0 {
					close(done)
				}
				mu.Unlock()
				return
			}
			mu.Unlock()

			s := v.branch()
			err := work(ctx, i, s)
			mu.Lock()
			latest = max(latest, s.last)
			mu.Unlock()
			if err != nil {
				cancel(err) // keeps the first
			}
		}
	}
	for range running {
		v.host.Clock().Go(worker)
	}
	// Not with v.ctx: the branches see it end themselves, and none may outlive us.
	if err := v.host.Clock().Wait(context.WithoutCancel(ctx), done, 0); err != nil {
		return err
	}
	v.last = latest
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}
