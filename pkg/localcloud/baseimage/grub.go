package baseimage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Offsets in GRUB's boot sectors for PCs (include/grub/i386/pc/boot.h).
const (
	mbrCodeSize       = 440   // bytes of boot.img before the partition table
	bootKernelSector  = 0x5c  // boot.img: 64-bit sector of core.img
	bootDrive         = 0x64  // boot.img: drive to read it from
	bootDriveCheck    = 0x66  // boot.img: jump that trusts the firmware's drive number
	blocklist         = 0x1f4 // core.img's first sector: where its other sectors are
	coreLoadSegment   = 0x820 // where those are loaded: GRUB_BOOT_MACHINE_KERNEL_SEG + 0x20
	grubFirmwareDrive = 0xff  // "the drive the firmware booted"
)

// grubFiles are the two images that make a disk bootable by BIOS.
type grubFiles struct {
	boot []byte // boot.img: one sector
	core []byte // core.img: whole sectors, padded
}

// errNoGRUB means that a tree has no GRUB images.
var errNoGRUB = errors.New("the tree has no /boot/grub/i386-pc/core.img: it cannot be made bootable; " +
	"only trees of a base image that baseimage.Build made carry GRUB")

// treeGRUB reads the images from where grub-install and Build put them.
func treeGRUB(tree string) (grubFiles, error) {
	root, err := os.OpenRoot(tree)
	if err != nil {
		return grubFiles{}, fmt.Errorf("open tree: %w", err)
	}
	defer func() { _ = root.Close() }()
	read := func(name string) ([]byte, error) {
		data, err := root.ReadFile(filepath.Join("boot/grub/i386-pc", name))
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("%s: %w", tree, errNoGRUB)
		}
		return data, err
	}
	var g grubFiles
	if g.boot, err = read("boot.img"); err != nil {
		return grubFiles{}, err
	}
	if g.core, err = read("core.img"); err != nil {
		return grubFiles{}, err
	}
	if len(g.boot) != sectorSize || len(g.core) <= sectorSize {
		return grubFiles{}, fmt.Errorf("%s: GRUB's boot.img (%d bytes) or core.img (%d bytes) is damaged", tree, len(g.boot), len(g.core))
	}
	if rest := len(g.core) % sectorSize; rest != 0 {
		g.core = append(g.core, make([]byte, sectorSize-rest)...)
	}
	return g, nil
}

// install writes GRUB to a disk, like grub-bios-setup but without a block
// device. core.img goes to the BIOS boot partition, sectors first to last.
func (g grubFiles) install(w io.WriterAt, first, last int64) error {
	sectors := int64(len(g.core) / sectorSize)
	if sectors > last-first+1 || sectors-1 > 0xffff {
		return fmt.Errorf("GRUB's core.img of %d sectors does not fit the BIOS boot partition of %d", sectors, last-first+1)
	}
	le := binary.LittleEndian

	boot := append([]byte(nil), g.boot...)
	le.PutUint64(boot[bootKernelSector:], uint64(first))
	boot[bootDrive] = grubFirmwareDrive
	boot[bootDriveCheck], boot[bootDriveCheck+1] = 0x90, 0x90 // no jump: as on any hard disk

	core := append([]byte(nil), g.core...)
	le.PutUint64(core[blocklist:], uint64(first+1))
	le.PutUint16(core[blocklist+8:], uint16(sectors-1))
	le.PutUint16(core[blocklist+10:], coreLoadSegment)

	if _, err := w.WriteAt(boot[:mbrCodeSize], 0); err != nil {
		return fmt.Errorf("write GRUB's boot sector: %w", err)
	}
	if _, err := w.WriteAt(core, first*sectorSize); err != nil {
		return fmt.Errorf("write GRUB's core image: %w", err)
	}
	return nil
}
