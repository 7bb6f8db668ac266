package plan_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v4"

	"github.com/ami-factory/ami-factory/pkg/baseline"
	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/problem"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/test/golden"
	"github.com/ami-factory/ami-factory/userdata"
)

var now = time.Date(2026, 11, 23, 17, 41, 55, 0, time.UTC)

// tree reads the sample user data into memory, so that tests can change it.
func tree(t *testing.T) fstest.MapFS {
	t.Helper()
	out := fstest.MapFS{}
	root := os.DirFS("testdata/userdata")
	require.NoError(t, fs.WalkDir(root, ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(root, file)
		out[file] = &fstest.MapFile{Data: data}
		return err
	}))
	require.NotEmpty(t, out)
	return out
}

// input is a recipe, what it uses, and the rest of what decides its plan.
type input struct {
	Recipe     *recipe.Recipe
	UserData   fs.FS
	Parameters component.Deployment
	plan.Input
}

func sample(t *testing.T, fsys fs.FS) input {
	t.Helper()
	r, problems, err := recipe.Load(fsys, "sample", recipe.Options{Now: now})
	require.NoError(t, err)
	require.Empty(t, problems)
	return input{
		Recipe:   r,
		UserData: fsys,
		Input: plan.Input{
			Source: plan.SourceImage{
				ImageID: "ami-0123456789abcdef0", Name: "debian-12-amd64-20261115-2298", OwnerID: "136693071363",
				Architecture: "x86_64", RootDevice: "/dev/xvda", CreationDate: "2026-11-15T00:00:00.000Z",
			},
			CheckEngine:    strings.Repeat("e", 64),
			FactoryVersion: "1.2.3",
			ExecutionName:  "sample-1",
			ExecutionStart: now,
		},
	}
}

func draft(t *testing.T, in input) (plan.Draft, problem.List) {
	t.Helper()
	c, err := plan.Open(in.UserData, in.Parameters, now)
	require.NoError(t, err)
	d, problems, err := c.Draft(in.Recipe)
	require.NoError(t, err)
	return d, problems
}

func build(t *testing.T, in input) (*plan.BuildPlan, []byte) {
	t.Helper()
	d, problems := draft(t, in)
	// Only planner refuses what is below the baseline.
	problems = slices.DeleteFunc(problems, func(p problem.Problem) bool { return p.Rule == baseline.Rule })
	require.NoError(t, problems.Err())
	p, bundle, err := d.Build(in.Input)
	require.NoError(t, err)
	return p, bundle
}

func TestTheSameInputGivesTheSameBytes(t *testing.T) {
	p, bundle := build(t, sample(t, tree(t)))
	data, err := json.MarshalIndent(p, "", "  ")
	require.NoError(t, err)
	golden.Testdata(t, "plan.json", append(data, '\n'))
	for range 5 {
		again, bundleAgain := build(t, sample(t, tree(t)))
		assert.Equal(t, p, again)
		assert.Equal(t, bundle, bundleAgain)
	}
	var back plan.BuildPlan
	require.NoError(t, json.Unmarshal(data, &back))
	assert.Equal(t, *p, back, "what a later stage reads from S3 is what was planned")
}

func TestADraftSaysWhatCannotBeBuilt(t *testing.T) {
	in := sample(t, tree(t))
	in.Recipe.Components[0].Name = "missing"
	_, problems := draft(t, in)
	require.ErrorContains(t, problems.Err(), `there is no component "missing"`)
}

func TestWithoutASourceNothingIsBuilt(t *testing.T) {
	in := sample(t, tree(t))
	d, problems := draft(t, in)
	require.NoError(t, problems.Err())
	in.Source = plan.SourceImage{}
	_, _, err := d.Build(in.Input)
	require.ErrorContains(t, err, "is not resolved")
	assert.Equal(t, failure.SourceNotFound, failure.CodeOf(err))
}

