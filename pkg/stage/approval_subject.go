package stage

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/ami-factory/ami-factory/pkg/approval"
	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/evidence"
	"github.com/ami-factory/ami-factory/pkg/evidence/bundle"
	"github.com/ami-factory/ami-factory/pkg/evidence/diff"
	"github.com/ami-factory/ami-factory/pkg/evidence/vulnerability"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// subject is what people decide about: what the manifest says, and the records that it
// names by their digests. needed is how many people must approve it.
func (s RequestApproval) subject(ctx context.Context, in RequestApprovalInput, p plan.BuildPlan) (out approval.Subject, needed int, err error) {
	raw, err := s.Desk.Store.Get(ctx, in.Manifest)
	if err != nil {
		return out, 0, err
	}
	m, err := bundle.ParseManifest(raw)
	if err != nil {
		return out, 0, failure.Wrap(failure.EvidenceMismatch, err, "the manifest s3://%s/%s", in.Manifest.Bucket, in.Manifest.Key)
	}
	records := manifestRecords{s.Desk.Store, in.Execution, m}
	var results compliance.Report
	if err := records.decode(ctx, contract.ComplianceObject, &results); err != nil {
		return out, 0, err
	}
	var found vulnerability.Report
	if err := records.decode(ctx, contract.VulnerabilitiesObject, &found); err != nil {
		return out, 0, err
	}
	out = approval.Subject{
		Simulated: compliance.Guests{Kind: m.Guests.Kind}.Simulated(), Verdict: results.Verdict, Gate: results.Gate,
		Passed: results.Counts.Passed, Failed: results.Counts.Failed, Waived: results.Counts.Waived, Packages: found.Packages,
		Open: []approval.Count{}, Waivers: []string{}, Images: []approval.Image{},
	}
	open := map[string]int{}
	for _, v := range vulnerabilitiesOf(found).Findings {
		switch v.Status {
		case evidence.VulnerabilityWaived:
			out.WaivedVulnerabilities++
		case evidence.VulnerabilityNotAffected:
			out.NotAffected++
		default:
			open[v.Severity]++
		}
	}
	for _, severity := range slices.Backward(compliance.Severities()) {
		if open[severity] > 0 {
			out.Open = append(out.Open, approval.Count{Severity: severity, Count: open[severity]})
		}
	}
	for _, w := range p.Waivers() {
		if len(out.Waivers) == approval.MaxWaivers {
			out.MoreWaivers++
			continue
		}
		out.Waivers = append(out.Waivers, waiverLine(w))
	}
	compared, err := records.read(ctx, contract.DiffObject)
	if err != nil {
		return out, 0, err
	}
	changes, err := diff.Decode(compared)
	if err != nil {
		return out, 0, failure.Wrap(failure.EvidenceMismatch, err, "%s", objectAt(s.Desk.Store, in.Execution, contract.DiffObject))
	}
	for _, line := range changes.Lines(approval.MaxChanges) {
		out.Changes = append(out.Changes, approval.Line(line))
	}
	if needed, err = neededFor(p, compared); err != nil {
		return out, 0, err
	}
	for _, image := range m.Images {
		out.Images = append(out.Images, approval.Image{Region: image.Region, ImageID: image.ImageID})
	}
	return out, needed, nil
}

// waiverLine is a waiver in one line.
func waiverLine(w compliance.Waiver) string {
	if w.BuiltIn {
		return approval.Line(fmt.Sprintf("%s, built into the component %s: %s", w.Subject(), w.Approver, w.Reason))
	}
	by := w.Approver
	if w.SecondApprover != "" {
		by += " and " + w.SecondApprover
	}
	stated := ""
	if w.FalsePositive != "" {
		stated = ", stated as a false positive (" + w.FalsePositive + ")"
	}
	return approval.Line(fmt.Sprintf("%s until %s, by %s, approved by %s%s: %s", w.Subject(), w.Expires, w.Author, by, stated, w.Reason))
}

// manifestRecords are the records of an execution that its manifest names. What has
// another digest than in the manifest is refused.
type manifestRecords struct {
	store     store.Store
	execution Execution
	manifest  bundle.Manifest
}

// read reads a record. The error is EvidenceMismatch if the manifest does not name it, or
// if it is not what the manifest names.
func (r manifestRecords) read(ctx context.Context, name string) ([]byte, error) {
	at := slices.IndexFunc(r.manifest.Files, func(f bundle.File) bool { return f.Name == name })
	if at < 0 {
		return nil, failure.New(failure.EvidenceMismatch, "the manifest %s does not name %s", objectAt(r.store, r.execution, contract.ManifestObject), name)
	}
	raw, err := r.store.Get(ctx, store.Object{Bucket: r.store.Bucket, Key: executionKey(r.execution, name), SHA256: r.manifest.Files[at].SHA256})
	if failure.CodeOf(err) == failure.InvalidInput { // it is missing, or was altered
		err = failure.Wrap(failure.EvidenceMismatch, err, "%s is not what the manifest names", name)
	}
	return raw, err
}

func (r manifestRecords) decode(ctx context.Context, name string, into any) error {
	raw, err := r.read(ctx, name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return failure.Wrap(failure.EvidenceMismatch, err, "%s cannot be read", objectAt(r.store, r.execution, name))
	}
	return nil
}
