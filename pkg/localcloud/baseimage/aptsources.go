package baseimage

import (
	"cmp"
	"fmt"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/apt"
)

// debianSuffixes are the suites of a Debian release beside the release itself.
var debianSuffixes = []string{"", "-updates", "-security"}

// debianReleases are the names whose suites a host of another release carries;
// its mirrors serve every release that is not archived.
var debianReleases = []string{
	"bullseye", "bookworm", "trixie", "forky", "duke",
	"oldoldstable", "oldstable", "stable", "testing",
}

// debianSources picks what belongs to the Debian release codename out of all
// of a host's sources. A host of another Debian release has its suites
// rewritten, since its mirrors serve both. Everything of a third party is left
// out: an image of Debian holds nothing else. The result is sorted and has no
// duplicates; it is empty when the host has no Debian source at all.
func debianSources(all []apt.Source, codename string) []apt.Source {
	exact, rewritten := []apt.Source{}, []apt.Source{}
	for _, s := range all {
		release, suffix := splitSuite(s.Suite)
		if release == "" || !isDebians(s) {
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
	if !slices.ContainsFunc(exact, func(s apt.Source) bool { return s.Suite == codename }) {
		chosen = append(exact, rewritten...)
	}
	slices.SortFunc(chosen, func(a, b apt.Source) int {
		return cmp.Or(
			cmp.Compare(slices.Index(debianSuffixes, strings.TrimPrefix(a.Suite, codename)), slices.Index(debianSuffixes, strings.TrimPrefix(b.Suite, codename))),
			cmp.Compare(a.URI, b.URI))
	})
	chosen = slices.CompactFunc(chosen, func(a, b apt.Source) bool { return a.URI == b.URI && a.Suite == b.Suite })
	if !slices.ContainsFunc(chosen, func(s apt.Source) bool { return s.Suite == codename }) {
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
func isDebians(s apt.Source) bool {
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
func oneLine(s apt.Source) string {
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
func imageSources(sources []apt.Source) string {
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
