package trigger

import (
	"fmt"
	"testing"
	"time"

	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/planner/plannertest"
	"github.com/ami-factory/ami-factory/pkg/trigger/decide"
)

// replace gives consumers another image in the home region, as a rebuild does.
func (w *world) replace(id string) { w.publish(home, id, start) }

// finding is the detail of an event of Inspector about an instance of an image.
func finding(image, vulnerability, region string) string {
	return fmt.Sprintf(`{"findingArn":"arn:f","type":"PACKAGE_VULNERABILITY","status":"ACTIVE","fixAvailable":"YES",
		"packageVulnerabilityDetails":{"vulnerabilityId":%q},
		"resources":[{"type":"AWS_EC2_INSTANCE","id":"i-1","region":%q,"details":{"awsEc2Instance":{"imageId":%q}}}]}`, vulnerability, region, image)
}

func (w *world) found(t *testing.T, at time.Time, image, vulnerability string) StartBuildsOutput {
	t.Helper()
	out, err := w.sendAt(t, at, contract.InspectorEvent, finding(image, vulnerability, home))
	require.NoError(t, err)
	return out
}

func TestAFindingOfThePublishedImageBuildsItAgainOncePerLimit(t *testing.T) {
	w := publishedWorld(t)
	for n := range 5 {
		out := w.found(t, start, publishedID, "CVE-2026-0001")
		if n == 0 {
			require.Len(t, out.Recipes, 1)
			assert.Equal(t, decide.Start, out.Recipes[0].Action, out.Recipes[0].Why)
		} else {
			assert.Equal(t, []string{"CVE-2026-0001 of " + publishedID + " in eu-west-1: already handled"}, out.Ignored)
		}
	}
	out := w.found(t, start, publishedID, "CVE-2026-0002")
	assert.Equal(t, decide.Wait, out.Recipes[0].Action, "what else is found starts no second: %s", out.Recipes[0].Why)
	require.Len(t, w.executions, 1)
	assert.JSONEq(t, `{"recipe":"sample","force":true}`, *w.executions[0].Input)
	assert.Regexp(t, `^sample-[0-9a-f]{16}-fix-[0-9a-f]{8}$`, *w.executions[0].Name)

	const next, later = "ami-0bbbbbbbbbbbbbbbb", "ami-0cccccccccccccccc"
	w.replace(next)
	w.ends(t, w.executions[0], sfntypes.ExecutionStatusSucceeded)
	assert.Len(t, w.executions, 1, "what was found is answered")
	assert.NotContains(t, w.read(contract.RecordKey("sample")), "CVE-2026-0002", "and forgotten, but for what was tried")
	old := w.found(t, start.Add(time.Hour), publishedID, "CVE-2026-0003")
	assert.Equal(t, []string{"CVE-2026-0003 of " + publishedID + " in eu-west-1: recipe sample has published another image since"}, old.Ignored)

	// The fix is not in the repositories yet: the new image has it too.
	for _, cve := range []string{"CVE-2026-0001", "CVE-2026-0009"} {
		again := w.found(t, start.Add(time.Hour), next, cve)
		assert.Equal(t, decide.Wait, again.Recipes[0].Action)
		assert.Contains(t, again.Recipes[0].Why, "not built for others before 2026-03-02T12:00:00Z")
	}
	assert.Len(t, w.executions, 1)
	for _, tc := range []struct {
		at  time.Time
		due []string
	}{{start.Add(23 * time.Hour), nil}, {start.Add(24 * time.Hour), []string{"sample"}}} {
		seen, err := w.watcher().Run(t.Context(), WatchInput{Time: tc.at})
		require.NoError(t, err)
		assert.Equal(t, tc.due, seen.Due)
	}
	require.Len(t, w.events, 1)
	assert.Equal(t, contract.RebuildDueEvent, *w.events[0].DetailType)
	due, err := w.sendAt(t, start.Add(24*time.Hour), contract.RebuildDueEvent, *w.events[0].Detail)
	require.NoError(t, err)
	require.Len(t, due.Recipes, 1)
	assert.Equal(t, decide.Start, due.Recipes[0].Action)
	assert.Contains(t, due.Recipes[0].Why, "CVE-2026-0001 and 1 more", "all between were one")
	require.Len(t, w.executions, 2)

	w.replace(later)
	w.ends(t, w.executions[1], sfntypes.ExecutionStatusSucceeded)
	w.found(t, start.Add(25*time.Hour), later, "CVE-2026-0001")
	vain, err := w.sendAt(t, start.Add(49*time.Hour), contract.RebuildDueEvent, `{}`)
	require.NoError(t, err)
	assert.Equal(t, decide.Start, vain.Recipes[0].Action, vain.Recipes[0].Why)
	w.replace("ami-0dddddddddddddddd")
	w.ends(t, w.executions[2], sfntypes.ExecutionStatusSucceeded)
	w.found(t, start.Add(50*time.Hour), "ami-0dddddddddddddddd", "CVE-2026-0001")
	vain, err = w.sendAt(t, start.Add(73*time.Hour), contract.RebuildDueEvent, `{}`)
	require.NoError(t, err)
	assert.Equal(t, decide.Wait, vain.Recipes[0].Action, "the third in vain waits twice as long")
}

