package baseimage

import (
	"bytes"
	"context"
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
	if absent := Missing(kind); len(absent) > 0 {
		t.Skipf("not installed: %s", strings.Join(absent, " "))
	}
}

// guestCache is where real builds are kept between runs, if the environment says so.
func guestCache(t *testing.T) string {
	if dir := os.Getenv("AMI_FACTORY_TEST_CACHE"); dir != "" {
		return dir
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

	console := bootToLogin(ctx, t, image.Info.Disk)
	assert.Contains(t, console, "Debian GNU/Linux 12")
	assert.Empty(t, linesWith(console, "FAILED", "Failed to", "fsck not present"), "nothing fails on a plain machine")
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

// bootToLogin boots a disk by plain QEMU and SeaBIOS until its serial console
// asks for a login, and returns what the console said.
func bootToLogin(ctx context.Context, t *testing.T, disk string) string {
	t.Helper()
	dir := t.TempDir()
	serial := filepath.Join(dir, "serial.log")
	ctx, cancel := context.WithTimeout(ctx, 6*time.Minute)
	defer cancel()
	cmd := command(ctx, "qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024",
		"-nodefaults", "-display", "none", "-snapshot", "-drive", "if=virtio,format=qcow2,file="+disk,
		"-device", "virtio-rng-pci", "-serial", "file:"+serial)
	var problems bytes.Buffer
	cmd.Stderr = &problems
	began := time.Now()
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Cancel()
		_ = cmd.Wait()
	})
	for {
		console, err := os.ReadFile(serial)
		if err == nil && bytes.Contains(console, []byte("login:")) {
			t.Logf("login prompt after %v", time.Since(began).Round(time.Second))
			return string(console)
		}
		select {
		case <-ctx.Done():
			require.Fail(t, "no login prompt", "%s\n%s", problems.String(), console[max(0, len(console)-4000):])
		case <-time.After(time.Second):
		}
	}
}

func TestAContainerBaseHoldsNothingOfTheHostAndExportsAsABootableDisk(t *testing.T) {
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

	disk := filepath.Join(t.TempDir(), "exported.qcow2")
	require.NoError(t, DiskFromTree(ctx, root, disk))
	assert.Contains(t, bootToLogin(ctx, t, disk), "Debian GNU/Linux 12")
}

func logProgress(t *testing.T) func(string) {
	began := time.Now()
	return func(text string) { t.Logf("%4.0f s  %s", time.Since(began).Seconds(), text) }
}
