package cli

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/compliance"
)

const (
	allowed = `licenses: [MIT]
packages:
  - {ecosystem: deb, source: openssl, reason: every service needs it, owner: a@example.com, approvedBy: b@example.com, approved: 2026-01-01, expires: 2026-12-31}
`
	dpkgStatus = "Package: libssl3\nStatus: install ok installed\nSource: openssl\nArchitecture: amd64\nVersion: 3.0.1\n"
	ofMIT      = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nCopyright: x\nLicense: Expat\n"
)

// userdataWith is a copy of the user data with one file more.
func userdataWith(t *testing.T, name, text string) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(filepath.Join("..", "..", "userdata"))))
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	return dir
}

func TestOSSCheckOfFoldersAndImages(t *testing.T) {
	// The command has the day of the machine, so the list must hold today.
	day := func(offset int) string { return time.Now().UTC().AddDate(0, 0, offset).Format(time.DateOnly) }
	list := userdataWith(t, "oss/debian.yaml", strings.NewReplacer("2026-01-01", day(-1), "2026-12-31", day(200)).Replace(allowed))
	root := t.TempDir()
	put := func(name, text string) {
		require.NoError(t, os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(root, name), []byte(text), 0o600))
	}
	put("var/lib/dpkg/status", dpkgStatus)
	put("usr/share/doc/libssl3/copyright", ofMIT)

	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range [][2]string{{"var/lib/dpkg/status.d/libssl3", dpkgStatus}, {"usr/share/doc/openssl/copyright", ofMIT}} {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: f[0], Mode: 0o644, Size: int64(len(f[1]))}))
		_, err := io.WriteString(w, f[1])
		require.NoError(t, err)
	}
	require.NoError(t, w.WriteHeader(&tar.Header{Name: "usr/share/doc/libssl3", Typeflag: tar.TypeSymlink, Linkname: "openssl"}))
	require.NoError(t, w.Close())
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	require.NoError(t, err)
	img, err := mutate.AppendLayers(empty.Image, layer)
	require.NoError(t, err)
	image := layoutOf(t, img)

	for sentence, tc := range map[string]struct {
		args []string
		code int
		says string
	}{
		"a folder":           {[]string{"--rootfs", root, "--userdata", list}, exitOK, "verdict   passed"},
		"an image":           {[]string{image, "--userdata", list}, exitOK, "verdict   passed"},
		"no list":            {[]string{image}, exitFailed, "approves no package"},
		"nothing":            {nil, exitUsage, "takes one of IMAGE, --rootfs and --inventory, and 0 were given"},
		"two things":         {[]string{image, "--rootfs", root}, exitUsage, "and 2 were given"},
		"no folder":          {[]string{"--rootfs", "/none", "--userdata", list}, exitUsage, "--rootfs /none is no folder"},
		"no inventory":       {[]string{"--inventory", "/none.json", "--userdata", list}, exitUsage, "/none.json does not exist"},
		"a folder without":   {[]string{"--rootfs", t.TempDir(), "--userdata", list}, exitFailed, "there is no list of packages"},
		"a gate of no kind":  {[]string{image, "--gate", "x"}, exitUsage, `--gate is "x"`},
		"a list of mistakes": {[]string{image, "--userdata", userdataWith(t, "oss/x.yaml", "packages: [{}]\n")}, exitFailed, "oss/x.yaml:1:12: error: packages[0].ecosystem is required"},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := call(t, nil, append([]string{"oss", "check"}, tc.args...)...)
			assert.Equal(t, tc.code, r.code, r.err+r.out)
			assert.Contains(t, r.out+r.err, tc.says)
		})
	}

	put("var/lib/dpkg/status", dpkgStatus+"\nPackage: opensll\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n")
	r := call(t, nil, "oss", "check", "--rootfs", root, "--userdata", list)
	assert.Equal(t, exitRejected, r.code)
	assert.Contains(t, r.out, "opensll is nearly openssl")
	r = call(t, nil, "oss", "check", "--rootfs", root, "--userdata", list, "--output", "json")
	assert.Equal(t, exitRejected, r.code)
	var reports []compliance.Report
	require.NoError(t, json.Unmarshal([]byte(r.out), &reports))
	assert.Equal(t, compliance.VerdictRejected, reports[0].Verdict)
}

func TestLintChecksTheListOfAllowedPackages(t *testing.T) {
	dir := userdataWith(t, "oss/debian.yaml", "licenses: [Expat]\n")
	r := call(t, nil, "lint", "--userdata", dir)
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.err, `oss/debian.yaml:1:12: error: "Expat" is no identifier of SPDX`)
}
