package baseimage

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"unicode/utf16"

	"github.com/google/uuid"
)

// Sizes of a GUID partition table (UEFI specification 2.10, chapter 5).
const (
	sectorSize   = 512
	entryCount   = 128
	entrySize    = 128
	tableSectors = entryCount * entrySize / sectorSize
)

// Partition types.
var (
	typeBIOSBoot  = uuid.MustParse("21686148-6449-6e6f-744e-656564454649")
	typeLinuxRoot = uuid.MustParse("4f68bce3-e8cd-4db1-96e7-fbcaf984b709") // root, x86-64
)

// partition is one entry of a GPT. Its number is its position in the table,
// which can differ from the order on disk.
type partition struct {
	Number      int
	Type        uuid.UUID
	ID          uuid.UUID
	Name        string
	First, Last int64 // sectors, both inclusive
}

// writeGPT writes a protective MBR and both copies of a GPT to a disk of the
// given number of sectors. It does not change the first 440 bytes, which are for
// boot code.
func writeGPT(w io.WriterAt, sectors int64, disk uuid.UUID, parts []partition) error {
	table := make([]byte, tableSectors*sectorSize)
	for _, p := range parts {
		if p.Number < 1 || p.Number > entryCount || p.First < tableSectors+2 || p.Last > sectors-tableSectors-2 || p.Last < p.First {
			return fmt.Errorf("partition %d (sectors %d to %d) does not fit a disk of %d sectors", p.Number, p.First, p.Last, sectors)
		}
		entry := table[(p.Number-1)*entrySize:]
		copy(entry, mixedEndian(p.Type))
		copy(entry[16:], mixedEndian(p.ID))
		binary.LittleEndian.PutUint64(entry[32:], uint64(p.First))
		binary.LittleEndian.PutUint64(entry[40:], uint64(p.Last))
		for i, unit := range utf16.Encode([]rune(p.Name)) {
			binary.LittleEndian.PutUint16(entry[56+2*i:], unit)
		}
	}

	writes := []struct {
		data   []byte
		sector int64
	}{
		{gptHeader(disk, table, 1, sectors-1, 2, sectors), 1},
		{table, 2},
		{table, sectors - 1 - tableSectors},
		{gptHeader(disk, table, sectors-1, 1, sectors-1-tableSectors, sectors), sectors - 1},
	}
	for _, wr := range writes {
		if _, err := w.WriteAt(wr.data, wr.sector*sectorSize); err != nil {
			return fmt.Errorf("write partition table: %w", err)
		}
	}
	if _, err := w.WriteAt(protectiveMBR(sectors), 440); err != nil {
		return fmt.Errorf("write partition table: %w", err)
	}
	return nil
}

// gptHeader makes the header at sector own. Its copy is at sector other, and its
// table begins at sector tableAt.
func gptHeader(disk uuid.UUID, table []byte, own, other, tableAt, sectors int64) []byte {
	const headerSize = 92
	h := make([]byte, sectorSize)
	copy(h, "EFI PART")
	le := binary.LittleEndian
	le.PutUint32(h[8:], 0x00010000)
	le.PutUint32(h[12:], headerSize)
	le.PutUint64(h[24:], uint64(own))
	le.PutUint64(h[32:], uint64(other))
	le.PutUint64(h[40:], tableSectors+2)
	le.PutUint64(h[48:], uint64(sectors-tableSectors-2))
	copy(h[56:], mixedEndian(disk))
	le.PutUint64(h[72:], uint64(tableAt))
	le.PutUint32(h[80:], entryCount)
	le.PutUint32(h[84:], entrySize)
	le.PutUint32(h[88:], crc32.ChecksumIEEE(table))
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:headerSize]))
	return h
}

// protectiveMBR makes bytes 440 to 511 of the first sector: one partition of
// type EE over the whole disk. It is marked active, because some firmware boots
// only active partitions.
func protectiveMBR(sectors int64) []byte {
	var b bytes.Buffer
	b.Write(make([]byte, 6)) // disk signature
	b.Write([]byte{0x80, 0x00, 0x02, 0x00, 0xee, 0xff, 0xff, 0xff})
	le := binary.LittleEndian
	b.Write(le.AppendUint32(nil, 1))
	b.Write(le.AppendUint32(nil, uint32(min(sectors-1, 0xffffffff))))
	b.Write(make([]byte, 48))
	b.Write([]byte{0x55, 0xaa})
	return b.Bytes()
}

// mixedEndian returns a GUID as GPT stores it: its first three fields little-endian.
func mixedEndian(id uuid.UUID) []byte {
	return []byte{
		id[3], id[2], id[1], id[0], id[5], id[4], id[7], id[6],
		id[8], id[9], id[10], id[11], id[12], id[13], id[14], id[15],
	}
}

// readGPT returns the partitions of a disk, by number.
func readGPT(r io.ReaderAt) ([]partition, error) {
	header := make([]byte, sectorSize)
	if _, err := r.ReadAt(header, sectorSize); err != nil {
		return nil, fmt.Errorf("read partition table: %w", err)
	}
	if !bytes.HasPrefix(header, []byte("EFI PART")) {
		return nil, fmt.Errorf("the disk has no GUID partition table")
	}
	le := binary.LittleEndian
	count, size := int64(le.Uint32(header[80:])), int64(le.Uint32(header[84:]))
	if count > 1024 || size < entrySize || size > 4096 {
		return nil, fmt.Errorf("the disk's partition table is damaged (%d entries of %d bytes)", count, size)
	}
	at := int64(le.Uint64(header[72:]))
	table := make([]byte, count*size)
	if _, err := r.ReadAt(table, at*sectorSize); err != nil {
		return nil, fmt.Errorf("read partition table: %w", err)
	}
	var parts []partition
	for i := range count {
		entry := table[i*size:]
		if bytes.Equal(entry[:16], make([]byte, 16)) {
			continue
		}
		parts = append(parts, partition{
			Number: int(i) + 1,
			First:  int64(le.Uint64(entry[32:])),
			Last:   int64(le.Uint64(entry[40:])),
		})
	}
	return parts, nil
}
