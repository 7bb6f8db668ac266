package apt

import (
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
		want []Source
	}{
		"a plain line has one source": {
			"deb http://mirror.test/debian bookworm main contrib\n",
			[]Source{{URI: "http://mirror.test/debian", Suite: "bookworm", Components: []string{"main", "contrib"}}},
		},
		"options in brackets give the keyring, whatever stands beside it": {
			"deb [arch=amd64 Signed-By=/k/A.gpg] http://mirror.test/debian bookworm main # mine",
			[]Source{{URI: "http://mirror.test/debian", Suite: "bookworm", Components: []string{"main"}, SignedBy: "/k/A.gpg"}},
		},
		"brackets may touch the type":               {"deb[trusted=yes] http://m.test/x y main", []Source{{URI: "http://m.test/x", Suite: "y", Components: []string{"main"}}}},
		"tabs separate as well as blanks":           {"deb\thttp://m.test/x\ty\tmain", []Source{{URI: "http://m.test/x", Suite: "y", Components: []string{"main"}}}},
		"sources of source packages are left out":   {"deb-src http://mirror.test/debian bookworm main", nil},
		"comments and blank lines are left out":     {"# deb http://mirror.test/debian bookworm main\n\n", nil},
		"a line that apt would refuse is left out":  {"deb http://mirror.test/debian\ndeb [broken http://m.test x main", nil},
		"other words that begin alike are left out": {"debug http://mirror.test/debian bookworm main", nil},
	} {
		t.Run(sentence, func(t *testing.T) { assert.Equal(t, tc.want, parseOneLine(tc.text)) })
	}
}

func TestParseDeb822(t *testing.T) {
	one := Source{URI: "http://mirror.test/debian", Suite: "bookworm", Components: []string{"main"}, SignedBy: debianKeyring}
	updates := one
	updates.Suite = "bookworm-updates"
	for sentence, tc := range map[string]struct {
		text string
		want []Source
	}{
		"every suite of a stanza is a source, comments inside do not matter": {
			"Types: deb deb-src\n# a comment\nURIs: http://mirror.test/debian\nSuites: bookworm bookworm-updates\nComponents: main\nSigned-By: " + debianKeyring + "\n",
			[]Source{one, updates},
		},
		"field names are not case-sensitive and values may continue": {
			"types: deb\nuris: http://mirror.test/debian\nSUITES: bookworm\n  bookworm-updates\nComponents: main\nsigned-by: " + debianKeyring,
			[]Source{one, updates},
		},
		"stanzas are separated by lines of blanks too": {
			"Types: deb\nURIs: http://mirror.test/debian\nSuites: bookworm\nComponents: main\nSigned-By: " + debianKeyring + "\n  \t\nTypes: deb\nURIs: http://x.test/\nSuites: y\n",
			[]Source{one, {URI: "http://x.test/", Suite: "y", Components: []string{}}},
		},
		"a disabled stanza is left out":           {"Types: deb\nURIs: http://m.test\nSuites: x\nEnabled: no\n", nil},
		"apt has more words for no":               {"Enabled: Off\nTypes: deb\nURIs: http://m.test\nSuites: x\n", nil},
		"a stanza without a suite is left out":    {"Types: deb\nURIs: http://m.test\n", nil},
		"a stanza of source packages is left out": {"Types: deb-src\nURIs: http://m.test\nSuites: x\n", nil},
		"an inline key is kept": {
			"Types: deb\nURIs: http://m.test\nSuites: x\nComponents: main\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n",
			[]Source{{URI: "http://m.test", Suite: "x", Components: []string{"main"}, SignedBy: "-----BEGIN PGP PUBLIC KEY BLOCK-----\n.\nabc"}},
		},
	} {
		t.Run(sentence, func(t *testing.T) { assert.Equal(t, tc.want, parseDeb822(tc.text)) })
	}
}

func TestSourcesReadsBothStylesAndIgnoresDisabledFiles(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"sources.list":                    "deb http://a.test/debian bookworm main\n",
		"sources.list.d/b.sources":        "Types: deb\nURIs: http://b.test/debian\nSuites: bookworm\nComponents: main\n",
		"sources.list.d/c.list":           "deb http://c.test/debian bookworm main\n",
		"sources.list.d/d.list.disabled":  "deb http://d.test/debian bookworm main\n",
		"sources.list.d/e.sources.backup": "Types: deb\nURIs: http://e.test/\nSuites: x\n",
		"sources.list.d/f.list/g.list":    "deb http://g.test/debian bookworm main\n",
	} {
		file := filepath.Join(root, "etc/apt", name)
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
	}
	all, err := Sources(root)
	require.NoError(t, err)
	var uris []string
	for _, s := range all {
		uris = append(uris, s.URI)
	}
	assert.Equal(t, []string{"http://a.test/debian", "http://b.test/debian", "http://c.test/debian"}, uris)

	none, err := Sources(t.TempDir())
	require.NoError(t, err, "a host without apt has no sources")
	assert.Empty(t, none)
}
