package test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	eventtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/blueprint"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/localcloud/events"
	"github.com/ami-factory/ami-factory/pkg/partition"
	"github.com/ami-factory/ami-factory/pkg/rehearsal"
	"github.com/ami-factory/ami-factory/pkg/store"
	"github.com/ami-factory/ami-factory/pkg/trigger"
	"github.com/ami-factory/ami-factory/pkg/trigger/decide"
	"github.com/ami-factory/ami-factory/pkg/workflow"
	"github.com/ami-factory/ami-factory/userdata"
)

const (
	child       = "child" // builds on the image of recipeName
	baseChanged = `{"parameter":"/aws/service/debian/release/12/latest/amd64","imageId":"ami-00000000","region":"eu-west-1"}`
)

// familyFactory has two recipes; one builds on the other's image.
func familyFactory(t *testing.T, change func(*rehearsal.Options)) *rehearsal.Factory {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, userdata.FS))
	parent, err := os.ReadFile(filepath.Join(dir, "recipes", recipeName+".yaml"))
	require.NoError(t, err)
	text := strings.NewReplacer(
		"name: "+recipeName, "name: "+child, "/aws/service/debian/release/12/latest/amd64", pointer,
		`"136693071363"`, `"111122223333"`, pointer, "/ami-factory/child/latest",
	).Replace(string(parent))
	others, err := filepath.Glob(filepath.Join(dir, "recipes", "*.yaml"))
	require.NoError(t, err)
	for _, file := range others {
		if filepath.Base(file) != recipeName+".yaml" {
			require.NoError(t, os.Remove(file))
		}
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "recipes", child+".yaml"), []byte(text), 0o600))
	return simFactory(t, func(o *rehearsal.Options) {
		o.UserDataDir = dir
		if change != nil {
			change(o)
		}
	})
}

// invoke calls a function with the SDK's own client.
func invoke(t testing.TB, f *rehearsal.Factory, name workflow.Stage, payload string) (string, error) {
	t.Helper()
	client := lambda.NewFromConfig(f.Cloud.AWSConfig(""))
	out, err := client.Invoke(context.Background(), &lambda.InvokeInput{FunctionName: aws.String("ami-factory-" + string(name)), Payload: []byte(payload)})
	require.NoError(t, err)
	if out.FunctionError != nil {
		return "", fmt.Errorf("%s", out.Payload)
	}
	return string(out.Payload), nil
}

func nightAt(at string) string {
	return `{"detail-type":"` + contract.NightlyEvent + `","time":"` + at + `","detail":{}}`
}

func considered(t *testing.T, payload string) map[string]trigger.Considered {
	t.Helper()
	var out trigger.StartBuildsOutput
	require.NoError(t, json.Unmarshal([]byte(payload), &out))
	by := map[string]trigger.Considered{}
	for _, c := range out.Recipes {
		by[c.Recipe] = c
	}
	return by
}

// executions are all that there were, the oldest first, when none runs any more
// and the triggers have received the end of each.
func executions(t *testing.T, f *rehearsal.Factory, want int) []string {
	t.Helper()
	var out []string
	require.Eventually(t, func() bool {
		list, err := f.Cloud.States.ListExecutions(context.Background(), &sfn.ListExecutionsInput{StateMachineArn: &f.StateMachine})
		require.NoError(t, err)
		out = nil
		for _, e := range list.Executions {
			if e.Status == sfntypes.ExecutionStatusRunning {
				return false
			}
			out = append(out, aws.ToString(e.Name))
		}
		slices.Reverse(out)
		return len(out) >= want
	}, time.Minute, 20*time.Millisecond)
	return out
}

func invocationsOf(f *rehearsal.Factory, name workflow.Stage) int {
	for _, s := range f.Cloud.Lambda.Stats() {
		if strings.HasSuffix(s.Function, ":ami-factory-"+string(name)) {
			return s.Invocations
		}
	}
	return 0
}

