package asl

import "sync"

// turns lets one strand of an execution run at a time, in the order in which
// they ask, so that the same execution always has the same history. A strand
// that waits gives up its turn.
type turns struct {
	mu    sync.Mutex
	taken bool
	queue []chan struct{}
}

func (t *turns) take() { <-t.ask() }

// ask requests a turn. The turn begins when the channel is closed.
func (t *turns) ask() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	mine := make(chan struct{})
	if !t.taken {
		t.taken = true
		close(mine)
		return mine
	}
	t.queue = append(t.queue, mine)
	return mine
}

func (t *turns) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.queue) == 0 {
		t.taken = false
		return
	}
	close(t.queue[0])
	t.queue = t.queue[1:]
}
