package component

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"sync"

	"github.com/ami-factory/ami-factory/pkg/problem"
)

// Remember returns fsys with a memory for Load: a component is decoded and checked
// again only after a file that it depends on has changed. The components that Load
// returns are shared, so callers must not change them.
func Remember(fsys fs.FS) fs.FS {
	if _, ok := fsys.(*memory); ok {
		return fsys
	}
	return &memory{FS: fsys, loaded: map[string]remembered{}}
}

// memory is a file system that remembers components.
type memory struct {
	fs.FS
	mu     sync.Mutex
	loaded map[string]remembered // by name
}

// remembered is a result of load without an error.
type remembered struct {
	files     [sha256.Size]byte
	component *Component
	problems  problem.List
}

// ReadFile implements fs.ReadFileFS.
func (m *memory) ReadFile(name string) ([]byte, error) { return fs.ReadFile(m.FS, name) }

// ReadDir implements fs.ReadDirFS.
func (m *memory) ReadDir(name string) ([]fs.DirEntry, error) { return fs.ReadDir(m.FS, name) }

// load is Load with a memory.
func (m *memory) load(name string, names []string) (*Component, problem.List, error) {
	files, err := m.digest(name, names)
	if err != nil {
		return nil, nil, fmt.Errorf("read component %s: %w", name, err)
	}
	m.mu.Lock()
	known, ok := m.loaded[name]
	m.mu.Unlock()
	if !ok || known.files != files {
		c, problems, err := load(m.FS, name, names)
		if err != nil {
			return nil, nil, err
		}
		known = remembered{files: files, component: c, problems: problems}
		m.mu.Lock()
		m.loaded[name] = known
		m.mu.Unlock()
	}
	return known.component, slices.Clone(known.problems), nil
}

// digest covers everything that load reads: the files of the component, the names of
// all components, and their descriptions, which may be required.
func (m *memory) digest(name string, names []string) (out [sha256.Size]byte, err error) {
	h := sha256.New()
	add := func(file string) error {
		data, err := fs.ReadFile(m.FS, file)
		_, _ = fmt.Fprintf(h, "%q %d\n", file, len(data))
		_, _ = h.Write(data)
		return err
	}
	for _, other := range names {
		if err := add(path.Join(Dir, other, "component.yaml")); err != nil {
			return out, err
		}
	}
	dir := path.Join(Dir, name)
	entries, err := fs.ReadDir(m.FS, dir)
	if err != nil {
		return out, err
	}
	for _, e := range entries {
		switch path.Ext(e.Name()) {
		case ".yaml", ".sh", ".md":
			if err := add(path.Join(dir, e.Name())); err != nil {
				return out, err
			}
		}
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}
