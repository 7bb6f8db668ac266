package asl

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
)

// Callback is a task that waits for an answer to its token.
type Callback struct {
	Token string

	mu      sync.Mutex
	changed chan struct{} // closed and renewed at every heartbeat and at the end
	ended   bool
	output  []byte
	failure *Error
}

// NewCallback makes a callback with a token.
func NewCallback(token string) *Callback {
	return &Callback{Token: token, changed: make(chan struct{})}
}

// Succeed ends the task with its output in JSON. It returns false if the task
// has already ended.
func (c *Callback) Succeed(output []byte) bool {
	return c.signal(func() { c.ended, c.output = true, output })
}

// Fail ends the task with an error. It returns false if the task has already
// ended.
func (c *Callback) Fail(failure *Error) bool {
	return c.signal(func() { c.ended, c.failure = true, failure })
}

// Heartbeat reports that the task is alive. It returns false if the task has
// already ended.
func (c *Callback) Heartbeat() bool { return c.signal(func() {}) }

func (c *Callback) signal(change func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return false
	}
	change()
	close(c.changed)
	c.changed = make(chan struct{})
	return true
}

// abandon invalidates the token, because the task has timed out or was stopped.
func (c *Callback) abandon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
}

func (c *Callback) look() (ended bool, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended, c.changed
}

// await waits for the end. heartbeat is the longest allowed time without a
// heartbeat, deadline the time of the time-out; 0 and the zero time mean no
// limit.
func (c *Callback) await(ctx context.Context, clk clock.Clock, deadline time.Time, heartbeat time.Duration) ([]byte, error) {
	for {
		ended, changed := c.look()
		if ended {
			if c.failure != nil {
				return nil, c.failure
			}
			return c.output, nil
		}
		limit, failure := heartbeat, &Error{Name: ErrTimeout, kind: silent}
		if !deadline.IsZero() {
			if left := deadline.Sub(clk.Now()); heartbeat == 0 || left <= heartbeat {
				limit, failure = left, errTimedOut
			}
			if limit <= 0 {
				return nil, errTimedOut
			}
		}
		err := clk.Wait(ctx, changed, limit)
		switch {
		case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
			return nil, failure
		case err != nil:
			return nil, context.Cause(ctx)
		}
	}
}

// errTimedOut has no cause, as recordings of AWS show.
var errTimedOut = &Error{Name: ErrTimeout}
