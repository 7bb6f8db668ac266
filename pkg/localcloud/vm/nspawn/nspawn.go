//go:build linux

package nspawn

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"regexp"
	"sync"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/network"
)

// Driver implements vm.Driver.
type Driver struct {
	opts    Options
	tools   tools
	version string
	network *network.Network

	mu      sync.Mutex
	running map[string]bool // instance directories in use
}

var _ vm.Driver = (*Driver)(nil)

// tools has the paths of the host's programs.
type tools struct{ nspawn, nsenter, shell, ip string }

// New checks that containers can run, and starts the network. The caller must
// close the driver.
func New(ctx context.Context, opts Options) (*Driver, error) {
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	if opts.Network.Log == nil {
		opts.Network.Log = opts.Log
	}
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("%w: they need root; run as root, or use --guests vm", ErrUnavailable)
	}
	d := &Driver{opts: opts, running: map[string]bool{}}
	for _, tool := range []struct {
		path      *string
		name, pkg string
	}{
		{&d.tools.nspawn, "systemd-nspawn", "systemd-container"},
		{&d.tools.nsenter, "nsenter", "util-linux"},
		{&d.tools.shell, "sh", "dash"},
		{&d.tools.ip, "ip", "iproute2"},
	} {
		path, err := exec.LookPath(tool.name)
		if err != nil {
			return nil, fmt.Errorf("%w: %s is not in PATH; install it (Debian, Ubuntu: apt-get install %s), or use --guests vm", ErrUnavailable, tool.name, tool.pkg)
		}
		*tool.path = path
	}
	if _, err := os.Stat(tunDevice); err != nil {
		return nil, fmt.Errorf("%w: they need %s (modprobe tun): %w", ErrUnavailable, tunDevice, err)
	}
	var err error
	if d.version, err = version(ctx, d.tools.nspawn); err != nil {
		return nil, err
	}
	if d.network, err = network.New(opts.Network); err != nil {
		return nil, err
	}
	return d, nil
}

var versionPattern = regexp.MustCompile(`^systemd (\d+)`)

func version(ctx context.Context, nspawn string) (string, error) {
	out, err := exec.CommandContext(ctx, nspawn, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("ask %s for its version: %w", nspawn, err)
	}
	match := versionPattern.FindSubmatch(out)
	if match == nil {
		return "", fmt.Errorf("%s --version printed no version: %.100q", nspawn, out)
	}
	return string(match[1]), nil
}

// Kind implements vm.Driver.
func (d *Driver) Kind() vm.Kind { return vm.Container }

// Description implements vm.Driver.
func (d *Driver) Description() string {
	return "systemd-nspawn " + d.version + ", containers on the host's kernel"
}

// Network returns the network of this driver's containers.
func (d *Driver) Network() *network.Network { return d.network }

// Close implements vm.Driver.
func (d *Driver) Close() error { return d.network.Close() }

// claim reserves an instance directory, because only one container may use its
// layers.
func (d *Driver) claim(dir string) (release func(), err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.running[dir] {
		return nil, fmt.Errorf("%s is in use by a running container", dir)
	}
	d.running[dir] = true
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.running, dir)
	}, nil
}
