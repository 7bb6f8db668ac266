package stage

import (
	"context"
	"errors"
	"log/slog"

	"github.com/ami-factory/ami-factory/pkg/approval"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/evidence"
	"github.com/ami-factory/ami-factory/pkg/evidence/bundle"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// signed reads which evidence was signed, and what people decided about it, into the
// report. Both stay empty if the execution ended before. It does not read the request,
// which holds the token of the task.
func (s Notify) signed(ctx context.Context, in NotifyInput, p *plan.BuildPlan, r *evidence.Report) error {
	raw, err := s.Store.ReadAtMost(ctx, executionKey(in.Execution, contract.ManifestObject), bundle.MaxFile)
	if errors.Is(err, store.ErrNone) {
		return nil
	}
	if failure.CodeOf(err) == failure.InvalidInput { // it is too large
		return failure.Wrap(failure.RecordMismatch, err, "the manifest is not used")
	}
	if err != nil {
		return err
	}
	m, err := bundle.ParseManifest(raw)
	if err == nil && m.Execution.ID != in.Execution.ID {
		err = errors.New("it is of the execution " + m.Execution.ID)
	}
	if err != nil {
		return failure.Wrap(failure.RecordMismatch, err, "the manifest %s", objectAt(s.Store, in.Execution, contract.ManifestObject))
	}
	digest := store.Digest(raw)
	r.Bundle = &evidence.Bundle{SHA256: digest, Key: m.Key.ID}
	if m.Approvals == 0 {
		return nil
	}
	desk := approval.Desk{Store: s.Store, Keys: s.Keys}
	requester, err := desk.Requester(ctx, in.Execution.Name)
	if errors.Is(err, store.ErrNone) {
		requester, err = triggers, nil
		if r.Failure != nil && r.Failure.Error == string(failure.RequesterUnknown) {
			requester = ""
		}
	}
	if err != nil {
		return err
	}
	answers, err := desk.Answers(ctx, digest)
	if err != nil {
		return err
	}
	asked := approval.Request{Execution: in.Execution.Name, BundleDigest: digest, Requester: requester, Needed: m.Approvals, Expires: in.Now}
	if p != nil {
		asked.WaiverAuthors = waiverAuthors(*p)
	}
	judged := approval.Judge(asked, answers, in.Now)
	for _, doubt := range judged.Doubts { // the report has what counts
		slog.WarnContext(ctx, doubt, "execution", in.Execution.Name)
	}
	counting := judged.Approvals
	if judged.Refusal != nil {
		counting = append(counting, *judged.Refusal)
	}
	r.Approvals = &evidence.Approvals{Needed: m.Approvals, Requester: requester, Decisions: []evidence.Approval{}}
	words := map[approval.Decision]string{approval.Approve: evidence.DecisionApproved, approval.Reject: evidence.DecisionRejected}
	for _, a := range counting {
		r.Approvals.Decisions = append(r.Approvals.Decisions, evidence.Approval{
			Person: a.Person, Role: approval.RoleOf(a.UserARN), Decision: words[a.Decision], Reason: a.Reason, At: a.At.UTC(),
		})
	}
	return nil
}
