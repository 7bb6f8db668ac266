package baseimage

import (
	"fmt"
	"path/filepath"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
)

// loadImage reads a finished image directory and its base's record.
func loadImage(base, dir string) (Image, error) {
	info, err := vm.ReadImage(dir)
	if err != nil {
		return Image{}, fmt.Errorf("read base image: %w", err)
	}
	image := Image{Dir: dir, Info: info}
	var r record
	if err := readJSON(filepath.Join(base, "base.json"), &r); err != nil {
		return Image{}, fmt.Errorf("read base image: %w", err)
	}
	image.Digest, image.Created = r.Digest, r.Created
	if list := filepath.Join(base, "packages.txt"); exists(list) {
		image.Packages = list
	}
	return image, nil
}

// diskInfo describes a disk of an image directory.
func diskInfo(disk string, volumeGiB int) (vm.ImageInfo, error) {
	sum, err := vm.FileDigest(disk)
	if err != nil {
		return vm.ImageInfo{}, fmt.Errorf("digest the disk image: %w", err)
	}
	size, err := diskUsage(disk)
	if err != nil {
		return vm.ImageInfo{}, err
	}
	return vm.ImageInfo{SizeBytes: size, VolumeGiB: volumeGiB, SHA256: sum, Disk: disk}, nil
}
