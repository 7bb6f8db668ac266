package container

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ami-factory/ami-factory/pkg/plaintext"
	"github.com/ami-factory/ami-factory/pkg/secret"
)

// Limits bound what is read of an image. Whoever built it is not trusted: a layer of a
// megabyte can unpack to terabytes.
type Limits struct {
	Layers  int
	Entries int   // of all layers
	Bytes   int64 // of all layers, unpacked, and as many of all files
	Name    int   // bytes of a path
	Kept    int64 // of the files whose content is kept, of all layers

	content int64 // left of the files' bytes
	names   int64 // left of the bytes of all names and links
}

// DefaultLimits are those of CheckImage.
func DefaultLimits() Limits {
	return Limits{Layers: 200, Entries: 1_000_000, Bytes: 16 << 30, Name: 4096, Kept: 128 << 20}
}

var errLimit = errors.New("more than is read of an image")

// node is what a name of the image's file system stands for. Hard links share it.
type node struct {
	kind         byte // a type flag of package tar
	mode         int64
	uid, gid     int
	link         string // of a symbolic link
	size         int64
	layer        int // from 1
	capabilities bool
	elf          *program
	start        []byte           // the first bytes of a file that is no ELF
	content      []byte           // of the few files that checks read
	children     map[string]*node // of a directory
}

func (n *node) dir() bool     { return n.kind == tar.TypeDir }
func (n *node) regular() bool { return n.kind == tar.TypeReg }

// may reports whether a user has a right: 4 read, 2 write, 1 execute.
func (n *node) may(uid, gid int, right int64) bool {
	switch {
	case uid == n.uid:
		return n.mode>>6&right == right
	case gid == n.gid:
		return n.mode>>3&right == right
	}
	return n.mode&right == right
}

// program is what an ELF file says of itself.
type program struct {
	class          elf.Class
	machine        elf.Machine
	interpreter    string
	needed         []string
	rpath, runpath []string
	unreadable     string // why it cannot be said
}

// tree is the file system that the layers of an image make.
type tree struct {
	root        *node
	problems    []string // names and links that a runtime would refuse, or worse, follow
	more        int      // problems that are not listed
	secrets     []found
	moreSecrets int                    // that are not listed
	left        *Limits                // while layers are read
	keep        func(name string) bool // the files whose content is kept
	blind       bool                   // secrets are not searched for
}

// found is a secret in a file of a layer.
type found struct {
	layer      int
	path, what string
}

func directory(layer int) *node {
	return &node{kind: tar.TypeDir, mode: 0o755, layer: layer, children: map[string]*node{}}
}

// unpack reads all layers. The error is of reading; what is wrong with the layers is in
// the tree's problems.
func unpack(img v1.Image, diffIDs []v1.Hash, limits Limits) (*tree, error) {
	return (&tree{keep: keep}).unpack(img, diffIDs, limits)
}

// unpackKeeping is unpack that keeps other files and searches for no secrets.
func unpackKeeping(img v1.Image, diffIDs []v1.Hash, limits Limits, keep func(string) bool) (*tree, error) {
	return (&tree{keep: keep, blind: true}).unpack(img, diffIDs, limits)
}

func (t *tree) unpack(img v1.Image, diffIDs []v1.Hash, limits Limits) (*tree, error) {
	layers, err := img.Layers()
	if err != nil {
		return nil, fmt.Errorf("list the layers: %w", err)
	}
	if len(layers) > limits.Layers {
		return nil, fmt.Errorf("%d layers: %w (%d)", len(layers), errLimit, limits.Layers)
	}
	if len(layers) != len(diffIDs) {
		return nil, fmt.Errorf("the manifest has %d layers, the configuration %d", len(layers), len(diffIDs))
	}
	t.root = directory(0)
	left := limits
	left.content, left.names = limits.Bytes, maxNames
	t.left = &left
	for i, l := range layers {
		if err := t.layer(l, i+1, diffIDs[i], &left); err != nil {
			return nil, fmt.Errorf("layer %d: %w", i+1, err)
		}
	}
	if t.more > 0 {
		t.problems = append(t.problems, fmt.Sprintf("and %d more", t.more))
	}
	t.left = nil
	return t, nil
}

