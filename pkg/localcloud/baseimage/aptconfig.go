package baseimage

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/apt"
)

// checkSettings returns the settings that a mirror of older snapshots needs. The
// image uses the same mirror, so it gets them too.
func checkSettings() []string {
	return []string{"Acquire::Check-Valid-Until", "Acquire::Check-Date"}
}

// buildSettings returns the host's settings that are needed to reach and accept
// its mirrors: proxies and date checks.
func buildSettings(host apt.Settings) apt.Settings {
	settings := maps.Clone(host)
	maps.DeleteFunc(settings, func(name, _ string) bool { return !apt.IsProxy(name) && !isCheck(name) })
	return settings
}

// render writes the settings named by keep in apt.conf(5) syntax, sorted.
func render(settings apt.Settings, keep func(name string) bool) string {
	var b strings.Builder
	for _, name := range sortedKeys(settings) {
		if keep(name) {
			fmt.Fprintf(&b, "%s %q;\n", name, settings[name])
		}
	}
	return b.String()
}

// isCheck reports whether name is one of checkSettings.
func isCheck(name string) bool {
	return slices.ContainsFunc(checkSettings(), func(c string) bool { return strings.EqualFold(c, name) })
}
