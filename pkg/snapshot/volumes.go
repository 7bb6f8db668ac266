package snapshot

import (
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
)

// partition is a part of the disk, with its name in errors.
type partition struct {
	name         string
	offset, size int64
	bios         bool // contains code of a boot loader
}

// GUIDs of partition types, in their byte order on disk.
const (
	biosBoot = "4861682149646f6e744e656564454649" // 21686148-6449-6E6F-744E-656564454649
	unused   = "00000000000000000000000000000000"
)

// volume is a file system on the disk.
type volume struct {
	name string
	fs   fileSystem
}

// volumes finds every file system. A partition without one that is not known to
// be harmless is an error: a kernel could be configured to use it as root.
func volumes(d disk) ([]volume, error) {
	parts, err := partitions(d)
	if err != nil {
		return nil, err
	}
	var out []volume
	whole, err := open(d)
	if err != nil {
		return nil, err
	}
	if whole != nil {
		out = append(out, volume{name: "the disk", fs: whole})
	} else if len(parts) == 0 {
		return nil, errors.New("the disk has no partition table and no ext4 or xfs file system")
	}
	for _, p := range parts {
		in, err := d.part(p.offset, p.size)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		fs, err := open(in)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		if fs != nil {
			out = append(out, volume{name: p.name, fs: fs})
			continue
		}
		if err := harmless(in, p); err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return out, nil
}

// open opens a file system. It returns nil if the kind is unknown.
func open(d disk) (fileSystem, error) {
	ext, err := isExt4(d)
	if err != nil {
		return nil, err
	}
	x, err := isXFS(d)
	if err != nil {
		return nil, err
	}
	switch {
	case ext && x:
		return nil, errors.New("it is both ext4 and xfs")
	case ext:
		return openExt4(d)
	case x:
		return openXFS(d)
	}
	return nil, nil
}

// harmless accepts a partition without a file system that could hold a system:
// FAT, swap space, code of a boot loader, and zeros.
func harmless(d disk, p partition) error {
	if p.bios && p.size <= 32<<20 {
		return nil
	}
	b, err := d.at(0, min(d.size, 128<<10))
	if err != nil {
		return err
	}
	if len(b) >= 512 && b[510] == 0x55 && b[511] == 0xAA && (string(b[54:57]) == "FAT" || string(b[82:85]) == "FAT") {
		return nil
	}
	if len(b) >= 4096 && string(b[4086:4096]) == "SWAPSPACE2" {
		return nil
	}
	if strings.Trim(string(b), "\x00") == "" {
		return nil
	}
	return errors.New("it is not ext4, xfs, FAT or swap space, so a system in it cannot be checked")
}

// partitions reads the partition table. The result is empty if the disk has none.
func partitions(d disk) ([]partition, error) {
	if d.size < 1024 {
		return nil, nil
	}
	mbr, err := d.at(0, 512)
	if err != nil {
		return nil, err
	}
	if mbr[510] != 0x55 || mbr[511] != 0xAA {
		return nil, noTable(d)
	}
	var out []partition
	for i := range 4 {
		e := mbr[446+16*i:]
		kind, start, sectors := e[4], int64(le.Uint32(e[8:])), int64(le.Uint32(e[12:]))
		switch {
		case kind == 0xEE:
			return gpt(d)
		case kind == 0 && sectors == 0:
		case kind == 0x05 || kind == 0x0F || kind == 0x85:
			return nil, errors.New("the disk has an extended partition, which is not supported")
		case string(mbr[54:57]) == "FAT" || string(mbr[82:85]) == "FAT":
			return nil, errors.New("the disk is both FAT and partitioned")
		default:
			out = append(out, partition{name: fmt.Sprintf("partition %d", i+1), offset: start * 512, size: sectors * 512})
		}
	}
	return out, nil
}

// noTable refuses a GPT that the MBR does not announce, because some readers use
// it nevertheless.
func noTable(d disk) error {
	b, err := d.at(512, 8)
	if err == nil && string(b) == "EFI PART" {
		return errors.New("the disk has a GUID partition table that its first sector does not announce")
	}
	return err
}

// gpt reads the first GUID partition table. If it is damaged, the disk is
// refused, because a kernel would use the second one.
func gpt(d disk) ([]partition, error) {
	h, err := d.at(512, 512)
	if err != nil {
		return nil, err
	}
	size := le.Uint32(h[12:])
	if string(h[:8]) != "EFI PART" || size < 92 || size > 512 || le.Uint64(h[24:]) != 1 {
		return nil, errors.New("the GUID partition table is damaged")
	}
	sum := le.Uint32(h[16:])
	clear(h[16:20])
	if crc32.ChecksumIEEE(h[:size]) != sum {
		return nil, errors.New("the GUID partition table has a wrong checksum")
	}
	at, count, each := le.Uint64(h[72:]), le.Uint32(h[80:]), le.Uint32(h[84:])
	if count > d.use.limits.Parts || each != 128 || at < 2 || at > uint64(d.size)/512 {
		return nil, fmt.Errorf("a GUID partition table with %d entries of %d bytes is not supported", count, each)
	}
	table, err := d.at(int64(at)*512, int64(count)*int64(each))
	if err != nil {
		return nil, err
	}
	if crc32.ChecksumIEEE(table) != le.Uint32(h[88:]) {
		return nil, errors.New("the entries of the GUID partition table have a wrong checksum")
	}
	var out []partition
	for i := range int(count) {
		e := table[128*i:]
		kind := hex.EncodeToString(e[:16])
		if kind == unused {
			continue
		}
		first, last := le.Uint64(e[32:]), le.Uint64(e[40:])
		if first < 2 || last < first || last >= uint64(d.size)/512 {
			return nil, fmt.Errorf("partition %d is outside the disk", i+1)
		}
		out = append(out, partition{name: fmt.Sprintf("partition %d", i+1), offset: int64(first) * 512, size: int64(last-first+1) * 512, bios: kind == biosBoot})
	}
	return out, nil
}
