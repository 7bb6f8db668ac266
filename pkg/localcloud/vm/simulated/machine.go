package simulated

import (
	"context"
	"sync"
	"time"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
)

const defaultTimeout = time.Hour // of a command, as vm.Command says

type machine struct {
	clock   clock.Clock
	respond Responder
	stop    time.Duration
	faults  Faults
	in      vm.Launch
	ready   time.Time // when the guest answers

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
	// The time-out is a moment of the machine's clock: hold it, so that it does not jump
	// there before the command has had a chance.
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

// onEnd calls f when the machine ends, until the returned function is called.
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
	return []byte("simulated guest " + m.in.InstanceID + ": nothing was really booted\n"), nil
}

// Shutdown implements vm.Machine.
func (m *machine) Shutdown(ctx context.Context, grace time.Duration) (forced bool, err error) {
	takes := m.stop
	if m.faults.IgnoresShutdown || takes > grace {
		forced, takes = true, grace
	}
	// An ended wait is the machine's own end; both ways it is down afterwards.
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

// end closes done and notifies the watchers before it returns, so that all of it
// happens at one moment of a virtual clock.
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
