package userdata_test

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// store is an S3 of two objects to get and one to put.
type store struct {
	mu      sync.Mutex
	objects map[string][]byte
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Method == http.MethodPut {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		if r.Header.Get("If-None-Match") != "*" {
			http.Error(w, "SignatureDoesNotMatch: the header is signed", http.StatusForbidden)
			return
		}
		if s.objects[r.URL.Path] != nil {
			http.Error(w, "PreconditionFailed", http.StatusPreconditionFailed)
			return
		}
		s.objects[r.URL.Path] = body
		return
	}
	content, ok := s.objects[r.URL.Path]
	if !ok {
		http.Error(w, "NoSuchKey", http.StatusNotFound)
		return
	}
	_, _ = w.Write(content)
}

func hexDigest(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

func TestRunChecks(t *testing.T) {
	const verdict = `{"results":[],"summary":{"failed-count":1}}`
	cases := map[string]struct {
		goss      string // the script that stands in for the engine
		tampered  bool
		there     []byte // what is at the results' address before
		inventory string // the script that stands in for inventory.sh; empty: one that lists
		seconds   string // the time that it has; empty: enough
		wantExit  int    // of goss, in the report
		wantError string
	}{
		"all checks pass":                          {goss: "echo '" + verdict + "'", wantExit: 0},
		"failed checks are a result, not an error": {goss: "echo '" + verdict + "'; exit 1", wantExit: 1},
		"an engine that cannot read its file is an error": {
			goss: "echo 'could not read gossfile' >&2; exit 1", wantError: "goss did not run the checks (exit code 1): could not read gossfile",
		},
		"an engine that crashes is an error":                     {goss: "echo '" + verdict + "'; exit 78", wantError: "goss did not run the checks (exit code 78)"},
		"results that were uploaded already are not overwritten": {goss: "echo '" + verdict + "'", there: []byte("a stranger's"), wantExit: 0},
		"an engine of another digest is not run": {
			goss: "echo '" + verdict + "'", tampered: true, wantError: "goss has SHA-256 ",
		},
		"checks that fail at once end the inventory too": {
			goss: "exit 78", inventory: "sleep 600", wantError: "goss did not run the checks (exit code 78)",
		},
		"an inventory that cannot be taken is an error": {
			goss: "echo '" + verdict + "'", inventory: "echo no disk >&2; exit 3", wantError: "the inventory was not taken (exit code 3): no disk",
		},
		"an inventory that takes too long is an error": {
			goss: "echo '" + verdict + "'", inventory: "sleep 600", seconds: "1", wantError: "the inventory took longer than 1 s",
		},
		"an inventory that is too large is an error": {
			goss: "echo '" + verdict + "'", inventory: "head -c 9000000 /dev/urandom", wantError: "8388608 are allowed",
		},
	}
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed, and run-checks.sh needs it")
	}
	script, err := os.ReadFile("verify/run-checks.sh")
	require.NoError(t, err)
	for sentence, c := range cases {
		t.Run(sentence, func(t *testing.T) {
			goss := []byte("#!/bin/sh\n" + c.goss + "\n")
			checks := []byte("file: {}\n")
			s := &store{objects: map[string][]byte{"/bucket/goss": goss, "/bucket/checks": checks}}
			if c.there != nil {
				s.objects["/bucket/results"] = c.there
			}
			server := httptest.NewServer(s)
			defer server.Close()
			digest := hexDigest(goss)
			if c.tampered {
				digest = hexDigest(checks)
			}
			dir := t.TempDir()
			exports := strings.Join([]string{
				"export GOSS_URL='" + server.URL + "/bucket/goss?X-Amz-Signature=secret'",
				"export GOSS_SHA256=" + digest,
				"export CHECKS_URL='" + server.URL + "/bucket/checks?X-Amz-Signature=secret'",
				"export CHECKS_SHA256=" + hexDigest(checks),
				"export RESULTS_PUT_URL='" + server.URL + "/bucket/results?X-Amz-Signature=secret'",
				"export INVENTORY_PUT_URL='" + server.URL + "/bucket/inventory?X-Amz-Signature=secret'",
				"export INVENTORY_SCRIPT='" + cmp.Or(c.inventory, "echo listed; [ -d \"$INVENTORY_DIR\" ]") + "'",
				"export INVENTORY_SECONDS=" + cmp.Or(c.seconds, "60"),
				"export AMI_FACTORY_CHECKS_DIR='" + dir + "'",
			}, "\n")

			command := exec.CommandContext(t.Context(), "sh", "-c", exports+"\n"+string(script))
			var stdout, stderr bytes.Buffer
			command.Stdout, command.Stderr = &stdout, &stderr
			err := command.Run()

			left, readErr := os.ReadDir(dir)
			require.NoError(t, readErr)
			assert.Empty(t, left, "something is left behind")
			assert.NotContains(t, stderr.String(), "secret", "a presigned URL is in the log")
			if c.wantError != "" {
				require.Error(t, err)
				assert.Contains(t, stderr.String(), c.wantError)
				assert.Empty(t, stdout.String())
				assert.NotContains(t, s.objects, "/bucket/inventory")
				return
			}
			require.NoError(t, err, stderr.String())
			var line struct {
				SHA256    string `json:"sha256"`
				Bytes     int    `json:"bytes"`
				GossExit  int    `json:"gossExit"`
				Inventory struct {
					SHA256 string `json:"sha256"`
					Bytes  int    `json:"bytes"`
				} `json:"inventory"`
			}
			require.NoError(t, json.Unmarshal(stdout.Bytes(), &line), stdout.String())
			uploaded := s.objects["/bucket/results"]
			if c.there != nil {
				assert.Equal(t, c.there, uploaded)
				assert.NotEqual(t, hexDigest(uploaded), line.SHA256, "whoever reads them finds them out")
				return
			}
			assert.Equal(t, hexDigest(uploaded), line.SHA256)
			assert.Equal(t, len(uploaded), line.Bytes)
			listed := s.objects["/bucket/inventory"]
			assert.Equal(t, hexDigest(listed), line.Inventory.SHA256)
			assert.Equal(t, len(listed), line.Inventory.Bytes)
			assert.Equal(t, c.wantExit, line.GossExit)
			unzipped, err := gzip.NewReader(bytes.NewReader(uploaded))
			require.NoError(t, err)
			content, err := io.ReadAll(unzipped)
			require.NoError(t, err)
			assert.JSONEq(t, verdict, string(content))
		})
	}
}

