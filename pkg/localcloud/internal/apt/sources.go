// Package apt reads the configuration of this machine's apt: its sources in both
// formats of sources.list(5), and its proxies.
package apt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Source is one archive: one URI and suite of an enabled entry of type deb.
type Source struct {
	URI        string
	Suite      string
	Components []string
	// SignedBy is the entry's Signed-By: paths or fingerprints, or an inline key.
	// It is empty if apt's trusted keys apply.
	SignedBy string
}

// Sources reads sources.list and sources.list.d under root ("/" for this
// machine's) in the order in which apt does. It is no error if a machine has no
// apt. An entry that apt would refuse is left out; apt reports it.
func Sources(root string) ([]Source, error) {
	files := []string{filepath.Join(root, "etc/apt/sources.list")}
	parts := filepath.Join(root, "etc/apt/sources.list.d")
	entries, err := os.ReadDir(parts)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read apt's sources: %w", err)
	}
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); !e.IsDir() && (ext == ".list" || ext == ".sources") {
			files = append(files, filepath.Join(parts, e.Name()))
		}
	}
	var all []Source
	for _, file := range files {
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read apt's sources: %w", err)
		}
		parse := parseOneLine
		if filepath.Ext(file) == ".sources" {
			parse = parseDeb822
		}
		all = append(all, parse(string(data))...)
	}
	return all, nil
}

// parseOneLine reads the one-line style: deb [options] uri suite component…
func parseOneLine(text string) []Source {
	var out []Source
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		rest, found := strings.CutPrefix(strings.TrimSpace(line), "deb")
		if !found || rest == "" || !strings.ContainsAny(rest[:1], " \t[") {
			continue // deb-src, or no entry at all
		}
		rest = strings.TrimSpace(rest)
		var options string
		if strings.HasPrefix(rest, "[") {
			var closed bool
			if options, rest, closed = strings.Cut(rest[1:], "]"); !closed {
				continue
			}
		}
		fields := strings.Fields(rest)
		if len(fields) < 2 {
			continue
		}
		source := Source{URI: fields[0], Suite: fields[1], Components: fields[2:]}
		for option := range strings.FieldsSeq(options) {
			if value, ok := strings.CutPrefix(strings.ToLower(option), "signed-by="); ok {
				source.SignedBy = option[len(option)-len(value):]
			}
		}
		out = append(out, source)
	}
	return out
}

// parseDeb822 reads the deb822 style: every pair of URI and suite of an enabled
// stanza of type deb.
func parseDeb822(text string) []Source {
	var out []Source
	for stanza := range strings.SplitSeq(dropComments(text), "\n\n") {
		fields := deb822Fields(stanza)
		if !slices.Contains(strings.Fields(fields["types"]), "deb") || isNo(fields["enabled"]) {
			continue
		}
		for uri := range strings.FieldsSeq(fields["uris"]) {
			for suite := range strings.FieldsSeq(fields["suites"]) {
				out = append(out, Source{
					URI:        uri,
					Suite:      suite,
					Components: strings.Fields(fields["components"]),
					SignedBy:   fields["signed-by"],
				})
			}
		}
	}
	return out
}

// isNo reports whether apt reads the word as no.
func isNo(value string) bool {
	return slices.Contains([]string{"no", "false", "without", "off", "disable", "0"}, strings.ToLower(value))
}

// dropComments removes comment lines, which may stand inside a stanza, and
// reduces blank lines to empty ones, which alone separate stanzas.
func dropComments(text string) string {
	var kept []string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \t\r\n")
		if !strings.HasPrefix(line, "#") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}

// deb822Fields returns a stanza's fields by lower-case name; continuation
// lines are joined by newlines.
func deb822Fields(stanza string) map[string]string {
	fields := map[string]string{}
	var name string
	for line := range strings.SplitSeq(stanza, "\n") {
		if line == "" {
			continue
		}
		if line[0] == ' ' || line[0] == '\t' {
			if name != "" {
				fields[name] = strings.TrimSpace(fields[name] + "\n" + strings.TrimSpace(line))
			}
			continue
		}
		key, value, found := strings.Cut(line, ":")
		if !found {
			name = ""
			continue
		}
		name = strings.ToLower(strings.TrimSpace(key))
		fields[name] = strings.TrimSpace(value)
	}
	return fields
}
