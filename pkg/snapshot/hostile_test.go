package snapshot_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/snapshot"
)

// debugfs changes an ext4 image as no kernel does.
func debugfs(t *testing.T, file string, commands ...string) {
	t.Helper()
	script := filepath.Join(t.TempDir(), "commands")
	require.NoError(t, os.WriteFile(script, []byte(strings.Join(commands, "\n")+"\n"), 0o600))
	run(t, "debugfs", "-w", "-f", script, file)
}

// patch writes bytes over a file.
func patch(t *testing.T, file string, offset int64, b ...byte) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(b, offset)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

func TestADiskThatCannotBeReadReliablyIsRefused(t *testing.T) {
	for sentence, tc := range map[string]struct {
		change func(*testing.T, string)
		want   string
	}{
		"the journal was not replayed":          {func(t *testing.T, f string) { debugfs(t, f, "feature needs_recovery") }, "needs_recovery"},
		"the journal is not empty":              {dirtyJournal, "the journal is not empty"},
		"it was not unmounted cleanly":          {func(t *testing.T, f string) { debugfs(t, f, "ssv state 0") }, "not unmounted cleanly"},
		"it has errors":                         {func(t *testing.T, f string) { debugfs(t, f, "ssv state 3") }, "has errors"},
		"data can be in inodes":                 {func(t *testing.T, f string) { debugfs(t, f, "feature inline_data") }, "features 0x8000"},
		"names can differ in case":              {func(t *testing.T, f string) { patch(t, f, 1024+98, 0x2) }, "features 0x20000"},
		"files are encrypted":                   {func(t *testing.T, f string) { debugfs(t, f, "feature encrypt") }, "features 0x10000"},
		"its blocks are more than the disk's":   {func(t *testing.T, f string) { require.NoError(t, os.Truncate(f, 40<<20)) }, "more than its volume"},
		"it is cut off":                         {func(t *testing.T, f string) { require.NoError(t, os.Truncate(f, 1500)) }, "no partition table"},
		"a folder has two entries of a name":    {twice, `two entries of the name "machine-id"`},
		"it is empty":                           {func(t *testing.T, f string) { require.NoError(t, os.Truncate(f, 0)) }, "no partition table"},
		"there is no system on it":              {func(t *testing.T, f string) { debugfs(t, f, "unlink /etc/passwd") }, "has an /etc/passwd"},
		"the list of accounts is a folder":      {func(t *testing.T, f string) { debugfs(t, f, "unlink /etc/passwd", "mkdir /etc/passwd") }, "not a regular file"},
		"the list of accounts is huge":          {func(t *testing.T, f string) { debugfs(t, f, "sif /etc/passwd size 100000000") }, "limit exceeded"},
		"a group has its inodes nowhere":        {func(t *testing.T, f string) { patch(t, f, 2048+8, 0xFF, 0xFF, 0xFF, 0x7F) }, "outside the file system"},
		"inodes are larger than blocks":         {func(t *testing.T, f string) { patch(t, f, 1024+88, 0, 0x20) }, "inodes of 8192 bytes"},
		"there are no groups":                   {func(t *testing.T, f string) { patch(t, f, 1024+32, 0, 0, 0, 0) }, "no block groups"},
		"it is ext4 and xfs":                    {func(t *testing.T, f string) { patch(t, f, 0, []byte("XFSB")...) }, "both ext4 and xfs"},
		"a partition table is not announced":    {func(t *testing.T, f string) { patch(t, f, 512, []byte("EFI PART")...) }, "does not announce"},
		"a table is announced and not there":    {func(t *testing.T, f string) { patch(t, f, 446+4, 0xEE); patch(t, f, 510, 0x55, 0xAA) }, "table is damaged"},
		"an extended partition hides something": {func(t *testing.T, f string) { patch(t, f, 446+4, 5); patch(t, f, 510, 0x55, 0xAA) }, "extended partition"},
		"a partition is beyond the disk": {func(t *testing.T, f string) {
			patch(t, f, 446+4, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0x10)
			patch(t, f, 510, 0x55, 0xAA)
		}, "outside the disk"},
	} {
		t.Run(sentence, func(t *testing.T) {
			file := ext4Image(t, folder(t, sealed(nil)), "64M")
			tc.change(t, file)
			_, _, err := judge(t, file, snapshot.DefaultLimits())
			require.ErrorContains(t, err, tc.want)
			assert.NotContains(t, err.Error(), "the reader failed")
		})
	}
}

