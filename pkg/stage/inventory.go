package stage

import (
	"context"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/evidence/inventory"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// inventoryKey is where an execution keeps the inventory of its image, as CycloneDX.
func inventoryKey(e Execution) string { return executionKey(e, contract.InventoryObject) }

// inventoryOf fetches the inventory that the verifier uploaded. As for its results, the
// digest that came back over SSM decides.
func (s CheckCompliance) inventoryOf(ctx context.Context, in ComplianceInput, sum string) (listing, error) {
	packed, err := s.uploaded(ctx, "inventory", rawInventoryKey(in.Execution), inventory.MaxPacked, sum)
	if err != nil {
		return listing{}, err
	}
	v, err := inventory.Unpack(packed)
	if err != nil {
		return listing{}, failure.Wrap(failure.ComplianceFailed, err, "the inventory of %s is not used", in.InstanceID)
	}
	v.Simulated = s.Settings.guests().Simulated()
	document, err := v.CycloneDX(inventory.Plain)
	if err != nil {
		return listing{}, failure.Wrap(failure.ComplianceFailed, err, "the inventory of %s is not used", in.InstanceID)
	}
	return listing{Inventory: v, document: document}, nil
}

// keepInventory keeps the bill of materials of this execution's image, and returns its
// digest.
func (s CheckCompliance) keepInventory(ctx context.Context, in ComplianceInput, document []byte) (string, error) {
	stored, err := s.Store.Put(ctx, inventoryKey(in.Execution), "application/vnd.cyclonedx+json", document)
	return stored.SHA256, err
}

// keptInventory reads the inventory that the execution of a name kept, with what was
// pending in the guest at that time. The error is RecordMismatch when it is missing or
// another one.
func keptInventory(ctx context.Context, s store.Store, maker string, r compliance.Report) (listing, error) {
	const what = "the inventory"
	key := inventoryKey(Execution{Name: maker})
	document, err := keptObject(ctx, s, what, key, maxKept)
	if err != nil {
		return listing{}, err
	}
	if got := store.Digest(document); got != r.InventorySHA256 {
		return listing{}, mismatch(what, s, key, []string{"its SHA-256 is " + got + ", the record of results names " + r.InventorySHA256})
	}
	v, err := inventory.Read(document)
	if err != nil {
		return listing{}, failure.Wrap(failure.RecordMismatch, err, "%s s3://%s/%s cannot be read", what, s.Bucket, key)
	}
	v.Pending, err = keptPending(ctx, s, maker, r.Vulnerabilities)
	return listing{Inventory: v, document: document}, err
}

// listing is an inventory with its document as it is kept.
type listing struct {
	inventory.Inventory
	document []byte
}
