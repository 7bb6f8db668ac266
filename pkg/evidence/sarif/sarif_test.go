package sarif_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	library "github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/evidence"
	"github.com/ami-factory/ami-factory/pkg/evidence/sarif"
	"github.com/ami-factory/ami-factory/test/golden"
)

// sample is one of the reports of package evidence, as JSON.
func sample(t testing.TB, name string) evidence.Report {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "testdata", name+".json"))
	require.NoError(t, err)
	var r evidence.Report
	require.NoError(t, json.Unmarshal(raw, &r))
	return r
}

func write(t testing.TB, r evidence.Report) []byte {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, sarif.Write(&b, r))
	return b.Bytes()
}

func TestSARIFSatisfiesItsSchema(t *testing.T) {
	for _, name := range []string{"published", "rejected", "vulnerable", "simulated"} {
		t.Run(name, func(t *testing.T) {
			raw := write(t, sample(t, name))
			golden.Testdata(t, name+".sarif", raw)
			read, err := library.FromBytes(raw)
			require.NoError(t, err)
			require.NoError(t, read.Validate())
			for _, x := range read.Runs[0].Results {
				assert.Equal(t, *x.RuleID, *read.Runs[0].Tool.Driver.Rules[x.RuleIndex].ID)
				assert.Equal(t, "userdata/recipes/debian-12-docker.yaml", *x.Locations[0].PhysicalLocation.ArtifactLocation.URI)
			}
		})
	}
}

func TestFingerprintsStayTheSameAcrossExecutions(t *testing.T) {
	r := sample(t, "vulnerable")
	prints := func(r evidence.Report) (out []string) {
		read, err := library.FromBytes(write(t, r))
		require.NoError(t, err)
		for _, x := range read.Runs[0].Results {
			out = append(out, *x.RuleID+" "+x.PartialFingerprints["amiFactory/v1"])
		}
		return out
	}
	before := prints(r)
	r.Execution.Name, r.Compliance.ImageID = "another", "ami-0123456789abcdef0"
	for i := range r.Compliance.Results {
		r.Compliance.Results[i].Evidence.Actual += " now"
	}
	assert.Equal(t, before, prints(r))
	assert.Contains(t, before, "CVE-2026-11111 debian-12-docker/CVE-2026-11111/openssl")
}

func TestCodeScanningTakesTheGravestResults(t *testing.T) {
	r := sample(t, "rejected")
	r.Compliance.Results = nil
	for i := range sarif.MaxResults + 7 {
		severity := "low"
		if i%2 == 0 {
			severity = "high"
		}
		r.Compliance.Results = append(r.Compliance.Results, compliance.Result{ControlID: fmt.Sprintf("X-%05d", i), Severity: severity, Status: compliance.StatusFail})
	}
	read, err := library.FromBytes(write(t, r))
	require.NoError(t, err)
	results := read.Runs[0].Results
	assert.Len(t, results, sarif.MaxResults)
	assert.Equal(t, "error", results[0].Level)
	assert.Contains(t, *read.Runs[0].Invocations[0].ToolExecutionNotifications[0].Message.Text, "7 findings are left out")
}

func TestAnExecutionThatCheckedNothingClosesNoFindings(t *testing.T) {
	var b bytes.Buffer
	require.ErrorIs(t, sarif.Write(&b, sample(t, "dirty")), sarif.ErrNotChecked)
	assert.Empty(t, b.String())
}

func TestWaivedFindingsAreSuppressed(t *testing.T) {
	read, err := library.FromBytes(write(t, sample(t, "published")))
	require.NoError(t, err)
	suppressed := map[string]string{}
	for _, x := range read.Runs[0].Results {
		for _, s := range x.Suppressions {
			suppressed[*x.RuleID] = *s.Justification
		}
	}
	assert.Equal(t, map[string]string{
		"LOG-03": "the log agent keeps it elsewhere (approved by security@example.com, until 2026-12-24)",
		"FWL-01": "container engines own the host's packet rules (built into component hardening)",
	}, suppressed)
	assert.True(t, strings.Contains(string(write(t, sample(t, "simulated"))), "SIMULATED"))
}
