package execution

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/stretchr/testify/assert"
)

// history builds events a second apart.
type history struct{ events []sfntypes.HistoryEvent }

func (h *history) add(previous int64, e sfntypes.HistoryEvent) int64 {
	id := int64(len(h.events)) + 1
	e.Id, e.PreviousEventId = id, previous
	e.Timestamp = aws.Time(time.Unix(id, 0))
	h.events = append(h.events, e)
	return id
}

func (h *history) enter(previous int64, state, input string) int64 {
	kind := sfntypes.HistoryEventTypeTaskStateEntered
	switch state {
	case "Distribute":
		kind = sfntypes.HistoryEventTypeMapStateEntered
	case "FailedClean":
		kind = sfntypes.HistoryEventTypeFailStateEntered
	}
	return h.add(previous, sfntypes.HistoryEvent{Type: kind, StateEnteredEventDetails: &sfntypes.StateEnteredEventDetails{Name: &state, Input: &input}})
}

func (h *history) exit(previous int64, state string) int64 {
	kind := sfntypes.HistoryEventTypeTaskStateExited
	if state == "Distribute" {
		kind = sfntypes.HistoryEventTypeMapStateExited
	}
	return h.add(previous, sfntypes.HistoryEvent{Type: kind, StateExitedEventDetails: &sfntypes.StateExitedEventDetails{Name: &state}})
}

func (h *history) schedule(previous int64) int64 {
	return h.add(previous, sfntypes.HistoryEvent{TaskScheduledEventDetails: &sfntypes.TaskScheduledEventDetails{}})
}

func (h *history) succeed(previous int64) int64 {
	return h.add(previous, sfntypes.HistoryEvent{TaskSucceededEventDetails: &sfntypes.TaskSucceededEventDetails{}})
}

func (h *history) fail(previous int64, code, message string) int64 {
	cause, _ := json.Marshal(map[string]string{"errorMessage": message})
	return h.add(previous, sfntypes.HistoryEvent{TaskFailedEventDetails: &sfntypes.TaskFailedEventDetails{
		Error: &code, Cause: aws.String(string(cause)),
	}})
}

func (h *history) told() (*Timeline, []Event) {
	t := NewTimeline()
	var out []Event
	for _, e := range h.events {
		for _, step := range t.Add(e) {
			step.At = time.Time{}
			out = append(out, step)
		}
	}
	return t, out
}

func TestAStateThatIsAskedAgainIsOneStage(t *testing.T) {
	h := &history{}
	at := h.enter(0, "AwaitImage", "{}")                          // 1
	at = h.fail(h.schedule(at), "ImageNotReady", "pending\nmore") // 2, 3
	at = h.fail(h.schedule(at), "Throttled", "slow down")         // 4, 5
	at = h.succeed(h.schedule(at))                                // 6, 7
	h.exit(at, "AwaitImage")                                      // 8
	line, events := h.told()
	assert.Equal(t, []Event{
		{State: "AwaitImage", Kind: Entered},
		{State: "AwaitImage", Kind: Waiting, Detail: "ImageNotReady: pending"},
		{State: "AwaitImage", Kind: Failing, Detail: "Throttled: slow down"},
		{State: "AwaitImage", Kind: Exited},
	}, events)
	got := line.Seconds()
	if assert.Len(t, got, 1) {
		assert.InDelta(t, 7, got[0].Seconds, 0.001)
		assert.Equal(t, 3, got[0].Attempts)
	}
}

func TestAStateThatFailsForGoodIsToldSo(t *testing.T) {
	h := &history{}
	at := h.fail(h.schedule(h.enter(0, "Seal", "{}")), "SealFailed", "no")
	at = h.exit(at, "Seal")
	at = h.exit(h.succeed(h.schedule(h.enter(at, "Cleanup", "{}"))), "Cleanup")
	h.enter(at, "FailedClean", "{}")
	line, events := h.told()
	assert.Contains(t, events, Event{State: "Seal", Kind: Failed})
	assert.Contains(t, events, Event{State: "Cleanup", Kind: Exited}, "the failure before it is not its own")
	assert.NotContains(t, events, Event{State: "FailedClean", Kind: Entered}, "it does no work")
	assert.Equal(t, "FailedClean", line.Ending())
}