func TestAFailedRebuildLeavesTheFindingOpen(t *testing.T) {
	w := publishedWorld(t)
	w.found(t, start, publishedID, "CVE-2026-0001")
	after := w.ends(t, w.executions[0], sfntypes.ExecutionStatusFailed)
	require.Len(t, after.Recipes, 1)
	assert.Equal(t, decide.Wait, after.Recipes[0].Action, after.Recipes[0].Why)
	due, err := w.sendAt(t, start.Add(24*time.Hour), contract.RebuildDueEvent, `{}`)
	require.NoError(t, err)
	assert.Equal(t, decide.Start, due.Recipes[0].Action, due.Recipes[0].Why)
	assert.NotEqual(t, *w.executions[0].Name, *w.executions[1].Name)
}

func TestFindingsThatConcernNoRecipe(t *testing.T) {
	for sentence, tc := range map[string]struct {
		image, region string
		change        func(*world)
		says          string
	}{
		"of somebody else's image":           {baseID, home, nil, "it is no published image of this factory"},
		"of an image that nobody knows":      {"ami-0123456789abcdeff", home, nil, "it is no published image of this factory"},
		"in a region of no recipe":           {publishedID, "us-east-1.example.org", nil, "no recipe is distributed there"},
		"of an image that was not published": {publishedID, home, func(w *world) { w.untag(contract.TagPublished) }, "it is no published image of this factory"},
		"of a recipe that is no more":        {publishedID, home, func(w *world) { w.untag(contract.TagRecipe) }, "its recipe  no longer exists"},
		"of an image that was replaced": {
			publishedID, home, func(w *world) { w.replace("ami-0bbbbbbbbbbbbbbbb") }, "recipe sample has published another image since",
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := publishedWorld(t)
			if tc.change != nil {
				tc.change(w)
			}
			out, err := w.send(t, contract.InspectorEvent, finding(tc.image, "CVE-2026-0001", tc.region))
			require.NoError(t, err)
			assert.Empty(t, out.Recipes)
			require.Len(t, out.Ignored, 1)
			assert.Contains(t, out.Ignored[0], tc.says)
			assert.Empty(t, w.executions)
		})
	}
}

func TestAFindingOfACopyElsewhereCountsToo(t *testing.T) {
	w := publishedWorld(t)
	w.reporters.OnDemand = true
	out, err := w.send(t, contract.OnDemandEvent, finding(copiedID, "CVE-2026-0001", remote))
	require.NoError(t, err)
	require.Len(t, out.Recipes, 1, out.Ignored)
	assert.Equal(t, decide.Start, out.Recipes[0].Action)
}

// hubFinding is the detail of an event of Security Hub about an instance of an image.
func hubFinding(product, image, vulnerability string) string {
	return fmt.Sprintf(`{"findings":[{"ProductArn":%q,"RecordState":"ACTIVE","Workflow":{"Status":"NEW"},"Region":%q,
		"Vulnerabilities":[{"Id":%q,"FixAvailable":"YES"}],
		"Resources":[{"Type":"AwsEc2Instance","Details":{"AwsEc2Instance":{"ImageId":%q}}}]}]}`, product, home, vulnerability, image)
}

func TestAForgedFindingStartsNothingAndIsNotRemembered(t *testing.T) {
	const own = "arn:aws:securityhub:eu-west-1:111122223333:product/111122223333/default"
	inspected := finding(publishedID, "CVE-2026-0001", home)
	for sentence, tc := range map[string]struct {
		source, kind, detail string
		chosen               decide.Reporters // with which it does count; none: with none
	}{
		"of an on-demand scan":         {"inspector2.ami.ondemand", contract.OnDemandEvent, inspected, decide.Reporters{OnDemand: true}},
		"of a product of the account":  {"aws.securityhub", contract.SecurityHubEvent, hubFinding(own, publishedID, "CVE-2026-0001"), decide.Reporters{Products: []string{own}}},
		"of another source":            {"my.inspector2", contract.InspectorEvent, inspected, decide.Reporters{}},
		"of another source, of a hub":  {"my.securityhub", contract.SecurityHubEvent, hubFinding("arn:aws:securityhub:eu-west-1::product/aws/inspector", publishedID, "CVE-2026-0001"), decide.Reporters{}},
		"of no source, as Inspector's": {"", contract.InspectorEvent, inspected, decide.Reporters{}},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := publishedWorld(t)
			out, err := w.sendFrom(t, start, tc.source, tc.kind, tc.detail)
			require.NoError(t, err)
			assert.Empty(t, out.Recipes)
			assert.Len(t, out.Ignored, 1, "the log says why")
			assert.Empty(t, w.executions)
			if tc.chosen.OnDemand || len(tc.chosen.Products) > 0 {
				w.reporters = tc.chosen
				out, err = w.sendFrom(t, start, tc.source, tc.kind, tc.detail)
				require.NoError(t, err)
				require.Len(t, out.Recipes, 1, out.Ignored)
				assert.Equal(t, decide.Start, out.Recipes[0].Action)
				return
			}
			// What was forged does not stand in the way of what is true.
			assert.Equal(t, decide.Start, w.found(t, start, publishedID, "CVE-2026-0001").Recipes[0].Action)
		})
	}
}

