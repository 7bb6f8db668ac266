package baseimage

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/apt"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
)

// builderVersion is incremented when a change of this package changes the image
// and is not in the files below.
const builderVersion = "1"

// overlay has the files that are copied over a freshly installed tree.
//
//go:embed all:overlay
var overlay embed.FS

// customize is the script that runs in the installed tree.
//
//go:embed customize.sh
var customize []byte

// builder makes all kinds of one base from one tar.
type builder struct {
	opts     Options
	dist     distribution
	tool     tool
	sources  []apt.Source
	settings apt.Settings
	client   *http.Client
	now      func() time.Time
}

// record is the content of base.json, next to a base's tar.
type record struct {
	Distribution string
	Digest       string
	Created      time.Time
	Builder      string
}

// build returns the image of the wanted kind, and makes what is not cached. The
// caller holds the cache's lock.
func (b *builder) build(ctx context.Context) (Image, error) {
	definition, err := b.definition()
	if err != nil {
		return Image{}, err
	}
	stamp, err := b.archiveStamp(ctx)
	if err != nil {
		return Image{}, err
	}
	base := filepath.Join(b.opts.CacheDir, b.opts.Distribution+"-"+digestOf(definition, stamp)[:16])

	cached := exists(filepath.Join(base, "base.json"))
	if !cached {
		if err := b.install(ctx, base, definition); err != nil {
			return Image{}, err
		}
	}
	dir := filepath.Join(base, string(b.opts.Kind))
	if !exists(filepath.Join(dir, vm.ImageFile)) {
		cached = false
		if err := b.form(ctx, base, dir); err != nil {
			return Image{}, err
		}
	}
	image, err := loadImage(base, dir)
	image.Cached = cached
	return image, err
}

// install makes the base's tar, package list and record in the folder base.
func (b *builder) install(ctx context.Context, base, definition string) error {
	partial := base + ".partial"
	if err := os.RemoveAll(partial); err != nil {
		return fmt.Errorf("clear the rest of an earlier build: %w", err)
	}
	if err := os.MkdirAll(partial, 0o755); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(partial) }()

	tar := filepath.Join(partial, "rootfs.tar")
	if err := b.mmdebstrap(ctx, tar); err != nil {
		return fmt.Errorf("install %s: %w", b.opts.Distribution, err)
	}
	list := command(ctx, "tar", "--extract", "--to-stdout", "--file", tar, "./"+packageList)
	packages, err := list.Output()
	if err != nil {
		return fmt.Errorf("read the package list of the new base: %w", explain(ctx, list, err, nil))
	}
	if len(packages) == 0 {
		return errors.New("the new base has an empty package list")
	}
	if err := os.WriteFile(filepath.Join(partial, "packages.txt"), packages, 0o644); err != nil {
		return fmt.Errorf("write the package list: %w", err)
	}
	err = writeJSON(filepath.Join(partial, "base.json"), record{
		Distribution: b.opts.Distribution,
		Digest:       digestOf(definition, string(packages)),
		Created:      b.now().UTC(),
		Builder:      "mmdebstrap, builder version " + builderVersion,
	})
	if err != nil {
		return err
	}
	return replaceDir(partial, base)
}

// packageList is the path in the tree where customize.sh writes the list of
// packages.
const packageList = "usr/share/doc/base-image-packages.txt"

// form makes the image directory of one kind from the base's tar.
func (b *builder) form(ctx context.Context, base, dir string) error {
	partial := dir + ".partial"
	if err := b.removeTree(ctx, partial); err != nil {
		return err
	}
	if err := os.Mkdir(partial, 0o755); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	defer func() { _ = b.removeTree(context.WithoutCancel(ctx), partial) }()

	tar := filepath.Join(base, "rootfs.tar")
	var info vm.ImageInfo
	var err error
	if b.opts.Kind == vm.Container {
		info, err = b.formContainer(ctx, tar, partial)
	} else {
		info, err = b.formDisk(ctx, tar, partial)
	}
	if err != nil {
		return err
	}
	info.Kind = b.opts.Kind
	if err := vm.WriteImage(partial, info); err != nil {
		return err
	}
	return replaceDir(partial, dir)
}