// settled waits until the function has answered so many invocations.
func settled(t *testing.T, f *rehearsal.Factory, invocations int) {
	t.Helper()
	require.Eventually(t, func() bool {
		return invocationsOf(f, blueprint.StartBuilds) >= invocations
	}, time.Minute, 20*time.Millisecond)
}

func TestAChangedSourceBuildsTheDependantsOnceThoughToldFiveTimes(t *testing.T) {
	t.Parallel()
	f := familyFactory(t, nil)
	client := eventbridge.NewFromConfig(f.Cloud.AWSConfig(""))
	var entries []eventtypes.PutEventsRequestEntry
	for range 5 {
		entries = append(entries, eventtypes.PutEventsRequestEntry{
			EventBusName: aws.String(contract.FactoryBus), Source: aws.String("ami-factory"),
			DetailType: aws.String(contract.SourceChangedEvent), Detail: aws.String(baseChanged),
		})
	}
	out, err := client.PutEvents(t.Context(), &eventbridge.PutEventsInput{Entries: entries})
	require.NoError(t, err)
	require.Zero(t, out.FailedEntryCount)

	settled(t, f, 7) // five events, two ends
	ran := executions(t, f, 2)
	require.Len(t, ran, 2, "one of the recipe, then one of what builds on it")
	assert.Regexp(t, `^debian-12-docker-[0-9a-f]{16}$`, ran[0])
	assert.Regexp(t, `^child-[0-9a-f]{16}$`, ran[1])
	assert.NotEmpty(t, pointed(t, f, home))
	left := take(t, f)
	assert.Len(t, left.Images, 4, "two recipes in two regions")
	assert.Empty(t, left.Alive)
}

func TestANightBuildsOnlyWhatIsStale(t *testing.T) {
	t.Parallel()
	f := familyFactory(t, nil)
	first, err := invoke(t, f, blueprint.StartBuilds, nightAt("2026-11-02T03:00:00Z"))
	require.NoError(t, err)
	got := considered(t, first)
	assert.Equal(t, decide.Start, got[recipeName].Action)
	assert.Equal(t, recipeName, got[recipeName].Recipe)
	assert.Equal(t, decide.Wait, got[child].Action, "both are stale, and it builds on what the other is about to publish")
	assert.Contains(t, got[child].Why, "it builds on the image of recipe "+recipeName)
	settled(t, f, 3) // the night, and two ends
	ran := executions(t, f, 2)
	require.Len(t, ran, 2, "each once, the parent first")
	assert.Regexp(t, `^debian-12-docker-[0-9a-f]{16}-20261102$`, ran[0])
	assert.Regexp(t, `^child-[0-9a-f]{16}-20261102$`, ran[1])

	second, err := invoke(t, f, blueprint.StartBuilds, nightAt("2026-11-03T03:00:00Z"))
	require.NoError(t, err)
	for _, name := range []string{recipeName, child} {
		assert.Equal(t, decide.Skip, considered(t, second)[name].Action, name)
		assert.Contains(t, considered(t, second)[name].Why, "up to date", name)
	}
	aged, err := invoke(t, f, blueprint.StartBuilds, nightAt("2026-12-24T03:00:00Z"))
	require.NoError(t, err)
	assert.Contains(t, considered(t, aged)[recipeName].Why, "days old")
	assert.Equal(t, decide.Start, considered(t, aged)[recipeName].Action)
}

