package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
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

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/internal/space"
)

// asParent makes the test binary start a machine in the directory that it
// names, tell QEMU's process id and wait to be killed.
const asParent = "QEMU_TEST_PARENT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(asParent); dir != "" {
		if err := parent(dir); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func parent(dir string) error {
	d, err := New(context.Background(), Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	d.accel = emulation
	m, err := d.Start(context.Background(), launch(dir))
	if err != nil {
		return err
	}
	pid, err := os.ReadFile(filepath.Join(dir, "i", pidFile))
	if err != nil {
		return err
	}
	fmt.Println(strings.TrimSpace(string(pid)), d.sockets)
	<-m.Done()
	return nil
}

// launch is of a machine in dir/i from the image dir/image.
func launch(dir string) vm.Launch {
	return vm.Launch{
		InstanceID: "i-0123456789abcdef0", InstanceType: "t3.medium",
		InstanceDir: filepath.Join(dir, "i"), ImageDir: filepath.Join(dir, "image"),
		VCPUs: 1, MemoryMiB: 64, VolumeGiB: 2, PrivateIP: "172.31.1.2", MAC: "0a:ff:ac:1f:01:02",
	}
}

// newDriver returns a driver that does not probe, and a launch of an image
// whose disk is empty: the machine runs, but no guest ever comes up.
func newDriver(t *testing.T) (*Driver, vm.Launch) {
	t.Helper()
	for _, tool := range []string{"qemu-system-x86_64", "qemu-img"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed (Debian: apt-get install qemu-system-x86 qemu-utils)", tool)
		}
	}
	d, err := New(t.Context(), Options{Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	require.NoError(t, err)
	d.accel = emulation
	t.Cleanup(func() { assert.NoError(t, d.Close()) })
	in := launch(t.TempDir())
	require.NoError(t, os.MkdirAll(in.InstanceDir, 0o755))
	emptyImage(t, d, in.ImageDir)
	return d, in
}

func emptyImage(t *testing.T, d *Driver, dir string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(dir, 0o755))
	disk := filepath.Join(dir, vm.DiskFile)
	_, err := d.qemuImg(t.Context(), "create", "-q", "-f", "qcow2", disk, "1G")
	require.NoError(t, err)
	out, err := exec.CommandContext(t.Context(), "qemu-io", "-f", "qcow2", "-c", "write -P 7 1M 3M", disk).CombinedOutput()
	require.NoError(t, err, string(out))
	require.NoError(t, vm.WriteImage(dir, vm.ImageInfo{Kind: vm.VM, VolumeGiB: 1, Disk: disk}))
}

func TestMachineWhoseGuestNeverComesUp(t *testing.T) {
	d, in := newDriver(t)
	m, err := d.Start(t.Context(), in)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, m.Kill()) })

	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	assert.ErrorIs(t, m.Ping(ctx), vm.ErrNotReachable)
	_, err = m.Exec(ctx, vm.Command{Argv: []string{"true"}})
	assert.ErrorIs(t, err, vm.ErrNotReachable)

	t.Run("its disk cannot be captured while it runs", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "image")
		_, err := d.Capture(t.Context(), in.InstanceDir, dir)
		require.Error(t, err)
		assert.NoDirExists(t, dir)
	})
	t.Run("it cannot be started twice", func(t *testing.T) {
		_, err := d.Start(t.Context(), in)
		require.ErrorContains(t, err, "qemu ended at once")
		assert.ErrorContains(t, err, "lock", "QEMU's own words are in the error")
	})
	t.Run("it must be forced off off", func(t *testing.T) {
		forced, err := m.Shutdown(t.Context(), time.Second)
		require.NoError(t, err)
		assert.True(t, forced)
		<-m.Done()
		assert.ErrorIs(t, m.Ping(t.Context()), vm.ErrNotReachable)
		forced, err = m.Shutdown(t.Context(), time.Minute)
		assert.NoError(t, err)
		assert.False(t, forced, "it is off already")
	})
	t.Run("and can be started again", func(t *testing.T) {
		again, err := d.Start(t.Context(), in)
		require.NoError(t, err)
		require.NoError(t, again.Kill())
	})
}

func TestMachineDiesWithItsKilledParent(t *testing.T) {
	_, in := newDriver(t)
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), asParent+"="+filepath.Dir(in.InstanceDir))
	out, err := parent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, parent.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	text, sockets, _ := strings.Cut(strings.TrimSpace(line), " ")
	pid, err := strconv.Atoi(text)
	require.NoError(t, err, line)
	require.NoError(t, syscall.Kill(pid, 0), "QEMU lives")

	require.NoError(t, parent.Process.Kill())
	_ = parent.Wait() // killed
	assert.Eventually(t, func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || strings.Contains(string(stat), ") Z ")
	}, 10*time.Second, 10*time.Millisecond)

	assert.DirExists(t, sockets)
	dir, err := socketDir()
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	assert.NoDirExists(t, sockets, "the next driver removes what was left")
}

