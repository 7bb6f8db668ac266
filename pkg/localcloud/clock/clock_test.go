package clock_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// journal collects what happened when, in order.
type journal struct {
	clk clock.Clock
	mu  sync.Mutex
	all []string
}

func (j *journal) add(what string) {
	now := j.clk.Now()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.all = append(j.all, fmt.Sprintf("%v %s", now.Sub(start), what))
}

func (j *journal) entries() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]string(nil), j.all...)
}

func TestVirtualTime(t *testing.T) {
	ctx := context.Background()
	tests := map[string]struct {
		run  func(t *testing.T, clk *clock.Virtual, j *journal)
		want []string
	}{
		"time does not pass while the clock is held": {
			run: func(t *testing.T, clk *clock.Virtual, j *journal) {
				clk.AfterFunc(time.Second, func() { j.add("fired") })
				j.add("looked")
			},
			want: []string{"0s looked"},
		},
		"a holder's sleep lets time pass by exactly as much": {
			run: func(t *testing.T, clk *clock.Virtual, j *journal) {
				clk.AfterFunc(time.Second, func() { j.add("one") })
				clk.AfterFunc(3*time.Second, func() { j.add("three") })
				require.NoError(t, clk.Sleep(ctx, 2*time.Second))
				j.add("woke")
			},
			want: []string{"1s one", "2s woke"},
		},
		"timers of one moment fire in the order in which they were set": {
			run: func(t *testing.T, clk *clock.Virtual, j *journal) {
				for i := range 20 {
					clk.AfterFunc(time.Second, func() { j.add(fmt.Sprint(i)) })
				}
				require.NoError(t, clk.Sleep(ctx, 2*time.Second))
			},
			want: func() (all []string) {
				for i := range 20 {
					all = append(all, fmt.Sprintf("1s %d", i))
				}
				return all
			}(),
		},
		"a timer waits for the work of the timer before it, also what that started": {
			run: func(t *testing.T, clk *clock.Virtual, j *journal) {
				clk.AfterFunc(time.Second, func() {
					done := make(chan struct{})
					clk.Go(func() { j.add("child"); close(done) })
					require.NoError(t, clk.Wait(ctx, done, 0))
					j.add("parent")
				})
				clk.AfterFunc(time.Second, func() { j.add("next") })
				require.NoError(t, clk.Sleep(ctx, time.Minute))
			},
			want: []string{"1s child", "1s parent", "1s next"},
		},
		"a timer of no duration fires as soon as nothing runs": {
			run: func(t *testing.T, clk *clock.Virtual, j *journal) {
				clk.AfterFunc(0, func() { j.add("fired") })
				clk.AfterFunc(-time.Hour, func() { j.add("late") })
				j.add("held")
				require.NoError(t, clk.Sleep(ctx, time.Nanosecond))
			},
			want: []string{"0s held", "0s fired", "0s late"},
		},
		"work started with Go holds the clock between its sleeps": {
			run: func(t *testing.T, clk *clock.Virtual, j *journal) {
				clk.Go(func() {
					for range 3 {
						assert.NoError(t, clk.Sleep(ctx, 10*time.Second))
						j.add("worker")
					}
				})
				clk.AfterFunc(15*time.Second, func() { j.add("timer") })
				require.NoError(t, clk.Sleep(ctx, time.Minute))
			},
			want: []string{"10s worker", "15s timer", "20s worker", "30s worker"},
		},
		"a stopped timer does not fire and a second stop says no": {
			run: func(t *testing.T, clk *clock.Virtual, j *journal) {
				stop := clk.AfterFunc(time.Second, func() { j.add("fired") })
				assert.True(t, stop())
				assert.False(t, stop())
				require.NoError(t, clk.Sleep(ctx, time.Minute))
			},
		},
		"stopping comes too late once a timer has fired": {
			run: func(t *testing.T, clk *clock.Virtual, j *journal) {
				stop := clk.AfterFunc(time.Second, func() { j.add("fired") })
				require.NoError(t, clk.Sleep(ctx, time.Minute))
				assert.False(t, stop())
			},
			want: []string{"1s fired"},
		},
		"a wait ends with what it waits for": {
			run: func(t *testing.T, clk *clock.Virtual, j *journal) {
				ready := make(chan struct{})
				clk.AfterFunc(5*time.Second, func() { close(ready) })
				require.NoError(t, clk.Wait(ctx, ready, time.Minute))
				j.add("ready")
				require.NoError(t, clk.Wait(ctx, ready, time.Minute), "a closed channel needs no time")
				j.add("still")
			},
			want: []string{"5s ready", "5s still"},
		},
		"a wait ends at its limit": {
			run: func(t *testing.T, clk *clock.Virtual, j *journal) {
				require.ErrorIs(t, clk.Wait(ctx, make(chan struct{}), time.Minute), context.DeadlineExceeded)
				j.add("gave up")
			},
			want: []string{"1m0s gave up"},
		},
		"a cancelled sleeper runs before time passes": {
			run: func(t *testing.T, clk *clock.Virtual, j *journal) {
				inner, cancel := context.WithCancel(ctx)
				clk.Go(func() {
					assert.ErrorIs(t, clk.Sleep(inner, time.Hour), context.Canceled)
					j.add("cancelled")
				})
				clk.AfterFunc(time.Second, cancel)
				clk.AfterFunc(2*time.Second, func() { j.add("later") })
				require.NoError(t, clk.Sleep(ctx, time.Minute))
			},
			want: []string{"1s cancelled", "2s later"},
		},
		"an ended context neither sleeps nor waits": {
			run: func(t *testing.T, clk *clock.Virtual, j *journal) {
				inner, cancel := context.WithCancel(ctx)
				cancel()
				require.ErrorIs(t, clk.Sleep(inner, time.Hour), context.Canceled)
				require.ErrorIs(t, clk.Wait(inner, make(chan struct{}), time.Hour), context.Canceled)
				j.add("now")
			},
			want: []string{"0s now"},
		},
		"a hold inside work does not survive its sleep and is there again after it": {
			run: func(t *testing.T, clk *clock.Virtual, j *journal) {
				clk.Go(func() {
					release := clk.Hold()
					defer release()
					assert.NoError(t, clk.Sleep(ctx, time.Second))
					release()
					release() // harmless
					assert.NoError(t, clk.Sleep(ctx, time.Second))
					j.add("slept twice")
				})
				require.NoError(t, clk.Sleep(ctx, time.Minute))
			},
			want: []string{"2s slept twice"},
		},
		"a hold may be released by other work while its owner sleeps": {
			run: func(t *testing.T, clk *clock.Virtual, j *journal) {
				release := clk.Hold()
				clk.AfterFunc(time.Second, release)
				require.NoError(t, clk.Sleep(ctx, time.Minute))
				j.add("woke") // the test's own hold is still in force
			},
			want: []string{"1m0s woke"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			clk := clock.NewVirtual(start)
			j := &journal{clk: clk}
			defer clk.Hold()()
			tc.run(t, clk, j)
			assert.Equal(t, tc.want, j.entries())
		})
	}
}

