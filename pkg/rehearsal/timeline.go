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
	states  map[string]*span
	order   []string
	byEvent map[int64]visit // what an event belongs to
	last    string          // the state the execution ended in
}

// span is the time from a state's first entry to its last exit: the regions of
// a Map pass through its states at the same time.
type span struct {
	from, to time.Time
	attempts int
	notYet   time.Time     // the last time its stage said so
	lastPoll time.Duration // from then until it was asked again
}

// visit is one pass through a state.
type visit struct {
	state  string
	inMap  bool
	region string // of a Map's iteration
	failed bool   // the last attempt did
}

func newTimeline() *timeline {
	return &timeline{states: map[string]*span{}, byEvent: map[int64]visit{}}
}

// add takes the next event of the history and returns what to tell of it.
func (t *timeline) add(e sfntypes.HistoryEvent) []Event {
	at := aws.ToTime(e.Timestamp)
	v := t.byEvent[e.PreviousEventId]
	switch e.Type {
	case sfntypes.HistoryEventTypeMapIterationStarted:
		v = visit{state: v.state, inMap: true}
	case sfntypes.HistoryEventTypeMapStateFailed:
		v = visit{state: v.state, failed: true}
	}
	if d := e.StateEnteredEventDetails; d != nil {
		v = t.enter(v, d, at)
	}
	t.byEvent[e.Id] = v
	switch {
	case e.StateEnteredEventDetails != nil:
		if !doesWork(e.Type) {
			return nil
		}
		return []Event{{State: v.state, Region: v.region, Kind: Entered, At: at}}
	case e.StateExitedEventDetails != nil:
		return t.exit(e, v, at)
	case e.TaskScheduledEventDetails != nil:
		if s := t.states[v.state]; s != nil {
			s.attempts++
			if !s.notYet.IsZero() {
				s.lastPoll = at.Sub(s.notYet)
			}
		}
	case e.TaskSucceededEventDetails != nil:
		v.failed = false
		t.byEvent[e.Id] = v
	case e.TaskFailedEventDetails != nil:
		v.failed = true
		t.byEvent[e.Id] = v
		d := e.TaskFailedEventDetails
		kind := Failing
		if isNotYet(aws.ToString(d.Error)) {
			kind = Waiting
			if s := t.states[v.state]; s != nil {
				s.notYet = at
			}
		}
		if s := t.states[v.state]; s != nil {
			s.to = at // the last that is heard of a state that fails for good
		}
		return []Event{{
			State: v.state, Region: v.region, Kind: kind, At: at,
			Detail: aws.ToString(d.Error) + ": " + sentence(aws.ToString(d.Cause)),
		}}
	}
	return nil
}

func (t *timeline) enter(from visit, d *sfntypes.StateEnteredEventDetails, at time.Time) visit {
	v := visit{state: aws.ToString(d.Name), inMap: from.inMap, region: from.region}
	if v.inMap && v.region == "" {
		v.region = regionOf(aws.ToString(d.Input))
	}
	if t.states[v.state] == nil {
		t.states[v.state] = &span{from: at, to: at}
		t.order = append(t.order, v.state)
	}
	if slices.Contains(endings(), v.state) {
		t.last = v.state
	}
	return v
}

func (t *timeline) exit(e sfntypes.HistoryEvent, v visit, at time.Time) []Event {
	// A Map's exit may follow its last iteration's end, hence the name.
	if name := aws.ToString(e.StateExitedEventDetails.Name); name != v.state {
		v = visit{state: name, failed: v.failed}
		t.byEvent[e.Id] = v
	}
	if s := t.states[v.state]; s != nil {
		s.to = at
	}
	if !doesWork(e.Type) {
		return nil
	}
	kind := Exited
	if v.failed {
		kind = Failed
	}
	return []Event{{State: v.state, Region: v.region, Kind: kind, At: at}}
}

// doesWork tells states that invoke functions from those that only decide.
func doesWork(entered sfntypes.HistoryEventType) bool {
	switch entered {
	case sfntypes.HistoryEventTypeTaskStateEntered, sfntypes.HistoryEventTypeTaskStateExited,
		sfntypes.HistoryEventTypeMapStateEntered, sfntypes.HistoryEventTypeMapStateExited:
		return true
	}
	return false
}

// regionOf is the item of the Map over the regions, as its first state gets it.
func regionOf(input string) string {
	var region string
	if err := json.Unmarshal([]byte(input), &region); err != nil {
		return ""
	}
	return region
}

func isNotYet(code string) bool {
	return slices.ContainsFunc(workflow.Stages(), func(s workflow.Spec) bool { return s.Poll != nil && string(s.Poll.Code) == code })
}

// seconds lists the states that invoked a function, in order.
func (t *timeline) seconds() []StageSeconds {
	var out []StageSeconds
	for _, name := range t.order {
		if s := t.states[name]; s.attempts > 0 {
			out = append(out, StageSeconds{Stage: name, Seconds: s.to.Sub(s.from).Seconds(), Attempts: s.attempts, LastPoll: s.lastPoll.Seconds()})
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
