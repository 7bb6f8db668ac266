package snapshot

import (
	"errors"
	"fmt"
)

const (
	xfsMagic = "XFSB"
	// Incompatible features that are read: ftype, spinodes, meta_uuid, bigtime,
	// nrext64, exchrange, parent. Not needsrepair (0x10) nor metadir (0x100).
	xfsKnown      = 0x1 | 0x2 | 0x4 | 0x8 | 0x20 | 0x40 | 0x80
	xfsFtype      = 0x1
	xfsInodeCore  = 176 // bytes of an inode of version 3 before its forks
	xfsRealtime   = 0x1 // flag of an inode
	xfsNrext64    = 0x10
	xfsDirLeaves  = 32 << 30 // offset in a directory from which it contains indexes
	xfsDirFree    = 64 << 30 // and from which it contains lists of free space
	xfsBtreeBlock = 72       // header of a block of an extent tree
)

// Formats of a fork.
const (
	xfsLocal   = 1
	xfsExtents = 2
	xfsBtree   = 3
)

type xfs struct {
	d         disk
	blockSize uint64
	blockLog  uint64
	dirBlock  uint64
	rootInode uint64
	agBlocks  uint64
	agCount   uint64
	agBlkLog  uint64
	inopLog   uint64
	inodeSize uint64
	sector    uint64
	logStart  uint64
	logBlocks uint64
}

func isXFS(d disk) (bool, error) {
	if d.size < 512 {
		return false, nil
	}
	b, err := d.at(0, 4)
	return string(b) == xfsMagic, err
}

// openXFS reads the superblock and the log, and refuses what cannot be read
// reliably.
func openXFS(d disk) (*xfs, error) {
	sb, err := d.at(0, 512)
	if err != nil {
		return nil, err
	}
	u32 := func(at int) uint64 { return uint64(be.Uint32(sb[at:])) }
	f := &xfs{
		d: d, blockSize: u32(4), rootInode: be.Uint64(sb[56:]), agBlocks: u32(84), agCount: u32(88), logBlocks: u32(96), logStart: be.Uint64(sb[48:]),
		sector: uint64(be.Uint16(sb[102:])), inodeSize: uint64(be.Uint16(sb[104:])),
		blockLog: uint64(sb[120]), inopLog: uint64(sb[123]), agBlkLog: uint64(sb[124]),
	}
	incompat := uint32(u32(216))
	switch {
	case be.Uint16(sb[100:])&0xF != 5:
		return nil, fmt.Errorf("xfs: version %d, only 5 is supported", be.Uint16(sb[100:])&0xF)
	case incompat&^uint32(xfsKnown) != 0:
		return nil, fmt.Errorf("xfs: incompatible features 0x%x, which are not supported", incompat&^uint32(xfsKnown))
	case incompat&xfsFtype == 0:
		return nil, errors.New("xfs: directories without file types, which are not supported")
	case sb[126] != 0:
		return nil, errors.New("xfs: its creation was not finished")
	case f.blockLog < 9 || f.blockLog > 16 || f.blockSize != 1<<f.blockLog || sb[192] > 7 || f.blockSize<<sb[192] > 1<<16:
		return nil, fmt.Errorf("xfs: the superblock is damaged: blocks of %d bytes", f.blockSize)
	case f.inodeSize < 256 || f.inodeSize > 2048 || f.inodeSize<<f.inopLog != f.blockSize:
		return nil, fmt.Errorf("xfs: the superblock is damaged: inodes of %d bytes", f.inodeSize)
	case f.agBlkLog > 31 || f.agBlocks == 0 || f.agBlocks > 1<<f.agBlkLog || f.agCount == 0:
		return nil, errors.New("xfs: the superblock is damaged: no allocation groups")
	case be.Uint64(sb[8:]) > uint64(d.size)/f.blockSize:
		return nil, fmt.Errorf("xfs: it has %d blocks of %d bytes, more than its volume of %d bytes", be.Uint64(sb[8:]), f.blockSize, d.size)
	case f.sector < 512 || f.sector > f.blockSize || f.sector&(f.sector-1) != 0:
		return nil, fmt.Errorf("xfs: the superblock is damaged: sectors of %d bytes", f.sector)
	case f.logStart == 0:
		return nil, errors.New("xfs: its log is on another volume, which is not supported")
	}
	f.dirBlock = f.blockSize << sb[192]
	return f, f.logIsClean()
}

