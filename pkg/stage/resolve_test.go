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
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	cloudec2 "github.com/ami-factory/ami-factory/pkg/localcloud/ec2"
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
	*cloud
	in      ResolveInput
	fs      fstest.MapFS
	given   component.Deployment
	guests  string
	engines program.Engines
	odd     map[string]func(*types.Image) // what a region's EC2 says of images, by region
}

// The images of publish.
const (
	publishedID = "ami-0aaaaaaaaaaaaaaaa" // in the home region
	copiedID    = "ami-0eeeeeeeeeeeeeeee" // in the other region
	anotherID   = "ami-0123456789abcdef1"

	sampleSource  = "/aws/service/base"
	samplePointer = "/ami-factory/sample/latest"
)

func newResolveWorld(t *testing.T) *resolveWorld {
	w := &resolveWorld{cloud: newCloud(t), fs: plannertest.Files(plannertest.Recipe), engines: engines(), guests: "simulated: of a test", in: ResolveInput{
		Execution: Execution{ID: "arn:run", Name: "run", StartTime: start}, State: "Resolve", Now: start, ExecutionInput: contract.ExecutionInput{Recipe: "sample"},
	}, odd: map[string]func(*types.Image){}}
	w.register(home, baseID, debian)
	w.SSM.SetPublicParameter(home, sampleSource, baseID)
	return w
}

// register makes an image of an owner in a region.
func (w *resolveWorld) register(region, id, owner string, change ...func(*cloudec2.BaseImage)) {
	w.t.Helper()
	b := cloudec2.BaseImage{
		ImageID: id, Name: "image " + id, OwnerID: owner, ImageDir: w.content, Regions: []string{region}, Created: time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC),
	}
	for _, f := range change {
		f(&b)
	}
	_, err := w.EC2.RegisterBase(b)
	require.NoError(w.t, err)
}

// sourceIs has the recipe's source name another image. It had named what is before.
func (w *resolveWorld) sourceIs(before ...string) {
	for _, value := range before {
		w.SSM.SetPublicParameter(home, sampleSource, value)
	}
}

func (w *resolveWorld) run(t *testing.T) (ResolveOutput, error) {
	t.Helper()
	p := w.planner()
	return Resolve{
		Settings: Settings{Region: home, Version: p.Version, Guests: w.guests, Parameters: w.given, Engines: w.engines}, Store: w.store(), Planner: p,
	}.Run(t.Context(), w.in)
}

func (w *resolveWorld) planner() planner.Planner {
	images := func(region string) ec2.DescribeImagesAPIClient {
		return odd{Client: w.ec2(region), image: w.odd[region]}
	}
	return planner.Planner{
		Region: home, Version: "1.0.0", OnEC2: Settings{Guests: w.guests}.OnEC2(), Engines: w.engines, Parameters: w.given, Files: w.fs,
		Source: source.Resolver{Images: images(home), Parameters: w.ssm(home)},
		EC2:    images,
		SSM:    func(r string) release.ParameterReader { return w.ssm(r) },
	}
}

// publish puts images of a plan behind the pointers of both regions, as it would be
// released.
func (w *resolveWorld) publish(planned ResolveOutput) {
	w.t.Helper()
	for r, id := range map[string]string{home: publishedID, remote: copiedID} {
		w.register(r, id, factory)
		w.tag(r, id, tagged(id, "earlier", true)...)
		w.tag(r, id, tag(contract.TagFingerprint, planned.Fingerprint), tag(contract.TagRelease, planned.ReleaseID), tag(contract.TagRecipe, "sample"))
		w.point(r, samplePointer, id)
	}
}

func tag(key, value string) types.Tag { return types.Tag{Key: &key, Value: &value} }

func TestResolveStoresPlanAndBundleByDigest(t *testing.T) {
	w := newResolveWorld(t)
	out, err := w.run(t)
	require.NoError(t, err)
	assert.Equal(t, "sample", out.Recipe)
	assert.Equal(t, baseID, out.SourceImage)
	assert.Equal(t, []string{home, remote}, out.Regions)
	assert.False(t, out.UpToDate)

	raw, err := w.store().Get(t.Context(), out.Plan)
	require.NoError(t, err)
	assert.Equal(t, "plans/"+store.Digest(raw)+".json", out.Plan.Key)
	var p plan.BuildPlan
	require.NoError(t, json.Unmarshal(raw, &p))
	assert.Equal(t, out.Fingerprint, p.Fingerprint)
	bundle, err := w.store().Read(t.Context(), contract.BundleKey(p.Bundle.SHA256))
	require.NoError(t, err)
	assert.Equal(t, p.Bundle.SHA256, store.Digest(bundle))

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
	raw, err := w.store().Get(t.Context(), after.Plan)
	require.NoError(t, err)
	var p plan.BuildPlan
	require.NoError(t, json.Unmarshal(raw, &p))
	assert.Equal(t, "welcome", p.Components[0].Parameters["text"])

	w.given = component.Deployment{"motd": {"txet": "welcome"}}
	_, err = w.run(t)
	assert.Equal(t, failure.RecipeInvalid, failure.CodeOf(err))
	assert.ErrorContains(t, err, "component parameters of the deployment: error: component motd has no parameter \"txet\"")
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
			w.register(home, anotherID, debian)
			w.sourceIs(anotherID, baseID)
			w.in.Source = anotherID
		}},
		"a region has no pointer": {change: func(w *resolveWorld) {
			_, err := w.ssm(remote).DeleteParameter(w.t.Context(), &ssm.DeleteParameterInput{Name: aws.String(samplePointer)})
			require.NoError(w.t, err)
		}},
		"a pointer names what is gone": {change: func(w *resolveWorld) {
			_, err := w.ec2(remote).DeregisterImage(w.t.Context(), &ec2.DeregisterImageInput{ImageId: aws.String(copiedID)})
			require.NoError(w.t, err)
		}},
		"an image was never marked": {change: func(w *resolveWorld) {
			_, err := w.ec2(remote).DeleteTags(w.t.Context(), &ec2.DeleteTagsInput{Resources: []string{copiedID}, Tags: []types.Tag{{Key: aws.String(contract.TagPublished)}}})
			require.NoError(w.t, err)
		}},
		"an image was disabled":              {change: func(w *resolveWorld) { w.odd[remote] = disabled }},
		"an image has another's fingerprint": {change: func(w *resolveWorld) { w.tag(remote, copiedID, tag(contract.TagFingerprint, "f00d")) }},
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
				assert.Equal(t, map[string]string{home: publishedID, remote: copiedID}, out.Published)
			} else {
				assert.Empty(t, out.Published)
			}
		})
	}
}

