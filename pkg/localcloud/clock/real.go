package clock

import (
	"context"
	"time"
)

// NewReal returns the machine's own clock. Hold has no effect on it.
func NewReal() Clock { return realClock{} }

type realClock struct{}

func (realClock) Now() time.Time { return time.Now().UTC() }

func (realClock) Sleep(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil || d <= 0 {
		return err
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (realClock) Wait(ctx context.Context, ready <-chan struct{}, d time.Duration) error {
	if isClosed(ready) {
		return nil
	}
	var due <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		due = t.C
	}
	select {
	case <-ready:
		return nil
	case <-due:
		return context.DeadlineExceeded
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (realClock) Go(f func()) { go f() }

func (realClock) AfterFunc(d time.Duration, f func()) (stop func() bool) {
	return time.AfterFunc(d, f).Stop
}

func (realClock) Hold() (release func()) { return func() {} }

// isClosed reports whether ready is closed; a nil channel never is.
func isClosed(ready <-chan struct{}) bool {
	select {
	case <-ready:
		return true
	default:
		return false
	}
}
