package stage

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/planner"
	"github.com/ami-factory/ami-factory/pkg/planner/plannertest"
	"github.com/ami-factory/ami-factory/pkg/program"
	"github.com/ami-factory/ami-factory/pkg/release"
	"github.com/ami-factory/ami-factory/pkg/source"
	"github.com/ami-factory/ami-factory/pkg/store"
)

const (
	debian = "136693071363"
	baseID = "ami-0123456789abcdef0"
)

type resolveWorld struct {
	*world
	in      ResolveInput
	fs      fstest.MapFS
	given   component.Deployment
	guests  string
	engines program.Engines
}

func newResolveWorld(t *testing.T) *resolveWorld {
	w := &world{s3: newS3(t), ec2: map[string]*fakeEC2{}, ssm: map[string]*fakeSSM{}}
	for _, r := range []string{home, remote} {
		w.ec2[r], w.ssm[r] = newEC2(r), newSSM()
	}
	w.ssm[home].parameters["/aws/service/base"] = baseID
	w.ec2[home].images = []types.Image{base(baseID)}
	return &resolveWorld{world: w, fs: plannertest.Files(plannertest.Recipe), engines: engines(), guests: "simulated: of a test", in: ResolveInput{
		Execution: Execution{ID: "arn:run", Name: "run", StartTime: start}, State: "Resolve", Now: start, ExecutionInput: contract.ExecutionInput{Recipe: "sample"},
	}}
}

func base(id string) types.Image {
	return types.Image{
		ImageId: aws.String(id), Name: aws.String("debian-12"), OwnerId: aws.String(debian), State: types.ImageStateAvailable,
		Architecture: types.ArchitectureValuesX8664, RootDeviceName: aws.String("/dev/xvda"), CreationDate: aws.String("2026-02-01T00:00:00.000Z"),
	}
}

func (w *resolveWorld) run(t *testing.T) (ResolveOutput, error) {
	t.Helper()
	p := w.planner()
	return Resolve{
		Settings: Settings{Region: home, Version: p.Version, Guests: w.guests, Parameters: w.given, Engines: w.engines}, Store: w.s3.store(), Planner: p,
	}.Run(t.Context(), w.in)
}

func (w *resolveWorld) planner() planner.Planner {
	return planner.Planner{
		Region: home, Version: "1.0.0", OnEC2: Settings{Guests: w.guests}.OnEC2(), Engines: w.engines, Parameters: w.given, Files: w.fs,
		Source: source.Resolver{Images: w.ec2[home], Parameters: w.ssm[home]},
		EC2:    func(r string) ec2.DescribeImagesAPIClient { return w.ec2[r] },
		SSM:    func(r string) release.ParameterReader { return w.ssm[r] },
	}
}

// publish puts images of a plan behind the pointers of both regions, as it would be
// released.
func (w *resolveWorld) publish(planned ResolveOutput) {
	for r, id := range map[string]string{home: "ami-new", remote: "ami-copy"} {
		img := image(id, "earlier", true)
		img.Tags = overlay(img.Tags, []types.Tag{{Key: aws.String(contract.TagFingerprint), Value: &planned.Fingerprint}, {Key: aws.String(contract.TagRelease), Value: &planned.ReleaseID}, {Key: aws.String(contract.TagRecipe), Value: aws.String("sample")}})
		w.ec2[r].images = append(w.ec2[r].images, img)
		w.ssm[r].parameters["/ami-factory/sample/latest"] = id
	}
}

func TestResolveStoresPlanAndBundleByDigest(t *testing.T) {
	w := newResolveWorld(t)
	out, err := w.run(t)
	require.NoError(t, err)
	assert.Equal(t, "sample", out.Recipe)
	assert.Equal(t, baseID, out.SourceImage)
	assert.Equal(t, []string{home, remote}, out.Regions)
	assert.False(t, out.UpToDate)

	raw, err := w.s3.store().Get(t.Context(), out.Plan)
	require.NoError(t, err)
	assert.Equal(t, "plans/"+store.Digest(raw)+".json", out.Plan.Key)
	var p plan.BuildPlan
	require.NoError(t, json.Unmarshal(raw, &p))
	assert.Equal(t, out.Fingerprint, p.Fingerprint)
	assert.Equal(t, p.Bundle.SHA256, store.Digest(w.s3.get(contract.BundleKey(p.Bundle.SHA256))))

	again, err := w.run(t)
	require.NoError(t, err)
	assert.Equal(t, out, again)
}

