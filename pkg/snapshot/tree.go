package snapshot

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// errNoFile means that a path does not exist.
var errNoFile = errors.New("no such file")

// tree gives rules access to a file system by path, and resolves symbolic links
// within it.
type tree struct {
	fs      fileSystem
	limits  Limits
	listed  map[uint64][]entry // directories that were read
	inodes  map[uint64]node
	current int // entries that are kept in listed
}

func newTree(fs fileSystem, limits Limits) *tree {
	return &tree{fs: fs, limits: limits, listed: map[uint64][]entry{}, inodes: map[uint64]node{}}
}

// keep is how many inodes and entries a tree remembers, so that memory is
// bounded.
const keep = 100_000

func (t *tree) inode(number uint64) (node, error) {
	if n, ok := t.inodes[number]; ok {
		return n, nil
	}
	n, err := t.fs.inode(number)
	if err != nil {
		return node{}, err
	}
	if len(t.inodes) >= keep {
		clear(t.inodes)
	}
	t.inodes[number] = n
	return n, nil
}

// list is a directory by name. Two entries of one name are an error: which one a
// kernel takes is not certain.
func (t *tree) list(dir node) ([]entry, error) {
	if all, ok := t.listed[dir.number]; ok {
		return all, nil
	}
	all, err := t.fs.entries(dir)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	for i := 1; i < len(all); i++ {
		if all[i].name == all[i-1].name {
			return nil, fmt.Errorf("directory of inode %d has two entries of the name %q", dir.number, all[i].name)
		}
	}
	if t.current += len(all); t.current > keep {
		clear(t.listed)
		t.current = len(all)
	}
	t.listed[dir.number] = all
	return all, nil
}

// child of a directory.
func (t *tree) child(dir node, name string) (node, error) {
	all, err := t.list(dir)
	if err != nil {
		return node{}, err
	}
	i, ok := slices.BinarySearchFunc(all, name, func(e entry, name string) int { return strings.Compare(e.name, name) })
	if !ok {
		return node{}, errNoFile
	}
	return t.inode(all[i].inode)
}

// place is a file with the directories that lead to it, the root first, without
// any symbolic link among them.
type place struct {
	path string // as it was asked for
	node node
	dirs []node // those above; empty: the root
}

func (p place) under(name string, n node) place {
	return place{path: path.Join(p.path, name), node: n, dirs: append(slices.Clip(p.dirs), p.node)}
}

func (t *tree) rootPlace() (place, error) {
	n, err := t.inode(t.fs.root())
	if err != nil {
		return place{}, err
	}
	if n.kind != directory {
		return place{}, errors.New("the root is no directory")
	}
	return place{path: "/", node: n}, nil
}

// step goes from a directory to one of its entries, without following it.
func (t *tree) step(from place, name string) (place, error) {
	if from.node.kind != directory {
		return place{}, errNoFile
	}
	if len(from.dirs) > t.limits.Depth {
		return place{}, fmt.Errorf("%s: more than %d nested directories: %w", from.path, t.limits.Depth, errLimit)
	}
	n, err := t.child(from.node, name)
	if err != nil {
		if errors.Is(err, errNoFile) {
			return place{}, err
		}
		return place{}, fmt.Errorf("%s: %w", path.Join(from.path, name), err)
	}
	return from.under(name, n), nil
}

// follow resolves a symbolic link, and further links until it finds a file. A
// broken or circular link is errNoFile, because a kernel finds nothing either.
func (t *tree) follow(p place) (place, error) {
	left := t.limits.Links
	return t.followWithin(p, &left)
}

func (t *tree) followWithin(p place, left *int) (place, error) {
	for p.node.kind == symlink {
		if *left--; *left < 0 {
			return place{}, errNoFile
		}
		asked := p.path
		if p.node.size > 4096 {
			return place{}, fmt.Errorf("%s: a symbolic link of %d bytes", asked, p.node.size)
		}
		target, err := t.fs.content(p.node)
		if err != nil {
			return place{}, fmt.Errorf("%s: %w", asked, err)
		}
		at := place{path: path.Dir(asked), node: p.dirs[len(p.dirs)-1], dirs: p.dirs[:len(p.dirs)-1]}
		if strings.HasPrefix(string(target), "/") {
			if at, err = t.rootPlace(); err != nil {
				return place{}, err
			}
		}
		if p, err = t.walk(at, string(target), left); err != nil {
			return place{}, err
		}
		p.path = asked
	}
	return p, nil
}