func TestVirtualRunsByItselfWhenNothingHoldsIt(t *testing.T) {
	clk := clock.NewVirtual(start)
	done := make(chan time.Time)
	clk.Go(func() {
		assert.NoError(t, clk.Sleep(context.Background(), 24*time.Hour))
		done <- clk.Now()
	})
	assert.Equal(t, start.Add(24*time.Hour), <-done)
}

func TestVirtualStandsStillUnderAStrangersSleep(t *testing.T) {
	// A goroutine that the clock does not know sleeps while work is running:
	// time must not pass under that work.
	clk := clock.NewVirtual(start)
	ctx := context.Background()
	woke := make(chan struct{})
	release := clk.Hold()
	go func() {
		assert.NoError(t, clk.Sleep(ctx, time.Hour))
		close(woke)
	}()
	clk.Go(func() { assert.NoError(t, clk.Sleep(ctx, time.Minute)) })
	for range 100 {
		require.Equal(t, start, clk.Now())
	}
	release()
	<-woke
	assert.False(t, clk.Now().Before(start.Add(time.Minute)))
}

func TestAClockIsHeldForACallerUnlessItsOwnWorkKeepsItStill(t *testing.T) {
	clk := clock.NewVirtual(start)
	defer clk.Hold()()
	release := clock.HoldFor(context.Background(), clk)
	done := make(chan struct{})
	clk.Go(func() {
		defer close(done)
		ctx := clock.Working(context.Background())
		defer clock.HoldFor(ctx, clk)()
		assert.NoError(t, clk.Sleep(ctx, time.Minute), "work that is marked sleeps as before")
		assert.Equal(t, start.Add(time.Minute), clk.Now())
	})
	elsewhere := make(chan error)
	go func() { elsewhere <- clk.Wait(context.Background(), done, time.Hour) }()
	for range 100 {
		require.Equal(t, start, clk.Now())
	}
	release()
	require.NoError(t, clk.Wait(context.Background(), done, 0))
	require.NoError(t, <-elsewhere)
}

func TestVirtualWakesAWaiterThatAStrangerCancels(t *testing.T) {
	clk := clock.NewVirtual(start)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	clk.Go(func() { ended <- clk.Wait(ctx, make(chan struct{}), 0) })
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	assert.Equal(t, start, clk.Now())
}

func TestVirtualUnderManyWorkers(t *testing.T) {
	clk := clock.NewVirtual(start)
	ctx := context.Background()
	defer clk.Hold()()

	const workers, naps = 50, 40
	var mu sync.Mutex
	finished := map[int]time.Duration{}
	for i := range workers {
		clk.Go(func() {
			for range naps {
				assert.NoError(t, clk.Sleep(ctx, time.Duration(i+1)*time.Millisecond))
			}
			mu.Lock()
			defer mu.Unlock()
			finished[i] = clk.Now().Sub(start)
		})
	}
	require.NoError(t, clk.Sleep(ctx, time.Minute))

	mu.Lock()
	defer mu.Unlock()
	require.Len(t, finished, workers)
	for i, at := range finished {
		assert.Equal(t, time.Duration(naps*(i+1))*time.Millisecond, at, "worker %d", i)
	}
}

func TestRealClock(t *testing.T) {
	clk := clock.NewReal()
	ctx, cancel := context.WithCancel(context.Background())
	closed := make(chan struct{})
	close(closed)
	open := make(chan struct{})

	assert.Equal(t, time.UTC, clk.Now().Location())
	clk.Hold()()
	require.NoError(t, clk.Sleep(ctx, time.Microsecond))
	require.NoError(t, clk.Sleep(ctx, 0))
	require.NoError(t, clk.Wait(ctx, closed, time.Nanosecond), "what is ready wins over the limit")
	require.ErrorIs(t, clk.Wait(ctx, open, time.Microsecond), context.DeadlineExceeded)

	ran := make(chan struct{}, 2)
	clk.Go(func() { ran <- struct{}{} })
	clk.AfterFunc(time.Microsecond, func() { ran <- struct{}{} })
	<-ran
	<-ran
	stop := clk.AfterFunc(time.Hour, func() { ran <- struct{}{} })
	assert.True(t, stop())

	cancel()
	require.ErrorIs(t, clk.Sleep(ctx, time.Hour), context.Canceled)
	require.ErrorIs(t, clk.Wait(ctx, open, 0), context.Canceled)
	require.NoError(t, clk.Wait(ctx, closed, 0))
}
