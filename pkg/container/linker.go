package container

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"fmt"
	"path"
	"slices"
	"strings"
)

// linker follows what the kernel and the dynamic linker need to start a program.
type linker struct {
	s     *subject
	seen  map[*node]bool
	names map[string]*node // files that were found, by their real names; nil: not wanted
	ways  []way            // to them
	looks int              // at files, for libraries

	environment []string       // folders of LD_LIBRARY_PATH for the program that is followed
	defaults    []string       // folders of its linker
	settings    map[*node]bool // files of ld.so.conf that were read
	includes    int            // their lines that include others
	wrong       []string
}

func (l *linker) say(format string, args ...any) {
	l.wrong = append(l.wrong, fmt.Sprintf(format, args...))
}

func (l *linker) found(name string) {
	if l.names == nil {
		return
	}
	w := way{name, map[string]passed{}}
	n, real, err := l.s.tree.trace(name, false, 0, func(dir *node, names []string, child *node) {
		at := "/" + strings.Join(names, "/")
		if old, ok := w.through[at]; !ok || old.child.kind != tar.TypeSymlink {
			w.through[at] = passed{dir, child}
		}
	})
	if err == nil {
		l.names[real] = n
		l.ways = append(l.ways, w)
	}
}

// way is a file's name and the folders through which it and its links lead.
type way struct {
	name    string
	through map[string]passed
}

// passed is a folder on the way, and what was entered there.
type passed struct{ dir, child *node }

// maxScripts is how many interpreters Linux follows (BINPRM_MAX_RECURSION is 5).
const maxScripts = 5

// start follows a program: a script to its interpreter, an ELF to its libraries.
func (l *linker) start(name string, n *node, depth int) {
	l.found(name)
	if n.elf != nil {
		l.load(name, n)
		return
	}
	line, isScript := bytes.CutPrefix(n.start, []byte("#!"))
	if !isScript {
		l.say("%s is neither an ELF file nor a script with #!", name)
		return
	}
	if depth == maxScripts {
		l.say("%s: its interpreter is a script of a script of a script", name)
		return
	}
	line, _, whole := bytes.Cut(line, []byte("\n"))
	if !whole && len(n.start) >= maxStart {
		l.say("%s: its first line is longer than %d bytes", name, maxStart)
		return
	}
	if bytes.HasSuffix(line, []byte("\r")) {
		l.say("%s: its first line ends with a carriage return, which becomes a part of the interpreter's name", name)
		return
	}
	words := strings.Fields(string(line))
	if len(words) == 0 {
		l.say("%s: its first line names no interpreter", name)
		return
	}
	l.interpreter(name, words[0], depth)
	if path.Base(words[0]) != "env" {
		return
	}
	for _, word := range words[1:] {
		if strings.HasPrefix(word, "-") || strings.Contains(word, "=") {
			continue
		}
		l.interpreter(name, word, depth)
		return
	}
}

func (l *linker) interpreter(of, name string, depth int) {
	real, n, why := l.s.find(name)
	if why != "" {
		l.say("%s: its interpreter %s %s", of, name, why)
		return
	}
	l.start(real, n, depth+1)
}

// load follows an ELF file and all libraries that it needs.
func (l *linker) load(name string, main *node) {
	if l.seen[main] {
		return
	}
	l.seen[main] = true
	p := main.elf
	if p.unreadable != "" {
		l.say("%s: %s", name, p.unreadable)
		return
	}
	if p.interpreter == "" {
		if len(p.needed) > 0 {
			l.say("%s needs libraries and names no interpreter that would load them", name)
		}
		return
	}
	uid, gid, err := l.s.runUser()
	if err != nil {
		uid, gid = -1, -1
	}
	interpreter, why := l.s.tree.executable(p.interpreter, uid, gid)
	if why != "" {
		l.say("%s: its interpreter %s %s", name, p.interpreter, why)
		return
	}
	l.found(p.interpreter)
	if interpreter.elf == nil || interpreter.elf.machine != p.machine || interpreter.elf.class != p.class {
		l.say("%s: its interpreter %s is not for the same architecture", name, p.interpreter)
		return
	}
	l.environment = nil
	if value, ok := l.s.env("LD_LIBRARY_PATH"); ok {
		l.environment = origin(firstFields(value, ":;"), name, p)
	}
	l.defaults = l.system(p)
	type wanted struct {
		by   string
		of   *program
		name string
	}
	var queue []wanted
	push := func(by string, of *program) {
		for _, n := range of.needed {
			queue = append(queue, wanted{by, of, n})
		}
	}
	push(name, p)
	done := map[string]bool{}
	for len(queue) > 0 {
		w := queue[0]
		queue = queue[1:]
		if done[w.name] || path.Base(p.interpreter) == w.name {
			continue // a library is loaded once, by its name
		}
		done[w.name] = true
		if l.looks > maxLooks {
			l.say("%s: its libraries are looked for in more than %d places", name, maxLooks)
			return
		}
		at, lib := l.library(w.name, w.by, w.of, name, p)
		if lib == nil {
			l.say("%s needs the library %s, which is not in the image", w.by, w.name)
			continue
		}
		l.found(at)
		if lib.elf.unreadable != "" {
			l.say("%s: %s", at, lib.elf.unreadable)
			continue
		}
		push(at, lib.elf)
	}
}

