// Package execution starts and follows executions of the factory's state
// machine, wherever it is deployed.
package execution

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plaintext"
)

// StateSeconds is the time of one step, in seconds, including retries and waits. If
// several regions pass through the step, it is the time from the first entry to the
// last exit.
type StateSeconds struct {
	State    string  `json:"stage"`
	Seconds  float64 `json:"seconds"`
	Attempts int     `json:"attempts"` // invocations of its function
	// LastPoll is the length of the pause before the attempt that found the work done, in
	// seconds: the factory itself wasted at most this part of Seconds. After a wait that
	// an event has ended, it is the time from the event to the next attempt.
	LastPoll float64 `json:"lastPollSeconds,omitempty"`
}

// Event is what happens in a step of an execution, for live progress.
type Event struct {
	State  string // the step: a state of the machine that does work
	Region string // the region of the iteration in a Map over regions; otherwise empty
	Kind   EventKind
	At     time.Time
	Detail string // why a state is retried or failed
}

// EventKind is what happened in a state.
type EventKind string

// The kinds of events.
const (
	Entered EventKind = "entered"
	Waiting EventKind = "waiting" // the stage answered "not yet"
	Working EventKind = "working" // a guest reports what it is doing
	Stepped EventKind = "stepped" // a guest has ended a step
	Failing EventKind = "failing" // an attempt failed; it may be retried
	Failed  EventKind = "failed"  // the state ended with an error
	Exited  EventKind = "exited"
	Copying EventKind = "copying" // EC2 copies the image to the region while the execution goes on, until AwaitCopy ends
)

// Timeline turns an execution's history into events and durations.
type Timeline struct {
	states  map[string]*span
	order   []string
	byEvent map[int64]visit // the visit to which an event belongs
	last    string          // the state in which the execution ended
	home    string          // the region of the state machine

	resolved *Resolved
}

// Resolved is what Resolve says of the execution.
type Resolved struct {
	Why     string   `json:"why"` // of the action
	Changed []string `json:"changed"`
	Guests  struct {
		Kind string `json:"kind"`
	} `json:"guests"`
}

// span is the time from a state's first entry to its last exit, because the
// regions of a Map pass through a state at the same time.
type span struct {
	from, to time.Time
	attempts int
	paused   time.Time     // since when the factory itself pauses; zero: it does not
	lastPoll time.Duration // from then until the function was asked again
}

// visit is one pass through a step.
type visit struct {
	state   string // the step's
	inMap   bool
	region  string // of a Map's iteration
	failed  bool   // the last attempt did
	notYet  bool   // the last attempt found the work not done
	waiting bool   // in a state of the step that waits, pauses or asks whether the step may go on
}

// NameOf returns the name of an execution from its ARN.
func NameOf(arn string) string { return arn[strings.LastIndexByte(arn, ':')+1:] }

// NewTimeline returns an empty timeline.
func NewTimeline() *Timeline {
	return &Timeline{states: map[string]*span{}, byEvent: map[int64]visit{}}
}

// Add takes the next event of the history, and returns the events to show.
func (t *Timeline) Add(e sfntypes.HistoryEvent) []Event {
	at := aws.ToTime(e.Timestamp)
	v, again := t.byEvent[e.PreviousEventId], false
	switch e.Type {
	case sfntypes.HistoryEventTypeMapIterationStarted:
		v = visit{state: v.state, inMap: true}
	case sfntypes.HistoryEventTypeMapStateFailed:
		v = visit{state: v.state, failed: true}
	}
	from := v
	if d := e.StateEnteredEventDetails; d != nil {
		v = t.enter(v, d, at)
		again = v.state == from.state && v.region == from.region
	}
	t.byEvent[e.Id] = v
	switch {
	case e.StateEnteredEventDetails != nil:
		if again { // between the states of a step
			return nil
		}
		var out []Event
		if from.waiting && v.state != from.state { // the step was given up: no further look follows
			out = append(out, Event{State: from.state, Region: from.region, Kind: Failed, At: at})
		}
		if doesWork(e.Type) {
			out = append(out, Event{State: v.state, Region: v.region, Kind: Entered, At: at})
		}
		return out
	case e.StateExitedEventDetails != nil:
		return t.exit(e, v, at)
	case e.TaskScheduledEventDetails != nil:
		t.home = aws.ToString(e.TaskScheduledEventDetails.Region)
		if s := t.states[v.state]; s != nil && v.waiting {
			s.paused = at
		} else if s != nil {
			s.attempts++
			if !s.paused.IsZero() {
				s.lastPoll = at.Sub(s.paused)
			}
		}
	case e.TaskSucceededEventDetails != nil:
		v.failed, v.notYet = false, false
		t.byEvent[e.Id] = v
		if v.state == contract.StateResolve {
			t.resolve(aws.ToString(e.TaskSucceededEventDetails.Output))
		}
		if s := t.states[v.state]; s != nil && v.waiting {
			s.paused = at // an event: before, the factory waited for others
		}
	case e.TaskFailedEventDetails != nil:
		d := e.TaskFailedEventDetails
		return t.failed(e.Id, v, at, aws.ToString(d.Error), aws.ToString(d.Cause))
	case e.TaskTimedOutEventDetails != nil:
		d := e.TaskTimedOutEventDetails
		return t.failed(e.Id, v, at, aws.ToString(d.Error), aws.ToString(d.Cause))
	}
	return nil
}

