// Package compliance holds the controls an image must prove, runs no network
// call, and turns what a check engine said into normalised results and a
// verdict of the gate.
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
	CIS       []string `json:"cis,omitempty"`
	// Resources are what the engine must report on for this control; one that
	// it is silent about fails the control.
	Resources []Resource `json:"resources"`
	// Snapshot are rules for the image's files as they are before its first boot.
	// They are judged from outside of the image.
	Snapshot []snapshot.Rule `json:"snapshot,omitempty"`
	// SwitchedOff is the component's own reason to leave the control out of this
	// image; it is then reported as waived, without a check.
	SwitchedOff string `json:"switchedOff,omitempty"`
}

// Resource is one thing that the engine looks at for a control.
type Resource struct {
	ID         string   `json:"id"`         // as the engine reports it: "SYS-02|net.ipv4.ip_forward: net.ipv4.ip_forward"
	Type       string   `json:"type"`       // as checks.yaml names it: kernel-param
	Properties []string `json:"properties"` // as the engine reports them, sorted
}

// name is the thing's name for readers, without the control's id and without
// the repetition that the engine makes of it.
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
	CIS      []string                       `yaml:"cis" jsonschema:"minLength=1"`
	When     map[string][]strictyaml.Scalar `yaml:"when"`                              // only if each of these parameters of the component has one of the values
	Families []string                       `yaml:"families" jsonschema:"minLength=1"` // only in these families
	Waived   []BuiltIn                      `yaml:"waived"`
	Ports    string                         `yaml:"ports" jsonschema:"minLength=1"`   // parameter of the component that lists the only ports that may be listened on
	Snapshot []snapshot.Rule                `yaml:"snapshot" jsonschema:"minItems=1"` // what has to be true of the image's files before the first boot
	Goss     Goss                           `yaml:"goss"`                             // may be missing only where a waiver without conditions stands in
}

// BuiltIn is a waiver that the component itself gives: where its conditions
// hold it leaves the control out, and says so in every report.
type BuiltIn struct {
	When     map[string][]strictyaml.Scalar `yaml:"when"`
	Families []string                       `yaml:"families" jsonschema:"minLength=1"`
	Reason   string                         `yaml:"reason" jsonschema:"required,minLength=20"`
}

// Goss is the part of a goss file that proves a control: resources by type and
// key, each with its attributes.
type Goss map[string]map[string]map[string]any

// Forbids says whether a control proves that a package is not installed, or that
// a service is not enabled. The unit x.service is also called x.
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

// AppliesTo says whether the control is one of an image of this family, for a
// component with these values of its parameters.
func (s Spec) AppliesTo(family string, values map[string]string) bool {
	return holds(s.When, s.Families, family, values)
}

// SwitchedOff is the reason of the built-in waiver that holds; empty without
// one.
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

// AtLeast says whether severity a is as grave as b or graver. An unknown
// severity is graver than any, so that a slip cannot open the gate.
func AtLeast(a, b string) bool {
	rank := func(s string) int {
		if i := slices.Index(Severities(), s); i >= 0 {
			return i
		}
		return len(Severities())
	}
	return rank(a) >= rank(b) || rank(b) == len(Severities())
}
