package compliance

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Set holds the controls of a component, and the values of its parameters in the recipe.
type Set struct {
	Component string
	Family    string
	Values    map[string]string
	Specs     []Spec
}

// separator stands between the control's id and the author's key in a resource
// key of the compiled file.
const separator = "|"

// Compile returns one goss file with all controls that apply, and the list of
// those controls, sorted by id. The file is JSON, which goss reads as YAML. It
// never contains "{{", because goss runs every file through text/template first.
func Compile(sets []Set) ([]byte, []Control, error) {
	compiled := Goss{}
	var controls []Control
	checked := false
	owner := map[string]string{}
	types := resourceTypes()
	for _, set := range sets {
		for _, spec := range set.Specs {
			if !spec.AppliesTo(set.Family, set.Values) {
				continue
			}
			if other, dup := owner[spec.ID]; dup {
				return nil, nil, fmt.Errorf("control %s is in component %s and again in %s; give one of them another id", spec.ID, other, set.Component)
			}
			owner[spec.ID] = set.Component
			control := Control{ID: spec.ID, Title: spec.Title, Severity: spec.Severity, Component: set.Component, Fix: spec.Fix, CIS: spec.CIS}
			if control.SwitchedOff = spec.SwitchedOff(set.Family, set.Values); control.SwitchedOff != "" {
				controls = append(controls, control)
				continue
			}
			if problems := spec.Goss.Check(); len(problems) > 0 {
				p := problems[0]
				return nil, nil, fmt.Errorf("control %s of component %s: %s: %s", spec.ID, set.Component, strings.Join(p.Path, "."), p.Message)
			}
			checked = true
			control.Snapshot = spec.Snapshot
			for typ, resources := range spec.Goss {
				if compiled[typ] == nil {
					compiled[typ] = map[string]map[string]any{}
				}
				for key, attributes := range resources {
					out := types[typ].visible(attributes)
					if _, given := out[types[typ].named]; !given {
						out[types[typ].named] = key
					}
					out["title"] = spec.Title
					compiled[typ][spec.ID+separator+key] = out
					control.Resources = append(control.Resources, types[typ].resource(spec.ID, typ, key, out))
				}
			}
			slices.SortFunc(control.Resources, func(a, b Resource) int {
				return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.ID, b.ID))
			})
			controls = append(controls, control)
		}
	}
	if !checked {
		return nil, nil, fmt.Errorf("no control applies; an image that proves nothing is not built")
	}
	slices.SortFunc(controls, func(a, b Control) int { return cmp.Compare(a.ID, b.ID) })
	data, err := json.MarshalIndent(compiled, "", " ")
	if err != nil {
		return nil, nil, fmt.Errorf("compile checks: %w", err)
	}
	return append(escapeTemplates(data), '\n'), controls, nil
}

// visible returns a copy of the attributes in which lists of patterns for a
// command's output are wrapped into a matcher. Goss checks the same, but reports
// the output that it found only in this form. A file's contents stay hidden,
// because they may be a secret.
func (t resourceType) visible(attributes map[string]any) map[string]any {
	out := maps.Clone(attributes)
	for _, name := range []string{"stdout", "stderr"} {
		if patterns, ok := out[name].([]any); ok && t.result == "Command" {
			out[name] = map[string]any{havePatterns: patterns}
		}
	}
	return out
}

const havePatterns = "have-patterns"

// resource returns what goss must report for one resource of a control.
func (t resourceType) resource(control, typ, key string, attributes map[string]any) Resource {
	id := control + separator + key
	if name, ok := attributes[t.named].(string); ok && t.idHasName {
		id += ": " + name
	}
	return Resource{ID: id, Type: typ, Properties: t.reported(attributes)}
}

// escapeTemplates writes "{{" in JSON text so that text/template does not see
// it. Two opening braces in a row can only be inside a string: an object's
// first token is a key.
func escapeTemplates(data []byte) []byte {
	return []byte(strings.ReplaceAll(string(data), "{{", `\u007b\u007b`))
}
