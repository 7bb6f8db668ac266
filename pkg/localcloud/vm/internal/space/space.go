// Package space checks the free space of file systems for disks.
package space

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrFull is returned by Require.
var ErrFull = errors.New("not enough free disk space")

const mib = 1 << 20

// Require returns ErrFull unless the file system of dir, which must exist, has
// need bytes left for ordinary users. what names their purpose.
func Require(dir string, need int64, what string) error {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return fmt.Errorf("free space of %s: %w", dir, err)
	}
	free := int64(stat.Bavail) * int64(stat.Bsize)
	if free < need {
		return fmt.Errorf("%w: %s needs %d MiB in %s, %d MiB are free; make room, or choose another directory (--state)",
			ErrFull, what, (need+mib-1)/mib, dir, free/mib)
	}
	return nil
}

// Allocated returns the space that the file uses on disk, in bytes.
func Allocated(file string) (int64, error) {
	info, err := os.Stat(file)
	if err != nil {
		return 0, err
	}
	return allocated(info), nil
}
