package stage

import (
	"context"
	"errors"
	"slices"

	"github.com/ami-factory/ami-factory/pkg/approval"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/evidence"
	"github.com/ami-factory/ami-factory/pkg/evidence/bundle"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// signed reads which evidence was signed, and what people decided about it, into the
// report. Both stay empty if the execution ended before. It does not read the request,
// which holds the token of the task.
func (s Notify) signed(ctx context.Context, in NotifyInput, r *evidence.Report) error {
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
	slices.SortStableFunc(answers, func(a, b approval.Answer) int { return a.At.Compare(b.At) })
	r.Approvals = &evidence.Approvals{Needed: m.Approvals, Requester: requester, Decisions: []evidence.Approval{}}
	words := map[approval.Decision]string{approval.Approve: evidence.DecisionApproved, approval.Reject: evidence.DecisionRejected}
	for _, a := range answers {
		if words[a.Decision] != "" && a.BundleDigest == digest {
			r.Approvals.Decisions = append(r.Approvals.Decisions, evidence.Approval{
				Person: a.Person, Role: approval.RoleOf(a.UserARN), Decision: words[a.Decision], Reason: a.Reason, At: a.At.UTC(),
			})
		}
	}
	return nil
}
