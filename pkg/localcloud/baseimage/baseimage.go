// Package baseimage makes the images from which the embedded AWS's first
// instances boot: what it registers under a distribution's own owner id. They
// are real systems, installed from the host's own package mirrors, or a
// distribution's official cloud image.
package baseimage

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/apt"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
)

// Options say what to build.
type Options struct {
	Distribution string  // "debian-12" or "debian-13"
	Kind         vm.Kind // vm or container
	// CacheDir keeps what was built; it is made if need be. Nothing in it is
	// ever removed, since disks of later images may be overlays on a base.
	CacheDir string
	// Official is the distribution's own cloud image. With a URL it is used
	// instead of building one. Only for kind vm.
	Official Official
	// Progress receives a few words on what is being done; it may be nil.
	Progress func(string)
}

// Official names a published cloud image in qcow2 or raw format.
type Official struct {
	URL    string
	SHA256 string // hex, of the file as published
}

// Image is a base image in the cache.
type Image struct {
	// Dir is an image directory as vm.Launch takes it.
	Dir  string
	Info vm.ImageInfo
	// Digest identifies the content, in hex: the versions of all packages and
	// everything the builder adds to them. Two builds with the same digest are
	// interchangeable, although their bytes differ (identifiers, time stamps);
	// all kinds of one base share it. An AMI id derived from it thus changes
	// when the content does, and only then.
	Digest string
	// Packages is the file that lists name, version and architecture of every
	// package, separated by tabs; empty for an official image.
	Packages string
	Created  time.Time
	// Cached says that nothing had to be built.
	Cached bool
}

// distribution is what Build knows how to install.
type distribution struct {
	codename string
	packages []string
}

// distributions returns the supported ones by name.
func distributions() map[string]distribution {
	debian := []string{
		"apparmor", "ca-certificates", "cloud-guest-utils", "cloud-init", "cron", "curl", "dbus",
		"e2fsprogs", "fdisk", "grub-pc-bin", "grub2-common", "initramfs-tools", "iproute2",
		"iputils-ping", "kmod", "less", "libpam-systemd", "linux-image-cloud-amd64",
		"locales", "logrotate", "netbase", "openssh-server", "procps", "python3", "qemu-guest-agent",
		"sudo", "systemd-resolved", "systemd-sysv", "tzdata", "udev", "vim-tiny", "zstd",
	}
	return map[string]distribution{
		"debian-12": {codename: "bookworm", packages: append(slices.Clone(debian), "ifupdown", "isc-dhcp-client")},
		// As in Debian's own images of it, netplan has networkd configure the network:
		// under its ifupdown dhcpcd does not report the name servers so early at boot.
		// Its cloud-init wants dhcpcd before the abandoned dhclient, and its ping has
		// no capabilities: who may ping is a setting of the kernel.
		"debian-13": {codename: "trixie", packages: append(slices.Clone(debian), "dhcpcd-base", "linux-sysctl-defaults", "netplan.io")},
	}
}

// ErrUnavailable is in the chain of Build's error when this host can provide
// no base image at all: no builder, and no official image given.
var ErrUnavailable = errors.New("no base image can be provided")

