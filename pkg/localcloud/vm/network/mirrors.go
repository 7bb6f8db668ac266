package network

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
)

// mirrors is a caching proxy for the package mirrors that guests may use.
//
// Files whose content never changes under a name (packages, indices by hash) are
// fetched once. All others (InRelease …) are requested each time; if the mirror
// cannot be reached, the last copy is served with a log entry, so that a build
// can be repeated without a network. Apt in the guest verifies the files by the
// archive's signature.
type mirrors struct {
	bases    map[string]*url.URL
	cache    *cache
	upstream http.RoundTripper
	log      *slog.Logger
}

// Time limits for connecting to a mirror, and for the beginning of its answer.
const (
	dialTimeout   = 10 * time.Second
	headerTimeout = 60 * time.Second
)

func newMirrors(opts Options) (*mirrors, error) {
	m := &mirrors{bases: opts.Apt.Mirrors, upstream: opts.Upstream, log: opts.Log}
	if m.upstream == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.DialContext = (&net.Dialer{Timeout: dialTimeout}).DialContext
		transport.ResponseHeaderTimeout = headerTimeout
		transport.DisableCompression = true // keep the files unchanged
		transport.Proxy = nil
		if opts.Apt.Proxy != nil {
			transport.Proxy = func(r *http.Request) (*url.URL, error) { return opts.Apt.Proxy(r.URL) }
		}
		m.upstream = transport
	}
	if len(m.bases) == 0 {
		return m, nil
	}
	if opts.CacheDir == "" {
		return nil, errors.New("the package cache needs a directory")
	}
	var err error
	m.cache, err = openCache(opts.CacheDir)
	return m, err
}

func (m *mirrors) has(host string) bool { return m.bases[strings.TrimSuffix(host, ":80")] != nil }

func (m *mirrors) hosts() []string { return slices.Sorted(maps.Keys(m.bases)) }

// immutable matches paths whose content never changes.
var immutable = regexp.MustCompile(`\.(u?deb|ddeb|dsc|diff\.gz|tar\.[a-z0-9]+)$|/by-hash/[A-Za-z0-9]+/[0-9a-f]+$`)

// ServeHTTP implements http.Handler for a request whose Host is a mirror.
func (m *mirrors) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.Error(w, "package mirrors are read only", http.StatusMethodNotAllowed)
		return
	}
	base := m.bases[strings.TrimSuffix(strings.ToLower(r.Host), ":80")]
	target := &url.URL{Scheme: base.Scheme, Host: base.Host, Path: path.Clean("/" + r.URL.Path), RawQuery: r.URL.RawQuery}

	entry, err := m.cache.open(target.String())
	if err != nil {
		m.log.Warn("package cache: entry not usable, fetching it again", "url", target.String(), "error", err)
	}
	if entry != nil {
		defer entry.Close()
		if immutable.MatchString(target.Path) {
			entry.serve(w, r)
			return
		}
	}
	m.fetch(w, r, target, entry)
}

// fetch asks the mirror. entry is the cached copy, or nil.
func (m *mirrors) fetch(w http.ResponseWriter, r *http.Request, target *url.URL, entry *entry) {
	request, err := http.NewRequestWithContext(r.Context(), r.Method, target.String(), nil)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	request.Header.Set("User-Agent", r.UserAgent())
	if entry != nil {
		entry.condition(request)
	}
	client := http.Client{Transport: m.upstream, CheckRedirect: m.follow}
	response, err := client.Do(request)
	if err != nil {
		m.unreachable(w, r, target, entry, err)
		return
	}
	defer response.Body.Close()
	switch {
	case response.StatusCode == http.StatusNotModified && entry != nil:
		entry.serve(w, r)
	case response.StatusCode >= http.StatusInternalServerError && entry != nil:
		m.unreachable(w, r, target, entry, fmt.Errorf("the mirror answered %s", response.Status))
	case response.StatusCode == http.StatusOK && r.Method == http.MethodGet:
		m.store(w, target, response)
	default:
		copyHeader(w.Header(), response.Header)
		w.WriteHeader(response.StatusCode)
		_, _ = io.Copy(w, response.Body) // if this fails, the guest gets a short answer
	}
}

// maxRedirects is the maximum number of a mirror's redirections.
const maxRedirects = 5

// follow follows a redirection only to another mirror: otherwise a mirror could
// make this process call services of this machine. Other redirections are passed
// to the guest, whose network restricts them.
func (m *mirrors) follow(next *http.Request, before []*http.Request) error {
	if m.bases[strings.ToLower(next.URL.Host)] == nil || len(before) > maxRedirects {
		return http.ErrUseLastResponse
	}
	return nil
}

// unreachable serves the cached copy, or answers why there is none.
func (m *mirrors) unreachable(w http.ResponseWriter, r *http.Request, target *url.URL, entry *entry, cause error) {
	if entry == nil {
		m.log.Warn("package mirror not reachable and file not cached", "url", target.String(), "error", cause)
		http.Error(w, fmt.Sprintf("%s is not cached, and its mirror cannot be reached: %v", target, cause), http.StatusBadGateway)
		return
	}
	m.log.Warn("package mirror not reachable, serving the cached copy", "url", target.String(),
		"fetched", entry.Fetched.Format(time.RFC3339), "error", cause)
	entry.serve(w, r)
}

// store passes the answer to the guest and writes a copy, which is only kept if
// it is complete.
func (m *mirrors) store(w http.ResponseWriter, target *url.URL, response *http.Response) {
	copyHeader(w.Header(), response.Header)
	w.WriteHeader(http.StatusOK)
	writer, err := m.cache.create(target.String(), response)
	if err != nil {
		m.log.Warn("package cache: cannot write, passing through", "url", target.String(), "error", err)
		_, _ = io.Copy(w, response.Body)
		return
	}
	defer writer.abandon()
	if _, err := io.Copy(io.MultiWriter(w, writer), response.Body); err != nil {
		m.log.Debug("package cache: transfer not finished", "url", target.String(), "error", err)
		// An answer without a length that ends early must not look complete.
		panic(http.ErrAbortHandler)
	}
	if err := writer.commit(); err != nil {
		m.log.Warn("package cache: cannot keep", "url", target.String(), "error", err)
	}
}

func copyHeader(to, from http.Header) {
	for _, name := range []string{"Content-Length", "Content-Type", "Etag", "Last-Modified", "Location"} {
		if value := from.Get(name); value != "" {
			to.Set(name, value)
		}
	}
}
