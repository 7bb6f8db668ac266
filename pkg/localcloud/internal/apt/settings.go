package apt

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os/exec"
	"slices"
	"strings"
)

// Settings holds apt's settings with a value, by apt's name, such as
// Acquire::http::Proxy. Names are not case-sensitive.
type Settings map[string]string

// HostSettings asks apt-config. It fails on a machine without apt.
func HostSettings(ctx context.Context) (Settings, error) {
	out, err := exec.CommandContext(ctx, "apt-config", "dump").Output()
	if err != nil {
		return nil, fmt.Errorf("read apt's configuration by apt-config: %w", err)
	}
	return parseSettings(string(out)), nil
}

// parseSettings reads the output of apt-config dump: lines of name "value";
func parseSettings(dump string) Settings {
	settings := Settings{}
	for line := range strings.Lines(dump) {
		name, value, found := strings.Cut(strings.TrimSpace(line), " ")
		value = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(value), `"`), `";`)
		if found && value != "" {
			settings[name] = value
		}
	}
	return settings
}

// IsProxy reports whether the setting with this name is a proxy of http or
// https, for all hosts or for one.
func IsProxy(name string) bool {
	name = strings.ToLower(name)
	return strings.HasPrefix(name, "acquire::http::proxy") || strings.HasPrefix(name, "acquire::https::proxy")
}

// Proxy returns the proxy that apt would use for a URL, or nil. Without one in
// apt's configuration it is the environment's. As in apt-transport-https(1),
// https uses the settings of http if it has none.
func (s Settings) Proxy(u *url.URL) (*url.URL, error) {
	schemes := []string{strings.ToLower(u.Scheme), "http"}
	for _, scheme := range schemes {
		for _, suffix := range []string{"::" + u.Hostname(), ""} {
			name := "acquire::" + scheme + "::proxy" + suffix
			switch value := s.get(name); {
			case value == "":
			case strings.EqualFold(value, "DIRECT"), strings.EqualFold(value, "false"):
				return nil, nil
			default:
				proxy, err := url.Parse(value)
				if err != nil {
					return nil, fmt.Errorf("apt's setting %s: %w", name, err)
				}
				return proxy, nil
			}
		}
	}
	return http.ProxyFromEnvironment(&http.Request{URL: u})
}

// get returns a setting, whatever the case of its name.
func (s Settings) get(name string) string {
	for _, known := range slices.Sorted(maps.Keys(s)) {
		if strings.EqualFold(known, name) {
			return s[known]
		}
	}
	return ""
}
