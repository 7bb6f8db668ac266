package container

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Bounds of what is read of an ELF file.
const (
	maxHeaders = 256  // program headers
	maxNeeded  = 1000 // libraries that one file needs
	maxString  = 4096 // bytes of a name or a list of folders
)

var errTruncated = errors.New("a part of it is outside of the file")

// elfImage is an ELF file as the kernel and the dynamic linker read it: by its program
// headers. Its sections are not read: programs run without them, and they may be compressed.
type elfImage struct {
	data  []byte
	order binary.ByteOrder
	wide  bool // it has 64 bits
}

// segment is a program header.
type segment struct {
	kind                    elf.ProgType
	offset, address, length uint64
}

// readELF never fails: what cannot be read is in the result.
func readELF(data []byte) *program {
	out := &program{}
	if err := out.read(data); err != nil {
		return &program{unreadable: err.Error()}
	}
	return out
}

func (p *program) read(data []byte) error {
	f := elfImage{data: data, order: binary.LittleEndian}
	if len(data) < elfHeader {
		return errTruncated
	}
	switch p.class = elf.Class(data[elf.EI_CLASS]); p.class {
	case elf.ELFCLASS32:
	case elf.ELFCLASS64:
		f.wide = true
	default:
		return fmt.Errorf("its class %d is unknown", data[elf.EI_CLASS])
	}
	switch elf.Data(data[elf.EI_DATA]) {
	case elf.ELFDATA2LSB:
	case elf.ELFDATA2MSB:
		f.order = binary.BigEndian
	default:
		return fmt.Errorf("its byte order %d is unknown", data[elf.EI_DATA])
	}
	p.machine = elf.Machine(f.order.Uint16(data[18:]))
	segments, err := f.segments()
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(segments, func(s segment) bool { return s.kind == elf.PT_INTERP }); i >= 0 {
		if segments[i].length > maxString {
			return errors.New("the name of its interpreter is too long")
		}
		name, err := f.part(segments[i].offset, segments[i].length)
		if err != nil {
			return err
		}
		name, _, _ = bytes.Cut(name, []byte{0})
		p.interpreter = string(name)
	}
	if i := slices.IndexFunc(segments, func(s segment) bool { return s.kind == elf.PT_DYNAMIC }); i >= 0 {
		return p.dynamic(f, segments, segments[i])
	}
	return nil
}

// part is a part of the file.
func (f elfImage) part(offset, length uint64) ([]byte, error) {
	size := uint64(len(f.data))
	if offset > size || length > size-offset {
		return nil, errTruncated
	}
	return f.data[offset : offset+length], nil
}

// word reads a number as wide as an address.
func (f elfImage) word(data []byte) uint64 {
	if f.wide {
		return f.order.Uint64(data)
	}
	return uint64(f.order.Uint32(data))
}

func (f elfImage) segments() ([]segment, error) {
	at, sizes, least := f.word(f.data[28:]), f.data[42:], 32
	if f.wide {
		at, sizes, least = f.word(f.data[32:]), f.data[54:], 56
	}
	size, count := int(f.order.Uint16(sizes)), int(f.order.Uint16(sizes[2:]))
	if count > maxHeaders || count > 0 && size < least {
		return nil, fmt.Errorf("it has %d program headers of %d bytes", count, size)
	}
	table, err := f.part(at, uint64(size)*uint64(count))
	if err != nil {
		return nil, err
	}
	var out []segment
	for i := range count {
		h := table[i*size:]
		s := segment{kind: elf.ProgType(f.order.Uint32(h))}
		if f.wide {
			s.offset, s.address, s.length = f.word(h[8:]), f.word(h[16:]), f.word(h[32:])
		} else {
			s.offset, s.address, s.length = f.word(h[4:]), f.word(h[8:]), f.word(h[16:])
		}
		out = append(out, s)
	}
	return out, nil
}

// loaded is the rest of the segment of the file that is loaded at an address.
func (f elfImage) loaded(segments []segment, address uint64) ([]byte, error) {
	for _, s := range slices.Backward(segments) { // a later one hides others
		if s.kind == elf.PT_LOAD && address >= s.address && address-s.address < s.length {
			all, err := f.part(s.offset, s.length)
			if err != nil {
				return nil, err
			}
			return all[address-s.address:], nil
		}
	}
	return nil, errors.New("it refers to an address that is not loaded from the file")
}

// dynamic reads what the dynamic linker reads: from where the segments are loaded.
func (p *program) dynamic(f elfImage, segments []segment, at segment) error {
	table, err := f.loaded(segments, at.address)
	if err != nil {
		return err
	}
	table = table[:min(uint64(len(table)), at.length)]
	step := 8
	if f.wide {
		step = 16
	}
	values := map[elf.DynTag]uint64{}
	var needed []uint64
	for ; len(table) >= step; table = table[step:] {
		tag, value := elf.DynTag(f.word(table)), f.word(table[step/2:])
		if tag == elf.DT_NULL {
			break
		}
		switch tag {
		case elf.DT_NEEDED:
			if needed = append(needed, value); len(needed) > maxNeeded {
				return fmt.Errorf("it needs more than %d libraries", maxNeeded)
			}
		case elf.DT_STRTAB, elf.DT_STRSZ, elf.DT_RPATH, elf.DT_RUNPATH:
			values[tag] = value // the last one counts
		}
	}
	var names []byte
	text := func(offset uint64) (string, error) {
		if names == nil {
			if names, err = f.loaded(segments, values[elf.DT_STRTAB]); err != nil {
				return "", err
			}
			names = names[:min(uint64(len(names)), values[elf.DT_STRSZ])]
		}
		if offset > uint64(len(names)) {
			return "", errTruncated
		}
		name, _, whole := bytes.Cut(names[offset:min(uint64(len(names)), offset+maxString+1)], []byte{0})
		if !whole {
			return "", errors.New("one of its names does not end, or is too long")
		}
		return string(name), nil
	}
	for _, offset := range needed {
		name, err := text(offset)
		if err != nil {
			return err
		}
		p.needed = append(p.needed, name)
	}
	for tag, into := range map[elf.DynTag]*[]string{elf.DT_RPATH: &p.rpath, elf.DT_RUNPATH: &p.runpath} {
		if offset, ok := values[tag]; ok {
			list, err := text(offset)
			if err != nil {
				return err
			}
			*into = strings.Split(list, ":")
		}
	}
	return nil
}
