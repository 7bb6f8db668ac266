package stage

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	eventtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/evidence"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/release"
	"github.com/ami-factory/ami-factory/pkg/store"
)

type fakeTopic struct {
	faults
	messages []*sns.PublishInput
}

func (f *fakeTopic) Publish(_ context.Context, in *sns.PublishInput, _ ...func(*sns.Options)) (*sns.PublishOutput, error) {
	f.messages = append(f.messages, in)
	return &sns.PublishOutput{}, f.next("Publish")
}

type fakeBus struct {
	faults
	entries []eventtypes.PutEventsRequestEntry
	refuses string
}

func (f *fakeBus) PutEvents(_ context.Context, in *eventbridge.PutEventsInput, _ ...func(*eventbridge.Options)) (*eventbridge.PutEventsOutput, error) {
	f.entries = append(f.entries, in.Entries...)
	out := &eventbridge.PutEventsOutput{Entries: []eventtypes.PutEventsResultEntry{{}}}
	if f.refuses != "" {
		out.Entries[0].ErrorCode = aws.String(f.refuses)
	}
	return out, f.next("PutEvents")
}

func notify(t *testing.T, s *fakeS3, topic *fakeTopic, bus *fakeBus, set Settings, in NotifyInput) (NotifyOutput, error) {
	t.Helper()
	return Notify{Settings: set, Store: s.store(), Keys: s.directory(), SNS: topic, Events: bus}.Run(t.Context(), in)
}

func readReport(t *testing.T, s *fakeS3, o store.Object) evidence.Report {
	t.Helper()
	raw, err := s.store().Get(t.Context(), o)
	require.NoError(t, err)
	var r evidence.Report
	require.NoError(t, json.Unmarshal(raw, &r))
	return r
}

func TestNotifyOfAPublishedImage(t *testing.T) {
	w := newWorld(t)
	_, err := w.publish(t)
	require.NoError(t, err)
	_, err = w.s3.store().Put(t.Context(), "executions/run/console-builder.log", "text/plain", []byte("boot"))
	require.NoError(t, err)

	topic, bus := &fakeTopic{}, &fakeBus{}
	in := NotifyInput{
		CleanupInput: CleanupInput{Job: w.in.Job, Outcome: "Published"},
		Images:       map[string]string{home: "ami-new", remote: "ami-copy"}, Results: w.in.Results, Removed: []string{"i-1"}, Left: []string{},
	}
	out, err := notify(t, w.s3, topic, bus, settings(), in)
	require.NoError(t, err)
	assert.Equal(t, "Published", out.Status)
	assert.Contains(t, string(w.s3.get("executions/run/report.html")), "Published")

	r := readReport(t, w.s3, out.Report)
	assert.Equal(t, "debian", r.Recipe)
	assert.Equal(t, []evidence.Image{{Region: remote, ImageID: "ami-copy"}, {Region: home, ImageID: "ami-new"}}, r.Images)
	assert.Equal(t, []string{remote + ":/p/latest", home + ":/p/latest"}, r.Pointers)
	assert.Equal(t, "vm", r.Guests.Kind)
	assert.NotNil(t, r.Compliance)
	assert.Equal(t, []evidence.Log{{Title: "Serial console of the builder", URI: "s3://factory/executions/run/console-builder.log", SHA256: store.Digest([]byte("boot"))}}, r.Logs)
	assert.Equal(t, []string{"i-1"}, r.Removed)

	require.Len(t, bus.entries, 2)
	assert.Equal(t, "AMI Factory Image Published", *bus.entries[0].DetailType, "the announcement had failed")
	assert.Contains(t, *bus.entries[0].Detail, remote+":/p/latest")
	assert.Equal(t, "ami-factory", *bus.entries[1].Source)
	assert.Equal(t, "AMI Factory Execution Finished", *bus.entries[1].DetailType)
	assert.Equal(t, in.Now, *bus.entries[1].Time)
	var told Finished
	require.NoError(t, json.Unmarshal([]byte(*bus.entries[1].Detail), &told))
	assert.Equal(t, Finished{
		Execution: "arn:run", Name: "run", Status: "Published", Recipe: "debian", Fingerprint: "f00d", SourceImage: "ami-base",
		Action: "bake", Changed: []string{}, Images: in.Images, Left: []string{}, Report: "s3://factory/executions/run/report.html",
	}, told)

	require.Len(t, topic.messages, 1)
	assert.Equal(t, "ami-factory: Published: debian", *topic.messages[0].Subject)
	assert.Contains(t, *topic.messages[0].Message, "eu-west-1: ami-new\n")
}

func TestStatusOfAnExecution(t *testing.T) {
	for name, c := range map[string]struct {
		outcome string
		left    []string
		want    string
	}{
		"published":                      {"Published", nil, "Published"},
		"up to date":                     {"UpToDate", nil, "UpToDate"},
		"rejected":                       {"Rejected", nil, "Rejected"},
		"failed and clean":               {"Failed", nil, "FailedClean"},
		"failed, something is left":      {"Failed", []string{"i-1: x"}, "FailedDirty"},
		"something is left of a publish": {"Published", []string{"i-1: x"}, "FailedDirty"},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, c.want, status(NotifyInput{CleanupInput: CleanupInput{Outcome: c.outcome}, Left: c.left}))
		})
	}
}

