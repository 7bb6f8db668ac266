package container

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Image is an image to check.
type Image struct {
	v1.Image
	ID string // digest of its manifest, or of its configuration if the archive has no manifest
	// Repository is where it is in a registry; empty if it is not from one.
	Repository string
	Index      string       // digest of the index that the reference names; empty without one
	Platform   *v1.Platform // as an index lists it; nil without an index
	Manifested bool         // the manifest is the image's own, and not made for an archive
}

// ErrNoImage says that an argument names no image.
var ErrNoImage = errors.New("no image")

// Open finds the images that an argument names: a folder with an OCI layout, an archive of
// "docker save", or a reference in a registry. An index has an image for each platform.
// Credentials of registries are those of docker and podman.
func Open(ctx context.Context, argument string, options ...remote.Option) ([]Image, error) {
	info, err := os.Stat(argument)
	switch {
	case err == nil && info.IsDir():
		return openLayout(argument)
	case err == nil:
		return openArchive(argument)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	if strings.HasPrefix(argument, ".") || strings.HasPrefix(argument, "/") || strings.HasSuffix(argument, ".tar") {
		return nil, fmt.Errorf("%w: there is no file %s", ErrNoImage, argument)
	}
	ref, err := name.ParseReference(argument)
	if err != nil {
		return nil, fmt.Errorf("%w: there is no file %s, and it is no reference of an image: %w", ErrNoImage, argument, err)
	}
	options = append([]remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)}, options...)
	desc, err := remote.Get(ref, options...)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", ref, err)
	}
	var out []Image
	if desc.MediaType.IsIndex() {
		index, err := desc.ImageIndex()
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", ref, err)
		}
		if out, err = ofIndex(index, 0, nil); err != nil {
			return nil, fmt.Errorf("read %s: %w", ref, err)
		}
	} else {
		img, err := desc.Image()
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", ref, err)
		}
		if _, err := configOf(img); err != nil {
			return nil, fmt.Errorf("read %s: %w", ref, err)
		}
		out = []Image{{Image: img, ID: desc.Digest.String(), Manifested: true}}
	}
	for i := range out {
		out[i].Repository = ref.Context().Name()
		if desc.MediaType.IsIndex() {
			out[i].Index = desc.Digest.String()
		}
	}
	return out, nil
}

func openLayout(dir string) ([]Image, error) {
	info, err := os.Stat(filepath.Join(dir, "index.json"))
	if err != nil {
		return nil, fmt.Errorf("%w: %s is no OCI layout: it has no index.json", ErrNoImage, dir)
	}
	if err := bounded("index.json", info.Size()); err != nil {
		return nil, fmt.Errorf("read the OCI layout %s: %w", dir, err)
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, fmt.Errorf("read the OCI layout %s: %w", dir, err)
	}
	// The files have any size, whatever the manifests say.
	out, err := ofIndex(index, 0, func(h v1.Hash) error {
		info, err := os.Stat(filepath.Join(dir, "blobs", h.Algorithm, h.Hex))
		if err != nil {
			return err
		}
		return bounded(h.String(), info.Size())
	})
	if err != nil {
		return nil, fmt.Errorf("read the OCI layout %s: %w", dir, err)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: the OCI layout %s has none", ErrNoImage, dir)
	}
	return out, nil
}

// maxIndexes is how deep indexes may list indexes.
const maxIndexes = 3

// bounded refuses a manifest or configuration that is too large to be read.
func bounded(what string, size int64) error {
	if size < 0 || size > maxConfig {
		return fmt.Errorf("%s has %d bytes, %d are allowed", what, size, maxConfig)
	}
	return nil
}

// configOf is the digest of an image's configuration, unless that is too large.
func configOf(img v1.Image) (v1.Hash, error) {
	m, err := img.Manifest()
	if err != nil {
		return v1.Hash{}, err
	}
	return m.Config.Digest, bounded("the configuration of the image", m.Config.Size)
}

