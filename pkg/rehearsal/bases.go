package rehearsal

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
)

// Owners of the distributions' public images.
const (
	debianOwner    = "136693071363"
	canonicalOwner = "099720109477"
	amazonOwner    = "137112412989"
)

// base is a public base image that recipes' sources resolve to.
type base struct {
	family       string
	architecture types.ArchitectureValues
	name         string
	owner        string
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
				owner: debianOwner, rootDevice: "/dev/xvda", buildable: a.ec2 == "x86_64",
				parameters: []string{"/aws/service/debian/release/" + release + "/latest/" + a.name},
			})
		}
		for _, release := range []struct{ version, name, volume string }{{"22.04", "jammy", "ebs-gp2"}, {"24.04", "noble", "ebs-gp3"}} {
			b := base{
				family: "ubuntu-" + release.version, architecture: architecture,
				name:  "ubuntu-" + release.name + "-" + release.version + "-" + a.name + "-server",
				owner: canonicalOwner, rootDevice: "/dev/sda1",
			}
			for _, product := range []string{"server", "server-minimal"} {
				b.parameters = append(b.parameters, "/aws/service/canonical/ubuntu/"+product+"/"+release.version+"/stable/current/"+a.name+"/hvm/"+release.volume+"/ami-id")
			}
			out = append(out, b)
		}
		al := base{
			family: "al2023", architecture: architecture, name: "al2023-ami-kernel-default-" + a.ec2,
			owner: amazonOwner, ownerAlias: "amazon", rootDevice: "/dev/xvda",
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
	if b.owner != debianOwner {
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

// available are the ids of the bases that the factory's guests can boot, sorted.
func (f *Factory) available() []string {
	var ids []string
	for _, b := range bases() {
		if b.available(f.opts.Guests) {
			ids = append(ids, b.id())
		}
	}
	return ids
}
