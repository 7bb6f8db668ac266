package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
	"github.com/ami-factory/ami-factory/pkg/rehearsal"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// tracked is Debian's tracker with a vulnerability of openssl 3.0.15-1, which simulated
// guests have.
const tracked = `{"openssl":{"CVE-2026-0001":{"releases":{"bookworm":{"status":"resolved","fixed_version":"3.0.16-1","urgency":"high"}}}}}`

// feedFile writes a feed and returns its name.
func feedFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "tracker.json")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

// gated is user data whose recipe has this gate for vulnerabilities.
func gated(t *testing.T, gate string) string {
	t.Helper()
	return edited(t, "recipes/"+recipeName+".yaml", func(text string) string {
		return strings.Replace(text, "gate:\n", "gate:\n  vulnerabilities: {severity: high, "+gate+"}\n", 1)
	})
}

func TestAmazonInspectorGatesImages(t *testing.T) {
	for sentence, c := range map[string]struct {
		feeds  []string
		absent bool // the factory is deployed without it
		status string
		error  string
		cause  string
	}{
		"with a vulnerability":          {feeds: []string{tracked}, status: contract.Rejected, cause: "CVE-2026-0001 (high) in openssl 3.0.15-1: fixed in 3.0.16-1"},
		"without one":                   {feeds: []string{strings.Replace(tracked, "3.0.16-1", "3.0.14-1", 1)}, status: contract.Published},
		"a factory deployed without it": {absent: true, status: contract.FailedClean, error: "RecipeInvalid", cause: "deploy it with the context inspectorScan=true"},
	} {
		t.Run(sentence, func(t *testing.T) {
			asked := map[string]bool{}
			f := simFactory(t, func(o *rehearsal.Options) {
				o.UserDataDir, o.InspectorScan = gated(t, "scanner: inspector"), !c.absent
				for _, text := range c.feeds {
					o.Feeds = append(o.Feeds, feedFile(t, text))
				}
				o.Decisions = func(d authz.Decision) {
					if d.Request.Action == "inspector-scan:ScanSbom" {
						asked[d.RoleARN[strings.LastIndex(d.RoleARN, "/")+1:]] = d.Verdict == authz.Allowed
					}
				}
			})
			s := bake(t, f, contract.ExecutionInput{})
			assert.Equal(t, c.status, s.Status, s.Cause)
			assert.Contains(t, s.Cause, c.cause)
			if c.error != "" {
				assert.Equal(t, c.error, s.Error)
			}
			if !c.absent {
				assert.Equal(t, map[string]bool{"ami-factory-check-compliance": true}, asked)
			}
		})
	}
}

func TestARehearsalHasTheFeedsThatItIsGiven(t *testing.T) {
	published := "2026-10-31T00:00:00Z"
	pin := func(text string) string {
		return fmt.Sprintf("feeds: [{kind: debianTracker, sha256: %s, published: '%s'}]", store.Digest([]byte(text)), published)
	}
	f := simFactory(t, func(o *rehearsal.Options) {
		o.UserDataDir, o.Feeds = gated(t, pin(tracked)), []string{feedFile(t, tracked)}
	})
	s := bake(t, f, contract.ExecutionInput{})
	assert.Equal(t, contract.Rejected, s.Status, s.Cause)
	assert.Contains(t, s.Cause, "CVE-2026-0001")

	f = simFactory(t, func(o *rehearsal.Options) {
		o.UserDataDir, o.Feeds = gated(t, pin("another")), []string{feedFile(t, tracked)}
	})
	_, err := f.Bake(t.Context(), contract.ExecutionInput{Recipe: recipeName}, nil)
	require.ErrorIs(t, err, rehearsal.ErrNoFeed)
	assert.ErrorContains(t, err, "pins a debianTracker of SHA-256 "+store.Digest([]byte("another")))
	assert.ErrorContains(t, err, "tracker.json is a debianTracker of SHA-256 "+store.Digest([]byte(tracked)))
	assert.ErrorContains(t, err, "--feed FILE")
}
