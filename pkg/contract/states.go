package contract

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
	StateLaunchVerifier   = "LaunchVerifier"
	StateAwaitBoot        = "AwaitBoot"
	StateRunCompliance    = "RunCompliance"
	StateEvaluateGate     = "EvaluateGate"
	// StateEvaluateGateAgain comes right after IsUpToDate where the published image is
	// released again.
	StateEvaluateGateAgain = "EvaluateGateAgain"
	StateDistribute        = "Distribute"
	StateCopy              = "Copy"         // for each region, inside Distribute
	StateAwaitCopy         = "AwaitCopy"    // likewise
	StateCopyTimedOut      = "CopyTimedOut" // likewise
	StatePublish           = "Publish"
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