func (f *xfs) root() uint64 { return f.rootInode }

// offset returns the offset of a block. The upper bits of its number are the
// number of the allocation group.
func (f *xfs) offset(block uint64) (int64, error) {
	group, in := block>>f.agBlkLog, block&(1<<f.agBlkLog-1)
	if group >= f.agCount || in >= f.agBlocks {
		return 0, fmt.Errorf("block 0x%x is outside the file system", block)
	}
	return int64((group*f.agBlocks + in) * f.blockSize), nil
}

func (f *xfs) inode(number uint64) (node, error) {
	at, err := f.offset(number >> f.inopLog)
	if err != nil {
		return node{}, fmt.Errorf("inode %d does not exist: %w", number, err)
	}
	raw, err := f.d.at(at+int64((number&(1<<f.inopLog-1))*f.inodeSize), int64(f.inodeSize))
	if err != nil {
		return node{}, err
	}
	n := node{number: number, kind: fileKind(be.Uint16(raw[2:])), size: be.Uint64(raw[56:]), raw: raw}
	switch {
	case string(raw[:2]) != "IN" || raw[4] != 3 || be.Uint64(raw[152:]) != number:
		return node{}, fmt.Errorf("inode %d does not exist at the place that a directory names", number)
	case be.Uint32(raw[16:]) == 0:
		return node{}, fmt.Errorf("inode %d is deleted, but a directory names it", number)
	case be.Uint16(raw[90:])&xfsRealtime != 0:
		return node{}, fmt.Errorf("inode %d is on a realtime device, which is not supported", number)
	case n.size > 1<<46:
		return node{}, fmt.Errorf("inode %d has an impossible size of %d bytes", number, n.size)
	}
	return n, nil
}

// fork returns the part of the inode that describes where the data are.
func (f *xfs) fork(n node) ([]byte, error) {
	b := n.raw[xfsInodeCore:]
	if end := int(n.raw[82]) * 8; end != 0 {
		if end > len(b) {
			return nil, fmt.Errorf("inode %d is damaged: its attributes begin outside it", n.number)
		}
		b = b[:end]
	}
	return b, nil
}

// runs returns the extents of a file whose data are not in the inode.
func (f *xfs) runs(n node) (runs, error) {
	fork, err := f.fork(n)
	if err != nil {
		return nil, err
	}
	var out runs
	switch n.raw[5] {
	case xfsExtents:
		count := uint64(be.Uint32(n.raw[76:]))
		if be.Uint64(n.raw[120:])&xfsNrext64 != 0 {
			count = be.Uint64(n.raw[24:])
		}
		if count > uint64(len(fork)/16) {
			return nil, fmt.Errorf("inode %d is damaged: %d extents do not fit into it", n.number, count)
		}
		err = f.records(fork[:16*count], &out)
	case xfsBtree:
		level, count := int(be.Uint16(fork)), int(be.Uint16(fork[2:]))
		limit := (len(fork) - 4) / 16
		if level < 1 || level > 8 || count > limit {
			return nil, fmt.Errorf("inode %d is damaged: its extent tree is invalid", n.number)
		}
		err = f.children(fork[4+8*limit:], count, level, &out)
	default:
		return nil, fmt.Errorf("inode %d has data of the format %d, which is not supported", n.number, n.raw[5])
	}
	return out, err
}

// records appends the extents of a leaf.
func (f *xfs) records(b []byte, out *runs) error {
	for ; len(b) >= 16; b = b[16:] {
		high, low := be.Uint64(b), be.Uint64(b[8:])
		r := run{file: high << 1 >> 10, blocks: low & (1<<21 - 1), zeros: high>>63 != 0}
		block := high<<55>>12 | low>>21
		if r.blocks == 0 {
			return errors.New("an extent of a file is empty")
		}
		if (block&(1<<f.agBlkLog-1))+r.blocks > f.agBlocks {
			return errors.New("an extent of a file goes beyond its allocation group")
		}
		at, err := f.offset(block)
		if err != nil {
			return err
		}
		r.disk = uint64(at) / f.blockSize
		if err := out.add(r, f.d.use.limits.Extents); err != nil {
			return err
		}
	}
	return nil
}

