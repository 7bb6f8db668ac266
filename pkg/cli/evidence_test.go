package cli

import (
	"crypto/ecdsa"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/evidence/bundle"
	"github.com/ami-factory/ami-factory/pkg/rehearsal"
)

// evidenceIsVerified verifies the evidence of a bake: from the file that it left, from
// the state folder by image and by execution, and as files in a folder.
func evidenceIsVerified(t *testing.T, tune func(*rehearsal.Options), local func(...string) []string, s rehearsal.Summary) {
	t.Helper()
	home := s.Images["eu-west-1"]
	verified := func(t *testing.T, args ...string) verdict {
		t.Helper()
		r := call(t, tune, append([]string{"evidence", "verify", "-o", "json"}, args...)...)
		require.Equal(t, exitOK, r.code, r.err)
		var got verdict
		require.NoError(t, json.Unmarshal([]byte(r.out), &got))
		require.True(t, got.Verified)
		assert.Equal(t, s.ARN, got.Manifest.Execution.ID)
		return got
	}
	t.Run("evidence verify of the file beside the report", func(t *testing.T) {
		got := verified(t, s.Evidence, "--key", s.EvidenceKey)
		assert.Len(t, got.Manifest.Images, 2)
		assert.NotEmpty(t, got.Attestations)
		r := call(t, tune, "evidence", "verify", s.Evidence, "--key", s.EvidenceKey)
		require.Equal(t, exitOK, r.code, r.err)
		for _, text := range []string{"SIMULATED: ", "PASSED, AMI_FACTORY_GATE", home, "provenance.dsse.json  https://slsa.dev/provenance/v1", got.ManifestSHA256} {
			assert.Contains(t, r.out, text)
		}
	})
	t.Run("evidence verify of an image, an execution and the latest", func(t *testing.T) {
		for _, which := range []string{home, s.Images["eu-central-1"], s.Execution, latest} {
			verified(t, local(which)...)
		}
		verified(t, local(home, "--key", s.EvidenceKey)...)
	})
	t.Run("evidence show", func(t *testing.T) {
		r := call(t, tune, local("evidence", "show", home)...)
		require.Equal(t, exitOK, r.code, r.err)
		for _, text := range []string{s.Fingerprint, "/dev/xvda snap-", contract.ComplianceObject, contract.InventoryObject} {
			assert.Contains(t, r.out, text)
		}
		r = call(t, tune, local("evidence", "show", home, "-o", "json")...)
		require.Equal(t, exitOK, r.code, r.err)
		assert.Contains(t, r.out, `"buildDefinition"`)
	})
	t.Run("evidence key is the key of the bake", func(t *testing.T) {
		r := call(t, tune, local("evidence", "key")...)
		require.Equal(t, exitOK, r.code, r.err)
		want, err := os.ReadFile(s.EvidenceKey)
		require.NoError(t, err)
		assert.Equal(t, string(want), r.out)
		r = call(t, tune, local("evidence", "key", "-o", "json")...)
		require.Equal(t, exitOK, r.code, r.err)
		assert.Contains(t, r.out, "arn:aws:kms:eu-west-1:")
	})
	t.Run("evidence with a changed byte is not verified", func(t *testing.T) {
		packed, err := os.ReadFile(s.Evidence)
		require.NoError(t, err)
		files, err := bundle.Unpack(packed)
		require.NoError(t, err)
		dir := t.TempDir()
		for name, raw := range files {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), raw, 0o600))
		}
		verified(t, dir, "--key", s.EvidenceKey)
		altered := append([]byte{}, files[contract.ComplianceObject]...)
		altered[len(altered)/2] ^= 1
		require.NoError(t, os.WriteFile(filepath.Join(dir, contract.ComplianceObject), altered, 0o600))
		r := call(t, tune, "evidence", "verify", dir, "--key", s.EvidenceKey)
		assert.Equal(t, exitFailed, r.code)
		assert.Contains(t, r.err, "compliance.json: its SHA-256 is")
		assert.Empty(t, r.out)
		r = call(t, tune, "evidence", "show", dir, "--key", s.EvidenceKey, "-o", "json")
		assert.Equal(t, exitFailed, r.code)
		var got verdict
		require.NoError(t, json.Unmarshal([]byte(r.out), &got))
		assert.False(t, got.Verified)
		require.Len(t, got.Refused, 1)
		assert.Equal(t, contract.ComplianceObject, got.Refused[0].File)
	})
	t.Run("evidence of another image does not verify one", func(t *testing.T) {
		files, key := loadedOf(t, s)
		_, err := loaded{image: "ami-0123456789abcdef0", files: files, key: key}.verify()
		assert.ErrorContains(t, err, "manifest.json: it is genuine and does not name ami-0123456789abcdef0")
	})
	t.Run("evidence that cannot be read", func(t *testing.T) {
		other := filepath.Join(t.TempDir(), "other.pem")
		require.NoError(t, os.WriteFile(other, []byte("x"), 0o600))
		for sentence, tc := range map[string]struct {
			args  []string
			code  int
			tells string
		}{
			"a file without a key":           {[]string{s.Evidence}, exitUsage, "give --key"},
			"a key that is none":             {[]string{s.Evidence, "--key", other}, exitUsage, "no PEM block"},
			"a key that is missing":          {[]string{s.Evidence, "--key", other + "x"}, exitUsage, "no such file"},
			"a file that is missing":         {[]string{s.Evidence + "x", "--key", s.EvidenceKey}, exitUsage, "there is no file"},
			"a file that is no bundle":       {[]string{s.Report, "--key", s.EvidenceKey}, exitFailed, "does not begin as a bundle does"},
			"an image that there is not":     {local("ami-0123456789abcdef0"), exitFailed, "ami-0123456789abcdef0"},
			"an execution that there is not": {local("no-such-run"), exitFailed, "there is no execution no-such-run"},
		} {
			t.Run(sentence, func(t *testing.T) {
				r := call(t, tune, append([]string{"evidence", "verify"}, tc.args...)...)
				assert.Equal(t, tc.code, r.code, r.err)
				assert.Contains(t, r.err, tc.tells)
			})
		}
	})
}

func loadedOf(t *testing.T, s rehearsal.Summary) (bundle.Files, *ecdsa.PublicKey) {
	t.Helper()
	packed, err := os.ReadFile(s.Evidence)
	require.NoError(t, err)
	files, err := bundle.Unpack(packed)
	require.NoError(t, err)
	text, err := os.ReadFile(s.EvidenceKey)
	require.NoError(t, err)
	key, err := bundle.ParseKey(text)
	require.NoError(t, err)
	return files, key
}
