package cli

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/store"
)

func TestAFeedIsPinnedByWhatItIs(t *testing.T) {
	const tracker = `{"openssl":{"CVE-2026-0001":{"releases":{"bookworm":{"status":"open","urgency":"high"}}}}}`
	const record = `{"id":"DSA-1","affected":[]}`
	var packed, archive bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err := z.Write([]byte(tracker))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	w := zip.NewWriter(&archive)
	f, err := w.Create("DSA-1.json")
	require.NoError(t, err)
	_, err = f.Write([]byte(record))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	modified := time.Date(2026, 11, 1, 6, 0, 0, 0, time.UTC)
	for sentence, c := range map[string]struct {
		text      string
		args      []string
		kind      string
		published string
		fails     string
	}{
		"the tracker":            {text: tracker, kind: "debianTracker", published: "2026-11-01T06:00:00Z"},
		"the tracker, packed":    {text: packed.String(), kind: "debianTracker", published: "2026-11-01T06:00:00Z"},
		"OSV as lines":           {text: record + "\n" + record + "\n", kind: "osv", published: "2026-11-01T06:00:00Z"},
		"OSV as an archive":      {text: archive.String(), kind: "osv", published: "2026-11-01T06:00:00Z"},
		"updateinfo":             {text: `<?xml version="1.0"?><updates><update type="security"><id>ALAS2023-1</id></update></updates>`, kind: "amazonUpdateinfo", published: "2026-11-01T06:00:00Z"},
		"KEV says when itself":   {text: `{"title":"t","dateReleased":"2026-10-30T01:00:00.1Z","vulnerabilities":[{"cveID":"CVE-2026-1","dateAdded":"2026-10-01"}]}`, kind: "kev", published: "2026-10-30T01:00:00Z"},
		"a time that is given":   {text: tracker, args: []string{"--published", "2026-10-02T06:00:00Z"}, kind: "debianTracker", published: "2026-10-02T06:00:00Z"},
		"no feed":                {text: "hello", fails: "it is no feed that the factory reads"},
		"a list":                 {text: "[]", fails: "it is no feed that the factory reads"},
		"an empty object":        {text: "{}", fails: "it is no feed that the factory reads"},
		"nothing":                {text: "", fails: "it is no feed that the factory reads"},
		"a feed that is cut off": {text: tracker[:len(tracker)-4], fails: "it is no feed that the factory reads"},
		"a page of an error":     {text: "<html></html>", fails: "it looks like a feed of kind amazonUpdateinfo: it is no updateinfo.xml"},
		"a time that is none":    {text: tracker, args: []string{"--published", "yesterday"}, fails: "--published is \"yesterday\""},
	} {
		t.Run(sentence, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "feed")
			require.NoError(t, os.WriteFile(file, []byte(c.text), 0o600))
			require.NoError(t, os.Chtimes(file, modified, modified))
			r := onAWS(t, append([]string{"feeds", "pin", file, "-o", "json"}, c.args...)...)
			if c.fails != "" {
				assert.NotEqual(t, exitOK, r.code)
				assert.Contains(t, r.err, c.fails)
				return
			}
			require.Equal(t, exitOK, r.code, r.err)
			var got []pinned
			require.NoError(t, json.Unmarshal([]byte(r.out), &got))
			require.Len(t, got, 1)
			assert.Equal(t, []string{c.kind, c.published, store.Digest([]byte(c.text))}, []string{got[0].Kind, got[0].Published, got[0].SHA256})
			assert.Positive(t, got[0].Records)
			r = onAWS(t, append([]string{"feeds", "pin", file}, c.args...)...)
			assert.Contains(t, r.out, "        sha256: "+store.Digest([]byte(c.text))+"\n        published: '"+c.published+"'\n")
		})
	}
}

func TestAFeedIsUploadedBelowItsDigest(t *testing.T) {
	f := deployedFactory(t)
	file := filepath.Join(t.TempDir(), "feed")
	text := []byte(`{"a":{"CVE-2026-0001":{"releases":{}}}}`)
	require.NoError(t, os.WriteFile(file, text, 0o600))
	r := onAWS(t, "feeds", "pin", file, "--upload", f.Bucket)
	require.Equal(t, exitOK, r.code, r.err)
	_, err := f.Cloud.S3.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &f.Bucket, Key: aws.String(contract.FeedKey(store.Digest(text)))})
	require.NoError(t, err)
}