func TestChecksRunAtOnceAsFarAsTheProcessorsAllow(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed, and run-checks.sh needs it")
	}
	script, err := os.ReadFile("verify/run-checks.sh")
	require.NoError(t, err)
	for sentence, c := range map[string]struct{ getconf, want string }{
		"one processor":         {"echo 1", "4"},
		"two":                   {"echo 2", "4"},
		"eight":                 {"echo 8", "16"},
		"nobody knows how many": {"exit 1", "4"},
	} {
		t.Run(sentence, func(t *testing.T) {
			goss, checks := []byte("#!/bin/sh\n"+`echo "{\"summary\":{},\"arguments\":\"$*\"}"`+"\n"), []byte("file: {}\n")
			s := &store{objects: map[string][]byte{"/goss": goss, "/checks": checks}}
			server := httptest.NewServer(s)
			defer server.Close()
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(dir+"/getconf", []byte("#!/bin/sh\n"+c.getconf+"\n"), 0o600))
			require.NoError(t, os.Chmod(dir+"/getconf", 0o700))
			command := exec.CommandContext(t.Context(), "sh", "-c", string(script))
			command.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "AMI_FACTORY_CHECKS_DIR="+t.TempDir(),
				"GOSS_URL="+server.URL+"/goss", "GOSS_SHA256="+hexDigest(goss), "CHECKS_URL="+server.URL+"/checks", "CHECKS_SHA256="+hexDigest(checks),
				"RESULTS_PUT_URL="+server.URL+"/results", "INVENTORY_PUT_URL="+server.URL+"/inventory", "INVENTORY_SCRIPT=echo listed", "INVENTORY_SECONDS=60", "no_proxy=*", "NO_PROXY=*")
			output, err := command.CombinedOutput()
			require.NoError(t, err, "%s", output)
			unzipped, err := gzip.NewReader(bytes.NewReader(s.objects["/results"]))
			require.NoError(t, err)
			var said struct{ Arguments string }
			require.NoError(t, json.NewDecoder(unzipped).Decode(&said))
			assert.True(t, strings.HasSuffix(said.Arguments, " --max-concurrent "+c.want), said.Arguments)
		})
	}
}
