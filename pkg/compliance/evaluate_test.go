package compliance_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/strictyaml"
	"github.com/ami-factory/ami-factory/test/golden"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func input(controls []compliance.Control, results []byte) compliance.Input {
	return compliance.Input{
		Controls: controls, Checks: []byte("checks"), Results: results, Gate: "medium", Now: now,
		RunID: "run", RecipeDigest: "abc", ImageID: "ami-1", InstanceID: "i-1",
		Engine: compliance.Engine{Name: "goss", Version: "v0.4.10"},
		Guests: compliance.Guests{Kind: "vm", Description: "qemu"},
	}
}

func recorded(t *testing.T) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/goss.json")
	require.NoError(t, err)
	return data
}

// edit decodes the recorded output, lets f change it and encodes it again with
// a summary that fits.
func edit(t *testing.T, f func(results []map[string]any) []map[string]any) []byte {
	t.Helper()
	var out struct {
		Results []map[string]any `json:"results"`
		Summary map[string]any   `json:"summary"`
	}
	require.NoError(t, json.Unmarshal(recorded(t), &out))
	out.Results = f(out.Results)
	failed, skipped := 0, 0
	for _, r := range out.Results {
		if r["result"] == float64(1) {
			failed++
		}
		if r["skipped"] == true {
			skipped++
		}
	}
	out.Summary["test-count"], out.Summary["failed-count"], out.Summary["skipped-count"] = len(out.Results), failed, skipped
	data, err := json.Marshal(out)
	require.NoError(t, err)
	return data
}

func without(t *testing.T, prefix, property string) []byte {
	return edit(t, func(in []map[string]any) []map[string]any {
		var out []map[string]any
		for _, r := range in {
			if !strings.HasPrefix(r["resource-id"].(string), prefix) || property != "" && r["property"] != property {
				out = append(out, r)
			}
		}
		return out
	})
}

func find(t *testing.T, r compliance.Report, id string) compliance.Result {
	t.Helper()
	for _, result := range r.Results {
		if result.ControlID == id {
			return result
		}
	}
	require.Fail(t, "no result of "+id)
	return compliance.Result{}
}

func TestReportOfRecordedResults(t *testing.T) {
	_, controls := compiled(t)
	report, err := compliance.Evaluate(input(controls, recorded(t)))
	require.NoError(t, err)
	assert.Equal(t, compliance.VerdictRejected, report.Verdict)
	assert.Equal(t, compliance.Counts{Passed: 2, Failed: 5, Rejecting: 3}, report.Counts)
	data, err := json.MarshalIndent(report, "", "  ")
	require.NoError(t, err)
	golden.Testdata(t, "report.json", append(data, '\n'))

	var ids []string
	for _, r := range report.Rejections() {
		ids = append(ids, r.ControlID)
	}
	assert.Equal(t, []string{"BBB-03", "BBB-01", "BBB-04"}, ids, "gravest first")
	assert.Contains(t, report.Cause(), "BBB-01 (high) The kernel is something else: expected kernel-param kernel.ostype value = Plan9, found Linux")
	text := find(t, report, "BBB-04").Properties
	assert.Equal(t, "one\ntwo (unmet: [\"/thr.e/\"])", text[len(text)-1].Actual, "what a command printed is shown")
}

func TestGate(t *testing.T) {
	_, controls := compiled(t)
	for gate, rejecting := range map[string]int{"low": 5, "medium": 3, "high": 2, "critical": 1, "unknown": 5} {
		in := input(controls, recorded(t))
		in.Gate = gate
		report, err := compliance.Evaluate(in)
		require.NoError(t, err)
		assert.Equal(t, rejecting, report.Counts.Rejecting, gate)
	}
}

func TestAnImageThatProvesEverythingPasses(t *testing.T) {
	_, controls := compiled(t)
	report, err := compliance.Evaluate(input(controls[:2], without(t, "BBB", "")))
	require.NoError(t, err)
	assert.Equal(t, compliance.VerdictPassed, report.Verdict)
	assert.Empty(t, report.Cause())
	assert.Equal(t, compliance.Counts{Passed: 2}, report.Counts)
}

