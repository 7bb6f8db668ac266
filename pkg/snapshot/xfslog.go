package snapshot

import (
	"errors"
	"fmt"
)

// Sizes and flags of the log's blocks and headers.
const (
	logBlock     = 512
	logMagic     = 0xFEEDBABE
	logUnmount   = 0x20 // flag of an operation
	logLargest   = 2 << 30
	logChunk     = 1 << 20
	logHeaderFor = 32768 // bytes of a record that one header block describes
)

// logIsClean refuses a file system whose log a mount would replay. The log is a
// ring of blocks; each begins with the number of the cycle in which it was
// written. The newest record must be the mark of an unmount. All blocks are
// read, because a search can be misled by a log that no kernel wrote.
func (f *xfs) logIsClean() error {
	start, err := f.offset(f.logStart)
	if err != nil {
		return fmt.Errorf("xfs: the log: %w", err)
	}
	size := int64(f.logBlocks * f.blockSize)
	if size == 0 || size > logLargest || f.logStart&(1<<f.agBlkLog-1)+f.logBlocks > f.agBlocks {
		return fmt.Errorf("xfs: a log of %d bytes is not supported", size)
	}
	var turns [2]uint32 // before and after the newest record
	total := size / logBlock
	head, last, behind := total, int64(-1), int64(-1)
	for at := int64(0); at < size; at += logChunk {
		b, err := f.d.at(start+at, min(logChunk, size-at))
		if err != nil {
			return err
		}
		for i := int64(0); i < int64(len(b)); i += logBlock {
			number := (at + i) / logBlock
			turn, header := be.Uint32(b[i:]), false
			if turn == logMagic {
				turn, header = be.Uint32(b[i+4:]), true
			}
			switch {
			case number == 0:
				turns[0] = turn
			case head == total && turn != turns[0]:
				turns[1], head = turn, number
			}
			if expected := turns[min(1, max(0, int(number-head+1)))]; turn != expected {
				return fmt.Errorf("xfs: the log is damaged at block %d", number)
			}
			switch {
			case header && number < head:
				last = number
			case header:
				behind = number
			}
		}
	}
	if head < total && turns[0] != turns[1]+1 {
		return errors.New("xfs: the log is damaged: its cycles are not consecutive")
	}
	dirty := errors.New("xfs: the log was not replayed, so a mount would change the files")
	if last < 0 { // the newest record goes beyond the end of the ring
		if last = behind; last < 0 {
			return dirty
		}
	}
	b, err := f.d.at(start+last*logBlock, logBlock)
	if err != nil {
		return err
	}
	headers := int64(1)
	if be.Uint32(b[8:])&2 != 0 { // version 2
		headers = max(1, (int64(be.Uint32(b[320:]))+logHeaderFor-1)/logHeaderFor)
	}
	blocks := (int64(be.Uint32(b[12:])) + logBlock - 1) / logBlock
	if (last+headers+blocks)%total != head%total || be.Uint32(b[40:]) != 1 {
		return dirty
	}
	op, err := f.d.at(start+(last+headers)%total*logBlock, logBlock)
	if err != nil {
		return err
	}
	if op[9]&logUnmount == 0 {
		return dirty
	}
	return nil
}
