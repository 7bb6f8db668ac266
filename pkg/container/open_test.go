package container_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/container"
)

// TestAnImageIsFoundWhereverItIs checks the same image in a layout, an archive and a
// registry.
func TestAnImageIsFoundWhereverItIs(t *testing.T) {
	b := goodBuild(t, systemProgram(t))
	img := b.image(t)

	dir := filepath.Join(t.TempDir(), "layout")
	l, err := layout.Write(dir, empty.Index)
	require.NoError(t, err)
	require.NoError(t, l.AppendImage(img.Image, layout.WithPlatform(v1.Platform{OS: "linux", Architecture: b.config.Architecture})))

	archive := filepath.Join(t.TempDir(), "demo.tar")
	tag, err := name.NewTag("demo:1")
	require.NoError(t, err)
	require.NoError(t, tarball.WriteToFile(archive, tag, img.Image))

	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	reference := strings.TrimPrefix(server.URL, "http://") + "/team/demo:1"
	ref, err := name.ParseReference(reference)
	require.NoError(t, err)
	require.NoError(t, remote.Write(ref, img.Image))

	raw, err := img.RawConfigFile()
	require.NoError(t, err)
	for sentence, argument := range map[string]string{"a layout": dir, "an archive": archive, "a registry": reference} {
		t.Run(sentence, func(t *testing.T) {
			images, err := container.Open(t.Context(), argument)
			require.NoError(t, err)
			require.Len(t, images, 1)
			got, err := images[0].RawConfigFile()
			require.NoError(t, err)
			assert.Equal(t, raw, got)
			report, err := container.CheckImage(images[0], b.options)
			require.NoError(t, err)
			assert.Empty(t, failed(report))
			assert.Equal(t, compliance.VerdictPassed, report.Verdict)
			if sentence != "an archive" {
				assert.Equal(t, img.ID, images[0].ID)
			}
		})
	}
	images, err := container.Open(t.Context(), reference)
	require.NoError(t, err)
	assert.True(t, strings.HasSuffix(images[0].Repository, "/team/demo"))
}

func TestAnIndexHasTheImageOfEachPlatform(t *testing.T) {
	b := goodBuild(t, systemProgram(t))
	here := b.image(t)
	other := mutate.Annotations(here.Image, map[string]string{"other": "1"}).(v1.Image)
	index := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: here.Image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: b.config.Architecture}}},
		mutate.IndexAddendum{Add: other, Descriptor: v1.Descriptor{ArtifactType: "application/x", Platform: &v1.Platform{OS: "linux", Architecture: "s390x"}}},
		mutate.IndexAddendum{Add: mutate.Annotations(here.Image, map[string]string{"attestation": "1"}).(v1.Image), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "unknown", Architecture: "unknown"}}})
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	ref, err := name.ParseReference(strings.TrimPrefix(server.URL, "http://") + "/demo:1")
	require.NoError(t, err)
	require.NoError(t, remote.WriteIndex(ref, index))
	images, err := container.Open(t.Context(), ref.String())
	require.NoError(t, err)
	require.Len(t, images, 2)
	digest, err := index.Digest()
	require.NoError(t, err)
	assert.Equal(t, digest.String(), images[1].Index)
	report, err := container.CheckImage(images[1], b.options)
	require.NoError(t, err)
	assert.Contains(t, failed(report)["OCI-11"], "the index lists it as linux/s390x")
}

func TestWhatIsNoImage(t *testing.T) {
	dir := t.TempDir()
	write := func(file, text string) string {
		require.NoError(t, os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600))
		return filepath.Join(dir, file)
	}
	for sentence, tc := range map[string]struct{ argument, says string }{
		"a folder":           {dir, "is no OCI layout"},
		"no file":            {"./missing.tar", "there is no file ./missing.tar"},
		"a text":             {write("a.txt", "x"), "is no archive of docker save"},
		"a packed archive":   {write("a.tgz", "\x1f\x8b\x08"), "unpack it first"},
		"a packed layout":    {write("layout.tar", string(packed(t, []item{{name: "oci-layout", content: "{}"}}))), "unpack it, and name the folder"},
		"no reference":       {"UPPER CASE", "no reference of an image"},
		"an archive of none": {write("none.tar", string(packed(t, []item{{name: "manifest.json", content: "[]"}}))), "has none"},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := container.Open(t.Context(), tc.argument)
			require.ErrorIs(t, err, container.ErrNoImage)
			assert.ErrorContains(t, err, tc.says)
		})
	}
}

// TestALayoutThatSomebodyChanged replaces blobs under their names.
func TestALayoutThatSomebodyChanged(t *testing.T) {
	b := goodBuild(t, systemProgram(t))
	img := b.image(t)
	manifest, err := img.Manifest()
	require.NoError(t, err)
	for sentence, tc := range map[string]struct {
		blob v1.Hash
		says string
	}{
		"its manifest":      {mustHash(t, img.ID), "the index says"},
		"its configuration": {manifest.Config.Digest, "the manifest says"},
		"a layer":           {manifest.Layers[1].Digest, ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "layout")
			l, err := layout.Write(dir, empty.Index)
			require.NoError(t, err)
			require.NoError(t, l.AppendImage(img.Image))
			file := filepath.Join(dir, "blobs", "sha256", tc.blob.Hex)
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			changed := bytes.Replace(data, []byte("linux"), []byte("Linux"), 1)
			if tc.says == "" || bytes.Equal(changed, data) {
				changed = append(bytes.Clone(data), ' ')
			}
			if tc.says == "" {
				items := packed(t, []item{{name: "app/server", content: "other", mode: 0o755}})
				other := layerOf(t, items)
				r, err := other.Compressed()
				require.NoError(t, err)
				changed, err = io.ReadAll(r)
				require.NoError(t, err)
			}
			require.NoError(t, os.WriteFile(file, changed, 0o600))
			images, err := container.Open(t.Context(), dir)
			if err == nil {
				var report compliance.Report
				report, err = container.CheckImage(images[0], b.options)
				if tc.says == "" {
					require.NoError(t, err)
					assert.Contains(t, failed(report)["OCI-21"], "its content has the digest")
					return
				}
			}
			assert.ErrorContains(t, err, tc.says)
		})
	}
}