// children reads the blocks to which a node of an extent tree points.
func (f *xfs) children(pointers []byte, count, level int, out *runs) error {
	for i := range count {
		if len(*out) >= f.d.use.limits.Extents {
			return fmt.Errorf("a file with more than %d extents: %w", len(*out), errLimit)
		}
		at, err := f.offset(be.Uint64(pointers[8*i:]))
		if err != nil {
			return err
		}
		b, err := f.d.at(at, int64(f.blockSize))
		if err != nil {
			return err
		}
		entries := int(be.Uint16(b[6:]))
		limit := (len(b) - xfsBtreeBlock) / 16
		if string(b[:4]) != "BMA3" || int(be.Uint16(b[4:])) != level-1 || entries > limit {
			return errors.New("an extent tree is damaged")
		}
		if level == 1 {
			err = f.records(b[xfsBtreeBlock:xfsBtreeBlock+16*entries], out)
		} else {
			err = f.children(b[xfsBtreeBlock+8*limit:], entries, level-1, out)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *xfs) content(n node) ([]byte, error) {
	if n.kind == symlink {
		return f.target(n)
	}
	pieces, err := f.runs(n)
	if err != nil {
		return nil, err
	}
	return pieces.read(f.d, n.size, f.blockSize)
}

// target returns the target of a symbolic link, which is in the inode or in
// blocks with headers.
func (f *xfs) target(n node) ([]byte, error) {
	if n.size > 1024 {
		return nil, fmt.Errorf("the symbolic link of inode %d has %d bytes", n.number, n.size)
	}
	if n.raw[5] == xfsLocal {
		fork, err := f.fork(n)
		if err != nil {
			return nil, err
		}
		if n.size > uint64(len(fork)) {
			return nil, fmt.Errorf("the symbolic link of inode %d is damaged", n.number)
		}
		return fork[:n.size], nil
	}
	pieces, err := f.runs(n)
	if err != nil {
		return nil, err
	}
	const header = 56
	var out []byte
	for _, p := range pieces {
		b, err := f.d.at(int64(p.disk*f.blockSize), int64(min(p.blocks, 3)*f.blockSize))
		if err != nil {
			return nil, err
		}
		for ; len(b) >= int(f.blockSize) && uint64(len(out)) < n.size; b = b[f.blockSize:] {
			length := uint64(be.Uint32(b[8:]))
			if string(b[:4]) != "XSLM" || length > f.blockSize-header || uint64(be.Uint32(b[4:])) != uint64(len(out)) {
				return nil, fmt.Errorf("the symbolic link of inode %d is damaged", n.number)
			}
			out = append(out, b[header:header+length]...)
		}
	}
	if uint64(len(out)) != n.size {
		return nil, fmt.Errorf("the symbolic link of inode %d is damaged", n.number)
	}
	return out, nil
}

func (f *xfs) entries(dir node) ([]entry, error) {
	out, err := f.listing(dir)
	if err != nil {
		return nil, fmt.Errorf("directory of inode %d: %w", dir.number, err)
	}
	return out, f.d.use.list(len(out))
}

func (f *xfs) listing(dir node) ([]entry, error) {
	if dir.raw[5] == xfsLocal {
		fork, err := f.fork(dir)
		if err != nil {
			return nil, err
		}
		if dir.size > uint64(len(fork)) {
			return nil, errors.New("it does not fit into its inode")
		}
		return xfsShortEntries(fork[:dir.size])
	}
	pieces, err := f.runs(dir)
	if err != nil {
		return nil, err
	}
	// After the data come indexes, which a kernel searches. They point to entries
	// in data blocks, and all data blocks are read here.
	data := dir.size
	if data == 0 || data%f.dirBlock != 0 || data > xfsDirLeaves {
		return nil, fmt.Errorf("it has an impossible size of %d bytes", data)
	}
	list := xfsListing{places: map[uint64]bool{}}
	perDir := f.dirBlock / f.blockSize
	var block []byte
	next := uint64(0)
	for _, p := range pieces {
		for i := range p.blocks {
			at := p.file + i
			if p.zeros {
				return nil, errors.New("it has a block that was never written")
			}
			if len(block) == 0 && at%perDir != 0 || len(block) > 0 && at != next {
				return nil, errors.New("it has a hole in a block")
			}
			b, err := f.d.at(int64((p.disk+i)*f.blockSize), int64(f.blockSize))
			if err != nil {
				return nil, err
			}
			block, next = append(block, b...), at+1
			if uint64(len(block)) < f.dirBlock {
				continue
			}
			start := (at+1)*f.blockSize - f.dirBlock
			switch {
			case start < xfsDirLeaves:
				err = list.data(block, start)
			case start < xfsDirFree:
				err = list.leaf(block)
			case string(block[:4]) != "XDF3":
				err = errors.New("a block of the list of free space has an unknown magic number")
			}
			if err != nil {
				return nil, err
			}
			if len(list.entries) > f.d.use.limits.Entries {
				return nil, fmt.Errorf("more than %d directory entries: %w", f.d.use.limits.Entries, errLimit)
			}
			block = block[:0]
		}
	}
	if len(block) > 0 {
		return nil, errors.New("its last block is cut off")
	}
	return list.entries, nil
}

// xfsListing collects the entries of a directory of several blocks. A kernel
// finds a name by the index, which could point to an entry that a listing does
// not see, in the middle of other data. So each address in the index must be
// that of a listed entry.
type xfsListing struct {
	entries []entry
	places  map[uint64]bool // offset in the directory, by 8
}

// indexed checks entries of an index: a hash and an address, 4 bytes each.
func (l *xfsListing) indexed(b []byte) error {
	for ; len(b) >= 8; b = b[8:] {
		if at := uint64(be.Uint32(b[4:])); at != 0 && !l.places[at] {
			return fmt.Errorf("its index points to offset %d, where no entry begins", 8*at)
		}
	}
	return nil
}

// leaf checks a block of the index.
func (l *xfsListing) leaf(b []byte) error {
	const header = 64
	switch be.Uint16(b[8:]) {
	case 0x3EBE: // a node above leaves
		return nil
	case 0x3DF1, 0x3DFF:
		count := int(be.Uint16(b[56:]))
		if header+8*count > len(b) {
			return errors.New("a block of its index is damaged")
		}
		return l.indexed(b[header : header+8*count])
	}
	return errors.New("a block of its index has an unknown magic number")
}

// xfsShortEntries reads a directory that is in its inode.
func xfsShortEntries(b []byte) ([]entry, error) {
	damaged := errors.New("it is damaged")
	if len(b) < 6 {
		return nil, damaged
	}
	count, wide := int(b[0]), b[1] != 0
	width := 4
	if wide {
		width = 8
	}
	if len(b) < 2+width {
		return nil, damaged
	}
	b = b[2+width:]
	var out []entry
	for range count {
		if len(b) < 3 {
			return nil, damaged
		}
		length := int(b[0])
		if len(b) < 3+length+1+width {
			return nil, damaged
		}
		e := entry{name: string(b[3 : 3+length])}
		if at := b[4+length:]; wide {
			e.inode = be.Uint64(at) & (1<<56 - 1)
		} else {
			e.inode = uint64(be.Uint32(at))
		}
		if err := checkName(e.name); err != nil {
			return nil, err
		}
		out, b = append(out, e), b[4+length+width:]
	}
	if len(b) > 0 {
		return nil, damaged
	}
	return out, nil
}

// data reads one block of entries, which begins start bytes into the directory.
func (l *xfsListing) data(b []byte, start uint64) error {
	const header = 64
	end := len(b)
	var index []byte
	switch string(b[:4]) {
	case "XDD3":
	case "XDB3": // the only block of a directory, with the index at its end
		count := int64(be.Uint32(b[end-8:]))
		if count > int64(end-8-header)/8 {
			return errors.New("a block has an impossible index")
		}
		index = b[end-8-8*int(count) : end-8]
		end -= 8 + len(index)
	default:
		return errors.New("a block has an unknown magic number")
	}
	for at := header; at < end; {
		if end-at >= 8 && be.Uint16(b[at:]) == 0xFFFF {
			length := int(be.Uint16(b[at+2:]))
			if length < 8 || length%8 != 0 || length > end-at {
				return errors.New("a free area has an impossible length")
			}
			at += length
			continue
		}
		if end-at < 16 {
			return errors.New("an entry is cut off")
		}
		name := int(b[at+8])
		length := (8 + 1 + name + 1 + 2 + 7) &^ 7
		if length > end-at {
			return errors.New("an entry is cut off")
		}
		e := entry{inode: be.Uint64(b[at:]), name: string(b[at+9 : at+9+name])}
		if err := checkName(e.name); err != nil {
			return err
		}
		l.places[(start+uint64(at))/8] = true
		if e.name != "." && e.name != ".." {
			l.entries = append(l.entries, e)
		}
		at += length
	}
	return l.indexed(index)
}
