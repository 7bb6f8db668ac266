package stage

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/ami-factory/ami-factory/pkg/distribution"
	"github.com/ami-factory/ami-factory/pkg/failure"
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
	State    string                 `json:"state"`
	Started  time.Time              `json:"started"`
	Recipe   string                 `json:"recipe"`
	Images   map[string]string      `json:"images"` // what is published, by region
	Pointers []distribution.Pointer `json:"pointers"`
}

func journalKey(e Execution) string { return executionKey(e, "pointers.json") }

// readJournal returns nil when there is none.
func readJournal(ctx context.Context, s Store, e Execution) (*journal, error) {
	raw, err := s.read(ctx, journalKey(e))
	if errors.Is(err, errNoObject) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var j journal
	if err := json.Unmarshal(raw, &j); err != nil {
		return nil, failure.Wrap(failure.Internal, err, "decode the journal s3://%s/%s", s.Bucket, journalKey(e))
	}
	return &j, nil
}

func (j *journal) write(ctx context.Context, s Store, e Execution, state string) error {
	j.State = state
	_, err := s.PutJSON(ctx, journalKey(e), j)
	return err
}
