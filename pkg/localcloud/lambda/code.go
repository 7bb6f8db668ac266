package lambda

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/program"
)

// archive returns the archive in a request, or at its bucket and key.
func (s *Service) archive(ctx context.Context, inline []byte, bucket, key *string) ([]byte, error) {
	switch {
	case len(inline) > maxUpload:
		return nil, requestTooLarge()
	case len(inline) > 0:
		return inline, nil
	case bucket == nil || key == nil:
		return nil, invalid("Please provide a source for function code: a ZipFile, or an S3Bucket and an S3Key")
	case s.config.Object == nil:
		return nil, invalid("this embedded AWS has no S3 to read function code from: send a ZipFile")
	}
	code, err := s.config.Object(ctx, *bucket, *key)
	if err != nil {
		return nil, invalid("Error occurred while GetObject of s3://%s/%s: %v", *bucket, *key, err)
	}
	return code, nil
}

// home returns the folder of a function's code.
func (s *Service) home(k scope.Key, name string) string {
	return filepath.Join(s.config.Dir, k.Account, k.Region, name)
}

// unpack unpacks an archive to disk, each version in a folder of its own.
func (s *Service) unpack(k scope.Key, c *configuration, code []byte) error {
	if s.config.Dir == "" {
		return invalid("this embedded AWS has no folder for function code")
	}
	r, err := zip.NewReader(bytes.NewReader(code), int64(len(code)))
	if err != nil {
		return invalid("Could not unzip uploaded file. Please check your file, then try to upload again: %v", err)
	}
	dir := filepath.Join(s.home(k, c.Name), scope.Hex(16))
	if err := os.MkdirAll(dir, 0o755); err != nil { // readable, like /var/task
		return fmt.Errorf("unpack the code of %s: %w", c.ARN, err)
	}
	if err := extract(r, dir); err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	// Functions run on this machine's processor. AWS has both kinds, so report the
	// wrong one when the function is created, not at its first invocation.
	if err := program.MustRunOn(filepath.Join(dir, "bootstrap"), runtime.GOARCH); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(invalid("the bootstrap of %s is built for another processor than this machine's, where the embedded AWS runs it: deploy it for %s",
			c.Name, program.AWS(runtime.GOARCH)), os.RemoveAll(dir))
	}
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("unpack the code of %s: %w", c.ARN, err)
	}
	c.Dir, c.Owned, c.CodeSize, c.CodeSHA256 = absolute, true, int64(len(code)), digest(code)
	return nil
}

func extract(r *zip.Reader, dir string) error {
	root, err := os.OpenRoot(dir) // no entry can leave it
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	defer func() { _ = root.Close() }()
	left := int64(maxUnpacked)
	for _, entry := range r.File {
		if !filepath.IsLocal(filepath.FromSlash(entry.Name)) {
			return invalid("the archive has an entry outside its root: %q", entry.Name)
		}
		if entry.FileInfo().IsDir() {
			continue // created with its files
		}
		if !entry.Mode().IsRegular() {
			return invalid("the archive has an entry that is not a regular file: %q", entry.Name)
		}
		n, err := extractFile(root, entry, left)
		if err != nil {
			return err
		}
		left -= n
	}
	return nil
}

func extractFile(root *os.Root, entry *zip.File, left int64) (int64, error) {
	name := filepath.FromSlash(entry.Name)
	if err := makeParents(root, filepath.Dir(name)); err != nil {
		return 0, fmt.Errorf("unpack %s: %w", entry.Name, err)
	}
	in, err := entry.Open()
	if err != nil {
		return 0, invalid("the archive's entry %q cannot be read: %v", entry.Name, err)
	}
	defer func() { _ = in.Close() }()
	out, err := root.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, entry.Mode().Perm()|0o400)
	if err != nil {
		return 0, fmt.Errorf("unpack %s: %w", entry.Name, err)
	}
	n, err := io.Copy(out, io.LimitReader(in, left+1))
	if err = errors.Join(err, out.Close()); err != nil {
		return 0, fmt.Errorf("unpack %s: %w", entry.Name, err)
	}
	if n > left {
		return 0, invalid("Unzipped size must be smaller than %d bytes", maxUnpacked)
	}
	return n, nil
}

func makeParents(root *os.Root, dir string) error {
	if dir == "." {
		return nil
	}
	if err := makeParents(root, filepath.Dir(dir)); err != nil {
		return err
	}
	if err := root.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// orNil returns nil for an empty text.
func orNil(text string) *string {
	if text == "" {
		return nil
	}
	return aws.String(text)
}
