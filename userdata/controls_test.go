//go:build linux

package userdata_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/test/breaks"
	"github.com/ami-factory/ami-factory/userdata"
)

// checker puts the check engine and the controls of components into a guest.
func (g *guest) checker(t *testing.T, names ...string) []compliance.Control {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "goss")
	command := exec.CommandContext(t.Context(), "go", "build", "-ldflags", "-s -w", "-o", binary, "github.com/goss-org/goss/cmd/goss")
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	output, err := command.CombinedOutput()
	require.NoError(t, err, "%s", output)
	goss, err := os.ReadFile(binary)
	require.NoError(t, err)
	var sets []compliance.Set
	for _, name := range names {
		c, problems, err := component.Load(userdata.FS, name)
		require.NoError(t, err)
		require.Empty(t, problems)
		values := map[string]string{}
		for parameter, p := range c.Parameters {
			if p.Default != nil {
				values[parameter] = string(*p.Default)
			}
		}
		sets = append(sets, compliance.Set{Component: name, Values: values, Specs: c.Controls})
	}
	checks, controls, err := compliance.Compile(sets)
	require.NoError(t, err)
	g.write(t, "/root/goss", 0o755, goss)
	g.write(t, "/root/checks.yaml", 0o644, checks)
	return controls
}

// failures runs the checks and returns the controls that fail, with what was found.
func (g *guest) failures(t *testing.T) map[string]string {
	t.Helper()
	result, err := g.exec(t.Context(), nil, "/root/goss --gossfile /root/checks.yaml validate --format json --no-color --max-concurrent 4")
	require.NoError(t, err)
	var verdict struct {
		Results []struct {
			Successful bool   `json:"successful"`
			ResourceID string `json:"resource-id"`
			Property   string `json:"property"`
			Summary    string `json:"summary-line"`
		} `json:"results"`
	}
	require.NoError(t, json.Unmarshal(result.Stdout, &verdict), "%s%s", result.Stdout, result.Stderr)
	require.NotEmpty(t, verdict.Results)
	failed := map[string]string{}
	for _, r := range verdict.Results {
		if id, _, _ := strings.Cut(r.ResourceID, "|"); !r.Successful {
			failed[id] += r.Summary + "\n"
		}
	}
	return failed
}

// failing is failures of all controls: there are few.
func (g *guest) failing(t *testing.T, _ string) map[string]string {
	t.Helper()
	return g.failures(t)
}

func TestControlsOfServicesHoldAndFailWhenBroken(t *testing.T) {
	g := bootGuest(t)
	const components = `  - {name: docker}
  - {name: filesystem}
  - name: boot
    parameters: {services: "docker.service=docker info"}
`
	g.install(t, components)
	g.reboot(t)
	var report bootReport
	require.Equal(t, "active", g.boot(t, &report), "%+v", report)
	var ids []string
	for _, c := range g.checker(t, "docker", "filesystem", "boot") {
		ids = append(ids, c.ID)
	}
	assert.Greater(t, breaks.Each(t, ids, g.run, g.failing), 18)
}
