package network

import (
	"context"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/apt"
)

// AptSources says which package mirrors guests may use, and how this machine
// reaches them. Guests reach them by http only: nothing listens on port 443, so
// a source that says https in the guest is refused (it could not be cached). For
// a mirror that this machine knows by https, say http in the guest: the way from
// here to the mirror is https all the same.
type AptSources struct {
	// Mirrors are base URLs by host as a Host header has it ("mirror.example.com",
	// "mirror:8080"); only scheme and host count. A host with both schemes is
	// fetched from by http.
	Mirrors map[string]*url.URL
	// Proxy is the proxy for a URL; nil result: direct. Nil: none.
	Proxy func(*url.URL) (*url.URL, error)
}

// HostAptSources reads the apt configuration in root ("/" for this machine's).
// Proxies are those of apt-config (if there is one and root is "/"), else of the
// environment. A machine without apt has no mirrors; that is no error.
func HostAptSources(ctx context.Context, root string) (AptSources, error) {
	all, err := apt.Sources(root)
	if err != nil {
		return AptSources{}, err
	}
	sources := AptSources{Mirrors: map[string]*url.URL{}, Proxy: apt.Settings{}.Proxy}
	for _, s := range all {
		sources.add(s.URI)
	}
	if root == "/" {
		if settings, err := apt.HostSettings(ctx); err == nil {
			sources.Proxy = settings.Proxy
		}
	}
	return sources, nil
}

// add takes a mirror: http and https; what else apt knows (cdrom, file, tor …)
// does not concern guests.
func (s AptSources) add(uri string) {
	// mirror+http://… and similar schemes name a list of mirrors by URL.
	if scheme, rest, _ := strings.Cut(uri, ":"); strings.Contains(scheme, "+") {
		uri = scheme[strings.LastIndex(scheme, "+")+1:] + ":" + rest
	}
	u, err := url.Parse(uri)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return
	}
	host := strings.ToLower(u.Host)
	if known := s.Mirrors[host]; known == nil || known.Scheme == "https" {
		s.Mirrors[host] = &url.URL{Scheme: u.Scheme, Host: u.Host}
	}
}

// ports are those of mirrors that name one.
func (s AptSources) ports() []uint16 {
	var ports []uint16
	for host := range s.Mirrors {
		if _, text, err := net.SplitHostPort(host); err == nil {
			if port, err := strconv.ParseUint(text, 10, 16); err == nil && port > 0 {
				ports = append(ports, uint16(port))
			}
		}
	}
	slices.Sort(ports)
	return ports
}
