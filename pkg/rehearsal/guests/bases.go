package guests

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/baseimage"
	"github.com/ami-factory/ami-factory/pkg/localcloud/ec2"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/partition"
	"github.com/ami-factory/ami-factory/pkg/recipe"
)

// owners are the accounts that publish a distribution's images, by partition. In a
// partition that is missing here they are published by whom the recipes name, if at all.
type owners map[string]string

// debianOwners are those of https://wiki.debian.org/Cloud/AmazonEC2Image.
func debianOwners() owners { return owners{"aws": "136693071363"} }

// canonicalOwners are those of
// https://documentation.ubuntu.com/aws/aws-how-to/instances/find-ubuntu-images/.
func canonicalOwners() owners {
	return owners{"aws": "099720109477", "aws-cn": "837727238323", "aws-us-gov": "513442679011"}
}

// amazonOwners are those that the build of the EKS images starts from:
// https://github.com/awslabs/amazon-eks-ami/blob/v20190614/Makefile.
func amazonOwners() owners {
	return owners{"aws": "137112412989", "aws-cn": "141808717104", "aws-us-gov": "045324592363"}
}

// base is a public base image that recipes' sources resolve to.
type base struct {
	family       string
	architecture types.ArchitectureValues
	name         string
	owners       owners
	ownerAlias   string
	rootDevice   string
	parameters   []string // public ones that hold its id
	buildable    bool     // baseimage builds it; of the others there are simulated guests only

	dir, digest string
	created     time.Time
}

// id names the base on the command line: the family, with the architecture
// where it is not x86_64.
func (b base) id() string {
	if b.architecture == types.ArchitectureValuesX8664 {
		return b.family
	}
	return b.family + "-" + string(b.architecture)
}

// bases are the images of every family that recipes can name, under the
// parameters that their owners publish:
// https://wiki.debian.org/Cloud/AmazonEC2Image
// https://documentation.ubuntu.com/aws/aws-how-to/instances/find-ubuntu-images/
// https://docs.aws.amazon.com/linux/al2023/ug/ec2.html
func bases() []base {
	architectures := []struct {
		ec2, name string // what EC2 calls it, and Debian and Canonical
	}{{"x86_64", "amd64"}, {"arm64", "arm64"}}
	var out []base
	for _, a := range architectures {
		architecture := types.ArchitectureValues(a.ec2)
		for _, release := range []string{"12", "13"} {
			out = append(out, base{
				family: "debian-" + release, architecture: architecture, name: "debian-" + release + "-" + a.name,
				owners: debianOwners(), rootDevice: "/dev/xvda", buildable: a.ec2 == "x86_64",
				parameters: []string{"/aws/service/debian/release/" + release + "/latest/" + a.name},
			})
		}
		for _, release := range []struct{ version, name, volume string }{{"22.04", "jammy", "ebs-gp2"}, {"24.04", "noble", "ebs-gp3"}} {
			b := base{
				family: "ubuntu-" + release.version, architecture: architecture,
				name:   "ubuntu-" + release.name + "-" + release.version + "-" + a.name + "-server",
				owners: canonicalOwners(), rootDevice: "/dev/sda1",
			}
			for _, product := range []string{"server", "server-minimal"} {
				b.parameters = append(b.parameters, "/aws/service/canonical/ubuntu/"+product+"/"+release.version+"/stable/current/"+a.name+"/hvm/"+release.volume+"/ami-id")
			}
			out = append(out, b)
		}
		al := base{
			family: "al2023", architecture: architecture, name: "al2023-ami-kernel-default-" + a.ec2,
			owners: amazonOwners(), ownerAlias: "amazon", rootDevice: "/dev/xvda",
		}
		for _, image := range []string{"al2023-ami", "al2023-ami-minimal"} {
			for _, kernel := range []string{"default", "6.1", "6.12", "6.18"} {
				al.parameters = append(al.parameters, "/aws/service/ami-amazon-linux-latest/"+image+"-kernel-"+kernel+"-"+a.ec2)
			}
		}
		out = append(out, al)
	}
	slices.SortFunc(out, func(a, b base) int {
		if a.id() < b.id() {
			return -1
		}
		return 1
	})
	return out
}

// published is the name under which the owner publishes such an image. Debian's
// end in the day and the number of the build, debian-12-amd64-20260101-0042
// (https://wiki.debian.org/Cloud/AmazonEC2Image): Packer templates and recipes
// search for debian-12-amd64-*. The number here comes of the image's digest.
func (b base) published() string {
	if !strings.HasPrefix(b.family, "debian-") {
		return b.name
	}
	var serial uint64
	if len(b.digest) >= 8 {
		serial, _ = strconv.ParseUint(b.digest[:8], 16, 64) // a digest is hexadecimal
	}
	return fmt.Sprintf("%s-%s-%04d", b.name, b.created.UTC().Format("20060102"), serial%10000)
}

// available says whether guests of a kind can boot the base.
func (b base) available(guests vm.Kind) bool { return guests == vm.Simulated || b.buildable }

// Available are the ids of the bases that guests of a kind can boot, sorted.
func Available(guests vm.Kind) []string {
	var ids []string
	for _, b := range bases() {
		if b.available(guests) {
			ids = append(ids, b.id())
		}
	}
	return ids
}

