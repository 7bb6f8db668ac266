//go:build linux

package nspawn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/internal/space"
)

// copyMerged runs in a mount namespace of its own. $1 has the overlay's options,
// $2 its mount point, $3 the new tree.
const copyMerged = `set -e
mount -t overlay -o "$1" overlay "$2"
cp -a --reflink=auto "$2/." "$3"
`

// Capture implements vm.Driver. It copies the image and the changes, without the
// container's own layer, to a new tree.
func (d *Driver) Capture(ctx context.Context, instanceDir, imageDir string) (info vm.ImageInfo, err error) {
	if err := absolute(&instanceDir, &imageDir); err != nil {
		return vm.ImageInfo{}, err
	}
	release, err := d.claim(instanceDir)
	if err != nil {
		return vm.ImageInfo{}, fmt.Errorf("capture %s: %w", filepath.Base(instanceDir), err)
	}
	defer release()
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("capture %s: %w", filepath.Base(instanceDir), err), os.RemoveAll(imageDir))
		}
	}()
	n, err := readNote(instanceDir)
	if err != nil {
		return vm.ImageInfo{}, err
	}
	rootfs := filepath.Join(imageDir, vm.RootFSDir)
	if err := os.MkdirAll(rootfs, 0o755); err != nil {
		return vm.ImageInfo{}, err
	}
	upper := filepath.Join(instanceDir, upperDir)
	var need int64
	for _, tree := range []string{n.Lower, upper} {
		size, err := space.AllocatedTree(tree)
		if err != nil {
			return vm.ImageInfo{}, err
		}
		need += size
	}
	if err := space.Require(imageDir, need, "the image"); err != nil {
		return vm.ImageInfo{}, err
	}
	// Read-only: the changes are the topmost of the lower layers.
	if err := d.copyMerged(ctx, upper+":"+n.Lower, filepath.Join(instanceDir, mergedDir), rootfs); err != nil {
		return vm.ImageInfo{}, err
	}
	info = vm.ImageInfo{Kind: vm.Container, VolumeGiB: n.VolumeGiB, Disk: rootfs}
	if info.SizeBytes, err = space.AllocatedTree(rootfs); err != nil {
		return vm.ImageInfo{}, err
	}
	return info, vm.WriteImage(imageDir, info)
}

func (d *Driver) copyMerged(ctx context.Context, layers, mountPoint, rootfs string) error {
	cmd := exec.CommandContext(ctx, d.tools.shell, "-c", copyMerged, "sh", "lowerdir="+layers, mountPoint, rootfs)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if out, err := cmd.CombinedOutput(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("copy the tree: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// OpenDisk implements vm.Driver. It makes an ext4 file system from the tree, in
// a file without a name that disappears when it is closed.
func (d *Driver) OpenDisk(ctx context.Context, imageDir string) (_ vm.Disk, err error) {
	image, err := vm.ReadImage(imageDir)
	if err != nil {
		return nil, err
	}
	if image.Kind != vm.Container {
		return nil, fmt.Errorf("open the disk of %s: it is of kind %s, not %s", imageDir, image.Kind, vm.Container)
	}
	mke2fs, err := exec.LookPath("mke2fs")
	if err != nil {
		return nil, fmt.Errorf("read the image of a container as a snapshot: %w; install the package e2fsprogs", err)
	}
	scratch, err := os.MkdirTemp("", "ami-factory-snapshot-")
	if err != nil {
		return nil, fmt.Errorf("make scratch folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	rootfs := filepath.Join(imageDir, vm.RootFSDir)
	size, err := space.AllocatedTree(rootfs)
	if err != nil {
		return nil, err
	}
	if err := space.Require(scratch, size, "the snapshot of a container"); err != nil {
		return nil, err
	}
	file := filepath.Join(scratch, "disk")
	// The file is sparse and uses as much space as the tree.
	cmd := exec.CommandContext(ctx, mke2fs, "-q", "-t", "ext4", "-d", rootfs, file, fmt.Sprintf("%dG", max(image.VolumeGiB, 1)))
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("make a file system of %s: %w: %s", rootfs, err, bytes.TrimSpace(out))
	}
	return vm.OpenRaw(file, true)
}

// Export implements vm.Driver with the function given to New.
func (d *Driver) Export(ctx context.Context, imageDir, file string) error {
	if d.opts.BuildDisk == nil {
		return errors.New("export image: an image of kind container has no disk; bake it with --guests vm, or copy its rootfs directory")
	}
	image, err := vm.ReadImage(imageDir)
	if err != nil {
		return fmt.Errorf("export image: %w", err)
	}
	if image.Kind != vm.Container {
		return fmt.Errorf("export image: %s is of kind %s, not %s", imageDir, image.Kind, vm.Container)
	}
	if err := d.opts.BuildDisk(ctx, filepath.Join(imageDir, vm.RootFSDir), file); err != nil {
		return fmt.Errorf("export image: %w", err)
	}
	return nil
}
