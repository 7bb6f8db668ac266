package plan

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Differences lists what differs between a plan and an earlier plan of the same
// recipe: fields of the recipe by their paths, sorted, then other parts of the
// content.
func Differences(earlier, now BuildPlan) []string {
	before, after := values(earlier), values(now)
	all := maps.Clone(before)
	maps.Copy(all, after)
	var out []string
	for _, path := range slices.Sorted(maps.Keys(all)) {
		if !reflect.DeepEqual(before[path], after[path]) {
			out = append(out, path)
		}
	}
	if !slices.Equal(earlier.SharedWaivers, now.SharedWaivers) {
		out = append(out, "shared waivers")
	}
	if earlier.Fingerprint == now.Fingerprint {
		return out
	}
	found := len(out)
	if earlier.Source.ImageID != now.Source.ImageID {
		out = append(out, "the source image")
	}
	// The bundle and the checks contain parameters: a changed parameter changes
	// both.
	if !slices.ContainsFunc(out, func(path string) bool { return strings.HasPrefix(path, "components") }) {
		if earlier.Bundle != now.Bundle {
			out = append(out, "files of the components")
		}
		if !bytes.Equal(earlier.Checks, now.Checks) {
			out = append(out, "the checks")
		}
	}
	if len(out) == found && !contentChanged(out) {
		out = append(out, "the builder's user data, or the check engine")
	}
	return out
}

// contentChanged reports whether one of the fields is on the side Content.
func contentChanged(paths []string) bool {
	return slices.ContainsFunc(Fields(), func(f Field) bool { return f.Side == Content && slices.Contains(paths, f.Path) })
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
