package snapshot_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/snapshot"
)

// inodes are the places of an xfs image's inodes that hold a text.
func places(t *testing.T, file, text string) []int64 {
	t.Helper()
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	var out []int64
	for at := 0; ; {
		i := bytes.Index(raw[at:], []byte(text))
		if i < 0 {
			break
		}
		out = append(out, int64(at+i))
		at += i + 1
	}
	require.NotEmpty(t, out)
	return out
}

// logOf is where the log begins, and how many bytes it has.
func logOf(t *testing.T, file string) (int64, int64) {
	t.Helper()
	sb, err := os.ReadFile(file)
	require.NoError(t, err)
	u32 := func(at int) int64 { return int64(binary.BigEndian.Uint32(sb[at:])) }
	block, start := u32(4), int64(binary.BigEndian.Uint64(sb[48:]))
	group := start >> sb[124]
	return (group*u32(84) + start&(1<<sb[124]-1)) * block, u32(96) * block
}

func TestAnXFSThatCannotBeReadReliablyIsRefused(t *testing.T) {
	for sentence, tc := range map[string]struct {
		options []string
		change  func(*testing.T, string)
		want    string
	}{
		"it is of version 4":         {[]string{"-m", "crc=0"}, func(*testing.T, string) {}, "only 5 is supported"},
		"it has to be repaired":      {nil, func(t *testing.T, f string) { patch(t, f, 216+3, 0x13) }, "features 0x10"},
		"it was being made":          {nil, func(t *testing.T, f string) { patch(t, f, 126, 1) }, "creation was not finished"},
		"its blocks are odd":         {nil, func(t *testing.T, f string) { patch(t, f, 4, 0, 0, 0x10, 1) }, "blocks of"},
		"it is larger than its disk": {nil, func(t *testing.T, f string) { require.NoError(t, os.Truncate(f, 40<<20)) }, "more than its volume"},
		"the log was not replayed":   {nil, openLog, "was not replayed"},
		"the log is not as it has been written": {nil, func(t *testing.T, f string) {
			at, size := logOf(t, f)
			patch(t, f, at+size-512, 0, 0, 0, 9)
		}, "log is damaged"},
		"the root is no inode": {nil, func(t *testing.T, f string) { patch(t, f, places(t, f, "IN\x41\xed")[0], 'X') }, "does not exist"},
	} {
		t.Run(sentence, func(t *testing.T) {
			file := xfsImage(t, folder(t, sealed(nil)), tc.options...)
			tc.change(t, file)
			_, _, err := judge(t, file, snapshot.DefaultLimits())
			require.ErrorContains(t, err, tc.want)
			assert.NotContains(t, err.Error(), "the reader failed")
		})
	}
}

// openLog takes the mark of the unmount out of the log.
func openLog(t *testing.T, file string) {
	t.Helper()
	at, _ := logOf(t, file)
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, uint32(0xFEEDBABE), binary.BigEndian.Uint32(raw[at:]), "mkfs writes a record")
	require.Equal(t, byte(0x20), raw[at+512+9])
	patch(t, file, at+512+9, 0)
}

// An index can lead a kernel to an entry that no listing shows.
func TestAnIndexOfXFSThatLeadsBesideTheEntriesIsAFailure(t *testing.T) {
	many := map[string]string{}
	for i := range 40 {
		many["root/.ssh/a-file-so-that-the-folder-has-a-block-"+string(rune('A'+i))] = ""
	}
	file := xfsImage(t, folder(t, sealed(many)))
	all, _, err := judge(t, file, snapshot.DefaultLimits())
	require.NoError(t, err)
	require.Empty(t, failed(all))

	block := places(t, file, "a-file-so-that-the-folder-has-a-block-A")[0] &^ 4095
	end := block + 4096
	var address [4]byte
	f, err := os.Open(file)
	require.NoError(t, err)
	_, err = f.ReadAt(address[:], end-8-4)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	patch(t, file, end-8-4, 0, 0, 0, address[3]+1)
	all, _, err = judge(t, file, snapshot.DefaultLimits())
	require.NoError(t, err)
	require.NotEmpty(t, failed(all))
	assert.Contains(t, failed(all)[0], "where no entry begins")
}
