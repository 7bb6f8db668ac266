// Package compliance holds the controls that an image must prove, and turns the
// output of a check engine into normalised results and a verdict of the gate. It
// makes no network calls.
package compliance

import (
	"slices"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/snapshot"
	"github.com/ami-factory/ami-factory/pkg/strictyaml"
)

// Control is one security control that the image must prove.
type Control struct {
	ID        string   `json:"id"` // such as SYS-02; stable, unlike CIS numbers
	Title     string   `json:"title"`
	Severity  string   `json:"severity"`
	Component string   `json:"component"`
	Fix       string   `json:"fix,omitempty"` // what to do when the control fails
	CIS       []string `json:"cis,omitempty"`
	// Resources lists what the engine must report for this control; a missing
	// resource fails the control.
	Resources []Resource `json:"resources"`
	// Snapshot holds rules for the image's files before its first boot. They are
	// checked from outside the image.
	Snapshot []snapshot.Rule `json:"snapshot,omitempty"`
	// SwitchedOff is the component's reason for not checking the control in this
	// image; the control is then reported as waived.
	SwitchedOff string `json:"switchedOff,omitempty"`
	// Engine checks the control; empty for goss.
	Engine string `json:"engine,omitempty"`
	// RulesFrom is set if the engine has results of rules that the plan does not
	// list: the severity from which one that fails rejects the image.
	RulesFrom string `json:"rulesFrom,omitempty"`
}

// Resource is one thing that the engine checks for a control.
type Resource struct {
	ID         string   `json:"id"`         // as the engine reports it: "SYS-02|net.ipv4.ip_forward: net.ipv4.ip_forward"
	Type       string   `json:"type"`       // as checks.yaml names it: kernel-param
	Properties []string `json:"properties"` // as the engine reports them, sorted
}

// name is the thing's name for readers: without the control's id, and without
// the engine's repetition of the name.
func (r Resource) name(control string) string {
	key := strings.TrimPrefix(r.ID, control+separator)
	if half, name, ok := strings.Cut(key, ": "); ok && half == name {
		return name
	}
	return key
}

// Spec is a control as a component's checks.yaml describes it.
type Spec struct {
	ID       string                         `yaml:"id" jsonschema:"required,pattern=^[A-Z][A-Z0-9]*-[0-9]{2}$" hint:"capitals, a hyphen and two digits, such as SYS-02"`
	Title    string                         `yaml:"title" jsonschema:"required,minLength=1,maxLength=200"`
	Severity string                         `yaml:"severity" jsonschema:"required,enum=low,enum=medium,enum=high,enum=critical"`
	Fix      string                         `yaml:"fix" jsonschema:"minLength=20,maxLength=500"` // what to do when the control fails; reports show it
	CIS      []string                       `yaml:"cis" jsonschema:"minLength=1"`
	When     map[string][]strictyaml.Scalar `yaml:"when"`                              // only if each of these parameters of the component has one of the values
	Families []string                       `yaml:"families" jsonschema:"minLength=1"` // only in these families
	Waived   []BuiltIn                      `yaml:"waived"`
	Ports    string                         `yaml:"ports" jsonschema:"minLength=1"`   // parameter of the component with the ports on which services may listen; no others are allowed
	Snapshot []snapshot.Rule                `yaml:"snapshot" jsonschema:"minItems=1"` // rules for the image's files before the first boot
	Goss     Goss                           `yaml:"goss"`                             // may be missing only if the control has a waiver without conditions
}

// BuiltIn is a component's own waiver: if its conditions hold, the control is
// not checked, and every report says so.
type BuiltIn struct {
	When     map[string][]strictyaml.Scalar `yaml:"when"`
	Families []string                       `yaml:"families" jsonschema:"minLength=1"`
	Reason   string                         `yaml:"reason" jsonschema:"required,minLength=20"`
}

// Goss is the part of a goss file that proves a control: resources by type and
// key, each with its attributes.
type Goss map[string]map[string]map[string]any

// Forbids reports whether a control requires that a package is not installed, or
// that a service is not enabled. The unit x.service is also called x.
func (g Goss) Forbids(kind, name string) bool {
	for key, attributes := range g[kind] {
		if named, ok := attributes["name"].(string); ok {
			key = named
		}
		if key != name && (kind != "service" || strings.TrimSuffix(key, ".service") != strings.TrimSuffix(name, ".service")) {
			continue
		}
		for _, attribute := range []string{"installed", "enabled"} {
			if wanted, ok := attributes[attribute].(bool); ok && !wanted {
				return true
			}
		}
	}
	return false
}

// AppliesTo reports whether an image of this family has the control, if the
// component's parameters have these values.
func (s Spec) AppliesTo(family string, values map[string]string) bool {
	return holds(s.When, s.Families, family, values)
}

// SwitchedOff returns the reason of the built-in waiver that applies, or "".
func (s Spec) SwitchedOff(family string, values map[string]string) string {
	for _, w := range s.Waived {
		if holds(w.When, w.Families, family, values) {
			return w.Reason
		}
	}
	return ""
}

func holds(when map[string][]strictyaml.Scalar, families []string, family string, values map[string]string) bool {
	for parameter, wanted := range when {
		if !slices.Contains(wanted, strictyaml.Scalar(values[parameter])) {
			return false
		}
	}
	return len(families) == 0 || slices.Contains(families, family)
}

// Severities are the severities of controls and gates, lowest first.
func Severities() []string { return []string{"low", "medium", "high", "critical"} }

// AtLeast reports whether severity a is b or higher. An unknown severity counts
// as the highest, so that a typing error cannot open the gate.
func AtLeast(a, b string) bool {
	rank := func(s string) int {
		if i := slices.Index(Severities(), s); i >= 0 {
			return i
		}
		return len(Severities())
	}
	return rank(a) >= rank(b) || rank(b) == len(Severities())
}
