package vm_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
)

func TestADiskIsReadInEitherFormat(t *testing.T) {
	const block, size = 512 << 10, 64 << 20
	dir := t.TempDir()
	raw := filepath.Join(dir, "raw")
	f, err := os.Create(raw)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(size))
	text := bytes.Repeat([]byte("text"), 1000)
	for _, at := range []int64{0, 9*block + 5, size - 4000} {
		_, err = f.WriteAt(text, at)
		require.NoError(t, err)
	}
	require.NoError(t, f.Close())
	open := map[string]func() (vm.Disk, error){"raw": func() (vm.Disk, error) { return vm.OpenRaw(raw, false) }}
	if tool, err := exec.LookPath("qemu-img"); err == nil {
		for name, options := range map[string][]string{"qcow2": nil, "qcow2, compressed": {"-c"}} {
			file := filepath.Join(dir, name)
			out, err := exec.Command(tool, append(append([]string{"convert", "-f", "raw", "-O", "qcow2"}, options...), raw, file)...).CombinedOutput()
			require.NoError(t, err, string(out))
			open[name] = func() (vm.Disk, error) { return vm.OpenQCOW2(file) }
		}
	}
	for name, open := range open {
		t.Run(name, func(t *testing.T) {
			d, err := open()
			require.NoError(t, err)
			defer func() { require.NoError(t, d.Close()) }()
			assert.EqualValues(t, size, d.Size())
			for i := range int64(size / block) {
				b := make([]byte, block)
				n, err := d.ReadAt(b, i*block)
				require.Equal(t, block, n, err) // at the very end an io.ReaderAt may add io.EOF
				held, err := d.Holds(i*block, block)
				require.NoError(t, err)
				empty := len(bytes.Trim(b, "\x00")) == 0
				assert.Equal(t, i != 0 && i != 9 && i != 127, empty, i)
				if !empty {
					assert.True(t, held, i)
				}
			}
			b := make([]byte, len(text))
			_, err = d.ReadAt(b, 9*block+5)
			require.NoError(t, err)
			assert.Equal(t, text, b)
		})
	}
}

func TestADiskThatIsRemovedIsReadToItsEnd(t *testing.T) {
	file := filepath.Join(t.TempDir(), "raw")
	require.NoError(t, os.WriteFile(file, []byte("text"), 0o600))
	d, err := vm.OpenRaw(file, true)
	require.NoError(t, err)
	assert.NoFileExists(t, file)
	b := make([]byte, 4)
	_, err = d.ReadAt(b, 0)
	require.NoError(t, err)
	assert.Equal(t, "text", string(b))
	require.NoError(t, d.Close())
}

func TestWhatIsNoDiskIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x")
	require.NoError(t, os.WriteFile(file, []byte("no disk"), 0o600))
	_, err := vm.OpenQCOW2(file)
	require.ErrorContains(t, err, "open disk "+file)
	_, err = vm.OpenRaw(file+".none", true)
	require.Error(t, err)
}