func TestATimeOutIsAFailedAttempt(t *testing.T) {
	h := &history{}
	at := h.add(h.schedule(h.enter(0, "Seal", "{}")), sfntypes.HistoryEvent{TaskTimedOutEventDetails: &sfntypes.TaskTimedOutEventDetails{
		Error: aws.String("States.Timeout"), // and no cause, as recordings of AWS show
	}})
	h.exit(at, "Seal")
	_, events := h.told()
	assert.Contains(t, events, Event{State: "Seal", Kind: Failing, Detail: "States.Timeout"})
	assert.Contains(t, events, Event{State: "Seal", Kind: Failed})
}

func TestTheRegionsOfAMapAreToldApart(t *testing.T) {
	h := &history{}
	parent := h.enter(0, "Distribute", "{}") // 1
	begin := func() int64 {
		return h.add(parent, sfntypes.HistoryEvent{Type: sfntypes.HistoryEventTypeMapIterationStarted})
	}
	one, two := begin(), begin() // 2, 3
	one = h.schedule(h.enter(one, "Copy", `"eu-west-1"`))
	two = h.schedule(h.enter(two, "Copy", `"eu-central-1"`)) // 6, 7
	one = h.exit(h.succeed(one), "Copy")
	two = h.exit(h.succeed(two), "Copy") // 10, 11
	one = h.schedule(h.enter(one, "AwaitCopy", `{"region":"eu-west-1"}`))
	h.exit(h.succeed(one), "AwaitCopy")
	two = h.fail(h.schedule(h.enter(two, "AwaitCopy", `{}`)), "CopyNotReady", "half")
	at := h.exit(h.succeed(h.schedule(two)), "AwaitCopy")
	at = h.exit(at, "Distribute") // as AWS chains it: after the last iteration
	h.enter(at, "Publish", `"eu-west-1"`)
	line, events := h.told()
	for _, want := range []Event{
		{State: "Copy", Region: "eu-west-1", Kind: Entered},
		{State: "Copy", Region: "eu-central-1", Kind: Exited},
		{State: "AwaitCopy", Region: "eu-central-1", Kind: Waiting, Detail: "CopyNotReady: half"},
		{State: "AwaitCopy", Region: "eu-west-1", Kind: Exited},
		{State: "Distribute", Kind: Exited},
		{State: "Publish", Kind: Entered},
	} {
		assert.Contains(t, events, want)
	}
	stages := line.Seconds()
	if assert.Len(t, stages, 2) {
		assert.Equal(t, "Copy", stages[0].State)
		assert.InDelta(t, 7, stages[0].Seconds, 0.001, "from the first entry (4) to the last exit (11), not the sum")
		assert.Equal(t, 2, stages[0].Attempts)
	}
}

func TestCopiesThatEC2MakesMeanwhileAreShown(t *testing.T) {
	h := &history{}
	parent := h.enter(0, "StartCopies", `"x"`)
	for _, region := range []string{"eu-west-1", "eu-central-1"} {
		at := h.add(parent, sfntypes.HistoryEvent{Type: sfntypes.HistoryEventTypeMapIterationStarted})
		at = h.enter(at, "Copy", `"`+region+`"`)
		at = h.add(at, sfntypes.HistoryEvent{TaskScheduledEventDetails: &sfntypes.TaskScheduledEventDetails{Region: aws.String("eu-west-1")}})
		h.exit(h.succeed(at), "Copy")
	}
	_, events := h.told()
	assert.Contains(t, events, Event{State: "Copy", Region: "eu-central-1", Kind: Copying})
	assert.NotContains(t, events, Event{State: "Copy", Region: "eu-west-1", Kind: Copying}, "the image of the home region is its own copy")

	h = &history{}
	at := h.enter(h.add(0, sfntypes.HistoryEvent{Type: sfntypes.HistoryEventTypeMapIterationStarted}), "Copy", `"eu-central-1"`)
	h.exit(h.fail(h.schedule(at), "CopyFailed", "no"), "Copy")
	_, events = h.told()
	assert.NotContains(t, events, Event{State: "Copy", Region: "eu-central-1", Kind: Copying}, "it was not started")
}

func TestTheSentenceOfACause(t *testing.T) {
	for given, want := range map[string]string{
		`{"errorMessage":"first\nsecond","errorType":"X"}`: "first",
		"plain\ntext": "plain",
		`{"other":1}`: `{"other":1}`,
		"":            "",
	} {
		assert.Equal(t, want, sentence(given))
	}
}
