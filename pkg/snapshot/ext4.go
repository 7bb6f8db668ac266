package snapshot

import (
	"errors"
	"fmt"
)

// Features of ext4 that change how it is read. A file system with any other
// incompatible feature is refused.
const (
	ext4Filetype = 0x2
	ext4Recover  = 0x4
	ext4MetaBG   = 0x10
	ext4Extents  = 0x40
	ext464bit    = 0x80
	ext4MMP      = 0x100
	ext4FlexBG   = 0x200
	ext4EAInode  = 0x400
	ext4CsumSeed = 0x2000
	ext4LargeDir = 0x4000

	ext4Known = ext4Filetype | ext4MetaBG | ext4Extents | ext464bit | ext4MMP | ext4FlexBG | ext4EAInode | ext4CsumSeed | ext4LargeDir

	// Read-only compatible features: a kernel that does not know one of them mounts
	// the file system read-only.
	ext4SparseSuper = 0x1
	ext4KnownRO     = ext4SparseSuper | 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x40 | 0x100 | 0x400 | 0x1000 | 0x2000 | 0x8000 | 0x10000

	ext4HasJournal   = 0x4    // a compatible feature
	ext4SparseSuper2 = 0x200  // a compatible feature
	ext4Magic        = 0xEF53 // at offset 56 of the superblock
)

// Flags of inodes.
const (
	inodeCompressed = 0x4
	inodeEncrypted  = 0x800
	inodeExtents    = 0x80000
	inodeInline     = 0x10000000
	inodeCasefold   = 0x40000000
)

type ext4 struct {
	d              disk
	blockSize      uint64
	blocks         uint64
	inodes         uint64
	firstBlock     uint64
	blocksPerGroup uint64
	inodesPerGroup uint64
	inodeSize      uint64
	descSize       uint64
	metaBG         bool
	firstMetaBG    uint64
	sparse         bool
	eaInode        bool
	tables         map[uint64]uint64 // block of the inode table by group
}

// isExt4 reports whether the disk has a superblock of the ext family.
func isExt4(d disk) (bool, error) {
	if d.size < 2048 {
		return false, nil
	}
	sb, err := d.at(1024, 1024)
	return err == nil && le.Uint16(sb[56:]) == ext4Magic, err
}

