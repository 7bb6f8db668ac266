package baseimage

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
)

// sparseFile makes an open file of so many bytes.
func sparseFile(t *testing.T, size int64) *os.File {
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.raw"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	require.NoError(t, f.Truncate(size))
	return f
}

// needTools skips a test on a host that lacks what edits disk images.
func needTools(t *testing.T) {
	t.Helper()
	if absent := missing(imageTools(), lookPath); len(absent) > 0 {
		t.Skipf("not installed: %s", strings.Join(absent, " "))
	}
}

func TestThePartitionTableIsReadByOthersAsItWasWritten(t *testing.T) {
	const sectors = 64 << 20 / sectorSize
	f := sparseFile(t, sectors*sectorSize)
	_, err := f.WriteAt(bytes.Repeat([]byte{0xaa}, mbrCodeSize), 0)
	require.NoError(t, err)
	parts := []partition{
		{Number: 1, Type: typeLinuxRoot, ID: uuid.MustParse("11111111-2222-3333-4444-555555555555"), Name: "root", First: 8192, Last: sectors - 2049},
		{Number: 14, Type: typeBIOSBoot, ID: uuid.New(), Name: "bios", First: 2048, Last: 8191},
	}
	require.NoError(t, writeGPT(f, sectors, uuid.New(), parts))

	code := make([]byte, mbrCodeSize)
	_, err = f.ReadAt(code, 0)
	require.NoError(t, err)
	assert.Equal(t, bytes.Repeat([]byte{0xaa}, mbrCodeSize), code, "boot code is left alone")

	read, err := readGPT(f)
	require.NoError(t, err)
	assert.Equal(t, []partition{{Number: 1, First: 8192, Last: sectors - 2049}, {Number: 14, First: 2048, Last: 8191}}, read)

	sfdisk, err := lookPath("sfdisk")
	if err != nil {
		t.Skip("sfdisk is not installed")
	}
	out, err := exec.Command(sfdisk, "--verify", f.Name()).CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Contains(t, string(out), "No errors detected")
	dump, err := exec.Command(sfdisk, "--dump", f.Name()).Output()
	require.NoError(t, err)
	assert.Contains(t, string(dump), `uuid=11111111-2222-3333-4444-555555555555, name="root"`)
	assert.Regexp(t, `raw14 : start= +2048, size= +6144, type=21686148-6449-6E6F-744E-656564454649`, string(dump))
}

func TestAPartitionOutsideTheDiskIsRefused(t *testing.T) {
	f := sparseFile(t, 1<<20)
	for sentence, p := range map[string]partition{
		"before the first usable sector": {Number: 1, First: 33, Last: 100},
		"over the copy of the table":     {Number: 1, First: 100, Last: 2047},
		"with a number beyond the table": {Number: 129, First: 100, Last: 200},
		"with its end before its start":  {Number: 1, First: 200, Last: 100},
	} {
		t.Run(sentence, func(t *testing.T) {
			assert.ErrorContains(t, writeGPT(f, 2048, uuid.New(), []partition{p}), "does not fit")
		})
	}
}

func TestADiskWithoutATableIsRefused(t *testing.T) {
	_, err := readGPT(sparseFile(t, 1<<20))
	assert.ErrorContains(t, err, "no GUID partition table")
	_, err = readGPT(bytes.NewReader(nil))
	assert.ErrorIs(t, err, io.EOF)
}

// fakeGRUB are images of the right size.
func fakeGRUB() grubFiles {
	return grubFiles{boot: bytes.Repeat([]byte{1}, sectorSize), core: bytes.Repeat([]byte{2}, 3*sectorSize)}
}

func TestGRUBIsInstalledWhereItsBootSectorLooks(t *testing.T) {
	f := sparseFile(t, 1<<20)
	require.NoError(t, fakeGRUB().install(f, 100, 200))
	disk, err := os.ReadFile(f.Name())
	require.NoError(t, err)

	le := binary.LittleEndian
	assert.EqualValues(t, 100, le.Uint64(disk[0x5c:]), "boot.img points to core.img")
	assert.Equal(t, []byte{0xff, 1, 0x90, 0x90}, disk[0x64:0x68], "and takes the drive the firmware booted")
	assert.Zero(t, disk[mbrCodeSize], "the partition table is left alone")
	core := disk[100*sectorSize:]
	assert.EqualValues(t, 101, le.Uint64(core[0x1f4:]), "core.img's first sector points to its second")
	assert.EqualValues(t, 2, le.Uint16(core[0x1fc:]))
	assert.EqualValues(t, 0x820, le.Uint16(core[0x1fe:]))
	assert.Equal(t, byte(2), core[3*sectorSize-1])

	assert.ErrorContains(t, fakeGRUB().install(f, 100, 101), "does not fit")
}

// smallTree makes a tree that has what a disk is made of, and the given files.
func smallTree(t *testing.T, files ...string) string {
	tree := t.TempDir()
	grub := fakeGRUB()
	contents := map[string][]byte{
		"boot/grub/i386-pc/boot.img": grub.boot,
		"boot/grub/i386-pc/core.img": grub.core[:len(grub.core)-7],
		"etc/fstab":                  []byte("# nothing\n"),
	}
	for _, name := range files {
		contents[name] = []byte(name)
	}
	for name, data := range contents {
		file := filepath.Join(tree, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, data, 0o644))
	}
	return tree
}

