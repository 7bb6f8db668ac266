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
