package compliance

import (
	"fmt"
	"strings"
	"time"

	"github.com/ami-factory/ami-factory/pkg/failure"
)

// Binding identifies the execution that wrote a stored record, and its plan and
// content. A record with another binding is not used.
type Binding struct {
	Execution   string    `json:"execution"`   // ARN; Step Functions allows the name again after 90 days
	Started     time.Time `json:"started"`     // of the execution
	PlanSHA256  string    `json:"plan_sha256"` // of the plan that Resolve stored, hex
	Fingerprint string    `json:"fingerprint"` // of the plan
}

// Deviations compares a binding with the required one, and returns one sentence
// for each difference.
func (b Binding) Deviations(want Binding) []string {
	var out []string
	for _, f := range []struct{ name, got, want string }{
		{"execution", b.Execution, want.Execution},
		{"plan", b.PlanSHA256, want.PlanSHA256},
		{"fingerprint", b.Fingerprint, want.Fingerprint},
	} {
		if f.got != f.want || f.want == "" {
			out = append(out, fmt.Sprintf("its %s is %q, not %q", f.name, f.got, f.want))
		}
	}
	if !b.Started.Equal(want.Started) {
		out = append(out, fmt.Sprintf("its execution started at %s, not %s", b.Started.UTC().Format(time.RFC3339Nano), want.Started.UTC().Format(time.RFC3339Nano)))
	}
	return out
}

// Mismatch returns the error for a stored record that this execution did not
// write, or nil if there are no deviations. record is the name of the record and
// its place.
func Mismatch(record string, deviations []string) error {
	if len(deviations) == 0 {
		return nil
	}
	return failure.New(failure.RecordMismatch, "%s does not belong to this execution and is not used: %s", record, strings.Join(deviations, "; "))
}

// Doubts returns the reasons why a report does not prove that an image passed a
// gate with these controls; none means that it does. The verdict alone is not
// enough: every control must have exactly one result that passed, was waived, or
// is below the gate.
func (r Report) Doubts(controls []Control, gate string) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if r.Schema != ReportSchema {
		say("its schema is %q, not %q", r.Schema, ReportSchema)
	}
	if r.Verdict != VerdictPassed {
		say("its verdict is %q, not %q", r.Verdict, VerdictPassed)
	}
	if r.Gate != gate {
		say("its gate is %q, the recipe's is %q", r.Gate, gate)
	}
	if len(controls) == 0 {
		say("the plan has no control, so nothing can be proved")
	}
	severities, rulesFrom := map[string]string{}, ""
	for _, c := range controls {
		severities[c.ID] = c.Severity
		if c.Engine == EngineOpenSCAP {
			rulesFrom = c.RulesFrom
		}
	}
	seen := map[string]int{}
	for _, result := range r.Results {
		seen[result.ControlID]++
		severity, known := severities[result.ControlID]
		if !known && rulesFrom != "" && result.Engine.Name == EngineOpenSCAP && isRule(result.ControlID) {
			// The plan does not list the rules of a profile; OSCAP-01 says that enough ran.
			severity, known = result.Severity, true
			result.From = rulesFrom
		}
		switch {
		case !known:
			say("it has a result of %q, which is not a control of the plan", result.ControlID)
		case result.Severity != severity:
			say("%s has severity %q, in the plan it has %q", result.ControlID, result.Severity, severity)
		case result.ImageID != r.ImageID:
			say("%s was checked in image %q", result.ControlID, result.ImageID)
		case result.Rejecting, !result.good() && result.Waiver == nil && result.rejects(gate):
			say("%s did not pass (%s)", result.ControlID, result.Status)
		}
	}
	for _, c := range controls {
		if seen[c.ID] != 1 {
			say("it has %d results of %s", seen[c.ID], c.ID)
		}
	}
	return out
}

func (r Result) good() bool { return r.Status == StatusPass || r.Status == StatusNotApplicable }
