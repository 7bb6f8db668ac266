package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/plan"
)

func TestPlanSaysWhatTheNextExecutionWouldDo(t *testing.T) {
	tune, state, dir := inProcess(t), filepath.Join(t.TempDir(), "state"), t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(filepath.Join("..", "..", "userdata"))))
	with := func(command ...string) result {
		return call(t, tune, append(command, "--userdata", dir, "--guests", "simulated", "--state", state)...)
	}
	next := func() plan.Next {
		r := with("plan", "debian-12-docker", "-o", "json")
		require.Equal(t, exitOK, r.code, r.err)
		var got struct{ Next plan.Next }
		require.NoError(t, json.Unmarshal([]byte(r.out), &got))
		return got.Next
	}
	change := func(old, new string) {
		file := filepath.Join(dir, "recipes", "debian-12-docker.yaml")
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Contains(t, string(text), old)
		require.NoError(t, os.WriteFile(file, []byte(strings.Replace(string(text), old, new, 1)), 0o600))
	}

	assert.Equal(t, plan.Next{Action: "unknown", Why: "no factory was asked", Changed: []string{}}, next())
	assert.Contains(t, with("plan", "debian-12-docker").out, "next          unknown: no factory was asked\n")

	require.Equal(t, exitOK, with("bake", "debian-12-docker").code)
	assert.Equal(t, plan.Next{Action: "none", Why: "content and release of the published image are those of the recipe", Changed: []string{}}, next())

	change(`accounts: ["210987654321"]`, `accounts: ["210987654321", "444455556666"]`)
	got := next()
	assert.Equal(t, "release", got.Action)
	assert.Equal(t, []string{"distribution.accounts"}, got.Changed)
	text := with("plan", "debian-12-docker").out
	assert.Contains(t, text, "next          release without a bake: the content is that of the published image ami-")
	assert.Contains(t, text, "changed       distribution.accounts\n")
	assert.Contains(t, text, "launches by the accounts that it is shared with keep it for 90d")

	change("sizeGiB: 8", "sizeGiB: 9")
	got = next()
	assert.Equal(t, "bake", got.Action)
	assert.Contains(t, got.Why, "the content differs from that of the published image ami-")
	assert.Equal(t, []string{"builder.rootVolume.sizeGiB", "distribution.accounts"}, got.Changed)
}

// TestPlanAsksADeployedFactory asks over HTTP, with and without the bucket.
func TestPlanAsksADeployedFactory(t *testing.T) {
	f := deployedFactory(t)
	goss := filepath.Join(t.TempDir(), "goss")
	require.NoError(t, os.WriteFile(goss, []byte("stand-in"), 0o600))
	next := func(more ...string) plan.Next {
		r := onAWS(t, append([]string{"plan", "debian-12-docker", "--goss", goss, "-o", "json"}, more...)...)
		require.Equal(t, exitOK, r.code, r.err)
		assert.Contains(t, r.err, "of the embedded AWS at http://127.0.0.1:")
		var got struct{ Next plan.Next }
		require.NoError(t, json.Unmarshal([]byte(r.out), &got))
		return got.Next
	}
	assert.Equal(t, plan.Next{Action: "bake", Why: "no image of the recipe is published", Changed: []string{}}, next())
	require.Equal(t, exitOK, onAWS(t, "build", "debian-12-docker").code)
	assert.Equal(t, "none", next().Action)
	changed := []string{"--component-parameter", "docker.logMaxSize=7m"}
	got := next(changed...)
	assert.Equal(t, "bake", got.Action)
	assert.Contains(t, got.Why, "give --bucket to learn which fields changed")
	got = next(append(changed, "--bucket", f.Bucket)...)
	assert.Equal(t, "bake", got.Action)
	assert.NotEmpty(t, got.Changed)
	got = next("--bucket", "no-such-bucket")
	assert.Equal(t, "none", got.Action, "pointers and tags say so")
	got = next(append(changed, "--bucket", "no-such-bucket")...)
	assert.Equal(t, "unknown", got.Action)
}