func TestLintFindsTheProblemsOfRecipesAndComponentsTogether(t *testing.T) {
	fsys := tree(t)
	fsys["recipes/broken.yaml"] = &fstest.MapFile{Data: []byte(strings.NewReplacer(
		"name: sample", "name: broken", "/sample/latest", "/broken/latest", "variant: docker", "variant: ecs", "t3.medium", "t4g.medium", "keep: 3", "keeps: 3",
	).Replace(string(fsys["recipes/sample.yaml"].Data)))}
	problems, err := plan.Lint(fsys, nil, now)
	require.NoError(t, err)
	var b bytes.Buffer
	require.NoError(t, problems.Print(&b))
	golden.Testdata(t, "lint.txt", b.Bytes())

	problems, err = plan.Lint(fsys, nil, now, "sample")
	require.NoError(t, err)
	assert.Empty(t, problems)
	_, err = plan.Lint(fsys, nil, now, "nothing")
	require.ErrorIs(t, err, recipe.ErrUnknown)

	problems, err = plan.LintFile("elsewhere/broken.yaml", fsys["recipes/broken.yaml"].Data, fsys, nil, now)
	require.NoError(t, err)
	assert.Equal(t, 3, problems.Count(problem.Error))
	assert.Equal(t, "elsewhere/broken.yaml", problems[0].File)
}

func TestARecipeWhoseBuilderCouldNotBeReachedOnAWSIsAnError(t *testing.T) {
	const message = "does not list the component ssm-agent: on AWS the factory cannot reach such a builder"
	component := func(name string) string {
		text, err := fs.ReadFile(userdata.FS, "components/"+name)
		require.NoError(t, err)
		return string(text)
	}
	for sentence, tc := range map[string]struct {
		family, source, add string
		want                string // part of the message; empty: no problem
	}{
		"Debian's own image by its parameter":              {"debian-12", `{parameter: /aws/service/debian/release/12/latest/amd64, owner: "136693071363"}`, "", "Debian's images have no SSM agent"},
		"Debian's own image by filters":                    {"debian-13", `{owner: "136693071363", filters: [{name: name, values: [debian-13-amd64-*]}]}`, "", "Debian's images have no SSM agent"},
		"Debian's with the component":                      {"debian-12", `{parameter: /a/b, owner: "136693071363"}`, "  - name: ssm-agent\n", ""},
		"Debian's in a recipe for rehearsals only":         {"debian-12", `{parameter: /a/b, owner: "136693071363"}`, "rehearsalOnly: true\n", ""},
		"an image of one's own, of which nothing is known": {"debian-12", `{parameter: /own/base, owner: "111122223333"}`, "", ""},
		"Ubuntu's server has the agent as a snap":          {"ubuntu-24.04", `{parameter: /aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id, owner: "099720109477"}`, "", ""},
		"Ubuntu's minimal server has none":                 {"ubuntu-24.04", `{parameter: /aws/service/canonical/ubuntu/server-minimal/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id, owner: "099720109477"}`, "", "Ubuntu's minimal images have no SSM agent"},
		"Amazon Linux has it":                              {"al2023", `{parameter: /aws/service/ami-amazon-linux-latest/al2023-ami-kernel-6.12-x86_64, owner: "137112412989"}`, "", ""},
		"minimal Amazon Linux, by filters, has not":        {"al2023", `{owner: "137112412989", filters: [{name: name, values: [al2023-ami-minimal-2023.*]}]}`, "", "Amazon's minimal images have no SSM agent"},
	} {
		t.Run(sentence, func(t *testing.T) {
			fsys := tree(t)
			for _, file := range []string{"component.yaml", "checks.yaml", "install.sh", "bootstrap.sh"} {
				fsys["components/ssm-agent/"+file] = &fstest.MapFile{Data: []byte(component("ssm-agent/" + file))}
			}
			text := "name: x-y\ndescription: d\nfamily: " + tc.family + "\narchitecture: x86_64\nsource: " + tc.source +
				"\nbuilder: {instanceTypes: [t3.medium], rootVolume: {sizeGiB: 8}}\ndistribution: {regions: [{name: eu-west-1}]}\n" +
				"pointers: {parameters: [/ami-factory/x-y/latest]}\ncomponents:\n  - name: web\n  - name: base\n" + tc.add
			problems, err := plan.LintFile("x-y.yaml", []byte(text), fsys, nil, now)
			require.NoError(t, err)
			found := slices.DeleteFunc(problems, func(p problem.Problem) bool { return !strings.Contains(p.Message, message) })
			if tc.want == "" {
				assert.Empty(t, found)
				return
			}
			require.Len(t, found, 1)
			assert.Equal(t, problem.Error, found[0].Severity)
			assert.Contains(t, found[0].Message, tc.want)
			assert.Equal(t, 10, found[0].Line, "it points to the list of components")
		})
	}
}

