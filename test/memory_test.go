package test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/blueprint"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/rehearsal"
	"github.com/ami-factory/ami-factory/pkg/store"
	"github.com/ami-factory/ami-factory/pkg/workflow"
)

// largeFeed is a feed of the size of Debian's tracker: some 40,000 vulnerabilities of
// 3,500 source packages, 51 MB. None is of a package that simulated guests have.
func largeFeed(t testing.TB) []byte {
	t.Helper()
	releases := map[string]any{}
	for _, name := range []string{"bullseye", "bookworm", "trixie", "forky", "sid"} {
		releases[name] = map[string]any{
			"status": "resolved", "fixed_version": "1.2.3-4+deb12u2", "urgency": "not yet assigned",
			"repositories": map[string]string{name: "1.2.3-4+deb12u1", name + "-security": "1.2.3-4+deb12u2"},
		}
	}
	all := map[string]any{}
	for i := range 3500 {
		source := map[string]any{}
		for j := range 12 {
			source[fmt.Sprintf("CVE-2026-%05d", i*12+j)] = map[string]any{"description": strings.Repeat("a vulnerability of some kind ", 10), "releases": releases, "scope": "local"}
		}
		all[fmt.Sprintf("source-%d", i)] = source
	}
	body, err := json.Marshal(all)
	require.NoError(t, err)
	require.Greater(t, len(body), 51_000_000)
	return body
}

// manySummaries writes those of 200 recipes in 10 regions for the index page, as copies
// of the one that an execution has written.
func manySummaries(t testing.TB, e *editable) {
	t.Helper()
	var summary map[string]any
	require.NoError(t, json.Unmarshal([]byte(e.object(contract.SummaryKey(recipeName))), &summary))
	for i := range 200 {
		name := fmt.Sprintf("recipe-%03d", i)
		summary["recipe"] = name
		body, err := json.Marshal(summary)
		require.NoError(t, err)
		_, err = e.Cloud.S3.PutObject(context.Background(), &s3.PutObjectInput{Bucket: &e.Bucket, Key: aws.String(contract.SummaryKey(name)), Body: bytes.NewReader(body)})
		require.NoError(t, err)
	}
}

// The sizes in pkg/blueprint come from this: the deployed programs bake an image, gate it
// with a feed of real size and write an index page of 200 recipes.
func TestEachFunctionFitsInItsMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs the deployed programs with a feed of 51 MB")
	}
	if runtime.GOOS != "linux" {
		t.Skip("only Linux says how much memory a process has had")
	}
	programs := filepath.Join("..", "build", functionsIn)
	if _, err := os.Stat(programs); err != nil {
		t.Skip("the functions are not built: run make build")
	}
	var now time.Time
	e := newEditable(t, func(o *rehearsal.Options) { o.FunctionsDir, now = programs, o.Clock.Now() })
	s := bake(t, e.Factory, contract.ExecutionInput{})
	require.Equal(t, contract.Published, s.Status, s.Cause)

	feed := largeFeed(t)
	_, err := e.Cloud.S3.PutObject(context.Background(), &s3.PutObjectInput{Bucket: &e.Bucket, Key: aws.String(contract.FeedKey(store.Digest(feed))), Body: bytes.NewReader(feed)})
	require.NoError(t, err)
	e.edit("gate:\n  severity: medium", "gate:\n  severity: medium\n  vulnerabilities:\n    severity: critical\n    maximumAge: 3d\n    feeds:\n"+
		"      - {kind: debianTracker, sha256: "+store.Digest(feed)+", published: '"+now.UTC().Format(time.RFC3339)+"'}")
	manySummaries(t, e)
	s = bake(t, e.Factory, contract.ExecutionInput{Force: true})
	require.Equal(t, contract.Published, s.Status, s.Cause)

	ran := map[string]bool{}
	for _, f := range e.Cloud.Lambda.Stats() {
		name := strings.TrimPrefix(f.Function[strings.LastIndex(f.Function, ":")+1:], "ami-factory-")
		if f.Invocations == 0 {
			continue
		}
		ran[name] = true
		require.Positive(t, f.PeakBytes, name)
		t.Logf("%s has used %d of %d MiB", name, f.PeakBytes>>20, f.MemoryMiB)
		assert.LessOrEqual(t, 3*f.PeakBytes, 2*int64(f.MemoryMiB)<<20, "%s has used %d of %d MiB: a third must be left", name, f.PeakBytes>>20, f.MemoryMiB)
	}
	for _, row := range workflow.Stages() {
		if row.Stage != workflow.RequestApproval { // these bakes need no approval; it needs no more memory than sign
			assert.True(t, ran[string(row.Stage)], "%s did not run", row.Stage)
		}
	}
	assert.True(t, ran[blueprint.StartBuilds], "it receives the end of executions")
}
