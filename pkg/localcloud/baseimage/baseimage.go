// Package baseimage makes the base images of the embedded AWS, which it
// registers under a distribution's own owner id. They are real systems,
// installed from the host's own package mirrors, or a distribution's official
// cloud image.
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

// Options describes what to build.
type Options struct {
	Distribution string  // "debian-12" or "debian-13"
	Kind         vm.Kind // vm or container
	// CacheDir keeps built images; it is created if necessary. Nothing in it is
	// removed, because disks of later images can be overlays on a base.
	CacheDir string
	// Official is the distribution's own cloud image. With a URL it is used
	// instead of building one. Only for kind vm.
	Official Official
	// Progress receives a short description of each step; it may be nil.
	Progress func(string)
}

// Official names a published cloud image in qcow2 or raw format.
type Official struct {
	URL    string
	SHA256 string // hex, of the published file
}

// Image is a base image in the cache.
type Image struct {
	// Dir is an image directory for vm.Launch.
	Dir  string
	Info vm.ImageInfo
	// Digest identifies the content, in hex: the versions of all packages and
	// everything that the builder adds. Two builds with the same digest are
	// interchangeable, although their bytes differ (identifiers, time stamps); all
	// kinds of one base share it. So an AMI id that is derived from it changes only
	// with the content.
	Digest string
	// Packages is the file that lists name, version and architecture of every
	// package, separated by tabs. It is empty for an official image.
	Packages string
	Created  time.Time
	// Cached means that the image was in the cache.
	Cached bool
}

// distribution describes how Build installs a distribution.
type distribution struct {
	codename string
	packages []string
}

// distributions returns the supported distributions by name.
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
		// As in Debian's own images of this release, netplan lets networkd configure
		// the network: with ifupdown, dhcpcd reports the name servers too late at
		// boot. Cloud-init prefers dhcpcd to the abandoned dhclient, and ping has no
		// capabilities: a kernel setting decides who may ping.
		"debian-13": {codename: "trixie", packages: append(slices.Clone(debian), "dhcpcd-base", "linux-sysctl-defaults", "netplan.io")},
	}
}

// ErrUnavailable is in the chain of Build's error if this host cannot provide a
// base image: it has no builder, and no official image is given.
var ErrUnavailable = errors.New("no base image can be provided")

// Build returns the base image of a distribution. It comes from the cache if
// neither its definition nor the distribution's archive has changed (which is
// checked at most once a day). Otherwise mmdebstrap installs it from the host's
// Debian apt sources, with the host's keyrings and proxies. That takes a minute
// or two, and the only network it needs are the mirrors. Without root it works
// in a user namespace, for kind vm only.
//
// The result stands in for the distribution's own EC2 image: cloud-init with the
// Ec2 data source and its default user, GRUB on a GUID partition table, console
// on ttyS0, empty machine-id, no host keys. Unlike that image it has
// qemu-guest-agent instead of Amazon's SSM agent, because the embedded AWS runs
// SSM commands through it. It has no chrony and no unattended-upgrades, for
// which its guests have no network.
//
// An official image is used unchanged, but an image without qemu-guest-agent
// gets a unit that installs it at first boot from the guest's apt sources. See
// Fetch for the download.
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

// definition returns everything that decides what is installed, except the
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