// The agent is the only way into a builder on AWS, so it cannot come with the
// bundle: its script is in the user data, with the recipe's parameters.
func TestTheSSMAgentComesWithTheUserDataItself(t *testing.T) {
	for _, name := range []string{"debian-12-docker", "debian-12-full", "al2023-docker"} {
		r, problems, err := recipe.Load(userdata.FS, name, recipe.Options{Now: now})
		require.NoError(t, err)
		require.Empty(t, problems)
		in := sample(t, tree(t))
		in.Recipe, in.UserData, in.Source.OwnerID = r, userdata.FS, r.Source.Owner
		in.Parameters = component.Deployment{"ssm-agent": {"mirror": "https://mirror.test/it's"}}
		p, _ := build(t, in)
		first, second := strings.Index(p.UserData, `filename="00-ssm-agent.sh"`), strings.Index(p.UserData, `filename="bootstrap.sh"`)
		assert.Positive(t, first, name)
		assert.Greater(t, second, first, "cloud-init runs scripts in the order of their names")
		assert.Contains(t, p.UserData, "export AMI_FACTORY_PARAM_MIRROR='https://mirror.test/it'\\''s'\n")
		assert.Contains(t, p.UserData, "export AMI_FACTORY_FAMILY='"+r.Family+"'\n")
		assert.Contains(t, p.UserData, "export AMI_FACTORY_PARAM_KEY_FINGERPRINT='1C5B395CBE5E74E2F1CA21592784DBF388D19D46'\n")
		assert.LessOrEqual(t, len(p.UserData), 16*1024-4*1024, "there is room for the bundle's URL, and it can be read in the console")
	}
}

func TestUserDataThatDoesNotFitIsAProblemOfTheRecipe(t *testing.T) {
	fsys := tree(t)
	var big strings.Builder
	for i := range 3000 { // digests do not compress
		fmt.Fprintf(&big, "    k%d: %x\n", i, sha256.Sum256([]byte{byte(i), byte(i >> 8)}))
	}
	text := strings.Replace(string(fsys["recipes/sample.yaml"].Data), "  timeout: 45m\n", "  timeout: 45m\n  cloudConfig: |\n    #cloud-config\n"+big.String(), 1)
	fsys["recipes/sample.yaml"] = &fstest.MapFile{Data: []byte(text)}
	problems, err := plan.Lint(fsys, nil, now)
	require.NoError(t, err)
	require.Len(t, problems, 1)
	assert.Regexp(t, `^recipes/sample.yaml:13:16: error: the builder's user data would be \d+ bytes, but EC2 takes at most 16384; .* \(allowed: at most 16384 bytes\)$`, problems[0].String())
}

func TestEverythingOfTheProjectIsClean(t *testing.T) {
	problems, err := plan.Lint(userdata.FS, nil, now)
	require.NoError(t, err)
	var warned []string
	for _, p := range problems {
		assert.Equal(t, problem.Warning, p.Severity, p.Message)
		assert.Contains(t, p.Message, "never run on a guest of ")
		warned = append(warned, p.File)
	}
	assert.Equal(t, []string{"recipes/al2023-docker.yaml", "recipes/ubuntu-24.04-arm64-docker.yaml", "recipes/ubuntu-24.04-docker.yaml"}, warned)
}

func TestWhatWasNeverRunOnAGuestIsAWarningAndPartOfThePlan(t *testing.T) {
	for sentence, tc := range map[string]struct {
		proven string
		want   []string
	}{
		"a component that states the family":    {"proven: [debian-12]\n", nil},
		"a component that states none":          {"proven: []\n", []string{"web"}},
		"a component that makes no such claims": {"", nil},
	} {
		t.Run(sentence, func(t *testing.T) {
			fsys := tree(t)
			file := fsys["components/web/component.yaml"]
			file.Data = append(file.Data, tc.proven...)
			problems, err := plan.Lint(fsys, nil, now, "sample")
			require.NoError(t, err)
			var said []string
			for _, p := range problems {
				if p.Severity == problem.Warning && strings.HasPrefix(p.Message, "never run on a guest of debian-12: web;") {
					said = append(said, "web")
				}
			}
			assert.Equal(t, tc.want, said)
			p, _ := build(t, sample(t, fsys))
			assert.Equal(t, tc.want, p.NeverRun)
			var text bytes.Buffer
			require.NoError(t, p.Preview().WriteText(&text))
			assert.Equal(t, tc.want != nil, strings.Contains(text.String(), "never run     on a guest of this family: web\n"))
		})
	}
}

