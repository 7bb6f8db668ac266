package baseimage

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// aptSource is one archive of apt's configuration: one URI and suite of an
// entry of type deb.
type aptSource struct {
	URI        string
	Suite      string
	Components []string
	// SignedBy is the entry's Signed-By: paths or fingerprints, or an inline
	// key. Empty when apt's trusted keys apply.
	SignedBy string
}

// debianSuffixes are the suites of a Debian release beside the release itself.
var debianSuffixes = []string{"", "-updates", "-security"}

// debianReleases are the names whose suites a host of another release carries;
// its mirrors serve every release that is not archived.
var debianReleases = []string{
	"bullseye", "bookworm", "trixie", "forky", "duke",
	"oldoldstable", "oldstable", "stable", "testing",
}

// hostSources reads every source of apt's configuration under root, the
// host's "/" outside tests. Sorted as apt reads them.
func hostSources(root string) ([]aptSource, error) {
	files := []string{filepath.Join(root, "etc/apt/sources.list")}
	parts := filepath.Join(root, "etc/apt/sources.list.d")
	entries, err := os.ReadDir(parts)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read apt's sources: %w", err)
	}
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); ext == ".list" || ext == ".sources" {
			files = append(files, filepath.Join(parts, e.Name()))
		}
	}
	var all []aptSource
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

// parseOneLine reads the one-line style of sources.list(5). A line that apt
// would refuse is left out: reporting it is apt's task.
func parseOneLine(text string) []aptSource {
	var out []aptSource
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		line, _, _ := strings.Cut(lines.Text(), "#")
		rest, found := strings.CutPrefix(strings.TrimSpace(line), "deb")
		if !found || !strings.HasPrefix(strings.TrimLeft(rest, " \t"), "[") && strings.TrimLeft(rest, " \t") == rest {
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
		source := aptSource{URI: fields[0], Suite: fields[1], Components: fields[2:]}
		for option := range strings.FieldsSeq(options) {
			if value, ok := strings.CutPrefix(strings.ToLower(option), "signed-by="); ok {
				source.SignedBy = option[len(option)-len(value):]
			}
		}
		out = append(out, source)
	}
	return out
}

// parseDeb822 reads the deb822 style of sources.list(5): every pair of URI and
// suite of an enabled stanza of type deb.
func parseDeb822(text string) []aptSource {
	var out []aptSource
	for stanza := range strings.SplitSeq(dropComments(text), "\n\n") {
		fields := deb822Fields(stanza)
		if !slices.Contains(strings.Fields(fields["types"]), "deb") ||
			slices.Contains([]string{"no", "false", "0"}, strings.ToLower(fields["enabled"])) {
			continue
		}
		for uri := range strings.FieldsSeq(fields["uris"]) {
			for suite := range strings.FieldsSeq(fields["suites"]) {
				out = append(out, aptSource{
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

// debianSources picks what belongs to the Debian release codename out of all
// of a host's sources. A host of another Debian release has its suites
// rewritten, since its mirrors serve both. Everything of a third party is left
// out: an image of Debian holds nothing else. The result is sorted and has no
// duplicates; it is empty when the host has no Debian source at all.
func debianSources(all []aptSource, codename string) []aptSource {
	exact, rewritten := []aptSource{}, []aptSource{}
	for _, s := range all {
		release, suffix := splitSuite(s.Suite)
		if release == "" || !s.isDebians() {
			continue
		}
		s.Components = slices.DeleteFunc(slices.Clone(s.Components), func(c string) bool { return c != "main" })
		s.Suite = codename + suffix
		if release == codename {
			exact = append(exact, s)
		} else {
			rewritten = append(rewritten, s)
		}
	}
	chosen := exact
	if !slices.ContainsFunc(exact, func(s aptSource) bool { return s.Suite == codename }) {
		chosen = append(exact, rewritten...)
	}
	slices.SortFunc(chosen, func(a, b aptSource) int {
		return cmp.Or(
			cmp.Compare(slices.Index(debianSuffixes, strings.TrimPrefix(a.Suite, codename)), slices.Index(debianSuffixes, strings.TrimPrefix(b.Suite, codename))),
			cmp.Compare(a.URI, b.URI))
	})
	chosen = slices.CompactFunc(chosen, func(a, b aptSource) bool { return a.URI == b.URI && a.Suite == b.Suite })
	if !slices.ContainsFunc(chosen, func(s aptSource) bool { return s.Suite == codename }) {
		return nil // updates alone install nothing
	}
	return chosen
}

// splitSuite divides a suite such as bookworm-updates into release and suffix;
// the release is empty for a suite that is not one of Debian's.
func splitSuite(suite string) (release, suffix string) {
	for _, release := range debianReleases {
		if rest, ok := strings.CutPrefix(suite, release); ok && slices.Contains(debianSuffixes, rest) {
			return release, rest
		}
	}
	return "", ""
}

// isDebians says whether an entry is of the Debian archive, whatever mirror
// serves it. Third parties use Debian's suite names and "main" as well, so the
// signing key decides; without one, the archive's customary path does.
func (s aptSource) isDebians() bool {
	if !slices.Contains(s.Components, "main") {
		return false
	}
	if strings.HasPrefix(s.SignedBy, "/") {
		return strings.HasPrefix(filepath.Base(s.SignedBy), "debian-archive-")
	}
	u, err := url.Parse(s.URI)
	if err != nil {
		return false
	}
	last := path.Base(strings.TrimSuffix(u.Path, "/"))
	return last == "debian" || last == "debian-security"
}

// oneLine renders the source for apt on the host, with the host's keyring.
func (s aptSource) oneLine() string {
	var options string
	if strings.HasPrefix(s.SignedBy, "/") {
		options = "[signed-by=" + s.SignedBy + "] "
	}
	return fmt.Sprintf("deb %s%s %s %s\n", options, s.URI, s.Suite, strings.Join(s.Components, " "))
}

// imageSources renders the sources for the image, as deb822 with the keyring
// that Debian's own package installs. They are the host's mirrors, by plain
// http: that is what the guest network forwards and caches, and apt proves what
// it gets by signature, not by transport.
func imageSources(sources []aptSource) string {
	var b strings.Builder
	for _, s := range sources {
		uri := s.URI
		if rest, ok := strings.CutPrefix(uri, "https://"); ok {
			uri = "http://" + rest
		}
		fmt.Fprintf(&b, "Types: deb\nURIs: %s\nSuites: %s\nComponents: %s\nSigned-By: %s\n\n",
			uri, s.Suite, strings.Join(s.Components, " "), "/usr/share/keyrings/debian-archive-keyring.gpg")
	}
	return strings.TrimSuffix(b.String(), "\n")
}
