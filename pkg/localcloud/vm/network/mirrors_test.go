package network_test

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/network"
)

const (
	mirrorHost = "mirror.example"
	pool       = "/debian/pool/main/t/tree/tree_2.1.0-1_amd64.deb"
	index      = "/debian/dists/bookworm/InRelease"
)

// upstream plays the world's mirrors.
type upstream struct {
	handler http.HandlerFunc
	cut     atomic.Bool
	calls   atomic.Int32
}

func (u *upstream) RoundTrip(r *http.Request) (*http.Response, error) {
	u.calls.Add(1)
	if u.cut.Load() {
		return nil, errors.New("no route to host")
	}
	w := httptest.NewRecorder()
	u.handler(w, r)
	return w.Result(), nil
}

// mirrorGuest is a guest behind a cache in dir.
func mirrorGuest(t *testing.T, dir string, up *upstream, log *bytes.Buffer) func(path string, header ...string) (int, string) {
	t.Helper()
	opts := network.Options{Upstream: up, CacheDir: dir}
	if log != nil {
		opts.Log = slog.New(slog.NewTextHandler(log, nil))
	}
	g := newGuest(t, testNetwork(t, opts, mirrorHost), one(nil), guestMAC, guestIP)
	return func(path string, header ...string) (int, string) {
		t.Helper()
		return g.get(t, network.GatewayIP+":80", mirrorHost, path, header...)
	}
}

func TestPackagesAreFetchedOnce(t *testing.T) {
	up := &upstream{handler: func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte("package " + r.URL.String())) }}
	dir := t.TempDir()
	get := mirrorGuest(t, dir, up, nil)

	status, body := get(pool)
	assert.Equal(t, 200, status)
	assert.Equal(t, "package http://"+mirrorHost+pool, body)
	up.cut.Store(true)
	status, again := get(pool)
	assert.Equal(t, 200, status)
	assert.Equal(t, body, again)
	assert.EqualValues(t, 1, up.calls.Load())

	t.Run("by a later run too", func(t *testing.T) {
		_, again := mirrorGuest(t, dir, up, nil)(pool)
		assert.Equal(t, body, again)
		assert.EqualValues(t, 1, up.calls.Load())
	})
	t.Run("a part of a package can be had", func(t *testing.T) {
		status, part := get(pool, "Range", "bytes=8-")
		assert.Equal(t, 206, status)
		assert.Equal(t, body[8:], part)
	})
	t.Run("what is not there says why", func(t *testing.T) {
		status, body := get(pool + ".other.deb")
		assert.Equal(t, 502, status)
		assert.Contains(t, body, "is not cached, and its mirror cannot be reached")
		assert.Contains(t, body, "no route to host")
	})
}