// Resolved is nil as long as Resolve has not answered, and when the caller may not
// read what it answered.
func (t *Timeline) Resolved() *Resolved { return t.resolved }

// resolve reads the answer of Resolve's function.
func (t *Timeline) resolve(output string) {
	var out struct{ Payload *Resolved }
	if err := json.Unmarshal([]byte(output), &out); err == nil { // else it is cut, or a deployment of another version
		t.resolved = out.Payload
	}
}

// failed is an attempt that failed. A time-out has no cause; that of a wait only ends
// the wait.
func (t *Timeline) failed(event int64, v visit, at time.Time, code, cause string) []Event {
	late := v.waiting && code == timedOut
	v.failed, v.notYet = !late, !v.waiting && failure.Code(code).IsNotYet()
	t.byEvent[event] = v
	kind := Failing
	if s := t.states[v.state]; s != nil {
		s.to = at // the last that is heard of a state that fails for good
		if v.notYet {
			s.paused = at
		}
	}
	if late {
		return nil
	}
	if v.notYet {
		kind = Waiting
	}
	detail := code
	if text := sentence(cause); text != "" {
		detail += ": " + text
	}
	return []Event{{State: v.state, Region: v.region, Kind: kind, At: at, Detail: detail}}
}

// timedOut is Step Functions' error of a task that took longer than its time-out.
const timedOut = "States.Timeout"

func (t *Timeline) enter(from visit, d *sfntypes.StateEnteredEventDetails, at time.Time) visit {
	name := aws.ToString(d.Name)
	v := visit{state: contract.StepOf(name), inMap: from.inMap, region: from.region}
	v.waiting = v.state != name
	if v.inMap && v.region == "" {
		v.region = regionOf(aws.ToString(d.Input))
	}
	if t.states[v.state] == nil {
		t.states[v.state] = &span{from: at, to: at}
		t.order = append(t.order, v.state)
	}
	if slices.Contains(contract.EndStates(), v.state) {
		t.last = v.state
	}
	return v
}

func (t *Timeline) exit(e sfntypes.HistoryEvent, v visit, at time.Time) []Event {
	// A Map's exit may follow its last iteration's end, hence the name.
	if name := contract.StepOf(aws.ToString(e.StateExitedEventDetails.Name)); name != v.state {
		v = visit{state: name, failed: v.failed}
		t.byEvent[e.Id] = v
	}
	if s := t.states[v.state]; s != nil {
		s.to = at
	}
	goesOn := v.waiting || v.notYet && slices.Contains(contract.WaitingSteps(), v.state)
	if !doesWork(e.Type) || goesOn {
		return nil
	}
	kind := Exited
	if v.failed {
		kind = Failed
	}
	out := []Event{{State: v.state, Region: v.region, Kind: kind, At: at}}
	if v.state == contract.StateCopy && kind == Exited && v.region != t.home { // at home the image is its own copy
		out = append(out, Event{State: v.state, Region: v.region, Kind: Copying, At: at})
	}
	return out
}

// newest returns the state that the execution entered last, or "" before the first.
func (t *Timeline) newest() string {
	if len(t.order) == 0 {
		return ""
	}
	return t.order[len(t.order)-1]
}

// Ending returns the end state of the execution, or "" if it reached none, for
// example because it was stopped.
func (t *Timeline) Ending() string { return t.last }

// doesWork reports whether a state invokes a function.
func doesWork(entered sfntypes.HistoryEventType) bool {
	switch entered {
	case sfntypes.HistoryEventTypeTaskStateEntered, sfntypes.HistoryEventTypeTaskStateExited,
		sfntypes.HistoryEventTypeMapStateEntered, sfntypes.HistoryEventTypeMapStateExited:
		return true
	}
	return false
}

// regionOf is the region of an item of a Map over the regions, as its first state
// gets it: the region's name, or an object that has it.
func regionOf(input string) string {
	var region string
	if err := json.Unmarshal([]byte(input), &region); err == nil {
		return region
	}
	var item struct{ Region string }
	if err := json.Unmarshal([]byte(input), &item); err != nil {
		return ""
	}
	return item.Region
}

// Seconds lists the states that invoked a function, in order.
func (t *Timeline) Seconds() []StateSeconds {
	var out []StateSeconds
	for _, name := range t.order {
		if s := t.states[name]; s.attempts > 0 {
			out = append(out, StateSeconds{State: name, Seconds: s.to.Sub(s.from).Seconds(), Attempts: s.attempts, LastPoll: s.lastPoll.Seconds()})
		}
	}
	return out
}

// sentence returns the first line of the message in a function's error.
func sentence(cause string) string {
	line, _, _ := strings.Cut(plaintext.Clean(failure.Sentence(cause)), "\n")
	return line
}