func TestNotifyOfAFailureBeforeThereWasAPlan(t *testing.T) {
	s, topic, bus := newS3(t), &fakeTopic{}, &fakeBus{}
	in := NotifyInput{CleanupInput: CleanupInput{
		Job: Job{Execution: Execution{ID: "arn:run", Name: "run", StartTime: start}, State: "Notify", Now: start}, Outcome: "Failed",
		Error: "RecipeInvalid", Cause: "recipes/x.yaml:1:1: error: no", Failed: "Resolve",
	}, Left: []string{"i-1: denied"}}
	set := settings()
	set.Guests = "simulated nothing is run"
	out, err := notify(t, s, topic, bus, set, in)
	require.NoError(t, err)
	assert.Equal(t, "FailedDirty", out.Status)
	r := readReport(t, s, out.Report)
	assert.Equal(t, &evidence.Failure{State: "Resolve", Error: "RecipeInvalid", Cause: "recipes/x.yaml:1:1: error: no"}, r.Failure)
	assert.True(t, r.Simulated)
	assert.Equal(t, "[SIMULATED] ami-factory: FailedDirty", *topic.messages[0].Subject)
	for _, text := range []string{"No guest was really run", "RecipeInvalid in state Resolve", "recipes/x.yaml:1:1", "i-1: denied"} {
		assert.Contains(t, *topic.messages[0].Message, text)
	}
}

func TestReportOfARejectedImageHasItsResults(t *testing.T) {
	p := checkedPlan(t)
	_, s, err := complianceCase{uploaded: zipped(gossSays(p, "1"))}.run(t, p)
	requireCode(t, failure.ComplianceRejected, err)
	in := NotifyInput{CleanupInput: CleanupInput{Job: job(t, s, "Notify", p), Outcome: "Rejected", Error: "ComplianceRejected", Cause: err.Error(), Failed: "EvaluateGate"}}
	out, err := notify(t, s, &fakeTopic{}, &fakeBus{}, settings(), in)
	require.NoError(t, err)
	r := readReport(t, s, out.Report)
	require.NotNil(t, r.Compliance)
	assert.Equal(t, "SYS-02", r.Compliance.Rejections()[0].ControlID)
}

func TestNotifyFails(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*fakeS3, *fakeTopic, *fakeBus, *NotifyInput)
		want   failure.Code
		tells  string
	}{
		"no outcome is given": {func(_ *fakeS3, _ *fakeTopic, _ *fakeBus, in *NotifyInput) { in.Outcome = "" }, failure.InvalidInput, "outcome"},
		"the topic denies": {func(_ *fakeS3, f *fakeTopic, _ *fakeBus, _ *NotifyInput) {
			f.faults = faults{"Publish": {awsErr("AuthorizationError")}}
		}, failure.AccessDenied, "the report is written (s3://"},
		"the event is throttled": {func(_ *fakeS3, _ *fakeTopic, f *fakeBus, _ *NotifyInput) {
			f.faults = faults{"PutEvents": {awsErr("ThrottlingException")}}
		}, failure.Throttled, ""},
		"EventBridge does not take it": {func(_ *fakeS3, _ *fakeTopic, f *fakeBus, _ *NotifyInput) { f.refuses = "InternalFailure" }, failure.ServiceUnavailable, "InternalFailure"},
		"the report cannot be stored": {func(s *fakeS3, _ *fakeTopic, _ *fakeBus, _ *NotifyInput) {
			s.faults["PutObject"] = []error{awsErr("AccessDenied")}
		}, failure.AccessDenied, "report.html"},
		"the results were altered": {func(_ *fakeS3, _ *fakeTopic, _ *fakeBus, in *NotifyInput) {
			in.Results = store.Object{Bucket: bucket, Key: "plans/p.json", SHA256: "x"}
		}, failure.InvalidInput, "altered"},
		"the plan was altered": {func(s *fakeS3, _ *fakeTopic, _ *fakeBus, _ *NotifyInput) { s.put("plans/p.json", nil) }, failure.InvalidInput, "altered"},
	} {
		t.Run(name, func(t *testing.T) {
			s, topic, bus := newS3(t), &fakeTopic{}, &fakeBus{}
			in := NotifyInput{CleanupInput: CleanupInput{Job: job(t, s, "Notify", testPlan()), Outcome: "Failed"}}
			c.change(s, topic, bus, &in)
			_, err := notify(t, s, topic, bus, settings(), in)
			requireCode(t, c.want, err)
			assert.Contains(t, err.Error(), c.tells)
		})
	}
}

func TestNobodyToTell(t *testing.T) {
	s, topic := newS3(t), &fakeTopic{}
	set := settings()
	set.TopicARN = ""
	_, err := notify(t, s, topic, &fakeBus{}, set, NotifyInput{CleanupInput: CleanupInput{Job: job(t, s, "Notify", testPlan()), Outcome: "Failed"}})
	require.NoError(t, err)
	assert.Empty(t, topic.messages)
}