func TestResolveGivesComponentsWhatTheDeploymentSays(t *testing.T) {
	w := newResolveWorld(t)
	w.fs["components/motd/component.yaml"] = &fstest.MapFile{Data: []byte("name: motd\ndescription: a greeting\nfamilies: [debian-12]\norder: 10\n" +
		"parameters: {text: {type: string, default: hello, description: the greeting}}\n")}
	before, err := w.run(t)
	require.NoError(t, err)
	w.given = component.Deployment{"motd": {"text": "welcome"}}
	after, err := w.run(t)
	require.NoError(t, err)
	assert.NotEqual(t, before.Fingerprint, after.Fingerprint)
	raw, err := w.s3.store().Get(t.Context(), after.Plan)
	require.NoError(t, err)
	var p plan.BuildPlan
	require.NoError(t, json.Unmarshal(raw, &p))
	assert.Equal(t, "welcome", p.Components[0].Parameters["text"])

	w.given = component.Deployment{"motd": {"txet": "welcome"}}
	_, err = w.run(t)
	assert.Equal(t, failure.RecipeInvalid, failure.CodeOf(err))
	assert.ErrorContains(t, err, "component parameters of the deployment: error: component motd has no parameter \"txet\"")
}

// ofSample are tags of an image of the recipe that these tests resolve.
func ofSample(tags []types.Tag) []types.Tag {
	return overlay(tags, []types.Tag{{Key: aws.String(contract.TagRecipe), Value: aws.String("sample")}})
}

func TestResolveKnowsWhatIsPublished(t *testing.T) {
	w := newResolveWorld(t)
	first, err := w.run(t)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		change func(*resolveWorld)
		want   bool
	}{
		"the pointers name images of this plan": {want: true},
		"a build was asked for all the same":    {change: func(w *resolveWorld) { w.in.Force = true }},
		"the recipe changed": {change: func(w *resolveWorld) {
			w.fs["recipes/sample.yaml"] = &fstest.MapFile{Data: []byte(plannertest.Recipe + "gate: {severity: low}\n")}
		}},
		"the base changed": {change: func(w *resolveWorld) {
			w.ec2[home].images = append(w.ec2[home].images, base("ami-0123456789abcdef1"))
			w.ssm[home].earlier = map[string][]string{"/aws/service/base": {"ami-0123456789abcdef1"}}
			w.in.Source = "ami-0123456789abcdef1"
		}},
		"a region has no pointer":            {change: func(w *resolveWorld) { delete(w.ssm[remote].parameters, "/ami-factory/sample/latest") }},
		"a pointer names what is gone":       {change: func(w *resolveWorld) { w.ec2[remote].images = nil }},
		"an image was never marked":          {change: func(w *resolveWorld) { w.ec2[remote].images[0].Tags = ofSample(tagged("x", "run", false)) }},
		"an image was disabled":              {change: func(w *resolveWorld) { w.ec2[remote].images[0].State = types.ImageStateDisabled }},
		"an image has another's fingerprint": {change: func(w *resolveWorld) { w.ec2[remote].images[0].Tags = ofSample(tagged("x", "run", true)) }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newResolveWorld(t)
			w.publish(first)
			if c.change != nil {
				c.change(w)
			}
			out, err := w.run(t)
			require.NoError(t, err)
			assert.Equal(t, c.want, out.UpToDate)
			if c.want {
				assert.Equal(t, map[string]string{home: "ami-new", remote: "ami-copy"}, out.Published)
			} else {
				assert.Empty(t, out.Published)
			}
		})
	}
}