// meter counts and hashes what is read, and ends with an error at the limit.
type meter struct {
	in   io.Reader
	left *int64
	sum  interface {
		io.Writer
		Sum([]byte) []byte
	}
}

// Read implements io.Reader.
func (m *meter) Read(p []byte) (int, error) {
	n, err := m.in.Read(p)
	if *m.left -= int64(n); *m.left < 0 {
		return 0, errLimit
	}
	_, _ = m.sum.Write(p[:n]) // a hash does not fail
	return n, err
}

// leftover says whether anything but zeros is written to it.
type leftover struct{ any bool }

// Write implements io.Writer.
func (l *leftover) Write(p []byte) (int, error) {
	l.any = l.any || len(bytes.Trim(p, "\x00")) > 0
	return len(p), nil
}

// entry is a name of a layer.
type entry struct {
	name string // clean, without a slash at its beginning
	node *node
	hard string // the target of a hard link
}

// hidden is a whiteout of a layer.
type hidden struct {
	name   string
	at     int   // how many entries of the layer precede it
	folder *node // its folder in the layers below; nil if there is none
	wrong  bool  // a problem is already reported
}

func (t *tree) layer(l v1.Layer, number int, want v1.Hash, left *Limits) error {
	unpacked, err := l.Uncompressed()
	if err != nil {
		return fmt.Errorf("read it: %w", err)
	}
	in := &meter{in: unpacked, left: &left.Bytes, sum: sha256.New()}
	entries, whiteouts, err := t.entries(in, number, left)
	if err == nil {
		// What follows the archive's end is part of the digest too, and is not searched.
		var rest leftover
		if _, err = io.Copy(&rest, in); rest.any {
			t.problem(number, "", "there is more after the end of its archive")
		}
	}
	if err = errors.Join(err, unpacked.Close()); err != nil {
		return err
	}
	if got := hex.EncodeToString(in.sum.Sum(nil)); want.Algorithm != "sha256" || got != want.Hex {
		return fmt.Errorf("its content has the digest sha256:%s, the configuration says %s", got, want)
	}
	// Whiteouts hide what lower layers have, whatever their place in the layer.
	for i := range whiteouts {
		t.find(&whiteouts[i], number)
	}
	for _, w := range whiteouts {
		t.hide(w)
	}
	next := 0
	for i, e := range entries {
		for ; next < len(whiteouts) && whiteouts[next].at == i; next++ {
			t.compare(&whiteouts[next], number)
		}
		if err := t.put(e, number); err != nil {
			return fmt.Errorf("%q: %w", plaintext.Clip(e.name, maxShown), err)
		}
	}
	for i := range whiteouts {
		t.compare(&whiteouts[i], number)
	}
	return nil
}

const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
)

