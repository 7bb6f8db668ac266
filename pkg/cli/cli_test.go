package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
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
	"github.com/ami-factory/ami-factory/test/golden"
)

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
	withoutAWS(t)
	return callAsIs(ctx, t, tune, args...)
}

// withoutAWS is an environment that names no AWS.
func withoutAWS(t *testing.T) {
	t.Helper()
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "")
		}
	}
}

// callAsIs runs a command in the environment as it is.
func callAsIs(ctx context.Context, t *testing.T, tune func(*rehearsal.Options), args ...string) result {
	t.Helper()
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

func TestEveryCommandHasHelpWithAnExample(t *testing.T) {
	var visit func(c *cobra.Command, path []string)
	visit = func(c *cobra.Command, path []string) {
		t.Run(strings.Join(append([]string{"ami-factory"}, path...), " "), func(t *testing.T) {
			assert.NotEmpty(t, c.Short)
			assert.Contains(t, c.Example, "ami-factory "+strings.Join(path, " "))
			r := call(t, nil, append(path, "--help")...)
			assert.Equal(t, exitOK, r.code)
			assert.Empty(t, r.err)
			golden.Testdata(t, filepath.Join("help", strings.Join(append([]string{"ami-factory"}, path...), "-")+".txt"), r.out)
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
		"an unknown command":                {[]string{"bakee"}, exitUsage, []string{`unknown command "bakee"`, "did you mean bake?", "ami-factory --help"}},
		"an unknown command of a group":     {[]string{"images", "shw"}, exitUsage, []string{`unknown command "shw"`, "did you mean show?", "ami-factory images --help"}},
		"an unknown flag":                   {[]string{"bake", "x", "--fast"}, exitUsage, []string{"--fast", "ami-factory bake --help"}},
		"no recipe to bake":                 {[]string{"bake"}, exitUsage, []string{"takes one RECIPE, and none was given", "Usage: ami-factory bake RECIPE"}},
		"two recipes to bake":               {[]string{"bake", "a", "b"}, exitUsage, []string{"takes one RECIPE", `["a" "b"] was given`}},
		"an argument where none belongs":    {[]string{"images", "list", "x"}, exitUsage, []string{"takes no arguments"}},
		"an output that is not known":       {[]string{"lint", "--output", "xml"}, exitUsage, []string{`"xml"`, "allowed: text, json"}},
		"a kind of guests not known":        {[]string{"bake", "debian-12-docker", "--guests", "docker"}, exitUsage, []string{`"docker"`, "allowed: vm, container, simulated"}},
		"the same for images":               {[]string{"images", "list", "--guests", "docker"}, exitUsage, []string{`"docker"`, "allowed: vm, container, simulated"}},
		"a base without its digest":         {[]string{"bake", "debian-12-docker", "--base-url", "https://example.org/x"}, exitUsage, []string{"--base-sha256"}},
		"an export to nowhere":              {[]string{"images", "export", "ami-1"}, exitUsage, []string{"takes one IMAGE and the qcow2 FILE to write"}},
		"an unknown recipe to bake":         {[]string{"bake", "debian-99"}, exitUsage, []string{`unknown recipe "debian-99"`, "debian-12-docker"}},
		"an unknown recipe to plan":         {[]string{"plan", "debian-99"}, exitUsage, []string{`unknown recipe "debian-99"`, "debian-12-docker"}},
		"an unknown recipe to check":        {[]string{"lint", "debian-99"}, exitUsage, []string{`unknown recipe "debian-99"`, "debian-12-docker"}},
		"a file that does not exist":        {[]string{"lint", "no/such.yaml"}, exitUsage, []string{"no/such.yaml does not exist"}},
		"a folder without recipes":          {[]string{"lint", "--userdata", "testdata"}, exitUsage, []string{"testdata has no folder recipes"}},
		"programs that are not built":       {[]string{"bake", "debian-12-docker", "--guests", "simulated", "--functions", "no/such"}, exitFailed, []string{"not built", "make build", "--functions"}},
		"-v where nothing is verbose":       {[]string{"-v"}, exitUsage, []string{"unknown shorthand flag: 'v'"}},
		"-o as the file of an export":       {[]string{"images", "export", "ami-1", "-o", "disk.qcow2"}, exitUsage, []string{"takes one IMAGE and the qcow2 FILE to write"}},
		"a folder to check":                 {[]string{"lint", "./testdata"}, exitUsage, []string{"testdata is a folder", "name of a recipe or the path of a file"}},
		"no recipes to check":               {[]string{"lint", "--userdata", "EMPTY"}, exitUsage, []string{"there are no recipes to check"}},
		"no recipes to examine":             {[]string{"doctor", "--userdata", "EMPTY", "--region", "eu-west-1"}, exitUsage, []string{"there are no recipes"}},
		"a spec that does not exist":        {[]string{"userdata", "check", "no/such.yaml"}, exitUsage, []string{"no/such.yaml does not exist", "userdata/examples/web-service.yaml"}},
		"one to render":                     {[]string{"userdata", "render", "no/such.yaml"}, exitUsage, []string{"no/such.yaml does not exist"}},
		"one to try":                        {[]string{"userdata", "try", "no/such.yaml", "--image", "debian-12-docker"}, exitUsage, []string{"no/such.yaml does not exist"}},
		"a folder of specs":                 {[]string{"userdata", "check", "testdata"}, exitUsage, []string{"testdata is a folder"}},
		"a source to plan that is no AMI":   {[]string{"plan", "debian-12-docker", "--source", "ami-0123"}, exitUsage, []string{`source "ami-0123" is not an AMI id`}},
		"one to bake":                       {[]string{"bake", "debian-12-docker", "--source", "ami-0123"}, exitUsage, []string{`source "ami-0123" is not an AMI id`}},
		"an image to show that is no id":    {[]string{"images", "show", "debian-12-docker"}, exitUsage, []string{`"debian-12-docker" is not an AMI id`, "images list"}},
		"one to export":                     {[]string{"images", "export", "ami-1", "disk.qcow2"}, exitUsage, []string{`"ami-1" is not an AMI id`}},
		"one to try a spec on":              {[]string{"userdata", "try", "testdata/broken.yaml", "--image", "ami-1"}, exitUsage, []string{`"ami-1" is not an AMI id`}},
		"a region of no partition":          {[]string{"images", "list", "--region", "xx-east-9"}, exitUsage, []string{`--region: there is no region "xx-east-9"`}},
		"one of doctor":                     {[]string{"doctor", "--region", "xx-east-9"}, exitUsage, []string{`--region: there is no region "xx-east-9"`}},
		"one of build":                      {[]string{"build", "debian-12-docker", "--region", "eu-west"}, exitUsage, []string{`--region: there is no region "eu-west"; did you mean "eu-west-1"?`}},
		"a state machine that is no ARN":    {[]string{"doctor", "--state-machine", "x", "--region", "eu-west-1"}, exitUsage, []string{"not the ARN of a state machine"}},
		"a subnet that is no id":            {[]string{"doctor", "--subnet-ids", "x", "--region", "eu-west-1"}, exitUsage, []string{`--subnet-ids: "x" is not an id such as subnet-`}},
		"a security group that is no id":    {[]string{"doctor", "--security-group-ids", "subnet-0123456789abcdef0", "--region", "eu-west-1"}, exitUsage, []string{"--security-group-ids", "such as sg-"}},
		"an unknown recipe to examine":      {[]string{"doctor", "--recipe", "debian-12-dockr"}, exitUsage, []string{`there is no recipe "debian-12-dockr"; did you mean "debian-12-docker"?`}},
		"an unknown component":              {[]string{"components", "show", "dockr"}, exitUsage, []string{`unknown component "dockr"; did you mean "docker"?`}},
		"an address for all":                {[]string{"local", "up", "--listen", "0.0.0.0:4566"}, exitUsage, []string{`--listen: refusing to listen on "0.0.0.0:4566"`}},
		"a digest that is none":             {[]string{"bake", "debian-12-docker", "--base-url", "https://example.org/x", "--base-sha256", "y"}, exitUsage, []string{"64 hexadecimal digits"}},
		"an address of a base that is none": {[]string{"bake", "debian-12-docker", "--base-url", "x", "--base-sha256", strings.Repeat("0", 64)}, exitUsage, []string{`--base-url is "x"`}},
		"an unknown shell":                  {[]string{"completion", "foo"}, exitUsage, []string{`unknown command "foo" of ami-factory completion`}},
		"an unknown field":                  {[]string{"recipes", "fields", "nope"}, exitUsage, []string{`a recipe has no field "nope"`}},
		"an unknown schema":                 {[]string{"schema", "nope"}, exitUsage, []string{`there is no schema of "nope"`}},
		"a state that does not exist":       {[]string{"images", "list", "--state", "no/such"}, exitFailed, []string{"there is no embedded AWS in", "no/such", "--state", "--guests"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			if i := slices.Index(tc.args, "EMPTY"); i >= 0 {
				tc.args[i] = t.TempDir()
				require.NoError(t, os.Mkdir(filepath.Join(tc.args[i], "recipes"), 0o700))
			}
			r := call(t, nil, tc.args...)
			assert.Equal(t, tc.code, r.code, r.err)
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
	golden.Testdata(t, "broken.txt", r.err)
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
	assert.Regexp(t, `(?m)^DOCK-01 +high +`, page.out)
	assert.Regexp(t, `(?m)^logMaxSize +string +10m +`, page.out)
	assert.NotContains(t, page.out, "|", "it is for people, not Markdown")

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
	assert.Equal(t, exitUsage, unknown.code)
	assert.Contains(t, unknown.err, `unknown component "dockr"; did you mean "docker"? (there are: `)
}

func TestRecipesAreListedAndTheirFieldsDescribed(t *testing.T) {
	list := call(t, nil, "recipes", "list")
	assert.Equal(t, exitOK, list.code, list.err)
	assert.Regexp(t, `(?m)^debian-12-docker +debian-12 +x86_64 +Debian 12 with Docker, `, list.out)
	var views []recipeView
	require.NoError(t, json.Unmarshal([]byte(call(t, nil, "recipes", "list", "-o", "json").out), &views))
	assert.Len(t, views, strings.Count(list.out, "\n")-1)

	all := call(t, nil, "recipes", "fields")
	assert.Equal(t, exitOK, all.code, all.err)
	for _, f := range recipe.Fields() {
		assert.Contains(t, all.out, "\n    "+f.Meaning+"\n", f.Path)
	}
	one := call(t, nil, "recipes", "fields", "builder.timeout")
	assert.Equal(t, result{exitOK, `builder.timeout  (duration such as 45m, 2h or 90d; default 45m)
    The time limit from the launch of the builder until its components are installed.
    allowed: 5m to 6h
    decides: the image's content
    example: 1h30m
`, ""}, one)
	below := call(t, nil, "recipes", "fields", "components")
	assert.Contains(t, below.out, "components[].name  (text; required)\n")
	assert.NotContains(t, below.out, "builder")

	unknown := call(t, nil, "recipes", "fields", "builder.timout")
	assert.Equal(t, exitUsage, unknown.code)
	assert.Contains(t, unknown.err, `a recipe has no field "builder.timout"; did you mean "builder.timeout"?`)
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

func TestErrorsAreDataUnderOutputJSON(t *testing.T) {
	for sentence, tc := range map[string]struct {
		args  []string
		code  int
		says  string
		place string
	}{
		"an unknown recipe":          {[]string{"bake", "debian-99"}, exitUsage, `unknown recipe "debian-99"`, ""},
		"an unknown recipe to check": {[]string{"lint", "debian-99"}, exitUsage, `unknown recipe "debian-99"`, ""},
		"an unknown component":       {[]string{"components", "show", "dockr"}, exitUsage, `unknown component "dockr"; did you mean "docker"?`, ""},
		"no state":                   {[]string{"images", "list", "--state", "no/such"}, exitFailed, "there is no embedded AWS in", ""},
		"no argument":                {[]string{"bake"}, exitUsage, "takes one RECIPE", ""},
		"an unknown flag before":     {[]string{"lint", "--bogus"}, exitUsage, "unknown flag: --bogus", ""},
		"a spec without a file":      {[]string{"userdata", "check", "no/such.yaml"}, exitUsage, "no/such.yaml does not exist", ""},
		"a wrong parameter":          {[]string{"bake", "debian-12-docker", "--component-parameter", "docker.x=1"}, exitFailed, "1 problem", "component parameters of the deployment"},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := call(t, inProcess(t), append(tc.args, "--output", "json")...)
			assert.Equal(t, tc.code, r.code)
			assert.NotEmpty(t, r.err, "people read it too")
			var got failed
			require.NoError(t, json.Unmarshal([]byte(r.out), &got), r.out)
			assert.Contains(t, got.Error, tc.says)
			assert.Equal(t, tc.code, got.ExitCode)
			if tc.place != "" {
				require.NotEmpty(t, got.Problems)
				assert.Equal(t, tc.place, got.Problems[0].File)
			}
		})
	}
}

func TestVersion(t *testing.T) {
	text := call(t, nil, "version")
	assert.Equal(t, exitOK, text.code)
	assert.Regexp(t, `^ami-factory \S+, go1\.\d+\S*, \w+/\w+\n$`, text.out)
	var got struct{ Version string }
	require.NoError(t, json.Unmarshal([]byte(call(t, nil, "version", "-o", "json").out), &got))
	assert.Equal(t, version(), got.Version)
	assert.Contains(t, call(t, nil, "--version").out, version())
}

// A shell asks the program itself, by a hidden command.
func TestShellsCompleteNames(t *testing.T) {
	for sentence, tc := range map[string]struct {
		args []string
		want string
	}{
		"recipes to bake":        {[]string{"bake", ""}, "debian-12-docker\n"},
		"recipes to build":       {[]string{"build", ""}, "debian-12-docker\n"},
		"recipes to check":       {[]string{"lint", "debian-12-docker", ""}, "debian-12-full\n"},
		"kinds of guests":        {[]string{"bake", "x", "--guests", ""}, "container\nsimulated\nvm\n"},
		"components":             {[]string{"components", "show", ""}, "hardening\n"},
		"fields of a recipe":     {[]string{"recipes", "fields", ""}, "builder.timeout\n"},
		"formats":                {[]string{"lint", "--output", ""}, "text\njson\n"},
		"images to try on":       {[]string{"userdata", "try", "x", "--image", ""}, "debian-12-full\n"},
		"nothing after one name": {[]string{"bake", "debian-12-docker", ""}, ":4\n"},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := call(t, nil, append([]string{"__complete"}, tc.args...)...)
			assert.Equal(t, exitOK, r.code, r.err)
			assert.Contains(t, r.out, tc.want)
		})
	}
}

func TestAnAWSThatTheEnvironmentNamesIsAskedAndSaid(t *testing.T) {
	state := filepath.Join(t.TempDir(), "none")
	for sentence, tc := range map[string]struct {
		env  map[string]string
		args []string
		says string // of where was looked
	}{
		"a profile":                 {map[string]string{"AWS_PROFILE": "absent-profile"}, nil, "absent-profile"},
		"credentials":               {map[string]string{"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "x"}, nil, "no region is configured"},
		"a profile, but the state":  {map[string]string{"AWS_PROFILE": "absent-profile"}, []string{"--state", state}, "there is no embedded AWS in"},
		"a profile, but the guests": {map[string]string{"AWS_PROFILE": "absent-profile"}, []string{"--guests", "simulated", "--state", state}, "there is no embedded AWS in"},
		"nothing":                   {nil, []string{"--state", state}, "there is no embedded AWS in"},
	} {
		t.Run(sentence, func(t *testing.T) {
			withoutAWS(t)
			t.Setenv("HOME", t.TempDir())
			t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
			for name, value := range tc.env {
				t.Setenv(name, value)
			}
			for _, command := range [][]string{{"images", "list"}, {"images", "show", "ami-0123456789abcdef0"}} {
				r := callAsIs(t.Context(), t, nil, append(command, tc.args...)...)
				assert.NotEqual(t, exitOK, r.code)
				assert.Contains(t, r.err, tc.says)
			}
		})
	}
}

func TestAnEndpointIsNamedForWhatItIs(t *testing.T) {
	for endpoint, want := range map[string]string{
		"":                                "AWS",
		"http://127.0.0.1:4566":           "the embedded AWS at http://127.0.0.1:4566",
		"http://localhost:4566":           "the embedded AWS at http://localhost:4566",
		"http://[::1]:4566":               "the embedded AWS at http://[::1]:4566",
		"https://ec2.eu-west-1.api.aws":   "the endpoint https://ec2.eu-west-1.api.aws",
		"https://vpce-1.example.com:8443": "the endpoint https://vpce-1.example.com:8443",
	} {
		withoutAWS(t)
		t.Setenv("AWS_ENDPOINT_URL", endpoint)
		assert.Equal(t, want, whichAWS())
	}
}

func TestColoursOfATerminal(t *testing.T) {
	for sentence, tc := range map[string]struct{ text, want string }{
		"an error":      {"a.yaml:1:2: error: x\n", "a.yaml:1:2: \x1b[31merror\x1b[0m: x\n"},
		"a warning":     {"a.yaml:1:2: warning: x\n", "a.yaml:1:2: \x1b[33mwarning\x1b[0m: x\n"},
		"published":     {"status        Published in 4s\n", "status        \x1b[32mPublished\x1b[0m in 4s\n"},
		"rejected":      {"status        Rejected in 4s\n", "status        \x1b[31mRejected\x1b[0m in 4s\n"},
		"simulated":     {"SIMULATED: no guest\n", "\x1b[33mSIMULATED\x1b[0m: no guest\n"},
		"anything else": {"    5 | error\n", "    5 | error\n"},
		"several lines": {"a: error: x\nb: error: y\n", "a: \x1b[31merror\x1b[0m: x\nb: \x1b[31merror\x1b[0m: y\n"},
	} {
		t.Run(sentence, func(t *testing.T) {
			var out strings.Builder
			n, err := painter{&out}.Write([]byte(tc.text))
			require.NoError(t, err)
			assert.Equal(t, len(tc.text), n)
			assert.Equal(t, tc.want, out.String())
		})
	}
	assert.False(t, takesColour(&strings.Builder{}), "a file or a pipe gets none")
}
