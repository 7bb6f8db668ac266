package vm

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/lima-vm/go-qcow2reader"
	"github.com/lima-vm/go-qcow2reader/image"
	"golang.org/x/sys/unix"
)

// Disk is the root volume of an image, for reading.
type Disk interface {
	io.ReaderAt
	io.Closer
	Size() int64 // bytes
	// Holds reports whether a part may contain anything but zeros.
	Holds(offset, length int64) (bool, error)
}

// OpenQCOW2 opens a qcow2 disk without a backing file.
func OpenQCOW2(name string) (Disk, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	img, err := qcow2reader.OpenWithType(f, "qcow2")
	if err == nil {
		err = img.Readable()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open disk %s: %w", name, err), f.Close())
	}
	return qcow2Disk{img}, nil
}

type qcow2Disk struct{ image.Image }

// ReadAt implements io.ReaderAt. Unlike a file, the library returns io.EOF
// together with the last bytes.
func (d qcow2Disk) ReadAt(p []byte, offset int64) (int, error) {
	n, err := d.Image.ReadAt(p, offset)
	if n == len(p) && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// Holds implements Disk.
func (d qcow2Disk) Holds(offset, length int64) (bool, error) {
	for end := offset + length; offset < end; {
		e, err := d.Extent(offset, end-offset)
		if err != nil {
			return false, err
		}
		if e.Length <= 0 {
			return false, fmt.Errorf("the disk has an extent of %d bytes at %d", e.Length, e.Start)
		}
		if e.Allocated && !e.Zero {
			return true, nil
		}
		offset += e.Length
	}
	return false, nil
}

// OpenRaw opens a raw disk, whose holes are zeros. With remove it deletes the
// file's name, so that its space is freed when the disk is closed.
func OpenRaw(name string, remove bool) (Disk, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && remove {
		err = os.Remove(name)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open disk %s: %w", name, err), f.Close())
	}
	return rawDisk{f, info.Size()}, nil
}

type rawDisk struct {
	*os.File
	size int64
}

func (d rawDisk) Size() int64 { return d.size }

// Holds implements Disk. On a file system without holes it is always true.
func (d rawDisk) Holds(offset, length int64) (bool, error) {
	at, err := unix.Seek(int(d.Fd()), offset, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) { // only a hole from there to the end
		return false, nil
	}
	return err != nil || at < offset+length, nil
}
