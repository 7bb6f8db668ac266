package vm_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
)

func TestImageDescription(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "image")
	require.NoError(t, os.Mkdir(dir, 0o755))
	info := vm.ImageInfo{Kind: vm.VM, SizeBytes: 7, VolumeGiB: 8, SHA256: "ab", Disk: filepath.Join(dir, vm.DiskFile)}
	require.NoError(t, vm.WriteImage(dir, info))

	t.Run("what was written is read", func(t *testing.T) {
		got, err := vm.ReadImage(dir)
		require.NoError(t, err)
		assert.Equal(t, info, got)
	})
	t.Run("a moved directory finds its own disk", func(t *testing.T) {
		moved := dir + "-moved"
		require.NoError(t, os.Rename(dir, moved))
		got, err := vm.ReadImage(moved)
		require.NoError(t, err)
		assert.Equal(t, filepath.Join(moved, vm.DiskFile), got.Disk)
	})
	t.Run("a directory without description is no image", func(t *testing.T) {
		_, err := vm.ReadImage(t.TempDir())
		assert.ErrorIs(t, err, os.ErrNotExist)
	})
	t.Run("a simulated image has no disk", func(t *testing.T) {
		dir := t.TempDir()
		require.NoError(t, vm.WriteImage(dir, vm.ImageInfo{Kind: vm.Simulated}))
		got, err := vm.ReadImage(dir)
		require.NoError(t, err)
		assert.Empty(t, got.Disk)
	})
}