func TestResolveFails(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*resolveWorld)
		want   failure.Code
		tells  string
	}{
		"no recipe is named":         {func(w *resolveWorld) { w.in.Recipe = "" }, failure.InvalidInput, "recipe"},
		"no time is given":           {func(w *resolveWorld) { w.in.Now = time.Time{} }, failure.InvalidInput, "now"},
		"the recipe is unknown":      {func(w *resolveWorld) { w.in.Recipe = "sampel" }, failure.RecipeInvalid, "sample"},
		"the recipe has a wrong key": {func(w *resolveWorld) { w.fs["recipes/sample.yaml"].Data = []byte(plannertest.Recipe + "colour: red\n") }, failure.RecipeInvalid, "recipes/sample.yaml:12:1: error:"},
		"the recipe is for another home region": {func(w *resolveWorld) {
			w.fs["recipes/sample.yaml"].Data = []byte(strings.Replace(plannertest.Recipe, "eu-west-1", "us-east-1", 1))
		}, failure.RecipeInvalid, "eu-west-1"},
		"the recipe is below the baseline": {func(w *resolveWorld) {
			w.fs["recipes/sample.yaml"].Data = []byte(plannertest.Recipe + "gate: {severity: critical}\n")
		}, failure.BelowBaseline, "recipes/sample.yaml:12:18: error: gate critical accepts failures of severity medium, which the baseline rejects (baseline.yaml:2:18)"},
		"the recipe is below the baseline and wrong": {func(w *resolveWorld) {
			w.fs["recipes/sample.yaml"].Data = []byte(plannertest.Recipe + "gate: {severity: critical}\ncolour: red\n")
		}, failure.BelowBaseline, "recipes/sample.yaml:13:1: error:"},
		"a pointer is another recipe's": {func(w *resolveWorld) {
			w.fs["recipes/other.yaml"] = &fstest.MapFile{Data: []byte(strings.Replace(plannertest.Recipe, "name: sample", "name: other", 1))}
		}, failure.BelowBaseline, "pointer /ami-factory/sample/latest belongs to recipe other (recipes/other.yaml:11:25)"},
		"the baseline is gone":  {func(w *resolveWorld) { delete(w.fs, "baseline.yaml") }, failure.BelowBaseline, "nothing is built without a baseline"},
		"the baseline is wrong": {func(w *resolveWorld) { w.fs["baseline.yaml"].Data = []byte("components: []\n") }, failure.BelowBaseline, "baseline.yaml:1:13: error: components needs at least 1"},
		"a component is unknown": {func(w *resolveWorld) {
			maps.DeleteFunc(w.fs, func(k string, _ *fstest.MapFile) bool { return k == "components/motd/component.yaml" })
		}, failure.RecipeInvalid, "motd"},
		"on EC2, Debian's images have no SSM agent and the recipe brings none": {func(w *resolveWorld) { w.guests = "" }, failure.RecipeInvalid, "does not list the component ssm-agent"},
		"on EC2, the recipe is for rehearsals only": {func(w *resolveWorld) {
			w.guests = "ec2"
			w.fs["recipes/sample.yaml"].Data = []byte(plannertest.Recipe + "rehearsalOnly: true\n")
		}, failure.RecipeInvalid, "never built on AWS"},
		"the parameter does not exist":          {func(w *resolveWorld) { delete(w.ssm[home].parameters, "/aws/service/base") }, failure.SourceNotFound, "/aws/service/base"},
		"the parameter holds something else":    {func(w *resolveWorld) { w.ssm[home].parameters["/aws/service/base"] = "hello" }, failure.SourceNotFound, "AMI id"},
		"the image does not exist":              {func(w *resolveWorld) { w.ec2[home].images = nil }, failure.SourceNotFound, baseID},
		"the image is someone else's":           {func(w *resolveWorld) { w.ec2[home].images[0].OwnerId = aws.String("666666666666") }, failure.SourceOwnerMismatch, "666666666666"},
		"the image is disabled":                 {func(w *resolveWorld) { w.ec2[home].images[0].State = types.ImageStateDisabled }, failure.SourceNotFound, "disabled"},
		"the image is for another architecture": {func(w *resolveWorld) { w.ec2[home].images[0].Architecture = types.ArchitectureValuesArm64 }, failure.SourceNotFound, "arm64"},
		"the image given instead is no id":      {func(w *resolveWorld) { w.in.Source = "latest" }, failure.InvalidInput, "latest"},
		"SSM throttles":                         {func(w *resolveWorld) { w.ssm[home].faults["GetParameter"] = []error{awsErr("ThrottlingException")} }, failure.Throttled, ""},
		"EC2 denies":                            {func(w *resolveWorld) { w.ec2[home].faults["DescribeImages"] = []error{awsErr("UnauthorizedOperation")} }, failure.AccessDenied, ""},
		"the bucket denies":                     {func(w *resolveWorld) { w.s3.faults["PutObject"] = []error{nil, awsErr("AccessDenied")} }, failure.AccessDenied, "bundles/"},
		"the name is that of an earlier execution": {func(w *resolveWorld) {
			w.s3.put("executions/run/execution.json", []byte(`{"execution":"arn:run","started":"2025-11-01T12:00:00Z"}`))
		}, failure.RecordMismatch, "nothing was started: the name run is that of the execution arn:run of 2025-11-01T12:00:00Z"},
		"the source given is none that the parameter named": {func(w *resolveWorld) {
			w.ec2[home].images = append(w.ec2[home].images, base("ami-0123456789abcdef1"))
			w.in.Source = "ami-0123456789abcdef1"
		}, failure.SourceRefused, "SSM parameter /aws/service/base names no such image"},
		"the source given is older than the published image's": {func(w *resolveWorld) {
			published := image("ami-new", "earlier", true)
			published.Tags = append(ofSample(published.Tags), ami.SourceTags("ami-0123456789abcdef2", "2026-02-01T00:00:00.000Z")...)
			older := base("ami-0123456789abcdef1")
			older.CreationDate = aws.String("2026-01-31T23:59:59.000Z")
			w.ec2[home].images = append(w.ec2[home].images, older, published)
			w.ssm[home].earlier = map[string][]string{"/aws/service/base": {"ami-0123456789abcdef1"}}
			w.in.Source, w.in.Force = "ami-0123456789abcdef1", true
		}, failure.SourceRefused, "was made at 2026-01-31T23:59:59.000Z, before ami-0123456789abcdef2 of 2026-02-01T00:00:00.000Z, which the published image ami-new is built from"},
		"a pointer names another recipe's image": {func(w *resolveWorld) {
			w.ec2[remote].older = []types.Image{image("ami-other", "earlier", true)}
			w.ssm[remote].parameters["/ami-factory/sample/latest"] = "ami-other"
		}, failure.PointerConflict, "nothing was started: pointer " + remote + ":/ami-factory/sample/latest: it names ami-other, which is an image of recipe debian, not of recipe sample"},
		"a pointer names somebody else's image": {func(w *resolveWorld) {
			w.ec2[remote].older = []types.Image{foreign("ami-foreign")}
			w.ssm[remote].parameters["/ami-factory/sample/latest"] = "ami-foreign"
		}, failure.PointerConflict, "which is no image of this factory"},
		"a pointer cannot be read": {func(w *resolveWorld) {
			w.ssm[home].faults["GetParameter"] = []error{nil, awsErr("AccessDeniedException")}
		}, failure.AccessDenied, "/ami-factory/sample/latest"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newResolveWorld(t)
			c.change(w)
			_, err := w.run(t)
			requireCode(t, c.want, err)
			assert.Contains(t, err.Error(), c.tells)
		})
	}
}

func TestResolveRefusesARecipeWhoseGuestsHaveNoCheckEngine(t *testing.T) {
	w := newResolveWorld(t)
	w.engines = program.Engines{"arm64": {Key: "k", SHA256: "s"}}
	_, err := w.run(t)
	require.ErrorContains(t, err, "the deployment has no check engine for x86_64 guests, only for arm64: build it with `make goss GOARCH=amd64` and deploy again")
	assert.Equal(t, failure.ComplianceFailed, failure.CodeOf(err))
}
