package ecr

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// digestPattern is the form of the digests that the store keeps. A digest that matches
// it is safe as the name of a file.
var digestPattern = regexp.MustCompile(`^sha256:[a-f0-9]{64}$`)

func digestOf(raw []byte) string {
	sum := sha256.Sum256(raw)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// blobs is the folder of manifests and layers: one folder a repository, and one for
// uploads. All are in one file system, so that a finished upload is renamed into place.
type blobs struct{ dir string }

func (b blobs) uploads() string      { return filepath.Join(b.dir, "uploads") }
func (b blobs) repositories() string { return filepath.Join(b.dir, "repositories") }

func (b blobs) folder(repositoryID string) string {
	return filepath.Join(b.repositories(), repositoryID)
}

func (b blobs) manifest(repositoryID, digest string) string {
	return filepath.Join(b.folder(repositoryID), "manifests", strings.TrimPrefix(digest, "sha256:"))
}

func (b blobs) blob(repositoryID, digest string) string {
	return filepath.Join(b.folder(repositoryID), "blobs", strings.TrimPrefix(digest, "sha256:"))
}

// size returns the size of a layer in bytes, and whether it is there.
func (b blobs) size(repositoryID, digest string) (int64, bool) {
	if !digestPattern.MatchString(digest) {
		return 0, false
	}
	info, err := os.Stat(b.blob(repositoryID, digest))
	if err != nil {
		return 0, false
	}
	return info.Size(), true
}

// create makes the folders of a repository.
func (b blobs) create(repositoryID string) error {
	for _, name := range []string{"manifests", "blobs"} {
		if err := os.MkdirAll(filepath.Join(b.folder(repositoryID), name), 0o700); err != nil {
			return fmt.Errorf("making the folder of a repository: %w", err)
		}
	}
	return nil
}

// putManifest writes a manifest. It is complete at any time.
func (b blobs) putManifest(repositoryID, digest string, raw []byte) error {
	path := b.manifest(repositoryID, digest)
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return fmt.Errorf("storing a manifest: %w", err)
	}
	_, err = f.Write(raw)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("storing a manifest: %w", err), os.Remove(f.Name()))
	}
	return nil
}

// link makes a layer of one repository one of another too. Both then have the same file,
// which is never written again.
func (b blobs) link(fromID, toID, digest string) error {
	err := os.Link(b.blob(fromID, digest), b.blob(toID, digest))
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("linking a layer: %w", err)
	}
	return nil
}

// remove removes a file that may be missing.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
