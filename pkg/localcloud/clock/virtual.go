package clock

import (
	"container/heap"
	"context"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Virtual is a discrete-event clock. It stands still while any work that it
// knows of is running, and otherwise jumps to the earliest time for which a
// goroutine sleeps or waits.
//
// It knows of the functions started with Go or AfterFunc, until they return,
// and of the goroutines that called Hold, until their release is called. Such
// work must do all its waiting in Sleep and Wait: these take it out of the
// account for as long as they last. Work that blocks in another way (on a
// channel, a sync.WaitGroup, a process) keeps time from passing, which is right
// for something that takes no virtual time and a deadlock for something that
// does.
//
// Whatever was made ready by running work, by closing the channel of a Wait or
// by ending a context, runs before time passes. Timers that are due at the same
// moment fire one after the other in the order in which they were set, each
// when the work of the one before has come to rest.
//
// Any other goroutine may call Sleep and Wait too, but nothing keeps the clock
// from running on once they return. A test therefore holds the clock for as
// long as it acts and looks, and its Sleep says how far time moves:
//
//	clk := clock.NewVirtual(start)
//	defer clk.Hold()()
//	clk.AfterFunc(time.Minute, f)
//	clk.Sleep(ctx, 2*time.Minute) // f has run; it is exactly start+2m
//
// Timers that renew themselves without end keep a virtual clock running without
// end: start them only while there is something to watch.
type Virtual struct {
	mu      sync.Mutex
	now     time.Time
	busy    int // running work and effective holds
	workers map[uint64]*worker
	waiting map[*waiter]struct{} // goroutines in Sleep or Wait
	timers  timerHeap
	seq     uint64
}

// worker is a goroutine that keeps the clock still while it is not asleep.
type worker struct {
	weight int // 1 for work started with Go, and 1 for each hold
	asleep bool
}

// waiter is one call of Sleep or Wait.
type waiter struct {
	ctx    context.Context
	ready  <-chan struct{} // nil in Sleep
	worker *worker         // nil for a goroutine that the clock does not know
	timer  *timer          // nil without a limit
	woken  chan struct{}   // closed when the clock has put it back into the account
	err    error           // what the call returns; set before woken is closed
}

// NewVirtual returns a virtual clock that shows start.
func NewVirtual(start time.Time) *Virtual {
	return &Virtual{
		now:     start.UTC(),
		workers: map[uint64]*worker{},
		waiting: map[*waiter]struct{}{},
	}
}

// Now implements Clock.
func (v *Virtual) Now() time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.now
}

// Sleep implements Clock.
func (v *Virtual) Sleep(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil || d <= 0 {
		return err
	}
	return v.wait(&waiter{ctx: ctx}, d)
}

// Wait implements Clock.
func (v *Virtual) Wait(ctx context.Context, ready <-chan struct{}, d time.Duration) error {
	w := &waiter{ctx: ctx, ready: ready}
	if due, err := w.due(); due {
		return err
	}
	return v.wait(w, d)
}

// Go implements Clock.
func (v *Virtual) Go(f func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.spawn(f)
}

// AfterFunc implements Clock.
func (v *Virtual) AfterFunc(d time.Duration, f func()) (stop func() bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	t := v.addTimer(d, func() { v.spawn(f) })
	v.advance()
	return func() bool {
		v.mu.Lock()
		defer v.mu.Unlock()
		return v.timers.remove(t)
	}
}

// Hold implements Clock. The hold belongs to the calling goroutine: its own
// Sleep and Wait suspend it. release may be called by any goroutine and, like a
// context's cancel function, more than once.
func (v *Virtual) Hold() (release func()) {
	id := goroutineID()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.enter(id)
	return sync.OnceFunc(func() { v.leave(id) })
}

// spawn starts f as work of its own. The clock is locked.
func (v *Virtual) spawn(f func()) {
	v.busy++ // at once: time must not pass before the goroutine has started
	go func() {
		id := goroutineID()
		v.mu.Lock()
		v.enter(id)
		v.busy-- // enter counted it again
		v.mu.Unlock()
		defer v.leave(id)
		f()
	}()
}

// enter adds a reason to stand still. The clock is locked.
func (v *Virtual) enter(id uint64) {
	w := v.workers[id]
	if w == nil {
		w = &worker{}
		v.workers[id] = w
	}
	w.weight++
	v.busy++
}

