package rehearsal

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ami-factory/ami-factory/pkg/localcloud/baseimage"
	"github.com/ami-factory/ami-factory/pkg/localcloud/ec2"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/network"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/nspawn"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/qemu"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/simulated"
)

// guestHost is the name under which guests reach the embedded AWS.
const guestHost = network.LocalHost

// debianOwner owns the public images of Debian.
const debianOwner = "136693071363"

// base is the base image that the rehearsal's sources resolve to.
type base struct {
	distribution, name, parameter string
	dir, digest                   string
	created                       time.Time
}

func (f *Factory) base(ctx context.Context) (base, error) {
	b := base{
		distribution: "debian-12", name: "debian-12-amd64",
		parameter: "/aws/service/debian/release/12/latest/amd64",
	}
	if f.opts.Guests == vm.Simulated {
		return b, f.simulatedBase(&b)
	}
	image, err := baseimage.Build(ctx, baseimage.Options{
		Distribution: b.distribution, Kind: f.opts.Guests, CacheDir: filepath.Join(f.opts.CacheDir, "base"),
		Official: f.opts.Official, Progress: f.opts.Progress,
	})
	if err != nil {
		return b, fmt.Errorf("base image %s: %w", b.distribution, err)
	}
	b.dir, b.digest, b.created = image.Dir, image.Digest, image.Created
	return b, nil
}

// simulatedBase is an image with nothing in it, the same on every machine.
func (f *Factory) simulatedBase(b *base) error {
	dir := filepath.Join(f.opts.CacheDir, "base", b.distribution+"-simulated")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("simulated base image: %w", err)
	}
	sum := sha256.Sum256([]byte("simulated " + b.name))
	b.dir, b.digest = dir, hex.EncodeToString(sum[:])
	b.name += "-simulated"
	b.created = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return vm.WriteImage(dir, vm.ImageInfo{Kind: vm.Simulated, VolumeGiB: 2, SHA256: b.digest})
}

// registerBases makes the base known under its distribution's owner and public
// parameter, in every region.
func (f *Factory) registerBases(b base) error {
	ids, err := f.Cloud.EC2.RegisterBase(ec2.BaseImage{
		Name: b.name, Description: "Stand-in for the distribution's own image", OwnerID: debianOwner,
		ImageDir: b.dir, Digest: b.digest, Created: b.created,
	})
	if err != nil {
		return err
	}
	for region, id := range ids {
		f.Cloud.SSM.SetPublicParameter(region, b.parameter, id)
	}
	return nil
}

func (f *Factory) newDriver(ctx context.Context) (vm.Driver, error) {
	if f.opts.Guests == vm.Simulated {
		if f.opts.Timing == (ec2.Timing{}) {
			f.opts.Timing = ec2.AWSLike()
		}
		guest := f.opts.Simulated
		guest.Clock, guest.AWS = f.opts.Clock, f.handler
		return simulated.New(simulated.Options{
			Clock: f.opts.Clock, Respond: guest.Respond, Faults: guest.Faults, Boot: guest.Boot, Stop: guest.Boot / 4,
		}), nil
	}
	apt, err := network.HostAptSources(ctx, "/")
	if err != nil {
		return nil, fmt.Errorf("read this machine's apt configuration, whose mirrors guests use: %w", err)
	}
	net := network.Options{
		Local: f.handler(), Hosts: f.hosts(), Apt: apt, CacheDir: filepath.Join(f.opts.CacheDir, "packages"), Log: f.opts.Log,
	}
	if f.opts.Guests == vm.Container {
		return nspawn.New(ctx, nspawn.Options{Network: net, BuildDisk: baseimage.DiskFromTree, Log: f.opts.Log})
	}
	return qemu.New(ctx, qemu.Options{Network: net, Log: f.opts.Log})
}
