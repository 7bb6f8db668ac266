package evidence

import (
	"cmp"
	"slices"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/compliance"
)

// Statuses of a Vulnerability.
const (
	VulnerabilityOpen        = "open"
	VulnerabilityRejecting   = "rejecting"    // the gate rejects because of it
	VulnerabilityWaived      = "waived"       // accepted by a waiver
	VulnerabilityNotAffected = "not_affected" // a false positive, with its justification as the waiver's reason
)

// Vulnerabilities are those of the packages of the image.
type Vulnerabilities struct {
	Verdict  string          `json:"verdict"`       // compliance.VerdictPassed or VerdictRejected
	Why      string          `json:"why,omitempty"` // the verdict is what it is, such as a feed that is too old
	Gate     string          `json:"gate,omitempty"`
	Warnings []string        `json:"warnings,omitempty"`
	Packages int             `json:"packages"` // in the inventory
	Feeds    []Feed          `json:"feeds"`
	Findings []Vulnerability `json:"findings"`
}

// Feed is the data that packages were matched against.
type Feed struct {
	Name   string `json:"name"`
	AsOf   string `json:"asOf,omitempty"` // RFC 3339
	SHA256 string `json:"sha256,omitempty"`
}

// Vulnerability is one known vulnerability of one package.
type Vulnerability struct {
	ID        string             `json:"id"` // CVE-2026-12345
	Package   string             `json:"package"`
	Installed string             `json:"installed"`
	Fixed     string             `json:"fixed,omitempty"` // first fixed version; empty: no fix is known
	Severity  string             `json:"severity"`
	Status    string             `json:"status"`
	Exploited bool               `json:"exploited,omitempty"` // CISA lists it as exploited
	Waiver    *compliance.Waiver `json:"waiver,omitempty"`
}

// A Finding is a control that did not pass, or a vulnerability, as other tools take
// them: code scanning, test reports, Security Hub.
type Finding struct {
	Rule      string // stable: the control's id or the vulnerability's
	ID        string // stable within the recipe: the rule, and the package of a vulnerability
	Title     string
	Severity  string
	Status    string // of the result or of the vulnerability
	Component string
	Rejecting bool
	Expected  string
	Actual    string
	Fix       string
	CIS       string
	Waiver    *compliance.Waiver
	Of        *Vulnerability // nil: it is a control
}

// ComponentVulnerabilities stands for the component of findings in packages.
const ComponentVulnerabilities = "vulnerabilities"

// Findings are the failed and the waived controls and the vulnerabilities, those that
// reject the image first, then open ones, then waived ones, each with the highest severity first.
// A false positive is none.
func (r Report) Findings() []Finding {
	var out []Finding
	if r.Compliance != nil {
		for _, x := range r.Compliance.Results {
			if !good(x) {
				out = append(out, ofControl(x))
			}
		}
	}
	if r.Vulnerabilities != nil {
		for _, v := range r.Vulnerabilities.Findings {
			if v.Status != VulnerabilityNotAffected {
				out = append(out, ofVulnerability(v))
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Finding) int {
		return cmp.Or(
			cmp.Compare(boolRank(a.Rejecting), boolRank(b.Rejecting)),
			cmp.Compare(boolRank(a.Waiver == nil), boolRank(b.Waiver == nil)),
			cmp.Compare(severityRank(b.Severity), severityRank(a.Severity)),
			strings.Compare(a.ID, b.ID),
		)
	})
	return out
}

func ofControl(x compliance.Result) Finding {
	return Finding{
		Rule: x.ControlID, ID: x.ControlID, Title: x.Title, Severity: x.Severity, Status: x.Status, Component: x.Component, Rejecting: x.Rejecting,
		Expected: x.Evidence.Expected, Actual: x.Evidence.Actual, Fix: x.Fix, CIS: cis(x), Waiver: x.Waiver,
	}
}

func ofVulnerability(v Vulnerability) Finding {
	f := Finding{
		Rule: v.ID, ID: v.ID + "/" + v.Package, Title: v.ID + " in " + v.Package, Severity: v.Severity, Status: v.Status,
		Component: ComponentVulnerabilities, Rejecting: v.Status == VulnerabilityRejecting,
		Actual: v.Package + " " + v.Installed + " is installed", Waiver: v.Waiver, Of: &v,
	}
	if v.Fixed != "" {
		f.Expected = v.Package + " " + v.Fixed + " or later"
		f.Fix = "Build the image again with " + v.Package + " " + v.Fixed + " or later."
	} else {
		f.Expected = "no version of " + v.Package + " with this vulnerability; no fixed version is known"
	}
	return f
}

// severityRank is higher for graver findings. An unknown severity is the lowest: it
// orders lists and decides nothing.
func severityRank(s string) int { return slices.Index(compliance.Severities(), s) }

// Found says in one sentence what was expected and what was found.
func (f Finding) Found() string {
	switch {
	case f.Expected == "" && f.Actual == "":
		return strings.ReplaceAll(f.Status, "_", " ")
	case f.Expected == "":
		return "Found: " + f.Actual
	}
	return "Expected: " + f.Expected + ". Found: " + f.Actual
}

// WaivedBy says in one sentence why a finding is waived, by whom and until when.
func WaivedBy(w compliance.Waiver) string {
	if w.BuiltIn {
		return w.Reason + " (built into " + w.Approver + ")"
	}
	approvers := w.Approver
	if w.SecondApprover != "" {
		approvers += " and " + w.SecondApprover
	}
	return w.Reason + " (approved by " + approvers + ", until " + w.Expires + ")"
}

// waived is what a waiver is of.
func waived(w compliance.Waiver) string {
	if w.Vulnerability != "" {
		return w.Vulnerability + " in " + w.Package
	}
	return w.Control
}

// RecipeFile is the path of the recipe's file in the source repository.
func (r Report) RecipeFile() string { return "userdata/recipes/" + r.Recipe + ".yaml" }
