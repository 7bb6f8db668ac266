package baseimage

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os/exec"
	"slices"
	"strings"
)

// aptSettings are the settings of the host's apt that decide whether its
// mirrors can be reached and accepted, by name, such as Acquire::http::Proxy.
type aptSettings map[string]string

// checkSettings are the settings that a mirror of older snapshots needs; the image
// uses the same mirror, so it gets them too.
func checkSettings() []string {
	return []string{"Acquire::Check-Valid-Until", "Acquire::Check-Date"}
}

// hostAptSettings asks apt for its configuration.
func hostAptSettings(ctx context.Context) (aptSettings, error) {
	out, err := exec.CommandContext(ctx, "apt-config", "dump").Output()
	if err != nil {
		return nil, fmt.Errorf("read apt's configuration by apt-config: %w", err)
	}
	return parseAptSettings(string(out)), nil
}

// parseAptSettings reads the output of apt-config dump and keeps what a build
// needs: proxies and date checks.
func parseAptSettings(dump string) aptSettings {
	settings := aptSettings{}
	for line := range strings.Lines(dump) {
		name, value, found := strings.Cut(strings.TrimSpace(line), " ")
		value = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(value), `"`), `";`)
		if !found || value == "" {
			continue
		}
		lower := strings.ToLower(name)
		isProxy := strings.HasPrefix(lower, "acquire::http::proxy") || strings.HasPrefix(lower, "acquire::https::proxy")
		if isProxy || isCheck(name) {
			settings[name] = value
		}
	}
	return settings
}

// render writes the settings named by keep in apt.conf(5) syntax, sorted.
func (s aptSettings) render(keep func(name string) bool) string {
	var b strings.Builder
	for _, name := range sortedKeys(s) {
		if keep(name) {
			fmt.Fprintf(&b, "%s %q;\n", name, s[name])
		}
	}
	return b.String()
}

// isCheck says whether name is one of checkSettings.
func isCheck(name string) bool {
	return slices.ContainsFunc(checkSettings(), func(c string) bool { return strings.EqualFold(c, name) })
}

// proxy returns the proxy apt would use for a request, and the environment's
// where apt's configuration names none.
func (s aptSettings) proxy(r *http.Request) (*url.URL, error) {
	scheme := strings.ToLower(r.URL.Scheme)
	for _, want := range []string{"acquire::" + scheme + "::proxy::" + r.URL.Hostname(), "acquire::" + scheme + "::proxy"} {
		for _, name := range sortedKeys(s) {
			if strings.ToLower(name) != want {
				continue
			}
			if strings.EqualFold(s[name], "DIRECT") {
				return nil, nil
			}
			return url.Parse(s[name])
		}
	}
	return http.ProxyFromEnvironment(r)
}
