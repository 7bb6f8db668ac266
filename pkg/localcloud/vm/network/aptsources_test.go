package network

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestHostAptSources(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  map[string]string // scheme by host
		ports []uint16
	}{
		"a machine without apt has no mirrors": {want: map[string]string{}},
		"one-line format, with and without options; sources of source packages do not count": {
			files: map[string]string{"sources.list": "" +
				"# deb http://commented.example/debian x main\n" +
				"deb http://Mirror.example/debian+all bookworm main # the usual\n" +
				"deb [arch=amd64 signed-by=/k] https://vendor.example/apt bookworm main\n" +
				"deb-src http://src.example/debian bookworm main\n" +
				"deb cdrom:[Debian]/ bookworm main\n" +
				"deb file:/srv/repo ./\n"},
			want: map[string]string{"mirror.example": "http", "vendor.example": "https"},
		},
		"deb822 format, with continued lines and disabled stanzas": {
			files: map[string]string{"sources.list.d/debian.sources": "" +
				"# a comment\nTypes: deb\nURIs: http://one.example/debian\n http://two.example:8080/debian\nSuites: a b\n\n" +
				"Enabled: no\nTypes: deb\nURIs: http://off.example/debian\n\n" +
				"types: deb\nuris: mirror+http://three.example/list.txt\nsuites: a\n"},
			want:  map[string]string{"one.example": "http", "two.example:8080": "http", "three.example": "http"},
			ports: []uint16{8080},
		},
		"http is preferred where a host has both": {
			files: map[string]string{
				"sources.list":          "deb https://both.example/a x main\n",
				"sources.list.d/b.list": "deb http://both.example/b x main\n",
			},
			want: map[string]string{"both.example": "http"},
		},
		"files with other endings are not apt's": {
			files: map[string]string{"sources.list.d/old.list.save": "deb http://saved.example/a x main\n"},
			want:  map[string]string{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for file, content := range c.files {
				path := filepath.Join(root, "etc/apt", file)
				require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
				require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
			}
			sources, err := HostAptSources(t.Context(), root)
			require.NoError(t, err)
			got := map[string]string{}
			for host, base := range sources.Mirrors {
				got[host] = base.Scheme
			}
			assert.Equal(t, c.want, got)
			assert.Equal(t, c.ports, sources.ports())
		})
	}
}
