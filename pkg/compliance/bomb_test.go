package compliance

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/failure"
)

// bombs are outputs that a hostile guest could print, of about n bytes each.
func bombs(n int) map[string]string {
	fill := func(before, unit, after string) string { return before + strings.Repeat(unit, n/len(unit)) + after }
	const end = `],"summary":{"test-count":1,"failed-count":0,"skipped-count":0}}`
	return map[string]string{
		"empty results":              fill(`{"results":[`, "{},", "{}"+end),
		"results with an outcome":    fill(`{"results":[`, `{"result":0,"successful":true},`, `{"result":0,"successful":true}`+end),
		"a value of many values":     fill(`{"results":[{"result":0,"successful":true,"matcher-result":{"actual":[`, "{},", `{}]}}`+end),
		"a value of many lists":      fill(`{"results":[{"result":0,"successful":true,"matcher-result":{"expected":[`, "[],", `[]]}}`+end),
		"a member of another name":   fill(`{"other":[`, "{},", `{}],"results":[`+end),
		"a text without end":         fill(`{"results":[{"resource-id":"`, "a", `"}`+end),
		"lists within lists":         fill(`{"results":[`, "[", ""),
		"results that come twice":    fill(`{"results":[],"results":[`, "{},", "{}"+end),
		"many results after another": fill("", `{"results":[]}`, ""),
	}
}

func TestAResultsBombIsRefusedByName(t *testing.T) {
	controls := []Control{{ID: "SYS-02", Severity: "medium", Resources: []Resource{{ID: "x", Type: "kernel-param", Properties: []string{"value"}}}}}
	for _, size := range []int{MaxOutput / 2, MaxOutput * 2} {
		for name, output := range bombs(size) {
			t.Run(fmt.Sprintf("%s, %d MiB", name, size>>20), func(t *testing.T) {
				report, err := Evaluate(Input{Controls: controls, Checks: []byte("{}"), Results: []byte(output), Gate: "medium"})
				if err == nil { // what is left of it is one strange result
					assert.Equal(t, VerdictRejected, report.Verdict)
					return
				}
				assert.Equal(t, failure.ComplianceFailed, failure.CodeOf(err))
				assert.Less(t, len(err.Error()), 8<<10, "the message is short whatever the guest printed")
			})
		}
	}
}

func TestWhatABombAllocatesIsAFewTimesTheCap(t *testing.T) {
	for name, output := range bombs(MaxOutput - 1024) {
		t.Run(name, func(t *testing.T) {
			raw := []byte(output)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := parseGoss(raw, 700)
			runtime.ReadMemStats(&after)
			require.Error(t, err)
			assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(6*MaxOutput))
		})
	}
}

// BenchmarkResultsBomb is the bomb of the size that used to be read: 64 MiB.
func BenchmarkResultsBomb(b *testing.B) {
	controls := []Control{{ID: "SYS-02", Severity: "medium"}}
	for _, size := range []int{MaxOutput - 1024, 64 << 20} {
		raw := []byte(bombs(size)["empty results"])
		b.Run(fmt.Sprintf("%dMiB", (size+1024)>>20), func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				_, _ = Evaluate(Input{Controls: controls, Checks: []byte("{}"), Results: raw, Gate: "medium"})
			}
		})
	}
}
