// Package evidence reports what an execution did and proved: as canonical JSON
// for programs and archives, and as one self-contained HTML page for the person
// who is responsible for the image.
package evidence

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/cost"
	"github.com/ami-factory/ami-factory/pkg/plan"
)

// Schema is the schema's name of a Report.
const Schema = "ami-factory/execution-report/1"

// Report describes one execution.
type Report struct {
	Schema          string              `json:"schema"`
	Status          string              `json:"status"`
	Simulated       bool                `json:"simulated"` // no real guest ran: the report proves nothing
	Guests          compliance.Guests   `json:"guests"`
	Execution       Execution           `json:"execution"`
	Failure         *Failure            `json:"failure,omitempty"`
	Recipe          string              `json:"recipe"`
	Description     string              `json:"description,omitempty"`
	Fingerprint     string              `json:"fingerprint,omitempty"`
	FactoryVersion  string              `json:"factoryVersion,omitempty"`
	Source          plan.SourceImage    `json:"source"`
	ImageName       string              `json:"imageName,omitempty"`
	Again           *Again              `json:"again,omitempty"` // the published image that was released again; nil for a bake
	Why             string              `json:"why,omitempty"`   // the reason for the bake or the release
	Changed         []string            `json:"changed"`         // differences from the previous release: fields of the recipe, parts of the content
	Components      []plan.Component    `json:"components"`
	Images          []Image             `json:"images"`        // by region
	Pointers        []string            `json:"pointers"`      // "region:parameter name", or "account:region:parameter name"
	Retention       []Retention         `json:"retention"`     // the recipe's published images, by region
	Accounts        []string            `json:"accounts"`      // that may launch the image
	Organizations   []string            `json:"organizations"` // likewise
	Gate            string              `json:"gate,omitempty"`
	Diff            *Diff               `json:"diff,omitempty"`            // from the image that was published before; nil if it is not known
	Approvals       *Approvals          `json:"approvals,omitempty"`       // nil: the recipe needs none
	Bundle          *Bundle             `json:"bundle,omitempty"`          // the signed evidence; nil: nothing is signed
	Compliance      *compliance.Report  `json:"compliance,omitempty"`      // nil if the checks were not reached
	Vulnerabilities *Vulnerabilities    `json:"vulnerabilities,omitempty"` // nil if packages were not matched
	Waivers         []compliance.Waiver `json:"waivers"`                   // all of the recipe, used or not
	States          []State             `json:"stages"`                    // in the order of execution
	Cost            *cost.Estimate      `json:"cost,omitempty"`            // on AWS; nil if unknown
	Logs            []Log               `json:"logs"`
	Removed         []string            `json:"removed"` // resource ids
	Left            []string            `json:"left"`    // "id: reason"
}

// Again identifies the published image that an execution released again instead
// of baking.
type Again struct {
	ImageID   string `json:"imageId"`   // in the home region
	Execution string `json:"execution"` // name of the execution that baked it; the gate was applied to its check results
}

// Execution of the state machine.
type Execution struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended"`
}

// Failure is the error that ended the execution.
type Failure struct {
	State string `json:"stage"`
	Error string `json:"error"` // a failure.Code
	Cause string `json:"cause"`
}

// Image is an image in one region.
type Image struct {
	Region      string   `json:"region"`
	ImageID     string   `json:"imageId"`
	SnapshotIDs []string `json:"snapshotIds,omitempty"`
}

// Retention is the outcome of retention for one published image, and the reason.
type Retention struct {
	Region  string `json:"region"`
	ImageID string `json:"imageId"`
	Outcome string `json:"outcome"` // kept, deprecated, removed or left
	Why     string `json:"why"`
}

// State is a state of the machine and the time it took, polls and retries included.
type State struct {
	Name     string  `json:"name"`
	After    float64 `json:"after,omitempty"` // seconds after the execution's start
	Seconds  float64 `json:"seconds"`
	Attempts int     `json:"attempts,omitempty"`
}

// Log is a log that is kept as evidence, such as a serial console.
type Log struct {
	Title  string `json:"title"`
	URI    string `json:"uri"`
	SHA256 string `json:"sha256,omitempty"`
}

