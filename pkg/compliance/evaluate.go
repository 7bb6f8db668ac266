package compliance

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ami-factory/ami-factory/pkg/failure"
)

// Input is the input of Evaluate.
type Input struct {
	Controls     []Control // of the plan
	Checks       []byte    // the compiled goss file that was given to the engine
	Results      []byte    // what goss printed with --format json
	ResultsURI   string    // where Results is stored
	Gate         string    // lowest severity whose failure rejects the image
	Snapshot     *Snapshot // findings on the image's snapshot; required if controls have rules for it
	Waivers      Waivers
	Now          time.Time
	Of           Binding
	RunID        string // the execution
	RecipeDigest string // the plan's fingerprint
	ImageID      string
	InstanceID   string
	Engine       Engine            // default goss
	Engines      Engines           // that check the image beside goss
	Outputs      map[string]Output // of those, by name
	Guests       Guests
}

// Evaluate turns goss's output into one result per control and the gate's
// verdict. It fails closed: output that cannot be read, has no result or
// contradicts itself is a ComplianceFailed error. A control without a result, or
// with one that was skipped or not possible, has failed. A result that belongs
// to no control is a critical failure.
func Evaluate(in Input) (Report, error) {
	if len(in.Controls) == 0 {
		return Report{}, failure.New(failure.ComplianceFailed, "the plan names no control, so nothing can be proved")
	}
	if err := in.checkSnapshot(); err != nil {
		return Report{}, err
	}
	output, err := parseGoss(in.Results, propertiesOf(in.Controls))
	if err != nil {
		return Report{}, err
	}
	e := evaluator{in: in, byResource: map[string][]gossResult{}, sum: digest(in.Results)}
	for _, r := range output.Results {
		e.byResource[r.ResourceType+"\x00"+r.ResourceID] = append(e.byResource[r.ResourceType+"\x00"+r.ResourceID], r)
	}
	report := e.report()
	for _, c := range in.Controls {
		if c.Engine == "" {
			report.Results = append(report.Results, e.control(c))
		}
	}
	report.Results = append(report.Results, e.foreign()...)
	for _, one := range in.Engines.list() {
		results, err := e.judge(one)
		if err != nil {
			return Report{}, err
		}
		report.Results = append(report.Results, results...)
	}
	e.decide(&report)
	return report, nil
}

// report returns a report without results.
func (e *evaluator) report() Report {
	in := e.in
	return Report{
		Schema: ReportSchema, Of: in.Of, RunID: in.RunID, ImageID: in.ImageID, Guests: in.Guests,
		Gate: in.Gate, Verdict: VerdictPassed, Evaluated: in.Now.UTC(),
	}
}

// decide sorts the results, applies the waivers, and sets counts and verdict.
func (e *evaluator) decide(report *Report) {
	slices.SortStableFunc(report.Results, func(a, b Result) int {
		return cmp.Or(cmp.Compare(a.ControlID, b.ControlID), slices.Compare(a.EngineRuleIDs, b.EngineRuleIDs))
	})
	report.Warnings = e.waive(report.Results)
	for i := range report.Results {
		r := &report.Results[i]
		switch {
		case r.good():
			report.Counts.Passed++
		case r.Waiver != nil:
			report.Counts.Waived++
		default:
			report.Counts.Failed++
			if r.Rejecting = r.rejects(e.in.Gate); r.Rejecting {
				report.Counts.Rejecting++
				report.Verdict = VerdictRejected
			}
		}
	}
}

// rejects reports whether a failure of the result rejects the image.
func (r Result) rejects(gate string) bool {
	return AtLeast(r.Severity, gate) && (r.From == "" || AtLeast(r.Severity, r.From))
}

// propertiesOf returns how many results the engine must print for the controls.
func propertiesOf(controls []Control) int {
	n := 0
	for _, c := range controls {
		for _, r := range c.Resources {
			n += len(r.Properties)
		}
	}
	return n
}

// Rejections returns the results that made the gate reject the image, highest
// severity first.
func (r Report) Rejections() []Result {
	var out []Result
	for _, result := range r.Results {
		if result.Rejecting {
			out = append(out, result)
		}
	}
	rank := func(s string) int { return slices.Index(Severities(), s) }
	slices.SortStableFunc(out, func(a, b Result) int { return cmp.Compare(rank(b.Severity), rank(a.Severity)) })
	return out
}

