//go:build linux

package nspawn

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ami-factory/ami-factory/pkg/localcloud/imds"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
)

// asParent makes the test binary start a container in the directory that it
// names, from the image that the second names, tell its init's process id and
// wait to be killed.
const (
	asParent   = "NSPAWN_TEST_PARENT"
	parentBase = "NSPAWN_TEST_BASE"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(asParent); dir != "" {
		if err := parent(dir, os.Getenv(parentBase)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func parent(dir, base string) error {
	ctx := context.Background()
	d, err := New(ctx, Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	in := launch(dir)
	in.ImageDir, in.VolumeGiB = base, 8
	m, err := d.Start(ctx, in)
	if err != nil {
		return err
	}
	for m.Ping(ctx) != nil {
		time.Sleep(100 * time.Millisecond)
	}
	leader, err := m.(*machine).findLeader()
	if err != nil {
		return err
	}
	fmt.Println(leader)
	<-m.Done()
	return nil
}

// launch is of a container in dir/i from the image dir/image.
func launch(dir string) vm.Launch {
	return vm.Launch{
		InstanceID: "i-0123456789abcdef0", InstanceType: "t3.medium",
		InstanceDir: filepath.Join(dir, "i"), ImageDir: filepath.Join(dir, "image"),
		VCPUs: 1, MemoryMiB: 64, VolumeGiB: 2, PrivateIP: "172.31.1.2", MAC: "0a:ff:ac:1f:01:02",
	}
}

// newDriver returns a driver and a launch of an image that has a few files.
func newDriver(t *testing.T) (*Driver, vm.Launch) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("containers need root")
	}
	if _, err := exec.LookPath("systemd-nspawn"); err != nil {
		t.Skip("systemd-nspawn is not installed (Debian: apt-get install systemd-container)")
	}
	d, err := New(t.Context(), Options{Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, d.Close()) })
	in := launch(t.TempDir())
	require.NoError(t, os.MkdirAll(in.InstanceDir, 0o755))
	write(t, in.ImageDir, "rootfs/etc/os-release", "ID=test\n")
	write(t, in.ImageDir, "rootfs/etc/kept", "of the image")
	write(t, in.ImageDir, "rootfs/etc/changed", "of the image")
	write(t, in.ImageDir, "rootfs/etc/removed", "of the image")
	require.NoError(t, vm.WriteImage(in.ImageDir, vm.ImageInfo{Kind: vm.Container, VolumeGiB: 1, Disk: filepath.Join(in.ImageDir, vm.RootFSDir)}))
	return d, in
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	path := filepath.Join(dir, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
}

func TestTreeWithoutSystemEndsAtOnceAndSaysWhyOnTheConsole(t *testing.T) {
	d, in := newDriver(t)
	m, err := d.Start(t.Context(), in)
	require.NoError(t, err)
	<-m.Done()
	console, err := m.Console()
	require.NoError(t, err)
	assert.NotEmpty(t, console)
	assert.ErrorIs(t, m.Ping(t.Context()), vm.ErrNotReachable)
	_, err = m.Exec(t.Context(), vm.Command{Argv: []string{"true"}})
	assert.ErrorIs(t, err, vm.ErrNotReachable)
	forced, err := m.Shutdown(t.Context(), time.Minute)
	require.NoError(t, err)
	assert.False(t, forced)

	mounts, err := os.ReadFile("/proc/self/mounts")
	require.NoError(t, err)
	assert.NotContains(t, string(mounts), in.InstanceDir, "nothing stays mounted")
}

func TestCaptureMergesImageAndChanges(t *testing.T) {
	d, in := newDriver(t)
	_, err := prepare(in)
	require.NoError(t, err)
	upper := filepath.Join(in.InstanceDir, upperDir)
	write(t, upper, "etc/changed", "of the container")
	write(t, upper, "usr/bin/tool", "#!/bin/sh\n")
	require.NoError(t, os.Chmod(filepath.Join(upper, "usr/bin/tool"), 0o4755|os.ModeSetuid))
	// What overlayfs leaves for a removed file.
	require.NoError(t, unix.Mknod(filepath.Join(upper, "etc/removed"), unix.S_IFCHR, 0))

	dir := filepath.Join(t.TempDir(), "new", "image")
	info, err := d.Capture(t.Context(), in.InstanceDir, dir)
	require.NoError(t, err)
	assert.Equal(t, vm.Container, info.Kind)
	assert.Equal(t, 2, info.VolumeGiB)
	assert.Positive(t, info.SizeBytes)
	read, err := vm.ReadImage(dir)
	require.NoError(t, err)
	assert.Equal(t, info, read)

	rootfs := filepath.Join(dir, vm.RootFSDir)
	for name, want := range map[string]string{"etc/kept": "of the image", "etc/changed": "of the container"} {
		got, err := os.ReadFile(filepath.Join(rootfs, name))
		require.NoError(t, err)
		assert.Equal(t, want, string(got))
	}
	assert.NoFileExists(t, filepath.Join(rootfs, "etc/removed"))
	assert.NoDirExists(t, filepath.Join(rootfs, "etc/cloud"), "the container's own layer is no part of its image")
	tool, err := os.Stat(filepath.Join(rootfs, "usr/bin/tool"))
	require.NoError(t, err)
	assert.NotZero(t, tool.Mode()&os.ModeSetuid)

	t.Run("an export says what to do instead, or builds a disk", func(t *testing.T) {
		assert.ErrorContains(t, d.Export(t.Context(), dir, "x"), "bake it with --guests vm")
		var built []string
		d.opts.BuildDisk = func(_ context.Context, rootfs, file string) error {
			built = []string{rootfs, file}
			return nil
		}
		require.NoError(t, d.Export(t.Context(), dir, "x"))
		assert.Equal(t, []string{rootfs, "x"}, built)
	})
	t.Run("a capture that is stopped leaves nothing", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		dir := filepath.Join(t.TempDir(), "image")
		_, err := d.Capture(ctx, in.InstanceDir, dir)
		require.ErrorIs(t, err, context.Canceled)
		assert.NoDirExists(t, dir)
	})
}

func TestStartRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(in *vm.Launch, image *vm.ImageInfo)
		want   string
	}{
		"an image of another kind":          {func(_ *vm.Launch, i *vm.ImageInfo) { i.Kind = vm.VM }, "only an image of kind container boots in a container"},
		"a volume smaller than the image's": {func(_ *vm.Launch, i *vm.ImageInfo) { i.VolumeGiB = 3 }, "a root volume of 2 GiB is smaller than the image's, 3 GiB"},
		"an address outside of the network": {func(in *vm.Launch, _ *vm.ImageInfo) { in.PrivateIP = "10.0.0.1" }, "address 10.0.0.1 is not a guest's"},
		"an image that is not there":        {func(in *vm.Launch, _ *vm.ImageInfo) { in.ImageDir += "-none" }, "read image description"},
		"a MAC address that is none":        {func(in *vm.Launch, _ *vm.ImageInfo) { in.MAC = "none" }, "invalid MAC address"},
	} {
		t.Run(name, func(t *testing.T) {
			d, in := newDriver(t)
			image, err := vm.ReadImage(in.ImageDir)
			require.NoError(t, err)
			dir := in.ImageDir
			c.change(&in, &image)
			require.NoError(t, vm.WriteImage(dir, image))
			_, err = d.Start(t.Context(), in)
			require.ErrorContains(t, err, c.want)
			assert.Empty(t, d.running, "its directory is free again")
		})
	}
}

