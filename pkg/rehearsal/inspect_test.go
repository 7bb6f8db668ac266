package rehearsal

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
)

func TestInspectOfWhatWasNeverBaked(t *testing.T) {
	dir := t.TempDir()
	_, err := Inspect(t.Context(), Options{Guests: vm.Simulated, StateDir: dir})
	require.ErrorIs(t, err, ErrNoState)
	assert.ErrorContains(t, err, filepath.Join(dir, "simulated"))
	_, err = Inspect(t.Context(), Options{Guests: "docker", StateDir: dir})
	assert.ErrorContains(t, err, "allowed: vm, container, simulated")
}

func TestInspectNamesTheStatesThatThereAre(t *testing.T) {
	dir := t.TempDir()
	for _, of := range []string{"simulated", "container-cn-north-1", "vm-bare"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, of), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, of, "state.json"), []byte("{}"), 0o600))
	}
	assert.Equal(t, []string{"cn-north-1"}, Homes(dir, vm.Container))
	assert.Equal(t, []string{"eu-west-1"}, Homes(dir, vm.Simulated))
	assert.Empty(t, Homes(dir, vm.VM), "nothing is deployed in that one")
	_, err := Inspect(t.Context(), Options{Guests: vm.VM, StateDir: dir})
	require.ErrorIs(t, err, ErrNoState)
	assert.ErrorContains(t, err, "(the folder has those of: --guests container, --guests simulated)")
}

func TestInspectWhileAnotherHasTheStateOpenChangesNothing(t *testing.T) {
	dir := t.TempDir()
	goss := filepath.Join(dir, "goss")
	require.NoError(t, os.WriteFile(goss, []byte("stand-in"), 0o600))
	opts := Options{Guests: vm.Simulated, StateDir: filepath.Join(dir, "state"), CacheDir: filepath.Join(dir, "cache"), GossFile: goss}
	open, err := Open(t.Context(), opts)
	require.NoError(t, err)
	defer func() { assert.NoError(t, open.Close(t.Context())) }()
	require.NoError(t, open.Cloud.Save())
	file := filepath.Join(open.StateDir, "state.json")
	before, err := os.ReadFile(file)
	require.NoError(t, err)

	looked, err := Inspect(t.Context(), opts)
	require.NoError(t, err)
	assert.Equal(t, open.Cloud.Account(), looked.Cloud.Account())
	copied := looked.temporary
	require.NoError(t, looked.Close(t.Context()))
	assert.NoDirExists(t, copied, "the copy is gone")
	after, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.JSONEq(t, string(before), string(after))
}

// Service users have a home that does not exist, and cannot be made.
func TestACacheFolderThatCannotBeMadeSaysHowToNameAnother(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	goss := filepath.Join(dir, "goss")
	require.NoError(t, os.WriteFile(goss, []byte("stand-in"), 0o600))
	_, err := Open(t.Context(), Options{Guests: vm.Simulated, CacheDir: filepath.Join(file, "cache"), GossFile: goss})
	require.ErrorContains(t, err, "name another with --cache (make bake CACHE=FOLDER)")

	t.Setenv("HOME", "")
	t.Setenv("XDG_CACHE_HOME", "")
	_, err = Open(t.Context(), Options{Guests: vm.Simulated, GossFile: goss})
	require.ErrorContains(t, err, "name one with --cache (make bake CACHE=FOLDER)")
}