func TestFailsClosedOnWhatCannotBeTrusted(t *testing.T) {
	_, controls := compiled(t)
	tests := map[string]struct {
		results  string
		controls []compliance.Control
		want     string
	}{
		"nothing":                  {"", controls, "not the expected JSON"},
		"half an output":           {string(recorded(t)[:200]), controls, "not the expected JSON"},
		"an error message":         {"Error: file error: open x", controls, "not the expected JSON"},
		"no results":               {`{"results":null,"summary":{"test-count":0}}`, controls, "goss evaluated nothing"},
		"no summary":               {`{"results":[{"result":0,"successful":true}]}`, controls, "goss evaluated nothing"},
		"a summary of other cases": {strings.Replace(string(recorded(t)), `"failed-count":9`, `"failed-count":0`, 1), controls, "contradicts its results"},
		"a result without outcome": {`{"results":[{"resource-id":"x"}],"summary":{"test-count":1}}`, controls, "without an outcome"},
		"two documents":            {string(recorded(t)) + `{"results":[]}`, controls, "has text after its JSON"},
		"a plan without controls":  {string(recorded(t)), nil, "names no control"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := compliance.Evaluate(input(tt.controls, []byte(tt.results)))
			require.ErrorContains(t, err, tt.want)
			assert.Equal(t, failure.ComplianceFailed, failure.CodeOf(err))
		})
	}
}

func TestAControlFailsWhenTheEngineIsSilent(t *testing.T) {
	_, controls := compiled(t)
	t.Run("about all of it", func(t *testing.T) {
		report, err := compliance.Evaluate(input(controls, without(t, "AAA-02", "")))
		require.NoError(t, err)
		r := find(t, report, "AAA-02")
		assert.Equal(t, compliance.StatusNotChecked, r.Status)
		assert.True(t, r.Rejecting)
	})
	t.Run("about one property", func(t *testing.T) {
		report, err := compliance.Evaluate(input(controls, without(t, "AAA-01|/etc/passwd", "mode")))
		require.NoError(t, err)
		r := find(t, report, "AAA-01")
		assert.Equal(t, compliance.StatusNotChecked, r.Status)
		assert.Contains(t, r.Evidence.Actual, "the engine reported nothing about it")
		assert.Contains(t, r.Evidence.Expected, "file /etc/passwd mode")
	})
	t.Run("because it skipped it", func(t *testing.T) {
		results := edit(t, func(in []map[string]any) []map[string]any {
			for _, r := range in {
				if strings.HasPrefix(r["resource-id"].(string), "AAA-01|kernel") {
					r["result"], r["skipped"] = float64(2), true
				}
			}
			return in
		})
		report, err := compliance.Evaluate(input(controls, results))
		require.NoError(t, err)
		assert.Equal(t, compliance.StatusNotChecked, find(t, report, "AAA-01").Status)
	})
}

func TestAResultOfNoControlRejects(t *testing.T) {
	_, controls := compiled(t)
	report, err := compliance.Evaluate(input(controls[1:], recorded(t)))
	require.NoError(t, err)
	r := find(t, report, "UNKNOWN AAA-01|kernel.ostype: kernel.ostype")
	assert.Equal(t, "critical", r.Severity)
	assert.True(t, r.Rejecting)
}

func TestWaivers(t *testing.T) {
	_, controls := compiled(t)
	waiver := func(control, expires string) compliance.Waiver {
		return compliance.Waiver{ID: "w", Control: control, Reason: "r", Author: "b", Approver: "a", Created: "2026-11-20", Expires: expires}
	}
	tests := map[string]struct {
		waiver  compliance.Waiver
		results []byte
		waived  int
		warning string
	}{
		"one that holds":                     {waiver("BBB-01", "2026-12-08"), recorded(t), 1, ""},
		"one that ends in 14 days":           {waiver("BBB-01", "2026-12-06"), recorded(t), 1, "the waiver of BBB-01 ends on 2026-12-06, with 14 days left; fix what it accepts or have the waiver approved again"},
		"one that ends today":                {waiver("BBB-01", "2026-11-23"), recorded(t), 1, "the waiver of BBB-01 ends on 2026-11-23, with 1 day left; fix what it accepts or have the waiver approved again"},
		"one without a day of creation":      {compliance.Waiver{ID: "w", Control: "BBB-01", Approver: "a", Expires: "2026-12-08"}, recorded(t), 0, "the waiver of BBB-01 does not say when it was created and was not applied"},
		"one that is too long":               {waiver("BBB-01", "2027-11-01"), recorded(t), 0, "the waiver of BBB-01 holds for 346 days, longer than the 90 that are allowed for severity high and was not applied"},
		"one of an error":                    {waiver("BBB-03", "2026-12-20"), recorded(t), 1, ""},
		"one that expired yesterday":         {waiver("BBB-01", "2026-11-22"), recorded(t), 0, "the waiver of BBB-01 expired on 2026-11-22 and was not applied"},
		"one with a broken date":             {waiver("BBB-01", "soon"), recorded(t), 0, "the waiver of BBB-01 has dates that are not of the calendar and was not applied"},
		"one of a control that passes":       {waiver("AAA-01", "2026-12-23"), recorded(t), 0, "the waiver of AAA-01 is not needed: the control passes"},
		"one of no control":                  {waiver("ZZZ-01", "2026-12-23"), recorded(t), 0, "the waiver of ZZZ-01 is for a control that this image does not have"},
		"one of a control that was not run":  {waiver("AAA-02", "2026-12-23"), without(t, "AAA-02", ""), 0, ""},
		"one cannot waive a foreign results": {waiver("BBB-99", "2026-12-23"), recorded(t), 0, "the waiver of BBB-99 is for a control that this image does not have"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			in := input(controls, tt.results)
			in.Waivers.Given = []compliance.Waiver{tt.waiver}
			report, err := compliance.Evaluate(in)
			require.NoError(t, err)
			assert.Equal(t, tt.waived, report.Counts.Waived)
			assert.Equal(t, len(report.Results), report.Counts.Passed+report.Counts.Failed+report.Counts.Waived)
			if tt.warning == "" {
				assert.Empty(t, report.Warnings)
			} else {
				assert.Equal(t, []string{tt.warning}, report.Warnings)
			}
			if tt.waived > 0 {
				r := find(t, report, tt.waiver.Control)
				assert.False(t, r.Rejecting)
				assert.Equal(t, &tt.waiver, r.Waiver)
			}
		})
	}
}

