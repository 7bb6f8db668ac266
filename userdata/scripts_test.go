package userdata_test

import (
	"bytes"
	"io/fs"
	"os/exec"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"mvdan.cc/sh/v3/syntax"

	"github.com/ami-factory/ami-factory/userdata"
)

// scripts returns every shell script of the embedded tree with its dialect.
func scripts(t *testing.T) map[string]syntax.LangVariant {
	t.Helper()
	found := map[string]syntax.LangVariant{}
	err := fs.WalkDir(userdata.FS, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(userdata.FS, name)
		if err != nil {
			return err
		}
		first, _, _ := strings.Cut(string(content), "\n")
		switch {
		case strings.HasPrefix(first, "#!/bin/bash"):
			found[name] = syntax.LangBash
		case strings.HasPrefix(first, "#!/bin/sh"), path.Ext(name) == ".sh":
			found[name] = syntax.LangPOSIX
		}
		return nil
	})
	require.NoError(t, err)
	require.Contains(t, found, "runner/run.sh")
	require.Contains(t, found, "components/hardening/install.sh")
	return found
}

func TestScriptsAreFormattedAsShfmtDoes(t *testing.T) {
	for name, dialect := range scripts(t) {
		t.Run(name, func(t *testing.T) {
			content, err := fs.ReadFile(userdata.FS, name)
			require.NoError(t, err)
			file, err := syntax.NewParser(syntax.Variant(dialect), syntax.KeepComments(true)).
				Parse(bytes.NewReader(content), name)
			require.NoError(t, err)
			var formatted bytes.Buffer
			require.NoError(t, syntax.NewPrinter().Print(&formatted, file))
			assert.Equal(t, formatted.String(), string(content))
		})
	}
}

func TestScriptsPassShellcheck(t *testing.T) {
	if testing.Short() {
		t.Skip("half a minute of a processor: `make lint` runs shellcheck on the same scripts")
	}
	shellcheck, err := exec.LookPath("shellcheck")
	if err != nil {
		t.Skip("shellcheck is not installed (Debian package shellcheck)")
	}
	for name := range scripts(t) {
		t.Run(name, func(t *testing.T) {
			output, err := exec.CommandContext(t.Context(), shellcheck, "--color=never", name).CombinedOutput()
			assert.NoError(t, err, "%s", output)
		})
	}
}

func TestNoScriptNamesAnInsecureDownload(t *testing.T) {
	for name := range scripts(t) {
		content, err := fs.ReadFile(userdata.FS, name)
		require.NoError(t, err)
		for number, line := range strings.Split(string(content), "\n") {
			code, _, _ := strings.Cut(line, "#")
			piped := strings.Contains(code, "curl") && (strings.Contains(code, "| sh") || strings.Contains(code, "| bash"))
			assert.False(t, piped, "%s:%d pipes a download into a shell", name, number+1)
		}
	}
}

// What lint lets through no recipe can bring, but somebody may run a component
// by hand.
func TestTheFirewallTakesPortsOnly(t *testing.T) {
	install, err := fs.ReadFile(userdata.FS, "components/hardening/install.sh")
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(install), "\nfirewall_ports() {")
	require.True(t, found)
	body, _, found := strings.Cut(rest, "\n}\n")
	require.True(t, found)
	for value, want := range map[string]string{
		"22": "22", "22,443": "22, 443", "1,65535": "1, 65535",
		"": "!is not a list of ports", "0": "!is not a list of ports", "22,": "!is not a list of ports", "22-80": "!is not a list of ports",
		"022": "!is not a list of ports", "22 }; drop": "!is not a list of ports", "65536": "!has the port 65536", "22,99999": "!has the port 99999",
	} {
		t.Run("the ports "+value, func(t *testing.T) {
			script := "fail() { printf '%s' \"$*\"; exit 3; }\nfirewall_ports() {" + body + "\n}\nfirewall_ports \"$1\""
			output, err := exec.CommandContext(t.Context(), "bash", "-c", script, "bash", value).Output() // #nosec G204 -- of the test
			reason, refused := strings.CutPrefix(want, "!")
			assert.Equal(t, refused, err != nil, "%s", output)
			assert.Contains(t, string(output), reason)
		})
	}
}