func (t *tree) entries(in io.Reader, layer int, left *Limits) (entries []entry, whiteouts []hidden, err error) {
	r := tar.NewReader(in)
	for {
		h, err := r.Next()
		if err == io.EOF {
			return entries, whiteouts, nil
		}
		if err != nil {
			return nil, nil, fmt.Errorf("read the archive: %w", err)
		}
		if left.Entries--; left.Entries < 0 {
			return nil, nil, fmt.Errorf("the number of files: %w", errLimit)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if left.names -= int64(len(h.Name) + len(h.Linkname)); left.names < 0 {
			return nil, nil, fmt.Errorf("the names of files: %w", errLimit)
		}
		name, why := plain(h.Name, left.Name)
		if why != "" {
			t.problem(layer, h.Name, why)
			continue
		}
		base := path.Base(name)
		if strings.HasPrefix(base, whiteout) {
			if h.Size > 0 {
				t.problem(layer, h.Name, "it is a whiteout with content")
			}
			switch rest := strings.TrimPrefix(base, whiteout); {
			case base == opaque:
				whiteouts = append(whiteouts, hidden{name: name, at: len(entries)})
			case strings.HasPrefix(rest, whiteout): // of aufs itself
			case rest == "" || rest == "." || rest == "..":
				t.problem(layer, h.Name, "it is a whiteout of no file")
			default:
				whiteouts = append(whiteouts, hidden{name: name, at: len(entries)})
			}
			continue
		}
		e := entry{name: name, node: &node{kind: h.Typeflag, mode: h.Mode & 0o7777, uid: h.Uid, gid: h.Gid, size: h.Size, layer: layer}}
		for key := range h.PAXRecords {
			e.node.capabilities = e.node.capabilities || key == "SCHILY.xattr.security.capability"
		}
		switch h.Typeflag {
		case tar.TypeDir:
			e.node.children = map[string]*node{}
		case tar.TypeReg, tar.TypeGNUSparse:
			e.node.kind = tar.TypeReg
			// The size of a sparse file is not limited by that of the archive.
			if left.content -= h.Size; left.content < 0 {
				return nil, nil, fmt.Errorf("%q: %w", name, errLimit)
			}
			if err := t.file(r, "/"+name, e.node); err != nil {
				return nil, nil, fmt.Errorf("%q: %w", name, err)
			}
		case tar.TypeSymlink:
			if len(h.Linkname) > left.Name {
				t.problem(layer, h.Name, "it is a symbolic link whose target is too long")
				continue
			}
			e.node.link = h.Linkname
		case tar.TypeLink:
			if e.hard, why = plain(h.Linkname, left.Name); why != "" {
				t.problem(layer, h.Name, fmt.Sprintf("it is a hard link to %q: %s", plaintext.Clip(h.Linkname, maxShown), why))
				continue
			}
		case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		default:
			t.problem(layer, h.Name, fmt.Sprintf("its type %q is none of a file system", h.Typeflag))
			continue
		}
		entries = append(entries, e)
	}
}

// plain cleans a name of an archive, or says why it is refused.
func plain(name string, most int) (string, string) {
	switch {
	case len(name) > most:
		return "", "its name is too long"
	case strings.ContainsRune(name, 0):
		return "", "its name has a zero byte"
	case slices.Contains(strings.Split(name, "/"), ".."):
		return "", "its name leads upwards"
	}
	return strings.TrimPrefix(path.Clean("/"+name), "/"), ""
}

func (t *tree) problem(layer int, name, why string) {
	if len(t.problems) >= maxListed {
		t.more++
		return
	}
	t.problems = append(t.problems, fmt.Sprintf("layer %d: %q: %s", layer, plaintext.Clip(name, maxShown), plaintext.Clip(why, 2*maxShown)))
}

// Sizes of reading files.
const (
	maxELF    = 512 << 20 // bytes of a program or library
	chunk     = 1 << 20   // bytes of a file that are searched at once
	overlap   = 16 << 10  // the longest secret that is found across two chunks
	maxStart  = 256       // bytes, as the kernel reads of a script's first line
	maxKept   = 64 << 20  // bytes of a file that a check reads
	maxPlain  = 256 << 10 // bytes of a file of settings
	elfHeader = 64

	maxNames  = 256 << 20 // bytes of all names and links
	maxListed = 1000      // problems, and secrets, that are listed
	maxShown  = 200       // bytes of a name in a problem
)

// file searches a file and keeps what checks need of it.
func (t *tree) file(in io.Reader, name string, n *node) error {
	head := make([]byte, min(n.size, chunk))
	if _, err := io.ReadFull(in, head); err != nil {
		return err
	}
	if bytes.HasPrefix(head, []byte("#!")) {
		n.start = bytes.Clone(head[:min(len(head), maxStart)])
	}
	if t.keep(name) && n.size <= maxKept {
		if t.left.Kept -= n.size; t.left.Kept < 0 {
			return fmt.Errorf("the files that are kept: %w", errLimit)
		}
		all := make([]byte, n.size)
		if _, err := io.ReadFull(in, all[copy(all, head):]); err != nil {
			return err
		}
		n.content = all
		t.search(n, name, all)
		return nil
	}
	if len(head) >= elfHeader && bytes.HasPrefix(head, []byte(elf.ELFMAG)) {
		if n.size > maxELF {
			n.elf = &program{unreadable: fmt.Sprintf("it has more than %d bytes", maxELF)}
		} else {
			all := make([]byte, n.size)
			if _, err := io.ReadFull(in, all[copy(all, head):]); err != nil {
				return err
			}
			n.elf = readELF(all)
			t.search(n, name, all)
			return nil
		}
	}
	t.search(n, name, head)
	for left := n.size - int64(len(head)); left > 0; {
		tail := head[max(0, len(head)-overlap):]
		next := make([]byte, len(tail)+int(min(left, chunk)))
		read, err := io.ReadFull(in, next[copy(next, tail):])
		if err != nil {
			return err
		}
		left -= int64(read)
		head = next
		t.search(n, name, head)
	}
	return nil
}

// keep says which files checks read.
func keep(name string) bool {
	switch name {
	case "/etc/passwd", "/etc/group", "/etc/ld.so.conf":
		return true
	}
	dir := path.Dir(name)
	return dir == "/etc/ld.so.conf.d" || dir == "/etc" && strings.HasPrefix(path.Base(name), "ld-musl-")
}

// search looks for secrets in a part of a file.
func (t *tree) search(n *node, name string, data []byte) {
	if t.blind {
		return
	}
	what := secret.InBytes(data)
	if what == "" && n.size <= maxPlain && written(name) && !bytes.ContainsRune(data, 0) {
		// A document has the first line of a private key without a key. It must not hide
		// the passwords of its file.
		what = secret.InText(strings.ReplaceAll(string(data), "PRIVATE KEY", ""))
	}
	if what == "" && n.size <= maxPlain {
		what = credentials(name, data)
	}
	f := found{n.layer, name, what}
	switch last := len(t.secrets) - 1; {
	case what == "" || last >= 0 && t.secrets[last] == f: // the parts of a file follow one another
	case len(t.secrets) >= maxListed:
		t.moreSecrets++
	default:
		t.secrets = append(t.secrets, f)
	}
}

// written reports whether people write the files of a folder for this image, so that a
// password in them is one of the service, and not one of an example of the distribution.
func written(name string) bool {
	for _, dir := range []string{"/usr/", "/lib/", "/bin/", "/sbin/", "/var/lib/dpkg/", "/var/lib/rpm/", "/etc/ssl/", "/etc/pam.d/", "/etc/java"} {
		if strings.HasPrefix(name, dir) && !strings.HasPrefix(name, "/usr/local/") && !strings.HasPrefix(name, "/usr/src/") {
			return false
		}
	}
	// Libraries of languages have tests and examples with passwords.
	return !strings.Contains(name, "/node_modules/") && !strings.Contains(name, "/site-packages/") && !strings.Contains(name, "/dist-packages/")
}

// credentials knows files in which programs keep passwords.
func credentials(name string, data []byte) string {
	has := func(word string) bool { return bytes.Contains(data, []byte(word)) }
	base := path.Base(name)
	switch {
	case base == ".git-credentials" && has("://"),
		(base == ".netrc" || base == "_netrc") && has("password"),
		strings.HasSuffix(name, "/.docker/config.json") && has(`"auth"`),
		strings.HasSuffix(name, "/.config/containers/auth.json") && has(`"auth"`),
		base == ".npmrc" && (has("_authToken=") || has("_password=") || has("_auth=")) && !has("${"),
		base == ".pypirc" && has("password"),
		base == ".pgpass" && len(bytes.TrimSpace(data)) > 0,
		strings.HasSuffix(name, "/.kube/config") && (has("client-key-data:") || has("token:")):
		return "a file of passwords, " + base
	}
	return ""
}

// find looks for the folder of a whiteout in the layers below.
func (t *tree) find(w *hidden, layer int) {
	dir := path.Dir("/" + w.name)
	n, real, _, err := t.follow(dir, false, 0)
	switch {
	case err != nil || !n.dir(): // there is nothing to hide
	case real != dir:
		// A runtime that unpacks each layer by itself makes a folder in place of the link.
		w.wrong = true
		t.problem(layer, w.name, "a link leads to the folder of this whiteout, so that runtimes hide different files")
	default:
		w.folder = n
	}
}

// compare reports a whiteout whose folder is now another one than in the layers below: it
// depends on the runtime what such a whiteout hides.
func (t *tree) compare(w *hidden, layer int) {
	if w.wrong {
		return
	}
	dir := path.Dir("/" + w.name)
	n, real, _, err := t.follow(dir, false, 0)
	if w.folder != nil && n != w.folder || w.folder == nil && err == nil && real != dir {
		w.wrong = true
		t.problem(layer, w.name, "the layer also replaces the folder of this whiteout")
	}
}

// hide removes what a whiteout names from the layers below.
func (t *tree) hide(w hidden) {
	base := path.Base(w.name)
	switch {
	case w.folder == nil:
	case base == opaque:
		clear(w.folder.children)
	default:
		delete(w.folder.children, strings.TrimPrefix(base, whiteout))
	}
}

// put adds a name as runtimes do: links in its folder lead to where they point within the
// image, a folder keeps what it holds, anything else is replaced.
//
// The error is that of a limit.
func (t *tree) put(e entry, layer int) error {
	if e.name == "" {
		if e.node.dir() {
			t.root.mode, t.root.uid, t.root.gid = e.node.mode, e.node.uid, e.node.gid
		} else {
			t.problem(layer, "/", "it is no folder")
		}
		return nil
	}
	dir, base := path.Split(e.name)
	lower := false
	parent, real, err := t.trace(dir, true, layer, func(_ *node, _ []string, child *node) {
		lower = lower || child.kind == tar.TypeSymlink && child.layer < layer
	})
	switch {
	case errors.Is(err, errLimit):
		return err
	case err != nil:
		t.problem(layer, e.name, err.Error())
		return nil
	case len(real)+1+len(base) > t.left.Name:
		t.problem(layer, e.name, errLong.Error())
		return nil
	}
	old := parent.children[base]
	same := old == nil || old.dir() && e.node.dir() && old.mode == e.node.mode && old.uid == e.node.uid && old.gid == e.node.gid
	if lower && !same {
		// A runtime that unpacks each layer by itself makes a folder in place of the link,
		// and what seems to be replaced stays.
		t.problem(layer, e.name, "it replaces a file behind a link of a lower layer, which not every runtime does")
		return nil
	}
	if e.node.kind == tar.TypeLink {
		toDir, toBase := path.Split(e.hard)
		folder, err := t.walk(toDir, false, 0)
		var target *node
		if err == nil {
			target = folder.children[toBase]
		}
		switch {
		case target == nil:
			t.problem(layer, e.name, fmt.Sprintf("it is a hard link to %q, which does not exist", e.hard))
			return nil
		case target.dir():
			t.problem(layer, e.name, fmt.Sprintf("it is a hard link to the folder %q", e.hard))
			return nil
		}
		t.share(target, e, layer)
		parent.children[base] = target
		return nil
	}
	if old != nil && old.dir() && e.node.dir() {
		// It stays the same folder, with other attributes.
		old.mode, old.uid, old.gid, old.layer = e.node.mode, e.node.uid, e.node.gid, layer
		old.capabilities = e.node.capabilities
		return nil
	}
	parent.children[base] = e.node
	return nil
}

// share applies the attributes of a hard link, which runtimes set on the file that it
// shares. A right that one of the names gives counts for all of them.
func (t *tree) share(target *node, e entry, layer int) {
	if target.uid != e.node.uid || target.gid != e.node.gid {
		t.problem(layer, e.name, fmt.Sprintf("a hard link gives its file another owner, %d:%d instead of %d:%d", e.node.uid, e.node.gid, target.uid, target.gid))
	}
	if target.kind != tar.TypeSymlink {
		target.mode |= e.node.mode & 0o6222
		target.capabilities = target.capabilities || e.node.capabilities
	}
}

const (
	maxLinks = 40   // symbolic links that Linux follows in one path
	maxSteps = 1000 // names of one path and its links
)

var (
	errNoFile = errors.New("does not exist")
	errLoop   = errors.New("leads through too many links")
	errNoDir  = errors.New("leads through a file that is no folder")
	errLong   = errors.New("leads to a place whose path is too long")
)

// walk finds a folder or file and follows every link. With create, missing folders are
// made, as runtimes do for the folders of a name.
func (t *tree) walk(name string, create bool, layer int) (*node, error) {
	n, _, err := t.trace(name, create, layer, nil)
	return n, err
}

// follow is walk that also returns where the name leads to, and the folders on the way.
func (t *tree) follow(name string, create bool, layer int) (n *node, real string, through []*node, err error) {
	n, real, err = t.trace(name, create, layer, func(dir *node, _ []string, _ *node) { through = append(through, dir) })
	return n, real, through, err
}

// trace is walk that also returns where the name leads to, even if nothing is there. It calls pass, unless that is
// nil, with each folder on the way, the names that lead to it, and what is entered there.
func (t *tree) trace(name string, create bool, layer int, pass func(dir *node, names []string, child *node)) (n *node, real string, err error) {
	todo := strings.Split(name, "/")
	stack, names := []*node{t.root}, []string{}
	links, length := 0, 0 // length is that of all names, with a slash each
	for steps := 0; len(todo) > 0; steps++ {
		if steps > maxSteps {
			return nil, "", errLong
		}
		part := todo[0]
		todo = todo[1:]
		here := stack[len(stack)-1]
		switch part {
		case "", ".":
			continue
		case "..":
			if len(stack) > 1 {
				length -= len(names[len(names)-1]) + 1
				stack, names = stack[:len(stack)-1], names[:len(names)-1]
			}
			continue
		}
		if !here.dir() {
			return nil, "", errNoDir
		}
		next := here.children[part]
		if next == nil {
			if !create {
				return nil, path.Join("/", strings.Join(names, "/"), part, strings.Join(todo, "/")), errNoFile
			}
			if length+1+len(part) > t.left.Name {
				return nil, "", errLong
			}
			if t.left.Entries--; t.left.Entries < 0 {
				return nil, "", fmt.Errorf("the number of files: %w", errLimit)
			}
			next = directory(layer)
			here.children[part] = next
		}
		if pass != nil {
			pass(here, names, next)
		}
		if next.kind == tar.TypeSymlink {
			if links++; links > maxLinks {
				return nil, "", errLoop
			}
			if strings.HasPrefix(next.link, "/") {
				stack, names, length = stack[:1], names[:0], 0
			}
			todo = append(strings.Split(next.link, "/"), todo...)
			continue
		}
		stack, names, length = append(stack, next), append(names, part), length+1+len(part)
	}
	n = stack[len(stack)-1]
	if create && !n.dir() {
		return nil, "", errNoDir
	}
	return n, "/" + strings.Join(names, "/"), nil
}

// each visits all names, sorted, without following links.
func (t *tree) each(visit func(name string, n *node)) {
	var down func(name string, n *node)
	down = func(name string, n *node) {
		visit(name, n)
		names := make([]string, 0, len(n.children))
		for child := range n.children {
			names = append(names, child)
		}
		slices.Sort(names)
		for _, child := range names {
			down(path.Join(name, child), n.children[child])
		}
	}
	down("/", t.root)
}
