package stage

import (
	"context"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/evidence/inventory"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// inventoryKey is where an execution keeps the inventory of its image, as CycloneDX.
func inventoryKey(e Execution) string { return executionKey(e, contract.InventoryObject) }

// inventoryOf fetches the inventory that the verifier uploaded. As for its results, the
// digest that came back over SSM decides.
func (s CheckCompliance) inventoryOf(ctx context.Context, in ComplianceInput, sum string) (inventory.Inventory, error) {
	packed, err := s.uploaded(ctx, "inventory", rawInventoryKey(in.Execution), inventory.MaxPacked, sum)
	if err != nil {
		return inventory.Inventory{}, err
	}
	v, err := inventory.Unpack(packed)
	if err != nil {
		return inventory.Inventory{}, failure.Wrap(failure.ComplianceFailed, err, "the inventory of %s is not used", in.InstanceID)
	}
	v.Simulated = s.Settings.guests().Simulated()
	return v, nil
}

// keepInventory keeps the bill of materials of this execution's image, and returns its
// digest.
func (s CheckCompliance) keepInventory(ctx context.Context, in ComplianceInput, document []byte) (string, error) {
	stored, err := s.Store.Put(ctx, inventoryKey(in.Execution), "application/vnd.cyclonedx+json", document)
	return stored.SHA256, err
}

// keptInventory reads the bill of materials that the execution of a name kept, of a
// digest. The error is RecordMismatch when it is missing or another one.
func keptInventory(ctx context.Context, s store.Store, maker, sum string) ([]byte, error) {
	const what = "the inventory"
	key := inventoryKey(Execution{Name: maker})
	document, err := keptObject(ctx, s, what, key, maxKept)
	if err != nil {
		return nil, err
	}
	if got := store.Digest(document); got != sum {
		return nil, mismatch(what, s, key, []string{"its SHA-256 is " + got + ", the record of results names " + sum})
	}
	return document, nil
}