// Cause returns why the image was rejected: a sentence, then a line for each
// control with what was expected and found, ten at most. It is empty if the
// image passed.
func (r Report) Cause() string {
	rejections := r.Rejections()
	var vulnerabilities string
	if r.Vulnerabilities != nil {
		vulnerabilities = r.Vulnerabilities.Cause
	}
	if len(rejections) == 0 {
		return vulnerabilities
	}
	const limit = 10
	var b strings.Builder
	if r.Guests.Simulated() {
		b.WriteString("[SIMULATED] ")
	}
	fmt.Fprintf(&b, "%d of %d controls at or above severity %s failed", len(rejections), len(r.Results), r.Gate)
	for i, result := range rejections {
		if i == limit {
			fmt.Fprintf(&b, "\nand %d more, see the report", len(rejections)-limit)
			break
		}
		fmt.Fprintf(&b, "\n%s (%s) %s: expected %s, found %s", result.ControlID, result.Severity, result.Title,
			oneLine(result.Evidence.Expected), oneLine(result.Evidence.Actual))
	}
	if vulnerabilities != "" {
		b.WriteString("\n" + vulnerabilities)
	}
	return b.String()
}

// oneLine shortens evidence to one line.
func oneLine(s string) string { return shorten(strings.Join(strings.Fields(s), " "), 200) }

type evaluator struct {
	in         Input
	byResource map[string][]gossResult // results left in it belong to no control
	sum        string
}

func (e *evaluator) result(c Control) Result {
	engine := e.in.Engine
	if engine.Name == "" {
		engine.Name = "goss"
	}
	return Result{
		Schema: ResultSchema, RunID: e.in.RunID, RecipeDigest: e.in.RecipeDigest,
		ImageID: e.in.ImageID, InstanceID: e.in.InstanceID, Simulated: e.in.Guests.Simulated(),
		Engine:        engine,
		Content:       Content{ID: "ami-factory", Version: e.in.RecipeDigest, SHA256: digest(e.in.Checks)},
		ControlID:     c.ID,
		EngineRuleIDs: []string{},
		Component:     c.Component, Title: c.Title, Fix: c.Fix, Severity: c.Severity,
		Evidence: Evidence{URI: e.in.ResultsURI, SHA256: e.sum},
		Refs:     Refs{CIS: cisRefs(c.CIS), STIG: []string{}, NIST80053: []string{}, CCE: []string{}},
	}
}

// control collects the engine's results of all resources and properties of the control.
func (e *evaluator) control(c Control) Result {
	out := e.result(c)
	if c.SwitchedOff != "" {
		out.Status = StatusNotChecked
		out.Waiver = &Waiver{
			ID: "built-in " + c.ID, Control: c.ID, Reason: c.SwitchedOff, Approver: "component " + c.Component,
			Scope: e.in.RecipeDigest, BuiltIn: true,
		}
		out.Evidence.Expected, out.Evidence.Actual = "the control is switched off", "not checked"
		return out
	}
	types := resourceTypes()
	for _, res := range c.Resources {
		out.EngineRuleIDs = append(out.EngineRuleIDs, res.Type+":"+res.ID)
		key := types[res.Type].result + "\x00" + res.ID
		got := e.byResource[key]
		delete(e.byResource, key)
		for _, property := range res.Properties {
			rule := res.Type + " " + res.name(c.ID) + " " + property
			matching := slices.DeleteFunc(slices.Clone(got), func(r gossResult) bool { return r.Property != property })
			if len(matching) == 0 {
				out.Properties = append(out.Properties, PropertyResult{
					Rule: rule, Status: StatusNotChecked, Expected: "a result", Actual: "none: the engine reported nothing about it",
				})
				continue
			}
			for _, m := range matching {
				out.Properties = append(out.Properties, m.property(rule))
				out.span(m)
			}
		}
		for _, m := range got {
			if !slices.Contains(res.Properties, m.Property) {
				p := m.property(res.Type + " " + m.ResourceID + " " + m.Property)
				if p.Status == StatusPass {
					p.Status = StatusError
				}
				p.Expected = "no such property in the checks"
				out.Properties = append(out.Properties, p)
				out.span(m)
			}
		}
	}
	out.Properties = append(out.Properties, e.in.Snapshot.properties(c)...)
	out.conclude()
	return out
}

