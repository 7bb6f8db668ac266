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

// AptSources lists the package mirrors that guests may use, and how this machine
// reaches them. Guests reach them by http only: nothing listens on port 443,
// because https could not be cached. If this machine uses a mirror by https, use
// http in the guest: the connection from here to the mirror is https.
type AptSources struct {
	// Mirrors are base URLs, by host in the form of a Host header
	// ("mirror.example.com", "mirror:8080"); only scheme and host count. A host
	// with both schemes is used by http.
	Mirrors map[string]*url.URL
	// Proxy returns the proxy for a URL, or nil for a direct connection. It may be
	// nil.
	Proxy func(*url.URL) (*url.URL, error)
}

// HostAptSources reads the apt configuration in root ("/" for this machine's).
// Proxies come from apt-config (if it exists and root is "/"), otherwise from
// the environment. It is no error if a machine has no apt: it has no mirrors.
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

// add adds a mirror with http or https. Other schemes of apt (cdrom, file, tor
// …) are not for guests.
func (s AptSources) add(uri string) {
	// mirror+http://… and similar schemes are the URL of a list of mirrors.
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

// ports returns the ports of mirrors with an explicit port.
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
