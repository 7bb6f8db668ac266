package stage

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// bindingOf is what a record of this execution says that it is of. The name of an
// execution is not enough: Step Functions gives it out again after 90 days. Its
// start is kept in milliseconds, as Step Functions gives it.
func bindingOf(in Job, p plan.BuildPlan) compliance.Binding {
	return compliance.Binding{
		Execution: in.Execution.ID, Started: in.Execution.StartTime.UTC().Truncate(time.Millisecond), PlanSHA256: in.Plan.SHA256, Fingerprint: p.Fingerprint,
	}
}

// mismatch is the error for a stored record that is not what this execution has
// written; nil when there is no deviation.
func mismatch(what string, s store.Store, key string, deviations []string) error {
	return compliance.Mismatch(fmt.Sprintf("%s s3://%s/%s", what, s.Bucket, key), deviations)
}

// decodeRecord reads a record of this factory's.
func decodeRecord(what string, s store.Store, key string, raw []byte, into any) error {
	if err := json.Unmarshal(raw, into); err != nil {
		return failure.Wrap(failure.RecordMismatch, err, "%s s3://%s/%s cannot be read, so it is not used", what, s.Bucket, key)
	}
	return nil
}

// claim says which execution has a name.
type claim struct {
	Execution string    `json:"execution"` // ARN
	Started   time.Time `json:"started"`
}

// claimName makes sure that no other execution has written below this one's name
// in the bucket: its records would stand where this one's belong.
func claimName(ctx context.Context, s store.Store, e Execution) error {
	key := executionKey(e, contract.ClaimObject)
	want := claim{Execution: e.ID, Started: e.StartTime.UTC().Truncate(time.Millisecond)}
	raw, err := json.Marshal(want)
	if err != nil {
		return failure.Wrap(failure.Internal, err, "encode s3://%s/%s", s.Bucket, key)
	}
	created, err := s.Create(ctx, key, "application/json", raw)
	if err != nil || created {
		return err
	}
	there, err := s.Read(ctx, key)
	if err != nil {
		return err
	}
	var got claim
	if err := decodeRecord("the claim", s, key, there, &got); err != nil {
		return err
	}
	if got.Execution != want.Execution || !got.Started.Equal(want.Started) {
		return failure.New(failure.RecordMismatch,
			"nothing was started: the name %s is that of the execution %s of %s, whose records are kept at s3://%s/%s; start this one under another name",
			e.Name, got.Execution, got.Started.UTC().Format(time.RFC3339), s.Bucket, strings.TrimSuffix(key, contract.ClaimObject))
	}
	return nil
}

// readResults returns the results of the checks that let the image pass, as
// CheckCompliance of this execution has written them of this image, and their bytes.
func readResults(ctx context.Context, s store.Store, in Job, o store.Object, p plan.BuildPlan, image string) (compliance.Report, []byte, error) {
	var r compliance.Report
	key := complianceKey(in.Execution)
	if o.Key != key {
		return r, nil, failure.New(failure.RecordMismatch, "the results of the checks are given as s3://%s/%s, this execution's are at %s", o.Bucket, o.Key, key)
	}
	raw, err := s.Get(ctx, o)
	if err != nil {
		return r, nil, err
	}
	const what = "the record of results"
	if err := decodeRecord(what, s, key, raw, &r); err != nil {
		return r, nil, err
	}
	wrong := r.Of.Deviations(bindingOf(in, p))
	if r.ImageID != image {
		wrong = append(wrong, fmt.Sprintf("it is of image %q, to be published is %s", r.ImageID, image))
	}
	wrong = append(wrong, r.Doubts(p.Controls, p.Recipe.Gate.Severity)...)
	wrong = append(wrong, r.VulnerabilityDoubts(p.Recipe.Gate.Vulnerabilities.Severity != "")...)
	if err := mismatch(what, s, key, wrong); err != nil {
		return r, nil, err
	}
	return r, raw, ended(r, in.Now)
}

// ended is the error for waivers that the verdict needed and that ended after it,
// for example while the image waited for an approval.
func ended(r compliance.Report, now time.Time) error {
	var which []string
	for _, w := range r.Ended(now) {
		which = append(which, fmt.Sprintf("the waiver of %s expired on %s", w.Subject(), w.Expires))
	}
	if len(which) == 0 {
		return nil
	}
	return failure.New(failure.ComplianceRejected,
		"%s, after the image was judged with it; fix what it accepts or have the waiver approved again, then start the recipe again", strings.Join(which, "; "))
}

// homeOf is the region where the plan's image is made.
func homeOf(p plan.BuildPlan) string { return p.Recipe.Home().Name }
