package plan

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Difference is something that differs between two plans of a recipe.
type Difference struct {
	What          string // path of a field of the recipe, or a part of the content in words
	Before, After string // values of a field, if the plans have it
}

// Differences lists what differs between a plan and an earlier plan of the same
// recipe: fields of the recipe by their paths, sorted, then other parts of the
// content.
func Differences(earlier, now BuildPlan) []string {
	var out []string
	for _, d := range Compare(earlier, now) {
		out = append(out, d.What)
	}
	return out
}

// Compare returns what Differences lists, with the values of fields.
func Compare(earlier, now BuildPlan) []Difference {
	before, after := values(earlier), values(now)
	all := maps.Clone(before)
	maps.Copy(all, after)
	var out []Difference
	for _, path := range slices.Sorted(maps.Keys(all)) {
		if !reflect.DeepEqual(before[path], after[path]) {
			out = append(out, Difference{path, text(before[path]), text(after[path])})
		}
	}
	part := func(differs bool, what string) {
		if differs {
			out = append(out, Difference{What: what})
		}
	}
	part(!slices.Equal(earlier.SharedWaivers, now.SharedWaivers), WaiversChanged)
	if earlier.Fingerprint == now.Fingerprint {
		return out
	}
	found := len(out)
	part(earlier.Source.ImageID != now.Source.ImageID, SourceChanged)
	// The bundle and the checks contain parameters: a changed parameter changes
	// both.
	known := earlier.Inputs != Inputs{} && now.Inputs != Inputs{}
	if !slices.ContainsFunc(out, func(d Difference) bool { return strings.HasPrefix(d.What, "components") }) {
		part(earlier.Bundle != now.Bundle || known && earlier.Inputs.Files != now.Inputs.Files, "files of the components")
		part(!bytes.Equal(earlier.Checks, now.Checks), "the checks")
	}
	if !known { // a plan of an earlier version
		part(len(out) == found && !contentChanged(out), "the builder's user data, or the check engine")
		return out
	}
	// The user data contains the recipe's own and scripts of components.
	if !slices.ContainsFunc(out, func(d Difference) bool {
		return d.What == "builder.cloudConfig" || strings.Contains(d.What, "components")
	}) {
		part(earlier.Inputs.UserData != now.Inputs.UserData, "the builder's user data")
	}
	part(earlier.Inputs.CheckEngine != now.Inputs.CheckEngine, "the check engine")
	return out
}

// Differences of plans with another source image, and with other shared waivers.
const (
	SourceChanged  = "the source image"
	WaiversChanged = "shared waivers"
)

// text is the values of a field for readers: texts as they are, all else as JSON.
func text(values []any) string {
	var out []string
	for _, v := range values {
		if s, ok := v.(string); ok {
			out = append(out, s)
			continue
		}
		raw, err := json.Marshal(v)
		if err != nil {
			panic(err) // it was read from JSON
		}
		out = append(out, string(raw))
	}
	return strings.Join(out, ", ")
}

// contentChanged reports whether one of the fields is on the side Content.
func contentChanged(found []Difference) bool {
	return slices.ContainsFunc(Fields(), func(f Field) bool {
		return f.Side == Content && slices.ContainsFunc(found, func(d Difference) bool { return d.What == f.Path })
	})
}

// values returns the values of a plan's recipe by field path. Each path has a
// list, because a field of a list's elements has one value for each element.
func values(p BuildPlan) map[string][]any {
	r := normal(p.Recipe)
	r.Components = nil
	for _, c := range p.Components { // with the values of all parameters
		r.Components = append(r.Components, recipeComponent(c))
	}
	raw, err := json.Marshal(r)
	if err != nil {
		panic(err) // texts and numbers can always be marshalled
	}
	var all any
	if err := json.Unmarshal(raw, &all); err != nil {
		panic(err) // Marshal wrote it
	}
	sides := map[string]bool{}
	for _, f := range Fields() {
		sides[f.Path] = true
	}
	out := map[string][]any{}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		if sides[path] {
			if !empty(v) {
				out[path] = append(out[path], v)
			}
			return
		}
		switch v := v.(type) {
		case map[string]any:
			for _, name := range slices.Sorted(maps.Keys(v)) {
				walk(strings.TrimPrefix(path+"."+name, "."), v[name])
			}
		case []any:
			for _, inner := range v {
				walk(path, inner)
			}
		}
	}
	walk("", all)
	return out
}
