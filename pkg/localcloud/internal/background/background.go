// Package background runs the work of a service after its answer, so that
// closing the service can stop it.
package background

import (
	"context"
	"fmt"
	"sync"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
)

// Group manages the background work of one service.
type Group struct {
	clock  clock.Clock
	ctx    context.Context
	cancel context.CancelFunc

	mu     sync.Mutex
	count  int
	closed bool
	idle   chan struct{} // closed when the group is and its last work has ended
}

// New returns a Group whose work runs on c.
func New(c clock.Clock) *Group {
	ctx, cancel := context.WithCancel(context.Background())
	return &Group{clock: c, ctx: ctx, cancel: cancel, idle: make(chan struct{})}
}

// Go runs f as work of the clock. Its context has the values of ctx, but ends
// with the group instead of ctx. After Close, f is not run.
func (g *Group) Go(ctx context.Context, f func(ctx context.Context)) {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return
	}
	g.count++
	g.mu.Unlock()
	g.clock.Go(func() {
		defer g.done()
		f(merged{Context: g.ctx, values: ctx})
	})
}

func (g *Group) done() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.count--
	if g.closed && g.count == 0 {
		close(g.idle)
	}
}

// Close stops the work, and waits until it has ended or ctx ends.
func (g *Group) Close(ctx context.Context) error {
	g.mu.Lock()
	if !g.closed {
		g.closed = true
		if g.count == 0 {
			close(g.idle)
		}
	}
	g.mu.Unlock()
	g.cancel()
	if err := g.clock.Wait(ctx, g.idle, 0); err != nil {
		return fmt.Errorf("background work is still ending: %w", err)
	}
	return nil
}

// merged is a context with the end of one context and the values of another.
type merged struct {
	context.Context
	values context.Context
}

func (m merged) Value(key any) any {
	if v := m.Context.Value(key); v != nil {
		return v
	}
	return m.values.Value(key)
}
