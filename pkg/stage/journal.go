package stage

import (
	"context"
	"errors"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/release"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// object is a record of an execution in the bucket, as release.Records has it.
type object struct {
	store store.Store
	key   string
}

// journalOf is where an execution keeps the journal of its pointers.
func journalOf(s store.Store, e Execution) object { return object{s, journalKey(e)} }

func journalKey(e Execution) string { return executionKey(e, contract.JournalObject) }

func (o object) Address() string { return "s3://" + o.store.Bucket + "/" + o.key }

func (o object) Read(ctx context.Context) ([]byte, error) {
	raw, err := o.store.Read(ctx, o.key)
	if errors.Is(err, store.ErrNone) {
		return nil, nil
	}
	return raw, err
}

func (o object) Create(ctx context.Context, raw []byte) (bool, error) {
	return o.store.Create(ctx, o.key, "application/json", raw)
}

func (o object) Write(ctx context.Context, raw []byte) error {
	_, err := o.store.Put(ctx, o.key, "application/json", raw)
	return err
}

// holds are kept in the bucket, as release.Holds has them.
type holds struct{ store store.Store }

func (h holds) Update(ctx context.Context, recipe string, change func(*release.Hold) (bool, error)) error {
	_, err := store.Update(ctx, h.store, contract.PublishingKey(recipe), change)
	return err
}