// dirtyJournal marks the journal as begun, which only its own superblock says.
func dirtyJournal(t *testing.T, file string) {
	t.Helper()
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	at := bytes.Index(raw, []byte{0xC0, 0x3B, 0x39, 0x98, 0, 0, 0, 4})
	require.Positive(t, at)
	patch(t, file, int64(at+28), 0, 0, 0, 1)
}

func TestWhatADirectoryHidesIsAFailure(t *testing.T) {
	for sentence, tc := range map[string]struct {
		change func(*testing.T, string)
		want   string
	}{
		"an index that leaves out a block":      {nil, "~/.ssh/authorized_keys* absent: /root/.ssh/authorized_keys"},
		"an entry of a deleted file":            {func(t *testing.T, f string) { debugfs(t, f, "sif /var/log/messages links_count 0") }, "is deleted, but a directory names it"},
		"an entry of an inode of ext4 itself":   {func(t *testing.T, f string) { debugfs(t, f, "ln <8> /var/log/journal") }, "reserved inode 8"},
		"a folder that contains itself":         {func(t *testing.T, f string) { debugfs(t, f, "ln /var/log /var/log/again") }, "a directory contains itself"},
		"a file with data in its inode":         {func(t *testing.T, f string) { debugfs(t, f, "sif /etc/ssh/sshd_config flags 0x10000000") }, "not supported"},
		"a file of impossible size":             {func(t *testing.T, f string) { debugfs(t, f, "sif /etc/ssh/sshd_config size 0xFFFFFFFFFF00") }, "impossible size"},
		"a link that is both short and long":    {func(t *testing.T, f string) { debugfs(t, f, "sif /var/lib/dbus/machine-id blocks 8") }, "symbolic link of inode"},
		"a folder whose blocks are beyond it":   {func(t *testing.T, f string) { debugfs(t, f, "sif /etc/ssh size 0") }, "impossible size"},
		"a folder that is larger than its data": {func(t *testing.T, f string) { debugfs(t, f, "sif /etc/ssh size 8192") }, "has a hole"},
		"a file whose tree of extents is gone":  {func(t *testing.T, f string) { debugfs(t, f, "sif /etc/ssh/sshd_config block[0] 0") }, "magic number"},
		"a file outside the file system":        {func(t *testing.T, f string) { debugfs(t, f, "sif /etc/ssh/sshd_config block[5] 0xFFFFFFF") }, "outside the file system"},
	} {
		t.Run(sentence, func(t *testing.T) {
			files := map[string]string{}
			if tc.change == nil {
				files["root/.ssh/authorized_keys"] = "k"
			}
			file := ext4Image(t, folder(t, sealed(files)), "64M")
			if tc.change == nil {
				t.Log("the flag of an index, with an index that names no block, on a file system without the feature")
				debugfs(t, file, "feature -dir_index", "sif /root/.ssh flags 0x81000")
			} else {
				tc.change(t, file)
			}
			all, _, err := judge(t, file, snapshot.DefaultLimits())
			require.NoError(t, err)
			require.NotEmpty(t, failed(all))
			assert.Contains(t, strings.Join(failed(all), "\n"), tc.want)
			assert.NotContains(t, fmt.Sprint(failed(all)), "the reader failed")
		})
	}
}

// twice gives a second file the name of another, as only whoever writes blocks does.
func twice(t *testing.T, file string) {
	t.Helper()
	debugfs(t, file, "cd /etc", "ln /opt/long machine-ie")
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	at := bytes.Index(raw, []byte("machine-ie"))
	require.Positive(t, at)
	patch(t, file, int64(at), []byte("machine-id")...)
}

