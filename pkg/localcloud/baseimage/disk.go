package baseimage

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"
)

// The disk has the layout of Debian's cloud images: the root partition is number
// 1 but last on the disk, so that it can grow. The boot partitions come before
// it.
const (
	bootNumber   = 14
	bootFirst    = 1 << 20 / sectorSize
	rootNumber   = 1
	rootFirst    = 4 << 20 / sectorSize
	rootLabel    = "root"
	minVolumeGiB = 2
)

// DiskFromTree writes the root file system in the directory rootfs as a bootable
// disk into the new qcow2 file out: a GUID partition table, GRUB for BIOS in its
// own partition, and an ext4 file system labelled root in the last one, which
// cloud-init grows to the volume's size. The tree must contain GRUB and a
// kernel, like every image that descends from Build. Nothing is mounted and no
// block device is used; without root, the tree must be readable in the user
// namespace that `unshare --map-auto` makes.
func DiskFromTree(ctx context.Context, rootfs, out string) error {
	_, err := diskFromTree(ctx, newTool(), rootfs, out)
	return err
}

// diskFromTree is DiskFromTree; it also returns the disk's size in GiB.
func diskFromTree(ctx context.Context, t tool, rootfs, out string) (volumeGiB int, err error) {
	grub, err := treeGRUB(rootfs)
	if err != nil {
		return 0, err
	}
	used, err := t.treeMiB(ctx, rootfs)
	if err != nil {
		return 0, err
	}
	// Room for ext4's own data, and for the boot before the volume grows.
	volumeGiB = max(minVolumeGiB, (used*5/4+512+1023)/1024)
	sectors := int64(volumeGiB) << 30 / sectorSize

	raw, err := anonymousFile(scratchDir(filepath.Dir(out), 2*int64(used)<<20))
	if err != nil {
		return 0, err
	}
	defer func() { _ = raw.Close() }()
	if err := raw.Truncate(sectors * sectorSize); err != nil {
		return 0, fmt.Errorf("make disk of %d GiB: %w", volumeGiB, err)
	}
	// A partition ends at a MiB boundary, before the copy of the table.
	root := partition{Number: rootNumber, Type: typeLinuxRoot, ID: uuid.New(), Name: rootLabel, First: rootFirst, Last: sectors - 2048 - 1}
	boot := partition{Number: bootNumber, Type: typeBIOSBoot, ID: uuid.New(), Name: "bios", First: bootFirst, Last: rootFirst - 1}
	if err := writeGPT(raw, sectors, uuid.New(), []partition{root, boot}); err != nil {
		return 0, err
	}
	if err := grub.install(raw, boot.First, boot.Last); err != nil {
		return 0, err
	}
	if err := t.makeFileSystem(ctx, raw, root, rootfs); err != nil {
		return 0, err
	}

	partial := out + ".partial"
	defer func() { _ = os.Remove(partial) }()
	convert := command(ctx, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", "/dev/fd/3", partial)
	convert.ExtraFiles = []*os.File{raw}
	if err := runCommand(ctx, convert); err != nil {
		return 0, err
	}
	if err := os.Rename(partial, out); err != nil {
		return 0, fmt.Errorf("name the finished disk: %w", err)
	}
	return volumeGiB, nil
}

// makeFileSystem makes the root partition's ext4 from the tree.
func (t tool) makeFileSystem(ctx context.Context, raw *os.File, root partition, tree string) error {
	kib := (root.Last - root.First + 1) * sectorSize / 1024
	offset := root.First * sectorSize
	// Write the inode tables now, as zeros without allocated space, so that the
	// guest's kernel does not spend its first minutes on them. GRUB 2.06 cannot
	// read a file system with the feature metadata_csum_seed.
	mkfs := t.command(ctx, "mke2fs", "-q", "-F", "-t", "ext4", "-L", rootLabel, "-O", "^metadata_csum_seed",
		"-E", fmt.Sprintf("offset=%d,lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0", offset),
		"-d", tree, "/dev/fd/3", strconv.FormatInt(kib, 10)+"k")
	mkfs.ExtraFiles = []*os.File{raw}
	if err := runCommand(ctx, mkfs); err != nil {
		return err
	}

	// The fstab in a container's tree has no root entry, because a container has no
	// disk.
	fstab, err := os.ReadFile(filepath.Join(tree, "etc/fstab"))
	if err == nil && mountsRoot(string(fstab)) {
		return nil
	}
	want, err := overlay.ReadFile("overlay/etc/fstab")
	if err != nil {
		return fmt.Errorf("read the fstab of a base image: %w", err)
	}
	return writeIntoFileSystem(ctx, raw, offset, []guestFile{{path: "/etc/fstab", data: append(fstab, want...)}})
}

// mountsRoot reports whether an fstab has an entry for the root file system.
func mountsRoot(fstab string) bool {
	for line := range strings.Lines(fstab) {
		if f := strings.Fields(line); len(f) >= 2 && !strings.HasPrefix(f[0], "#") && f[1] == "/" {
			return true
		}
	}
	return false
}

// treeMiB returns the size of a tree, in MiB rounded up.
func (t tool) treeMiB(ctx context.Context, tree string) (int, error) {
	cmd := t.command(ctx, "du", "-sx", "--block-size=1M", tree)
	var text, problems strings.Builder
	cmd.Stdout, cmd.Stderr = &text, &problems
	if err := explain(ctx, cmd, cmd.Run(), []byte(problems.String())); err != nil {
		return 0, err
	}
	size, _, _ := strings.Cut(text.String(), "\t")
	n, err := strconv.Atoi(size)
	if err != nil {
		return 0, fmt.Errorf("measure %s: du said %q", tree, text.String())
	}
	return n, nil
}

// anonymousFile makes a file without a name, so that it disappears however this
// process ends. Programs open it as /dev/fd/3.
func anonymousFile(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "ami-factory-*.raw")
	if err != nil {
		return nil, fmt.Errorf("make scratch file: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("make scratch file: %w", err)
	}
	return f, nil
}

// memoryDir is the host's memory-backed file system for scratch files.
const memoryDir = "/dev/shm"

// scratchDir returns a folder for scratch files of this size: in memory if at
// least twice as much is free, which makes a build twice as fast, otherwise
// fallback.
func scratchDir(fallback string, bytes int64) string {
	var fs unix.Statfs_t
	if err := unix.Statfs(memoryDir, &fs); err != nil || fs.Type != unix.TMPFS_MAGIC {
		return fallback
	}
	if free := int64(fs.Bavail) * fs.Bsize; free < bytes || freeMemory() < 2*bytes {
		return fallback
	}
	return memoryDir
}

// freeMemory returns the memory available to new programs according to the
// kernel, in bytes, or 0 if unknown.
func freeMemory() int64 {
	info, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(info)) {
		if rest, ok := strings.CutPrefix(line, "MemAvailable:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err != nil {
				return 0
			}
			return kib << 10
		}
	}
	return 0
}

// diskUsage returns how many bytes a file uses on disk, without holes.
func diskUsage(file string) (int64, error) {
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		return 0, fmt.Errorf("measure %s: %w", file, err)
	}
	return st.Blocks * 512, nil
}
