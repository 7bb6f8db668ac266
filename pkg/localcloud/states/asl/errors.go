package asl

import (
	"errors"
	"slices"
	"unicode/utf16"
)

// Error names that Step Functions itself reports.
const (
	ErrAll                       = "States.ALL" // matches; never reported
	ErrTaskFailed                = "States.TaskFailed"
	ErrTimeout                   = "States.Timeout"
	ErrHeartbeatTimeout          = "States.HeartbeatTimeout" // matches; a States.Timeout is reported
	ErrRuntime                   = "States.Runtime"
	ErrDataLimitExceeded         = "States.DataLimitExceeded"
	ErrNoChoiceMatched           = "States.NoChoiceMatched"
	ErrQueryEvaluation           = "States.QueryEvaluationError"
	ErrExceedToleratedFailures   = "States.ExceedToleratedFailureThreshold"
	maxErrorName, maxCauseLength = 256, 32768
)

// Error is how a state, and at last an execution, fails.
type Error struct {
	Name  string // what ErrorEquals matches; empty: the failure has none
	Cause string
	// Causeless says that Cause is null and not an empty string: none was given.
	Causeless bool

	kind kind
}

// kind is what an error's name does not say of it.
type kind int

const (
	ordinary kind = iota
	silent        // a time-out for want of heartbeats
	tooLarge      // a task's result is too large; other data that are cannot be caught
)

// Error implements error.
func (e *Error) Error() string {
	if e.Cause == "" {
		return e.Name
	}
	return e.Name + ": " + e.Cause
}

// AsError finds the Error in err's chain; any other error is a States.Runtime.
func AsError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Name: ErrRuntime, Cause: err.Error()}
}

// clipped keeps name and cause within the API's limits
// (https://docs.aws.amazon.com/step-functions/latest/apireference/API_TaskFailedEventDetails.html).
func (e *Error) clipped() *Error {
	c := *e
	c.Name, c.Cause = clip(e.Name, maxErrorName), clip(e.Cause, maxCauseLength)
	return &c
}

// clip cuts s off after limit characters, which Step Functions counts in UTF-16.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	n := 0
	for i, r := range s {
		if n += max(utf16.RuneLen(r), 1); n > limit {
			return s[:i]
		}
	}
	return s
}

// matches reports whether an ErrorEquals list names e. States.ALL does not reach
// the errors that are terminal, nor States.TaskFailed a time-out. A task's result
// that is too large is not terminal, as recordings of AWS show.
func (e *Error) matches(errorEquals []string) bool {
	if slices.Contains(errorEquals, e.Name) || e.kind == silent && slices.Contains(errorEquals, ErrHeartbeatTimeout) {
		return true
	}
	if e.Name == ErrRuntime || e.Name == ErrDataLimitExceeded && e.kind != tooLarge {
		return false
	}
	return slices.Contains(errorEquals, ErrAll) || e.Name != ErrTimeout && slices.Contains(errorEquals, ErrTaskFailed)
}

// output is the error as a Catch sees it in $states.errorOutput: a name or a cause
// that was not given is null, the cause of a time-out is empty.
func (e *Error) output() map[string]any {
	out := map[string]any{"Error": e.Name, "Cause": e.Cause}
	if e.Name == "" {
		out["Error"] = null
	}
	if e.Causeless {
		out["Cause"] = null
	}
	return out
}
