// Package strictyaml decodes YAML into Go structs so that nothing passes
// unnoticed: unknown and duplicate keys, wrong types, missing and empty values
// are all found in one pass, each with its line and column. What the struct
// tags `yaml` and `jsonschema` say is enforced, so that the schema given to
// editors and the decoder cannot disagree.
package strictyaml

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/ami-factory/ami-factory/pkg/problem"
)

// Document remembers where each value of a decoded file stands. Paths are
// written as in distribution.regions[0].kmsKey; the empty path is the whole.
type Document struct {
	file   string
	lines  []string
	keys   map[string]position
	values map[string]position
	bad    map[string]bool
}

type position struct{ line, column int }

func newDocument(file string, data []byte) *Document {
	text := strings.ReplaceAll(string(data), "\r\n", "\n")
	return &Document{
		file:   file,
		lines:  strings.Split(text, "\n"),
		keys:   map[string]position{},
		values: map[string]position{},
		bad:    map[string]bool{},
	}
}

// File is the name the document was decoded under.
func (d *Document) File() string { return d.file }

// Has says whether the file holds a value at path.
func (d *Document) Has(path string) bool {
	_, ok := d.values[path]
	return ok
}

// Valid says whether the file holds a value at path that was decoded without
// a problem of its own.
func (d *Document) Valid(path string) bool { return d.Has(path) && !d.bad[path] }

// Problem is an error about the value at path, or, when the file has no such
// value, about the nearest thing around it that the file does have.
func (d *Document) Problem(path, allowed, format string, args ...any) problem.Problem {
	p, ok := d.values[path]
	for !ok && path != "" {
		path = parent(path)
		if p, ok = d.keys[path]; !ok {
			p, ok = d.values[path]
		}
	}
	return d.at(p, allowed, fmt.Sprintf(format, args...))
}

// KeyProblem is an error about the key at path rather than its value.
func (d *Document) KeyProblem(path, allowed, format string, args ...any) problem.Problem {
	if p, ok := d.keys[path]; ok {
		return d.at(p, allowed, fmt.Sprintf(format, args...))
	}
	return d.Problem(path, allowed, format, args...)
}

func (d *Document) at(p position, allowed, message string) problem.Problem {
	out := problem.Problem{
		Severity: problem.Error,
		File:     d.file,
		Line:     p.line,
		Column:   p.column,
		Message:  cut(message, maxMessage),
		Allowed:  allowed,
	}
	if p.line >= 1 && p.line <= len(d.lines) {
		out.Source = d.lines[p.line-1]
	}
	return out
}

// maxMessage is how long a message may be: one with a value of the file in it
// must stay readable.
const maxMessage = 600

func cut(text string, most int) string {
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return text
}

func (d *Document) atNode(n *yaml.Node, allowed, format string, args ...any) problem.Problem {
	return d.at(position{n.Line, n.Column}, allowed, fmt.Sprintf(format, args...))
}

// parent cuts the last element off a path.
func parent(path string) string {
	i := strings.LastIndexAny(path, ".[")
	if i < 0 {
		return ""
	}
	return path[:i]
}

// Join puts a key at the end of a path.
func Join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// Index puts an index at the end of a path.
func Index(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

// Scalar is a single value of any type, as the text it is written with.
type Scalar string

// UnmarshalText takes the text as it is.
func (s *Scalar) UnmarshalText(b []byte) error {
	*s = Scalar(b)
	return nil
}
