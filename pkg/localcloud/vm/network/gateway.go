package network

import (
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
)

// gateway serves the guests' HTTP requests to all names, by the Host header.
type gateway struct {
	local   http.Handler
	hosts   map[string]http.Handler
	mirrors *mirrors
}

// ServeHTTP implements http.Handler.
func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host := strings.ToLower(r.Host)
	name, port := host, ""
	if h, p, err := net.SplitHostPort(host); err == nil {
		name, port = h, p
	}
	switch {
	case name == LocalHost && g.local != nil:
		g.local.ServeHTTP(w, r)
	case g.hosts[name] != nil && (port == "" || port == "80"):
		g.hosts[name].ServeHTTP(w, r)
	case g.mirrors.has(host):
		g.mirrors.ServeHTTP(w, r)
	default:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprintf(w, "%s cannot be reached from a guest: guests reach %s, and the package mirrors of the host's apt configuration (%s)\n",
			host, strings.Join(append([]string{LocalHost}, slices.Sorted(maps.Keys(g.hosts))...), ", "), strings.Join(g.mirrors.hosts(), ", "))
	}
}
