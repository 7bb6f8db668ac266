package stage

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/evidence/vulnerability"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/guest"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// CheckCompliance awaits the checks' results, reads the image's snapshot from
// outside, keeps what both say and applies the gate.
type CheckCompliance struct {
	Settings Settings
	Store    store.Store
	SSM      guest.API
	EC2      ec2.DescribeImagesAPIClient
	EBS      ami.BlocksAPI
	// Inspector is asked for recipes that name it, if Settings.InspectorScan is set.
	Inspector vulnerability.SBOMScanner
}

// Run returns the verdict when the image passed, ComplianceRejected when it did
// not, ComplianceFailed when there is no result to be trusted, and
// ComplianceNotReady before.
func (s CheckCompliance) Run(ctx context.Context, in ComplianceInput) (CheckComplianceOutput, error) {
	p, err := loadPlan(ctx, s.Store, in.Job)
	if err != nil {
		return CheckComplianceOutput{}, err
	}
	if p.Reuse != nil && in.InstanceID == "" {
		return s.again(ctx, in, p)
	}
	if err := requireInput("instanceId", in.InstanceID, "imageId", in.ImageID, "commandId", in.CommandID); err != nil {
		return CheckComplianceOutput{}, err
	}
	result, err := guest.Poll(ctx, s.SSM, in.InstanceID, in.CommandID)
	if err != nil {
		return CheckComplianceOutput{}, awserr.Wrap(err, failure.ComplianceFailed, "ask for the checks' result from %s", in.InstanceID)
	}
	switch {
	case !result.Done:
		s.readAhead(ctx, in, p)
		return CheckComplianceOutput{}, failure.New(failure.ComplianceNotReady, "the checks are running in %s", in.InstanceID)
	case !result.OK():
		return CheckComplianceOutput{}, failure.New(failure.ComplianceFailed,
			"the checks could not be run in %s: the command ended %s with exit code %d: %s",
			in.InstanceID, result.Status, result.ExitCode, tail([]byte(result.Stderr)))
	}
	said, err := printedDigests(result.Stdout)
	if err != nil {
		return CheckComplianceOutput{}, err
	}
	raw, err := s.results(ctx, in, said.SHA256)
	if err != nil {
		return CheckComplianceOutput{}, err
	}
	listed, err := s.inventoryOf(ctx, in, said.Inventory.SHA256)
	if err != nil {
		return CheckComplianceOutput{}, err
	}
	outputs, err := s.outputs(ctx, in, p, said)
	if err != nil {
		return CheckComplianceOutput{}, err
	}
	return s.gate(ctx, in, p, listed, compliance.Input{
		Outputs:    outputs,
		Results:    raw,
		ResultsURI: "s3://" + s.Store.Bucket + "/" + rawResultsKey(in.Execution),
		InstanceID: in.InstanceID,
		Engine:     compliance.Engine{Name: "goss", Version: s.Settings.Engines[p.Recipe.Architecture].Version},
		Guests:     s.Settings.guests(),
	})
}

// again applies the gate and the waivers of the recipe to the results that were
// kept of an image that is released again.
func (s CheckCompliance) again(ctx context.Context, in ComplianceInput, p plan.BuildPlan) (CheckComplianceOutput, error) {
	image, _ := p.Reused(homeOf(p))
	if in.ImageID != image.ImageID {
		return CheckComplianceOutput{}, failure.New(failure.InvalidInput, "image %q is not %s, which is released again", in.ImageID, image.ImageID)
	}
	k, err := keptResults(ctx, s.Store, p, image.ImageID, image.Execution)
	if err != nil {
		return CheckComplianceOutput{}, failure.Wrap(failure.CodeOf(err), err, "no image is released without its compliance results")
	}
	return s.gate(ctx, in, p, k.inventory, compliance.Input{Results: k.raw, ResultsURI: k.uri, InstanceID: k.instanceID, Engine: k.engine, Guests: k.guests, Outputs: k.outputs})
}

// results fetches what the verifier uploaded. The address it was given can be
// written to once; the digest that came back over SSM decides whether it was this
// verifier that did.
func (s CheckCompliance) results(ctx context.Context, in ComplianceInput, sum string) ([]byte, error) {
	packed, err := s.uploaded(ctx, "results", rawResultsKey(in.Execution), compliance.MaxOutput, sum)
	if err != nil {
		return nil, err
	}
	return unpackResults(packed)
}

