package bundle_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/evidence/bundle"
)

func sha(data []byte) []byte {
	sum := sha256.Sum256(data)
	return sum[:]
}

// theirVerifier is what the reference implementation verifies with.
type theirVerifier struct{ signer }

func verifierOf(by signer) dsse.Verifier { return theirVerifier{by} }

func (v theirVerifier) KeyID() (string, error)   { return bundle.KeyID(&v.PublicKey), nil }
func (v theirVerifier) Public() crypto.PublicKey { return &v.PublicKey }
func (v theirVerifier) Verify(_ context.Context, data, sig []byte) error {
	if !ecdsa.VerifyASN1(&v.PublicKey, sha(data), sig) {
		return errors.New("wrong")
	}
	return nil
}

func TestAnArchiveHoldsTheFilesAndTheSameFilesGiveTheSameBytes(t *testing.T) {
	files := bundle.Files{"b.json": []byte("2"), "a.json": []byte("1"), "empty": nil}
	packed, err := files.Pack()
	require.NoError(t, err)
	again, err := bundle.Files{"a.json": []byte("1"), "empty": {}, "b.json": []byte("2")}.Pack()
	require.NoError(t, err)
	assert.Equal(t, packed, again)
	got, err := bundle.Unpack(packed)
	require.NoError(t, err)
	assert.Equal(t, []string{"a.json", "b.json", "empty"}, got.Names())
	assert.Equal(t, "2", string(got["b.json"]))
}

// Some bits of a compressed stream mean nothing: whatever they are, the files in it are
// the same, to the byte.
func TestOneChangedByteOfAnArchiveIsRefusedOrChangesNoFile(t *testing.T) {
	by := newSigner(t)
	files := signed(t, by, change{})
	packed, err := files.Pack()
	require.NoError(t, err)
	refused := 0
	for at := range packed {
		altered := append([]byte{}, packed...)
		altered[at] ^= 0x04
		got, err := bundle.Unpack(altered)
		if err != nil {
			refused++
			continue
		}
		require.Equalf(t, files, got, "byte %d of %d", at, len(packed))
	}
	assert.Greater(t, refused, len(packed)*9/10)
}

func TestAnArchiveThatTheFactoryDidNotWriteIsRefused(t *testing.T) {
	pack := func(headers ...tar.Header) []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		w := tar.NewWriter(z)
		for _, h := range headers {
			require.NoError(t, w.WriteHeader(&h))
			_, err := w.Write([]byte(strings.Repeat("x", int(h.Size))))
			require.NoError(t, err)
		}
		require.NoError(t, w.Close())
		require.NoError(t, z.Close())
		return b.Bytes()
	}
	regular := func(name string) tar.Header {
		return tar.Header{Name: name, Mode: 0o644, Size: 1, Format: tar.FormatUSTAR}
	}
	good := pack(regular("a"))
	_, err := bundle.Unpack(good)
	require.NoError(t, err)
	other := regular("a")
	other.Uname = "root"
	for sentence, tc := range map[string]struct {
		packed []byte
		want   string
	}{
		"no archive":                     {[]byte("hello"), "does not begin as a bundle does"},
		"an archive that is cut":         {good[:len(good)-9], "cannot be unpacked"},
		"bytes behind the archive":       {append(append([]byte{}, good...), 'x'), "1 bytes follow"},
		"a second archive behind it":     {append(append([]byte{}, good...), good...), "bytes follow"},
		"a name in a folder":             {pack(regular("a/b")), "no regular file"},
		"a name out of the folder":       {pack(regular("../b")), "no regular file"},
		"a folder":                       {pack(tar.Header{Name: "d", Typeflag: tar.TypeDir, Format: tar.FormatUSTAR}), "no regular file"},
		"a link":                         {pack(tar.Header{Name: "l", Linkname: "/etc/passwd", Typeflag: tar.TypeSymlink, Format: tar.FormatUSTAR}), "no regular file"},
		"the same name twice":            {pack(regular("a"), regular("a")), "twice"},
		"files out of order":             {pack(regular("b"), regular("a")), "not in the form"},
		"what tar says beside the names": {pack(other), "not in the form"},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := bundle.Unpack(tc.packed)
			assert.ErrorContains(t, err, tc.want)
		})
	}
}

func TestAFolderIsReadAsABundle(t *testing.T) {
	got, err := bundle.ReadFS(fstest.MapFS{"a": {Data: []byte("1")}, "b": {Data: []byte("2")}})
	require.NoError(t, err)
	assert.Equal(t, bundle.Files{"a": []byte("1"), "b": []byte("2")}, got)
	_, err = bundle.ReadFS(fstest.MapFS{"d/a": {Data: []byte("1")}})
	assert.ErrorContains(t, err, "d: it is no regular file")
	_, err = bundle.ReadFS(fstest.MapFS{"l": {Data: []byte("a"), Mode: os.ModeSymlink}})
	assert.ErrorContains(t, err, "l: it is no regular file")
}

func TestKeysAreReadAsPEM(t *testing.T) {
	by := newSigner(t)
	text := bundle.PEM(&by.PublicKey)
	got, err := bundle.ParseKey(text)
	require.NoError(t, err)
	assert.True(t, got.Equal(&by.PublicKey))
	for sentence, tc := range map[string]struct{ text, want string }{
		"nothing":        {"", "no PEM block"},
		"a private key":  {"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "of type PRIVATE KEY (allowed: PUBLIC KEY)"},
		"two keys":       {string(text) + string(text), "more than one"},
		"no key":         {"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "no public key"},
		"an Ed25519 key": {"-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n", "no key of ECDSA P-256"},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := bundle.ParseKey([]byte(tc.text))
			assert.ErrorContains(t, err, tc.want)
		})
	}
}
