package baseimage

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
)

//go:embed official/guest-agent-install.service
var agentUnit []byte

const agentUnitPath = "/etc/systemd/system/guest-agent-install.service"

// importOfficial returns an official image from the cache, or downloads it and
// makes an image directory. The caller holds the cache's lock.
func importOfficial(ctx context.Context, opts Options) (Image, error) {
	if opts.Kind != vm.VM {
		return Image{}, fmt.Errorf("an official cloud image is a disk: it serves guests of kind %s, not %s", vm.VM, opts.Kind)
	}
	if err := opts.Official.validate(); err != nil {
		return Image{}, err
	}
	if absent := missing(imageTools(), lookPath); len(absent) > 0 {
		return Image{}, fmt.Errorf("%w: the host lacks what imports a cloud image; install with `apt-get install %s`",
			ErrUnavailable, strings.Join(absent, " "))
	}
	key := digestOf(builderVersion, strings.ToLower(opts.Official.SHA256), string(agentUnit))
	base := filepath.Join(opts.CacheDir, "official-"+key[:16])
	dir := filepath.Join(base, string(vm.VM))
	if exists(filepath.Join(dir, vm.ImageFile)) {
		image, err := loadImage(base, dir)
		image.Cached = true
		return image, err
	}

	published := base + ".download"
	if !exists(published) {
		if err := Fetch(ctx, opts.Official, published, opts.Progress); err != nil {
			return Image{}, err
		}
	}
	partial := base + ".partial"
	if err := os.RemoveAll(partial); err != nil {
		return Image{}, fmt.Errorf("clear the rest of an earlier import: %w", err)
	}
	defer func() { _ = os.RemoveAll(partial) }()
	if err := os.MkdirAll(filepath.Join(partial, string(vm.VM)), 0o755); err != nil {
		return Image{}, fmt.Errorf("make folder: %w", err)
	}
	opts.Progress("importing the official image")
	disk := filepath.Join(partial, string(vm.VM), vm.DiskFile)
	volumeGiB, err := convertOfficial(ctx, published, disk)
	if err != nil {
		return Image{}, fmt.Errorf("import %s: %w", opts.Official.shown(), err)
	}
	info, err := diskInfo(disk, volumeGiB)
	if err != nil {
		return Image{}, err
	}
	info.Kind = vm.VM
	if err := vm.WriteImage(filepath.Dir(disk), info); err != nil {
		return Image{}, err
	}
	r := record{Distribution: opts.Distribution, Digest: key, Created: time.Now().UTC(), Builder: "official image " + opts.Official.shown()}
	if err := writeJSON(filepath.Join(partial, "base.json"), r); err != nil {
		return Image{}, err
	}
	if err := replaceDir(partial, base); err != nil {
		return Image{}, err
	}
	_ = os.Remove(published) // this only frees space: the file is downloaded again if needed
	return loadImage(base, dir)
}

// convertOfficial makes the disk of an image directory from a published file,
// and adds the guest agent.
func convertOfficial(ctx context.Context, published, disk string) (volumeGiB int, err error) {
	format, size, err := inspect(ctx, published)
	if err != nil {
		return 0, err
	}
	raw, err := anonymousFile(scratchDir(filepath.Dir(disk), 4<<30))
	if err != nil {
		return 0, err
	}
	defer func() { _ = raw.Close() }()
	if err := raw.Truncate(size); err != nil {
		return 0, fmt.Errorf("make scratch file: %w", err)
	}
	unpack := command(ctx, "qemu-img", "convert", "-n", "-f", format, "-O", "raw", published, "/dev/fd/3")
	unpack.ExtraFiles = []*os.File{raw}
	if err := runCommand(ctx, unpack); err != nil {
		return 0, err
	}
	if err := addAgent(ctx, raw); err != nil {
		return 0, err
	}
	pack := command(ctx, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", "/dev/fd/3", disk)
	pack.ExtraFiles = []*os.File{raw}
	if err := runCommand(ctx, pack); err != nil {
		return 0, err
	}
	return int((size + 1<<30 - 1) >> 30), nil
}

// inspect returns the format and virtual size of a published image. It refuses
// an image that refers to other files, which would be files of the host.
func inspect(ctx context.Context, file string) (format string, size int64, err error) {
	cmd := command(ctx, "qemu-img", "info", "--output=json", file)
	var out, problems strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := explain(ctx, cmd, cmd.Run(), []byte(problems.String())); err != nil {
		return "", 0, err
	}
	var info struct {
		Format   string `json:"format"`
		Size     int64  `json:"virtual-size"`
		Backing  string `json:"backing-filename"`
		Specific struct {
			Data struct {
				DataFile string `json:"data-file"`
			} `json:"data"`
		} `json:"format-specific"`
	}
	if err := json.Unmarshal([]byte(out.String()), &info); err != nil {
		return "", 0, fmt.Errorf("parse the output of qemu-img about the image: %w", err)
	}
	if info.Format != "qcow2" && info.Format != "raw" {
		return "", 0, fmt.Errorf("the image has format %q (allowed: qcow2, raw)", info.Format)
	}
	if info.Backing != "" || info.Specific.Data.DataFile != "" {
		return "", 0, errors.New("the image refers to another file for its data: a published image must be complete")
	}
	return info.Format, info.Size, nil
}

// addAgent makes sure that commands can run in guests of a raw disk: the disk
// must have cloud-init, and gets a unit that installs qemu-guest-agent unless it
// has that program.
func addAgent(ctx context.Context, raw *os.File) error {
	parts, err := readGPT(raw)
	if err != nil {
		return err
	}
	if len(parts) == 0 {
		return errors.New("the image's partition table is empty")
	}
	root := slices.MaxFunc(parts, func(a, b partition) int { return cmp.Compare(a.Last-a.First, b.Last-b.First) })
	offset := root.First * sectorSize
	has := func(names ...string) (bool, error) {
		for _, name := range names {
			if found, err := inFileSystem(ctx, raw, offset, name); found || err != nil {
				return found, err
			}
		}
		return false, nil
	}

	if found, err := has("/etc/os-release"); err != nil || !found {
		return errors.Join(fmt.Errorf("partition %d is not an ext4 root file system, so the guest agent cannot be added to it; "+
			"use an image of a distribution that uses ext4, as Debian and Ubuntu do", root.Number), err)
	}
	if found, err := has("/usr/bin/cloud-init"); err != nil || !found {
		return errors.Join(errors.New("the image has no cloud-init, so it would ignore its user-data; "+
			"of Debian's images use genericcloud or generic, not nocloud"), err)
	}
	if found, err := has("/usr/sbin/qemu-ga", "/usr/bin/qemu-ga"); found || err != nil {
		return err
	}
	if found, err := has("/usr/bin/apt-get"); err != nil || !found {
		return errors.Join(errors.New("the image has neither qemu-guest-agent nor apt to install it with; "+
			"use an image of Debian or Ubuntu, or one that has the agent"), err)
	}
	return writeIntoFileSystem(ctx, raw, offset, []guestFile{
		{path: agentUnitPath, data: agentUnit},
		{path: "/etc/systemd/system/multi-user.target.wants/guest-agent-install.service", link: agentUnitPath},
	})
}
