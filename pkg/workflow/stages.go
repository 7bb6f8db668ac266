// Package workflow is the factory's state machine as Go data: which stages
// there are, in what order they run, what is retried and what is caught. One
// table drives the Amazon States Language, the functions of pkg/blueprint, and the
// tests.
package workflow

import (
	"slices"
	"time"

	"github.com/ami-factory/ami-factory/pkg/failure"
)

// Stage is the name of a stage's Lambda function (without the deployment's
// prefix) and of its folder under lambdas/.
type Stage string

// The stages, in the order in which an execution first meets them. Wake is no step
// of the work: all states that wait invoke it, and so do the events that end waits.
const (
	Resolve           Stage = "resolve"
	Launch            Stage = "launch"
	Wake              Stage = "wake"
	CheckInstance     Stage = "check-instance"
	Seal              Stage = "seal"
	CreateImage       Stage = "create-image"
	CheckImage        Stage = "check-image"
	RunCompliance     Stage = "run-compliance"
	CheckCompliance   Stage = "check-compliance"
	Distribute        Stage = "distribute"
	CheckDistribution Stage = "check-distribution"
	Sign              Stage = "sign"
	RequestApproval   Stage = "request-approval"
	Share             Stage = "share"
	Publish           Stage = "publish"
	Retire            Stage = "retire"
	Cleanup           Stage = "cleanup"
	Notify            Stage = "notify"
)

// Poll says how a stage that reports "not yet" is asked again where no event says
// when: after an interval that grows.
type Poll struct {
	Interval time.Duration // before the second attempt
	MaxDelay time.Duration // the interval grows by a quarter up to this
	Attempts int
}

// Row is a stage's row of the table: what the state machine needs to know of it.
type Row struct {
	Stage   Stage
	Does    string // one line, for descriptions
	Timeout time.Duration
	NotYet  failure.Code   // with which it says "not yet"; empty: it never does
	Poll    *Poll          // nil: the machine waits for an event before it asks again
	Fails   []failure.Code // the codes it may end with, beyond Common
}

// Common are the codes any stage may end with.
func Common() []failure.Code {
	return []failure.Code{
		failure.Throttled, failure.ServiceUnavailable, failure.AccessDenied,
		failure.InvalidInput, failure.Internal,
	}
}

const (
	shortRun = 30 * time.Second
	longRun  = 2 * time.Minute
)