func disabled(i *types.Image) { i.State = types.ImageStateDisabled }

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
		"the parameter does not exist": {func(w *resolveWorld) {
			w.fs["recipes/sample.yaml"].Data = []byte(strings.Replace(plannertest.Recipe, sampleSource, "/aws/service/none", 1))
		}, failure.SourceNotFound, "/aws/service/none"},
		"the parameter holds something else": {func(w *resolveWorld) { w.sourceIs("hello") }, failure.SourceNotFound, "AMI id"},
		"the image does not exist":           {func(w *resolveWorld) { w.sourceIs(anotherID) }, failure.SourceNotFound, anotherID},
		"the image is someone else's": {func(w *resolveWorld) {
			w.register(home, anotherID, "666666666666")
			w.sourceIs(anotherID)
		}, failure.SourceOwnerMismatch, "666666666666"},
		"the image is disabled": {func(w *resolveWorld) { w.odd[home] = disabled }, failure.SourceNotFound, "disabled"},
		"the image is for another architecture": {func(w *resolveWorld) {
			w.register(home, anotherID, debian, func(b *cloudec2.BaseImage) { b.Architecture = types.ArchitectureValuesArm64 })
			w.sourceIs(anotherID)
		}, failure.SourceNotFound, "arm64"},
		"the image given instead is no id": {func(w *resolveWorld) { w.in.Source = "latest" }, failure.InvalidInput, "latest"},
		"SSM throttles":                    {func(w *resolveWorld) { w.fail("ssm", "GetParameter", "ThrottlingException") }, failure.Throttled, ""},
		"EC2 denies":                       {func(w *resolveWorld) { w.fail("ec2", "DescribeImages", "UnauthorizedOperation") }, failure.AccessDenied, ""},
		"the bucket denies":                {func(w *resolveWorld) { w.failFrom(2, "s3", "PUT", "AccessDenied") }, failure.AccessDenied, "bundles/"},
		"the name is that of an earlier execution": {func(w *resolveWorld) {
			_, err := w.store().Put(w.t.Context(), "executions/run/execution.json", "application/json", []byte(`{"execution":"arn:run","started":"2025-11-01T12:00:00Z"}`))
			require.NoError(w.t, err)
		}, failure.RecordMismatch, "nothing was started: the name run is that of the execution arn:run of 2025-11-01T12:00:00Z"},
		"the source given is none that the parameter named": {func(w *resolveWorld) {
			w.register(home, anotherID, debian)
			w.in.Source = anotherID
		}, failure.SourceRefused, "SSM parameter /aws/service/base names no such image"},
		"the source given is older than the published image's": {func(w *resolveWorld) {
			w.register(home, publishedID, factory)
			w.tag(home, publishedID, tagged(publishedID, "earlier", true)...)
			w.tag(home, publishedID, append(ami.SourceTags("ami-0123456789abcdef2", "2026-02-01T00:00:00.000Z"), tag(contract.TagRecipe, "sample"))...)
			w.register(home, anotherID, debian, func(b *cloudec2.BaseImage) { b.Created = time.Date(2026, 1, 31, 23, 59, 59, 0, time.UTC) })
			w.sourceIs(anotherID, baseID)
			w.in.Source, w.in.Force = anotherID, true
		}, failure.SourceRefused, "was made at 2026-01-31T23:59:59.000Z, before ami-0123456789abcdef2 of 2026-02-01T00:00:00.000Z, which the published image " + publishedID + " is built from"},
		"a pointer names another recipe's image": {func(w *resolveWorld) {
			w.register(remote, anotherID, factory)
			w.tag(remote, anotherID, tagged(anotherID, "earlier", true)...)
			w.point(remote, samplePointer, anotherID)
		}, failure.PointerConflict, "nothing was started: pointer " + remote + ":/ami-factory/sample/latest: it names " + anotherID + ", which is an image of recipe debian, not of recipe sample"},
		"a pointer names somebody else's image": {func(w *resolveWorld) {
			w.register(remote, anotherID, debian)
			w.point(remote, samplePointer, anotherID)
		}, failure.PointerConflict, "which is no image of this factory"},
		"a pointer cannot be read": {func(w *resolveWorld) {
			w.failFrom(2, "ssm", "GetParameter", "AccessDeniedException")
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
