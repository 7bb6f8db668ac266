package asl

import (
	"errors"
	"slices"
)

// Error names that Step Functions itself reports.
const (
	ErrAll                       = "States.ALL" // matches; never reported
	ErrTaskFailed                = "States.TaskFailed"
	ErrTimeout                   = "States.Timeout"
	ErrHeartbeatTimeout          = "States.HeartbeatTimeout"
	ErrRuntime                   = "States.Runtime"
	ErrDataLimitExceeded         = "States.DataLimitExceeded"
	ErrNoChoiceMatched           = "States.NoChoiceMatched"
	ErrQueryEvaluation           = "States.QueryEvaluationError"
	ErrExceedToleratedFailures   = "States.ExceedToleratedFailureThreshold"
	maxErrorName, maxCauseLength = 256, 32768
)

// Error is how a state, and at last an execution, fails.
type Error struct {
	Name  string // what ErrorEquals matches
	Cause string
}

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

// clipped keeps name and cause within the API's limits.
func (e *Error) clipped() *Error {
	return &Error{Name: clip(e.Name, maxErrorName), Cause: clip(e.Cause, maxCauseLength)}
}

func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return s[:limit]
}

// matches reports whether an ErrorEquals list names e. States.ALL does not
// reach the errors that are terminal, nor States.TaskFailed a time-out; a
// heartbeat that stayed away is a time-out too.
func (e *Error) matches(errorEquals []string) bool {
	if slices.Contains(errorEquals, e.Name) {
		return true
	}
	if e.Name == ErrRuntime || e.Name == ErrDataLimitExceeded {
		return false
	}
	timedOut := e.Name == ErrTimeout || e.Name == ErrHeartbeatTimeout
	return slices.Contains(errorEquals, ErrAll) ||
		timedOut && slices.Contains(errorEquals, ErrTimeout) ||
		!timedOut && slices.Contains(errorEquals, ErrTaskFailed)
}

// output is the error as a Catch sees it in $states.errorOutput.
func (e *Error) output() map[string]any {
	out := map[string]any{"Error": e.Name}
	if e.Cause != "" {
		out["Cause"] = e.Cause
	}
	return out
}
