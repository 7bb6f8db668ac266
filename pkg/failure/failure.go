// Package failure names every way in which a stage of the factory can fail. A
// code is the error name in Step Functions, so Retry and Catch clauses of the
// state machine use these constants and nothing else.
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

// IsNotYet reports whether the code means "not yet".
func (c Code) IsNotYet() bool { return slices.Contains(NotYet(), c) }

// Codes for temporary problems of AWS itself, retried with backoff.
const (
	Throttled           Code = "Throttled"           // RequestLimitExceeded, Throttling, TooManyRequests
	ServiceUnavailable  Code = "ServiceUnavailable"  // 5xx, connection reset, eventual consistency that outlived the call
	CapacityUnavailable Code = "CapacityUnavailable" // no listed instance type has capacity in any listed subnet
)

// Codes that end the execution.
const (
	InvalidInput        Code = "InvalidInput"        // the input of the execution or of a stage does not have the documented form
	RecipeInvalid       Code = "RecipeInvalid"       // unknown recipe, or one that lint refuses
	BelowBaseline       Code = "BelowBaseline"       // a recipe that requires less than the deployment's baseline, or has a pointer of another recipe
	SourceNotFound      Code = "SourceNotFound"      // the base AMI does not resolve
	SourceOwnerMismatch Code = "SourceOwnerMismatch" // it resolves to an image of another owner
	SourceRefused       Code = "SourceRefused"       // the image given instead of the source does not belong to the source, or is older than the published one
	AccessDenied        Code = "AccessDenied"        // AWS refused a call because a permission is missing
	QuotaExceeded       Code = "QuotaExceeded"       // a service quota is used up
	DocumentChanged     Code = "DocumentChanged"     // the document that runs scripts in instances is missing, or is not the factory's
	ProvisioningFailed  Code = "ProvisioningFailed"  // a component's install or cloud-init failed in the builder
	InstanceFailed      Code = "InstanceFailed"      // the instance ended or never became healthy
	InstanceMismatch    Code = "InstanceMismatch"    // an instance has the execution's tags or client token, but the execution did not launch it
	InstanceTimedOut    Code = "InstanceTimedOut"    // not ready within the recipe's time-out
	SealFailed          Code = "SealFailed"          // the seal step failed
	ImageFailed         Code = "ImageFailed"         // CreateImage ended in state failed
	ComplianceRejected  Code = "ComplianceRejected"  // a control of the gate's severity or above failed
	ComplianceFailed    Code = "ComplianceFailed"    // the checks could not be run, or their result cannot be trusted
	CopyFailed          Code = "CopyFailed"          // a regional copy ended in state failed
	EvidenceFailed      Code = "EvidenceFailed"      // the evidence of a release could not be made or signed
	EvidenceMismatch    Code = "EvidenceMismatch"    // the signed evidence is not genuine, or an image is not what it says
	ApprovalRefused     Code = "ApprovalRefused"     // a person rejected the release
	ApprovalTimedOut    Code = "ApprovalTimedOut"    // too few people approved the release in time
	ApprovalMissing     Code = "ApprovalMissing"     // a release is about to be shared or published without the approvals that it needs
	RequesterUnknown    Code = "RequesterUnknown"    // a release needs approvals, and it is not known who asked for it
	ShareFailed         Code = "ShareFailed"         // launch permissions could not be granted
	PublishFailed       Code = "PublishFailed"       // a pointer could not be moved
	PointerConflict     Code = "PointerConflict"     // a pointer names an image that is not the recipe's
	RecordMismatch      Code = "RecordMismatch"      // a stored record does not belong to this execution, plan or image
	CleanupIncomplete   Code = "CleanupIncomplete"   // something the factory made could not be removed
	AnnouncementRefused Code = "AnnouncementRefused" // a release announcement is from another topic than the configured ones, or its signature is invalid
	Internal            Code = "Internal"            // a defect of the factory
)

// MaxMessage is the maximum size of an error's message when it leaves a
// function, in bytes of JSON. Step Functions cuts an error's cause off after
// 32,768 characters, and passes at most 256 KiB to the next state.
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

// CodeOf returns the code of the outermost Error in err's chain, or Internal if
// there is none.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return Internal
}
