package stage

import (
	"context"
	"errors"
	"log/slog"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// snapshotRecord holds the findings on the image's snapshot. They are kept because
// the snapshot is read while the checks run, before there are results to judge.
type snapshotRecord struct {
	Of      compliance.Binding   `json:"of"`
	ImageID string               `json:"image_id"`
	Found   *compliance.Snapshot `json:"found"`
}

// readAhead reads the snapshot while the checks run in the verifier, so that the
// gate does not wait for it afterwards. An error is only logged: the gate reads the
// snapshot then.
func (s CheckCompliance) readAhead(ctx context.Context, in ComplianceInput, p plan.BuildPlan) {
	found, err := s.keptSnapshot(ctx, in, p)
	if found != nil || err != nil && !errors.Is(err, store.ErrNone) && failure.CodeOf(err) != failure.RecordMismatch {
		return
	}
	if found, err = s.readSnapshot(ctx, in.ImageID, p.Controls); err == nil && found != nil {
		_, err = s.Store.PutJSON(ctx, snapshotKey(in.Execution), snapshotRecord{Of: bindingOf(in.Job, p), ImageID: in.ImageID, Found: found})
	}
	if err != nil {
		slog.WarnContext(ctx, "the snapshot could not be read while the checks run; the gate reads it", "error", awserr.Brief(err))
	}
}

// onSnapshot returns the findings on the image's snapshot, or nil if no control has rules
// for it.
func (s CheckCompliance) onSnapshot(ctx context.Context, in ComplianceInput, p plan.BuildPlan) (*compliance.Snapshot, error) {
	found, err := s.keptSnapshot(ctx, in, p)
	switch {
	case found != nil:
		return found, nil
	case err == nil, errors.Is(err, store.ErrNone), failure.CodeOf(err) == failure.RecordMismatch:
		return s.readSnapshot(ctx, in.ImageID, p.Controls)
	}
	return nil, err
}

// keptSnapshot returns the findings that readAhead has stored for this image, or nil if no
// control has rules for the snapshot.
func (s CheckCompliance) keptSnapshot(ctx context.Context, in ComplianceInput, p plan.BuildPlan) (*compliance.Snapshot, error) {
	if !compliance.HasSnapshotRules(p.Controls) {
		return nil, nil
	}
	const what = "the record of the snapshot's findings"
	key := snapshotKey(in.Execution)
	raw, err := s.Store.Read(ctx, key)
	if err != nil {
		return nil, err
	}
	var r snapshotRecord
	if err := decodeRecord(what, s.Store, key, raw, &r); err != nil {
		return nil, err
	}
	wrong := r.Of.Deviations(bindingOf(in.Job, p))
	if r.ImageID != in.ImageID {
		wrong = append(wrong, "it is of image "+r.ImageID+", not of "+in.ImageID)
	}
	if r.Found == nil {
		wrong = append(wrong, "it has no findings")
	}
	if err := mismatch(what, s.Store, key, wrong); err != nil {
		return nil, err
	}
	return r.Found, nil
}

// readSnapshot evaluates the rules of the plan's controls on the snapshot of the image's
// root volume. The image cannot influence this: EC2 names the snapshot, and EBS returns its
// blocks.
func (s CheckCompliance) readSnapshot(ctx context.Context, imageID string, controls []compliance.Control) (*compliance.Snapshot, error) {
	if !compliance.HasSnapshotRules(controls) {
		return nil, nil
	}
	id, err := ami.RootSnapshot(ctx, s.EC2, imageID)
	if err != nil {
		return nil, awserr.Wrap(err, failure.ComplianceFailed, "find the snapshot of %s", imageID)
	}
	blocks, err := ami.OpenBlocks(ctx, s.EBS, id)
	if err != nil {
		return nil, awserr.Wrap(err, failure.ComplianceFailed, "read the snapshot of %s", imageID)
	}
	found, cost, err := compliance.JudgeSnapshot(id, blocks, blocks.Size(), controls)
	if err != nil {
		return nil, awserr.Wrap(err, failure.ComplianceFailed, "read the snapshot of %s", imageID)
	}
	slog.InfoContext(ctx, "the snapshot was read from outside", "snapshot", id, "blocks", blocks.Fetched, "bytes", cost.Bytes, "entries", cost.Entries)
	return found, nil
}

// snapshotKey returns the key of the findings that readAhead stores.
func snapshotKey(e Execution) string { return executionKey(e, contract.SnapshotObject) }
