package snapshot_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// folder writes files below a folder. A value that begins with "-> " is the
// target of a symbolic link.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		file := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		if target, link := strings.CutPrefix(files[name], "-> "); link {
			require.NoError(t, os.Symlink(target, file))
			continue
		}
		require.NoError(t, os.WriteFile(file, []byte(files[name]), 0o644))
	}
	return dir
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "PATH=/usr/sbin:/sbin:"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s %v: %s", name, args, out)
	return string(out)
}

// ext4Image makes a file system of a folder.
func ext4Image(t *testing.T, dir, size string, options ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk")
	run(t, "mke2fs", append(append([]string{"-q", "-t", "ext4", "-d", dir}, options...), file, size)...)
	return file
}

// xfsImage makes a file system of a folder.
func xfsImage(t *testing.T, dir string, options ...string) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("/nothing\n0 0\n")
	var walk func(string)
	walk = func(at string) {
		all, err := os.ReadDir(at)
		require.NoError(t, err)
		for _, e := range all {
			name := filepath.Join(at, e.Name())
			switch {
			case e.IsDir():
				fmt.Fprintf(&b, "%s d--755 0 0\n", e.Name())
				walk(name)
			case e.Type()&os.ModeSymlink != 0:
				target, err := os.Readlink(name)
				require.NoError(t, err)
				fmt.Fprintf(&b, "%s l--777 0 0 %s\n", e.Name(), target)
			default:
				fmt.Fprintf(&b, "%s ---644 0 0 %s\n", e.Name(), name)
			}
		}
		b.WriteString("$\n")
	}
	b.WriteString("d--755 0 0\n")
	walk(dir)
	prototype := filepath.Join(t.TempDir(), "prototype")
	require.NoError(t, os.WriteFile(prototype, []byte(b.String()), 0o600))
	file := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(file)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(48<<20))
	require.NoError(t, f.Close())
	run(t, "mkfs.xfs", append(append([]string{"-q", "--unsupported", "-p", prototype}, options...), file)...)
	return file
}