func TestStartRefuses(t *testing.T) {
	d, good := newDriver(t)
	for name, c := range map[string]struct {
		change func(in *vm.Launch, image *vm.ImageInfo)
		want   string
	}{
		"an image of another kind":                  {func(_ *vm.Launch, i *vm.ImageInfo) { i.Kind = vm.Container }, "only an image of kind vm boots in a virtual machine"},
		"a volume smaller than the image's":         {func(in *vm.Launch, i *vm.ImageInfo) { i.VolumeGiB = 3 }, "a root volume of 2 GiB is smaller than the image's, 3 GiB"},
		"an image that is not there":                {func(in *vm.Launch, _ *vm.ImageInfo) { in.ImageDir += "-none" }, "read image description"},
		"an address outside of the guests' network": {func(in *vm.Launch, _ *vm.ImageInfo) { in.PrivateIP = "10.0.0.1" }, "address 10.0.0.1 is not a guest's"},
	} {
		t.Run(name, func(t *testing.T) {
			in := launch(t.TempDir())
			require.NoError(t, os.MkdirAll(in.InstanceDir, 0o755))
			image, err := vm.ReadImage(good.ImageDir)
			require.NoError(t, err)
			c.change(&in, &image)
			require.NoError(t, os.MkdirAll(filepath.Join(filepath.Dir(in.InstanceDir), "image"), 0o755))
			require.NoError(t, vm.WriteImage(filepath.Join(filepath.Dir(in.InstanceDir), "image"), image))
			_, err = d.Start(t.Context(), in)
			require.ErrorContains(t, err, c.want)
			assert.ErrorContains(t, err, "start i-0123456789abcdef0")
		})
	}
}