func TestTheProjectsImageCanBePlanned(t *testing.T) {
	r, _, err := recipe.Load(userdata.FS, "debian-12-docker", recipe.Options{Now: now})
	require.NoError(t, err)
	in := sample(t, tree(t))
	in.Recipe, in.UserData = r, userdata.FS
	p, bundle := build(t, in)
	assert.GreaterOrEqual(t, len(p.Controls), 30)
	assert.NotEmpty(t, bundle)
	assert.Equal(t, "ssm-agent", p.Components[0].Name)
	assert.Equal(t, "docker", p.Components[1].Parameters["variant"])
}

func TestPreview(t *testing.T) {
	p, _ := build(t, sample(t, tree(t)))
	var b bytes.Buffer
	require.NoError(t, p.Preview().WriteText(&b))
	golden.Testdata(t, "preview.txt", b.Bytes())
	b.Reset()
	require.NoError(t, p.Preview().WriteJSON(&b))
	golden.Testdata(t, "preview.json", b.Bytes())
}

func TestWaiversKnowTheirScope(t *testing.T) {
	p, _ := build(t, sample(t, tree(t)))
	w := p.Waivers()
	require.Len(t, w, 1)
	assert.Equal(t, "sample/SYS-03", w[0].ID)
	assert.Equal(t, "sample", w[0].Scope)
}

func TestImageNamesObeyAWS(t *testing.T) {
	allowed := regexp.MustCompile(`^[A-Za-z0-9()\[\] ./'@_-]{3,128}$`)
	fp := strings.Repeat("ab", 32)
	name := plan.ImageName("debian-12-docker", fp, "x", now)
	assert.Equal(t, "debian-12-docker-abababababab-20261123T174155Z-2d7116", name)
	for _, r := range []string{"a", strings.Repeat("long-", 40), "debian-12"} {
		assert.Regexp(t, allowed, plan.ImageName(r, fp, "execution", now))
	}
	assert.NotEqual(t, name, plan.ImageName("debian-12-docker", fp, "y", now), "two executions that start in the same second")
	zone := time.FixedZone("x", 3600)
	assert.Equal(t, name, plan.ImageName("debian-12-docker", fp, "x", now.In(zone)))
}

func TestExecutionNamesObeyStepFunctions(t *testing.T) {
	allowed := regexp.MustCompile(`^[A-Za-z0-9_-]{1,80}$`)
	fp := strings.Repeat("ab", 32)
	assert.Equal(t, "debian-12-docker-abababababababab", plan.ExecutionName("debian-12-docker", fp, ""))
	assert.Equal(t, "debian-12-docker-abababababababab-20261123T174155Z", plan.ExecutionName("debian-12-docker", fp, "20261123T174155Z"))
	seen := map[string]string{}
	for _, trigger := range []string{"", "a", "a b", "a-b", "a/b", "a.b", "é", strings.Repeat("x", 21), strings.Repeat("x", 22), "2026-11-23T17:41:55Z", "2026-11-23T17:41:56Z"} {
		name := plan.ExecutionName(strings.Repeat("recipe-", 20), fp, trigger)
		assert.Regexp(t, allowed, name)
		assert.NotContains(t, seen, name, "%q and %q", trigger, seen[name])
		seen[name] = trigger
	}
}

