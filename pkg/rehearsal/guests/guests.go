// Package guests is what a rehearsal boots: the driver of a kind of guests, the base
// images of the distributions, guests that are simulated, and what stands in for
// vendors' repositories.
package guests

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"

	"github.com/ami-factory/ami-factory/pkg/localcloud/baseimage"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/network"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/nspawn"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/qemu"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/simulated"
)

// Host is the name under which guests reach the embedded AWS.
const Host = network.LocalHost

// Options say which guests there are, and what they boot.
type Options struct {
	Kind vm.Kind
	// Region is the home region, whose partition decides whose the base images are.
	// Owners are by family where the partition's are not known.
	Region string
	Owners map[string]string
	// CacheDir keeps base images and packages.
	CacheDir  string
	Official  baseimage.Official // instead of one built here; none: its URL is empty
	Simulated Simulated          // the answers of simulated guests; Clock and AWS are set by Driver
	AWS       http.Handler       // what guests reach as Host
	Vendors   *StandIns          // that guests reach; nil: none
	Clock     clock.Clock
	Progress  func(string) // told what is built; may be nil
	Log       *slog.Logger
}

// Check refuses what is no kind of guests.
func Check(kind vm.Kind) error {
	if !slices.Contains([]vm.Kind{vm.VM, vm.Container, vm.Simulated}, kind) {
		return fmt.Errorf("unknown kind of guests %q (allowed: vm, container, simulated)", kind)
	}
	return nil
}

// Driver starts guests of the kind.
func Driver(ctx context.Context, o Options) (vm.Driver, error) {
	if o.Kind == vm.Simulated {
		guest := o.Simulated
		guest.Clock, guest.AWS = o.Clock, func() http.Handler { return o.AWS }
		return simulated.New(simulated.Options{
			Clock: o.Clock, Respond: guest.Respond, Run: guest.Run, Faults: guest.Faults, Boot: guest.Boot, Stop: guest.Boot / 4, Disk: guest.OpenDisk,
		}), nil
	}
	apt, err := network.HostAptSources(ctx, "/")
	if err != nil {
		return nil, fmt.Errorf("read this machine's apt configuration, whose mirrors guests use: %w", err)
	}
	net := network.Options{
		Local: o.AWS, Hosts: o.Vendors.hosts(), Apt: apt, CacheDir: filepath.Join(o.CacheDir, "packages"), Log: o.Log,
	}
	if o.Kind == vm.Container {
		return nspawn.New(ctx, nspawn.Options{Network: net, BuildDisk: baseimage.DiskFromTree, Log: o.Log})
	}
	return qemu.New(ctx, qemu.Options{Network: net, Log: o.Log})
}