func TestCaptureFlattens(t *testing.T) {
	d, in := newDriver(t)
	_, err := d.prepareDisk(t.Context(), in)
	require.NoError(t, err)
	overlay := filepath.Join(in.InstanceDir, diskFile)
	out, err := exec.CommandContext(t.Context(), "qemu-io", "-f", "qcow2", "-c", "write -P 9 1M 1M", "-c", "discard 2M 1M", overlay).CombinedOutput()
	require.NoError(t, err, string(out))

	dir := filepath.Join(t.TempDir(), "new", "image")
	info, err := d.Capture(t.Context(), in.InstanceDir, dir)
	require.NoError(t, err)
	assert.Equal(t, vm.VM, info.Kind)
	assert.Equal(t, 2, info.VolumeGiB)
	assert.Equal(t, filepath.Join(dir, vm.DiskFile), info.Disk)
	assert.Positive(t, info.SizeBytes)
	assert.Less(t, info.SizeBytes, int64(8<<20), "holes stay holes")
	read, err := vm.ReadImage(dir)
	require.NoError(t, err)
	assert.Equal(t, info, read)

	require.NoError(t, os.RemoveAll(in.ImageDir)) // it needs no other file
	out, err = exec.CommandContext(t.Context(), "qemu-io", "-f", "qcow2",
		"-c", "read -P 9 1M 1M", "-c", "read -P 0 2M 1M", "-c", "read -P 7 3M 1M", info.Disk).CombinedOutput()
	require.NoError(t, err)
	assert.NotContains(t, string(out), "failed")

	t.Run("and an export is the same disk", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "out.qcow2")
		require.NoError(t, d.Export(t.Context(), dir, file))
		out, err := exec.CommandContext(t.Context(), "qemu-img", "compare", file, info.Disk).CombinedOutput()
		assert.NoError(t, err, string(out))
		assert.NoFileExists(t, file+".part")
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

func TestCompressedCapture(t *testing.T) {
	d, in := newDriver(t)
	d.opts.Compress = true
	_, err := d.prepareDisk(t.Context(), in)
	require.NoError(t, err)
	info, err := d.Capture(t.Context(), in.InstanceDir, filepath.Join(t.TempDir(), "image"))
	require.NoError(t, err)
	size, err := space.Allocated(filepath.Join(in.ImageDir, vm.DiskFile))
	require.NoError(t, err)
	assert.Less(t, info.SizeBytes, size)
}

func TestNotInstalled(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := New(t.Context(), Options{})
	require.ErrorIs(t, err, ErrNotInstalled)
	assert.ErrorContains(t, err, "apt-get install qemu-system-x86")
}

func TestProbe(t *testing.T) {
	d, _ := newDriver(t)
	t.Run("an accelerator that works passes", func(t *testing.T) {
		// The emulator stands in for one, where nothing better is sure to be.
		fast := emulation()
		if err := probe(d.system, fast); err != nil {
			assert.ErrorContains(t, err, "did not end within", "on a busy machine emulation is too slow, which is the other right answer")
		}
	})
	t.Run("one that does not exist fails", func(t *testing.T) {
		assert.Error(t, probe(d.system, accelerator{args: []string{"-accel", "nonsense"}}))
	})
	t.Run("a program that ends well without a result fails", func(t *testing.T) {
		assert.ErrorContains(t, probe("/bin/true", accelerator{}), "without its result")
	})
}

func TestSystemUUID(t *testing.T) {
	uuid := systemUUID("i-0123456789abcdef0")
	assert.Regexp(t, `^ec2[0-9a-f]{5}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`, uuid)
	assert.Equal(t, uuid, systemUUID("i-0123456789abcdef0"), "a restart keeps it")
	assert.NotEqual(t, uuid, systemUUID("i-0123456789abcdef1"))
}

func TestArguments(t *testing.T) {
	in := launch("/state, with comma")
	args := strings.Join(arguments(in, emulation(), newSockets("/tmp/s"), nil), " ")
	for name, want := range map[string]string{
		"cloud-init sees EC2":           "type=1,manufacturer=Amazon EC2,product=t3.medium,serial=ec2",
		"commas in paths are doubled":   "file=/state,, with comma/i/disk.qcow2",
		"what the guest discards goes":  "discard=unmap,detect-zeroes=unmap",
		"the guest has its own address": "mac=0a:ff:ac:1f:01:02",
		"the accelerator is named":      "-accel tcg,thread=multi,tb-size=512 -cpu max",
	} {
		assert.Contains(t, args, want, name)
	}
	assert.NotContains(t, args, "-kernel")
	direct := strings.Join(arguments(in, emulation(), newSockets("/tmp/s"), &directBoot{"/k", "/i", "root=LABEL=root"}), " ")
	assert.Contains(t, direct, "-kernel /k -initrd /i -append root=LABEL=root")
}

func TestFindKernel(t *testing.T) {
	dir := t.TempDir()
	got, err := findKernel(dir)
	require.NoError(t, err)
	assert.Nil(t, got, "an image without one boots its disk")

	require.NoError(t, os.Mkdir(filepath.Join(dir, vm.KernelDir), 0o755))
	for name, content := range map[string]string{vm.KernelFile: "", vm.InitrdFile: "", vm.CmdlineFile: "root=LABEL=root ro\n"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, vm.KernelDir, name), []byte(content), 0o600))
	}
	got, err = findKernel(dir)
	require.NoError(t, err)
	require.NotNil(t, got)
	assert.Equal(t, "root=LABEL=root ro", got.cmdline)

	require.NoError(t, os.Remove(filepath.Join(dir, vm.KernelDir, vm.CmdlineFile)))
	_, err = findKernel(dir)
	assert.ErrorIs(t, err, os.ErrNotExist)
}

func TestMonitor(t *testing.T) {
	for name, c := range map[string]struct{ replies, want, err string }{
		"a reply":             {`{"return": {}}` + "\n" + `{"return": {"status": "running"}}` + "\n", `{"status": "running"}`, ""},
		"events are no reply": {`{"event": "STOP"}` + "\n" + `{"return": {}}` + "\n" + `{"event": "RESUME"}` + "\n" + `{"return": 1}` + "\n", `1`, ""},
		"an error":            {`{"return": {}}` + "\n" + `{"error": {"class": "GenericError", "desc": "not now"}}` + "\n", "", "qemu monitor: query-status: not now"},
		"the end":             {`{"return": {}}` + "\n", "", "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			socket := filepath.Join(t.TempDir(), "s")
			listener, err := net.Listen("unix", socket)
			require.NoError(t, err)
			defer listener.Close()
			served := make(chan struct{})
			go func() {
				defer close(served)
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				_, _ = conn.Write([]byte(`{"QMP": {}}` + "\n" + c.replies))
				in := bufio.NewReader(conn)
				_, _ = in.ReadString('\n')
				_, _ = in.ReadString('\n')
				_ = conn.Close()
			}()
			got, err := qmp(t.Context(), socket, "query-status")
			<-served
			if c.err != "" {
				assert.ErrorContains(t, err, c.err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, json.RawMessage(c.want), got)
		})
	}
}
