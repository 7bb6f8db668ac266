package stage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/release"
)

// States of a journal.
const (
	journalMoving    = "moving"    // pointers may or may not name the new images
	journalCommitted = "committed" // all of them do
	journalRestored  = "restored"  // all of them have their previous values again
)

// journal is what Publish writes down before it touches the first pointer, so
// that whoever comes later (a second attempt, or Cleanup after a crash) knows
// what to give back.
type journal struct {
	Of       compliance.Binding `json:"of"`
	State    string             `json:"state"`
	Started  time.Time          `json:"started"`
	Recipe   string             `json:"recipe"`
	Images   map[string]string  `json:"images"` // what is published, by region
	Pointers []release.Pointer  `json:"pointers"`
}

func journalKey(e Execution) string { return executionKey(e, contract.JournalObject) }

// theJournal is how messages call it.
const theJournal = "the journal of pointers"

// readJournal returns nil when there is none. What it returns is not trusted yet:
// see deviations.
func readJournal(ctx context.Context, s Store, e Execution) (*journal, error) {
	raw, err := s.read(ctx, journalKey(e))
	if errors.Is(err, errNoObject) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var j journal
	if err := decodeRecord(theJournal, s, journalKey(e), raw, &j); err != nil {
		return nil, err
	}
	return &j, nil
}

// trustedJournal is the journal of this very execution, nil when there is none, and
// RecordMismatch when what is there says anything that this execution cannot have
// written. images is of the regions' EC2.
func trustedJournal(ctx context.Context, s Store, in Job, p plan.BuildPlan, images func(region string) ec2.DescribeImagesAPIClient) (*journal, error) {
	j, err := readJournal(ctx, s, in.Execution)
	if err != nil || j == nil {
		return nil, err
	}
	if err := mismatch(theJournal, s, journalKey(in.Execution), j.deviations(in, p)); err != nil {
		return nil, err
	}
	var wrong []string
	for _, ptr := range j.Pointers {
		// One that is gone meanwhile is for SSM to refuse, which names the pointer.
		_, err := previousImage(ctx, images(ptr.Region), ptr.Previous, p.Recipe)
		switch {
		case failure.CodeOf(err) == failure.PointerConflict:
			wrong = append(wrong, fmt.Sprintf("the previous value of %s: %v", ptr, err))
		case err != nil:
			return nil, err
		}
	}
	if err := mismatch(theJournal, s, journalKey(in.Execution), wrong); err != nil {
		return nil, err
	}
	return j, nil
}

// deviations are what a journal says that this execution cannot have written.
func (j *journal) deviations(in Job, p plan.BuildPlan) []string {
	wrong := j.Of.Deviations(bindingOf(in, p))
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if j.State != journalMoving && j.State != journalCommitted && j.State != journalRestored {
		say("its state is %q", j.State)
	}
	if j.Recipe != p.Recipe.Name {
		say("it is of recipe %q, not %q", j.Recipe, p.Recipe.Name)
	}
	if j.Started.Before(in.Execution.StartTime.Truncate(time.Millisecond)) {
		say("it was begun at %s, before the execution", j.Started.UTC().Format(time.RFC3339))
	}
	if len(j.Images) != len(regionsOf(p)) {
		say("it has images of %d regions, the plan has %d", len(j.Images), len(regionsOf(p)))
	}
	var want []release.Pointer
	for _, region := range regionsOf(p) {
		if j.Images[region] == "" {
			say("it has no image of %s", region)
		}
		for _, ptr := range pointersIn(p, region) {
			ptr.ImageID = j.Images[region]
			want = append(want, ptr)
		}
	}
	release.SortPointers(want)
	got := slices.Clone(j.Pointers)
	for i := range got {
		got[i].Previous, got[i].Written = "", false
	}
	if !slices.Equal(got, want) {
		say("its pointers are %v, the plan's are %v", named(got), named(want))
	}
	return wrong
}

// named lists pointers with what they name.
func named(ps []release.Pointer) []string {
	out := make([]string, len(ps))
	for i, p := range ps {
		out[i] = p.String() + "=" + p.ImageID
	}
	return out
}

// begin writes the journal for the first time. It says false when there is one by
// now, of another attempt.
func (j *journal) begin(ctx context.Context, s Store, e Execution) (bool, error) {
	j.State = journalMoving
	raw, err := json.MarshalIndent(j, "", "  ")
	if err != nil {
		return false, failure.Wrap(failure.Internal, err, "encode s3://%s/%s", s.Bucket, journalKey(e))
	}
	return s.create(ctx, journalKey(e), "application/json", append(raw, '\n'))
}

func (j *journal) write(ctx context.Context, s Store, e Execution, state string) error {
	j.State = state
	_, err := s.PutJSON(ctx, journalKey(e), j)
	return err
}
