package baseimage

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
)

// needGuests skips tests that take minutes and the host's package mirrors.
func needGuests(t *testing.T, kind vm.Kind) {
	t.Helper()
	if os.Getenv("AMI_FACTORY_GUEST_TESTS") != "1" {
		t.Skip("real base images are built with AMI_FACTORY_GUEST_TESTS=1 only")
	}
	if kind == vm.VM && os.Getenv("AMI_FACTORY_VM_TESTS") != "1" {
		t.Skip("booting a virtual machine takes minutes: set AMI_FACTORY_VM_TESTS=1, as `make test-vm` does")
	}
	if absent := Missing(kind); len(absent) > 0 {
		t.Skipf("not installed: %s", strings.Join(absent, " "))
	}
}

// guestCache is where real builds are kept between runs, if the environment says so.
func guestCache(t *testing.T) string {
	if dir := os.Getenv("AMI_FACTORY_CACHE"); dir != "" {
		return filepath.Join(dir, "base")
	}
	return t.TempDir()
}

func TestABuiltBaseImageBootsByItself(t *testing.T) {
	needGuests(t, vm.VM)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	opts := Options{Distribution: "debian-12", Kind: vm.VM, CacheDir: guestCache(t), Progress: logProgress(t)}
	image, err := Build(ctx, opts)
	require.NoError(t, err)
	t.Logf("disk of %d MiB for a volume of %d GiB, digest %s", image.Info.SizeBytes>>20, image.Info.VolumeGiB, image.Digest)

	again, err := Build(ctx, opts)
	require.NoError(t, err)
	assert.True(t, again.Cached, "a second build must do nothing")
	assert.Equal(t, image.Digest, again.Digest)

	packages, err := os.ReadFile(image.Packages)
	require.NoError(t, err)
	assert.Contains(t, string(packages), "qemu-guest-agent\t")

	bootAndCheck(ctx, t, image.Info.Disk)
}

// proof is user-data that has the guest say what became of it, and power off.
const proof = `#cloud-config
runcmd:
  - |
    exec >/dev/ttyS0
    echo "PROOF disk: $(df --output=size --block-size=1M / | tail -1) MiB"
    echo "PROOF failed units: $(systemctl --failed --plain --no-legend)."
    echo "PROOF host keys: $(ls /etc/ssh/ssh_host_*_key | wc -l)"
    echo "PROOF default user: $(id --user --name 1000)"
    echo "PROOF locale: $(. /etc/default/locale && echo $LANG)"
    echo "PROOF machine-id bytes: $(wc -c </etc/machine-id)"
    echo "PROOF cloud-init errors: $(grep -c -e CRITICAL -e Traceback /var/log/cloud-init.log)"
    echo "PROOF sources: $(grep -h ^Suites /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | tr '\n' ' ')"
power_state: {mode: poweroff, delay: now}
`

