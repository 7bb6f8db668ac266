package simulated

import (
	"context"
	"sync"
	"time"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
)

const defaultTimeout = time.Hour // of a command, see vm.Command

type machine struct {
	clock   clock.Clock
	respond Responder
	console func(vm.Launch) string
	stop    time.Duration
	faults  Faults
	in      vm.Launch
	ready   time.Time // time from which the guest answers

	cancelDeath func() bool

	mu          sync.Mutex
	watchers    map[int]func() // called when the machine ends
	nextWatcher int
	done        chan struct{}
}

// Ping implements vm.Machine.
func (m *machine) Ping(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if m.ended() || m.faults.NeverBoots || m.clock.Now().Before(m.ready) {
		return vm.ErrNotReachable
	}
	return nil
}

// Exec implements vm.Machine.
func (m *machine) Exec(ctx context.Context, cmd vm.Command) (vm.Result, error) {
	if err := m.Ping(ctx); err != nil {
		return vm.Result{}, err
	}
	if cmd.Timeout <= 0 {
		cmd.Timeout = defaultTimeout
	}
	// The time-out is a time of the clock: hold the clock, so that it does not jump
	// there before the command runs.
	defer m.clock.Hold()()
	run, cancel := context.WithCancel(ctx)
	defer cancel()
	stopTimer := m.clock.AfterFunc(cmd.Timeout, cancel)
	defer m.onEnd(cancel)()

	result := m.respond(run, m.in, cmd)
	inTime := stopTimer()
	switch {
	case ctx.Err() != nil:
		return vm.Result{}, ctx.Err()
	case m.ended():
		return vm.Result{}, vm.ErrNotReachable
	case !inTime:
		result.TimedOut = true
	}
	return result, nil
}

// onEnd registers f to be called when the machine ends. The returned function
// removes f.
func (m *machine) onEnd(f func()) (forget func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := m.nextWatcher
	m.nextWatcher++
	m.watchers[id] = f
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.watchers, id)
	}
}

// Console implements vm.Machine.
func (m *machine) Console() ([]byte, error) {
	return []byte(m.console(m.in)), nil
}

// Shutdown implements vm.Machine.
func (m *machine) Shutdown(ctx context.Context, grace time.Duration) (forced bool, err error) {
	takes := m.stop
	if m.faults.IgnoresShutdown || takes > grace {
		forced, takes = true, grace
	}
	// If the wait ends early, the machine has ended by itself. It is down in both
	// cases.
	if err := m.clock.Wait(ctx, m.done, max(takes, 1)); err == nil {
		return false, nil
	} else if ctx.Err() != nil {
		return false, ctx.Err()
	}
	m.end()
	return forced, nil
}

// Kill implements vm.Machine.
func (m *machine) Kill() error {
	m.end()
	return nil
}

// Done implements vm.Machine.
func (m *machine) Done() <-chan struct{} { return m.done }

// end closes done and calls the watchers before it returns, so that all of this
// happens at one time of a virtual clock.
func (m *machine) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended() {
		return
	}
	close(m.done)
	for _, f := range m.watchers {
		f()
	}
	if m.cancelDeath != nil {
		m.cancelDeath()
	}
}

func (m *machine) ended() bool {
	select {
	case <-m.done:
		return true
	default:
		return false
	}
}