// ofIndex lists the images of an index. It calls fits, unless that is nil, for each
// manifest and configuration before they are read.
func ofIndex(index v1.ImageIndex, depth int, fits func(v1.Hash) error) ([]Image, error) {
	if fits == nil {
		fits = func(v1.Hash) error { return nil }
	}

	if depth > maxIndexes {
		return nil, errors.New("indexes list one another")
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	var out []Image
	for _, d := range manifest.Manifests {
		// Attestations are beside the images.
		if d.Platform != nil && d.Platform.OS == "unknown" {
			continue
		}
		switch {
		case d.MediaType.IsIndex():
			if err := fits(d.Digest); err != nil {
				return nil, err
			}
			inner, err := index.ImageIndex(d.Digest)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", d.Digest, err)
			}
			more, err := ofIndex(inner, depth+1, fits)
			if err != nil {
				return nil, err
			}
			out = append(out, more...)
		case d.MediaType.IsImage():
			if err := fits(d.Digest); err != nil {
				return nil, err
			}
			img, err := index.Image(d.Digest)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", d.Digest, err)
			}
			raw, err := img.RawManifest()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", d.Digest, err)
			}
			if got := sum(raw); got != d.Digest.String() {
				return nil, fmt.Errorf("the manifest has the digest %s, the index says %s", got, d.Digest)
			}
			m, err := img.Manifest()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", d.Digest, err)
			}
			// So are referrers. The index may call an image an artifact, which no runtime
			// reads, so the manifest decides.
			if !m.Config.MediaType.IsConfig() {
				continue
			}
			config, err := configOf(img)
			if err == nil {
				err = fits(config)
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", d.Digest, err)
			}
			out = append(out, Image{Image: img, ID: d.Digest.String(), Platform: d.Platform, Manifested: true})
		}
	}
	return out, nil
}

func openArchive(file string) ([]Image, error) {
	open := func() (io.ReadCloser, error) { return os.Open(file) }
	if err := smallFiles(file, "manifest.json"); err != nil {
		return nil, err
	}
	manifest, err := tarball.LoadManifest(open)
	if err != nil {
		return nil, fmt.Errorf("%w: %s is no archive of docker save: %w", ErrNoImage, file, notArchive(file, err))
	}
	var configs []string
	for _, d := range manifest {
		configs = append(configs, d.Config)
	}
	if err := smallFiles(file, configs...); err != nil {
		return nil, err
	}
	var out []Image
	for _, d := range manifest {
		var tag *name.Tag
		if len(manifest) > 1 {
			if len(d.RepoTags) == 0 {
				return nil, fmt.Errorf("%s has several images, and one of them has no tag", file)
			}
			parsed, err := name.NewTag(d.RepoTags[0])
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			tag = &parsed
		}
		img, err := tarball.Image(open, tag)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		raw, err := img.RawConfigFile()
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		out = append(out, Image{Image: img, ID: sum(raw)})
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: the archive %s has none", ErrNoImage, file)
	}
	return out, nil
}

// smallFiles refuses an archive in which one of the files is too large to be read, or is a
// link, which docker save does not write. What is no archive is not refused.
func smallFiles(file string, names ...string) error {
	wanted := map[string]bool{}
	for _, name := range names {
		wanted[path.Clean(name)] = true
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	for r := tar.NewReader(f); ; {
		h, nextErr := r.Next()
		if nextErr != nil {
			break // whoever reads the file says what is wrong
		}
		if !wanted[path.Clean(h.Name)] {
			continue
		}
		if h.Typeflag == tar.TypeSymlink || h.Typeflag == tar.TypeLink {
			return fmt.Errorf("read %s: %s is a link", file, h.Name)
		}
		if err := bounded(h.Name, h.Size); err != nil {
			return fmt.Errorf("read %s: %w", file, err)
		}
	}
	return nil
}

// notArchive says what a file is that is no archive of docker save.
func notArchive(file string, err error) error {
	f, openErr := os.Open(file)
	if openErr != nil {
		return openErr
	}
	defer func() { _ = f.Close() }() // it was only read
	head := make([]byte, 2)
	if _, readErr := io.ReadFull(f, head); readErr == nil && bytes.Equal(head, []byte{0x1f, 0x8b}) {
		return errors.New("it is packed by gzip: unpack it first")
	}
	if _, seekErr := f.Seek(0, io.SeekStart); seekErr == nil {
		for r := tar.NewReader(f); ; {
			h, nextErr := r.Next()
			if nextErr != nil {
				break
			}
			if strings.TrimPrefix(h.Name, "./") == "oci-layout" {
				return errors.New("it is a packed OCI layout: unpack it, and name the folder")
			}
		}
	}
	return err
}

func sum(data []byte) string {
	digest := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(digest[:])
}

func sorted[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