func TestIndicesAreAskedForAgain(t *testing.T) {
	content := "first"
	up := &upstream{}
	up.handler = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Etag", `"`+content+`"`)
		if r.Header.Get("If-None-Match") == `"`+content+`"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = w.Write([]byte(content))
	}
	var log bytes.Buffer
	get := mirrorGuest(t, t.TempDir(), up, &log)
	steps := []struct {
		name string
		do   func()
		want string
	}{
		{"the first is fetched", func() {}, "first"},
		{"the same is confirmed", func() {}, "first"},
		{"a new one replaces it", func() { content = "second" }, "second"},
		{"without a mirror, the last is served", func() { up.cut.Store(true) }, "second"},
		{"a mirror in trouble is none", func() {
			up.cut.Store(false)
			up.handler = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }
		}, "second"},
	}
	for i, step := range steps {
		step.do()
		status, body := get(index)
		assert.Equal(t, 200, status, step.name)
		assert.Equal(t, step.want, body, step.name)
		assert.EqualValues(t, i+1, up.calls.Load(), step.name)
	}
	assert.Equal(t, 2, strings.Count(log.String(), "serving the cached copy"), "a stale answer is logged")
}

func TestAnswersThatAreNotKept(t *testing.T) {
	for name, c := range map[string]struct {
		path    string
		handler http.HandlerFunc
		status  int
	}{
		"a refusal": {pool, func(w http.ResponseWriter, _ *http.Request) { http.NotFound(w, nil) }, 404},
		"an index whose content is not that of its name": {
			"/debian/dists/x/by-hash/SHA256/" + strings.Repeat("0", 64),
			func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("other")) }, 200},
	} {
		t.Run(name, func(t *testing.T) {
			up := &upstream{handler: c.handler}
			dir := t.TempDir()
			get := mirrorGuest(t, dir, up, nil)
			status, _ := get(c.path)
			assert.Equal(t, c.status, status)
			assert.Empty(t, entries(t, dir))
		})
	}
}

func TestTransferThatBreaksOffIsNotKept(t *testing.T) {
	dir := t.TempDir()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000000")
		_, _ = w.Write(make([]byte, 500000))
	}))
	defer server.Close()
	redirect := roundTrip(func(r *http.Request) (*http.Response, error) {
		r.URL.Host = server.Listener.Addr().String()
		return http.DefaultTransport.RoundTrip(r)
	})
	n := testNetwork(t, network.Options{Upstream: redirect, CacheDir: dir}, mirrorHost)
	g := newGuest(t, n, one(nil), guestMAC, guestIP)
	_, body := g.get(t, network.GatewayIP+":80", mirrorHost, pool)
	assert.Contains(t, body, "broken off")
	assert.Empty(t, entries(t, dir))
}

func TestDamagedCopyIsFetchedAgain(t *testing.T) {
	up := &upstream{handler: func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("good")) }}
	dir := t.TempDir()
	get := mirrorGuest(t, dir, up, nil)
	get(pool)
	files := entries(t, dir)
	require.Len(t, files, 1)
	raw, err := os.ReadFile(files[0])
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(files[0], bytes.ReplaceAll(raw, []byte("\ngood"), []byte("\nevil")), 0o600))

	_, body := get(pool)
	assert.Equal(t, "good", body)
	assert.EqualValues(t, 2, up.calls.Load())
}

func TestRedirectionsAreFollowedToMirrorsOnly(t *testing.T) {
	for sentence, tc := range map[string]struct {
		to    string
		code  int
		calls int32
	}{
		"to the same mirror by another path": {"http://" + mirrorHost + "/elsewhere", http.StatusOK, 2},
		"to a service of this machine":       {"http://127.0.0.1:4566/", http.StatusFound, 1},
		"to a host that is no mirror":        {"http://other.example/", http.StatusFound, 1},
	} {
		t.Run(sentence, func(t *testing.T) {
			up := &upstream{handler: func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == index {
					http.Redirect(w, r, tc.to, http.StatusFound)
				}
			}}
			code, _ := mirrorGuest(t, t.TempDir(), up, nil)(index)
			assert.Equal(t, tc.code, code)
			assert.Equal(t, tc.calls, up.calls.Load())
		})
	}
}

func TestMirrorsAreReadOnly(t *testing.T) {
	up := &upstream{handler: func(http.ResponseWriter, *http.Request) {}}
	n := testNetwork(t, network.Options{Upstream: up}, mirrorHost)
	g := newGuest(t, n, one(nil), guestMAC, guestIP)
	conn, err := g.dial(t.Context(), network.GatewayIP+":80")
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.Write([]byte("PUT /x HTTP/1.1\r\nHost: " + mirrorHost + "\r\nContent-Length: 0\r\n\r\n"))
	require.NoError(t, err)
	head := make([]byte, len("HTTP/1.1 405"))
	_, err = conn.Read(head)
	require.NoError(t, err)
	assert.Equal(t, "HTTP/1.1 405", string(head))
	assert.Zero(t, up.calls.Load())
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// entries are the files in a cache directory, unfinished ones included.
func entries(t *testing.T, dir string) []string {
	t.Helper()
	var files []string
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			files = append(files, path)
		}
		return err
	}))
	return files
}
