package release

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
)

// Undo gives back the pointers of a publication that was not finished.
type Undo struct {
	Records Records
	Holds   Holds
	Images  func(region string) ec2.DescribeImagesAPIClient
	// SSM is of an account, or of the factory's own if that is empty.
	SSM func(account, region string) ParameterAPI
}

// Undone is what became of a publication.
type Undone struct {
	Published map[string]string // image ids by region; set when the publication was committed, which is not undone
	Restored  bool              // all pointers have their previous values
	GivenBack []Pointer         // those that were given back now, when all were
	Refused   []Refused
	Named     []string // image ids that a pointer may still name
	Unwritten error    // all was given back, and the journal does not say so
}

// Refused is a pointer that could not be given back.
type Refused struct {
	Pointer Pointer
	Err     error
}

// Run returns what became of the publication; the zero value if it had not begun.
// The error is RecordMismatch if the journal cannot be this publication's.
func (u Undo) Run(ctx context.Context, p Publication) (Undone, error) {
	j, err := trustedJournal(ctx, u.Records, p, u.Images)
	if err != nil {
		return Undone{}, err
	}
	if j == nil || j.State != Moving { // no pointer is this execution's to move any more
		dropHold(ctx, u.Holds, p)
	}
	switch {
	case j == nil:
		return Undone{}, nil
	case j.State == Restored:
		return Undone{Restored: true}, nil
	case j.State == Committed:
		return Undone{Published: j.Images}, nil
	}
	keepHold(ctx, u.Holds, p)
	if errs := Restore(ctx, u.SSM, j.Pointers, j.Recipe, j.settled(p.Now)); len(errs) > 0 {
		var out Undone
		for _, ptr := range j.Pointers {
			if err := errs[ptr]; err != nil {
				out.Refused = append(out.Refused, Refused{ptr, err})
			}
			if ptr.Previous == ptr.ImageID {
				continue // it named the image before as well
			}
			now, err := ReadPointer(ctx, u.SSM(ptr.Account, ptr.Region), ptr.Parameter)
			if err != nil || now == ptr.ImageID {
				out.Named = append(out.Named, ptr.ImageID)
			}
		}
		return out, nil
	}
	out := Undone{Restored: true, GivenBack: j.Pointers, Unwritten: j.write(ctx, u.Records, Restored)}
	dropHold(ctx, u.Holds, p)
	return out, nil
}
