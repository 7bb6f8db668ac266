package network

import (
	"fmt"
	"net"
	"net/http"
	"strings"
)

// gateway serves the guests' HTTP requests to all names, by Host.
type gateway struct {
	local   http.Handler
	mirrors *mirrors
}

// ServeHTTP implements http.Handler.
func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host := strings.ToLower(r.Host)
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	switch {
	case name == LocalHost && g.local != nil:
		g.local.ServeHTTP(w, r)
	case g.mirrors.has(host):
		g.mirrors.ServeHTTP(w, r)
	default:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprintf(w, "%s cannot be reached from a guest: guests reach %s, and the package mirrors of the host's apt configuration (%s)\n",
			host, LocalHost, strings.Join(g.mirrors.hosts(), ", "))
	}
}