func TestLinksStayInsideOfTheFileSystem(t *testing.T) {
	for sentence, tc := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"out of the root":           {map[string]string{"root/.ssh": "-> ../../../../../../opt/keys", "opt/keys/authorized_keys": "k"}, []string{"~/.ssh/authorized_keys* absent: /root/.ssh/authorized_keys"}},
		"through other links":       {map[string]string{"root/.ssh": "-> /a/keys", "a": "-> b", "b": "-> ./opt", "opt/keys/authorized_keys": "k"}, []string{"~/.ssh/authorized_keys* absent: /root/.ssh/authorized_keys"}},
		"of a folder of the system": {map[string]string{"var/lib/cloud": "-> ../../opt/c", "opt/c/x": ""}, []string{"/var/lib/cloud/** absent: /var/lib/cloud/x"}},
		"in a circle":               {map[string]string{"root/.ssh": "-> /home/alice/x", "home/alice/x": "-> /root/.ssh"}, []string{}},
		"to nothing":                {map[string]string{"root/.ssh": "-> /nowhere/at/all"}, []string{}},
		"among logs, to elsewhere":  {map[string]string{"var/log/README": "-> ../../usr/sbin/tool"}, []string{}},
		"among state, to a folder":  {map[string]string{"home/alice/.aws/current": "-> ../../../opt"}, []string{}},
		"among state, to nothing":   {map[string]string{"home/alice/.aws/config": "-> /run/later"}, []string{"~/.aws/** absent: /home/alice/.aws/config"}},
		"to a file":                 {map[string]string{"root/.ssh": "-> /etc/passwd"}, []string{}},
		"of a secret outside":       {map[string]string{"etc/x.conf": "-> ../opt/s", "opt/s": "a secret"}, []string{"lines of /etc/** without /secret|PRIVATE KEY/: /etc/x.conf:1"}},
	} {
		for name, image := range map[string]func(*testing.T, string) string{
			"ext4": func(t *testing.T, dir string) string { return ext4Image(t, dir, "64M") },
			"xfs":  func(t *testing.T, dir string) string { return xfsImage(t, dir) },
		} {
			t.Run(sentence+" on "+name, func(t *testing.T) {
				all, _, err := judge(t, image(t, folder(t, sealed(tc.files))), snapshot.DefaultLimits())
				require.NoError(t, err)
				assert.Equal(t, tc.want, failed(all))
			})
		}
	}
}

func TestLimitsHold(t *testing.T) {
	file := ext4Image(t, folder(t, sealed(map[string]string{"etc/a/b/c/d/e/f/g": "", "etc/large": strings.Repeat("x", 100000)})), "64M")
	for name, limits := range map[string]func(*snapshot.Limits){
		"bytes":   func(l *snapshot.Limits) { l.Bytes = 20000 },
		"entries": func(l *snapshot.Limits) { l.Entries = 30 },
		"depth":   func(l *snapshot.Limits) { l.Depth = 3 },
	} {
		t.Run(name, func(t *testing.T) {
			l := snapshot.DefaultLimits()
			limits(&l)
			all, _, err := judge(t, file, l)
			text := strings.Join(failed(all), "\n")
			if err != nil {
				text = err.Error()
			}
			assert.Contains(t, text, "limit exceeded")
		})
	}
}

// A disk of random damage is judged without a panic, in bounded time and memory.
func TestDamageIsNeverAPanic(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for name, image := range map[string]func(*testing.T, string) string{
		"ext4": func(t *testing.T, dir string) string { return ext4Image(t, dir, "8M") },
		"xfs":  func(t *testing.T, dir string) string { return xfsImage(t, dir) },
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := os.ReadFile(image(t, folder(t, sealed(map[string]string{"root/.ssh/authorized_keys": "k"}))))
			require.NoError(t, err)
			var used []int // blocks that are not empty
			for at := 0; at < len(raw); at += 512 {
				if len(bytes.Trim(raw[at:at+512], "\x00")) > 0 {
					used = append(used, at)
				}
			}
			limits := snapshot.DefaultLimits()
			limits.Bytes = 512 << 20
			for range 400 {
				type change struct {
					at  int
					was byte
				}
				var changes []change
				for range 1 + random.IntN(6) {
					at := used[random.IntN(len(used))] + random.IntN(512)
					changes = append(changes, change{at, raw[at]})
					raw[at] = byte(random.Uint32())
				}
				all, _, err := snapshot.Judge(bytes.NewReader(raw), int64(len(raw)), limits, [][]snapshot.Rule{rules()})
				if err != nil {
					require.NotContains(t, err.Error(), "the reader failed")
				} else {
					require.Len(t, all[0], 11)
				}
				for i := len(changes) - 1; i >= 0; i-- {
					raw[changes[i].at] = changes[i].was
				}
			}
		})
	}
}