func TestTheWatcherTellsOfEachSourceThatMovedAndOfNothingElse(t *testing.T) {
	t.Parallel()
	f := familyFactory(t, nil)
	var mu sync.Mutex
	var details []string
	defer f.Cloud.Events.Subscribe(func(e events.Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Bus == contract.FactoryBus {
			detail, _ := json.Marshal(e.Detail)
			details = append(details, string(detail))
		}
	})()
	look := func() trigger.WatchOutput {
		raw, err := invoke(t, f, blueprint.WatchSources, "{}")
		require.NoError(t, err)
		var out trigger.WatchOutput
		require.NoError(t, json.Unmarshal([]byte(raw), &out))
		return out
	}
	first := look()
	assert.Equal(t, 2, first.Sources)
	assert.Empty(t, first.Changed, "what is seen for the first time has not changed")
	assert.Equal(t, []string{pointer}, first.Missing)
	assert.Empty(t, look().Changed)

	bake(t, f, contract.ExecutionInput{})
	executions(t, f, 2)
	assert.Empty(t, look().Changed, "the pointer is new")
	_, err := f.Cloud.SSM.PutParameter(t.Context(), &ssm.PutParameterInput{
		Name: aws.String(pointer), Value: aws.String("ami-0123456789abcdef0"), Overwrite: aws.Bool(true),
	})
	require.NoError(t, err)
	moved := look()
	require.Len(t, moved.Changed, 1)
	assert.Equal(t, decide.Change{Parameter: pointer, ImageID: "ami-0123456789abcdef0", Region: home}, moved.Changed[0])
	assert.Empty(t, look().Changed)
	mu.Lock()
	defer mu.Unlock()
	require.Len(t, details, 1)
	assert.JSONEq(t, `{"parameter":"`+pointer+`","imageId":"ami-0123456789abcdef0","region":"eu-west-1"}`, details[0])
}

func TestAForgedAnnouncementBuildsNothing(t *testing.T) {
	t.Parallel()
	f := familyFactory(t, nil)
	topic := blueprint.AnnouncementTopics(partition.Default)[0]
	for sentence, tc := range map[string]struct{ message, code string }{
		"without a signature": {`{"Type":"Notification","MessageId":"95df01b4-ee98-5cb9-9903-4c221d41eb5e","TopicArn":"` + topic + `","Message":"x"}`, "AnnouncementRefused"},
		"of somebody's topic": {`{"Type":"Notification","MessageId":"95df01b4-ee98-5cb9-9903-4c221d41eb5e","TopicArn":"arn:aws:sns:us-east-1:666666666666:amazon-linux-2023-ami-updates","Message":"x"}`, "AnnouncementRefused"},
		"of no record at all": {"", "InvalidInput"},
	} {
		t.Run(sentence, func(t *testing.T) {
			records := `{"Records":[]}`
			if tc.message != "" {
				records = `{"Records":[{"EventSource":"aws:sns","EventVersion":"1.0","Sns":` + tc.message + `}]}`
			}
			_, err := invoke(t, f, blueprint.ReleaseAnnounced, records)
			require.ErrorContains(t, err, tc.code)
		})
	}
	assert.Empty(t, executions(t, f, 0))
	assert.Zero(t, invocationsOf(f, blueprint.StartBuilds), "nothing was even considered")
}

func TestARecipeThatFailsAgainAndAgainIsPausedUntilItIsResumed(t *testing.T) {
	t.Parallel()
	f := familyFactory(t, func(o *rehearsal.Options) { o.Simulated.FailComponent = "docker" })
	for n, at := range []string{"2026-11-02T03:00:00Z", "2026-11-03T03:00:00Z", "2026-11-04T03:00:00Z"} {
		out, err := invoke(t, f, blueprint.StartBuilds, nightAt(at))
		require.NoError(t, err)
		require.Equal(t, decide.Start, considered(t, out)[recipeName].Action, at)
		settled(t, f, 3*(n+1)) // the night, and two ends
		executions(t, f, 2*(n+1))
	}
	night := func(at string) trigger.Considered {
		out, err := invoke(t, f, blueprint.StartBuilds, nightAt(at))
		require.NoError(t, err)
		return considered(t, out)[recipeName]
	}
	paused := night("2026-11-05T03:00:00Z")
	assert.Equal(t, decide.Skip, paused.Action)
	assert.Contains(t, paused.Why, "paused after 3 failures in a row")

	was, err := trigger.Resume(t.Context(), store.Store{Bucket: f.Bucket, API: f.Cloud.S3}, recipeName)
	require.NoError(t, err)
	assert.True(t, was)
	assert.Equal(t, decide.Start, night("2026-11-06T03:00:00Z").Action)
}