// ForPlan returns a report with the facts of a plan. For an execution that
// failed before it had a plan, p is nil and the report is empty.
func ForPlan(p *plan.BuildPlan) Report {
	r := Report{Schema: Schema}
	if p == nil {
		return r
	}
	r.Recipe, r.Description = p.Recipe.Name, p.Recipe.Description
	r.Fingerprint, r.FactoryVersion = p.Fingerprint, p.FactoryVersion
	r.Source, r.ImageName = p.Source, p.ImageName
	if image, ok := p.Reused(p.Recipe.Home().Name); ok {
		r.ImageName = "" // the image keeps the name that the bake gave it
		r.Again = &Again{ImageID: image.ImageID, Execution: image.Execution}
	}
	r.Why, r.Changed = p.Why, slices.Clone(p.Changed)
	r.Components = slices.Clone(p.Components)
	r.Accounts = slices.Clone(p.Recipe.Distribution.Accounts)
	r.Organizations = slices.Clone(p.Recipe.Distribution.Organizations)
	r.Gate = p.Recipe.Gate.Severity
	r.Waivers = p.Waivers()
	return r
}

// SetImages sets the published images by region.
func (r *Report) SetImages(byRegion map[string]string) {
	r.Images = nil
	for region, id := range byRegion {
		r.Images = append(r.Images, Image{Region: region, ImageID: id})
	}
}

// canonical returns the report with sorted lists that are never null and times
// in UTC, labelled simulated if any part of it is.
func (r Report) canonical() Report {
	r.Schema = Schema
	r.Execution.Started, r.Execution.Ended = r.Execution.Started.UTC(), r.Execution.Ended.UTC()
	r.Changed = list(r.Changed)
	r.Components, r.States, r.Logs = list(r.Components), list(r.States), list(r.Logs)
	r.Images = sorted(r.Images, func(a, b Image) int { return strings.Compare(a.Region, b.Region) })
	r.Retention = sorted(r.Retention, func(a, b Retention) int {
		return cmp.Or(strings.Compare(a.Region, b.Region), strings.Compare(a.Outcome, b.Outcome), strings.Compare(a.ImageID, b.ImageID))
	})
	r.Waivers = sorted(r.Waivers, func(a, b compliance.Waiver) int { return strings.Compare(a.Subject(), b.Subject()) })
	for _, l := range []*[]string{&r.Pointers, &r.Accounts, &r.Organizations, &r.Removed, &r.Left} {
		*l = sorted(*l, strings.Compare)
	}
	r.Simulated = r.Simulated || r.Guests.Simulated() || r.Compliance != nil && r.Compliance.Guests.Simulated()
	return r
}

func list[T any](in []T) []T {
	if in == nil {
		return []T{}
	}
	return slices.Clone(in)
}

func sorted[T any](in []T, by func(a, b T) int) []T {
	out := list(in)
	slices.SortStableFunc(out, by)
	return out
}

// JSON returns the canonical form: equal reports have equal bytes, so the digest
// identifies the report.
func (r Report) JSON() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r.canonical()); err != nil {
		return nil, fmt.Errorf("write report: %w", err)
	}
	return b.Bytes(), nil
}

// Digest is the SHA-256 of JSON, in hexadecimal.
func (r Report) Digest() (string, error) {
	data, err := r.JSON()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

// Failed returns the results of failed controls: first those that reject the
// image, each group with the highest severity first.
func (r Report) Failed() []compliance.Result {
	return r.results(func(x compliance.Result) bool { return !good(x) && x.Waiver == nil })
}

// Waived returns the results of waived controls, highest severity first.
func (r Report) Waived() []compliance.Result {
	return r.results(func(x compliance.Result) bool { return !good(x) && x.Waiver != nil })
}

// Passed returns the results of passed controls, highest severity first.
func (r Report) Passed() []compliance.Result { return r.results(good) }

func good(x compliance.Result) bool {
	return x.Status == compliance.StatusPass || x.Status == compliance.StatusNotApplicable
}

func (r Report) results(want func(compliance.Result) bool) []compliance.Result {
	if r.Compliance == nil {
		return nil
	}
	var out []compliance.Result
	for _, x := range r.Compliance.Results {
		if want(x) {
			out = append(out, x)
		}
	}
	slices.SortStableFunc(out, func(a, b compliance.Result) int {
		return cmp.Or(
			cmp.Compare(boolRank(a.Rejecting), boolRank(b.Rejecting)),
			cmp.Compare(severityRank(b.Severity), severityRank(a.Severity)),
			cmp.Compare(a.ControlID, b.ControlID),
		)
	})
	return out
}

// boolRank puts true first.
func boolRank(b bool) int {
	if b {
		return 0
	}
	return 1
}