// Needed are the base images that recipes build on, of all recipes when none is
// named. Of all recipes it leaves out those whose base guests of this kind do not
// have: they cannot be baked here, which is no reason to serve no other. What is
// wrong with a recipe, the execution reports.
func Needed(fsys fs.FS, guests vm.Kind, now time.Time, recipes ...string) []string {
	all := len(recipes) == 0
	if all {
		recipes, _ = recipe.Names(fsys)
	}
	var ids []string
	for _, name := range recipes {
		r, _, err := recipe.Load(fsys, name, recipe.Options{Now: now})
		if err != nil {
			continue
		}
		i := slices.IndexFunc(bases(), func(b base) bool { return b.family == r.Family && string(b.architecture) == r.Architecture })
		if i >= 0 && (!all || bases()[i].available(guests)) {
			ids = append(ids, bases()[i].id())
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// imageRegistry makes a base known in every region, and returns its ids.
type imageRegistry interface {
	RegisterBase(ec2.BaseImage) (map[string]string, error)
}

// parameterRegistry sets public parameters.
type parameterRegistry interface {
	SetPublicParameter(region, name, value string)
}

// Bases makes base images known to the embedded AWS, each once.
type Bases struct {
	Options    Options
	Images     imageRegistry
	Parameters parameterRegistry

	mu       sync.Mutex
	provided []string // ids
}

// Provide makes the base images of distributions known under their owners and public
// parameters, building what the cache lacks.
func (p *Bases) Provide(ctx context.Context, names ...string) error {
	if p.Options.Official.URL != "" && len(names) > 1 {
		return fmt.Errorf("the official image is of one distribution, and %s are wanted: name the one that it is of", strings.Join(names, ", "))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range names {
		i := slices.IndexFunc(bases(), func(b base) bool { return b.id() == name })
		switch {
		case i < 0:
			return fmt.Errorf("base image %q is not known (allowed: %s)", name, strings.Join(Available(p.Options.Kind), ", "))
		case !bases()[i].available(p.Options.Kind):
			return fmt.Errorf("no base image of %s can be built on this machine for guests of kind %s (there are: %s); --guests simulated rehearses the factory's steps with it and boots nothing",
				name, p.Options.Kind, strings.Join(Available(p.Options.Kind), ", "))
		}
		if slices.Contains(p.provided, name) {
			continue
		}
		b := bases()[i]
		if err := p.prepare(ctx, &b); err != nil {
			return fmt.Errorf("base image %s: %w", name, err)
		}
		if err := p.register(b); err != nil {
			return err
		}
		p.provided = append(p.provided, name)
	}
	return nil
}

func (p *Bases) prepare(ctx context.Context, b *base) error {
	if p.Options.Kind == vm.Simulated {
		return p.simulatedBase(b)
	}
	image, err := baseimage.Build(ctx, baseimage.Options{
		Distribution: b.family, Kind: p.Options.Kind, CacheDir: filepath.Join(p.Options.CacheDir, "base"),
		Official: p.Options.Official, Progress: p.Options.Progress,
	})
	if err != nil {
		return err
	}
	b.dir, b.digest, b.created = image.Dir, image.Digest, image.Created
	b.name = b.published()
	return nil
}

// simulatedBase is an image with nothing in it, the same on every machine.
func (p *Bases) simulatedBase(b *base) error {
	dir := filepath.Join(p.Options.CacheDir, "base", b.id()+"-simulated")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("simulated base image: %w", err)
	}
	sum := sha256.Sum256([]byte("simulated " + b.name))
	b.dir, b.digest = dir, hex.EncodeToString(sum[:])
	b.created = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	b.name = b.published() + "-simulated"
	return vm.WriteImage(dir, vm.ImageInfo{Kind: vm.Simulated, VolumeGiB: 2, SHA256: b.digest})
}

// owner is the account that the base belongs to in the partition of the rehearsal.
func (p *Bases) owner(b base) string {
	in := partition.OrDefault(p.Options.Region).ID
	return cmp.Or(b.owners[in], p.Options.Owners[b.family], b.owners[partition.Default])
}

// Owners are the accounts that recipes name as the owners of their sources, by family.
// Of several for a family it is the first.
func Owners(fsys fs.FS, now time.Time) map[string]string {
	out := map[string]string{}
	names, _ := recipe.Names(fsys)
	for _, name := range names {
		r, _, err := recipe.Load(fsys, name, recipe.Options{Now: now})
		if err != nil || r.Source.Owner == "" {
			continue
		}
		if have, ok := out[r.Family]; !ok || r.Source.Owner < have {
			out[r.Family] = r.Source.Owner
		}
	}
	return out
}

// register makes a base known in every region.
func (p *Bases) register(b base) error {
	ids, err := p.Images.RegisterBase(ec2.BaseImage{
		Name: b.name, Description: "Stand-in for the distribution's own image", OwnerID: p.owner(b), OwnerAlias: b.ownerAlias,
		Architecture: b.architecture, RootDevice: b.rootDevice,
		ImageDir: b.dir, Digest: b.digest, Created: b.created,
	})
	if err != nil {
		return err
	}
	for region, id := range ids {
		for _, parameter := range b.parameters {
			p.Parameters.SetPublicParameter(region, parameter, id)
		}
	}
	return nil
}
