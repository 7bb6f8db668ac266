package baseimage

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/apt"
)

const debianKeyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

func entry(uri, suite string, components []string, signedBy string) apt.Source {
	return apt.Source{URI: uri, Suite: suite, Components: components, SignedBy: signedBy}
}

func TestDebianSources(t *testing.T) {
	main := []string{"main"}
	for sentence, tc := range map[string]struct {
		all  []apt.Source
		want []apt.Source
	}{
		"Debian's entries are taken in the order release, updates, security": {
			[]apt.Source{
				entry("http://m.test/debian-security", "bookworm-security", []string{"main", "contrib"}, debianKeyring),
				entry("http://m.test/debian", "bookworm-updates", main, debianKeyring),
				entry("http://m.test/debian", "bookworm", []string{"main", "non-free-firmware"}, debianKeyring),
			},
			[]apt.Source{
				entry("http://m.test/debian", "bookworm", main, debianKeyring),
				entry("http://m.test/debian", "bookworm-updates", main, debianKeyring),
				entry("http://m.test/debian-security", "bookworm-security", main, debianKeyring),
			},
		},
		"third parties are left out though they use Debian's suites": {
			[]apt.Source{
				entry("http://m.test/debian", "bookworm", main, ""),
				entry("https://tools.test", "bookworm", main, "/etc/apt/keyrings/tools.gpg"),
				entry("https://tools.test/apt", "bookworm", main, ""),
				entry("https://engine.test/linux/debian", "bookworm", []string{"stable"}, ""),
				entry("https://db.test/debian", "bookworm-pgdg", main, ""),
				entry("https://fake.test/debian", "bookworm", main, "/etc/apt/keyrings/fake.gpg"),
			},
			[]apt.Source{entry("http://m.test/debian", "bookworm", main, "")},
		},
		"a mirror under another path counts by its keyring": {
			[]apt.Source{entry("http://m.test/pub/linux", "bookworm", main, debianKeyring)},
			[]apt.Source{entry("http://m.test/pub/linux", "bookworm", main, debianKeyring)},
		},
		"a host of another release lends its mirrors": {
			[]apt.Source{
				entry("http://m.test/debian", "trixie", main, debianKeyring),
				entry("http://m.test/debian-security", "stable-security", main, debianKeyring),
			},
			[]apt.Source{
				entry("http://m.test/debian", "bookworm", main, debianKeyring),
				entry("http://m.test/debian-security", "bookworm-security", main, debianKeyring),
			},
		},
		"a host of this release does not use the others it also lists": {
			[]apt.Source{
				entry("http://m.test/debian", "bookworm", main, debianKeyring),
				entry("http://other.test/debian", "trixie", main, debianKeyring),
			},
			[]apt.Source{entry("http://m.test/debian", "bookworm", main, debianKeyring)},
		},
		"the same source twice counts once": {
			[]apt.Source{entry("http://m.test/debian", "bookworm", main, ""), entry("http://m.test/debian", "bookworm", main, "")},
			[]apt.Source{entry("http://m.test/debian", "bookworm", main, "")},
		},
		"without the release itself there is nothing": {
			[]apt.Source{entry("http://m.test/debian-security", "bookworm-security", main, debianKeyring)}, nil,
		},
		"a host of another distribution has nothing": {
			[]apt.Source{entry("http://m.test/ubuntu", "noble", main, "")}, nil,
		},
	} {
		t.Run(sentence, func(t *testing.T) { assert.Equal(t, tc.want, debianSources(tc.all, "bookworm")) })
	}
}

func TestRenderedSources(t *testing.T) {
	sources := []apt.Source{
		entry("https://m.test/debian", "bookworm", []string{"main"}, debianKeyring),
		entry("http://m.test/debian-security", "bookworm-security", []string{"main"}, ""),
	}
	b := &builder{sources: sources}
	assert.Equal(t, "deb [signed-by="+debianKeyring+"] https://m.test/debian bookworm main\n"+
		"deb http://m.test/debian-security bookworm-security main\n", b.sourceLines(), "the build uses the host's transport and keyring")
	assert.Equal(t, "Types: deb\nURIs: http://m.test/debian\nSuites: bookworm\nComponents: main\nSigned-By: "+debianKeyring+"\n\n"+
		"Types: deb\nURIs: http://m.test/debian-security\nSuites: bookworm-security\nComponents: main\nSigned-By: "+debianKeyring+"\n",
		imageSources(sources), "the image uses plain http, which the guest network forwards")
}

func TestSettingsOfTheImageAndOfTheBuild(t *testing.T) {
	settings := buildSettings(apt.Settings{
		"APT::Architecture":               "amd64",
		"Acquire::http::Proxy::near.test": "DIRECT",
		"Acquire::http::Proxy":            "http://proxy.test:3142",
		"Acquire::Check-Valid-Until":      "false",
	})
	assert.Equal(t, "Acquire::Check-Valid-Until \"false\";\n"+
		"Acquire::http::Proxy \"http://proxy.test:3142\";\n"+
		"Acquire::http::Proxy::near.test \"DIRECT\";\n",
		render(settings, func(string) bool { return true }), "the build reaches the mirror as the host does")
	assert.Equal(t, "Acquire::Check-Valid-Until \"false\";\n", render(settings, isCheck), "the image gets no proxy of the host")
}

func TestARefusedArchiveIsToldWithWhatToDo(t *testing.T) {
	b := &builder{dist: distributions()["debian-13"]}
	failed := errors.New("mmdebstrap failed")
	for sentence, tc := range map[string]struct{ log, want string }{
		"keys of another release": {
			"W: GPG error: http://m.test/debian trixie InRelease: the public key is not available: NO_PUBKEY 0123456789ABCDEF\n" +
				"E: The repository 'http://m.test/debian trixie InRelease' is not signed.\n",
			"lacks the keys of trixie: upgrade the package debian-archive-keyring",
		},
		"a mirror of another release": {
			"E: The repository 'http://m.test/debian trixie Release' does not have a Release file.\n",
			"do not serve trixie: add one that does",
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			err := b.advise(failed, tc.log)
			assert.ErrorContains(t, err, tc.want)
			assert.ErrorIs(t, err, failed, "what apt said stays")
		})
	}
	assert.Equal(t, failed, b.advise(failed, "E: Unable to locate package nonsense\n"), "of anything else apt says enough")
}
