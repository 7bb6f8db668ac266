package release

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/failure"
)

// State of a journal.
type State string

// The states of a journal.
const (
	Moving    State = "moving"    // pointers may or may not name the new images
	Committed State = "committed" // all of them do
	Restored  State = "restored"  // all of them have their previous values again
)

// Journal is what Publisher writes before it moves the first pointer, so that a
// second attempt, or Undo after a crash, knows what to give back.
type Journal struct {
	Of       compliance.Binding `json:"of"`
	State    State              `json:"state"`
	Started  time.Time          `json:"started"`
	Recipe   string             `json:"recipe"`
	Images   map[string]string  `json:"images"` // what is published, by region
	Pointers []Pointer          `json:"pointers"`
}

// Records is the one place where an execution keeps its journal.
type Records interface {
	// Address names the place, for messages.
	Address() string
	// Read returns nil when there is no journal.
	Read(context.Context) ([]byte, error)
	// Create writes the journal unless there is one, and reports whether it did.
	Create(context.Context, []byte) (bool, error)
	Write(context.Context, []byte) error
}

// journalAt is how messages name a journal.
func journalAt(r Records) string { return "the journal of pointers " + r.Address() }

// readJournal returns nil when there is none. What it returns is not trusted yet:
// see deviations.
func readJournal(ctx context.Context, r Records) (*Journal, error) {
	raw, err := r.Read(ctx)
	if err != nil || raw == nil {
		return nil, err
	}
	var j Journal
	if err := json.Unmarshal(raw, &j); err != nil {
		return nil, failure.Wrap(failure.RecordMismatch, err, "%s cannot be read, so it is not used", journalAt(r))
	}
	return &j, nil
}

// ReadJournal returns the journal of this publication, nil when there is none, and
// RecordMismatch when there is one that this publication cannot have written. It
// does not look at the images that the pointers named before.
func ReadJournal(ctx context.Context, r Records, p Publication) (*Journal, error) {
	j, err := readJournal(ctx, r)
	if err != nil || j == nil {
		return nil, err
	}
	return j, compliance.Mismatch(journalAt(r), j.deviations(p))
}

// trustedJournal is ReadJournal, and makes sure that the previous values of
// pointers may be given back. images is EC2 of a region.
func trustedJournal(ctx context.Context, r Records, p Publication, images func(region string) ec2.DescribeImagesAPIClient) (*Journal, error) {
	j, err := ReadJournal(ctx, r, p)
	if err != nil || j == nil {
		return nil, err
	}
	var wrong []string
	for _, ptr := range j.Pointers {
		// SSM refuses an image that is gone by now, and Restore then names the pointer.
		img, err := ownImage(ctx, images(ptr.Region), ptr.Previous, p.Recipe.Name)
		switch {
		case failure.CodeOf(err) == failure.PointerConflict:
			wrong = append(wrong, fmt.Sprintf("the previous value of %s: %v", ptr, err))
		case err != nil:
			return nil, err
		case img != nil && !ami.IsPublished(*img) && ptr.Previous != ptr.ImageID:
			wrong = append(wrong, fmt.Sprintf("the previous value of %s: image %s was never published", ptr, ptr.Previous))
		}
	}
	return j, compliance.Mismatch(journalAt(r), wrong)
}

// deviations are what a journal says that this publication cannot have written.
func (j *Journal) deviations(p Publication) []string {
	wrong := j.Of.Deviations(p.Of)
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if j.State != Moving && j.State != Committed && j.State != Restored {
		say("its state is %q", j.State)
	}
	if j.Recipe != p.Recipe.Name {
		say("it is of recipe %q, not %q", j.Recipe, p.Recipe.Name)
	}
	if j.Started.Before(p.Of.Started) {
		say("it was begun at %s, before the execution", j.Started.UTC().Format(time.RFC3339))
	}
	regions := Regions(p.Recipe)
	if len(j.Images) != len(regions) {
		say("it has images of %d regions, the plan has %d", len(j.Images), len(regions))
	}
	var want []Pointer
	for _, region := range regions {
		if j.Images[region] == "" {
			say("it has no image of %s", region)
		}
		for _, ptr := range PointersIn(p.Recipe, region) {
			ptr.ImageID = j.Images[region]
			want = append(want, ptr)
		}
	}
	SortPointers(want)
	got := slices.Clone(j.Pointers)
	for i := range got {
		got[i].Previous, got[i].Found, got[i].Written = "", "", false
	}
	if !slices.Equal(got, want) {
		say("its pointers are %v, the plan's are %v", withImages(got), withImages(want))
	}
	return wrong
}

// settled says that SSM has had its time to accept what was written.
func (j *Journal) settled(now time.Time) bool { return now.Sub(j.Started) >= settleTime }

// withImages lists pointers with what they name.
func withImages(ps []Pointer) []string {
	out := make([]string, len(ps))
	for i, p := range ps {
		out[i] = p.String() + "=" + p.ImageID
	}
	return out
}

func (j *Journal) encode(r Records) ([]byte, error) {
	raw, err := json.MarshalIndent(j, "", "  ")
	if err != nil {
		return nil, failure.Wrap(failure.Internal, err, "encode %s", journalAt(r))
	}
	return append(raw, '\n'), nil
}

// create writes the journal for the first time. It returns false when another
// attempt has written one.
func (j *Journal) create(ctx context.Context, r Records) (bool, error) {
	j.State = Moving
	raw, err := j.encode(r)
	if err != nil {
		return false, err
	}
	return r.Create(ctx, raw)
}

func (j *Journal) write(ctx context.Context, r Records, state State) error {
	j.State = state
	raw, err := j.encode(r)
	if err != nil {
		return err
	}
	return r.Write(ctx, raw)
}
