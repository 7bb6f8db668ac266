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
type history struct {
	events  []sfntypes.HistoryEvent
	skipped int64 // seconds
}

func (h *history) add(previous int64, e sfntypes.HistoryEvent) int64 {
	id := int64(len(h.events)) + 1
	e.Id, e.PreviousEventId = id, previous
	e.Timestamp = aws.Time(time.Unix(id+h.skipped, 0))
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

func (h *history) timeOut(previous int64) int64 {
	return h.add(previous, sfntypes.HistoryEvent{TaskTimedOutEventDetails: &sfntypes.TaskTimedOutEventDetails{Error: aws.String("States.Timeout")}})
}

// pass goes through a state that invokes nothing.
func (h *history) pass(previous int64, kind, state string) int64 {
	at := h.add(previous, sfntypes.HistoryEvent{Type: sfntypes.HistoryEventType(kind + "StateEntered"), StateEnteredEventDetails: &sfntypes.StateEnteredEventDetails{Name: &state}})
	return h.add(at, sfntypes.HistoryEvent{Type: sfntypes.HistoryEventType(kind + "StateExited"), StateExitedEventDetails: &sfntypes.StateExitedEventDetails{Name: &state}})
}

// look is an attempt of a step that finds the work not done.
func (h *history) look(previous int64) int64 {
	return h.exit(h.fail(h.schedule(h.enter(previous, "AwaitImage", "{}")), "ImageNotReady", "pending"), "AwaitImage")
}

// done is the one that finds it done.
func (h *history) done(previous int64) int64 {
	return h.exit(h.succeed(h.schedule(h.enter(previous, "AwaitImage", "{}"))), "AwaitImage")
}

// later lets seconds pass before the next event.
func (h *history) later(seconds int) { h.skipped += int64(seconds) }

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

// A step that waits is one step, whatever states it passes through. Its own share is
// from the moment at which the factory could have known to the look that saw it.
func TestAWaitBelongsToItsStepAndItsOwnShareIsFromTheEventToTheLook(t *testing.T) {
	entered, waiting, exited := Event{State: "AwaitImage", Kind: Entered}, Event{State: "AwaitImage", Kind: Waiting, Detail: "ImageNotReady: pending"}, Event{State: "AwaitImage", Kind: Exited}
	for sentence, tc := range map[string]struct {
		happens func(h *history)
		events  []Event
		seconds StateSeconds
	}{
		"an event ends the wait: entered, waited for a minute, and looked 3 s after the event": {
			func(h *history) {
				at := h.schedule(h.enter(h.look(0), "AwaitImageWait", "{}")) // 1 to 6
				h.later(60)
				h.done(h.exit(h.succeed(at), "AwaitImageWait")) // 67 to 72
			},
			[]Event{entered, waiting, exited},
			StateSeconds{State: "AwaitImage", Seconds: 71, Attempts: 2, LastPoll: 3},
		},
		"the net ends it: nobody knows since when the work was done, at worst since the wait began": {
			func(h *history) {
				at := h.schedule(h.enter(h.look(0), "AwaitImageWait", "{}"))
				h.later(60)
				at = h.exit(h.timeOut(at), "AwaitImageWait")
				h.done(h.pass(at, "Choice", "AwaitImageInTime"))
			},
			[]Event{entered, waiting, exited},
			StateSeconds{State: "AwaitImage", Seconds: 73, Attempts: 2, LastPoll: 66},
		},
		"the wait comes first, and no look was in vain": {
			func(h *history) {
				at := h.schedule(h.enter(0, "AwaitImageWait", "{}"))
				h.later(60)
				h.done(h.exit(h.succeed(at), "AwaitImageWait"))
			},
			[]Event{entered, exited},
			StateSeconds{State: "AwaitImage", Seconds: 67, Attempts: 1, LastPoll: 3},
		},
		"the wait cannot be registered: a pause in its place is the factory's own": {
			func(h *history) {
				at := h.fail(h.schedule(h.enter(h.look(0), "AwaitImageWait", "{}")), "AccessDenied", "no")
				at = h.exit(at, "AwaitImageWait")
				h.later(10)
				h.done(h.pass(h.pass(at, "Wait", "AwaitImagePause"), "Choice", "AwaitImageInTime"))
			},
			[]Event{entered, waiting, {State: "AwaitImage", Kind: Failing, Detail: "AccessDenied: no"}, exited},
			StateSeconds{State: "AwaitImage", Seconds: 25, Attempts: 2, LastPoll: 18},
		},
		"two waits: only the last one is the factory's own": {
			func(h *history) {
				at := h.schedule(h.enter(h.look(0), "AwaitImageWait", "{}"))
				at = h.look(h.exit(h.succeed(at), "AwaitImageWait"))
				at = h.schedule(h.enter(at, "AwaitImageWait", "{}"))
				h.later(30)
				h.done(h.exit(h.succeed(at), "AwaitImageWait"))
			},
			[]Event{entered, waiting, waiting, exited},
			StateSeconds{State: "AwaitImage", Seconds: 49, Attempts: 3, LastPoll: 3},
		},
		"it is given up": {
			func(h *history) {
				at := h.exit(h.timeOut(h.schedule(h.enter(h.look(0), "AwaitImageWait", "{}"))), "AwaitImageWait")
				h.enter(h.pass(at, "Choice", "AwaitImageInTime"), "Cleanup", "{}")
			},
			[]Event{entered, waiting, {State: "AwaitImage", Kind: Failed}, {State: "Cleanup", Kind: Entered}},
			StateSeconds{State: "AwaitImage", Seconds: 9, Attempts: 1},
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			h := &history{}
			tc.happens(h)
			line, events := h.told()
			assert.Equal(t, tc.events, events)
			assert.Equal(t, []StateSeconds{tc.seconds}, line.Seconds())
		})
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