// foreign returns results that belong to no control. The compiled checks cannot
// produce them, so the engine's output cannot be trusted.
func (e *evaluator) foreign() []Result {
	var out []Result
	for key, results := range e.byResource {
		typ, id, _ := strings.Cut(key, "\x00")
		r := e.result(Control{ID: "UNKNOWN " + id, Title: "A result that belongs to no control of the plan", Severity: "critical"})
		r.EngineRuleIDs = []string{typ + ":" + id}
		for _, m := range results {
			p := m.property(typ + " " + id + " " + m.Property)
			p.Status = StatusError
			r.Properties = append(r.Properties, p)
			r.span(m)
		}
		r.Status = StatusError
		r.Evidence.Expected = "only results of the plan's controls"
		r.Evidence.Actual = typ + " " + id
		out = append(out, r)
	}
	return out
}

func (r *Result) span(m gossResult) {
	if r.Started.IsZero() || m.StartTime.Before(r.Started) {
		r.Started = m.StartTime
	}
	if m.EndTime.After(r.Ended) {
		r.Ended = m.EndTime
	}
}

// conclude derives the status from the properties: each property that did not
// pass fails the control. What could not be checked is listed before what
// failed.
func (r *Result) conclude() {
	r.Status = StatusNotChecked
	if len(r.Properties) == 0 {
		r.Evidence.Expected, r.Evidence.Actual = "at least one check", "none"
		return
	}
	has := func(s string) bool {
		return slices.ContainsFunc(r.Properties, func(p PropertyResult) bool { return p.Status == s })
	}
	skipped := 0
	for _, p := range r.Properties {
		if p.Status == StatusNotChecked {
			skipped++
		}
	}
	switch {
	case has(StatusError):
		r.Status = StatusError
	case has(StatusFail):
		r.Status = StatusFail
	case skipped == 0:
		r.Status = StatusPass
	}
	var expected, actual []string
	for _, p := range r.Properties {
		if r.Status != StatusPass && p.Status == StatusPass || skipped < len(r.Properties) && r.Status != StatusNotChecked && p.Status == StatusNotChecked {
			continue
		}
		expected = append(expected, p.Rule+" = "+p.Expected)
		actual = append(actual, p.Actual)
	}
	r.Evidence.Expected, r.Evidence.Actual = strings.Join(expected, "; "), strings.Join(actual, "; ")
}

// waive applies the waivers that hold to failed controls, and returns warnings
// about waivers that have no effect or end soon. A waiver covers a control that
// failed or that the engine could not check, never one without a result. A shared
// waiver is for many images, so it may have no effect on this one.
func (e *evaluator) waive(results []Result) []string {
	var warnings []string
	for _, w := range e.in.Waivers.ofControls() {
		i := slices.IndexFunc(results, func(r Result) bool { return r.ControlID == w.Control })
		shared := w.File != ""
		switch {
		case i < 0 && shared, i >= 0 && results[i].good() && shared:
		case i >= 0 && results[i].Waiver != nil && results[i].Waiver.BuiltIn:
			warnings = append(warnings, fmt.Sprintf("the waiver of %s is not needed: the component itself waives the control", w.Control))
		case i < 0:
			warnings = append(warnings, fmt.Sprintf("the waiver of %s is for a control that this image does not have", w.Control))
		case results[i].good() && !w.terms().Ended(e.in.Now):
			warnings = append(warnings, fmt.Sprintf("the waiver of %s is not needed: the control passes", w.Control))
		default:
			of := Subject{Control: w.Control, Severity: results[i].Severity}
			holding, notes := Waivers{Given: []Waiver{w}, Days: e.in.Waivers.Days}.For(of, e.in.Now)
			warnings = append(warnings, notes...)
			if r := &results[i]; holding != nil && r.Waiver == nil && (r.Status == StatusFail || r.Status == StatusError || r.Status == StatusManual) {
				r.Waiver = holding
			}
		}
	}
	slices.Sort(warnings)
	return slices.Compact(warnings)
}

// cisRefs parses references such as "deb12 3.3.2" or "deb12 1.1.1.8/L2".
func cisRefs(refs []string) []CISRef {
	out := make([]CISRef, 0, len(refs))
	for _, ref := range refs {
		benchmark, id, _ := strings.Cut(strings.TrimSpace(ref), " ")
		id, level, ok := strings.Cut(id, "/")
		if !ok {
			level = "L1"
		}
		out = append(out, CISRef{Benchmark: benchmark, ID: id, Level: level})
	}
	return out
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
