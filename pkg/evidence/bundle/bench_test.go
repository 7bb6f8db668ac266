package bundle_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/evidence/bundle"
)

// BenchmarkSign signs the evidence of an image with 1,000 controls and 900 packages,
// verifies it and packs it. The key is in this process; KMS takes a call of some 10 ms
// for each statement instead.
func BenchmarkSign(b *testing.B) {
	by := newSigner(b)
	var components []any
	for i := range 900 {
		components = append(components, map[string]any{
			"type": "library", "name": fmt.Sprintf("package-%d", i), "version": "1.2.3-4+deb12u1", "bom-ref": fmt.Sprintf("pkg:deb/debian/package-%d@1.2.3-4", i),
			"purl": fmt.Sprintf("pkg:deb/debian/package-%d@1.2.3-4?arch=amd64&distro=debian-12", i),
		})
	}
	inventory, err := json.Marshal(map[string]any{"bomFormat": "CycloneDX", "components": components})
	require.NoError(b, err)
	var passed []string
	for i := range 1000 {
		passed = append(passed, fmt.Sprintf("BIG-%04d", i))
	}
	b.ReportAllocs()
	var size int
	for b.Loop() {
		files := signed(b, by, change{statements: func(all map[string]any) {
			all[contract.InventoryAttestation] = json.RawMessage(inventory)
			results, ok := all[contract.ResultsAttestation].(bundle.TestResult)
			require.True(b, ok)
			results.PassedTests = passed
			all[contract.ResultsAttestation] = results
		}})
		_, err := bundle.Verify(files, &by.PublicKey)
		require.NoError(b, err)
		packed, err := files.Pack()
		require.NoError(b, err)
		size = len(packed)
	}
	b.ReportMetric(float64(size)/1000, "KB-packed")
}