// finding is an event as Amazon Inspector sends it, of an instance of an image.
func finding(image, vulnerability, fix string) eventtypes.PutEventsRequestEntry {
	detail := `{"awsAccountId":"444455556666","findingArn":"arn:aws:inspector2:eu-west-1:444455556666:finding/1","type":"PACKAGE_VULNERABILITY",` +
		`"status":"ACTIVE","severity":"HIGH","fixAvailable":"` + fix + `","packageVulnerabilityDetails":{"vulnerabilityId":"` + vulnerability + `",` +
		`"vulnerablePackages":[{"name":"openssl","fixedInVersion":"0:3.0.18-1"}]},"resources":[{"type":"AWS_EC2_INSTANCE","id":"i-0123456789abcdef0",` +
		`"region":"eu-west-1","details":{"awsEc2Instance":{"imageId":"` + image + `"}}}]}`
	return eventtypes.PutEventsRequestEntry{
		Source: aws.String("aws.inspector2"), DetailType: aws.String(contract.InspectorEvent), Detail: &detail, Resources: []string{"i-0123456789abcdef0"},
	}
}

// inspects has the embedded AWS's own services send events, as only they may.
func inspects(t *testing.T, f *rehearsal.Factory, entries ...eventtypes.PutEventsRequestEntry) {
	t.Helper()
	for _, e := range entries {
		require.NoError(t, f.Cloud.Events.Emit(t.Context(), events.Event{
			Source: *e.Source, DetailType: *e.DetailType, Resources: e.Resources, Detail: json.RawMessage(*e.Detail),
			Account: f.Cloud.Account(), Region: f.Cloud.Region(), Time: time.Date(2026, 11, 10, 12, 0, 0, 0, time.UTC),
		}))
	}
}

func TestAVulnerabilityWithAFixBuildsThePublishedImageAnewOnceThoughFiveInstancesHaveIt(t *testing.T) {
	t.Parallel()
	f := familyFactory(t, nil)
	published := bake(t, f, contract.ExecutionInput{})
	require.Equal(t, contract.Published, published.Status, published.Cause)
	settled(t, f, 2) // the parent's end, and the child's, which follows
	executions(t, f, 2)
	before, image := invocationsOf(f, blueprint.StartBuilds), published.Images[home]

	inspects(t, f, finding(image, "CVE-2026-0001", "NO"), finding(debianImage(t, f), "CVE-2026-0001", "YES"))
	for range 5 {
		inspects(t, f, finding(image, "CVE-2026-0001", "YES"))
	}
	// Of the two others the rule lets one through; then two builds end.
	settled(t, f, before+8)
	ran := executions(t, f, 4)
	require.Len(t, ran, 4, "the image again, and the one that builds on it")
	assert.Regexp(t, `^debian-12-docker-[0-9a-f]{16}-fix-[0-9a-f]{8}$`, ran[2])
	assert.Regexp(t, `^child-[0-9a-f]{16}$`, ran[3])
	assert.NotEqual(t, image, pointed(t, f, home), "consumers get another image")

	inspects(t, f, finding(image, "CVE-2026-0002", "YES"), finding(pointed(t, f, home), "CVE-2026-0001", "YES"))
	settled(t, f, before+10)
	assert.Len(t, executions(t, f, 4), 4, "the old image is answered, and the new one waits for its day")
}

