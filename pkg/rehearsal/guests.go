package rehearsal

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ami-factory/ami-factory/pkg/localcloud/baseimage"
	"github.com/ami-factory/ami-factory/pkg/localcloud/ec2"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/network"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/nspawn"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/qemu"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/simulated"
	"github.com/ami-factory/ami-factory/pkg/recipe"
)

// guestHost is the name under which guests reach the embedded AWS.
const guestHost = network.LocalHost

// ProvideBases makes the base images of distributions known under their owners
// and public parameters, building what the cache lacks. Bake does so by itself
// for its recipe; simulated guests have all of them from the start.
func (f *Factory) ProvideBases(ctx context.Context, names ...string) error {
	if f.opts.Official.URL != "" && len(names) > 1 {
		return fmt.Errorf("the official image is of one distribution, and %s are wanted: name the one that it is of", strings.Join(names, ", "))
	}
	f.providing.Lock()
	defer f.providing.Unlock()
	for _, name := range names {
		i := slices.IndexFunc(bases(), func(b base) bool { return b.id() == name })
		switch {
		case i < 0:
			return fmt.Errorf("base image %q is not known (allowed: %s)", name, strings.Join(f.available(), ", "))
		case !bases()[i].available(f.opts.Guests):
			return fmt.Errorf("no base image of %s can be built on this machine for guests of kind %s (there are: %s); --guests simulated rehearses the factory's steps with it and boots nothing",
				name, f.opts.Guests, strings.Join(f.available(), ", "))
		}
		if slices.Contains(f.provided, name) {
			continue
		}
		b := bases()[i]
		if err := f.prepare(ctx, &b); err != nil {
			return fmt.Errorf("base image %s: %w", name, err)
		}
		if err := f.register(b); err != nil {
			return err
		}
		f.provided = append(f.provided, name)
	}
	return nil
}

// Bases are the base images that recipes build on, of all recipes when none is
// named. Of all recipes it leaves out those whose base guests of this kind do not
// have: they cannot be baked here, which is no reason to serve no other. What is
// wrong with a recipe, the execution reports.
func (f *Factory) Bases(recipes ...string) []string {
	fsys := f.opts.userData()
	all := len(recipes) == 0
	if all {
		recipes, _ = recipe.Names(fsys)
	}
	var ids []string
	for _, name := range recipes {
		r, _, err := recipe.Load(fsys, name, recipe.Options{Now: f.opts.Clock.Now()})
		if err != nil {
			continue
		}
		i := slices.IndexFunc(bases(), func(b base) bool { return b.family == r.Family && string(b.architecture) == r.Architecture })
		if i >= 0 && (!all || bases()[i].available(f.opts.Guests)) {
			ids = append(ids, bases()[i].id())
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// sharedWith are the accounts that recipes share their images with, sorted.
func (f *Factory) sharedWith() []string {
	return f.accounts(func(r *recipe.Recipe) []string { return r.Distribution.Accounts })
}

// targetAccounts are the accounts that recipes keep pointers in, sorted.
func (f *Factory) targetAccounts() []string {
	return f.accounts(func(r *recipe.Recipe) []string { return r.Pointers.Accounts })
}

func (f *Factory) accounts(of func(*recipe.Recipe) []string) []string {
	fsys := f.opts.userData()
	names, _ := recipe.Names(fsys)
	var accounts []string
	for _, name := range names {
		if r, _, err := recipe.Load(fsys, name, recipe.Options{Now: f.opts.Clock.Now()}); err == nil {
			accounts = append(accounts, of(r)...)
		}
	}
	slices.Sort(accounts)
	return slices.Compact(accounts)
}

func (f *Factory) prepare(ctx context.Context, b *base) error {
	if f.opts.Guests == vm.Simulated {
		return f.simulatedBase(b)
	}
	image, err := baseimage.Build(ctx, baseimage.Options{
		Distribution: b.family, Kind: f.opts.Guests, CacheDir: filepath.Join(f.opts.CacheDir, "base"),
		Official: f.opts.Official, Progress: f.opts.Progress,
	})
	if err != nil {
		return err
	}
	b.dir, b.digest, b.created = image.Dir, image.Digest, image.Created
	b.name = b.published()
	return nil
}

// simulatedBase is an image with nothing in it, the same on every machine.
func (f *Factory) simulatedBase(b *base) error {
	dir := filepath.Join(f.opts.CacheDir, "base", b.id()+"-simulated")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("simulated base image: %w", err)
	}
	sum := sha256.Sum256([]byte("simulated " + b.name))
	b.dir, b.digest = dir, hex.EncodeToString(sum[:])
	b.created = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	b.name = b.published() + "-simulated"
	return vm.WriteImage(dir, vm.ImageInfo{Kind: vm.Simulated, VolumeGiB: 2, SHA256: b.digest})
}

// register makes a base known in every region.
func (f *Factory) register(b base) error {
	ids, err := f.Cloud.EC2.RegisterBase(ec2.BaseImage{
		Name: b.name, Description: "Stand-in for the distribution's own image", OwnerID: b.owner, OwnerAlias: b.ownerAlias,
		Architecture: b.architecture, RootDevice: b.rootDevice,
		ImageDir: b.dir, Digest: b.digest, Created: b.created,
	})
	if err != nil {
		return err
	}
	for region, id := range ids {
		for _, parameter := range b.parameters {
			f.Cloud.SSM.SetPublicParameter(region, parameter, id)
		}
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
			Clock: f.opts.Clock, Respond: guest.Respond, Run: guest.Run, Faults: guest.Faults, Boot: guest.Boot, Stop: guest.Boot / 4, Disk: guest.OpenDisk,
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