// Build returns the base image of a distribution, from the cache when neither
// its definition nor the distribution's archive changed (which is asked at most
// once a day), else newly installed by mmdebstrap from the host's own apt
// sources: the Debian ones among them, with the host's keyrings and proxies.
// It takes a minute or two and as root needs no network but the mirrors; without
// root it works in a user namespace, for kind vm only.
//
// The result stands in for the distribution's own EC2 image: cloud-init with
// the Ec2 data source and its default user, GRUB on a GUID partition table,
// console on ttyS0, empty machine-id, no host keys. Unlike that image it has
// qemu-guest-agent, through which the embedded AWS runs SSM commands, instead of
// Amazon's SSM agent, and neither chrony nor unattended-upgrades, for which its
// guests have no network.
//
// An official image is used as published, except that an image without
// qemu-guest-agent is given a unit that installs it on first boot from the
// guest's apt sources; see Fetch for the download.
func Build(ctx context.Context, opts Options) (Image, error) {
	if opts.Progress == nil {
		opts.Progress = func(string) {}
	}
	dist, ok := distributions()[opts.Distribution]
	if !ok {
		return Image{}, fmt.Errorf("base image %q is not known (allowed: %s)", opts.Distribution, strings.Join(sortedKeys(distributions()), ", "))
	}
	if opts.Kind != vm.VM && opts.Kind != vm.Container {
		return Image{}, fmt.Errorf("guests of kind %q have no base image (allowed: %s, %s)", opts.Kind, vm.VM, vm.Container)
	}
	cacheDir, err := filepath.Abs(opts.CacheDir)
	if err != nil {
		return Image{}, fmt.Errorf("cache folder: %w", err)
	}
	opts.CacheDir = cacheDir
	if err := os.MkdirAll(opts.CacheDir, 0o755); err != nil {
		return Image{}, fmt.Errorf("make cache folder: %w", err)
	}
	unlock, err := lock(ctx, filepath.Join(opts.CacheDir, "lock"), opts.Progress)
	if err != nil {
		return Image{}, err
	}
	defer unlock()

	if opts.Official.URL != "" {
		return importOfficial(ctx, opts)
	}
	b, err := newBuilder(ctx, opts, dist)
	if err != nil {
		return Image{}, err
	}
	return b.build(ctx)
}

// newBuilder checks that the host can build and reads its apt configuration.
func newBuilder(ctx context.Context, opts Options, dist distribution) (*builder, error) {
	if runtime.GOARCH != "amd64" || runtime.GOOS != "linux" {
		return nil, fmt.Errorf("%w: %s can be built on Linux on amd64 only, and this is %s on %s; "+
			"give an official cloud image by URL and SHA-256", ErrUnavailable, opts.Distribution, runtime.GOOS, runtime.GOARCH)
	}
	t := newTool()
	if t.namespaced && opts.Kind == vm.Container {
		return nil, fmt.Errorf("%w: container guests need root; run as root, or use guests of kind %s", ErrUnavailable, vm.VM)
	}
	need := buildTools(!t.namespaced)
	if opts.Kind == vm.VM {
		need = append(need, imageTools()...)
	}
	if absent := missing(need, lookPath); len(absent) > 0 {
		return nil, fmt.Errorf("%w: the host lacks what builds it; install with `apt-get install %s`, "+
			"or give an official cloud image by URL and SHA-256", ErrUnavailable, strings.Join(absent, " "))
	}
	all, err := apt.Sources("/")
	if err != nil {
		return nil, err
	}
	sources := debianSources(all, dist.codename)
	if len(sources) == 0 {
		return nil, fmt.Errorf("%w: apt's configuration names no Debian mirror (sources of other distributions and of third parties do not count); "+
			"add one to /etc/apt/sources.list.d, or give an official cloud image by URL and SHA-256", ErrUnavailable)
	}
	settings, err := apt.HostSettings(ctx)
	if err != nil {
		return nil, err
	}
	proxy := func(r *http.Request) (*url.URL, error) { return settings.Proxy(r.URL) }
	return &builder{
		opts:     opts,
		dist:     dist,
		tool:     t,
		sources:  sources,
		settings: buildSettings(settings),
		client:   &http.Client{Transport: &http.Transport{Proxy: proxy}, Timeout: 30 * time.Second},
		now:      time.Now,
	}, nil
}

// definition is everything that decides what is installed, but for the
// versions in the archive.
func (b *builder) definition() (string, error) {
	files, err := b.overlayFiles()
	if err != nil {
		return "", err
	}
	parts := append([]string{builderVersion, b.opts.Distribution, runtime.GOARCH, string(customize)}, b.installArgs("")...)
	for _, name := range sortedKeys(files) {
		parts = append(parts, name, string(files[name]))
	}
	return digestOf(parts...), nil
}
