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

// debianSuffixes are the suffixes of a Debian release's suites.
var debianSuffixes = []string{"", "-updates", "-security"}

// debianReleases are the releases that a host's Debian mirrors serve: every
// release that is not archived.
var debianReleases = []string{
	"bullseye", "bookworm", "trixie", "forky", "duke",
	"oldoldstable", "oldstable", "stable", "testing",
}

// debianSources returns the sources of the Debian release codename among a
// host's sources. On a host of another Debian release it rewrites the suites,
// because its mirrors serve both. It leaves out third parties, because an image
// of Debian contains nothing else. The result is sorted, has no duplicates, and
// is empty if the host has no Debian source.
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
		return nil // update suites alone are not enough to install a system
	}
	return chosen
}

// splitSuite splits a suite such as bookworm-updates into release and suffix.
// The release is empty if the suite is not Debian's.
func splitSuite(suite string) (release, suffix string) {
	for _, release := range debianReleases {
		if rest, ok := strings.CutPrefix(suite, release); ok && slices.Contains(debianSuffixes, rest) {
			return release, rest
		}
	}
	return "", ""
}

// isDebians reports whether an entry is of the Debian archive, on any mirror.
// Third parties also use Debian's suite names and "main", so the signing key
// decides, or without one the archive's usual path.
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
// that Debian's own package installs. They are the host's mirrors over plain
// http, which the guest network forwards and caches. Apt verifies signatures and
// does not rely on the transport.
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
