package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// An ordinary user was told that nothing is missing, and the bake then failed for
// want of newuidmap.
func TestSetupNamesWhatAnOrdinaryUserLacks(t *testing.T) {
	if _, err := exec.LookPath("setpriv"); err != nil && os.Geteuid() == 0 {
		t.Skip("setpriv is not installed, so that root cannot run the script as an ordinary user")
	}
	script, err := os.ReadFile(filepath.Join("..", ".tools", "setup.sh"))
	require.NoError(t, err)
	dir, err := os.MkdirTemp("", "ami-factory-setup-") // which everybody may enter, unlike a test's own
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	bin := filepath.Join(dir, "bin")
	for _, d := range []string{bin, filepath.Join(dir, ".tools")} {
		require.NoError(t, os.Mkdir(d, 0o755))
	}
	file := filepath.Join(dir, ".tools", "setup.sh")
	require.NoError(t, os.WriteFile(file, script, 0o755))
	for _, tool := range []string{"bash", "dirname", "sort", "paste"} {
		found, err := exec.LookPath(tool)
		require.NoError(t, err)
		require.NoError(t, os.Symlink(found, filepath.Join(bin, tool)))
	}
	// All that virtual machines need but newuidmap.
	for _, tool := range []string{"go", "apt-get", "qemu-system-x86_64", "qemu-img", "mke2fs", "debugfs", "mmdebstrap"} {
		require.NoError(t, os.WriteFile(filepath.Join(bin, tool), []byte("#!/bin/sh\n"), 0o755))
	}
	run := func(purpose string) (string, int) {
		args := []string{"bash", file, purpose}
		if os.Geteuid() == 0 {
			args = append([]string{"setpriv", "--reuid=65534", "--clear-groups"}, args...)
		}
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env = []string{"PATH=" + bin}
		out, err := cmd.CombinedOutput()
		if err != nil {
			require.IsType(t, &exec.ExitError{}, err, "%s", out)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	out, code := run("vm")
	assert.Equal(t, 3, code)
	assert.Contains(t, out, "setup: missing: uidmap. Install with: sudo apt-get install --no-install-recommends uidmap")
	require.NoError(t, os.WriteFile(filepath.Join(bin, "newuidmap"), []byte("#!/bin/sh\n"), 0o755))
	out, code = run("vm")
	assert.Equal(t, 0, code, out)
	assert.Empty(t, out)
}
