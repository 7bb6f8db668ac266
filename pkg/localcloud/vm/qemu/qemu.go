// Package qemu is the vm.Driver of real virtual machines: QEMU with hardware
// acceleration if a probe proves that it works, otherwise with software
// emulation.
package qemu

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/network"
)

// Options configures a Driver.
type Options struct {
	Network network.Options // of the network that all machines share
	// Compress makes Capture write compressed disks, which have a third of the size
	// but are slower to write and boot.
	Compress bool
	Log      *slog.Logger // nil for slog.Default
}

// Driver implements vm.Driver.
type Driver struct {
	opts    Options
	log     *slog.Logger
	system  string // path of qemu-system-x86_64
	img     string // path of qemu-img
	version string
	network *network.Network
	sockets string // directory for sockets, with a short path
	accel   func() accelerator
}

var _ vm.Driver = (*Driver)(nil)

// ErrNotInstalled is returned by New on a machine without QEMU.
var ErrNotInstalled = errors.New("QEMU is not installed")

// New finds QEMU and starts the network. The caller must close the driver.
func New(ctx context.Context, opts Options) (*Driver, error) {
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	if opts.Network.Log == nil {
		opts.Network.Log = opts.Log
	}
	d := &Driver{opts: opts, log: opts.Log}
	var err error
	if d.system, err = program("qemu-system-x86_64", "qemu-system-x86"); err != nil {
		return nil, err
	}
	if d.img, err = program("qemu-img", "qemu-utils"); err != nil {
		return nil, err
	}
	if d.version, err = version(ctx, d.system); err != nil {
		return nil, err
	}
	if d.sockets, err = socketDir(); err != nil {
		return nil, err
	}
	if d.network, err = network.New(opts.Network); err != nil {
		return nil, errors.Join(err, os.RemoveAll(d.sockets))
	}
	d.accel = sync.OnceValue(func() accelerator { return chooseAccelerator(d.system, d.log) })
	return d, nil
}

// program finds an executable. If it is missing, the error names its Debian
// package.
func program(name, pkg string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%w: %s is not in PATH; install it (Debian, Ubuntu: apt-get install %s; macOS: brew install qemu), or use --guests simulated", ErrNotInstalled, name, pkg)
	}
	return path, nil
}

var versionPattern = regexp.MustCompile(`version (\d+\.\d+\.\d+)`)

func version(ctx context.Context, system string) (string, error) {
	out, err := exec.CommandContext(ctx, system, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("ask %s for its version: %w", system, err)
	}
	match := versionPattern.FindSubmatch(out)
	if match == nil {
		return "", fmt.Errorf("%s --version printed no version: %.100q", system, out)
	}
	return string(match[1]), nil
}

// Kind implements vm.Driver.
func (d *Driver) Kind() vm.Kind { return vm.VM }

// Description implements vm.Driver. The first call may take seconds, because it
// probes the acceleration.
func (d *Driver) Description() string {
	return fmt.Sprintf("qemu %s, %s", d.version, d.accel().description)
}

// Network returns the network of this driver's machines.
func (d *Driver) Network() *network.Network { return d.network }

// Close implements vm.Driver.
func (d *Driver) Close() error {
	return errors.Join(d.network.Close(), os.RemoveAll(d.sockets))
}

// Files in an instance directory.
const (
	diskFile    = "disk.qcow2"  // overlay on the image's disk
	consoleFile = "console.log" // the guest's output on ttyS0
	logFile     = "qemu.log"    // QEMU's own messages
	pidFile     = "qemu.pid"
)

// absolute makes paths absolute, because a backing file's name would be relative
// to the overlay.
func absolute(paths ...*string) error {
	for _, path := range paths {
		abs, err := filepath.Abs(*path)
		if err != nil {
			return err
		}
		*path = abs
	}
	return nil
}
