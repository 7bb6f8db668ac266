// Package problem describes mistakes in files that people write: what is wrong,
// where exactly, and what is allowed instead. Every check collects all problems;
// nothing is started if one of them is an error.
package problem

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// Severity is the severity of a problem.
type Severity string

// Severities. Only an error stops a build.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// Problem is one mistake in a file.
type Problem struct {
	Severity Severity `json:"severity"`
	File     string   `json:"file"`
	Line     int      `json:"line,omitempty"`   // from 1; 0 for the whole file
	Column   int      `json:"column,omitempty"` // from 1, in characters
	Message  string   `json:"message"`
	Allowed  string   `json:"allowed,omitempty"` // what is accepted instead
	Source   string   `json:"source,omitempty"`  // the text of the line
	Rule     string   `json:"rule,omitempty"`    // the origin of the rule, if not the format of the file: baseline
}

// String returns the problem as one line: file:line:col: error: message
// (allowed: …).
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
		if p.Column > 0 {
			fmt.Fprintf(&b, ":%d", p.Column)
		}
	}
	fmt.Fprintf(&b, ": %s: %s", p.Severity, p.Message)
	if p.Allowed != "" {
		fmt.Fprintf(&b, " (allowed: %s)", p.Allowed)
	}
	return b.String()
}

// List holds the problems that a check found.
type List []Problem

// Sort orders by file, line, column, severity and message, and drops exact
// duplicates.
func (ps List) Sort() List {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(a.File, b.File),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Severity, b.Severity),
			cmp.Compare(a.Message, b.Message),
		)
	})
	return slices.Compact(ps)
}

// Count returns how many problems have the severity.
func (ps List) Count(s Severity) int {
	n := 0
	for _, p := range ps {
		if p.Severity == s {
			n++
		}
	}
	return n
}

// HasErrors reports whether there is an error.
func (ps List) HasErrors() bool { return ps.Count(Error) > 0 }

// Breaks reports whether there is an error with this rule.
func (ps List) Breaks(rule string) bool {
	return slices.ContainsFunc(ps, func(p Problem) bool { return p.Severity == Error && p.Rule == rule })
}

// Err returns an *InvalidError with all problems, or nil if there are no errors.
func (ps List) Err() error {
	if !ps.HasErrors() {
		return nil
	}
	return &InvalidError{Problems: slices.Clone(ps).Sort()}
}

// InvalidError is a set of problems as a Go error.
type InvalidError struct {
	Problems List
}

// Error lists the errors, one per line, without source lines.
func (e *InvalidError) Error() string {
	var lines []string
	for _, p := range e.Problems {
		if p.Severity == Error {
			lines = append(lines, p.String())
		}
	}
	return strings.Join(lines, "\n")
}

// Print writes the problems in order, each with its source line and a caret
// under the column, followed by a count. Without problems it writes nothing.
func (ps List) Print(w io.Writer) error {
	sorted := slices.Clone(ps).Sort()
	var b strings.Builder
	for _, p := range sorted {
		b.WriteString(p.String())
		b.WriteByte('\n')
		if p.Source != "" && p.Line > 0 {
			b.WriteString(excerpt(p))
		}
	}
	if len(sorted) > 0 {
		fmt.Fprintf(&b, "%s, %s\n", count(sorted.Count(Error), "error"), count(sorted.Count(Warning), "warning"))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// WriteJSON writes {"errors":n,"warnings":n,"problems":[…]}, sorted.
func (ps List) WriteJSON(w io.Writer) error {
	sorted := slices.Clone(ps).Sort()
	if sorted == nil {
		sorted = List{}
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(struct {
		Errors   int  `json:"errors"`
		Warnings int  `json:"warnings"`
		Problems List `json:"problems"`
	}{sorted.Count(Error), sorted.Count(Warning), sorted})
}

// Cut shortens a value for a message.
func Cut(value string) string {
	const most = 80
	if runes := []rune(value); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return value
}

// window returns the part of a long line around a column, and the column in that
// part.
func window(line string, column int) (string, int) {
	const most, before = 120, 60
	runes := []rune(line)
	if len(runes) <= most {
		return line, column
	}
	from := 0
	if column > before {
		from = min(column-1-before, len(runes)-most)
	}
	to := min(from+most, len(runes))
	out := string(runes[from:to])
	if to < len(runes) {
		out += "…"
	}
	if from > 0 {
		return "…" + out, column - from + 1
	}
	return out, column
}

// excerpt returns the source line with its number, and a caret below it. The
// caret's line keeps tabs, so that the caret is under its character.
func excerpt(p Problem) string {
	number := fmt.Sprintf("%5d | ", p.Line)
	p.Source, p.Column = window(p.Source, p.Column)
	out := number + p.Source + "\n"
	if p.Column < 1 {
		return out
	}
	var pad strings.Builder
	column := 1
	for _, r := range p.Source {
		if column >= p.Column {
			break
		}
		if r == '\t' {
			pad.WriteByte('\t')
		} else {
			pad.WriteByte(' ')
		}
		column++
	}
	return out + strings.Repeat(" ", utf8.RuneCountInString(number)-2) + "| " + pad.String() + "^\n"
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