func TestForgedFindingsStartNothingAndWhatTheOperatorChoseDoes(t *testing.T) {
	t.Parallel()
	const ownProduct = "arn:aws:securityhub:eu-west-1:111122223333:product/111122223333/default"
	hub := func(kind, detail string) eventtypes.PutEventsRequestEntry {
		return eventtypes.PutEventsRequestEntry{Source: aws.String("aws.securityhub"), DetailType: &kind, Detail: &detail}
	}
	asff := func(product, image string) eventtypes.PutEventsRequestEntry {
		return hub(contract.SecurityHubEvent, `{"findings":[{"ProductArn":"`+product+`","RecordState":"ACTIVE","Workflow":{"Status":"NEW"},"Region":"eu-west-1",`+
			`"Severity":{"Label":"HIGH"},"Vulnerabilities":[{"Id":"CVE-2026-0001","FixAvailable":"YES"}],`+
			`"Resources":[{"Type":"AwsEc2Instance","Region":"eu-west-1","Details":{"AwsEc2Instance":{"ImageId":"`+image+`"}}}]}]}`)
	}
	ocsf := func(product, image string) eventtypes.PutEventsRequestEntry {
		return hub(contract.SecurityHubV2Event, `{"findings":[{"class_uid":2002,"status_id":1,"severity":"High","metadata":{"product":{"uid":"`+product+`"}},`+
			`"cloud":{"region":"eu-west-1"},"vulnerabilities":[{"cve":{"uid":"CVE-2026-0001"},"is_fix_available":true}],`+
			`"resources":[{"uid":"arn:aws:ec2:eu-west-1::image/`+image+`","region":"eu-west-1"}]}]}`)
	}
	as := func(e eventtypes.PutEventsRequestEntry, source, kind string) eventtypes.PutEventsRequestEntry {
		e.Source, e.DetailType = &source, &kind
		return e
	}
	onDemand := func(image string) eventtypes.PutEventsRequestEntry {
		return as(finding(image, "CVE-2026-0001", "YES"), "inspector2.ami.ondemand", contract.OnDemandEvent)
	}
	// chosen is what makes the events of a person count.
	for sentence, tc := range map[string]struct {
		chosen func(*rehearsal.Options)
		put    func(image string) eventtypes.PutEventsRequestEntry // by a person; nil: AWS sends
		sent   func(image string) eventtypes.PutEventsRequestEntry // by AWS
	}{
		"an on-demand scan":     {chosen: func(o *rehearsal.Options) { o.OnDemandFindings = true }, put: onDemand},
		"a product of a person": {chosen: func(o *rehearsal.Options) { o.FindingProducts = []string{ownProduct} }, sent: func(i string) eventtypes.PutEventsRequestEntry { return asff(ownProduct, i) }},
		"Inspector through a hub": {sent: func(i string) eventtypes.PutEventsRequestEntry {
			return asff("arn:aws:securityhub:eu-west-1::product/aws/inspector", i)
		}},
		"Inspector through a hub in OCSF": {sent: func(i string) eventtypes.PutEventsRequestEntry {
			return ocsf("arn:aws:securityhub:eu-west-1::productv2/aws/inspector", i)
		}},
	} {
		t.Run("what counts: "+sentence, func(t *testing.T) {
			f := simFactory(t, tc.chosen)
			published := bake(t, f, contract.ExecutionInput{})
			require.Equal(t, contract.Published, published.Status, published.Cause)
			image := published.Images[home]
			if tc.put != nil {
				out, err := eventbridge.NewFromConfig(f.Cloud.AWSConfig("")).PutEvents(t.Context(), &eventbridge.PutEventsInput{Entries: []eventtypes.PutEventsRequestEntry{tc.put(image)}})
				require.NoError(t, err)
				require.Zero(t, out.FailedEntryCount)
			} else {
				inspects(t, f, tc.sent(image))
			}
			assert.Regexp(t, `-fix-[0-9a-f]{8}$`, executions(t, f, 2)[1])
		})
	}

	f := simFactory(t, nil)
	published := bake(t, f, contract.ExecutionInput{})
	require.Equal(t, contract.Published, published.Status, published.Cause)
	settled(t, f, 1)
	image := published.Images[home]
	client := eventbridge.NewFromConfig(f.Cloud.AWSConfig(""))
	inspector := "arn:aws:securityhub:eu-west-1::product/aws/inspector"
	reserved := []eventtypes.PutEventsRequestEntry{
		finding(image, "CVE-2026-0001", "YES"), asff(inspector, image), ocsf("arn:aws:securityhub:eu-west-1::productv2/aws/inspector", image),
	}
	free := []eventtypes.PutEventsRequestEntry{
		onDemand(image),
		as(onDemand(image), "inspector2.ami.ondemand", contract.InspectorEvent),
		as(onDemand(image), "my.inspector2", contract.InspectorEvent),
		as(asff(inspector, image), "inspector2.ami.ondemand", contract.SecurityHubEvent),
		as(asff(inspector, image), "my.securityhub", contract.SecurityHubEvent),
	}
	out, err := client.PutEvents(t.Context(), &eventbridge.PutEventsInput{Entries: append(free, reserved...)})
	require.NoError(t, err)
	require.EqualValues(t, len(reserved), out.FailedEntryCount)
	for i, entry := range out.Entries {
		if i < len(free) {
			assert.NotEmpty(t, entry.EventId, "EventBridge takes whatever is of no source of AWS's")
		} else {
			assert.Equal(t, "NotAuthorizedForSourceException", aws.ToString(entry.ErrorCode))
		}
	}
	inspects(t, f, // as they come from findings that people import
		asff(ownProduct, image), asff("arn:aws:securityhub:eu-west-1::product/prowler/prowler", image), asff("", image),
		ocsf("arn:aws:securityhub:eu-west-1:111122223333:productv2/111122223333/default", image), ocsf("", image))

	// The true one comes last, and the rules have let none of the others through.
	inspects(t, f, finding(image, "CVE-2026-0001", "YES"))
	ran := executions(t, f, 2)
	require.Len(t, ran, 2)
	assert.Regexp(t, `-fix-[0-9a-f]{8}$`, ran[1])
	settled(t, f, 3)
	assert.Equal(t, 3, invocationsOf(f, blueprint.StartBuilds), "two ends and one finding")
}

