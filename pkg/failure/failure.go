// Package failure names every way a stage of the factory can end other than
// well. A code is what Step Functions sees as the error name, so Retry and
// Catch clauses of the state machine refer to these constants and to nothing
// else.
package failure

import (
	"errors"
	"fmt"
	"slices"
)

// Code is an error name as Step Functions matches it in ErrorEquals.
type Code string

// Codes that mean "not yet": the state machine asks again after an interval.
const (
	InstanceNotReady   Code = "InstanceNotReady"   // not running, not reachable over SSM, or cloud-init still at work
	SealNotReady       Code = "SealNotReady"       // the builder has not stopped yet
	ImageNotReady      Code = "ImageNotReady"      // CreateImage or its snapshot is still pending
	ComplianceNotReady Code = "ComplianceNotReady" // the checks are still running in the verifier
	CopyNotReady       Code = "CopyNotReady"       // a regional copy is still pending
	PublishNotReady    Code = "PublishNotReady"    // SSM is still validating the pointers' new image ids
)

// NotYet returns the codes that mean "not yet".
func NotYet() []Code {
	return []Code{InstanceNotReady, SealNotReady, ImageNotReady, ComplianceNotReady, CopyNotReady, PublishNotReady}
}

// IsNotYet says whether the code means "not yet".
func (c Code) IsNotYet() bool { return slices.Contains(NotYet(), c) }

// Codes for passing trouble of AWS itself: retried with backoff.
const (
	Throttled           Code = "Throttled"           // RequestLimitExceeded, Throttling, TooManyRequests
	ServiceUnavailable  Code = "ServiceUnavailable"  // 5xx, connection reset, eventual consistency that outlived the call
	CapacityUnavailable Code = "CapacityUnavailable" // no listed instance type has capacity in any listed subnet
)

// Codes that end the execution.
const (
	InvalidInput        Code = "InvalidInput"        // the execution's input, or a stage's, is not what is documented
	RecipeInvalid       Code = "RecipeInvalid"       // unknown recipe, or one that lint refuses
	BelowBaseline       Code = "BelowBaseline"       // a recipe that asks less than the deployment's baseline, or whose pointer is another recipe's
	SourceNotFound      Code = "SourceNotFound"      // the base AMI does not resolve
	SourceOwnerMismatch Code = "SourceOwnerMismatch" // it resolves to an image of another owner
	SourceRefused       Code = "SourceRefused"       // the image given in place of the source is not one of the source's, or older than what is published
	AccessDenied        Code = "AccessDenied"        // AWS refused a call for want of permission
	QuotaExceeded       Code = "QuotaExceeded"       // a service quota is used up
	ProvisioningFailed  Code = "ProvisioningFailed"  // a component's install or cloud-init failed in the builder
	InstanceFailed      Code = "InstanceFailed"      // the instance went away or never became healthy
	InstanceMismatch    Code = "InstanceMismatch"    // an instance bears the execution's tags or client token, and was not launched by it
	InstanceTimedOut    Code = "InstanceTimedOut"    // not ready within the recipe's time-out
	SealFailed          Code = "SealFailed"          // the seal step failed
	ImageFailed         Code = "ImageFailed"         // CreateImage ended in state failed
	ComplianceRejected  Code = "ComplianceRejected"  // a control of the gate's severity or above failed
	ComplianceFailed    Code = "ComplianceFailed"    // the checks could not be run or their result not be trusted
	CopyFailed          Code = "CopyFailed"          // a regional copy ended in state failed
	ShareFailed         Code = "ShareFailed"         // launch permissions could not be granted
	PublishFailed       Code = "PublishFailed"       // a pointer could not be moved
	PointerConflict     Code = "PointerConflict"     // a pointer names an image that is not the recipe's
	RecordMismatch      Code = "RecordMismatch"      // a stored record is not of this execution, plan or image
	CleanupIncomplete   Code = "CleanupIncomplete"   // something the factory made could not be removed
	AnnouncementRefused Code = "AnnouncementRefused" // a release announcement is not from a topic that is listened to, or not genuine
	Internal            Code = "Internal"            // a defect of the factory
)

// MaxMessage is how many bytes an error's message takes at most where it leaves a
// function, in JSON. Step Functions cuts an error's cause off after 32,768
// characters, and passes at most 256 KiB to the next state.
const MaxMessage = 8 << 10

// Error carries a code, what happened in a sentence, and the cause.
type Error struct {
	Code    Code
	Message string
	Err     error
}

// New makes an Error of a formatted message.
func New(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Wrap makes an Error that keeps err as its cause.
func Wrap(code Code, err error, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), Err: err}
}

func (e *Error) Error() string {
	if e.Err != nil {
		return e.Message + ": " + e.Err.Error()
	}
	return e.Message
}

func (e *Error) Unwrap() error { return e.Err }

// CodeOf returns the code of the outermost Error in err's chain, or Internal
// when there is none.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return Internal
}
