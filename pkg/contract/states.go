package contract

import "strings"

// The states of the state machine, in the order in which an execution first enters
// them. Those it can end in are Published and its siblings.
const (
	StateBegin            = "Begin"
	StateHasInput         = "HasInput"
	StateStagger          = "Stagger"
	StateRefuseInput      = "RefuseInput"
	StateResolve          = "Resolve"
	StateIsUpToDate       = "IsUpToDate"
	StateLaunchBuilder    = "LaunchBuilder"
	StateAwaitProvisioned = "AwaitProvisioned"
	StateSeal             = "Seal"
	StateCreateImage      = "CreateImage"
	StateAwaitImage       = "AwaitImage"
	StateStartCopies      = "StartCopies"
	StateCopy             = "Copy"           // for each region, inside StartCopies
	StateCopyNotStarted   = "CopyNotStarted" // likewise
	StateAreCopiesStarted = "AreCopiesStarted"
	StateLaunchVerifier   = "LaunchVerifier"
	StateAwaitBoot        = "AwaitBoot"
	StateRunCompliance    = "RunCompliance"
	StateEvaluateGate     = "EvaluateGate"
	// StateEvaluateGateAgain comes right after IsUpToDate where the published image is
	// released again.
	StateEvaluateGateAgain = "EvaluateGateAgain"
	StateDistribute        = "Distribute"
	StateIsCopying         = "IsCopying"     // for each region, inside Distribute
	StateCopyAfterGate     = "CopyAfterGate" // likewise
	StateAwaitCopy         = "AwaitCopy"     // likewise
	StateCopyNotMade       = "CopyNotMade"   // likewise
	StateAreCopiesMade     = "AreCopiesMade"
	StateShare             = "Share"
	StateShareImage        = "ShareImage"     // for each region, inside Share
	StateImageNotShared    = "ImageNotShared" // likewise
	StateAreImagesShared   = "AreImagesShared"
	StatePublish           = "Publish"
	StateAnnounce          = "Announce"
	StateRetire            = "Retire"
	StateCleanup           = "Cleanup"
	StateNotify            = "Notify"
	StateOutcome           = "Outcome"
)

// UntimedStates are those that every execution which Notify reports on passes
// through, and whose time the machine does not keep. The state that it ends in
// comes on top.
func UntimedStates() []string {
	return []string{StateBegin, StateHasInput, StateIsUpToDate, StateNotify, StateOutcome}
}

// A state that waits for an event is a part of the step whose state looks whether
// the event has come true: users see one step, whose name is that of the state which
// looks.
const waitSuffix = "Wait"

// WaitingSteps are the steps that have such a state.
func WaitingSteps() []string {
	return []string{StateAwaitProvisioned, StateSeal, StateAwaitImage, StateAwaitBoot, StateEvaluateGate, StateAwaitCopy}
}

// WaitState is the name of the state that waits before a step's state looks again.
func WaitState(step string) string { return step + waitSuffix }

// StepOf is the step that a state belongs to: itself, unless it is one that waits.
func StepOf(state string) string { return strings.TrimSuffix(state, waitSuffix) }