// partitioned puts images into a GPT disk, each with a type.
func partitioned(t *testing.T, parts ...part) string {
	t.Helper()
	const first = 2048
	file := filepath.Join(t.TempDir(), "partitioned")
	f, err := os.Create(file)
	require.NoError(t, err)
	table := make([]byte, 128*128)
	next := int64(first)
	for i, p := range parts {
		data := p.data
		if p.file != "" {
			data, err = os.ReadFile(p.file)
			require.NoError(t, err)
		}
		sectors := int64(len(data)+511) / 512
		_, err := f.WriteAt(data, next*512)
		require.NoError(t, err)
		e := table[128*i:]
		copy(e, p.kind)
		binary.LittleEndian.PutUint64(e[32:], uint64(next))
		binary.LittleEndian.PutUint64(e[40:], uint64(next+sectors-1))
		next += (sectors + 2047) &^ 2047
	}
	require.NoError(t, f.Truncate((next+2048)*512))
	header := make([]byte, 512)
	copy(header, "EFI PART\x00\x00\x01\x00\x5c")
	binary.LittleEndian.PutUint64(header[24:], 1)
	binary.LittleEndian.PutUint64(header[72:], 2)
	binary.LittleEndian.PutUint32(header[80:], 128)
	binary.LittleEndian.PutUint32(header[84:], 128)
	binary.LittleEndian.PutUint32(header[88:], crc32.ChecksumIEEE(table))
	binary.LittleEndian.PutUint32(header[16:], crc32.ChecksumIEEE(header[:92]))
	mbr := make([]byte, 512)
	mbr[446+4], mbr[510], mbr[511] = 0xEE, 0x55, 0xAA
	for i, b := range [][]byte{mbr, header, table} {
		_, err := f.WriteAt(b, int64(i)*512)
		require.NoError(t, err)
	}
	require.NoError(t, f.Close())
	return file
}

type part struct {
	kind string
	file string
	data []byte
}

const (
	linux = "\xaf\x3d\xc6\x0f\x83\x84\x72\x47\x8e\x79\x3d\x69\xd8\x47\x7d\xe4"
	bios  = "Hah!IdontNeedEFI"
)

func TestPartitions(t *testing.T) {
	good := func(t *testing.T) string { return ext4Image(t, folder(t, sealed(nil)), "32M") }
	planted := func(t *testing.T) string {
		return xfsImage(t, folder(t, sealed(map[string]string{"root/.ssh/authorized_keys": "k"})))
	}
	fat := make([]byte, 1<<20)
	copy(fat[82:], "FAT32   ")
	fat[510], fat[511] = 0x55, 0xAA
	luks := make([]byte, 1<<20)
	copy(luks, "LUKS\xba\xbe")
	code := bytes.Repeat([]byte{0x90}, 1<<20)
	for sentence, tc := range map[string]struct {
		disk func(*testing.T) string
		err  string
		want []string
	}{
		"a system beside boot code and FAT": {func(t *testing.T) string {
			return partitioned(t, part{linux, good(t), nil}, part{bios, "", code}, part{linux, "", fat})
		}, "", []string{}},
		"a second system is judged as well": {func(t *testing.T) string {
			return partitioned(t, part{linux, good(t), nil}, part{linux, planted(t), nil})
		}, "", []string{"~/.ssh/authorized_keys* absent: partition 2: /root/.ssh/authorized_keys"}},
		"a system in a partition for boot code": {func(t *testing.T) string {
			return partitioned(t, part{linux, good(t), nil}, part{bios, planted(t), nil})
		}, "", []string{"~/.ssh/authorized_keys* absent: partition 2: /root/.ssh/authorized_keys"}},
		"a folder of its own on a partition": {func(t *testing.T) string {
			return partitioned(t, part{linux, good(t), nil}, part{linux, ext4Image(t, folder(t, map[string]string{"vmlinuz": "x"}), "8M"), nil})
		}, "", []string{}},
		"something encrypted": {func(t *testing.T) string { return partitioned(t, part{linux, good(t), nil}, part{linux, "", luks}) }, "partition 2: it is not ext4", nil},
		"something else":      {func(t *testing.T) string { return partitioned(t, part{linux, good(t), nil}, part{linux, "", code}) }, "partition 2: it is not ext4", nil},
		"a table with a wrong checksum": {func(t *testing.T) string {
			f := partitioned(t, part{linux, good(t), nil})
			patch(t, f, 1024+32, 1)
			return f
		}, "wrong checksum", nil},
		"a table of too many entries": {func(t *testing.T) string {
			f := partitioned(t, part{linux, good(t), nil})
			raw, err := os.ReadFile(f)
			require.NoError(t, err)
			header := raw[512:1024]
			binary.LittleEndian.PutUint32(header[80:], 1<<30)
			binary.LittleEndian.PutUint32(header[16:], 0)
			binary.LittleEndian.PutUint32(header[16:], crc32.ChecksumIEEE(header[:92]))
			patch(t, f, 512, header...)
			return f
		}, "is not supported", nil},
	} {
		t.Run(sentence, func(t *testing.T) {
			all, _, err := judge(t, tc.disk(t), snapshot.DefaultLimits())
			if tc.err != "" {
				require.ErrorContains(t, err, tc.err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tc.want, failed(all))
		})
	}
}