func TestTheReportAndTheMessageSayWhatRetentionDid(t *testing.T) {
	w := newWorld(t)
	_, err := w.publish(t)
	require.NoError(t, err)
	in := NotifyInput{
		CleanupInput: CleanupInput{Job: w.in.Job, Outcome: "Published"},
		Images:       map[string]string{home: "ami-new", remote: "ami-copy"}, Results: w.in.Results, Left: []string{},
	}
	record := retention{Of: bindingOf(w.in.Job, testPlan()), Images: []release.Decision{
		{Region: home, ImageID: "ami-new", Outcome: release.Kept, Why: home + ":/p/latest names it"},
		{Region: home, ImageID: "ami-older", Outcome: release.Deprecated, Why: "instance i-app of this account uses it"},
		{Region: home, ImageID: "ami-oldest", Outcome: release.Removed, Why: "superseded long ago"},
	}}
	_, err = w.s3.store().PutJSON(t.Context(), retentionKey(w.in.Execution), record)
	require.NoError(t, err)
	topic := &fakeTopic{}
	out, err := notify(t, w.s3, topic, &fakeBus{}, settings(), in)
	require.NoError(t, err)
	assert.Equal(t, []evidence.Retention{
		{Region: home, ImageID: "ami-older", Outcome: "deprecated", Why: "instance i-app of this account uses it"},
		{Region: home, ImageID: "ami-new", Outcome: "kept", Why: home + ":/p/latest names it"},
		{Region: home, ImageID: "ami-oldest", Outcome: "removed", Why: "superseded long ago"},
	}, readReport(t, w.s3, out.Report).Retention)
	message := aws.ToString(topic.messages[0].Message)
	assert.Contains(t, message, "Published images of this recipe, after retention:\n")
	assert.Contains(t, message, home+": ami-older deprecated: instance i-app of this account uses it\n")
	assert.Contains(t, message, home+": ami-oldest removed: superseded long ago\n")

	record.Of.Started = start.Add(-time.Hour) // of an earlier execution with the same name
	_, err = w.s3.store().PutJSON(t.Context(), retentionKey(w.in.Execution), record)
	require.NoError(t, err)
	out, err = notify(t, w.s3, topic, &fakeBus{}, settings(), in)
	require.NoError(t, err)
	r := readReport(t, w.s3, out.Report)
	assert.Empty(t, r.Retention)
	assert.Contains(t, r.Logs[0].Title, "The outcomes of retention are left out: the record of retention s3://factory/executions/run/retention.json does not belong to this execution")
}

func TestALongListOfImagesIsCutInTheMessageOnly(t *testing.T) {
	w := newWorld(t)
	record := retention{Of: bindingOf(w.in.Job, testPlan())}
	for i := range maxListed + 7 {
		record.Images = append(record.Images, release.Decision{Region: home, ImageID: fmt.Sprintf("ami-%03d", i), Outcome: release.Kept, Why: "why"})
	}
	_, err := w.s3.store().PutJSON(t.Context(), retentionKey(w.in.Execution), record)
	require.NoError(t, err)
	topic := &fakeTopic{}
	out, err := notify(t, w.s3, topic, &fakeBus{}, settings(), NotifyInput{CleanupInput: CleanupInput{Job: w.in.Job, Outcome: "Published"}, Results: w.in.Results})
	require.NoError(t, err)
	assert.Len(t, readReport(t, w.s3, out.Report).Retention, maxListed+7)
	assert.Contains(t, aws.ToString(topic.messages[0].Message), "and 7 more; the report lists all")
}

func TestTheMessageSaysWhichWaiversEndSoon(t *testing.T) {
	p := testPlan()
	for expires, says := range map[string]bool{
		start.AddDate(0, 0, 13).Format(time.DateOnly): true,
		start.AddDate(0, 0, 14).Format(time.DateOnly): false,
		start.AddDate(0, 0, -1).Format(time.DateOnly): false, // it has ended: the gate says so
	} {
		for _, announced := range []bool{true, false} {
			p.SharedWaivers = []compliance.Waiver{{Control: "SYS-02", Approver: "security@example.com", Expires: expires, File: "waivers/team.yaml"}}
			s, topic, bus := newS3(t), &fakeTopic{}, &fakeBus{}
			in := NotifyInput{CleanupInput: CleanupInput{Job: job(t, s, "Notify", p), Outcome: "Failed", Error: "Internal", Cause: "x"}}
			if announced {
				in.Announce, in.Outcome, in.Error, in.Cause = true, contract.Published, "", ""
			}
			_, err := notify(t, s, topic, bus, settings(), in)
			require.NoError(t, err)
			require.Len(t, topic.messages, 1)
			if says {
				assert.Contains(t, *topic.messages[0].Message, "\nWaivers that end soon:\nthe waiver of SYS-02 ends on "+expires+", with 14 days left;")
				assert.Contains(t, *bus.entries[len(bus.entries)-1].Detail, `"waiversEnding":["the waiver of SYS-02 ends on`)
			} else {
				assert.NotContains(t, *topic.messages[0].Message, "Waivers")
			}
		}
	}
}
