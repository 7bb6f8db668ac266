package space_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/internal/space"
)

func TestRequire(t *testing.T) {
	dir := t.TempDir()
	assert.NoError(t, space.Require(dir, 1, "a byte"))
	err := space.Require(dir, 1<<60, "an exbibyte")
	require.ErrorIs(t, err, space.ErrFull)
	assert.Contains(t, err.Error(), "an exbibyte needs 1099511627776 MiB in "+dir)
}

func TestAllocated(t *testing.T) {
	dir := t.TempDir()
	full, sparse := filepath.Join(dir, "full"), filepath.Join(dir, "sparse")
	require.NoError(t, os.WriteFile(full, make([]byte, 1<<20), 0o600))
	require.NoError(t, os.WriteFile(sparse, nil, 0o600))
	require.NoError(t, os.Truncate(sparse, 1<<30))

	size, err := space.Allocated(full)
	require.NoError(t, err)
	assert.GreaterOrEqual(t, size, int64(1<<20))

	size, err = space.Allocated(sparse)
	require.NoError(t, err)
	assert.Less(t, size, int64(1<<20), "holes take nothing")

	one, err := space.AllocatedTree(dir)
	require.NoError(t, err)
	require.NoError(t, os.Link(full, filepath.Join(dir, "link")))
	two, err := space.AllocatedTree(dir)
	require.NoError(t, err)
	assert.Equal(t, one, two, "a second name takes nothing")
}