func TestWhatTheDeploymentGivesIsInPlanAndFingerprint(t *testing.T) {
	in := sample(t, tree(t))
	base, _ := build(t, in)
	in.Parameters = component.Deployment{"web": {"port": "81"}}
	p, _ := build(t, in)
	assert.NotEqual(t, base.Fingerprint, p.Fingerprint)
	assert.Contains(t, p.Components, plan.Component{Name: "web", Parameters: map[string]string{"port": "81"}})
	in.Parameters = component.Deployment{"nothing": {"a": "b"}}
	_, problems := draft(t, in)
	require.ErrorContains(t, problems.Err(), `component parameters of the deployment: error: there is no component "nothing"`)
}

// TestARecipeOfDockerAloneWithAnothersPointerIsRefused is the attack as it was made.
func TestARecipeOfDockerAloneWithAnothersPointerIsRefused(t *testing.T) {
	original, err := fs.ReadFile(userdata.FS, "recipes/debian-12-docker.yaml")
	require.NoError(t, err)
	const components = "  - name: hardening\n    parameters:\n      variant: docker\n  - name: docker\n  - name: hygiene\n"
	require.Contains(t, string(original), components)
	text := strings.NewReplacer("name: debian-12-docker\n", "name: quick\n", components, "  - name: docker\n", "severity: medium", "severity: critical").Replace(string(original))
	problems, err := plan.LintFile("drafts/quick.yaml", []byte(text), userdata.FS, nil, now)
	require.NoError(t, err)
	var got []string
	for _, p := range problems {
		got = append(got, p.Message)
		assert.Positive(t, p.Line)
		assert.Positive(t, p.Column)
	}
	all := strings.Join(got, "\n")
	for _, want := range []string{
		"component hardening is missing, but the baseline requires it in every image (baseline.yaml:",
		"component hygiene is missing, but the baseline requires it in every image (baseline.yaml:",
		"gate critical accepts failures of severity medium, which the baseline rejects (baseline.yaml:",
		"pointer /ami-factory/debian-12-docker/latest belongs to recipe debian-12-docker (recipes/debian-12-docker.yaml:",
	} {
		assert.Contains(t, all, want)
	}
	assert.Len(t, got, 4)
}

func TestAnEmptyComponentOfARequiredNameIsBelowTheBaseline(t *testing.T) {
	fsys := tree(t)
	fsys["baseline.yaml"] = &fstest.MapFile{Data: []byte("components: [base]\ngate: {severity: medium}\ncontrols: [SYS-02]\nwaivers: {severity: none}\n")}
	fsys["recipes/sample.yaml"].Data = bytes.Replace(fsys["recipes/sample.yaml"].Data, []byte("control: SYS-03"), []byte("control: WEB-01"), 1)
	problems, err := plan.Lint(fsys, nil, now)
	require.NoError(t, err)
	require.Len(t, problems, 1)
	assert.Contains(t, problems[0].String(), "control WEB-01 is waived, but the baseline allows no waivers")
	fsys["components/base/checks.yaml"].Data = bytes.Replace(fsys["components/base/checks.yaml"].Data, []byte("SYS-02"), []byte("SYS-07"), 1)
	problems, err = plan.Lint(fsys, nil, now)
	require.NoError(t, err)
	require.Len(t, problems, 2)
	assert.Contains(t, problems[0].String(), "no component checks control SYS-02, but the baseline requires it of every image (baseline.yaml:3:12)")
}

func TestTwoRecipesOfOnePointerAreBothRefused(t *testing.T) {
	fsys := tree(t)
	fsys["recipes/twin.yaml"] = &fstest.MapFile{Data: bytes.Replace(fsys["recipes/sample.yaml"].Data, []byte("name: sample"), []byte("name: twin"), 1)}
	problems, err := plan.Lint(fsys, nil, now)
	require.NoError(t, err)
	require.Len(t, problems, 2)
	assert.Contains(t, problems[0].String(), "recipes/sample.yaml:35:16: error: pointer /ami-factory/sample/latest belongs to recipe twin (recipes/twin.yaml:35:16)")
	assert.Contains(t, problems[1].String(), "recipes/twin.yaml:35:16: error: pointer /ami-factory/sample/latest belongs to recipe sample (recipes/sample.yaml:35:16)")
}

