package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/userdata"
)

// withAnAgent is a folder of user data with a recipe that uses a component of
// the name of an agent's.
func withAnAgent(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "userdata")
	require.NoError(t, os.CopyFS(dir, userdata.FS))
	write := func(name, text string) {
		name = filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
		require.NoError(t, os.WriteFile(name, []byte(text), 0o644))
	}
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "components", "newrelic-infra")))
	write("components/newrelic-infra/component.yaml", `name: newrelic-infra
description: a test
families: [debian-12]
order: 40
parameters:
  repository: {type: string, default: "https://vendor.invalid", description: d}
  keyUrl: {type: string, default: "https://vendor.invalid/key", description: d}
  keyFingerprint: {type: string, default: "0000", description: d}
  version: {type: string, description: without a default}
`)
	write("components/newrelic-infra/install.sh", "set -euo pipefail\n")
	write("components/newrelic-infra/checks.yaml", "controls:\n  - {id: AGNT-99, title: t, severity: low, goss: {file: {/etc/hostname: {exists: true}}}}\n")
	recipe, err := os.ReadFile(filepath.Join(dir, "recipes", "debian-12-docker.yaml"))
	require.NoError(t, err)
	text := strings.ReplaceAll(string(recipe), "debian-12-docker", "with-agent")
	write("recipes/with-agent.yaml", strings.Replace(text, "  - name: hygiene\n", "  - name: hygiene\n  - name: newrelic-infra\n", 1))
	return dir
}

func TestABakeWithStandInsForTheAgentsVendorsSaysSo(t *testing.T) {
	tune, state, dir := inProcess(t), filepath.Join(t.TempDir(), "state"), withAnAgent(t)
	bake := func(more ...string) result {
		return call(t, tune, append([]string{"bake", "with-agent", "--userdata", dir, "--guests", "simulated", "--state", state}, more...)...)
	}
	r := bake()
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.err, "needs the parameter version", "nothing is pinned unless somebody says what")

	r = bake("--stand-in-agents")
	require.Equal(t, exitOK, r.code, r.err)
	assert.Contains(t, r.out, "STAND-IN AGENTS: ")
	assert.Regexp(t, `(?m)^guests +simulated .*vendors' agents are stand-ins`, r.out)

	r = bake("--stand-in-agents", "-o", "json")
	require.Equal(t, exitOK, r.code, r.err)
	again := summaryOf(t, r.out)
	assert.Equal(t, "UpToDate", again.Status, "the keys are kept, so nothing has changed")
	assert.True(t, again.StandInAgents)

	r = bake("--stand-in-agents", "-o", "json", "--force")
	require.Equal(t, exitOK, r.code, r.err)
	s := summaryOf(t, r.out)
	assert.Equal(t, again.Fingerprint, s.Fingerprint)
	for _, file := range []string{s.Report, s.ReportJSON} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.Regexp(t, `agents are stand-ins`, string(text), file)
	}
	raw, err := os.ReadFile(s.ReportJSON)
	require.NoError(t, err)
	var report struct {
		Components []struct {
			Name       string
			Parameters map[string]string
		}
	}
	require.NoError(t, json.Unmarshal(raw, &report))
	var given map[string]string
	for _, c := range report.Components {
		if c.Name == "newrelic-infra" {
			given = c.Parameters
		}
	}
	assert.Equal(t, "http://vendors.localcloud.internal/apt/newrelic", given["repository"])
	assert.Equal(t, "http://vendors.localcloud.internal/keys/newrelic.asc", given["keyUrl"])
	assert.Regexp(t, `^[0-9A-F]{40}$`, given["keyFingerprint"])
	assert.Regexp(t, `\+standin$`, given["version"])

	r = bake("--stand-in-agents", "-o", "json", "--component-parameter", "newrelic-infra.version=1.60.1+standin")
	require.Equal(t, exitOK, r.code, r.err)
	assert.NotEqual(t, s.Fingerprint, summaryOf(t, r.out).Fingerprint, "what is given goes before what stands in")
	info, err := os.Stat(filepath.Join(state, "stand-in-keys", "newrelic.key"))
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}
