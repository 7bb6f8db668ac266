package stage

import (
	"context"
	"errors"
	"fmt"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/evidence"
	"github.com/ami-factory/ami-factory/pkg/evidence/diff"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// maxDiffLines bounds the summary of a diff in a message.
const maxDiffLines = 10

// diff reads what Sign of this execution found to differ from the release before; nil
// if the execution ended before Sign.
func (s Notify) diff(ctx context.Context, in NotifyInput, p *plan.BuildPlan) (*diff.Diff, error) {
	key := executionKey(in.Execution, contract.DiffObject)
	raw, err := s.Store.ReadAtMost(ctx, key, diff.MaxSize)
	if errors.Is(err, store.ErrNone) {
		return nil, nil
	}
	if failure.CodeOf(err) == failure.InvalidInput { // it is too large
		return nil, failure.Wrap(failure.RecordMismatch, err, "the diff is not used")
	}
	if err != nil {
		return nil, failure.Wrap(codeOr(err, failure.Internal), err, "read the diff for the report")
	}
	const what = "the diff"
	d, err := diff.Decode(raw)
	if err != nil {
		return nil, failure.Wrap(failure.RecordMismatch, err, "%s s3://%s/%s cannot be read, so it is not used", what, s.Store.Bucket, key)
	}
	switch {
	case p == nil:
		return nil, mismatch(what, s.Store, key, []string{"the execution has no plan"})
	case d.After.Execution != in.Execution.Name || d.Recipe != p.Recipe.Name || d.After.ReleaseID != p.ReleaseID:
		return nil, mismatch(what, s.Store, key, []string{fmt.Sprintf("it is of the release %s of recipe %s by %s", d.After.ReleaseID, d.Recipe, d.After.Execution)})
	}
	return &d, nil
}

// diffOf is the diff as reports show it.
func diffOf(d *diff.Diff) *evidence.Diff {
	if d == nil {
		return nil
	}
	out := &evidence.Diff{Reason: d.NotCompared, OnlyPackageUpgrades: d.OnlyPackageUpgrades(), Groups: []evidence.DiffGroup{}}
	if d.Before != nil {
		out.ImageID, out.Execution = d.Before.ImageID, d.Before.Execution
	}
	for _, s := range d.Sections {
		group := evidence.DiffGroup{Title: s.Kind.Title(), More: s.More}
		for _, c := range s.Changes {
			group.Changes = append(group.Changes, evidence.Change{What: c.What, Name: c.Name, Before: c.Before, After: c.After, Grave: d.Grave(s.Kind, c)})
		}
		out.Groups = append(out.Groups, group)
	}
	return out
}

// diffLines summarises the diff for a message.
func diffLines(d *diff.Diff) []string {
	if d == nil {
		return nil
	}
	return d.Lines(maxDiffLines)
}
