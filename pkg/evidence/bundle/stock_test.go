package bundle_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/evidence/bundle"
)

// stockLines are the lines of the documentation that verify evidence with stock tools.
func stockLines(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("../../../infra/docs/evidence.md")
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(page), "```sh\n")
	require.True(t, ok, "the page has no block of lines to run")
	lines, _, ok := strings.Cut(rest, "```")
	require.True(t, ok)
	for _, tool := range []string{"bash", "openssl", "jq", "tar", "base64", "sha256sum", "cmp"} {
		_, err := exec.LookPath(tool)
		require.NoErrorf(t, err, "%s is missing: run .tools/setup.sh test", tool)
	}
	return lines
}

// verifyByStockTools runs the documented lines on a bundle.
func verifyByStockTools(t *testing.T, lines string, files bundle.Files, trusted []byte) (string, error) {
	t.Helper()
	dir := t.TempDir()
	packed, err := files.Pack()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, contract.EvidenceObject), packed, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, contract.KeyFile), trusted, 0o600))
	cmd := exec.CommandContext(t.Context(), "bash", "-c", lines)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestTheDocumentedLinesVerifyEvidence(t *testing.T) {
	lines, by := stockLines(t), newSigner(t)
	files := signed(t, by, change{manifest: func(m *bundle.Manifest) { m.Approvals = 2 }})
	out, err := verifyByStockTools(t, lines, files, bundle.PEM(&by.PublicKey))
	require.NoError(t, err, out)
	assert.Equal(t, 6, strings.Count(out, "Verified OK"), out)
	for name := range records() {
		assert.Contains(t, out, name+": OK")
	}
	for _, name := range files.Names() {
		t.Run("not with a changed byte of "+name, func(t *testing.T) {
			altered := bundle.Files{}
			for n, raw := range files {
				altered[n] = append([]byte{}, raw...)
			}
			altered[name][len(altered[name])/2] ^= 1
			out, err := verifyByStockTools(t, lines, altered, bundle.PEM(&by.PublicKey))
			assert.Error(t, err, out)
		})
	}
	t.Run("not by another key", func(t *testing.T) {
		other := newSigner(t)
		_, err := verifyByStockTools(t, lines, files, bundle.PEM(&other.PublicKey))
		assert.Error(t, err)
	})
}
