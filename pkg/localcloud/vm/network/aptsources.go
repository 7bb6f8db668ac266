package network

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// AptSources says which package mirrors guests may use, and how this machine
// reaches them. Guests reach them by http only: nothing listens on port 443, so
// a source that says https in the guest is refused (it could not be cached). For
// a mirror that this machine knows by https, say http in the guest: the way from
// here to the mirror is https all the same.
type AptSources struct {
	// Mirrors are base URLs by host as a Host header has it ("deb.debian.org",
	// "mirror:8080"); only scheme and host count. A host with both schemes is
	// fetched from by http.
	Mirrors map[string]*url.URL
	// Proxy is the proxy for a URL; nil result: direct. Nil: none.
	Proxy func(*url.URL) (*url.URL, error)
}

// HostAptSources reads the apt configuration in root ("/" for this machine's):
// sources.list and sources.list.d, in both formats. Proxies are those of
// apt-config (if there is one and root is "/"), else of the environment.
// A machine without apt has no mirrors; that is no error.
func HostAptSources(ctx context.Context, root string) (AptSources, error) {
	sources := AptSources{Mirrors: map[string]*url.URL{}, Proxy: environmentProxy}
	dir := filepath.Join(root, "etc/apt")
	files := []string{filepath.Join(dir, "sources.list")}
	for _, pattern := range []string{"*.list", "*.sources"} {
		// The patterns are constants, the only cause of an error.
		found, _ := filepath.Glob(filepath.Join(dir, "sources.list.d", pattern))
		files = append(files, found...)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return AptSources{}, fmt.Errorf("read apt sources: %w", err)
		}
		uris := oneLineURIs(raw)
		if filepath.Ext(file) == ".sources" {
			uris = deb822URIs(raw)
		}
		sources.add(uris)
	}
	if root == "/" {
		if proxies := aptProxies(ctx); len(proxies) > 0 {
			sources.Proxy = proxies.proxy
		}
	}
	return sources, nil
}

// add takes the mirrors among uris: http and https; what else apt knows
// (cdrom, file, tor …) does not concern guests.
func (s AptSources) add(uris []string) {
	for _, uri := range uris {
		// mirror+http://… and the like name a list of mirrors by URL.
		u, err := url.Parse(uri[strings.Index(uri, "+")+1:])
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			continue
		}
		host := strings.ToLower(u.Host)
		if known := s.Mirrors[host]; known == nil || known.Scheme == "https" {
			s.Mirrors[host] = &url.URL{Scheme: u.Scheme, Host: u.Host}
		}
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

// oneLineURIs finds the URIs of lines such as
// "deb [arch=amd64 signed-by=…] http://host/debian suite component".
func oneLineURIs(raw []byte) []string {
	var uris []string
	for line := range strings.Lines(string(raw)) {
		line, _, _ = strings.Cut(line, "#")
		kind, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if kind != "deb" && kind != "deb-src" {
			continue
		}
		rest = strings.TrimSpace(rest)
		if strings.HasPrefix(rest, "[") {
			_, rest, _ = strings.Cut(rest, "]")
		}
		if fields := strings.Fields(rest); len(fields) > 0 {
			uris = append(uris, fields[0])
		}
	}
	return uris
}

// deb822URIs finds the URIs fields of stanzas that are not "Enabled: no".
func deb822URIs(raw []byte) []string {
	var uris, stanza []string
	enabled, field := true, ""
	flush := func() {
		if enabled {
			uris = append(uris, stanza...)
		}
		stanza, enabled, field = nil, true, ""
	}
	scanner := bufio.NewScanner(bytes.NewReader(raw))
	for scanner.Scan() {
		line := scanner.Text()
		switch {
		case strings.TrimSpace(line) == "":
			flush()
			continue
		case strings.HasPrefix(line, "#"):
			continue
		}
		value := line
		if line[0] != ' ' && line[0] != '\t' {
			name, after, _ := strings.Cut(line, ":")
			field, value = strings.ToLower(name), after
		}
		switch field {
		case "uris":
			stanza = append(stanza, strings.Fields(value)...)
		case "enabled":
			switch strings.ToLower(strings.TrimSpace(value)) {
			case "no", "false", "without", "off", "disable", "0":
				enabled = false
			}
		}
	}
	flush()
	return uris
}

func environmentProxy(u *url.URL) (*url.URL, error) {
	return http.ProxyFromEnvironment(&http.Request{URL: u})
}

// proxySettings are Acquire::<scheme>::Proxy[::<host>] of apt, by the part
// after "Acquire::", in lower case.
type proxySettings map[string]string

// aptProxies asks apt-config; without it there are no settings.
func aptProxies(ctx context.Context) proxySettings {
	out, err := exec.CommandContext(ctx, "apt-config", "dump", "--format", "%F %v%n",
		"Acquire::http::Proxy", "Acquire::https::Proxy").Output()
	if err != nil {
		return nil
	}
	return parseProxies(string(out))
}

func parseProxies(dump string) proxySettings {
	settings := proxySettings{}
	for line := range strings.Lines(dump) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		name, ok := strings.CutPrefix(strings.ToLower(name), "acquire::")
		if value = strings.TrimSpace(value); ok && value != "" {
			settings[name] = value
		}
	}
	return settings
}

func (s proxySettings) proxy(u *url.URL) (*url.URL, error) {
	for _, name := range []string{u.Scheme + "::proxy::" + strings.ToLower(u.Hostname()), u.Scheme + "::proxy", "http::proxy"} {
		switch value := s[name]; {
		case value == "":
		case strings.EqualFold(value, "DIRECT") || strings.EqualFold(value, "false"):
			return nil, nil
		default:
			proxy, err := url.Parse(value)
			if err != nil {
				return nil, fmt.Errorf("proxy of apt's %s: %w", name, err)
			}
			return proxy, nil
		}
	}
	return environmentProxy(u)
}
