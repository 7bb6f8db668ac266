package contract

// How an execution can end; these are the names of the state machine's last states.
const (
	Published = "Published" // every region has the image and every pointer names it
	UpToDate  = "UpToDate"  // the published image already has this fingerprint
	Rejected  = "Rejected"  // the gate refused the image; nothing is left
	// ApprovalRefused and ApprovalTimedOut are of releases that people had to approve.
	ApprovalRefused  = "ApprovalRefused"  // a person rejected the release; nothing is left
	ApprovalTimedOut = "ApprovalTimedOut" // too few people approved it in time; nothing is left

	FailedClean = "FailedClean" // a stage failed; nothing is left
	FailedDirty = "FailedDirty" // something could not be removed, whatever the outcome was
)

// EndStates are all of them, the best first.
func EndStates() []string {
	return []string{Published, UpToDate, Rejected, ApprovalRefused, ApprovalTimedOut, FailedClean, FailedDirty}
}

// Failed is the outcome of an execution before its clean-up has shown whether it
// ends in FailedClean or FailedDirty. The other outcomes are Published, UpToDate,
// Rejected, ApprovalRefused and ApprovalTimedOut.
const Failed = "Failed"
