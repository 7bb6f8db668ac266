// Package sarif writes the findings of an execution as SARIF 2.1.0, for code scanning
// (https://docs.github.com/en/code-security/code-scanning/integrating-with-code-scanning/sarif-support-for-code-scanning).
// It is a package of its own because the library brings a validator of JSON schemas
// that no function needs.
package sarif

import (
	"errors"
	"fmt"
	"io"
	"strings"

	sarif "github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/evidence"
)

// MaxResults is how many results code scanning takes of one run.
const MaxResults = 25_000

// ErrNotChecked says that the execution has no results. A file without results would
// close all findings that an earlier one opened.
var ErrNotChecked = errors.New("the execution ended before any control was checked")

// Write writes the report's findings, indented. A waived finding is suppressed. Beyond
// MaxResults the least grave are left out, and the run says how many.
func Write(w io.Writer, r evidence.Report) error {
	out, err := document(r)
	if err != nil {
		return err
	}
	if err := out.PrettyWrite(w); err != nil {
		return fmt.Errorf("write the SARIF report: %w", err)
	}
	return nil
}

// document is the report in the library's types.
func document(r evidence.Report) (*sarif.Report, error) {
	if r.Compliance == nil {
		return nil, ErrNotChecked
	}
	found := r.Findings()
	left := max(len(found)-MaxResults, 0)
	found = found[:len(found)-left]
	run := sarif.NewRunWithInformationURI("ami-factory", "https://github.com/ami-factory/ami-factory")
	run.Tool.Driver.Version = &r.FactoryVersion
	if r.FactoryVersion == "" {
		run.Tool.Driver.Version = nil
	}
	// Runs of one recipe replace one another, and those of different recipes do not.
	run.AutomationDetails = sarif.NewRunAutomationDetails().WithID("ami-factory/" + r.Recipe + "/" + r.Execution.Name)
	indexes := map[string]int{}
	for _, f := range found {
		index, known := indexes[f.Rule]
		if !known {
			index = len(run.Tool.Driver.Rules)
			indexes[f.Rule] = index
			run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, rule(f, r.Simulated))
		}
		run.AddResult(result(r, f, index))
	}
	run.AddInvocation(invocation(r, left))
	report := sarif.NewReport().AddRun(run)
	report.Schema = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
	return report, nil
}

func rule(f evidence.Finding, simulated bool) *sarif.ReportingDescriptor {
	title, tags := f.Title, []string{"security"}
	if f.Of != nil {
		title, tags = f.Rule, append(tags, "vulnerability")
	}
	if f.CIS != "" {
		tags = append(tags, "maps to CIS "+f.CIS)
	}
	if simulated {
		tags = append(tags, "simulated")
	}
	out := sarif.NewRule(f.Rule).WithName(f.Rule).WithDescription(title).WithDefaultConfiguration(sarif.NewReportingConfiguration().WithLevel(level(f.Severity)))
	if f.Fix != "" && f.Of == nil {
		out.WithHelp(sarif.NewMultiformatMessageString().WithText(f.Fix))
	}
	properties := sarif.NewPropertyBag().WithTags(tags)
	properties.Add("security-severity", score(f.Severity))
	return out.WithProperties(properties)
}

func result(r evidence.Report, f evidence.Finding, index int) *sarif.Result {
	text := f.Title + ". " + f.Found() + "."
	if r.Simulated {
		text = "SIMULATED, nothing was checked: " + text
	}
	out := sarif.NewRuleResult(f.Rule).WithLevel(level(f.Severity)).WithMessage(sarif.NewTextMessage(text)).
		AddLocation(sarif.NewLocationWithPhysicalLocation(sarif.NewPhysicalLocation().
			WithArtifactLocation(sarif.NewSimpleArtifactLocation(r.RecipeFile())).WithRegion(sarif.NewSimpleRegion(1, 1)))).
		WithPartialFingerprints(map[string]string{"amiFactory/v1": r.Recipe + "/" + f.ID})
	out.RuleIndex = index
	if w := f.Waiver; w != nil {
		out.AddSuppression(sarif.NewSuppression().WithKind("external").WithStatus("accepted").WithJustification(evidence.WaivedBy(*w)))
	}
	return out
}

func invocation(r evidence.Report, left int) *sarif.Invocation {
	out := sarif.NewInvocation().WithExecutionSuccessful(r.Compliance.Verdict == compliance.VerdictPassed || r.Compliance.Verdict == compliance.VerdictRejected)
	if !r.Execution.Started.IsZero() {
		out.WithStartTimeUtc(r.Execution.Started.UTC().Format("2006-01-02T15:04:05Z"))
	}
	if !r.Execution.Ended.IsZero() {
		out.WithEndTimeUtc(r.Execution.Ended.UTC().Format("2006-01-02T15:04:05Z"))
	}
	note := func(level, text string) {
		out.AddToolExecutionNotification(sarif.NewNotification().WithLevel(level).WithMessage(sarif.NewTextMessage(text)))
	}
	if left > 0 {
		note("warning", fmt.Sprintf("%d findings are left out, the least grave: code scanning takes %d of one run. The JSON report has all.", left, MaxResults))
	}
	if r.Simulated {
		note("warning", "SIMULATED: no guest was run and nothing was checked.")
	}
	return out
}

// level is SARIF's for a severity of the factory.
func level(severity string) string {
	switch severity {
	case "low":
		return "note"
	case "medium":
		return "warning"
	}
	return "error"
}

// score is the figure by which code scanning tells severities apart: over 9.0 is
// critical, from 7.0 high, from 4.0 medium.
func score(severity string) string {
	switch strings.ToLower(severity) {
	case "low":
		return "2.0"
	case "medium":
		return "5.5"
	case "high":
		return "8.0"
	}
	return "9.5"
}