// cat returns a file of a qcow2 disk's root file system.
func cat(t *testing.T, disk, name string) string {
	t.Helper()
	raw := filepath.Join(t.TempDir(), "x.raw")
	require.NoError(t, tool{}.run(t.Context(), "qemu-img", "convert", "-O", "raw", disk, raw))
	out, err := command(t.Context(), "debugfs", "-R", "cat "+name, raw+"?offset=4194304").Output()
	require.NoError(t, err)
	return string(out)
}

func TestATreeBecomesADisk(t *testing.T) {
	needTools(t)
	out := filepath.Join(t.TempDir(), "disk.qcow2")
	require.NoError(t, DiskFromTree(t.Context(), smallTree(t, "etc/motd"), out))
	assert.Equal(t, "etc/motd", cat(t, out, "/etc/motd"))
	assert.Contains(t, cat(t, out, "/etc/fstab"), "LABEL=root / ext4", "a container's tree gets its root entry back")
	assert.NoFileExists(t, out+".partial")

	raw := filepath.Join(t.TempDir(), "x.raw")
	require.NoError(t, tool{}.run(t.Context(), "qemu-img", "convert", "-O", "raw", out, raw))
	require.NoError(t, tool{}.run(t.Context(), "e2fsck", "-f", "-n", raw+"?offset=4194304"), "the file system is sound")
}

func TestATreeWithoutGRUBIsRefused(t *testing.T) {
	err := DiskFromTree(t.Context(), t.TempDir(), filepath.Join(t.TempDir(), "disk.qcow2"))
	require.ErrorIs(t, err, errNoGRUB)
}

func TestMountsRoot(t *testing.T) {
	assert.True(t, mountsRoot("# x\nLABEL=root / ext4 rw 0 1\n"))
	assert.False(t, mountsRoot("# LABEL=root / ext4\nLABEL=data /data ext4\n"))
}

// publish makes a disk of the tree and serves it as a distribution would.
func publish(t *testing.T, tree string) Official {
	disk := filepath.Join(t.TempDir(), "published.qcow2")
	require.NoError(t, DiskFromTree(t.Context(), tree, disk))
	sum, err := vm.FileDigest(disk)
	require.NoError(t, err)
	return Official{URL: "file://" + disk, SHA256: sum}
}

func TestAnOfficialImageWithoutAgentIsGivenAUnitThatInstallsIt(t *testing.T) {
	needTools(t)
	tree := smallTree(t, "etc/os-release", "usr/bin/cloud-init", "usr/bin/apt-get", "etc/systemd/system/multi-user.target.wants/ssh.service")
	opts := Options{Distribution: "debian-12", Kind: vm.VM, CacheDir: t.TempDir(), Official: publish(t, tree)}
	image, err := Build(t.Context(), opts)
	require.NoError(t, err)
	assert.False(t, image.Cached)
	assert.Equal(t, minVolumeGiB, image.Info.VolumeGiB)
	assert.Equal(t, string(agentUnit), cat(t, image.Info.Disk, agentUnitPath))
	assert.NotEmpty(t, cat(t, image.Info.Disk, "/etc/systemd/system/multi-user.target.wants/ssh.service"))

	again, err := Build(t.Context(), opts)
	require.NoError(t, err)
	assert.True(t, again.Cached)
	assert.Equal(t, image.Digest, again.Digest)
	assert.Equal(t, image.Info, again.Info)
}

func TestAnOfficialImageThatCannotWorkIsRefused(t *testing.T) {
	needTools(t)
	for sentence, tc := range map[string]struct {
		files []string
		want  string
	}{
		"no Linux root":   {nil, "not an ext4 root file system"},
		"no cloud-init":   {[]string{"etc/os-release"}, "no cloud-init"},
		"no way to agent": {[]string{"etc/os-release", "usr/bin/cloud-init"}, "neither qemu-guest-agent nor apt"},
		"no place for it": {[]string{"etc/os-release", "usr/bin/cloud-init", "usr/bin/apt-get"}, "debugfs did not write"},
	} {
		t.Run(sentence, func(t *testing.T) {
			dir := t.TempDir()
			_, err := Build(t.Context(), Options{Distribution: "debian-12", Kind: vm.VM, CacheDir: dir, Official: publish(t, smallTree(t, tc.files...))})
			require.ErrorContains(t, err, tc.want)
			left, err := filepath.Glob(filepath.Join(dir, "official-*/vm/image.json"))
			require.NoError(t, err)
			assert.Empty(t, left)
		})
	}
}

func TestAnOfficialImageThatHasTheAgentIsLeftAlone(t *testing.T) {
	needTools(t)
	tree := smallTree(t, "etc/os-release", "usr/bin/cloud-init", "usr/sbin/qemu-ga")
	image, err := Build(t.Context(), Options{Distribution: "debian-12", Kind: vm.VM, CacheDir: t.TempDir(), Official: publish(t, tree)})
	require.NoError(t, err)
	assert.Empty(t, cat(t, image.Info.Disk, agentUnitPath))
}

func TestAnImageThatRefersToFilesOfTheHostIsRefused(t *testing.T) {
	needTools(t)
	dir := t.TempDir()
	base, overlay := filepath.Join(dir, "base.qcow2"), filepath.Join(dir, "overlay.qcow2")
	require.NoError(t, tool{}.run(t.Context(), "qemu-img", "create", "-q", "-f", "qcow2", base, "1M"))
	require.NoError(t, tool{}.run(t.Context(), "qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", overlay))
	_, _, err := inspect(t.Context(), overlay)
	assert.ErrorContains(t, err, "refers to another file")
}
