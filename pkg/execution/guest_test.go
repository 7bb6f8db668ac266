package execution

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/stretchr/testify/assert"

	"github.com/ami-factory/ami-factory/pkg/guest"
)

func TestTheStepsOfABuilderAreReportedOnce(t *testing.T) {
	const (
		first  = `{"schema":1,"steps":[{"name":"hardening","status":"running"}]}`
		second = `{"schema":1,"steps":[{"name":"hardening","status":"ok","seconds":15},{"name":"docker","status":"running"}]}`
		third  = `{"schema":1,"steps":[{"name":"hardening","status":"ok","seconds":15},{"name":"docker","status":"failed","seconds":3}]}`
	)
	var answers []string
	b := builderSteps{bucket: "b", key: "k", progress: GuestProgress{Role: "builder"}, read: func(context.Context, string, string) ([]byte, error) {
		next := answers[0]
		answers = answers[1:]
		switch next {
		case "":
			return nil, nil
		case "denied":
			return nil, errors.New("AccessDenied")
		}
		return []byte(next), nil
	}}
	for _, step := range []struct {
		answer string
		want   []string
	}{
		{"", nil},
		{first, []string{"working hardening running 0s"}},
		{second, []string{"stepped hardening ok after 15s", "working docker running 0s"}},
		{second, []string{"working docker running 0s"}},
		{"denied", []string{"stepped its steps cannot be shown: AccessDenied"}},
		{"denied", nil},
		{"no JSON", nil},
		{third, []string{"stepped docker FAILED after 3s"}},
		{third, nil},
	} {
		answers = append(answers, step.answer)
		var got []string
		for _, e := range b.look(t.Context()) {
			assert.Equal(t, "builder", e.State)
			b.progress.since = time.Now() // nothing here is timed
			got = append(got, string(e.Kind)+" "+e.Detail)
		}
		assert.Equal(t, step.want, got, step.answer)
	}
	b.bucket = ""
	assert.Empty(t, b.look(t.Context()), "nothing is read before the history names the bucket")
}

func TestTheBucketIsTheOneOfThePlan(t *testing.T) {
	event := func(output string) sfntypes.HistoryEvent {
		return sfntypes.HistoryEvent{TaskSucceededEventDetails: &sfntypes.TaskSucceededEventDetails{Output: aws.String(output)}}
	}
	assert.Equal(t, "factory", bucketIn(event(`{"Payload":{"plan":{"bucket":"factory","key":"plans/p.json"}}}`)))
	assert.Empty(t, bucketIn(event(`{"Payload":{"instanceId":"i-1"}}`)))
	assert.Empty(t, bucketIn(event(`cut`)))
	assert.Empty(t, bucketIn(sfntypes.HistoryEvent{}))
}

func TestAConsoleThatIsCutReportsNothingTwice(t *testing.T) {
	p := GuestProgress{Role: "builder"}
	done := func(names ...string) guest.Progress {
		var out guest.Progress
		for _, name := range names {
			out.Done = append(out.Done, guest.Installed{Name: name, OK: true, Took: time.Second})
		}
		return out
	}
	assert.Len(t, p.Update(done("a", "b"), time.Now()), 2)
	assert.Empty(t, p.Update(done("b"), time.Now()))
	assert.Empty(t, p.Update(done("a", "b"), time.Now()))
	assert.Len(t, p.Update(done("a", "b", "c"), time.Now()), 1)
}
