package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/rehearsal"
)

var update = flag.Bool("update", false, "write the golden files anew")

// buffer may be read while a command writes to it.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

type result struct {
	code     int
	out, err string
}

// call runs a command as Main does.
func call(t *testing.T, tune func(*rehearsal.Options), args ...string) result {
	t.Helper()
	return callIn(t.Context(), t, tune, args...)
}

func callIn(ctx context.Context, t *testing.T, tune func(*rehearsal.Options), args ...string) result {
	t.Helper()
	for _, name := range []string{"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_EC2", "AWS_PROFILE"} {
		t.Setenv(name, "")
	}
	var out, errOut buffer
	a := &app{in: strings.NewReader(""), out: &out, err: &errOut, tune: tune}
	code := a.run(ctx, args)
	return result{code, out.String(), errOut.String()}
}

// inProcess are simulated guests on a virtual clock, with the stages in this
// process.
func inProcess(t *testing.T) func(*rehearsal.Options) {
	t.Helper()
	dir := t.TempDir()
	goss := filepath.Join(dir, "goss")
	require.NoError(t, os.WriteFile(goss, []byte("stand-in"), 0o600))
	now := clock.NewVirtual(time.Date(2026, 11, 1, 3, 0, 0, 0, time.UTC))
	return func(o *rehearsal.Options) {
		o.FunctionsDir, o.GossFile, o.CacheDir, o.Clock = "", goss, filepath.Join(dir, "cache"), now
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "run the test with -update to write it")
	assert.Equal(t, string(want), got)
}

func TestEveryCommandHasHelpWithAnExample(t *testing.T) {
	var visit func(c *cobra.Command, path []string)
	visit = func(c *cobra.Command, path []string) {
		t.Run(strings.Join(append([]string{"ami-factory"}, path...), " "), func(t *testing.T) {
			assert.NotEmpty(t, c.Short)
			assert.Contains(t, c.Example, "ami-factory "+strings.Join(path, " "))
			r := call(t, nil, append(path, "--help")...)
			assert.Equal(t, exitOK, r.code)
			assert.Empty(t, r.err)
			golden(t, filepath.Join("help", strings.Join(append([]string{"ami-factory"}, path...), "-")+".txt"), r.out)
		})
		for _, child := range c.Commands() {
			if child.Name() != "help" && child.Name() != "completion" {
				visit(child, append(path[:len(path):len(path)], child.Name()))
			}
		}
	}
	visit((&app{}).root(), nil)
}

