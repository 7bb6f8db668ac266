package apt

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const dump = `APT "";
APT::Architecture "amd64";
Acquire "";
Acquire::http "";
Acquire::http::Proxy "http://proxy.test:3142";
Acquire::HTTP::Proxy::near.test "DIRECT";
Acquire::https::Proxy::vault.test "http://other.test:3142";
Acquire::https::Proxy "";
`

func TestSettingsAreThoseWithAValue(t *testing.T) {
	assert.Equal(t, Settings{
		"APT::Architecture":                 "amd64",
		"Acquire::http::Proxy":              "http://proxy.test:3142",
		"Acquire::HTTP::Proxy::near.test":   "DIRECT",
		"Acquire::https::Proxy::vault.test": "http://other.test:3142",
	}, parseSettings(dump))
}

func TestProxy(t *testing.T) {
	settings := parseSettings(dump)
	for sentence, c := range map[string]struct{ target, want string }{
		"the scheme's proxy":               {"http://far.test/debian", "http://proxy.test:3142"},
		"a host can be exempt":             {"http://near.test:8080/debian", ""},
		"a host can have its own":          {"https://vault.test/debian", "http://other.test:3142"},
		"https falls back to http's proxy": {"https://far.test/debian", "http://proxy.test:3142"},
		"so do its exemptions":             {"https://Near.test/debian", ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			target, err := url.Parse(c.target)
			require.NoError(t, err)
			proxy, err := settings.Proxy(target)
			require.NoError(t, err)
			if c.want == "" {
				assert.Nil(t, proxy)
				return
			}
			require.NotNil(t, proxy)
			assert.Equal(t, c.want, proxy.String())
		})
	}
	t.Run("a proxy that is no URL is named by its setting", func(t *testing.T) {
		_, err := Settings{"Acquire::http::Proxy": "http://[broken"}.Proxy(&url.URL{Scheme: "http", Host: "far.test"})
		assert.ErrorContains(t, err, "acquire::http::proxy")
	})
}

func TestIsProxy(t *testing.T) {
	for name, want := range map[string]bool{
		"Acquire::http::Proxy":             true,
		"acquire::HTTPS::proxy::near.test": true,
		"Acquire::http::Timeout":           false,
		"Acquire::Check-Date":              false,
	} {
		assert.Equal(t, want, IsProxy(name), name)
	}
}