// formDisk unpacks the tar, in memory if there is room, and makes the disk.
func (b *builder) formDisk(ctx context.Context, tar, dir string) (vm.ImageInfo, error) {
	b.opts.Progress("writing the disk image")
	size, err := diskUsage(tar)
	if err != nil {
		return vm.ImageInfo{}, err
	}
	// The name derives from the cache, so that the rest of a killed build is found
	// again.
	tree := filepath.Join(scratchDir(dir, 5*size), "ami-factory-"+digestOf(b.opts.CacheDir)[:16])
	if err := b.removeTree(ctx, tree); err != nil {
		return vm.ImageInfo{}, err
	}
	defer func() { _ = b.removeTree(context.WithoutCancel(ctx), tree) }()
	if err := b.unpack(ctx, tar, tree); err != nil {
		return vm.ImageInfo{}, err
	}
	disk := filepath.Join(dir, vm.DiskFile)
	volumeGiB, err := diskFromTree(ctx, b.tool, tree, disk)
	if err != nil {
		return vm.ImageInfo{}, fmt.Errorf("make disk image: %w", err)
	}
	return diskInfo(disk, volumeGiB)
}

// formContainer unpacks the tar to its final place.
func (b *builder) formContainer(ctx context.Context, tar, dir string) (vm.ImageInfo, error) {
	b.opts.Progress("unpacking the container image")
	rootfs := filepath.Join(dir, vm.RootFSDir)
	if err := b.unpack(ctx, tar, rootfs); err != nil {
		return vm.ImageInfo{}, err
	}
	// A container has no disk: an entry for it would make a unit fail at boot.
	// DiskFromTree adds it again.
	if err := os.WriteFile(filepath.Join(rootfs, "etc/fstab"), nil, 0o644); err != nil {
		return vm.ImageInfo{}, fmt.Errorf("clear fstab: %w", err)
	}
	mib, err := b.tool.treeMiB(ctx, rootfs)
	if err != nil {
		return vm.ImageInfo{}, err
	}
	sum, err := vm.FileDigest(tar)
	if err != nil {
		return vm.ImageInfo{}, err
	}
	return vm.ImageInfo{SizeBytes: int64(mib) << 20, VolumeGiB: minVolumeGiB, SHA256: sum, Disk: rootfs}, nil
}

// unpack extracts a base's tar into a new directory.
func (b *builder) unpack(ctx context.Context, tar, dir string) error {
	if err := b.tool.run(ctx, "mkdir", "-m", "0755", dir); err != nil {
		return err
	}
	return b.tool.run(ctx, "tar", "--extract", "--file", tar, "--directory", dir,
		"--numeric-owner", "--preserve-permissions", "--xattrs", "--xattrs-include=*", "--exclude=./dev/*")
}

// removeTree removes a directory whose files may belong to users of a namespace.
func (b *builder) removeTree(ctx context.Context, dir string) error {
	if err := os.RemoveAll(dir); err == nil {
		return nil
	}
	return b.tool.run(ctx, "rm", "-rf", "--one-file-system", dir)
}

// overlayFiles returns the files to copy over the tree, by path.
func (b *builder) overlayFiles() (map[string][]byte, error) {
	files := map[string][]byte{
		"etc/apt/sources.list.d/debian.sources": []byte(imageSources(b.sources)),
	}
	// A mirror of snapshots needs these settings in the image and on the host.
	if checks := render(b.settings, isCheck); checks != "" {
		files["etc/apt/apt.conf.d/90mirror"] = []byte(checks)
	}
	err := fs.WalkDir(overlay, "overlay", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := overlay.ReadFile(name)
		files[strings.TrimPrefix(name, "overlay/")] = data
		return err
	})
	return files, err
}

// digestOf returns the SHA-256, in hex, of strings with a separator between
// them.
func digestOf(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// replaceDir renames a finished directory to its final name.
func replaceDir(partial, dir string) error {
	if err := os.RemoveAll(dir); err != nil { // incomplete: it had no record
		return fmt.Errorf("clear the rest of an earlier build: %w", err)
	}
	if err := os.Rename(partial, dir); err != nil {
		return fmt.Errorf("name the finished base image: %w", err)
	}
	return nil
}

func writeJSON(file string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", file, err)
	}
	if err := os.WriteFile(file, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return nil
}

func readJSON(file string, v any) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s is damaged; remove its folder and try again: %w", file, err)
	}
	return nil
}
