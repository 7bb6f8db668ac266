// Package simulated is a vm.Driver without guests: its machines boot on a clock,
// answer commands from a function and have no disk. It is for tests of scale and
// of faults; all of its results have the kind vm.Simulated.
package simulated

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
)

// Responder answers a command instead of a guest. It can wait on the driver's
// clock. ctx ends at the command's time-out or with the machine.
type Responder func(ctx context.Context, in vm.Launch, cmd vm.Command) vm.Result

// Options configures a Driver.
type Options struct {
	Clock   clock.Clock   // required
	Respond Responder     // if nil, every command succeeds without output
	Boot    time.Duration // from Start until the guest answers
	Stop    time.Duration // duration of an orderly shutdown

	// Run, if not nil, is what a guest does by itself after its boot. It waits on
	// the driver's clock. ctx ends with the machine.
	Run func(ctx context.Context, in vm.Launch)

	// Console, if not nil, returns the output on the console of a machine.
	Console func(in vm.Launch) string
	// Faults, if not nil, returns the faults of a machine.
	Faults func(in vm.Launch) Faults
	// Disk returns the disk of an image. If it is nil, images have none.
	Disk func(imageDir string) (vm.Disk, error)
}

// Faults are the faults of one machine.
type Faults struct {
	Start           error         // error of Start
	NeverBoots      bool          // the guest never answers
	DiesAfter       time.Duration // if > 0, the machine ends by itself this long after Start
	IgnoresShutdown bool          // it must be forced off
}

// Driver implements vm.Driver.
type Driver struct {
	opts Options
}

var _ vm.Driver = (*Driver)(nil)

// New returns a driver of simulated machines.
func New(opts Options) *Driver {
	if opts.Respond == nil {
		opts.Respond = func(context.Context, vm.Launch, vm.Command) vm.Result { return vm.Result{} }
	}
	if opts.Console == nil {
		opts.Console = func(in vm.Launch) string {
			return "simulated guest " + in.InstanceID + ": nothing was really booted\n"
		}
	}
	if opts.Faults == nil {
		opts.Faults = func(vm.Launch) Faults { return Faults{} }
	}
	return &Driver{opts: opts}
}

// Kind implements vm.Driver.
func (d *Driver) Kind() vm.Kind { return vm.Simulated }

// Description implements vm.Driver.
func (d *Driver) Description() string { return "a script answers, nothing is really booted" }

// launchFile, in the instance directory, has the data for Capture.
const launchFile = "simulated.json"

type launchNote struct {
	InstanceID string
	VolumeGiB  int
}

// Start implements vm.Driver.
func (d *Driver) Start(ctx context.Context, in vm.Launch) (vm.Machine, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	faults := d.opts.Faults(in)
	if faults.Start != nil {
		return nil, faults.Start
	}
	raw, err := json.Marshal(launchNote{InstanceID: in.InstanceID, VolumeGiB: in.VolumeGiB})
	if err != nil {
		return nil, fmt.Errorf("start simulated machine %s: %w", in.InstanceID, err)
	}
	if err := os.WriteFile(filepath.Join(in.InstanceDir, launchFile), raw, 0o600); err != nil {
		return nil, fmt.Errorf("start simulated machine %s: %w", in.InstanceID, err)
	}
	m := &machine{
		clock: d.opts.Clock, respond: d.opts.Respond, console: d.opts.Console, stop: d.opts.Stop, faults: faults, in: in,
		ready: d.opts.Clock.Now().Add(d.opts.Boot), done: make(chan struct{}), watchers: map[int]func(){},
	}
	if faults.DiesAfter > 0 {
		defer d.opts.Clock.Hold()() // a virtual clock must not jump ahead before Start returns
		m.cancelDeath = d.opts.Clock.AfterFunc(faults.DiesAfter, m.end)
	}
	if d.opts.Run != nil && !faults.NeverBoots {
		defer d.opts.Clock.Hold()()
		alive, end := context.WithCancel(context.WithoutCancel(ctx))
		cancel := d.opts.Clock.AfterFunc(d.opts.Boot, func() { d.opts.Run(alive, in) })
		m.onEnd(func() {
			cancel()
			end()
		})
	}
	return m, nil
}

// Capture implements vm.Driver. It only writes image.json.
func (d *Driver) Capture(ctx context.Context, instanceDir, imageDir string) (vm.ImageInfo, error) {
	if err := ctx.Err(); err != nil {
		return vm.ImageInfo{}, err
	}
	raw, err := os.ReadFile(filepath.Join(instanceDir, launchFile))
	if err != nil {
		return vm.ImageInfo{}, fmt.Errorf("capture simulated machine: %s was never started as one: %w", instanceDir, err)
	}
	var note launchNote
	if err := json.Unmarshal(raw, &note); err != nil {
		return vm.ImageInfo{}, fmt.Errorf("capture simulated machine: %s: %w", launchFile, err)
	}
	if err := os.MkdirAll(imageDir, 0o755); err != nil {
		return vm.ImageInfo{}, fmt.Errorf("capture simulated machine: %w", err)
	}
	sum := sha256.Sum256(raw)
	info := vm.ImageInfo{Kind: vm.Simulated, VolumeGiB: note.VolumeGiB, SHA256: hex.EncodeToString(sum[:])}
	if err := vm.WriteImage(imageDir, info); err != nil {
		return vm.ImageInfo{}, err
	}
	return info, nil
}

// OpenDisk implements vm.Driver with the function given to New.
func (d *Driver) OpenDisk(_ context.Context, imageDir string) (vm.Disk, error) {
	if d.opts.Disk == nil {
		return nil, ErrNoDisk
	}
	return d.opts.Disk(imageDir)
}

// ErrNoDisk is returned by Export, and by OpenDisk without the option Disk.
var ErrNoDisk = errors.New("a simulated image has no disk; bake it with real guests (--guests vm) to export one")

// Export implements vm.Driver. It returns ErrNoDisk.
func (d *Driver) Export(context.Context, string, string) error { return ErrNoDisk }

// Close implements vm.Driver.
func (d *Driver) Close() error { return nil }