func TestAControlThatItsComponentSwitchesOffIsReportedAsWaivedByIt(t *testing.T) {
	all := specs(t)
	all[0].Waived = []compliance.BuiltIn{
		{Families: []string{"al2023"}, Reason: "not this family, so not this reason"},
		{When: map[string][]strictyaml.Scalar{"variant": {"docker", "eks"}}, Reason: "containers need it, and say so"},
	}
	set := compliance.Set{Component: "sample", Family: "debian-12", Values: map[string]string{"variant": "docker"}, Specs: all}
	checks, controls, err := compliance.Compile([]compliance.Set{set})
	require.NoError(t, err)
	assert.NotContains(t, string(checks), all[0].ID, "what is switched off is not checked")

	in := input(controls, without(t, all[0].ID, ""))
	in.Waivers.Given = []compliance.Waiver{{Control: all[0].ID, Expires: "2026-12-23"}}
	report, err := compliance.Evaluate(in)
	require.NoError(t, err)
	r := find(t, report, all[0].ID)
	assert.Equal(t, compliance.StatusNotChecked, r.Status)
	assert.False(t, r.Rejecting)
	require.NotNil(t, r.Waiver)
	assert.Equal(t, "containers need it, and say so", r.Waiver.Reason)
	assert.Equal(t, "component sample", r.Waiver.Approver)
	assert.True(t, r.Waiver.BuiltIn)
	assert.Equal(t, 1, report.Counts.Waived)
	assert.Equal(t, []string{"the waiver of " + all[0].ID + " is not needed: the component itself waives the control"}, report.Warnings)

	set.Values = map[string]string{"variant": "base"}
	checks, _, err = compliance.Compile([]compliance.Set{set})
	require.NoError(t, err)
	assert.Contains(t, string(checks), all[0].ID, "it is checked where no waiver holds")
}

func TestNothingButSwitchedOffControlsProvesNothing(t *testing.T) {
	off := compliance.Spec{ID: "AAA-01", Title: "t", Severity: "low", Waived: []compliance.BuiltIn{{Reason: "it is never checked anywhere"}}}
	_, _, err := compliance.Compile([]compliance.Set{{Component: "x", Specs: []compliance.Spec{off}}})
	assert.ErrorContains(t, err, "no control applies")
}

func TestSimulatedResultsAreLabelled(t *testing.T) {
	_, controls := compiled(t)
	in := input(controls, recorded(t))
	in.Guests = compliance.Guests{Kind: "simulated"}
	report, err := compliance.Evaluate(in)
	require.NoError(t, err)
	for _, r := range report.Results {
		assert.True(t, r.Simulated)
	}
	assert.Contains(t, report.Cause(), "[SIMULATED]")
}

func FuzzEvaluateNeverPassesOnGarbage(f *testing.F) {
	f.Add([]byte(`{"results":[{"result":0,"successful":true,"resource-id":"AAA-01|k: k","resource-type":"KernelParam","property":"value"}],"summary":{"test-count":1}}`))
	f.Add([]byte(`{}`))
	controls := []compliance.Control{{ID: "AAA-01", Severity: "high", Resources: []compliance.Resource{{ID: "AAA-01|never: n", Type: "file", Properties: []string{"exists"}}}}}
	f.Fuzz(func(t *testing.T, data []byte) {
		if strings.Contains(string(data), "never") {
			return
		}
		report, err := compliance.Evaluate(input(controls, data))
		if err == nil && report.Verdict == compliance.VerdictPassed {
			t.Fatalf("passed on %q", data)
		}
	})
}