func TestWrongUse(t *testing.T) {
	for sentence, tc := range map[string]struct {
		args []string
		code int
		says []string
	}{
		"an unknown command":             {[]string{"bakee"}, exitUsage, []string{`unknown command "bakee"`, "did you mean bake?", "ami-factory --help"}},
		"an unknown command of a group":  {[]string{"images", "shw"}, exitUsage, []string{`unknown command "shw"`, "did you mean show?", "ami-factory images --help"}},
		"an unknown flag":                {[]string{"bake", "x", "--fast"}, exitUsage, []string{"--fast", "ami-factory bake --help"}},
		"no recipe to bake":              {[]string{"bake"}, exitUsage, []string{"takes one RECIPE, and none was given", "Usage: ami-factory bake RECIPE"}},
		"two recipes to bake":            {[]string{"bake", "a", "b"}, exitUsage, []string{"takes one RECIPE", `["a" "b"] was given`}},
		"an argument where none belongs": {[]string{"images", "list", "x"}, exitUsage, []string{"takes no arguments"}},
		"an output that is not known":    {[]string{"lint", "--output", "xml"}, exitUsage, []string{`"xml"`, "allowed: text, json"}},
		"a kind of guests not known":     {[]string{"bake", "debian-12-docker", "--guests", "docker"}, exitUsage, []string{`"docker"`, "allowed: vm, container, simulated"}},
		"the same for images":            {[]string{"images", "list", "--guests", "docker"}, exitUsage, []string{`"docker"`, "allowed: vm, container, simulated"}},
		"a base without its digest":      {[]string{"bake", "debian-12-docker", "--base-url", "https://example.org/x"}, exitUsage, []string{"--base-sha256"}},
		"an export to nowhere":           {[]string{"images", "export", "ami-1"}, exitUsage, []string{"--output is required"}},
		"an unknown recipe to bake":      {[]string{"bake", "debian-99"}, exitFailed, []string{`unknown recipe "debian-99"`, "debian-12-docker"}},
		"an unknown recipe to plan":      {[]string{"plan", "debian-99"}, exitFailed, []string{`unknown recipe "debian-99"`, "debian-12-docker"}},
		"an unknown recipe to check":     {[]string{"lint", "debian-99"}, exitFailed, []string{`unknown recipe "debian-99"`, "debian-12-docker"}},
		"a file that does not exist":     {[]string{"lint", "no/such.yaml"}, exitFailed, []string{"no/such.yaml does not exist"}},
		"a folder without recipes":       {[]string{"lint", "--userdata", "testdata"}, exitFailed, []string{"testdata has no folder recipes"}},
		"programs that are not built":    {[]string{"bake", "debian-12-docker", "--guests", "simulated", "--functions", "no/such"}, exitFailed, []string{"not built", "make build", "--functions"}},
		"a state that does not exist":    {[]string{"images", "list", "--state", "no/such"}, exitFailed, []string{"there is no embedded AWS in", "no/such", "--state", "--guests"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := call(t, nil, tc.args...)
			assert.Equal(t, tc.code, r.code)
			assert.Empty(t, r.out)
			for _, text := range tc.says {
				assert.Contains(t, r.err, text)
			}
		})
	}
}

func TestLintOfTheProjectsRecipes(t *testing.T) {
	r := call(t, nil, "lint")
	assert.Equal(t, exitOK, r.code)
	assert.Equal(t, "no errors\n", r.out)
	assert.Contains(t, r.err, "recipes/al2023-docker.yaml:4:9: warning: never run on a guest of al2023: ")
	assert.NotContains(t, r.err, "error: ")
	r = call(t, nil, "lint", "debian-12-docker", "--output", "json")
	assert.Equal(t, exitOK, r.code)
	assert.JSONEq(t, `{"errors":0,"warnings":0,"problems":[]}`, r.out)
}

func TestLintPrintsEveryProblemWithItsPlace(t *testing.T) {
	r := call(t, nil, "lint", "testdata/broken.yaml")
	assert.Equal(t, exitFailed, r.code)
	assert.Empty(t, r.out)
	golden(t, "broken.txt", r.err)
	assert.Contains(t, r.err, "testdata/broken.yaml:5:1: error: ")
	assert.Contains(t, r.err, "    5 | colour: blue\n      | ^\n")

	r = call(t, nil, "lint", "testdata/broken.yaml", "-o", "json")
	assert.Equal(t, exitFailed, r.code)
	assert.Empty(t, r.err)
	var got struct {
		Errors   int
		Problems []struct {
			File         string
			Line, Column int
		}
	}
	require.NoError(t, json.Unmarshal([]byte(r.out), &got))
	assert.Greater(t, got.Errors, 4, "several in one pass")
	assert.Equal(t, "testdata/broken.yaml", got.Problems[0].File)
	assert.Positive(t, got.Problems[0].Column)
}

func TestABrokenRecipeStartsNothing(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(filepath.Join("..", "..", "userdata"))))
	broken, err := os.ReadFile(filepath.Join("testdata", "broken.yaml"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "recipes", "broken.yaml"), broken, 0o600))
	state := filepath.Join(t.TempDir(), "state")
	for _, command := range []string{"bake", "plan"} {
		r := call(t, inProcess(t), command, "broken", "--userdata", dir, "--guests", "simulated", "--state", state)
		assert.Equal(t, exitFailed, r.code, command)
		assert.Empty(t, r.out, command)
		assert.Contains(t, r.err, "recipes/broken.yaml:5:1: error: ", command)
		assert.NoDirExists(t, state, command)
	}
}

