package baseimage

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const debianKeyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

func TestParseOneLine(t *testing.T) {
	for sentence, tc := range map[string]struct {
		text string
		want []aptSource
	}{
		"a plain line has one source": {
			"deb http://mirror.test/debian bookworm main contrib\n",
			[]aptSource{{URI: "http://mirror.test/debian", Suite: "bookworm", Components: []string{"main", "contrib"}}},
		},
		"options in brackets give the keyring, whatever stands beside it": {
			"deb [arch=amd64 Signed-By=/k/A.gpg] http://mirror.test/debian bookworm main # mine",
			[]aptSource{{URI: "http://mirror.test/debian", Suite: "bookworm", Components: []string{"main"}, SignedBy: "/k/A.gpg"}},
		},
		"brackets may touch the type":               {"deb[trusted=yes] http://m.test/x y main", []aptSource{{URI: "http://m.test/x", Suite: "y", Components: []string{"main"}}}},
		"tabs separate as well as blanks":           {"deb\thttp://m.test/x\ty\tmain", []aptSource{{URI: "http://m.test/x", Suite: "y", Components: []string{"main"}}}},
		"sources of source packages are left out":   {"deb-src http://mirror.test/debian bookworm main", nil},
		"comments and blank lines are left out":     {"# deb http://mirror.test/debian bookworm main\n\n", nil},
		"a line that apt would refuse is left out":  {"deb http://mirror.test/debian\ndeb [broken http://m.test x main", nil},
		"other words that begin alike are left out": {"debug http://mirror.test/debian bookworm main", nil},
	} {
		t.Run(sentence, func(t *testing.T) { assert.Equal(t, tc.want, parseOneLine(tc.text)) })
	}
}

func TestParseDeb822(t *testing.T) {
	one := aptSource{URI: "http://mirror.test/debian", Suite: "bookworm", Components: []string{"main"}, SignedBy: debianKeyring}
	updates := one
	updates.Suite = "bookworm-updates"
	for sentence, tc := range map[string]struct {
		text string
		want []aptSource
	}{
		"every suite of a stanza is a source, comments inside do not matter": {
			"Types: deb deb-src\n# a comment\nURIs: http://mirror.test/debian\nSuites: bookworm bookworm-updates\nComponents: main\nSigned-By: " + debianKeyring + "\n",
			[]aptSource{one, updates},
		},
		"field names are not case-sensitive and values may continue": {
			"types: deb\nuris: http://mirror.test/debian\nSUITES: bookworm\n  bookworm-updates\nComponents: main\nsigned-by: " + debianKeyring,
			[]aptSource{one, updates},
		},
		"stanzas are separated by lines of blanks too": {
			"Types: deb\nURIs: http://mirror.test/debian\nSuites: bookworm\nComponents: main\nSigned-By: " + debianKeyring + "\n  \t\nTypes: deb\nURIs: http://x.test/\nSuites: y\n",
			[]aptSource{one, {URI: "http://x.test/", Suite: "y", Components: []string{}}},
		},
		"a disabled stanza is left out":           {"Types: deb\nURIs: http://m.test\nSuites: x\nEnabled: no\n", nil},
		"a stanza of source packages is left out": {"Types: deb-src\nURIs: http://m.test\nSuites: x\n", nil},
		"an inline key is kept": {
			"Types: deb\nURIs: http://m.test\nSuites: x\nComponents: main\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n",
			[]aptSource{{URI: "http://m.test", Suite: "x", Components: []string{"main"}, SignedBy: "-----BEGIN PGP PUBLIC KEY BLOCK-----\n.\nabc"}},
		},
	} {
		t.Run(sentence, func(t *testing.T) { assert.Equal(t, tc.want, parseDeb822(tc.text)) })
	}
}