// openExt4 reads the superblock and refuses what cannot be read reliably.
func openExt4(d disk) (*ext4, error) {
	sb, err := d.at(1024, 1024)
	if err != nil {
		return nil, err
	}
	u32 := func(at int) uint64 { return uint64(le.Uint32(sb[at:])) }
	u16 := func(at int) uint64 { return uint64(le.Uint16(sb[at:])) }
	compat, incompat, ro := uint32(u32(92)), uint32(u32(96)), uint32(u32(100))
	switch {
	case u32(76) == 0:
		return nil, errors.New("ext4: revision 0, which is not supported")
	case incompat&ext4Recover != 0:
		return nil, errors.New("ext4: the journal was not replayed (needs_recovery), so a boot would change the files")
	case incompat&^uint32(ext4Known) != 0:
		return nil, fmt.Errorf("ext4: incompatible features 0x%x, which are not supported", incompat&^uint32(ext4Known))
	case incompat&ext4Filetype == 0:
		return nil, errors.New("ext4: directories without file types, which are not supported")
	case ro&^uint32(ext4KnownRO) != 0:
		return nil, fmt.Errorf("ext4: features 0x%x, which are not supported", ro&^uint32(ext4KnownRO))
	case u16(58)&1 == 0 || u16(58)&2 != 0:
		return nil, errors.New("ext4: it was not unmounted cleanly, or has errors, so a check at boot would change the files")
	case u32(24) > 6:
		return nil, fmt.Errorf("ext4: blocks of 2^%d KiB, which are not supported", u32(24))
	}
	f := &ext4{
		d: d, blockSize: 1024 << u32(24), blocks: u32(4), inodes: u32(0), firstBlock: u32(20), blocksPerGroup: u32(32), inodesPerGroup: u32(40),
		inodeSize: u16(88), descSize: 32, metaBG: incompat&ext4MetaBG != 0, firstMetaBG: u32(260),
		sparse: ro&ext4SparseSuper != 0, eaInode: incompat&ext4EAInode != 0, tables: map[uint64]uint64{},
	}
	if incompat&ext464bit != 0 {
		f.blocks |= u32(336) << 32
		f.descSize = u16(254)
	}
	switch {
	case f.blocksPerGroup == 0 || f.inodesPerGroup == 0 || f.blocks <= f.firstBlock:
		return nil, errors.New("ext4: the superblock is damaged: no block groups")
	case f.inodeSize < 128 || f.inodeSize > f.blockSize || f.inodeSize&(f.inodeSize-1) != 0:
		return nil, fmt.Errorf("ext4: the superblock is damaged: inodes of %d bytes", f.inodeSize)
	case f.descSize < 32 || f.descSize > f.blockSize || f.descSize&(f.descSize-1) != 0 || incompat&ext464bit != 0 && f.descSize < 64:
		return nil, fmt.Errorf("ext4: the superblock is damaged: group descriptors of %d bytes", f.descSize)
	case f.blocks > uint64(d.size)/f.blockSize:
		return nil, fmt.Errorf("ext4: it has %d blocks of %d bytes, more than its volume of %d bytes", f.blocks, f.blockSize, d.size)
	case f.metaBG && compat&ext4SparseSuper2 != 0:
		return nil, errors.New("ext4: the features meta_bg and sparse_super2 together are not supported")
	}
	if compat&ext4HasJournal != 0 {
		if err := f.journalIsEmpty(u32(224)); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// journalIsEmpty refuses a journal that a file system check at boot would
// replay, whatever the superblock says.
func (f *ext4) journalIsEmpty(number uint64) error {
	if number == 0 {
		return errors.New("ext4: its journal is on another volume, which is not supported")
	}
	n, err := f.load(number)
	if err != nil {
		return fmt.Errorf("ext4: read the journal: %w", err)
	}
	pieces, err := f.runs(n)
	if err != nil {
		return fmt.Errorf("ext4: read the journal: %w", err)
	}
	if len(pieces) == 0 || pieces[0].file != 0 || pieces[0].zeros {
		return errors.New("ext4: the journal has no superblock")
	}
	b, err := f.d.at(int64(pieces[0].disk*f.blockSize), 1024)
	if err != nil {
		return err
	}
	if be.Uint32(b) != 0xC03B3998 {
		return errors.New("ext4: the journal has no superblock")
	}
	if be.Uint32(b[28:]) != 0 {
		return errors.New("ext4: the journal is not empty, so a check at boot would change the files")
	}
	return nil
}

func (f *ext4) root() uint64 { return 2 }

// hasSuper reports whether a group begins with a copy of the superblock.
func (f *ext4) hasSuper(group uint64) bool {
	if !f.sparse || group <= 1 {
		return true
	}
	for _, base := range []uint64{3, 5, 7} {
		for power := base; power <= group; power *= base {
			if power == group {
				return true
			}
		}
	}
	return false
}

// table returns the first block of a group's inode table.
func (f *ext4) table(group uint64) (uint64, error) {
	if block, ok := f.tables[group]; ok {
		return block, nil
	}
	perBlock := f.blockSize / f.descSize
	block := f.firstBlock + 1 + group/perBlock
	if meta := group / perBlock; f.metaBG && meta >= f.firstMetaBG {
		first := meta * perBlock
		block = f.firstBlock + first*f.blocksPerGroup
		if f.hasSuper(first) {
			block++
		}
	}
	b, err := f.d.at(int64(block*f.blockSize+group%perBlock*f.descSize), int64(f.descSize))
	if err != nil {
		return 0, err
	}
	at := uint64(le.Uint32(b[8:]))
	if f.descSize >= 64 {
		at |= uint64(le.Uint32(b[40:])) << 32
	}
	if at <= f.firstBlock || at >= f.blocks {
		return 0, fmt.Errorf("the inodes of group %d are outside the file system", group)
	}
	f.tables[group] = at
	return at, nil
}

func (f *ext4) inode(number uint64) (node, error) {
	if number != f.root() && number < 11 {
		return node{}, fmt.Errorf("a directory names the reserved inode %d", number)
	}
	return f.load(number)
}

func (f *ext4) load(number uint64) (node, error) {
	if number == 0 || number > f.inodes {
		return node{}, fmt.Errorf("inode %d does not exist", number)
	}
	group, index := (number-1)/f.inodesPerGroup, (number-1)%f.inodesPerGroup
	if group > (f.blocks-f.firstBlock-1)/f.blocksPerGroup {
		return node{}, fmt.Errorf("inode %d is in a group that does not exist", number)
	}
	table, err := f.table(group)
	if err != nil {
		return node{}, err
	}
	raw, err := f.d.at(int64(table*f.blockSize+index*f.inodeSize), int64(f.inodeSize))
	if err != nil {
		return node{}, err
	}
	n := node{number: number, kind: fileKind(le.Uint16(raw)), size: uint64(le.Uint32(raw[4:])) | uint64(le.Uint32(raw[108:]))<<32, raw: raw}
	if le.Uint16(raw[26:]) == 0 {
		return node{}, fmt.Errorf("inode %d is deleted, but a directory names it", number)
	}
	if bad := le.Uint32(raw[32:]) & (inodeCompressed | inodeEncrypted | inodeInline | inodeCasefold); bad != 0 {
		return node{}, fmt.Errorf("inode %d has flags 0x%x, which are not supported", number, bad)
	}
	if n.size > 1<<46 {
		return node{}, fmt.Errorf("inode %d has an impossible size of %d bytes", number, n.size)
	}
	return n, nil
}

// runs returns the extents of a file.
func (f *ext4) runs(n node) (runs, error) {
	var out runs
	var err error
	if le.Uint32(n.raw[32:])&inodeExtents != 0 {
		err = f.extents(n.raw[40:100], -1, &out)
	} else {
		err = f.blockMap(n, &out)
	}
	return out, err
}

// extents reads a node of the extent tree. It must have the given depth; -1 means any.
func (f *ext4) extents(b []byte, depth int, out *runs) error {
	if le.Uint16(b) != 0xF30A {
		return errors.New("a node of an extent tree has no magic number")
	}
	entries, limit, own := int(le.Uint16(b[2:])), int(le.Uint16(b[4:])), int(le.Uint16(b[6:]))
	if own > 5 || depth >= 0 && own != depth || entries > limit || 12+12*entries > len(b) {
		return errors.New("an extent tree is damaged")
	}
	for i := range entries {
		e := b[12+12*i:]
		if own > 0 {
			block := uint64(le.Uint32(e[4:])) | uint64(le.Uint16(e[8:]))<<32
			if block >= f.blocks {
				return errors.New("an extent tree points outside the file system")
			}
			if len(*out) >= f.d.use.limits.Extents {
				return fmt.Errorf("a file with more than %d extents: %w", len(*out), errLimit)
			}
			child, err := f.d.at(int64(block*f.blockSize), int64(f.blockSize))
			if err != nil {
				return err
			}
			if err := f.extents(child, own-1, out); err != nil {
				return err
			}
			continue
		}
		r := run{file: uint64(le.Uint32(e)), blocks: uint64(le.Uint16(e[4:])), disk: uint64(le.Uint32(e[8:])) | uint64(le.Uint16(e[6:]))<<32}
		if r.blocks > 32768 { // allocated and not written; 32768 itself is written
			r.blocks, r.zeros = r.blocks-32768, true
		}
		if r.blocks == 0 || r.disk <= f.firstBlock || r.disk+r.blocks > f.blocks {
			return errors.New("an extent is outside the file system")
		}
		if err := out.add(r, f.d.use.limits.Extents); err != nil {
			return err
		}
	}
	return nil
}

// blockMap reads the direct and indirect blocks of a file without extents.
func (f *ext4) blockMap(n node, out *runs) error {
	last := (n.size + f.blockSize - 1) / f.blockSize
	next := uint64(0)
	add := func(block uint64) error {
		defer func() { next++ }()
		if block == 0 || next >= last {
			return nil
		}
		if block <= f.firstBlock || block >= f.blocks {
			return errors.New("a block of a file is outside the file system")
		}
		if all := *out; len(all) > 0 {
			if p := &all[len(all)-1]; p.file+p.blocks == next && p.disk+p.blocks == block {
				p.blocks++
				return nil
			}
		}
		return out.add(run{file: next, disk: block, blocks: 1}, f.d.use.limits.Extents)
	}
	perBlock := f.blockSize / 4
	var indirect func(block uint64, level int) error
	indirect = func(block uint64, level int) error {
		if level == 0 {
			return add(block)
		}
		covers := uint64(1)
		for range level {
			covers *= perBlock
		}
		if block == 0 {
			next += covers
			return nil
		}
		if block <= f.firstBlock || block >= f.blocks {
			return errors.New("a list of blocks is outside the file system")
		}
		b, err := f.d.at(int64(block*f.blockSize), int64(f.blockSize))
		if err != nil {
			return err
		}
		for i := range perBlock {
			if next >= last {
				return nil
			}
			if err := indirect(uint64(le.Uint32(b[4*i:])), level-1); err != nil {
				return err
			}
		}
		return nil
	}
	for i := range 15 {
		if next >= last {
			break
		}
		if err := indirect(uint64(le.Uint32(n.raw[40+4*i:])), max(0, i-11)); err != nil {
			return err
		}
	}
	return nil
}

func (f *ext4) content(n node) ([]byte, error) {
	if n.kind == symlink {
		return f.target(n)
	}
	pieces, err := f.runs(n)
	if err != nil {
		return nil, err
	}
	return pieces.read(f.d, n.size, f.blockSize)
}

// target returns the target of a symbolic link. A short target is in the inode.
// Some kernels recognise it by its size and others by its number of blocks, so
// both must agree.
func (f *ext4) target(n node) ([]byte, error) {
	blocks := uint64(le.Uint32(n.raw[28:]))
	if le.Uint32(n.raw[104:]) != 0 && !f.eaInode { // a block of extended attributes
		blocks -= min(blocks, f.blockSize/512)
	}
	inside := n.size > 0 && n.size < 60 && le.Uint32(n.raw[32:])&inodeExtents == 0
	if !f.eaInode && inside != (blocks == 0) {
		return nil, fmt.Errorf("the symbolic link of inode %d is damaged", n.number)
	}
	if inside {
		return n.raw[40 : 40+n.size], nil
	}
	pieces, err := f.runs(n)
	if err != nil {
		return nil, err
	}
	return pieces.read(f.d, n.size, f.blockSize)
}

// entries reads all blocks of a directory in order. Read this way, the nodes of
// an index look like empty blocks.
func (f *ext4) entries(dir node) ([]entry, error) {
	pieces, err := f.runs(dir)
	if err != nil {
		return nil, err
	}
	if dir.size == 0 || dir.size%f.blockSize != 0 {
		return nil, fmt.Errorf("directory of inode %d has an impossible size of %d bytes", dir.number, dir.size)
	}
	var out []entry
	next := uint64(0)
	for _, piece := range pieces {
		if piece.file != next || piece.zeros {
			return nil, fmt.Errorf("directory of inode %d has a hole", dir.number)
		}
		for i := range piece.blocks {
			if (next+1)*f.blockSize > dir.size {
				return nil, fmt.Errorf("directory of inode %d has blocks beyond its end", dir.number)
			}
			b, err := f.d.at(int64((piece.disk+i)*f.blockSize), int64(f.blockSize))
			if err != nil {
				return nil, err
			}
			found, err := ext4Entries(b)
			if err != nil {
				return nil, fmt.Errorf("directory of inode %d: %w", dir.number, err)
			}
			if err := f.d.use.list(len(found)); err != nil {
				return nil, err
			}
			out = append(out, found...)
			next++
		}
	}
	if next*f.blockSize != dir.size {
		return nil, fmt.Errorf("directory of inode %d has a hole", dir.number)
	}
	return out, nil
}

// ext4Entries reads one block of a directory.
func ext4Entries(b []byte) ([]entry, error) {
	var out []entry
	for at := 0; at < len(b); {
		if len(b)-at < 8 {
			return nil, errors.New("an entry is cut off")
		}
		inode, length, name := le.Uint32(b[at:]), int(le.Uint16(b[at+4:])), int(b[at+6])
		if len(b) == 65536 && (length == 0 || length == 65535) {
			length = 65536
		}
		if length < 8 || length%4 != 0 || length > len(b)-at || 8+name > length {
			return nil, errors.New("an entry has an impossible length")
		}
		if inode != 0 {
			e := entry{name: string(b[at+8 : at+8+name]), inode: uint64(inode)}
			if err := checkName(e.name); err != nil {
				return nil, err
			}
			if e.name != "." && e.name != ".." {
				out = append(out, e)
			}
		}
		at += length
	}
	return out, nil
}