// debianImage is an image that is not the factory's.
func debianImage(t *testing.T, f *rehearsal.Factory) string {
	t.Helper()
	out, err := f.Cloud.EC2.DescribeImages(t.Context(), &ec2.DescribeImagesInput{Owners: []string{"136693071363"}}, func(o *ec2.Options) { o.Region = home })
	require.NoError(t, err)
	require.NotEmpty(t, out.Images)
	return aws.ToString(out.Images[0].ImageId)
}

func TestAnExecutionWithADelayBeginsAfterIt(t *testing.T) {
	t.Parallel()
	f := simFactory(t, nil)
	client := sfn.NewFromConfig(f.Cloud.AWSConfig(""))
	started, err := client.StartExecution(t.Context(), &sfn.StartExecutionInput{
		StateMachineArn: &f.StateMachine, Input: aws.String(`{"recipe":"` + recipeName + `","delaySeconds":600}`),
	})
	require.NoError(t, err)
	executions(t, f, 1)
	end, err := client.DescribeExecution(t.Context(), &sfn.DescribeExecutionInput{ExecutionArn: started.ExecutionArn})
	require.NoError(t, err)
	require.Equal(t, sfntypes.ExecutionStatusSucceeded, end.Status, aws.ToString(end.Cause))
	history, err := client.GetExecutionHistory(t.Context(), &sfn.GetExecutionHistoryInput{ExecutionArn: started.ExecutionArn})
	require.NoError(t, err)
	for _, e := range history.Events {
		if e.StateEnteredEventDetails != nil && *e.StateEnteredEventDetails.Name == "Resolve" {
			assert.Equal(t, 10*time.Minute, e.Timestamp.Sub(*end.StartDate).Round(time.Minute))
			return
		}
	}
	t.Fatal("Resolve was never entered")
}