// walk follows a path, except a symbolic link in its last part.
func (t *tree) walk(at place, name string, left *int) (place, error) {
	if len(name) == 0 {
		return place{}, errNoFile
	}
	var err error
	for _, part := range strings.Split(name, "/") {
		if at, err = t.followWithin(at, left); err != nil {
			return place{}, err
		}
		switch part {
		case "", ".":
		case "..":
			if len(at.dirs) > 0 {
				at = place{path: path.Dir(at.path), node: at.dirs[len(at.dirs)-1], dirs: at.dirs[:len(at.dirs)-1]}
			}
		default:
			if at, err = t.step(at, part); err != nil {
				return place{}, err
			}
		}
	}
	return at, nil
}

// lookup finds a file by its absolute path, and follows links.
func (t *tree) lookup(name string) (place, error) {
	root, err := t.rootPlace()
	if err != nil {
		return place{}, err
	}
	left := t.limits.Links
	p, err := t.walk(root, name, &left)
	if err != nil {
		return place{}, err
	}
	return t.followWithin(p, &left)
}

// content returns the content of a regular file.
func (t *tree) content(p place, limit int64) ([]byte, error) {
	if p.node.size > uint64(limit) {
		return nil, fmt.Errorf("%s has %d bytes, more than %d: %w", p.path, p.node.size, limit, errLimit)
	}
	b, err := t.fs.content(p.node)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.path, err)
	}
	return b, nil
}

// glob calls found for every file that a pattern matches, in order of names. It
// follows links to directories on the way, but not the files that it finds. The
// last part ** matches everything below that is not a directory; links in it are
// not followed.
func (t *tree) glob(pattern string, found func(place) error) error {
	root, err := t.rootPlace()
	if err != nil {
		return err
	}
	return t.match(root, strings.Split(strings.Trim(pattern, "/"), "/"), found)
}

func (t *tree) match(at place, parts []string, found func(place) error) error {
	if len(parts) == 0 {
		return found(at)
	}
	at, err := t.follow(at)
	if errors.Is(err, errNoFile) || err == nil && at.node.kind != directory {
		return nil
	}
	if err != nil {
		return err
	}
	switch part := parts[0]; {
	case part == "**":
		return t.below(at, map[uint64]bool{}, found)
	case !strings.ContainsAny(part, `*?[\`):
		next, err := t.step(at, part)
		if errors.Is(err, errNoFile) {
			return nil
		}
		if err != nil {
			return err
		}
		return t.match(next, parts[1:], found)
	default:
		all, err := t.list(at.node)
		if err != nil {
			return fmt.Errorf("%s: %w", at.path, err)
		}
		for _, e := range all {
			if ok, err := path.Match(part, e.name); err != nil {
				return fmt.Errorf("pattern %q: %w", part, err)
			} else if !ok {
				continue
			}
			next, err := t.step(at, e.name)
			if err != nil {
				return err
			}
			if err := t.match(next, parts[1:], found); err != nil {
				return err
			}
		}
		return nil
	}
}

// below calls found for everything below a directory, except directories.
func (t *tree) below(at place, on map[uint64]bool, found func(place) error) error {
	if on[at.node.number] {
		return fmt.Errorf("%s: a directory contains itself", at.path)
	}
	on[at.node.number] = true
	defer delete(on, at.node.number)
	all, err := t.list(at.node)
	if err != nil {
		return fmt.Errorf("%s: %w", at.path, err)
	}
	for _, e := range all {
		next, err := t.step(at, e.name)
		if err != nil {
			return err
		}
		if next.node.kind == directory {
			err = t.below(next, on, found)
		} else {
			err = found(next)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