// leave takes away what enter added. The clock is not locked.
func (v *Virtual) leave(id uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	w := v.workers[id]
	w.weight--
	if w.weight == 0 {
		delete(v.workers, id)
	}
	if !w.asleep {
		v.busy--
	}
	v.advance()
}

// wait takes the calling goroutine out of the account until w is due.
func (v *Virtual) wait(w *waiter, limit time.Duration) error {
	id := goroutineID()
	w.woken = make(chan struct{})

	v.mu.Lock()
	if w.worker = v.workers[id]; w.worker != nil {
		w.worker.asleep = true
		v.busy -= w.worker.weight
	}
	v.waiting[w] = struct{}{}
	if limit > 0 {
		inTime := error(nil)
		if w.ready != nil {
			inTime = context.DeadlineExceeded
		}
		w.timer = v.addTimer(limit, func() { v.wake(w, inTime) })
	}
	v.advance()
	v.mu.Unlock()

	select {
	case <-w.woken:
	case <-w.ready:
	case <-w.ctx.Done():
	}

	v.mu.Lock()
	defer v.mu.Unlock()
	if _, still := v.waiting[w]; still { // ended by something outside the clock
		_, err := w.due()
		v.wake(w, err)
	}
	return w.err
}

// due reports whether the call ends now, before its limit, and with what.
func (w *waiter) due() (bool, error) {
	if isClosed(w.ready) {
		return true, nil
	}
	err := w.ctx.Err()
	return err != nil, err
}

// wake ends a Sleep or Wait. The clock is locked.
func (v *Virtual) wake(w *waiter, err error) {
	delete(v.waiting, w)
	if w.timer != nil {
		v.timers.remove(w.timer)
	}
	if w.worker != nil {
		w.worker.asleep = false
		v.busy += w.worker.weight
	}
	w.err = err
	close(w.woken)
}

// advance lets time pass if nothing is running. The clock is locked.
func (v *Virtual) advance() {
	for v.busy == 0 {
		if v.wakeDue() {
			continue
		}
		t := v.timers.pop()
		if t == nil {
			return
		}
		if t.at.After(v.now) {
			v.now = t.at
		}
		t.fire()
	}
}

// wakeDue wakes all who need no time to pass: their context ended, or what they
// wait for is ready, and only their goroutines have not been scheduled yet.
func (v *Virtual) wakeDue() (any bool) {
	for w := range v.waiting {
		if due, err := w.due(); due {
			v.wake(w, err)
			any = true
		}
	}
	return any
}

// timer is a moment at which something fires.
type timer struct {
	at    time.Time
	seq   uint64 // the order in which they were set
	fire  func() // called with the clock locked
	index int    // in the heap; -1 when it is not in it
}

func (v *Virtual) addTimer(d time.Duration, fire func()) *timer {
	v.seq++
	t := &timer{at: v.now.Add(max(d, 0)), seq: v.seq, fire: fire}
	heap.Push(&v.timers, t)
	return t
}

// timerHeap implements heap.Interface; the earliest timer is on top.
type timerHeap []*timer

func (h timerHeap) Len() int { return len(h) }

func (h timerHeap) Less(i, j int) bool {
	if h[i].at.Equal(h[j].at) {
		return h[i].seq < h[j].seq
	}
	return h[i].at.Before(h[j].at)
}

func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *timerHeap) Push(x any) {
	t := x.(*timer)
	t.index = len(*h)
	*h = append(*h, t)
}

// Pop implements heap.Interface.
func (h *timerHeap) Pop() any {
	last := len(*h) - 1
	t := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	t.index = -1
	return t
}

// pop takes the earliest timer out; nil if there is none.
func (h *timerHeap) pop() *timer {
	if len(*h) == 0 {
		return nil
	}
	return heap.Pop(h).(*timer)
}

// remove takes t out and reports whether it was there.
func (h *timerHeap) remove(t *timer) bool {
	if t.index < 0 {
		return false
	}
	heap.Remove(h, t.index)
	return true
}

// goroutineID identifies the calling goroutine. The runtime offers no other way
// than the header of its stack trace, "goroutine 7 [running]:". Without it, a
// Sleep of a goroutine that the clock does not know would be charged to work
// that is still running, and time would pass under it.
func goroutineID() uint64 {
	var buf [64]byte
	header := string(buf[:runtime.Stack(buf[:], false)])
	number, _, _ := strings.Cut(strings.TrimPrefix(header, "goroutine "), " ")
	id, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		panic("clock: stack trace without a goroutine number: " + header)
	}
	return id
}