func TestARecipeUnderAnotherNameThanItsFileIsOneError(t *testing.T) {
	fsys := tree(t)
	fsys["recipes/sample.yaml"].Data = bytes.Replace(fsys["recipes/sample.yaml"].Data, []byte("name: sample"), []byte("name: other"), 1)
	problems, err := plan.Lint(fsys, nil, now)
	require.NoError(t, err)
	require.Len(t, problems, 1)
	assert.Contains(t, problems[0].String(), `name is "other", but the file is called sample.yaml`)
}

func TestWhatTheShippedComponentsRefuse(t *testing.T) {
	text, err := fs.ReadFile(userdata.FS, "recipes/debian-12-docker.yaml")
	require.NoError(t, err)
	for sentence, tc := range map[string]struct {
		old, new string
		want     []string
	}{
		"as it is": {"", "", nil},
		"docker on the variant without containers": {"variant: docker", "variant: base", []string{"component docker: variant base of hardening forbids packet forwarding, which containers need (allowed: variant: docker, ecs or eks of hardening)"}},
		"a version without effect, as a number":    {"- name: docker\n", "- name: docker\n    parameters: {version: 24.0}\n", []string{"parameter version of docker: it has no effect with the engine of the distribution"}},
		"a version without effect, as text":        {"- name: docker\n", "- name: docker\n    parameters: {version: '24.0'}\n", []string{"parameter version of docker: it has no effect with the engine of the distribution"}},
		"a size that only the builder refused":     {"- name: docker\n", "- name: docker\n    parameters: {logMaxSize: 10MB}\n", []string{`parameter logMaxSize of docker: "10MB" does not have the required form (allowed: a number with k, m or g, such as 10m)`}},
		"docker-ce of no version":                  {"- name: docker\n", "- name: docker\n    parameters: {engine: docker-ce}\n", []string{"component docker needs the parameter containerdVersion here", "component docker needs the parameter version here"}},
		"docker-ce of a pinned version":            {"- name: docker\n", "- name: docker\n    parameters: {engine: docker-ce, version: '5:28.5.1-1~debian.12~bookworm', containerdVersion: 1.7.28-1~debian.12~bookworm}\n", nil},
		"compose that Debian 12 does not have":     {"- name: docker\n", "- name: docker\n    parameters: {compose: distribution}\n", []string{"Debian 12 has no compose plugin"}},
		"images in a store that is moved":          {"- name: docker\n", "- name: docker\n    parameters: {usernsRemap: true, images: 'debian@sha256:" + strings.Repeat("0", 64) + "'}\n", []string{"images cannot go with usernsRemap"}},
		"a registry of Europe's own partition":     {"- name: docker\n", "- name: docker\n    parameters: {ecrRegistries: 111122223333.dkr.ecr.eusc-de-east-1.amazonaws.eu}\n", nil},
	} {
		t.Run(sentence, func(t *testing.T) {
			require.Contains(t, string(text), tc.old)
			problems, err := plan.LintFile("recipes/debian-12-docker.yaml", []byte(strings.Replace(string(text), tc.old, tc.new, 1)), userdata.FS, nil, now)
			require.NoError(t, err)
			require.Len(t, problems, len(tc.want), "%v", problems)
			for i, want := range tc.want {
				assert.Contains(t, problems[i].String(), want)
				assert.NotZero(t, problems[i].Line)
			}
		})
	}
	t.Run("a web server beside the hardening", func(t *testing.T) {
		fsys := fstest.MapFS{}
		require.NoError(t, fs.WalkDir(userdata.FS, ".", func(file string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := fs.ReadFile(userdata.FS, file)
			fsys[file] = &fstest.MapFile{Data: data}
			return err
		}))
		for file, text := range map[string]string{
			"component.yaml": "name: nginx\ndescription: nginx\nfamilies: [debian-12]\norder: 30\npackages: [{name: nginx}]\nports: [80]\nservices: [nginx.service]\n",
			"checks.yaml":    "controls: [{id: WEB-01, title: t, severity: high, goss: {service: {nginx: {enabled: true}}}}]\n",
			"install.sh":     "#!/bin/bash\ntrue\n",
		} {
			fsys["components/nginx/"+file] = &fstest.MapFile{Data: []byte(text)}
		}
		with := func(more, listen string) []string {
			recipe := strings.Replace(string(text), "  - name: docker\n", "  - name: docker\n  - name: nginx\n", 1)
			recipe = strings.Replace(recipe, "  timeout: 15m\n", "  timeout: 15m\n"+more, 1)
			recipe = strings.Replace(recipe, "      variant: docker\n", "      variant: docker\n"+listen, 1)
			problems, err := plan.LintFile("recipes/debian-12-docker.yaml", []byte(recipe), fsys, nil, now)
			require.NoError(t, err)
			var out []string
			for _, p := range problems {
				out = append(out, p.String())
			}
			return out
		}
		problems := with("", "")
		require.Len(t, problems, 2, "%v", problems)
		assert.Contains(t, problems[0], "component nginx installs the package nginx, which control SVC-03 of component hardening forbids")
		assert.Contains(t, problems[1], "component nginx listens on port 80, which control SVC-08 of component hardening forbids")
		waiver := "  waivers: [{control: SVC-03, reason: it is what this image serves, author: web team lead, approver: web team, created: 2026-11-20, expires: 2027-01-31}]\n"
		assert.Empty(t, with(waiver, "      listen: 22,80\n"))
		expired := with(strings.Replace(waiver, "2027-01-31", "2026-01-31", 1), "      listen: 22,80\n")
		require.Len(t, expired, 1, "%v", expired)
		assert.Contains(t, expired[0], "the waiver of SVC-03 expires on 2026-01-31, before it was created")
	})
}

