package asl

import "sync"

// turns lets one strand of an execution work at a time, in the order in which
// they ask, so that the same execution has the same history every time. Whoever
// waits for time to pass gives its turn up.
type turns struct {
	mu    sync.Mutex
	taken bool
	queue []chan struct{}
}

func (t *turns) take() { <-t.ask() }

// ask lines up for a turn, which has come when the channel is closed.
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
