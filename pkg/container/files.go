package container

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"
)

// Files is what checks read of an image's file system, without the files that are not
// asked for. It follows links within the image.
type Files struct{ tree *tree }

// ReadFiles unpacks the layers of an image and keeps the content of the files that keep
// names, by their absolute paths.
func ReadFiles(i Image, keep func(name string) bool) (Files, error) {
	config, err := i.ConfigFile()
	if err != nil {
		return Files{}, fmt.Errorf("read the configuration of the image: %w", err)
	}
	t, err := unpackKeeping(i, config.RootFS.DiffIDs, DefaultLimits(), keep)
	if err != nil {
		return Files{}, fmt.Errorf("read the layers of the image: %w", err)
	}
	if len(t.problems) > 0 {
		return Files{}, fmt.Errorf("read the layers of the image: %s", t.problems[0])
	}
	return Files{t}, nil
}

func (f Files) find(op, name string) (*node, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	n, err := f.tree.walk(name, false, 0)
	if errors.Is(err, errNoFile) {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: err}
	}
	return n, nil
}

// Open implements fs.FS. Files are read by ReadFile and ReadDir.
func (f Files) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: errors.ErrUnsupported}
}

// ReadFile implements fs.ReadFileFS.
func (f Files) ReadFile(name string) ([]byte, error) {
	n, err := f.find("read", name)
	switch {
	case err != nil:
		return nil, err
	case !n.regular():
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("no regular file")}
	case n.content == nil && n.size > 0:
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("not kept, or too large")}
	}
	return n.content, nil
}

// ReadDir implements fs.ReadDirFS.
func (f Files) ReadDir(name string) ([]fs.DirEntry, error) {
	n, err := f.find("list", name)
	if err != nil {
		return nil, err
	}
	if !n.dir() {
		return nil, &fs.PathError{Op: "list", Path: name, Err: errNoDir}
	}
	var out []fs.DirEntry
	for _, child := range sorted(n.children) {
		out = append(out, dirEntry{child, n.children[child]})
	}
	return out, nil
}

type dirEntry struct {
	name string
	n    *node
}

func (e dirEntry) Name() string               { return e.name }
func (e dirEntry) IsDir() bool                { return e.n.dir() }
func (e dirEntry) Info() (fs.FileInfo, error) { return e, nil }
func (e dirEntry) Size() int64                { return e.n.size }
func (e dirEntry) ModTime() time.Time         { return time.Time{} }
func (e dirEntry) Sys() any                   { return nil }
func (e dirEntry) Mode() fs.FileMode          { return fs.FileMode(e.n.mode&0o777) | e.Type() }

// Type implements fs.DirEntry.
func (e dirEntry) Type() fs.FileMode {
	switch {
	case e.n.dir():
		return fs.ModeDir
	case e.n.regular():
		return 0
	}
	return fs.ModeIrregular
}

// PackageFiles says which files have the list of packages of Debian and their licenses.
func PackageFiles(name string) bool {
	return name == "/var/lib/dpkg/status" || strings.HasPrefix(name, "/var/lib/dpkg/status.d/") ||
		strings.HasPrefix(name, "/usr/share/doc/") && path.Base(name) == "copyright"
}