// Stages returns the table of stages, in order.
func Stages() []Row {
	return []Row{
		{
			Stage: Resolve, Does: "reads the recipe, resolves and verifies the source AMI, plans the build",
			Timeout: longRun,
			Fails:   []failure.Code{failure.RecipeInvalid, failure.BelowBaseline, failure.SourceNotFound, failure.SourceOwnerMismatch, failure.PointerConflict, failure.RecordMismatch, failure.SourceRefused},
		},
		{
			Stage: Launch, Does: "launches a builder, or a verifier from the new image",
			Timeout: longRun,
			Fails:   []failure.Code{failure.CapacityUnavailable, failure.QuotaExceeded, failure.InstanceFailed, failure.InstanceMismatch},
		},
		{
			Stage: Wake, Does: "wakes the states that wait for an event, when it comes",
			Timeout: shortRun,
		},
		{
			Stage: CheckInstance, Does: "asks whether an instance is up and how its first boot ended",
			Timeout: shortRun,
			NotYet:  failure.InstanceNotReady,
			Fails:   []failure.Code{failure.DocumentChanged, failure.ProvisioningFailed, failure.InstanceFailed, failure.InstanceTimedOut},
		},
		{
			Stage: Seal, Does: "arms the hygiene script in the builder and stops it",
			Timeout: shortRun,
			NotYet:  failure.SealNotReady,
			Fails:   []failure.Code{failure.DocumentChanged, failure.SealFailed, failure.InstanceFailed},
		},
		{
			Stage: CreateImage, Does: "starts the image of the stopped builder",
			Timeout: shortRun,
			Fails:   []failure.Code{failure.ImageFailed, failure.QuotaExceeded},
		},
		{
			Stage: CheckImage, Does: "awaits the image, requires IMDSv2 of it and tags its snapshots",
			Timeout: shortRun,
			NotYet:  failure.ImageNotReady,
			Fails:   []failure.Code{failure.ImageFailed},
		},
		{
			Stage: RunCompliance, Does: "sends the checks to the verifier",
			Timeout: shortRun,
			Fails:   []failure.Code{failure.DocumentChanged, failure.ComplianceFailed, failure.InstanceFailed},
		},
		{
			Stage: CheckCompliance, Does: "awaits the checks' results, reads the image's snapshot and applies the gate",
			Timeout: 10 * time.Minute, // it reads the image's snapshot
			NotYet:  failure.ComplianceNotReady,
			Fails:   []failure.Code{failure.ComplianceRejected, failure.ComplianceFailed},
		},
		{
			Stage: Distribute, Does: "starts the private copy to one region",
			Timeout: shortRun,
			Fails:   []failure.Code{failure.CopyFailed, failure.QuotaExceeded},
		},
		{
			Stage: CheckDistribution, Does: "awaits a regional copy, finishes it and verifies that it is private",
			Timeout: longRun,
			NotYet:  failure.CopyNotReady,
			Fails:   []failure.Code{failure.CopyFailed, failure.ShareFailed},
		},
		{
			Stage: Sign, Does: "writes the manifest of what is released, and signs what is proved of it",
			Timeout: longRun,
			Fails:   []failure.Code{failure.EvidenceFailed, failure.EvidenceMismatch, failure.ApprovalMissing, failure.RecordMismatch, failure.ComplianceRejected},
		},
		{
			Stage: RequestApproval, Does: "asks people to approve a release",
			Timeout: shortRun,
			Fails:   []failure.Code{failure.RequesterUnknown, failure.RecordMismatch, failure.EvidenceMismatch, failure.ApprovalRefused, failure.ApprovalTimedOut},
		},
		{
			Stage: Share, Does: "shares the image of one region and verifies it",
			Timeout: longRun,
			NotYet:  failure.CopyNotReady,
			Poll:    &Poll{Interval: 2 * time.Second, MaxDelay: time.Minute, Attempts: 25}, // a quarter of an hour; of each region, whose events share the history
			Fails:   []failure.Code{failure.CopyFailed, failure.ShareFailed, failure.EvidenceFailed, failure.EvidenceMismatch, failure.ApprovalMissing, failure.RecordMismatch},
		},
		{
			Stage: Publish, Does: "moves the pointers of all regions, or of none",
			Timeout: longRun,
			NotYet:  failure.PublishNotReady,
			Poll:    &Poll{Interval: time.Second, MaxDelay: 10 * time.Second, Attempts: 100},
			Fails:   []failure.Code{failure.PublishFailed, failure.PointerConflict, failure.RecordMismatch, failure.EvidenceFailed, failure.EvidenceMismatch, failure.ApprovalMissing, failure.ComplianceRejected},
		},
		{
			Stage: Retire, Does: "deprecates images beyond the recipe's retention, and deregisters those that have long been unused",
			Timeout: longRun,
			Fails:   []failure.Code{failure.RecordMismatch},
		},
		{
			Stage: Cleanup, Does: "removes whatever the execution made and did not publish",
			Timeout: 5 * time.Minute,
			Fails:   []failure.Code{failure.CleanupIncomplete},
		},
		{
			Stage: Notify, Does: "announces a published image; writes the report and reports the end",
			Timeout: shortRun,
		},
	}
}

// Lookup returns the table's row of a stage.
func Lookup(s Stage) (Row, bool) {
	all := Stages()
	i := slices.IndexFunc(all, func(x Row) bool { return x.Stage == s })
	if i < 0 {
		return Row{}, false
	}
	return all[i], true
}