// places are where a scalar of a YAML file stands.
func places(n *yaml.Node) []*yaml.Node {
	if n.Kind == yaml.ScalarNode {
		return []*yaml.Node{n}
	}
	var out []*yaml.Node
	for i, c := range n.Content {
		if n.Kind != yaml.MappingNode || i%2 == 1 {
			out = append(out, places(c)...)
		}
	}
	return out
}

func TestOneSlipIsOneError(t *testing.T) {
	text, err := fs.ReadFile(userdata.FS, "recipes/debian-12-docker.yaml")
	require.NoError(t, err)
	var root yaml.Node
	require.NoError(t, yaml.Load(text, &root))
	all := places(&root)
	require.Greater(t, len(all), 25)
	c, err := plan.Open(userdata.FS, nil, now)
	require.NoError(t, err)
	for _, n := range all {
		for _, value := range []string{"'%!'", "[]", "''"} {
			lines := strings.Split(string(text), "\n")
			line := lines[n.Line-1]
			length := len(n.Value)
			if n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0 {
				length += 2
			}
			lines[n.Line-1] = line[:n.Column-1] + value + line[n.Column-1+length:]
			problems, err := c.LintFile("recipes/debian-12-docker.yaml", []byte(strings.Join(lines, "\n")))
			require.NoError(t, err)
			assert.LessOrEqual(t, problems.Count(problem.Error), 1, "%s\n%v", lines[n.Line-1], problems)
		}
	}
	for sentence, broken := range map[string]string{
		"a list that is not closed": "name: t\ndescription: [\n",
		"a tab":                     "name: t\n\tdescription: x\n",
		"nothing":                   "",
		"a list":                    "- a\n",
	} {
		problems, err := c.LintFile("t.yaml", []byte(broken))
		require.NoError(t, err)
		assert.Len(t, problems, 1, "%s: %v", sentence, problems)
	}
}

func TestOnlyTheNearestControlsAreOffered(t *testing.T) {
	text, err := fs.ReadFile(userdata.FS, "recipes/debian-12-docker.yaml")
	require.NoError(t, err)
	for id, near := range map[string]string{"SVC-99": "SVC-01", "SCV-03": "SVC-03", "ZZZZ-77": "one of the image's"} {
		waiver := "  timeout: 15m\n  waivers: [{control: " + id + ", reason: for this test, author: web team lead, approver: a, created: 2026-11-20, expires: 2026-12-31}]\n"
		problems, err := plan.LintFile("recipes/debian-12-docker.yaml", []byte(strings.Replace(string(text), "  timeout: 15m\n", waiver, 1)), userdata.FS, nil, now)
		require.NoError(t, err)
		require.Len(t, problems, 1)
		assert.Contains(t, problems[0].Message, "the image has no control "+id+" to waive")
		assert.Contains(t, problems[0].Allowed, near)
		assert.Less(t, len(problems[0].Allowed), 120)
	}
}