// library finds a library in the order of ld.so(8).
func (l *linker) library(name, by string, of *program, mainName string, main *program) (string, *node) {
	usable := func(file string) *node {
		if l.looks++; l.looks > maxLooks {
			return nil
		}
		n, err := l.s.tree.walk(file, false, 0)
		if err != nil || n.elf == nil || n.elf.unreadable == "" && (n.elf.class != main.class || n.elf.machine != main.machine) {
			return nil
		}
		return n
	}
	if strings.Contains(name, "/") {
		return name, usable(name)
	}
	var dirs []string
	if len(of.runpath) == 0 {
		dirs = append(dirs, origin(of.rpath, by, main)...)
		if len(main.runpath) == 0 {
			dirs = append(dirs, origin(main.rpath, mainName, main)...)
		}
	}
	dirs = append(dirs, l.environment...)
	dirs = append(dirs, origin(of.runpath, by, main)...)
	dirs = append(dirs, l.defaults...)
	for _, dir := range dirs {
		if dir == "" || len(dir) > maxString {
			continue
		}
		file := path.Join("/", dir, name)
		if n := usable(file); n != nil {
			return file, n
		}
	}
	return "", nil
}

// Bounds of what is looked for.
const (
	maxLooks    = 50_000 // at files, for the libraries of all programs
	maxFolders  = 1000   // of a setting
	maxIncludes = 20     // lines of ld.so.conf that include other files
)

// firstFields splits a list of folders, and leaves out what is after the first thousand.
func firstFields(text, separators string) (out []string) {
	for field := range strings.FieldsFuncSeq(text, func(r rune) bool { return strings.ContainsRune(separators, r) }) {
		if out = append(out, field); len(out) == maxFolders {
			break
		}
	}
	return out
}

// origin fills in what $ORIGIN stands for.
func origin(dirs []string, file string, main *program) []string {
	lib := "lib"
	if main.class == elf.ELFCLASS64 {
		lib = "lib64"
	}
	out := slices.Clone(dirs)
	for i := range out {
		out[i] = strings.NewReplacer("$ORIGIN", path.Dir(file), "${ORIGIN}", path.Dir(file), "$LIB", lib, "${LIB}", lib).Replace(out[i])
	}
	return out
}

// system lists the folders in which the program's linker looks by itself.
func (l *linker) system(main *program) []string {
	read := func(name string) []string {
		n, err := l.s.tree.walk(name, false, 0)
		if err != nil {
			return nil
		}
		return firstFields(string(n.content), "\n:, \t")
	}
	base := path.Base(main.interpreter)
	if strings.HasPrefix(base, "ld-musl-") {
		// musl reads /etc/ld-musl-ARCH.path, and has its own list without it.
		if own := read("/etc/" + strings.TrimSuffix(base, ".so.1") + ".path"); len(own) > 0 {
			return own
		}
		return []string{"/lib", "/usr/local/lib", "/usr/lib"}
	}
	var out []string
	// glibc finds folders of its configuration through its cache alone.
	if _, err := l.s.tree.walk("/etc/ld.so.cache", false, 0); err == nil {
		l.settings, l.includes = map[*node]bool{}, 0
		out = append(out, l.configured("/etc/ld.so.conf", 0)...)
	}
	// The folder of the interpreter is one of the linker's own: Debian builds in
	// /lib/x86_64-linux-gnu, others /lib64.
	if n, real, _, err := l.s.tree.follow(main.interpreter, false, 0); err == nil && n != nil {
		out = append(out, path.Dir(real))
		if triplet := path.Base(path.Dir(real)); strings.Contains(triplet, "-linux-") {
			out = append(out, "/lib/"+triplet, "/usr/lib/"+triplet)
		}
	}
	return append(out, "/lib64", "/usr/lib64", "/lib", "/usr/lib")
}

// configured reads ld.so.conf and what it includes.
func (l *linker) configured(file string, depth int) []string {
	n, err := l.s.tree.walk(file, false, 0)
	if err != nil || depth > 3 || l.settings[n] {
		return nil
	}
	l.settings[n] = true
	var out []string
	for line := range strings.Lines(string(n.content)) {
		if len(line) > maxString || len(out) >= maxFolders {
			continue
		}
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		switch {
		case len(words) == 2 && words[0] == "include":
			if l.includes++; l.includes > maxIncludes {
				continue
			}
			dir := path.Dir(path.Join(path.Dir(file), words[1]))
			if strings.HasPrefix(words[1], "/") {
				dir = path.Dir(words[1])
			}
			folder, err := l.s.tree.walk(dir, false, 0)
			if err != nil || !folder.dir() {
				continue
			}
			for _, name := range sorted(folder.children) {
				if len(out) >= maxFolders {
					break
				}
				if ok, err := path.Match(path.Base(words[1]), name); ok && err == nil {
					out = append(out, l.configured(path.Join(dir, name), depth+1)...)
				}
			}
		case len(words) >= 1 && strings.HasPrefix(words[0], "/"):
			out = append(out, words[0])
		}
	}
	return out
}

// architecture is the name that images use for a program's machine.
func architecture(p *program) string {
	switch p.machine {
	case elf.EM_X86_64:
		return "amd64"
	case elf.EM_AARCH64:
		return "arm64"
	case elf.EM_386:
		return "386"
	case elf.EM_ARM:
		return "arm"
	case elf.EM_PPC64:
		return "ppc64le"
	case elf.EM_S390:
		return "s390x"
	case elf.EM_RISCV:
		return "riscv64"
	}
	return p.machine.String()
}