func TestAnExecutionOfAWrongInputFailsAtOnceAndSaysWhatIsAllowed(t *testing.T) {
	t.Parallel()
	f := simFactory(t, nil)
	client := sfn.NewFromConfig(f.Cloud.AWSConfig(""))
	for sentence, tc := range map[string]struct{ input, code, cause string }{
		"an unknown recipe":             {`{"recipe":"debian-99"}`, "RecipeInvalid", `unknown recipe "debian-99"`},
		"which there are":               {`{"recipe":"debian-99"}`, "RecipeInvalid", recipeName},
		"a recipe that is a path":       {`{"recipe":"../x"}`, "RecipeInvalid", `unknown recipe "../x"`},
		"a recipe that is a number":     {`{"recipe":12}`, "InvalidInput", "recipe is of type number (allowed: a string)"},
		"no recipe":                     {`{"force":true}`, "InvalidInput", "recipe"},
		"an unknown field":              {`{"recipe":"` + recipeName + `","sorce":"ami-0123456789abcdef0"}`, "InvalidInput", `unknown field "sorce" (allowed: delaySeconds, force, recipe, source)`},
		"force that is a text":          {`{"recipe":"` + recipeName + `","force":"yes"}`, "InvalidInput", "force is of type string (allowed: true or false)"},
		"a source that is no image":     {`{"recipe":"` + recipeName + `","source":"debian-12"}`, "InvalidInput", `"debian-12" is not an AMI id`},
		"a source that is not there":    {`{"recipe":"` + recipeName + `","source":"ami-0123456789abcdef0"}`, "SourceNotFound", "ami-0123456789abcdef0"},
		"a delay that is a text":        {`{"recipe":"` + recipeName + `","delaySeconds":"60"}`, "InvalidInput", "delaySeconds is of type string (allowed: a whole number)"},
		"a delay of days":               {`{"recipe":"` + recipeName + `","delaySeconds":86400}`, "InvalidInput", "delaySeconds is 86400 (allowed: 0 to 3600)"},
		"a delay into the past":         {`{"recipe":"` + recipeName + `","delaySeconds":-1}`, "InvalidInput", "delaySeconds is -1 (allowed: 0 to 3600)"},
		"a delay of a part of a second": {`{"recipe":"` + recipeName + `","delaySeconds":0.5}`, "InvalidInput", "delaySeconds is of type number 0.5 (allowed: a whole number)"},
		"no object":                     {`"` + recipeName + `"`, "InvalidInput", `such as {"recipe": "debian-12-docker"}`},
		"nothing at all":                {`{}`, "InvalidInput", `such as {"recipe": "debian-12-docker"}`},
		"a list":                        {`["` + recipeName + `"]`, "InvalidInput", `such as {"recipe": "debian-12-docker"}`},
	} {
		t.Run(sentence, func(t *testing.T) {
			started, err := client.StartExecution(t.Context(), &sfn.StartExecutionInput{StateMachineArn: &f.StateMachine, Input: &tc.input})
			require.NoError(t, err)
			var end *sfn.DescribeExecutionOutput
			require.Eventually(t, func() bool {
				end, err = client.DescribeExecution(t.Context(), &sfn.DescribeExecutionInput{ExecutionArn: started.ExecutionArn})
				require.NoError(t, err)
				return end.Status != sfntypes.ExecutionStatusRunning
			}, time.Minute, 10*time.Millisecond)
			assert.Equal(t, sfntypes.ExecutionStatusFailed, end.Status)
			assert.Equal(t, tc.code, aws.ToString(end.Error))
			assert.Contains(t, aws.ToString(end.Cause), tc.cause)
			assert.Less(t, end.StopDate.Sub(*end.StartDate), time.Minute, "at once")
		})
	}
	requireNothingLeft(t, f)
}
