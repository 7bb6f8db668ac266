package snapshot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// kind is the kind of a file.
type kind int

const (
	other kind = iota // devices, pipes, sockets
	directory
	regular
	symlink
)

// fileKind returns the kind in the mode of an inode.
func fileKind(mode uint16) kind {
	switch mode & 0xF000 {
	case 0x4000:
		return directory
	case 0x8000:
		return regular
	case 0xA000:
		return symlink
	}
	return other
}

// node is an inode.
type node struct {
	number uint64
	kind   kind
	size   uint64
	raw    []byte // as it is on the disk
}

// entry is an entry of a directory.
type entry struct {
	name  string
	inode uint64
}

// fileSystem is one file system on a disk.
type fileSystem interface {
	// root returns the number of the root directory's inode.
	root() uint64
	// inode reads an inode that a directory names.
	inode(number uint64) (node, error)
	// entries reads a directory, without "." and "..".
	entries(dir node) ([]entry, error)
	// content reads a regular file or the target of a symbolic link. The caller
	// must check the size first.
	content(of node) ([]byte, error)
}

// disk is the whole disk or a part of it. It counts what is read.
type disk struct {
	r    io.ReaderAt
	size int64
	use  *usage
}

// Limits restricts how much is read from one disk, because a hostile disk can
// describe far more than it holds. Exceeding a limit is an error.
type Limits struct {
	Bytes   int64  // read from the disk; a byte that is read twice counts twice
	Entries int    // directory entries
	File    int64  // bytes of one file
	Links   int    // symbolic links in one path
	Depth   int    // nested directories
	Extents int    // extents of one file
	Parts   uint32 // partitions
}

// DefaultLimits are several times what the images of distributions need.
func DefaultLimits() Limits {
	return Limits{Bytes: 4 << 30, Entries: 1_000_000, File: 16 << 20, Links: 40, Depth: 64, Extents: 20_000, Parts: 256}
}

// usage counts what was read so far.
type usage struct {
	limits  Limits
	bytes   int64
	entries int
}

var errLimit = errors.New("limit exceeded")

func (u *usage) read(n int64) error {
	if u.bytes += n; u.bytes > u.limits.Bytes {
		return fmt.Errorf("more than %d MiB were read: %w", u.limits.Bytes>>20, errLimit)
	}
	return nil
}

func (u *usage) list(n int) error {
	if u.entries += n; u.entries > u.limits.Entries {
		return fmt.Errorf("more than %d directory entries were read: %w", u.limits.Entries, errLimit)
	}
	return nil
}

// at reads exactly n bytes at an offset.
func (d disk) at(offset, n int64) ([]byte, error) {
	if offset < 0 || n < 0 || offset > d.size || n > d.size-offset {
		return nil, fmt.Errorf("%d bytes at offset %d are outside the volume of %d bytes", n, offset, d.size)
	}
	if err := d.use.read(n); err != nil {
		return nil, err
	}
	b := make([]byte, n)
	if got, err := d.r.ReadAt(b, offset); got < len(b) {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read %d bytes at offset %d: %w", n, offset, err)
	}
	return b, nil
}

// part returns a part of the disk.
func (d disk) part(offset, size int64) (disk, error) {
	if offset < 0 || size <= 0 || offset > d.size || size > d.size-offset {
		return disk{}, fmt.Errorf("a partition of %d bytes at offset %d is outside the disk of %d bytes", size, offset, d.size)
	}
	return disk{r: io.NewSectionReader(d.r, offset, size), size: size, use: d.use}, nil
}

// run is an extent of a file: blocks that are contiguous in the file and on the disk.
type run struct {
	file   uint64 // first block in the file
	disk   uint64 // first block on the disk
	blocks uint64
	zeros  bool // allocated, but never written
}

// runs holds the extents of a file, in order and without overlap.
type runs []run

// add appends an extent and refuses one that no kernel writes.
func (rs *runs) add(r run, limit int) error {
	all := *rs
	if len(all) >= limit {
		return fmt.Errorf("a file with more than %d extents: %w", limit, errLimit)
	}
	if len(all) > 0 {
		if last := all[len(all)-1]; r.file < last.file+last.blocks {
			return fmt.Errorf("extents of a file overlap at block %d", r.file)
		}
	}
	*rs = append(all, r)
	return nil
}

// read reads size bytes of a file with these extents; holes are zeros.
func (rs runs) read(d disk, size, blockSize uint64) ([]byte, error) {
	out := make([]byte, size)
	for _, r := range rs {
		start := r.file * blockSize
		if r.zeros || start >= size {
			continue
		}
		n := min(r.blocks*blockSize, size-start)
		b, err := d.at(int64(r.disk*blockSize), int64(n))
		if err != nil {
			return nil, err
		}
		copy(out[start:], b)
	}
	return out, nil
}

// checkName refuses names that no kernel writes.
func checkName(name string) error {
	if name == "" || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("a directory has an entry with the impossible name %q", name)
	}
	return nil
}

var (
	le = binary.LittleEndian
	be = binary.BigEndian
)
