package snapshot

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Rule states what must be true of the files on a disk before its first boot.
// Paths are absolute, or begin with ~/ for every home directory. Their parts can
// be patterns of path.Match; a last part ** matches everything below that is not
// a directory.
type Rule struct {
	Present []string `yaml:"present" json:"present,omitempty" jsonschema:"minItems=1,minLength=1"` // each must match something
	Absent  []string `yaml:"absent" json:"absent,omitempty" jsonschema:"minItems=1,minLength=1"`   // none may match anything
	Empty   []string `yaml:"empty" json:"empty,omitempty" jsonschema:"minItems=1,minLength=1"`     // files that must be empty or missing
	Lines   *Lines   `yaml:"lines" json:"lines,omitempty"`
}

// Lines states that no line of the files matches an expression.
type Lines struct {
	In      []string `yaml:"in" json:"in" jsonschema:"required,minItems=1,minLength=1"`
	Match   string   `yaml:"match" json:"match" jsonschema:"required,minLength=1"`                     // RE2
	Except  string   `yaml:"except" json:"except,omitempty" jsonschema:"minLength=1"`                  // RE2: lines that are allowed to match
	MaxSize int64    `yaml:"maxSize" json:"maxSize,omitempty" jsonschema:"minimum=1,maximum=16777216"` // bytes; larger files are not read; by default a file larger than 16 MiB is an error
}

// Problem is a mistake in a rule.
type Problem struct {
	Path    []string // keys and indexes down to it
	Message string
	Allowed string
}

// Check returns the mistakes in a rule.
func (r Rule) Check() []Problem {
	var out []Problem
	for _, list := range []struct {
		at       []string
		patterns []string
	}{{[]string{"present"}, r.Present}, {[]string{"absent"}, r.Absent}, {[]string{"empty"}, r.Empty}, {[]string{"lines", "in"}, r.in()}} {
		for i, pattern := range list.patterns {
			if message := badPattern(pattern); message != "" {
				out = append(out, Problem{Path: append(slices.Clone(list.at), fmt.Sprint(i)), Message: message, Allowed: "an absolute path such as /etc/ssh/ssh_host_* or ~/.ssh/**"})
			}
		}
	}
	if r.Lines != nil {
		for _, e := range []struct{ key, text string }{{"match", r.Lines.Match}, {"except", r.Lines.Except}} {
			if _, err := regexp.Compile(e.text); err != nil {
				out = append(out, Problem{Path: []string{"lines", e.key}, Message: strings.TrimPrefix(err.Error(), "error parsing regexp: "), Allowed: "an expression of RE2 (https://github.com/google/re2/wiki/Syntax)"})
			}
		}
	}
	if len(r.Present)+len(r.Absent)+len(r.Empty) == 0 && r.Lines == nil {
		out = append(out, Problem{Message: "a rule without a statement is true of every disk", Allowed: "present, absent, empty or lines"})
	}
	return out
}

func (r Rule) in() []string {
	if r.Lines == nil {
		return nil
	}
	return r.Lines.In
}

// badPattern describes what is wrong with a pattern, or returns "".
func badPattern(pattern string) string {
	rest, home := strings.CutPrefix(pattern, "~/")
	if !home {
		var ok bool
		if rest, ok = strings.CutPrefix(pattern, "/"); !ok {
			return fmt.Sprintf("%q does not begin with / or ~/", pattern)
		}
	}
	parts := strings.Split(rest, "/")
	for i, part := range parts {
		switch {
		case part == "" || part == "." || part == "..":
			return fmt.Sprintf("%q has an empty part, or . or ..", pattern)
		case part == "**" && i < len(parts)-1:
			return fmt.Sprintf("%q has ** before its end", pattern)
		case part != "**" && strings.Contains(part, "**"):
			return fmt.Sprintf("%q has ** and other characters in one part", pattern)
		}
		if _, err := path.Match(part, ""); err != nil {
			return fmt.Sprintf("%q: %v", pattern, err)
		}
	}
	return ""
}

// Statements describes the rule in sentences, one for each comparison.
func (r Rule) Statements() []string {
	var out []string
	for _, s := range r.statements() {
		out = append(out, s.text)
	}
	return out
}
