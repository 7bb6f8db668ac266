package wire

import (
	"net"
	"net/http"
	"net/url"
	"strings"
)

// Host is the name under which guests reach the embedded AWS.
const Host = "localcloud.internal"

// FromElsewhere returns an error for a request that must not be served, whoever signed
// it: it was sent to another host, or by a page of another site in a browser on this
// machine.
func FromElsewhere(r *http.Request) error {
	if origin := r.Header.Get("Origin"); !isOwnHost(r.Host) || !isOwnOrigin(origin) {
		return Errorf("AccessDenied", "the embedded AWS answers only on loopback and as %s; this request was for host %q from origin %q", Host, r.Host, origin)
	}
	// Browsers set this header on all requests, also on those without an Origin
	// (https://www.w3.org/TR/fetch-metadata/).
	for _, site := range r.Header.Values("Sec-Fetch-Site") {
		if site != "none" && site != "same-origin" {
			return Errorf("AccessDenied", "the embedded AWS does not answer pages of other sites; this request has Sec-Fetch-Site: %s", site)
		}
	}
	return nil
}

// isOwnHost reports whether the host in a Host or Origin header is this machine's
// loopback or the name that guests use. Any other name is a mistake or an attack by DNS
// rebinding.
func isOwnHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	for _, own := range []string{"localhost", Host} {
		if host == own || strings.HasSuffix(host, "."+own) {
			return true
		}
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// isOwnOrigin reports whether an origin is this machine. A browser sends the requests of
// pages of other sites to loopback too, and the signature does not stop them.
func isOwnOrigin(origin string) bool {
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && isOwnHost(u.Host)
}