func TestADeploymentsParametersAreGivenByFlag(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	plan := func(more ...string) string {
		r := call(t, inProcess(t), append([]string{"plan", "debian-12-docker", "--state", state, "--output", "json"}, more...)...)
		require.Equal(t, exitOK, r.code, r.err)
		var got struct{ Fingerprint string }
		require.NoError(t, json.Unmarshal([]byte(r.out), &got))
		return got.Fingerprint
	}
	assert.NotEqual(t, plan(), plan("--component-parameter", "docker.logMaxSize=7m"))
	for _, command := range []string{"lint", "plan", "bake"} {
		r := call(t, inProcess(t), command, "debian-12-docker", "--component-parameter", "docker.logMaxSiez=7m")
		assert.Equal(t, exitFailed, r.code)
		assert.Contains(t, r.err, `component parameters of the deployment: error: component docker has no parameter "logMaxSiez"; did you mean "logMaxSize"?`, command)
	}
	r := call(t, nil, "lint", "--component-parameter", "docker=7")
	assert.Equal(t, exitUsage, r.code)
	assert.Contains(t, r.err, "COMPONENT.PARAMETER=VALUE is expected")
}

func TestSchema(t *testing.T) {
	r := call(t, nil, "schema")
	assert.Equal(t, result{exitOK, string(recipe.Schema()), ""}, r)
}

func TestComponentsAreListedAndShown(t *testing.T) {
	list := call(t, nil, "components", "list")
	assert.Equal(t, exitOK, list.code, list.err)
	assert.Regexp(t, `(?m)^hardening +\d+ +.*debian-12`, list.out)

	page := call(t, nil, "components", "show", "docker")
	assert.Equal(t, exitOK, page.code, page.err)
	assert.Contains(t, page.out, "| DOCK-01 | high |")

	var shown struct {
		Parameters map[string]struct{ Default *string }
		Controls   []struct{ ID string }
	}
	asJSON := call(t, nil, "components", "show", "docker", "--output", "json")
	require.NoError(t, json.Unmarshal([]byte(asJSON.out), &shown))
	require.NotNil(t, shown.Parameters["logMaxSize"].Default)
	assert.Equal(t, "10m", *shown.Parameters["logMaxSize"].Default)
	assert.NotEmpty(t, shown.Controls)

	unknown := call(t, nil, "components", "show", "dockr")
	assert.Equal(t, exitFailed, unknown.code)
	assert.Contains(t, unknown.err, `unknown component "dockr" (there are: `)
}

func TestPlanWithoutAStateIsForAStandIn(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	r := call(t, inProcess(t), "plan", "debian-12-docker", "--state", state)
	assert.Equal(t, exitOK, r.code, r.err)
	assert.Contains(t, r.err, "stand-in")
	for _, text := range []string{"fingerprint", "not resolved", "eu-west-1 (home)", "eu-central-1", "hardening", "medium"} {
		assert.Contains(t, r.out, text)
	}
	r = call(t, inProcess(t), "plan", "debian-12-docker", "--state", state, "--output", "json")
	assert.Equal(t, exitOK, r.code, r.err)
	assert.Contains(t, r.err, "stand-in")
	var got struct {
		Recipe, Fingerprint string
		Targets             []struct{ Region string }
	}
	require.NoError(t, json.Unmarshal([]byte(r.out), &got))
	assert.Equal(t, "debian-12-docker", got.Recipe)
	assert.Len(t, got.Fingerprint, 64)
	assert.Len(t, got.Targets, 2)
	assert.NoDirExists(t, state, "nothing is written")
}
