package simulated_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/simulated"
)

var testTime = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// start returns a running machine on a virtual clock that the test holds.
func start(t *testing.T, opts simulated.Options) (*clock.Virtual, *simulated.Driver, vm.Launch, vm.Machine) {
	t.Helper()
	clk := clock.NewVirtual(testTime)
	t.Cleanup(clk.Hold())
	opts.Clock = clk
	d := simulated.New(opts)
	in := vm.Launch{InstanceID: "i-1", InstanceDir: t.TempDir(), VolumeGiB: 8}
	m, err := d.Start(t.Context(), in)
	require.NoError(t, err)
	return clk, d, in, m
}

func TestGuestAnswersOnlyOnceItHasBooted(t *testing.T) {
	clk, _, _, m := start(t, simulated.Options{Boot: 30 * time.Second})
	require.NoError(t, clk.Sleep(t.Context(), 29*time.Second))
	assert.ErrorIs(t, m.Ping(t.Context()), vm.ErrNotReachable)
	_, err := m.Exec(t.Context(), vm.Command{Argv: []string{"true"}})
	assert.ErrorIs(t, err, vm.ErrNotReachable)

	require.NoError(t, clk.Sleep(t.Context(), time.Second))
	assert.NoError(t, m.Ping(t.Context()))
}

func TestCommandsAreAnsweredByTheScript(t *testing.T) {
	_, _, in, m := start(t, simulated.Options{Respond: func(_ context.Context, in vm.Launch, cmd vm.Command) vm.Result {
		return vm.Result{ExitCode: 3, Stdout: []byte(in.InstanceID + ":" + cmd.Argv[0]), Stderr: cmd.Stdin}
	}})
	got, err := m.Exec(t.Context(), vm.Command{Argv: []string{"id"}, Stdin: []byte("in")})
	require.NoError(t, err)
	assert.Equal(t, vm.Result{ExitCode: 3, Stdout: []byte(in.InstanceID + ":id"), Stderr: []byte("in")}, got)

	console, err := m.Console()
	require.NoError(t, err)
	assert.Contains(t, string(console), "simulated guest")
}

func TestCommandThatOutlivesItsTimeIsEnded(t *testing.T) {
	var clk clock.Clock
	c, _, _, m := start(t, simulated.Options{Respond: func(ctx context.Context, _ vm.Launch, _ vm.Command) vm.Result {
		return vm.Result{ExitCode: 137, Stderr: []byte(clk.Sleep(ctx, time.Hour).Error())}
	}})
	clk = c
	got, err := m.Exec(t.Context(), vm.Command{Argv: []string{"sleep"}, Timeout: time.Minute})
	require.NoError(t, err)
	assert.True(t, got.TimedOut)
	assert.Equal(t, testTime.Add(time.Minute), clk.Now())
}

func TestCommandOfAMachineThatDiesIsLost(t *testing.T) {
	var clk clock.Clock
	c, _, _, m := start(t, simulated.Options{
		Respond: func(ctx context.Context, _ vm.Launch, _ vm.Command) vm.Result {
			_ = clk.Sleep(ctx, time.Hour)
			return vm.Result{}
		},
		Faults: func(vm.Launch) simulated.Faults { return simulated.Faults{DiesAfter: 10 * time.Second} },
	})
	clk = c
	_, err := m.Exec(t.Context(), vm.Command{Argv: []string{"sleep"}})
	assert.ErrorIs(t, err, vm.ErrNotReachable)
	assert.Equal(t, testTime.Add(10*time.Second), clk.Now())
	require.NoError(t, clk.Wait(t.Context(), m.Done(), time.Second))
}

func TestShutdown(t *testing.T) {
	for name, c := range map[string]struct {
		stop   time.Duration
		faults simulated.Faults
		forced bool
		after  time.Duration
	}{
		"an orderly shutdown takes its time":  {stop: 5 * time.Second, after: 5 * time.Second},
		"one that takes too long is forced":   {stop: time.Hour, forced: true, after: time.Minute},
		"a guest that ignores it is forced":   {faults: simulated.Faults{IgnoresShutdown: true}, forced: true, after: time.Minute},
		"a guest that dies meanwhile is down": {stop: 5 * time.Second, faults: simulated.Faults{DiesAfter: time.Second}, after: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			clk, _, _, m := start(t, simulated.Options{Stop: c.stop, Faults: func(vm.Launch) simulated.Faults { return c.faults }})
			forced, err := m.Shutdown(t.Context(), time.Minute)
			require.NoError(t, err)
			assert.Equal(t, c.forced, forced)
			assert.Equal(t, testTime.Add(c.after), clk.Now())
			assert.ErrorIs(t, m.Ping(t.Context()), vm.ErrNotReachable)
			assert.NoError(t, clk.Wait(t.Context(), m.Done(), time.Second))
		})
	}
}

func TestFaults(t *testing.T) {
	t.Run("a start can fail", func(t *testing.T) {
		want := errors.New("no capacity")
		d := simulated.New(simulated.Options{Clock: clock.NewVirtual(testTime), Faults: func(vm.Launch) simulated.Faults {
			return simulated.Faults{Start: want}
		}})
		_, err := d.Start(t.Context(), vm.Launch{InstanceDir: t.TempDir()})
		assert.ErrorIs(t, err, want)
	})
	t.Run("a guest can hang for ever", func(t *testing.T) {
		clk, _, _, m := start(t, simulated.Options{Faults: func(vm.Launch) simulated.Faults { return simulated.Faults{NeverBoots: true} }})
		require.NoError(t, clk.Sleep(t.Context(), 24*time.Hour))
		assert.ErrorIs(t, m.Ping(t.Context()), vm.ErrNotReachable)
		require.NoError(t, m.Kill())
		assert.NoError(t, clk.Wait(t.Context(), m.Done(), time.Second))
	})
}

func TestCaptureWritesTheDescriptionOnly(t *testing.T) {
	_, d, in, m := start(t, simulated.Options{})
	require.NoError(t, m.Kill())
	dir := filepath.Join(t.TempDir(), "image")
	info, err := d.Capture(t.Context(), in.InstanceDir, dir)
	require.NoError(t, err)
	assert.Equal(t, vm.Simulated, info.Kind)
	assert.Equal(t, 8, info.VolumeGiB)
	assert.Len(t, info.SHA256, 64)

	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	assert.Equal(t, vm.ImageFile, entries[0].Name())
	assert.ErrorIs(t, d.Export(t.Context(), dir, "disk.qcow2"), simulated.ErrNoDisk)
}

func TestCaptureOfSomethingElseFails(t *testing.T) {
	d := simulated.New(simulated.Options{Clock: clock.NewReal()})
	_, err := d.Capture(t.Context(), t.TempDir(), t.TempDir())
	assert.ErrorIs(t, err, os.ErrNotExist)
}