// bootAndCheck boots a disk, grown to 4 GiB, by plain QEMU and SeaBIOS with a
// NoCloud seed over its network, and checks what the guest says of itself.
func bootAndCheck(ctx context.Context, t *testing.T, disk string) {
	t.Helper()
	dir := t.TempDir()
	seed := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/meta-data":
			_, _ = io.WriteString(w, "instance-id: i-proof\n")
		case "/user-data":
			_, _ = io.WriteString(w, proof)
		case "/vendor-data":
		default:
			http.NotFound(w, r)
		}
	}))
	defer seed.Close()
	_, port, err := net.SplitHostPort(seed.Listener.Addr().String())
	require.NoError(t, err)
	overlay, serial := filepath.Join(dir, "overlay.qcow2"), filepath.Join(dir, "serial.log")
	require.NoError(t, tool{}.run(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-b", disk, "-F", "qcow2", overlay, "4G"))

	ctx, cancel := context.WithTimeout(ctx, 8*time.Minute)
	defer cancel()
	began := time.Now()
	err = tool{}.run(ctx, "qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024",
		"-nodefaults", "-display", "none", "-no-reboot", "-drive", "if=virtio,format=qcow2,cache=unsafe,file="+overlay,
		"-device", "virtio-rng-pci", "-serial", "file:"+serial,
		"-netdev", "user,id=n0", "-device", "virtio-net-pci,netdev=n0",
		"-smbios", "type=1,serial=ds=nocloud-net;s=http://10.0.2.2:"+port+"/")
	log, readErr := os.ReadFile(serial)
	require.NoError(t, readErr)
	console := strings.ReplaceAll(string(log), "\r", "")
	require.NoError(t, err, "%s", console[max(0, len(console)-4000):])
	t.Logf("booted, set up and powered off in %v", time.Since(began).Round(time.Second))

	assert.Empty(t, linesWith(console, "FAILED", "Failed to start", "fsck not present"))
	said := linesWith(console, "PROOF")
	require.NotEmpty(t, said, "cloud-init did not run user-data:\n%s", console[max(0, len(console)-4000):])
	t.Log(strings.Join(said, ""))
	for _, want := range []string{
		"PROOF failed units: .\n", "PROOF default user: admin\n", "PROOF locale: C.UTF-8\n",
		"PROOF machine-id bytes: 33\n", "PROOF cloud-init errors: 0\n", "Suites: bookworm",
	} {
		assert.Contains(t, strings.Join(said, ""), want)
	}
	assert.NotContains(t, strings.Join(said, ""), "PROOF host keys: 0\n")
	var mib int
	_, err = fmt.Sscanf(said[0], "PROOF disk: %d MiB", &mib)
	require.NoError(t, err)
	assert.Greater(t, mib, 3500, "cloud-init grows the root file system to the volume")
}

// linesWith returns the lines that contain any of the words.
func linesWith(text string, words ...string) []string {
	var found []string
	for line := range strings.Lines(text) {
		if slices.ContainsFunc(words, func(w string) bool { return strings.Contains(line, w) }) {
			found = append(found, line)
		}
	}
	return found
}

func TestAContainerBaseHoldsNothingOfTheHostAndExportsAsADisk(t *testing.T) {
	needGuests(t, vm.Container)
	if os.Geteuid() != 0 {
		t.Skip("containers need root")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	image, err := Build(ctx, Options{Distribution: "debian-12", Kind: vm.Container, CacheDir: guestCache(t), Progress: logProgress(t)})
	require.NoError(t, err)
	root := image.Info.Disk

	machineID, err := os.ReadFile(filepath.Join(root, "etc/machine-id"))
	require.NoError(t, err)
	assert.Empty(t, machineID)
	keys, err := filepath.Glob(filepath.Join(root, "etc/ssh/ssh_host_*"))
	require.NoError(t, err)
	assert.Empty(t, keys, "host keys are the instance's own")
	link, err := os.Readlink(filepath.Join(root, "etc/resolv.conf"))
	require.NoError(t, err)
	assert.Equal(t, "../run/systemd/resolve/stub-resolv.conf", link)
	for _, name := range []string{
		"etc/hostname", "etc/apt/sources.list", "etc/apt/apt.conf.d/99mmdebstrap", "etc/dpkg/dpkg.cfg.d/99mmdebstrap",
		"var/lib/systemd/random-seed", "var/lib/dbus/machine-id",
	} {
		assert.NoFileExists(t, filepath.Join(root, name))
	}
	sudo, err := os.Stat(filepath.Join(root, "usr/bin/sudo"))
	require.NoError(t, err)
	assert.NotZero(t, sudo.Mode()&os.ModeSetuid, "setuid bits survive")
	caps, err := exec.CommandContext(ctx, "getfattr", "--only-values", "-n", "security.capability", filepath.Join(root, "usr/bin/ping")).Output()
	if err == nil {
		assert.NotEmpty(t, caps, "file capabilities survive")
	}

	// Booting it would take as long as the other test and show nothing new but
	// its fstab.
	disk := filepath.Join(t.TempDir(), "exported.qcow2")
	require.NoError(t, DiskFromTree(ctx, root, disk))
	assert.Contains(t, cat(t, disk, "/etc/fstab"), "LABEL=root / ext4")
}

func logProgress(t *testing.T) func(string) {
	began := time.Now()
	return func(text string) { t.Logf("%4.0f s  %s", time.Since(began).Seconds(), text) }
}
