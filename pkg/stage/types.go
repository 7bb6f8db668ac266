// Package stage is the factory's work: one file and one Run method per stage,
// typed input to typed output. It knows neither Lambda nor Step Functions; the
// state machine in pkg/workflow hands these types around as JSON.
package stage

import (
	"time"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// Execution is the run of the state machine that a stage works for.
type Execution struct {
	ID        string    `json:"id"`   // the execution's ARN
	Name      string    `json:"name"` // part of client tokens and tags
	StartTime time.Time `json:"startTime"`
}

// Job is what every stage after Resolve is given.
type Job struct {
	Execution Execution `json:"execution"`
	// State is the name of the machine's state, for tags and client tokens. Executions
	// that began before a deployment still send it as stage.
	State string       `json:"stage"`
	Now   time.Time    `json:"now"`  // of the state machine's clock; stages never read their own
	Plan  store.Object `json:"plan"` // the plan.BuildPlan, as JSON
}

// ResolveInput is the execution's own input, with the state machine's context.
type ResolveInput struct {
	Execution Execution `json:"execution" from:"machine"`
	State     string    `json:"stage" from:"machine"` // the state's name
	Now       time.Time `json:"now" from:"machine"`
	contract.ExecutionInput
}

// ResolveOutput says what would be built, and whether it already is.
type ResolveOutput struct {
	Plan        store.Object      `json:"plan"`
	Recipe      string            `json:"recipe"`
	Fingerprint string            `json:"fingerprint"`
	ReleaseID   string            `json:"releaseId"`
	SourceImage string            `json:"sourceImage"`
	UpToDate    bool              `json:"upToDate"`
	Published   map[string]string `json:"published,omitempty"` // when up to date: image ids by region
	Regions     []string          `json:"regions"`             // to distribute to, the home region among them
	Copies      string            `json:"copies"`              // when copies are started: contract.CopiesBeforeGate or CopiesAfterGate
	Action      string            `json:"action,omitempty"`    // contract.ActionBake or ActionRelease; empty when up to date
	Why         string            `json:"why,omitempty"`       // reason of the action
	Changed     []string          `json:"changed,omitempty"`   // what differs from the release before, see plan.Differences
	ImageID     string            `json:"imageId"`             // in the home region, of an image that is released again; else empty
	// ApprovalSeconds is how long the release waits for people, if they must approve it.
	ApprovalSeconds int `json:"approvalSeconds"`

	Guests compliance.Guests `json:"guests"` // what the execution's instances are
}

// LaunchInput starts the builder, or a verifier from the new image.
type LaunchInput struct {
	Job
	Role    string `json:"role"`              // builder | verifier
	ImageID string `json:"imageId,omitempty"` // verifier only
}

// LaunchOutput names the instance.
type LaunchOutput struct {
	InstanceID   string `json:"instanceId"`
	InstanceType string `json:"instanceType"`
}

// InstanceInput asks about a builder or verifier.
type InstanceInput struct {
	Job
	Role       string `json:"role"`
	InstanceID string `json:"instanceId"`
}

// CheckInstanceOutput is the verdict once the instance is up: for a builder,
// that cloud-init and every component finished well; for a verifier, that it
// booted and answers.
type CheckInstanceOutput struct {
	InstanceID  string        `json:"instanceId"`
	BootSeconds float64       `json:"bootSeconds"`           // from launch to the verdict, on the guest's word
	Console     *store.Object `json:"console,omitempty"`     // the serial log, kept as evidence
	FailedUnits []string      `json:"failedUnits,omitempty"` // systemd units; for the checks to judge
}

// SealOutput says that the builder has cleaned itself and stopped.
type SealOutput struct {
	InstanceID string `json:"instanceId"`
}

// CreateImageOutput names the image that is being made.
type CreateImageOutput struct {
	ImageID string `json:"imageId"`
}

// ImageInput asks about an image in the home region.
type ImageInput struct {
	Job
	ImageID string `json:"imageId"`
}

// CheckImageOutput describes the finished image.
type CheckImageOutput struct {
	ImageID     string   `json:"imageId"`
	SnapshotIDs []string `json:"snapshotIds"`
	SizeGiB     int32    `json:"sizeGiB"`
	// SnapshotBytes is what the snapshots hold, which is what they cost; 0 if EC2
	// does not say.
	SnapshotBytes int64 `json:"snapshotBytes"`
}

// ComplianceInput runs or evaluates the checks of an image in its verifier.
type ComplianceInput struct {
	Job
	ImageID    string `json:"imageId"`
	InstanceID string `json:"instanceId,omitempty"` // empty: the kept results of an image that is released again
	CommandID  string `json:"commandId,omitempty"`  // check-compliance only
}

// RunComplianceOutput names the command that was sent.
type RunComplianceOutput struct {
	CommandID string `json:"commandId"`
}

// CheckComplianceOutput is the gate's verdict when it let the image pass.
type CheckComplianceOutput struct {
	Passed  int          `json:"passed"`
	Failed  int          `json:"failed"` // below the gate's severity
	Waived  int          `json:"waived"`
	Results store.Object `json:"results"` // compliance.Report as JSON
}

// DistributeInput is one region's share of the distribution.
type DistributeInput struct {
	Job
	ImageID string `json:"imageId"` // in the home region
	Region  string `json:"region"`
	CopyID  string `json:"copyId,omitempty"` // check-distribution only
}

// DistributeOutput names the copy (the image itself in the home region).
type DistributeOutput struct {
	Region string `json:"region"`
	CopyID string `json:"copyId"`
}

// CheckDistributionOutput describes a copy that is available and private.
type CheckDistributionOutput struct {
	Region      string   `json:"region"`
	ImageID     string   `json:"imageId"`
	SnapshotIDs []string `json:"snapshotIds"`
	// Retries is how often the copy was not ready yet, Waits how often the state machine
	// waited for an event, and Events how often one came; the state machine adds them.
	Retries int `json:"retries,omitempty"`
	Waits   int `json:"waits,omitempty"`
	Events  int `json:"events,omitempty"`
	Detours int `json:"detours,omitempty"`
}

// SignInput is what is to be released.
type SignInput struct {
	Job
	Copies  []CheckDistributionOutput `json:"copies"`
	Results store.Object              `json:"results"`
	// Manifest is what people have approved. It is absent until they have.
	Manifest *store.Object `json:"manifest,omitempty"`
}

// SignOutput names the signed evidence.
type SignOutput struct {
	Manifest store.Object `json:"manifest"` // bundle.Manifest as JSON; its digest names the bundle
	Evidence store.Object `json:"evidence"` // the bundle, as one file; empty until people have approved, where they must
	// Approvals is how many different people must approve the release.
	Approvals int `json:"approvals"`
}

// RequestApprovalInput is the release that people must approve.
type RequestApprovalInput struct {
	Job
	Manifest store.Object `json:"manifest"`
	Token    string       `json:"token"` // of the task that waits for them
}

// RequestApprovalOutput says what people are asked.
type RequestApprovalOutput struct {
	Digest  string    `json:"digest"` // of the manifest
	Needed  int       `json:"needed"` // different people
	Expires time.Time `json:"expires"`
}

// ShareInput is the image of one region, as CheckDistribution saw it.
type ShareInput struct {
	Job
	Region      string       `json:"region"`
	ImageID     string       `json:"imageId"`
	SnapshotIDs []string     `json:"snapshotIds"`
	Evidence    store.Object `json:"evidence"`
}

// ShareOutput describes an image that is shared and verified, but that no pointer
// names yet.
type ShareOutput struct {
	Region      string   `json:"region"`
	ImageID     string   `json:"imageId"`
	SnapshotIDs []string `json:"snapshotIds"`
	// Retries is how often it was not visible yet; the state machine adds it.
	Retries int `json:"retries,omitempty"`
}

// PublishInput moves the pointers, when every target is verified.
type PublishInput struct {
	Job
	Copies   []ShareOutput `json:"copies"`
	Results  store.Object  `json:"results"`
	Evidence store.Object  `json:"evidence"`
}

// PublishOutput is what consumers see now.
type PublishOutput struct {
	Images   map[string]string `json:"images"`   // image id by region
	Pointers []string          `json:"pointers"` // "region:parameter name", or "account:region:parameter name"; sorted
}

// RetireInput applies the recipe's retention, once the new image is published.
type RetireInput struct {
	Job
}

// RetireOutput counts what became of the recipe's published images.
type RetireOutput struct {
	Kept       int          `json:"kept"`
	Deprecated int          `json:"deprecated"`
	Removed    int          `json:"removed"`
	Left       int          `json:"left"`      // that could not be deprecated or removed
	Retention  store.Object `json:"retention"` // what became of each image, and why, as JSON
}

// CleanupInput removes what the execution made and did not publish.
type CleanupInput struct {
	Job
	// Instances is set while the execution goes on: only its instances are terminated.
	Instances bool `json:"instances,omitempty"`

	Outcome string `json:"outcome"`          // Published | UpToDate | Rejected | Failed
	Error   string `json:"error,omitempty"`  // failure.Code of the failed stage
	Cause   string `json:"cause,omitempty"`  // as Step Functions keeps it: see failure.Sentence
	Failed  string `json:"failed,omitempty"` // its stage
	// Copies are those that were started, those of regions that have failed since among
	// them. Cleanup only.
	Copies []StartedCopy `json:"copies,omitempty"`
	// Failures are those of a state that does the work of each region. Cleanup only.
	Failures []RegionFailure `json:"failures,omitempty"`
}

// StartedCopy is what the state machine knows of the image of a region.
type StartedCopy struct {
	Region string `json:"region"`
	// ImageID is empty if no copy was started, or if the function that starts it did
	// not answer in time.
	ImageID string `json:"imageId,omitempty"`
	// StartedAt is when the copy was started at the latest. It is zero if there is none,
	// or if EC2 has shown it already.
	StartedAt time.Time `json:"startedAt,omitzero"`
}

// RegionFailure is what a function of one region failed with.
type RegionFailure struct {
	Region string `json:"region"`
	Error  string `json:"error"`
	Cause  string `json:"cause"` // as Step Functions keeps it
}

// CleanupOutput lists what was removed and what could not be.
type CleanupOutput struct {
	Ending
	Removed []string `json:"removed"` // resource ids, sorted
	Left    []string `json:"left"`    // "id: reason", sorted; empty when clean
}

// Ending is what an execution failed with, in words for people; empty when it
// did not fail.
type Ending struct {
	Error string `json:"error"` // a failure.Code, or a name of Step Functions'
	Cause string `json:"cause"`
}

// NotifyInput tells the world how the execution ended.
type NotifyInput struct {
	CleanupInput
	Images  map[string]string `json:"images,omitempty"`
	Results store.Object      `json:"results"`           // empty key when the checks never ran
	Removed []string          `json:"removed,omitempty"` // by Cleanup
	Left    []string          `json:"left"`
	// CleanupCause is the cause of the error that Cleanup ended with, as Step
	// Functions keeps it.
	CleanupCause string `json:"cleanupCause,omitempty"`
	// Timings are the states that the execution has left, by name, as the state
	// machine kept them.
	Timings map[string]Timing `json:"timings,omitempty"`
	// Announce only informs consumers that the image is published.
	Announce bool `json:"announce,omitempty"`
	// Announced says that consumers have been informed, so that a message about the
	// end is due only if it has something else to say.
	Announced bool `json:"announced,omitempty"`
}

// Timing is the execution's stay in one step, its waits included.
type Timing struct {
	Entered      time.Time `json:"entered"`
	Left         time.Time `json:"left"`
	Retries      int       `json:"retries,omitempty"`      // of its function, after the first time
	Waits        int       `json:"waits,omitempty"`        // for an event; each is a state and an invocation of its own
	Events       int       `json:"events,omitempty"`       // that have ended waits; each is an invocation too
	Detours      int       `json:"detours,omitempty"`      // additional states, entered when no event ended a wait
	InstanceType string    `json:"instanceType,omitempty"` // of what was launched
	CopyRetries  int       `json:"copyRetries,omitempty"`  // of the copies to all regions together
	CopyWaits    int       `json:"copyWaits,omitempty"`    // likewise
	CopyEvents   int       `json:"copyEvents,omitempty"`   // likewise
	CopyDetours  int       `json:"copyDetours,omitempty"`  // likewise
	CopyFailures int       `json:"copyFailures,omitempty"` // regions that failed
	CopySkipped  int       `json:"copySkipped,omitempty"`  // functions that were not invoked, because their region had failed before
	// SnapshotBytes is what the image's snapshots hold; 0 if that is not known.
	SnapshotBytes int64 `json:"snapshotBytes,omitempty"`
}

// NotifyOutput names the report.
type NotifyOutput struct {
	Ending
	Report store.Object `json:"report"`
	Status string       `json:"status"` // Published | UpToDate | Rejected | FailedClean | FailedDirty
	Left   []string     `json:"left"`
}
