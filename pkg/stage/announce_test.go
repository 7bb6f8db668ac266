package stage

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/release"
	"github.com/ami-factory/ami-factory/pkg/store"
)

func TestConsumersAreInformedAsSoonAsTheImageIsPublished(t *testing.T) {
	w := newWorld(t)
	_, err := w.publish(t)
	require.NoError(t, err)
	topic, bus := &fakeTopic{}, &fakeBus{}
	var lines bytes.Buffer
	images := map[string]string{home: "ami-new", remote: "ami-copy"}
	in := NotifyInput{CleanupInput: CleanupInput{Job: w.in.Job, Outcome: contract.Published}, Images: images, Announce: true}
	out, err := Notify{Settings: settings(), Store: w.s3.store(), Keys: w.s3.directory(), SNS: topic, Events: bus, Metrics: &lines}.Run(t.Context(), in)
	require.NoError(t, err)
	assert.Equal(t, contract.Published, out.Status)
	_, err = w.s3.store().Read(t.Context(), "executions/run/report.html")
	require.ErrorIs(t, err, store.ErrNone, "the report follows")
	assert.Empty(t, lines.String(), "and so do the metrics")

	require.Len(t, bus.entries, 1)
	assert.Equal(t, "AMI Factory Image Published", *bus.entries[0].DetailType)
	var told Announcement
	require.NoError(t, json.Unmarshal([]byte(*bus.entries[0].Detail), &told))
	pointers := []string{remote + ":/p/latest", home + ":/p/latest"}
	assert.Equal(t, Announcement{
		Execution: "arn:run", Name: "run", Recipe: "debian", Fingerprint: "f00d", SourceImage: "ami-base", Action: "bake", Changed: []string{},
		Images: images, Pointers: pointers, Report: "s3://factory/executions/run/report.html",
	}, told)

	require.Len(t, topic.messages, 1)
	assert.Equal(t, "ami-factory: Published: debian", *topic.messages[0].Subject)
	assert.Equal(t, "Published", *topic.messages[0].MessageAttributes["status"].StringValue)
	for _, text := range append(pointers, "eu-west-1: ami-new\n", "s3://factory/executions/run/report.html") {
		assert.Contains(t, *topic.messages[0].Message, text)
	}
}

func TestAMessageAboutTheEndFollowsAnAnnouncementOnlyIfItHasSomethingElseToSay(t *testing.T) {
	kept := []release.Decision{{Region: home, ImageID: "ami-new", Outcome: release.Kept, Why: "it is the newest"}}
	removed := append([]release.Decision{{Region: home, ImageID: "ami-old", Outcome: release.Removed, Why: "superseded long ago"}}, kept...)
	for sentence, tc := range map[string]struct {
		in       NotifyInput
		retained []release.Decision
		want     string // the subject; empty: no message
	}{
		"everything went well":            {NotifyInput{Announced: true}, kept, ""},
		"retention removed an image":      {NotifyInput{Announced: true}, removed, "ami-factory: Retention: debian"},
		"consumers could not be informed": {NotifyInput{}, kept, "ami-factory: Published: debian"},
		"something is left":               {NotifyInput{Announced: true, Left: []string{"i-1: no"}}, kept, "ami-factory: FailedDirty: debian"},
		"retention failed":                {NotifyInput{Announced: true, CleanupInput: CleanupInput{Error: "Throttled", Cause: "slow", Failed: "Retire"}}, nil, "ami-factory: Published: debian"},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := newWorld(t)
			_, err := w.publish(t)
			require.NoError(t, err)
			_, err = w.s3.store().PutJSON(t.Context(), retentionKey(w.in.Execution), retention{Of: bindingOf(w.in.Job, testPlan()), Images: tc.retained})
			require.NoError(t, err)
			topic, bus := &fakeTopic{}, &fakeBus{}
			tc.in.Job, tc.in.Outcome, tc.in.Results = w.in.Job, contract.Published, w.in.Results
			tc.in.Images = map[string]string{home: "ami-new", remote: "ami-copy"}
			_, err = notify(t, w.s3, topic, bus, settings(), tc.in)
			require.NoError(t, err)
			want := []string{"AMI Factory Execution Finished"} // in any case
			if !tc.in.Announced {
				want = append([]string{"AMI Factory Image Published"}, want...)
			}
			var sent []string
			for _, e := range bus.entries {
				sent = append(sent, *e.DetailType)
			}
			assert.Equal(t, want, sent)
			if tc.want == "" {
				assert.Empty(t, topic.messages)
				return
			}
			require.Len(t, topic.messages, 1)
			assert.Equal(t, tc.want, *topic.messages[0].Subject)
			if strings.Contains(tc.want, "Retention") {
				assert.Contains(t, *topic.messages[0].Message, "ami-old removed: superseded long ago")
			}
		})
	}
}

func TestAnAnnouncementFails(t *testing.T) {
	for sentence, tc := range map[string]struct {
		change func(*fakeTopic, *fakeBus, *NotifyInput)
		want   failure.Code
	}{
		"the topic denies": {func(f *fakeTopic, _ *fakeBus, _ *NotifyInput) {
			f.faults = faults{"Publish": {awsErr("AuthorizationError")}}
		}, failure.AccessDenied},
		"the event is throttled": {func(_ *fakeTopic, f *fakeBus, _ *NotifyInput) {
			f.faults = faults{"PutEvents": {awsErr("ThrottlingException")}}
		}, failure.Throttled},
		"EventBridge does not take it": {func(_ *fakeTopic, f *fakeBus, _ *NotifyInput) { f.refuses = "InternalFailure" }, failure.ServiceUnavailable},
		"there is no plan":             {func(_ *fakeTopic, _ *fakeBus, in *NotifyInput) { in.Plan.Key = "" }, failure.InvalidInput},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := newWorld(t)
			_, err := w.publish(t)
			require.NoError(t, err)
			topic, bus := &fakeTopic{}, &fakeBus{}
			in := NotifyInput{CleanupInput: CleanupInput{Job: w.in.Job, Outcome: contract.Published}, Announce: true}
			tc.change(topic, bus, &in)
			_, err = notify(t, w.s3, topic, bus, settings(), in)
			requireCode(t, tc.want, err)
		})
	}
}
