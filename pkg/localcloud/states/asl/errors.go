package asl

import (
	"errors"
	"slices"
	"unicode/utf16"
)

// Error names that Step Functions itself reports.
const (
	ErrAll                       = "States.ALL" // only for matching, never reported
	ErrTaskFailed                = "States.TaskFailed"
	ErrTimeout                   = "States.Timeout"
	ErrHeartbeatTimeout          = "States.HeartbeatTimeout" // only for matching; States.Timeout is reported
	ErrRuntime                   = "States.Runtime"
	ErrDataLimitExceeded         = "States.DataLimitExceeded"
	ErrNoChoiceMatched           = "States.NoChoiceMatched"
	ErrQueryEvaluation           = "States.QueryEvaluationError"
	ErrExceedToleratedFailures   = "States.ExceedToleratedFailureThreshold"
	maxErrorName, maxCauseLength = 256, 32768
)

// Error is the error with which a state, and then an execution, fails.
type Error struct {
	Name  string // compared with ErrorEquals; empty if the failure has no name
	Cause string
	// Causeless means that no cause was given: Cause is null, not an empty string.
	Causeless bool

	kind kind
}

// kind distinguishes errors with the same name.
type kind int

const (
	ordinary kind = iota
	silent        // a time-out because of missing heartbeats
	tooLarge      // a task's result is too large; other data that are too large cannot be caught
)

// Error implements error.
func (e *Error) Error() string {
	if e.Cause == "" {
		return e.Name
	}
	return e.Name + ": " + e.Cause
}

// AsError returns the Error in err's chain. Any other error becomes a
// States.Runtime.
func AsError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Name: ErrRuntime, Cause: err.Error()}
}

// clipped cuts name and cause to the API's limits
// (https://docs.aws.amazon.com/step-functions/latest/apireference/API_TaskFailedEventDetails.html).
func (e *Error) clipped() *Error {
	c := *e
	c.Name, c.Cause = clip(e.Name, maxErrorName), clip(e.Cause, maxCauseLength)
	return &c
}

// clip cuts s after limit characters, which Step Functions counts in UTF-16.
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

// matches reports whether an ErrorEquals list matches e. States.ALL does not
// match terminal errors, and States.TaskFailed does not match time-outs. A
// task's result that is too large is not terminal, as recordings of AWS show.
func (e *Error) matches(errorEquals []string) bool {
	if slices.Contains(errorEquals, e.Name) || e.kind == silent && slices.Contains(errorEquals, ErrHeartbeatTimeout) {
		return true
	}
	if e.Name == ErrRuntime || e.Name == ErrDataLimitExceeded && e.kind != tooLarge {
		return false
	}
	return slices.Contains(errorEquals, ErrAll) || e.Name != ErrTimeout && slices.Contains(errorEquals, ErrTaskFailed)
}

// output returns the error in the form of $states.errorOutput in a Catch: a
// missing name or cause is null, and the cause of a time-out is empty.
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