// outputs fetches what the verifier uploaded of the engines other than goss.
func (s CheckCompliance) outputs(ctx context.Context, in ComplianceInput, p plan.BuildPlan, said printed) (map[string]compliance.Output, error) {
	out := map[string]compliance.Output{}
	for _, name := range p.Engines.Names() {
		if said.Engines[name] == "" {
			return nil, failure.New(failure.ComplianceFailed, "the verifier announced no results of the engine %s, so nothing that it should prove is proved", name)
		}
		key := engineKey(in.Execution, name)
		packed, err := s.uploaded(ctx, "output of "+name, key, compliance.MaxPacked, said.Engines[name])
		if err != nil {
			return nil, err
		}
		out[name] = compliance.Output{Packed: packed, URI: "s3://" + s.Store.Bucket + "/" + key}
	}
	return out, nil
}

// uploaded fetches what a verifier says that it uploaded, of a digest.
func (s CheckCompliance) uploaded(ctx context.Context, what, key string, limit int64, sum string) ([]byte, error) {
	packed, err := s.Store.ReadAtMost(ctx, key, limit)
	switch {
	case errors.Is(err, store.ErrNone):
		return nil, failure.Wrap(failure.ComplianceFailed, err, "the verifier says that it uploaded its %s, but it is not there", what)
	case failure.CodeOf(err) == failure.InvalidInput: // too large
		return nil, failure.Wrap(failure.ComplianceFailed, err, "the %s of the verifier is not used", what)
	case err != nil:
		return nil, err
	}
	if got := store.Digest(packed); got != sum {
		return nil, failure.New(failure.ComplianceFailed, "the %s has SHA-256 %s, the verifier announced %s: it was altered on the way", what, got, sum)
	}
	return packed, nil
}

// printed is the line that run-checks.sh ends with: the digests of what it uploaded.
type printed struct {
	SHA256    string `json:"sha256"` // of the results
	Inventory struct {
		SHA256 string `json:"sha256"`
	} `json:"inventory"`
	Engines map[string]string `json:"engines"` // digests of the results of engines other than goss, by name
}

// printedDigests reads the last line that run-checks.sh prints.
func printedDigests(stdout string) (printed, error) {
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	var said printed
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &said); err != nil || said.SHA256 == "" {
		return said, failure.New(failure.ComplianceFailed, "the checks did not end with the digest of their results, but with %q", clip(lines[len(lines)-1], 200))
	}
	if said.Inventory.SHA256 == "" {
		return said, failure.New(failure.ComplianceFailed, "the checks ended without the digest of an inventory: %q", clip(lines[len(lines)-1], 200))
	}
	return said, nil
}

// gate judges results, which come with what they are of, and keeps the verdict and
// the inventory.
func (s CheckCompliance) gate(ctx context.Context, in ComplianceInput, p plan.BuildPlan, listed listing, of compliance.Input) (CheckComplianceOutput, error) {
	onSnapshot, err := s.onSnapshot(ctx, in, p)
	if err != nil {
		return CheckComplianceOutput{}, err
	}
	of.Controls, of.Checks, of.Snapshot, of.Engines = p.Controls, p.Checks, onSnapshot, p.Engines
	of.Gate, of.Waivers, of.Now = p.Recipe.Gate.Severity, p.Accepted(), in.Now
	of.Of, of.RunID, of.RecipeDigest, of.ImageID = bindingOf(in.Job, p), in.Execution.Name, p.Fingerprint, in.ImageID
	report, err := compliance.Evaluate(of)
	if err != nil {
		return CheckComplianceOutput{}, failure.Wrap(codeOr(err, failure.ComplianceFailed), err, "evaluate the results of %s", of.InstanceID)
	}
	if report.InventorySHA256, err = s.keepInventory(ctx, in, listed.document); err != nil {
		return CheckComplianceOutput{}, err
	}
	if err := s.judgeVulnerabilities(ctx, in, p, listed.Inventory, &report); err != nil {
		return CheckComplianceOutput{}, err
	}
	stored, err := s.Store.PutJSON(ctx, complianceKey(in.Execution), report)
	if err != nil {
		return CheckComplianceOutput{}, err
	}
	if report.Verdict != compliance.VerdictPassed {
		return CheckComplianceOutput{}, failure.New(failure.ComplianceRejected, "%s", report.Cause())
	}
	return CheckComplianceOutput{
		Passed: report.Counts.Passed, Failed: report.Counts.Failed, Waived: report.Counts.Waived, Results: stored,
	}, nil
}

// complianceKey is where the normalised results are kept, passed or not.
func complianceKey(e Execution) string { return executionKey(e, contract.ComplianceObject) }

// codeOr is err's own code, or the fallback when it has none.
func codeOr(err error, fallback failure.Code) failure.Code {
	var known *failure.Error
	if errors.As(err, &known) {
		return known.Code
	}
	return fallback
}
