package qemu

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/internal/space"
)

const (
	gib = 1 << 30
	// startSpace is the disk space that a guest usually needs, in bytes.
	startSpace = 2 * gib
)

// prepareDisk makes the overlay for a first start, or finds it for a restart.
func (d *Driver) prepareDisk(ctx context.Context, in vm.Launch) (first bool, err error) {
	disk := filepath.Join(in.InstanceDir, diskFile)
	switch _, err := os.Stat(disk); {
	case err == nil:
		return false, nil
	case !errors.Is(err, fs.ErrNotExist):
		return false, err
	}
	return true, d.createDisk(ctx, in, disk)
}

func (d *Driver) createDisk(ctx context.Context, in vm.Launch, disk string) error {
	image, err := vm.ReadImage(in.ImageDir)
	if err != nil {
		return err
	}
	if image.Kind != vm.VM || image.Disk == "" {
		return fmt.Errorf("image %s is of kind %s: only an image of kind %s boots in a virtual machine", in.ImageDir, image.Kind, vm.VM)
	}
	if in.VolumeGiB < image.VolumeGiB {
		return fmt.Errorf("a root volume of %d GiB is smaller than the image's, %d GiB", in.VolumeGiB, image.VolumeGiB)
	}
	if err := space.Require(in.InstanceDir, startSpace, "starting "+in.InstanceID); err != nil {
		return err
	}
	_, err = d.qemuImg(ctx, "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", image.Disk, disk, strconv.Itoa(in.VolumeGiB)+"G")
	return err
}

// Capture implements vm.Driver. It flattens the overlay into a disk without a
// backing file and without the blocks that the guest has discarded.
func (d *Driver) Capture(ctx context.Context, instanceDir, imageDir string) (info vm.ImageInfo, err error) {
	if err := absolute(&instanceDir, &imageDir); err != nil {
		return vm.ImageInfo{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("capture the disk of %s: %w", filepath.Base(instanceDir), err), os.RemoveAll(imageDir))
		}
	}()
	source := filepath.Join(instanceDir, diskFile)
	described, err := d.describe(ctx, source)
	if err != nil {
		return vm.ImageInfo{}, err
	}
	if err := os.MkdirAll(imageDir, 0o755); err != nil {
		return vm.ImageInfo{}, err
	}
	need := described.allocated
	if err := space.Require(imageDir, need, "the image"); err != nil {
		return vm.ImageInfo{}, err
	}
	disk := filepath.Join(imageDir, vm.DiskFile)
	if err := d.convert(ctx, source, disk); err != nil {
		return vm.ImageInfo{}, err
	}
	info = vm.ImageInfo{Kind: vm.VM, VolumeGiB: described.gib(), Disk: disk}
	if info.SizeBytes, err = space.Allocated(disk); err != nil {
		return vm.ImageInfo{}, err
	}
	return info, vm.WriteImage(imageDir, info)
}

// OpenDisk implements vm.Driver.
func (d *Driver) OpenDisk(_ context.Context, imageDir string) (vm.Disk, error) {
	image, err := vm.ReadImage(imageDir)
	if err != nil {
		return nil, err
	}
	if image.Kind != vm.VM {
		return nil, fmt.Errorf("open the disk of %s: it is of kind %s, not %s", imageDir, image.Kind, vm.VM)
	}
	return vm.OpenQCOW2(image.Disk)
}

// Export implements vm.Driver.
func (d *Driver) Export(ctx context.Context, imageDir, file string) error {
	image, err := vm.ReadImage(imageDir)
	if err != nil {
		return fmt.Errorf("export image: %w", err)
	}
	if image.Kind != vm.VM || image.Disk == "" {
		return fmt.Errorf("export image: %s is of kind %s and has no disk; bake it with --guests vm", imageDir, image.Kind)
	}
	described, err := d.describe(ctx, image.Disk)
	if err != nil {
		return fmt.Errorf("export image: %w", err)
	}
	if err := space.Require(filepath.Dir(file), described.allocated, "the exported disk"); err != nil {
		return fmt.Errorf("export image: %w", err)
	}
	part := file + ".part"
	if err := d.convert(ctx, image.Disk, part); err != nil {
		return errors.Join(fmt.Errorf("export image: %w", err), removeIfThere(part))
	}
	if err := os.Rename(part, file); err != nil {
		return fmt.Errorf("export image: %w", err)
	}
	return nil
}

func removeIfThere(file string) error {
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (d *Driver) convert(ctx context.Context, source, target string) error {
	args := []string{"convert", "-q", "-f", "qcow2", "-O", "qcow2"}
	if d.opts.Compress {
		args = append(args, "-c", "-o", "compression_type=zstd")
	}
	_, err := d.qemuImg(ctx, append(args, source, target)...)
	return err
}

// description is qemu-img's report about a disk.
type description struct {
	virtual   int64 // size for the guest, in bytes
	allocated int64 // bytes of the disk and its backing files: the maximum for a copy
}

func (d description) gib() int { return int((d.virtual + gib - 1) / gib) }

func (d *Driver) describe(ctx context.Context, disk string) (description, error) {
	out, err := d.qemuImg(ctx, "info", "--backing-chain", "--output=json", disk)
	if err != nil {
		return description{}, err
	}
	var chain []struct {
		Virtual int64 `json:"virtual-size"`
		Actual  int64 `json:"actual-size"`
	}
	if err := json.Unmarshal(out, &chain); err != nil || len(chain) == 0 {
		return description{}, fmt.Errorf("qemu-img info of %s: unexpected output (%w)", disk, err)
	}
	result := description{virtual: chain[0].Virtual}
	for _, layer := range chain {
		result.allocated += layer.Actual
	}
	return result, nil
}

// qemuImg runs qemu-img. An error contains its messages.
func (d *Driver) qemuImg(ctx context.Context, args ...string) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, d.img, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("qemu-img %s: %w: %s", args[0], err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.Bytes(), nil
}
