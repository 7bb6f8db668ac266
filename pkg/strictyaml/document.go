// Package strictyaml decodes YAML into Go structs and finds every mistake in one
// pass, with line and column: unknown and duplicate keys, wrong types, missing
// and empty values. It enforces the struct tags `yaml` and `jsonschema`, so that
// the decoder and the schema for editors cannot disagree.
package strictyaml

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/ami-factory/ami-factory/pkg/problem"
)

// Document has the position of each value in a decoded file. Paths have the form
// distribution.regions[0].kmsKey; the empty path is the whole file.
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

// File returns the name of the file, as given to Decode.
func (d *Document) File() string { return d.file }

// Has reports whether the file has a value at path.
func (d *Document) Has(path string) bool {
	_, ok := d.values[path]
	return ok
}

// Valid reports whether the file has a value at path and the value was decoded
// without a problem.
func (d *Document) Valid(path string) bool { return d.Has(path) && !d.bad[path] }

// Problem returns an error about the value at path. If the file has no such
// value, the error points to the nearest enclosing value.
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

// KeyProblem returns an error about the key at path rather than its value.
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

// maxMessage is the maximum length of a message, which must stay readable if it
// contains a value of the file.
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

// parent removes the last element of a path.
func parent(path string) string {
	i := strings.LastIndexAny(path, ".[")
	if i < 0 {
		return ""
	}
	return path[:i]
}

// Join appends a key to a path.
func Join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// Index appends an index to a path.
func Index(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

// Scalar is a single value of any type, as the text in the file.
type Scalar string

// UnmarshalText sets s to the text.
func (s *Scalar) UnmarshalText(b []byte) error {
	*s = Scalar(b)
	return nil
}
