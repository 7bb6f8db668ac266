package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// toolScript copies a script of .tools, and what it reads, into a folder where only the
// named programs are in PATH, beside those that the test puts into bin.
func toolScript(t *testing.T, name string, programs ...string) (file, bin string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "ami-factory-tools-") // which everybody may enter, unlike a test's own
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	bin = filepath.Join(dir, "bin")
	require.NoError(t, os.Mkdir(bin, 0o755))
	require.NoError(t, os.CopyFS(filepath.Join(dir, ".tools"), os.DirFS(filepath.Join("..", ".tools"))))
	for _, tool := range programs {
		found, err := exec.LookPath(tool)
		require.NoError(t, err)
		require.NoError(t, os.Symlink(found, filepath.Join(bin, tool)))
	}
	return filepath.Join(dir, ".tools", name), bin
}

// fake puts a program into a folder.
func fake(t *testing.T, bin, name, script string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/bash\n"+script+"\n"), 0o755))
}

// An ordinary user was told that nothing is missing, and the bake then failed for
// want of newuidmap.
func TestSetupNamesWhatAnOrdinaryUserLacks(t *testing.T) {
	if _, err := exec.LookPath("setpriv"); err != nil && os.Geteuid() == 0 {
		t.Skip("setpriv is not installed, so that root cannot run the script as an ordinary user")
	}
	file, bin := toolScript(t, "setup.sh", "bash", "dirname", "sort", "paste")
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

// What a registry does not deliver is a failure; only what a machine cannot have makes
// tests skip.
func TestAFailingRegistryIsAFailureAndNoReasonToSkip(t *testing.T) {
	run := func(file, bin string, args ...string) (string, int) {
		cmd := exec.Command(filepath.Join(bin, "bash"), append([]string{file}, args...)...)
		cmd.Env = []string{"PATH=" + bin, "AMI_FACTORY_CACHE=" + filepath.Join(filepath.Dir(bin), "cache")}
		out, err := cmd.CombinedOutput()
		if err != nil {
			require.IsType(t, &exec.ExitError{}, err, "%s", out)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	t.Run("apt-get", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("setup.sh installs packages as root only")
		}
		file, bin := toolScript(t, "setup.sh", "bash", "dirname", "sort", "paste", "mkdir", "tail")
		fake(t, bin, "go", "")
		out, code := run(file, bin, "lint")
		assert.Equal(t, 3, code, "a system without apt-get: %s", out)
		fake(t, bin, "apt-get", "echo the mirror is away; exit 100")
		out, code = run(file, bin, "lint")
		assert.Equal(t, 1, code, out)
		assert.Contains(t, out, "the mirror is away")
	})
	for _, program := range []string{"cfn-lint", "aws", "cloud-init"} {
		t.Run(program, func(t *testing.T) {
			file, bin := toolScript(t, "programs.sh", "bash", "dirname", "sed", "rm", "mkdir", "cut", "cat", "sha256sum", "tail", "touch")
			out, code := run(file, bin, program)
			assert.Equal(t, 3, code, "a system without Python: %s", out)
			assert.Contains(t, out, "python3-venv")
			// Python makes an environment whose pip does not get the packages.
			fake(t, bin, "apt-get", "")
			fake(t, bin, "python3", `if [[ $2 == venv ]]; then mkdir -p "$3/bin"; printf '#!/bin/bash\necho the index is away; exit 1\n' >"$3/bin/pip"; chmod 755 "$3/bin/pip"; fi`)
			chmod, err := exec.LookPath("chmod")
			require.NoError(t, err)
			require.NoError(t, os.Symlink(chmod, filepath.Join(bin, "chmod")))
			out, code = run(file, bin, program)
			assert.Equal(t, 1, code, out)
			assert.Contains(t, out, "the index is away")
		})
	}
}
