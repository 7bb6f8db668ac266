package baseimage

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// publisher serves one file, and breaks as many connections as it is told to.
type publisher struct {
	content  []byte
	breaks   int
	ranges   []string // of each request
	noRanges bool
	status   int
}

func (p *publisher) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.ranges = append(p.ranges, r.Header.Get("Range"))
	if p.status != 0 {
		w.WriteHeader(p.status)
		return
	}
	if p.noRanges {
		r.Header.Del("Range")
	}
	if p.breaks > 0 {
		p.breaks--
		w.Header().Set("Content-Length", fmt.Sprint(len(p.content)))
		_, _ = w.Write(p.content[:len(p.content)/2])
		panic(http.ErrAbortHandler)
	}
	http.ServeContent(w, r, "image", time.Time{}, bytes.NewReader(p.content))
}

func sumOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func TestFetch(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	half := fmt.Sprintf("bytes=%d-", len(content)/2)
	for sentence, tc := range map[string]struct {
		publisher  publisher
		before     []byte // the part of an earlier run
		sha256     string
		wantError  string
		wantRanges []string
	}{
		"a whole file is fetched in one request": {publisher: publisher{content: content}, wantRanges: []string{""}},
		"the digest may be in capitals":          {publisher: publisher{content: content}, sha256: strings.ToUpper(sumOf(content)), wantRanges: []string{""}},
		"a broken connection is resumed":         {publisher: publisher{content: content, breaks: 1}, wantRanges: []string{"", half}},
		"a server without ranges starts again":   {publisher: publisher{content: content, breaks: 1, noRanges: true}, wantRanges: []string{"", half}},
		"an earlier run's part is continued":     {publisher: publisher{content: content}, before: content[:1000], wantRanges: []string{"bytes=1000-"}},
		"an earlier run's whole is not fetched":  {publisher: publisher{content: content}, before: content, wantRanges: []string{fmt.Sprintf("bytes=%d-", len(content))}},
		"an earlier part of another version is thrown away": {
			publisher: publisher{content: content}, before: []byte("other"), wantRanges: []string{"bytes=5-", ""},
		},
		"a wrong digest is refused at once": {
			publisher: publisher{content: content}, sha256: strings.Repeat("0", 64), wantError: "the SHA-256 is not the one given: the file has " + sumOf(content), wantRanges: []string{""},
		},
		"a missing file is not asked for again": {publisher: publisher{status: 404}, wantError: "404 Not Found; check the URL", wantRanges: []string{""}},
		"a server in trouble is asked again": {
			publisher: publisher{status: 503}, wantError: "gave up after 5 attempts", wantRanges: []string{"", "", "", "", ""},
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			server := httptest.NewServer(&tc.publisher)
			defer server.Close()
			partial := filepath.Join(t.TempDir(), "image.partial")
			if tc.before != nil {
				require.NoError(t, os.WriteFile(partial, tc.before, 0o644))
			}
			if tc.sha256 == "" {
				tc.sha256 = sumOf(content)
			}
			f := fetcher{src: Official{URL: server.URL, SHA256: tc.sha256}, partial: partial, client: server.Client(), progress: func(string) {}}
			err := f.fetch(t.Context())
			assert.Equal(t, tc.wantRanges, tc.publisher.ranges)
			if tc.wantError != "" {
				assert.ErrorContains(t, err, tc.wantError)
				return
			}
			require.NoError(t, err)
			got, err := os.ReadFile(partial)
			require.NoError(t, err)
			assert.Equal(t, sumOf(content), sumOf(got))
		})
	}
}

func TestFetchNamesTheFileOnlyWhenItIsVerified(t *testing.T) {
	content := []byte("an image")
	server := httptest.NewServer(&publisher{content: content})
	defer server.Close()
	file := filepath.Join(t.TempDir(), "image")

	err := Fetch(t.Context(), Official{URL: server.URL, SHA256: strings.Repeat("0", 64)}, file, nil)
	require.ErrorIs(t, err, errBadDigest)
	left, err := filepath.Glob(file + "*")
	require.NoError(t, err)
	assert.Empty(t, left, "nothing is left of a file that is not the one wanted")

	var said []string
	require.NoError(t, Fetch(t.Context(), Official{URL: server.URL, SHA256: sumOf(content)}, file, func(text string) { said = append(said, text) }))
	assert.FileExists(t, file)
	assert.Contains(t, said, "downloading the official image: 100 % of 0 MiB")
}

func TestFetchReadsAFileOfThisMachine(t *testing.T) {
	source := filepath.Join(t.TempDir(), "published")
	require.NoError(t, os.WriteFile(source, []byte("an image"), 0o644))
	file := filepath.Join(t.TempDir(), "image")
	require.NoError(t, Fetch(t.Context(), Official{URL: "file://" + source, SHA256: sumOf([]byte("an image"))}, file, nil))
	assert.FileExists(t, file)
}

func TestAPasswordInTheURLIsNotShown(t *testing.T) {
	server := httptest.NewServer(&publisher{status: 403})
	defer server.Close()
	err := Fetch(t.Context(), Official{URL: strings.Replace(server.URL, "://", "://user:secret@", 1), SHA256: strings.Repeat("0", 64)}, filepath.Join(t.TempDir(), "x"), nil)
	require.ErrorContains(t, err, "403")
	assert.NotContains(t, err.Error(), "secret")
}
