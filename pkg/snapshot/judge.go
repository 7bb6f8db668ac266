package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
)

// Finding is the result of one statement of a rule.
type Finding struct {
	Statement string // such as "/etc/ssh/ssh_host_* absent"
	OK        bool
	Expected  string
	Found     string // at most a few files
}

// Cost is the amount of reading.
type Cost struct {
	Bytes   int64 // read from the disk; cached blocks count again
	Entries int
}

// Judge opens a disk and checks its systems against rules. A system is a file
// system with an /etc/passwd. The result has the findings of each rule, over all
// systems. It is an error if the disk cannot be read completely or has no
// system.
func Judge(r io.ReaderAt, size int64, limits Limits, rules [][]Rule) (out [][]Finding, cost Cost, err error) {
	use := &usage{limits: limits}
	defer func() {
		cost = Cost{Bytes: use.bytes, Entries: use.entries}
		if p := recover(); p != nil {
			out, err = nil, fmt.Errorf("the reader failed on this disk: %v\n%s", p, debug.Stack())
		}
	}()
	found, err := volumes(disk{r: r, size: size, use: use})
	if err != nil {
		return nil, cost, err
	}
	var systems []*system
	for _, v := range found {
		s, err := newSystem(v, limits)
		if err != nil {
			return nil, cost, fmt.Errorf("%s: %w", v.name, err)
		}
		if s != nil {
			systems = append(systems, s)
		}
	}
	if len(systems) == 0 {
		return nil, cost, errors.New("no file system of the disk has an /etc/passwd")
	}
	for _, list := range rules {
		var findings []Finding
		for _, rule := range list {
			for _, s := range rule.statements() {
				f := Finding{Statement: s.text, Expected: s.expected, OK: true}
				var texts []string
				for _, system := range systems {
					text, err := system.judge(s)
					if err != nil {
						text = "cannot be read: " + err.Error()
					}
					if text != "" {
						f.OK = false
						if len(systems) > 1 {
							text = system.name + ": " + text
						}
						texts = append(texts, text)
					}
				}
				if f.Found = strings.Join(texts, "; "); f.OK {
					f.Found = s.expected
				}
				findings = append(findings, f)
			}
		}
		out = append(out, findings)
	}
	return out, cost, nil
}

// system is a file system that could be booted.
type system struct {
	name  string
	tree  *tree
	homes []string
}

// newSystem finds the home directories. It returns nil if the file system is not
// a system.
func newSystem(v volume, limits Limits) (*system, error) {
	s := &system{name: v.name, tree: newTree(v.fs, limits)}
	p, err := s.tree.lookup("/etc/passwd")
	if errors.Is(err, errNoFile) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if p.node.kind != regular {
		return nil, errors.New("/etc/passwd is not a regular file")
	}
	passwd, err := s.tree.content(p, limits.File)
	if err != nil {
		return nil, err
	}
	s.homes = []string{"/root"}
	for line := range strings.Lines(string(passwd)) {
		fields := strings.Split(strings.TrimRight(line, "\n"), ":")
		if len(fields) < 6 || !strings.HasPrefix(fields[5], "/") || strings.ContainsAny(fields[5], "\x00") {
			continue
		}
		s.homes = append(s.homes, strings.TrimRight(fields[5], "/"))
	}
	homes, err := s.tree.lookup("/home")
	if err == nil && homes.node.kind == directory {
		all, err := s.tree.list(homes.node)
		if err != nil {
			return nil, fmt.Errorf("/home: %w", err)
		}
		for _, e := range all {
			s.homes = append(s.homes, "/home/"+e.name)
		}
	} else if err != nil && !errors.Is(err, errNoFile) {
		return nil, err
	}
	slices.Sort(s.homes)
	s.homes = slices.Compact(s.homes)
	if len(s.homes) > 10_000 {
		return nil, fmt.Errorf("%d home directories: %w", len(s.homes), errLimit)
	}
	return s, nil
}

// shared matches homes of system accounts that contain files of the system.
// Patterns for everything in a home do not apply to them.
var shared = regexp.MustCompile(`^(|/(usr/)?s?bin|/usr|/usr/games|/usr/(lib|libexec|share)|/lib|/etc|/var|/var/(lib|log|cache)|/dev|/proc|/sys|/run|/nonexistent)$`)

// each calls found for every file that a pattern matches.
func (s *system) each(pattern string, found func(place) error) error {
	rest, home := strings.CutPrefix(pattern, "~/")
	if !home {
		return s.tree.glob(pattern, found)
	}
	for _, home := range s.homes {
		if rest == "**" && shared.MatchString(home) {
			continue
		}
		p, err := s.tree.lookup(home + "/")
		if errors.Is(err, errNoFile) {
			continue
		}
		if err != nil {
			return err
		}
		if p.path = home; home == "" {
			p.path = "/"
		}
		if err := s.tree.match(p, strings.Split(rest, "/"), found); err != nil {
			return err
		}
	}
	return nil
}

