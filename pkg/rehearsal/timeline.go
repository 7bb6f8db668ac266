package rehearsal

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/workflow"
)

func isNoSuchKey(err error) bool { return awserr.Is(err, "NoSuchKey", "NotFound") }

// timeline turns an execution's history into steps and durations.
type timeline struct {
	entered  map[string]time.Time
	total    map[string]time.Duration
	attempts map[string]int
	order    []string
	byEvent  map[int64]string // the state that an event belongs to
	last     string           // the state the execution ended in
}

func newTimeline() *timeline {
	return &timeline{
		entered: map[string]time.Time{}, total: map[string]time.Duration{}, attempts: map[string]int{}, byEvent: map[int64]string{},
	}
}

// add takes the next event of the history and returns what to tell of it.
func (t *timeline) add(e sfntypes.HistoryEvent) []Event {
	at := aws.ToTime(e.Timestamp)
	state := t.byEvent[e.PreviousEventId]
	if d := e.StateEnteredEventDetails; d != nil {
		state = aws.ToString(d.Name)
		t.entered[state] = at
		if !slices.Contains(t.order, state) {
			t.order = append(t.order, state)
		}
		if slices.Contains(endings(), state) {
			t.last = state
		}
	}
	t.byEvent[e.Id] = state
	switch {
	case e.StateEnteredEventDetails != nil:
		return []Event{{State: state, Kind: Entered, At: at}}
	case e.StateExitedEventDetails != nil:
		state = aws.ToString(e.StateExitedEventDetails.Name)
		t.total[state] += at.Sub(t.entered[state])
		return []Event{{State: state, Kind: Exited, At: at}}
	case e.TaskScheduledEventDetails != nil:
		t.attempts[state]++
	case e.TaskFailedEventDetails != nil:
		d := e.TaskFailedEventDetails
		kind := Failing
		if isNotYet(aws.ToString(d.Error)) {
			kind = Waiting
		}
		return []Event{{State: state, Kind: kind, At: at, Detail: aws.ToString(d.Error) + ": " + sentence(aws.ToString(d.Cause))}}
	}
	return nil
}

func isNotYet(code string) bool {
	return slices.ContainsFunc(workflow.Stages(), func(s workflow.Spec) bool { return s.Poll != nil && string(s.Poll.Code) == code })
}

// seconds lists the states that invoked a function, in order.
func (t *timeline) seconds() []StageSeconds {
	var out []StageSeconds
	for _, s := range t.order {
		if t.attempts[s] > 0 {
			out = append(out, StageSeconds{Stage: s, Seconds: t.total[s].Seconds(), Attempts: t.attempts[s]})
		}
	}
	return out
}

// sentence is the first line of the message in a function's error.
func sentence(cause string) string {
	var doc struct {
		ErrorMessage string `json:"errorMessage"`
	}
	if err := json.Unmarshal([]byte(cause), &doc); err == nil && doc.ErrorMessage != "" {
		cause = doc.ErrorMessage
	}
	line, _, _ := strings.Cut(cause, "\n")
	return line
}
