// Package clock is the clock of the embedded AWS: the machine's own, or a
// virtual one that jumps to the next due time as soon as no work is running, so
// that a simulated bake of half an hour takes milliseconds.
package clock

import (
	"context"
	"time"
)

// Clock returns the time and waits. Start work that must stop a virtual clock
// with Go; inside it, only Sleep and Wait let time pass.
type Clock interface {
	// Now returns the current time, in UTC.
	Now() time.Time
	// Sleep returns after d of this clock's time, or earlier with ctx's error.
	Sleep(ctx context.Context, d time.Duration) error
	// Wait returns when ready is closed (nil), when d of this clock's time has
	// passed (context.DeadlineExceeded; d <= 0 means no limit) or when ctx ends
	// (its error). While it waits, a virtual clock may advance.
	Wait(ctx context.Context, ready <-chan struct{}, d time.Duration) error
	// Go runs f in a new goroutine. A virtual clock stands still until f returns or
	// sleeps.
	Go(f func())
	// AfterFunc runs f, like Go, once d has passed. stop reports whether it
	// prevented that.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
	// Hold keeps a virtual clock still until release is called: used by callers
	// from outside (an HTTP request being served, a test's own steps).
	Hold() (release func())
}

// working is the key of a context's mark.
type working struct{}

// Working marks the context of work that was started with Go. Hold by such work is
// not needed and, since a virtual clock must find out which goroutine holds it,
// expensive. The work must not sleep while anyone else uses the context.
func Working(ctx context.Context) context.Context { return context.WithValue(ctx, working{}, true) }

// HoldFor holds the clock for a caller of a service. It does nothing if ctx is marked
// by Working, because such work keeps the clock still itself.
func HoldFor(ctx context.Context, c Clock) (release func()) {
	if marked, _ := ctx.Value(working{}).(bool); marked {
		return func() {}
	}
	return c.Hold()
}