// statement is one comparison.
type statement struct {
	text, expected string
	pattern        string
	judge          func(s *system, pattern string, files *files) error
}

// files collects the files that break a statement.
type files struct {
	names []string
	more  int
}

func (f *files) add(format string, args ...any) {
	if len(f.names) >= 5 {
		f.more++
		return
	}
	f.names = append(f.names, fmt.Sprintf(format, args...))
}

func (f *files) String() string {
	text := strings.Join(f.names, ", ")
	if f.more > 0 {
		text += fmt.Sprintf(" and %d more", f.more)
	}
	return text
}

// judge returns the deviations from a statement, or "" if it holds.
func (s *system) judge(st statement) (string, error) {
	var found files
	if err := st.judge(s, st.pattern, &found); err != nil {
		return "", err
	}
	return found.String(), nil
}

func (r Rule) statements() []statement {
	var out []statement
	for _, pattern := range r.Present {
		out = append(out, statement{text: pattern + " present", expected: "present", pattern: pattern, judge: present})
	}
	for _, pattern := range r.Absent {
		out = append(out, statement{text: pattern + " absent", expected: "absent", pattern: pattern, judge: absent})
	}
	for _, pattern := range r.Empty {
		out = append(out, statement{text: pattern + " empty", expected: "empty, or absent", pattern: pattern, judge: empty})
	}
	for _, pattern := range r.in() {
		out = append(out, statement{
			text: fmt.Sprintf("lines of %s without /%s/", pattern, r.Lines.Match), expected: "no such line", pattern: pattern, judge: r.Lines.judge,
		})
	}
	return out
}

func present(s *system, pattern string, out *files) error {
	any := false
	if err := s.each(pattern, func(place) error { any = true; return nil }); err != nil {
		return err
	}
	if !any {
		out.add("absent")
	}
	return nil
}

// absent does not count links to directories in a pattern for everything below a
// directory: the files behind them have other names.
func absent(s *system, pattern string, out *files) error {
	return s.each(pattern, func(p place) error {
		if strings.HasSuffix(pattern, "**") && p.node.kind == symlink {
			to, err := s.tree.follow(p)
			if err != nil && !errors.Is(err, errNoFile) {
				return err
			}
			if err == nil && to.node.kind == directory {
				return nil
			}
		}
		out.add("%s", quote(p.path))
		return nil
	})
}

// empty follows links, but not in a pattern for everything below a directory:
// those files are elsewhere.
func empty(s *system, pattern string, out *files) error {
	return s.each(pattern, func(p place) error {
		if strings.HasSuffix(pattern, "**") && p.node.kind == symlink {
			return nil
		}
		p, err := s.tree.follow(p)
		if errors.Is(err, errNoFile) {
			return nil
		}
		switch {
		case err != nil:
			return err
		case p.node.kind == directory:
			all, err := s.tree.list(p.node)
			if err != nil {
				return err
			}
			if len(all) > 0 {
				out.add("%s has %d entries", quote(p.path), len(all))
			}
		case p.node.kind == regular && p.node.size > 0:
			out.add("%s has %d bytes", quote(p.path), p.node.size)
		}
		return nil
	})
}

// judge searches for the lines. The result does not contain their text, which
// may be a secret.
func (l *Lines) judge(s *system, pattern string, out *files) error {
	match, err := regexp.Compile(l.Match)
	if err != nil {
		return err
	}
	except, err := regexp.Compile(l.Except)
	if err != nil {
		return err
	}
	return s.each(pattern, func(p place) error {
		p, err := s.tree.follow(p)
		if errors.Is(err, errNoFile) || err == nil && p.node.kind != regular {
			return nil
		}
		if err != nil {
			return err
		}
		limit := s.tree.limits.File
		if l.MaxSize > 0 {
			if limit = l.MaxSize; p.node.size > uint64(limit) {
				return nil
			}
		}
		b, err := s.tree.content(p, limit)
		if err != nil {
			return err
		}
		number := 0
		for line := range bytes.SplitSeq(b, []byte("\n")) {
			number++
			line = bytes.TrimRight(line, "\r")
			if match.Match(line) && (l.Except == "" || !except.Match(line)) {
				out.add("%s:%d", quote(p.path), number)
				break
			}
		}
		return nil
	})
}

// quote returns a path of the disk as printable text.
func quote(name string) string {
	if q := fmt.Sprintf("%q", name); q != `"`+name+`"` {
		return q
	}
	return name
}