func mustHash(t *testing.T, text string) v1.Hash {
	t.Helper()
	h, err := v1.NewHash(text)
	require.NoError(t, err)
	return h
}

func TestAListOfApprovedBases(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	for sentence, tc := range map[string]struct{ text, says string }{
		"a digest":          {"bases: [{digest: " + digest + "}]\n", ""},
		"everything":        {"bases:\n  - {name: r/base, digest: " + digest + ", layers: [" + digest + "], expires: 2027-01-31}\n", ""},
		"no digest":         {"bases: [{name: base}]\n", "bases.yaml:1:9: error: bases[0].digest is required but missing"},
		"a tag":             {"bases: [{digest: latest}]\n", "bases.yaml:1:18: error:"},
		"no day":            {"bases: [{digest: " + digest + ", expires: 2027-02-31}]\n", `"2027-02-31" is not a date of the calendar`},
		"an unknown key":    {"bases: [{digest: " + digest + ", forever: true}]\n", `unknown key "forever"`},
		"nothing":           {"bases: []\n", "bases"},
		"another kind":      {"contract: {}\n", `unknown key "contract"`},
		"a layer that none": {"bases: [{digest: " + digest + ", layers: [x]}]\n", "layers[0]"},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, problems := container.ParseBases("bases.yaml", []byte(tc.text))
			if tc.says == "" {
				assert.Empty(t, problems)
				return
			}
			require.True(t, problems.HasErrors())
			assert.Contains(t, problems.Err().Error(), tc.says)
		})
	}
}

// manifest is one that a registry has, whether or not it is right.
type manifest []byte

// RawManifest implements remote.Taggable.
func (m manifest) RawManifest() ([]byte, error) { return m, nil }

// MediaType says of which kind it is.
func (m manifest) MediaType() (types.MediaType, error) {
	if bytes.Contains(m, []byte(`"manifests"`)) {
		return types.OCIImageIndex, nil
	}
	return types.OCIManifestSchema1, nil
}

// TestAConfigurationThatIsTooLargeIsNotRead opens images whose configuration would fill the
// memory.
func TestAConfigurationThatIsTooLargeIsNotRead(t *testing.T) {
	const most = 8 << 20
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	push := func(tag string, raw string) string {
		ref, err := name.ParseReference(strings.TrimPrefix(server.URL, "http://") + "/demo:" + tag)
		require.NoError(t, err)
		require.NoError(t, remote.Put(ref, manifest(raw)))
		return ref.String()
	}
	sized := func(size int64) string {
		return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"size":%d,"digest":"sha256:%064d"},"layers":[]}`, types.OCIManifestSchema1, types.OCIConfigJSON, size, 0)
	}
	large := sized(most + 1)
	digest, size, err := v1.SHA256(strings.NewReader(large))
	require.NoError(t, err)

	dir := filepath.Join(t.TempDir(), "layout")
	l, err := layout.Write(dir, empty.Index)
	require.NoError(t, err)
	img := goodBuild(t, systemProgram(t)).image(t)
	require.NoError(t, l.AppendImage(img.Image))
	m, err := img.Manifest()
	require.NoError(t, err)
	require.NoError(t, os.Truncate(filepath.Join(dir, "blobs", "sha256", m.Config.Digest.Hex), most+1))

	archive := filepath.Join(t.TempDir(), "demo.tar")
	require.NoError(t, os.WriteFile(archive, packed(t, []item{{name: "c.json", content: strings.Repeat(" ", most+1)}, {name: "manifest.json", content: `[{"Config":"c.json","Layers":[]}]`}}), 0o600))
	linked := filepath.Join(t.TempDir(), "linked.tar")
	require.NoError(t, os.WriteFile(linked, packed(t, []item{{name: "c.json", kind: tar.TypeSymlink, link: "d.json"}, {name: "d.json", content: "{}"}, {name: "manifest.json", content: `[{"Config":"c.json","Layers":[]}]`}}), 0o600))

	for sentence, tc := range map[string]struct{ argument, says string }{
		"in a registry":                {push("large", large), "the configuration of the image has 8388609 bytes, 8388608 are allowed"},
		"in a registry, of no size":    {push("unknown", sized(-1)), "the configuration of the image has -1 bytes"},
		"in an index":                  {push("index", fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"size":%d,"digest":%q}]}`, types.OCIImageIndex, types.OCIManifestSchema1, size, digest)), "the configuration of the image has 8388609 bytes"},
		"in a layout, of another size": {dir, "has 8388609 bytes, 8388608 are allowed"},
		"in an archive of docker save": {archive, "c.json has 8388609 bytes, 8388608 are allowed"},
		"in an archive, behind a link": {linked, "c.json is a link"},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := container.Open(t.Context(), tc.argument)
			assert.ErrorContains(t, err, tc.says)
		})
	}
}
