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
	StateSign              = "Sign"
	StateNeedsApproval     = "NeedsApproval"
	// StateTerminateInstances and the next two are entered only if people must approve.
	StateTerminateInstances = "TerminateInstances"
	StateApprove            = "Approve"
	StateSignApproval       = "SignApproval"
	StateShare              = "Share"
	StateShareImage         = "ShareImage"     // for each region, inside Share
	StateImageNotShared     = "ImageNotShared" // likewise
	StateAreImagesShared    = "AreImagesShared"
	StatePublish            = "Publish"
	StateAnnounce           = "Announce"
	StateRetire             = "Retire"
	StateCleanup            = "Cleanup"
	StateNotify             = "Notify"
	StateOutcome            = "Outcome"
)

// UntimedStates are those that every execution which Notify reports on passes
// through, and whose time the machine does not keep. The state that it ends in
// comes on top.
func UntimedStates() []string {
	return []string{StateBegin, StateHasInput, StateIsUpToDate, StateNotify, StateOutcome}
}

// A step that waits for an event is several states. Users see one step, whose name is
// that of the state which looks whether the event has come true.
const (
	waitSuffix   = "Wait"   // waits for the event
	pauseSuffix  = "Pause"  // lets time pass if no event can end a wait
	inTimeSuffix = "InTime" // asks whether the step may go on
)

// WaitingSteps are the steps that have such states.
func WaitingSteps() []string {
	return []string{StateAwaitProvisioned, StateSeal, StateAwaitImage, StateAwaitBoot, StateEvaluateGate, StateAwaitCopy}
}

// WaitState is the name of the state that waits for an event before a step's state looks
// again.
func WaitState(step string) string { return step + waitSuffix }

// PauseState is the name of the state that lets time pass where the step cannot be woken.
func PauseState(step string) string { return step + pauseSuffix }

// InTimeState is the name of the state that ends a step which has waited too long.
func InTimeState(step string) string { return step + inTimeSuffix }

// StepOf is the step that a state belongs to: itself, unless it is one of those above.
func StepOf(state string) string {
	for _, suffix := range []string{waitSuffix, pauseSuffix, inTimeSuffix} {
		if step, ok := strings.CutSuffix(state, suffix); ok {
			return step
		}
	}
	return state
}
