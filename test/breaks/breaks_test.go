package breaks

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// here runs a script on this machine, with the saved files in a folder of the test.
func here(t *testing.T, dir, script string) (string, int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-c", strings.ReplaceAll(script, saved, filepath.Join(dir, "saved")))
	out, err := cmd.CombinedOutput()
	if err != nil {
		require.IsType(t, &exec.ExitError{}, err, "%s", out)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func TestWhatABreakChangesIsRestoredWithItsMode(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	require.NoError(t, os.Mkdir(at("d"), 0o700))
	for _, name := range []string{"changed", "d/removed", "a.rules", "b.rules"} {
		require.NoError(t, os.WriteFile(at(name), []byte("as it was\n"), 0o640))
	}
	b := Break{
		Keep:    []string{at("changed"), at("d/removed"), at("d"), at("x/y/made"), at("*.rules")},
		Command: "cd " + dir + " && echo more >>changed && chmod 666 changed && rm d/removed && chmod 755 d && mkdir -p x/y && touch x/y/made && rm a.rules && echo z >b.rules",
	}
	out, code := here(t, dir, b.Apply())
	require.Zero(t, code, out)
	assert.FileExists(t, at("x/y/made"))
	out, code = here(t, dir, b.Restore())
	require.Zero(t, code, out)
	for _, name := range []string{"changed", "d/removed", "a.rules", "b.rules"} {
		content, err := os.ReadFile(at(name))
		require.NoError(t, err)
		assert.Equal(t, "as it was\n", string(content), name)
		info, err := os.Stat(at(name))
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o640), info.Mode().Perm(), name)
	}
	info, err := os.Stat(at("d"))
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	assert.NoDirExists(t, at("x"), "folders that the break made are removed too")
}

func TestABreakIsInForceWhenItsScriptEnds(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "late")
	b := Break{Command: "(sleep 1; touch " + file + ") >/dev/null 2>&1 &", Wait: "[ -e '" + file + "' ]", Undo: "rm " + file}
	out, code := here(t, dir, b.Apply())
	require.Zero(t, code, out)
	assert.FileExists(t, file)
	out, code = here(t, dir, b.Restore())
	require.Zero(t, code, out)
	assert.NoFileExists(t, file)
	_, code = here(t, dir, Break{Command: "false"}.Apply())
	assert.NotZero(t, code, "a failing break is reported")
}

// fakeGuest has controls that are broken by files of their name.
type fakeGuest struct {
	dir string
}

func (g fakeGuest) failing(t *testing.T, _ string) map[string]string {
	t.Helper()
	found := map[string]string{}
	entries, err := os.ReadDir(g.dir)
	require.NoError(t, err)
	for _, e := range entries {
		found[e.Name()] = "its file is there"
	}
	return found
}

func TestEveryBreakIsListedOnceAndTestedAlone(t *testing.T) {
	all := Load(t)
	require.Greater(t, len(all), 120)
	g := fakeGuest{dir: t.TempDir()}
	var controls []string
	for _, b := range all[:5] {
		controls = append(controls, b.Control)
	}
	applied := ""
	tested := Each(t, controls, func(t *testing.T, script string) (string, int) {
		for _, b := range all {
			file := filepath.Join(g.dir, b.Control)
			switch script {
			case b.Apply():
				applied = b.Control
				require.Empty(t, g.failing(t, ""), "the one before was undone")
				require.NoError(t, os.WriteFile(file, nil, 0o600))
				return "", 0
			case b.Restore():
				if b.Control == applied {
					require.NoError(t, os.Remove(file))
					return "", 0
				}
			}
		}
		return "unknown script", 1
	}, g.failing)
	assert.Equal(t, 5, tested)
}
