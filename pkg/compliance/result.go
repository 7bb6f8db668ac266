package compliance

import "time"

// ReportSchema is the schema's name of a Report, ResultSchema that of a Result.
const (
	ReportSchema = "ami-factory/compliance-report/1"
	ResultSchema = "ami-factory/compliance-result/1"
)

// Statuses of a result. Only pass and not_applicable count as passed.
const (
	StatusPass          = "pass"
	StatusFail          = "fail"           // found something other than expected
	StatusError         = "error"          // the check could not be made
	StatusNotApplicable = "not_applicable" // the engine itself decided so
	StatusNotChecked    = "not_checked"    // the engine has no result, or skipped it
	StatusManual        = "manual"         // a person must check it
)

// Verdicts of the gate.
const (
	VerdictPassed   = "passed"
	VerdictRejected = "rejected"
)

// Report holds all results of the checks of one image.
type Report struct {
	Schema    string    `json:"schema"`
	Of        Binding   `json:"of"`
	RunID     string    `json:"run_id"`
	ImageID   string    `json:"image_id"`
	Guests    Guests    `json:"guests"`
	Gate      string    `json:"gate"` // lowest severity whose failure rejects the image
	Verdict   string    `json:"verdict"`
	Counts    Counts    `json:"counts"`
	Results   []Result  `json:"results"`            // by control id
	Warnings  []string  `json:"warnings,omitempty"` // about waivers
	Evaluated time.Time `json:"evaluated"`
	// Vulnerabilities is the part of the verdict on known vulnerabilities; nil in a
	// report of a factory that did not look for them.
	Vulnerabilities *Vulnerabilities `json:"vulnerabilities,omitempty"`
	// InventorySHA256 is the digest of the image's inventory, inventory.cdx.json.
	InventorySHA256 string `json:"inventory_sha256,omitempty"`
}

// Guests describes the instance in which the checks ran.
type Guests struct {
	Kind        string `json:"kind"` // ec2 | vm | container | simulated
	Description string `json:"description,omitempty"`
}

// Simulated reports whether nothing was really checked, because the guest
// answered from a script.
func (g Guests) Simulated() bool { return g.Kind == "simulated" }

// Counts of controls. Passed + Failed + Waived is the number of controls.
type Counts struct {
	Passed    int `json:"passed"`
	Failed    int `json:"failed"`    // not passed and not waived
	Rejecting int `json:"rejecting"` // those of Failed at the gate's severity or above
	Waived    int `json:"waived"`
}

// Result is the normalised result of one control.
type Result struct {
	Schema        string           `json:"schema"`
	RunID         string           `json:"run_id"`
	RecipeDigest  string           `json:"recipe_digest"`
	ImageID       string           `json:"image_id"`
	InstanceID    string           `json:"instance_id"`
	Simulated     bool             `json:"simulated,omitempty"`
	Engine        Engine           `json:"engine"`
	Content       Content          `json:"content"`
	ControlID     string           `json:"control_id"`
	EngineRuleIDs []string         `json:"engine_rule_ids"`
	Component     string           `json:"component,omitempty"`
	Title         string           `json:"title"`
	Fix           string           `json:"fix,omitempty"` // what to do when the control fails
	Severity      string           `json:"severity"`
	Status        string           `json:"status"`
	Rejecting     bool             `json:"rejecting"`             // the gate rejects because of it
	From          string           `json:"rejectsFrom,omitempty"` // of a rule: its failure rejects only from this severity, if that is above the gate's
	Waiver        *Waiver          `json:"waiver,omitempty"`
	Evidence      Evidence         `json:"evidence"`
	Properties    []PropertyResult `json:"properties"`
	Refs          Refs             `json:"refs"`
	Started       time.Time        `json:"started"`
	Ended         time.Time        `json:"ended"`
}

// Engine is the program that ran the checks.
type Engine struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// Content identifies the engine's input.
type Content struct {
	ID      string `json:"id"`
	Version string `json:"version"`
	SHA256  string `json:"sha256"`
}

// Evidence of a result: of all properties if it passed, otherwise of those that
// did not pass.
type Evidence struct {
	Expected string `json:"expected"`
	Actual   string `json:"actual"`
	URI      string `json:"uri,omitempty"` // of the engine's own output
	SHA256   string `json:"sha256"`        // of the engine's own output
}

// PropertyResult is one comparison that the engine made.
type PropertyResult struct {
	Rule     string `json:"rule"` // resource type, resource and property
	Status   string `json:"status"`
	Expected string `json:"expected"`
	Actual   string `json:"actual"`
}

// Refs are the names of the same control in other catalogues.
type Refs struct {
	CIS       []CISRef `json:"cis"`
	STIG      []string `json:"stig"`
	NIST80053 []string `json:"nist80053"`
	CCE       []string `json:"cce"`
}

// CISRef is a recommendation of a CIS benchmark.
type CISRef struct {
	Benchmark string `json:"benchmark"`
	Version   string `json:"version,omitempty"`
	ID        string `json:"id"`
	Level     string `json:"level"` // L1 | L2
}
