package vm

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Files and directories of an image directory.
const (
	ImageFile   = "image.json" // ImageInfo
	DiskFile    = "disk.qcow2" // kind vm
	RootFSDir   = "rootfs"     // kind container
	KernelDir   = "kernel"     // kind vm, optional: the following files, to boot without the boot loader
	KernelFile  = "vmlinuz"    // in KernelDir
	InitrdFile  = "initrd.img" // in KernelDir
	CmdlineFile = "cmdline"    // in KernelDir, one line
)

// WriteImage writes dir's image.json. The path of a disk inside dir is written
// relative to dir, so that the directory can be moved.
func WriteImage(dir string, info ImageInfo) error {
	if rel, err := filepath.Rel(dir, info.Disk); err == nil && filepath.IsLocal(rel) {
		info.Disk = rel
	}
	raw, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		return fmt.Errorf("encode image description: %w", err)
	}
	name := filepath.Join(dir, ImageFile)
	if err := os.WriteFile(name+".new", append(raw, '\n'), 0o644); err != nil {
		return fmt.Errorf("write image description: %w", err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		return fmt.Errorf("write image description: %w", err)
	}
	return nil
}

// ReadImage reads dir's image.json. A relative Disk becomes a path below dir.
func ReadImage(dir string) (ImageInfo, error) {
	raw, err := os.ReadFile(filepath.Join(dir, ImageFile))
	if err != nil {
		return ImageInfo{}, fmt.Errorf("read image description: %w", err)
	}
	var info ImageInfo
	if err := json.Unmarshal(raw, &info); err != nil {
		return ImageInfo{}, fmt.Errorf("read image description %s: %w", filepath.Join(dir, ImageFile), err)
	}
	if info.Disk != "" && !filepath.IsAbs(info.Disk) {
		info.Disk = filepath.Join(dir, info.Disk)
	}
	return info, nil
}

// FileDigest returns the SHA-256 of a file in lower-case hex.
func FileDigest(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err // the error has the file's name
	}
	defer func() { _ = f.Close() }()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", fmt.Errorf("read %s: %w", file, err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