func TestWhatCouldNotBeDoneAboutAFindingIsTriedAgain(t *testing.T) {
	w := publishedWorld(t)
	w.faults["StartExecution"] = []error{awsErr("ThrottlingException")}
	_, err := w.send(t, contract.InspectorEvent, finding(publishedID, "CVE-2026-0001", home))
	assert.Equal(t, failure.Throttled, failure.CodeOf(err))
	delete(w.faults, "StartExecution")
	assert.Equal(t, decide.Start, w.found(t, start, publishedID, "CVE-2026-0001").Recipes[0].Action)
}

func TestABuildWhoseWakingWasLostIsLookedAfter(t *testing.T) {
	w := newWorld(t)
	w.keep(contract.RecordKey("sample"), `{"failures":0,"paused":false,"waiting":{"trigger":"","since":"2026-03-01T12:00:00Z"}}`)
	seen, err := w.watcher().Run(t.Context(), WatchInput{Time: start.Add(time.Hour)})
	require.NoError(t, err)
	assert.Equal(t, []string{"sample"}, seen.Due)
	out, err := w.send(t, contract.RebuildDueEvent, `{}`)
	require.NoError(t, err)
	assert.Equal(t, decide.Start, out.Recipes[0].Action)
}

// family is three recipes, of which b builds on a's image and c on b's, and one
// that stands alone.
func familyWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	for name, source := range map[string]string{"a-child": "/ami-factory/sample/latest", "a-grandchild": "/ami-factory/a-child/latest", "other": "/aws/service/base"} {
		owner := "111122223333"
		if source == "/aws/service/base" {
			owner = debian
		}
		text := fmt.Sprintf(`name: %s
description: a test
family: debian-12
architecture: x86_64
source: {parameter: %s, owner: "%s"}
builder: {instanceTypes: [t3.medium], rootVolume: {sizeGiB: 8}}
components: [{name: motd}]
distribution: {regions: [{name: eu-west-1}]}
pointers: {parameters: [/ami-factory/%s/latest]}
`, name, source, owner, name)
		w.fs["recipes/"+name+".yaml"] = plannertest.Files(text)["recipes/sample.yaml"]
	}
	return w
}

func TestWhatBuildsOnAnImageThatIsAboutToBeReplacedWaitsForIt(t *testing.T) {
	w := familyWorld(t)
	night, err := w.send(t, contract.NightlyEvent, `{}`)
	require.NoError(t, err)
	got := map[string]Considered{}
	for _, c := range night.Recipes {
		got[c.Recipe] = c
	}
	assert.Equal(t, decide.Start, got["sample"].Action)
	assert.Equal(t, decide.Start, got["other"].Action)
	for name, parent := range map[string]string{"a-child": "sample", "a-grandchild": "a-child"} {
		assert.Equal(t, decide.Wait, got[name].Action, name)
		assert.Contains(t, got[name].Why, "it builds on the image of recipe "+parent, "though its name comes first")
	}
	require.Len(t, w.executions, 2)

	// The end of another build wakes none of them, that of the parent one.
	out := w.ends(t, w.executions[0], sfntypes.ExecutionStatusSucceeded)
	if *w.executions[0].Name == "other" {
		assert.Empty(t, out.Recipes)
	}
	w.ends(t, w.executions[1], sfntypes.ExecutionStatusSucceeded)
	require.Len(t, w.executions, 3)
	assert.Contains(t, *w.executions[2].Input, `"a-child"`)
	assert.Regexp(t, `^a-child-unplanned-20260301$`, *w.executions[2].Name, "the night it was for")
	w.ends(t, w.executions[2], sfntypes.ExecutionStatusFailed)
	require.Len(t, w.executions, 4, "whatever became of the parent")
	assert.Contains(t, *w.executions[3].Input, `"a-grandchild"`)
}

func TestBuildsThatOneEventStartsBeginOneAfterTheOther(t *testing.T) {
	w := familyWorld(t)
	_, err := w.send(t, contract.SourceChangedEvent, `{"parameter":"/aws/service/base"}`)
	require.NoError(t, err)
	require.Len(t, w.executions, 2)
	assert.JSONEq(t, `{"recipe":"other"}`, *w.executions[0].Input)
	assert.JSONEq(t, `{"recipe":"sample","delaySeconds":300}`, *w.executions[1].Input)
}