func TestOneContainerPerDirectory(t *testing.T) {
	d, in := newDriver(t)
	release, err := d.claim(in.InstanceDir)
	require.NoError(t, err)
	_, err = d.Start(t.Context(), in)
	require.ErrorContains(t, err, "in use by a running container")
	_, err = d.Capture(t.Context(), in.InstanceDir, filepath.Join(t.TempDir(), "image"))
	require.ErrorContains(t, err, "in use by a running container")
	release()
	_, err = d.claim(in.InstanceDir)
	assert.NoError(t, err)
}

func TestNotInstalled(t *testing.T) {
	if os.Geteuid() != 0 {
		_, err := New(t.Context(), Options{})
		require.ErrorIs(t, err, ErrUnavailable)
		assert.ErrorContains(t, err, "they need root")
		return
	}
	t.Setenv("PATH", t.TempDir())
	_, err := New(t.Context(), Options{})
	require.ErrorIs(t, err, ErrUnavailable)
	assert.ErrorContains(t, err, "apt-get install systemd-container")
}

func TestMetadataWithoutTokens(t *testing.T) {
	service := imds.New(imds.Instance{InstanceID: "i-1", PrivateIP: "172.31.1.2", MAC: "m", TokensRequired: true})
	for name, c := range map[string]struct {
		handler http.Handler
		method  string
		token   string
		want    int
	}{
		"the service itself wants a token":      {service, http.MethodGet, "", http.StatusUnauthorized},
		"in a container none is needed":         {tokenOptional(service), http.MethodGet, "", http.StatusOK},
		"one that is brought has to be good":    {tokenOptional(service), http.MethodGet, "bad", http.StatusUnauthorized},
		"what is refused otherwise stays so":    {tokenOptional(service), http.MethodPost, "", http.StatusMethodNotAllowed},
		"a service that has no tokens is asked": {tokenOptional(http.NotFoundHandler()), http.MethodGet, "", http.StatusNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(c.method, "http://169.254.169.254/latest/meta-data/instance-id", nil)
			if c.token != "" {
				r.Header.Set(tokenHeader, c.token)
			}
			w := httptest.NewRecorder()
			c.handler.ServeHTTP(w, r)
			assert.Equal(t, c.want, w.Code)
		})
	}
}

func TestContainerDiesWithItsKilledParent(t *testing.T) {
	base := os.Getenv("AMI_FACTORY_CONTAINER_BASE")
	if base == "" {
		t.Skip("boots a container, as root: set AMI_FACTORY_CONTAINER_BASE to the directory of a base image of kind container (image.json, rootfs)")
	}
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "i"), 0o755))
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), asParent+"="+dir, parentBase+"="+base)
	out, err := parent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, parent.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	leader, err := strconv.Atoi(strings.TrimSpace(line))
	require.NoError(t, err, line)
	require.NoError(t, syscall.Kill(leader, 0), "the container lives")

	require.NoError(t, parent.Process.Kill())
	_ = parent.Wait() // killed
	assert.Eventually(t, func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", leader))
		return err != nil || strings.Contains(string(stat), ") Z ")
	}, 20*time.Second, 10*time.Millisecond)
	mounts, err := os.ReadFile("/proc/self/mounts")
	require.NoError(t, err)
	assert.NotContains(t, string(mounts), dir, "nothing stays mounted")

	t.Run("and its directory can be used again", func(t *testing.T) {
		d, _ := newDriver(t)
		in := launch(dir)
		in.ImageDir, in.VolumeGiB = base, 8
		m, err := d.Start(t.Context(), in)
		require.NoError(t, err)
		for m.Ping(t.Context()) != nil {
			time.Sleep(100 * time.Millisecond)
		}
		forced, err := m.Shutdown(t.Context(), time.Minute)
		require.NoError(t, err)
		assert.False(t, forced)
	})
}