func TestDebianSources(t *testing.T) {
	main := []string{"main"}
	for sentence, tc := range map[string]struct {
		all  []aptSource
		want []aptSource
	}{
		"Debian's entries are taken in the order release, updates, security": {
			[]aptSource{
				{"http://m.test/debian-security", "bookworm-security", []string{"main", "contrib"}, debianKeyring},
				{"http://m.test/debian", "bookworm-updates", main, debianKeyring},
				{"http://m.test/debian", "bookworm", []string{"main", "non-free-firmware"}, debianKeyring},
			},
			[]aptSource{
				{"http://m.test/debian", "bookworm", main, debianKeyring},
				{"http://m.test/debian", "bookworm-updates", main, debianKeyring},
				{"http://m.test/debian-security", "bookworm-security", main, debianKeyring},
			},
		},
		"third parties are left out though they use Debian's suites": {
			[]aptSource{
				{"http://m.test/debian", "bookworm", main, ""},
				{"https://tools.test", "bookworm", main, "/etc/apt/keyrings/tools.gpg"},
				{"https://tools.test/apt", "bookworm", main, ""},
				{"https://engine.test/linux/debian", "bookworm", []string{"stable"}, ""},
				{"https://db.test/debian", "bookworm-pgdg", main, ""},
				{"https://fake.test/debian", "bookworm", main, "/etc/apt/keyrings/fake.gpg"},
			},
			[]aptSource{{"http://m.test/debian", "bookworm", main, ""}},
		},
		"a mirror under another path counts by its keyring": {
			[]aptSource{{"http://m.test/pub/linux", "bookworm", main, debianKeyring}},
			[]aptSource{{"http://m.test/pub/linux", "bookworm", main, debianKeyring}},
		},
		"a host of another release lends its mirrors": {
			[]aptSource{
				{"http://m.test/debian", "trixie", main, debianKeyring},
				{"http://m.test/debian-security", "stable-security", main, debianKeyring},
			},
			[]aptSource{
				{"http://m.test/debian", "bookworm", main, debianKeyring},
				{"http://m.test/debian-security", "bookworm-security", main, debianKeyring},
			},
		},
		"a host of this release does not use the others it also lists": {
			[]aptSource{
				{"http://m.test/debian", "bookworm", main, debianKeyring},
				{"http://other.test/debian", "trixie", main, debianKeyring},
			},
			[]aptSource{{"http://m.test/debian", "bookworm", main, debianKeyring}},
		},
		"the same source twice counts once": {
			[]aptSource{{"http://m.test/debian", "bookworm", main, ""}, {"http://m.test/debian", "bookworm", main, ""}},
			[]aptSource{{"http://m.test/debian", "bookworm", main, ""}},
		},
		"without the release itself there is nothing": {
			[]aptSource{{"http://m.test/debian-security", "bookworm-security", main, debianKeyring}}, nil,
		},
		"a host of another distribution has nothing": {
			[]aptSource{{"http://m.test/ubuntu", "noble", main, ""}}, nil,
		},
	} {
		t.Run(sentence, func(t *testing.T) { assert.Equal(t, tc.want, debianSources(tc.all, "bookworm")) })
	}
}

func TestHostSourcesReadsBothStylesAndIgnoresDisabledFiles(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"sources.list":                    "deb http://a.test/debian bookworm main\n",
		"sources.list.d/b.sources":        "Types: deb\nURIs: http://b.test/debian\nSuites: bookworm\nComponents: main\n",
		"sources.list.d/c.list":           "deb http://c.test/debian bookworm main\n",
		"sources.list.d/d.list.disabled":  "deb http://d.test/debian bookworm main\n",
		"sources.list.d/e.sources.backup": "Types: deb\nURIs: http://e.test/\nSuites: x\n",
	} {
		file := filepath.Join(root, "etc/apt", name)
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
	}
	all, err := hostSources(root)
	require.NoError(t, err)
	var uris []string
	for _, s := range all {
		uris = append(uris, s.URI)
	}
	assert.Equal(t, []string{"http://a.test/debian", "http://b.test/debian", "http://c.test/debian"}, uris)

	none, err := hostSources(t.TempDir())
	require.NoError(t, err, "a host without apt has no sources")
	assert.Empty(t, none)
}

func TestRenderedSources(t *testing.T) {
	sources := []aptSource{
		{"https://m.test/debian", "bookworm", []string{"main"}, debianKeyring},
		{"http://m.test/debian-security", "bookworm-security", []string{"main"}, ""},
	}
	b := &builder{sources: sources}
	assert.Equal(t, "deb [signed-by="+debianKeyring+"] https://m.test/debian bookworm main\n"+
		"deb http://m.test/debian-security bookworm-security main\n", b.sourceLines(), "the build uses the host's transport and keyring")
	assert.Equal(t, "Types: deb\nURIs: http://m.test/debian\nSuites: bookworm\nComponents: main\nSigned-By: "+debianKeyring+"\n\n"+
		"Types: deb\nURIs: http://m.test/debian-security\nSuites: bookworm-security\nComponents: main\nSigned-By: "+debianKeyring+"\n",
		imageSources(sources), "the image uses plain http, which the guest network forwards")
}

func TestAptSettings(t *testing.T) {
	settings := parseAptSettings(`APT "";
APT::Architecture "amd64";
Acquire "";
Acquire::http "";
Acquire::http::Proxy "http://proxy.test:3142";
Acquire::http::Proxy::near.test "DIRECT";
Acquire::Check-Valid-Until "false";
Acquire::https::Proxy "";
`)
	assert.Equal(t, aptSettings{
		"Acquire::http::Proxy":            "http://proxy.test:3142",
		"Acquire::http::Proxy::near.test": "DIRECT",
		"Acquire::Check-Valid-Until":      "false",
	}, settings)
	assert.Equal(t, "Acquire::Check-Valid-Until \"false\";\n", settings.render(isCheck), "the image gets no proxy of the host")

	for address, want := range map[string]string{
		"http://far.test/debian":  "http://proxy.test:3142",
		"http://near.test/debian": "",
	} {
		req, err := http.NewRequest(http.MethodGet, address, nil)
		require.NoError(t, err)
		proxy, err := settings.proxy(req)
		require.NoError(t, err)
		if want == "" {
			assert.Nil(t, proxy, address)
		} else {
			assert.Equal(t, want, proxy.String(), address)
		}
	}
}
