package plan

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/userdata"
)

// Side says what a field of a recipe decides.
type Side string

const (
	// Content decides the bytes of the image. A change needs a bake.
	Content Side = "content"
	// Release decides what is done with the image. A change releases the image that
	// exists.
	Release Side = "release"
)

// Field is a field of the recipe that holds no other fields.
type Field struct {
	Path string // such as distribution.regions.name; of a list, the elements' field
	Side Side
}

// Fields lists all fields of a recipe, in the order of its struct. A field that is
// in the recipe and not here is an error of every plan, so that a new field cannot
// be forgotten.
func Fields() []Field {
	return []Field{
		{"name", Content},
		{"description", Release},
		{"family", Content},
		{"architecture", Content},
		{"rehearsalOnly", Release},
		{"source.parameter", Content},
		{"source.owner", Content},
		{"source.filters.name", Content},
		{"source.filters.values", Content},
		{"builder.instanceTypes", Content},
		{"builder.subnetIds", Content},
		{"builder.rootVolume.sizeGiB", Content},
		{"builder.rootVolume.kmsKey", Content},
		{"builder.cloudConfig", Content},
		{"builder.timeout", Content},
		{"components.name", Content},
		{"components.parameters", Content},
		{"checks.timeout", Content},
		{"checks.waivers.control", Release},
		{"checks.waivers.reason", Release},
		{"checks.waivers.approver", Release},
		{"checks.waivers.expires", Release},
		{"gate.severity", Release},
		{"distribution.regions.name", Release},
		{"distribution.regions.kmsKey", Release},
		{"distribution.accounts", Release},
		{"distribution.organizations", Release},
		{"pointers.parameters", Release},
		{"pointers.accounts", Release},
		{"retention.keep", Release},
		{"retention.deprecateAfter", Release},
		{"retention.removeAfter", Release},
	}
}

// The forms of what is digested. A new form rebuilds, or releases, every image: it
// is due when a stage builds another image of the same plan.
const (
	contentSchema = "ami-factory/fingerprint/2"
	releaseSchema = "ami-factory/release/1"
)

// content is what a fingerprint is the digest of: everything that decides the
// bytes of the image and can be known before the bake. Nothing that differs
// between two executions over the same input may be in it, and not the factory's
// version: only a change of these files is a reason to bake.
type content struct {
	Schema      string            `json:"schema"`
	SourceImage string            `json:"sourceImage"`
	Recipe      any               `json:"recipe"`      // its fields of the side Content
	Files       map[string]string `json:"files"`       // SHA-256 by path, see assembly.digests
	UserData    string            `json:"userData"`    // SHA-256 of what the builder is told
	CheckEngine string            `json:"checkEngine"` // SHA-256
}

// released is what a release id is the digest of.
type released struct {
	Schema  string `json:"schema"`
	Content string `json:"content"` // fingerprint
	Recipe  any    `json:"recipe"`  // its fields of the side Release
}

// fingerprint is the SHA-256 of the content of an image, in hex.
func fingerprint(in Input, of *recipe.Recipe, a assembly) (string, error) {
	r := of.WithoutPositions()
	// What goes into the image are the values of all parameters, in the order of
	// installation: neither the order of the recipe's list nor a value that is the
	// default makes a difference.
	r.Components = nil
	for _, s := range a.selected {
		r.Components = append(r.Components, recipeComponent(Component{Name: s.Name, Parameters: s.Values}))
	}
	fields, err := side(r, Content)
	if err != nil {
		return "", err
	}
	told, err := userdata.Render(a.neutral(of))
	if err != nil {
		return "", err
	}
	return digestJSON(content{
		Schema: contentSchema, SourceImage: in.Source.ImageID, Recipe: fields, Files: a.digests(),
		UserData: digest([]byte(told)), CheckEngine: in.CheckEngine,
	})
}

// recipeComponent is a component as a recipe lists it.
func recipeComponent(c Component) recipe.Component {
	return recipe.Component{Name: c.Name, Parameters: c.Parameters}
}

// releaseID is the SHA-256 of what is released and how, in hex.
func releaseID(r *recipe.Recipe, fingerprint string) (string, error) {
	fields, err := side(inOrder(r.WithoutPositions()), Release)
	if err != nil {
		return "", err
	}
	return digestJSON(released{Schema: releaseSchema, Content: fingerprint, Recipe: fields})
}

// inOrder sorts the lists whose order means nothing.
func inOrder(r recipe.Recipe) recipe.Recipe {
	sorted := func(list []string) []string { return slices.Sorted(slices.Values(list)) }
	r.Distribution.Accounts, r.Distribution.Organizations = sorted(r.Distribution.Accounts), sorted(r.Distribution.Organizations)
	r.Pointers.Parameters, r.Pointers.Accounts = sorted(r.Pointers.Parameters), sorted(r.Pointers.Accounts)
	r.Distribution.Regions = slices.SortedFunc(slices.Values(r.Distribution.Regions), func(a, b recipe.Region) int { return cmp.Compare(a.Name, b.Name) })
	r.Checks.Waivers = slices.SortedFunc(slices.Values(r.Checks.Waivers), func(a, b recipe.Waiver) int { return cmp.Compare(a.Control, b.Control) })
	return r
}

// digests are those of the files that go into the image or describe what does,
// and of the files with its checks, by path. They are of the files and not of the
// archive, whose bytes may change with the compressor of a new Go release.
func (a assembly) digests() map[string]string {
	out := map[string]string{}
	for _, files := range [][]component.File{a.files, a.definitions} {
		for _, f := range files {
			out[f.Path] = digest(f.Data)
		}
	}
	return out
}

// neutral is what the builder of a recipe is told, without what differs between
// executions or is known only after the fingerprint.
func (a assembly) neutral(r *recipe.Recipe) userdata.Spec {
	spec := a.spec(r, userdata.Release{})
	spec.BundleSHA256, spec.BundleSize = strings.Repeat("0", 64), 0
	return spec
}

// side is the recipe with the fields of one side only, as JSON values. Empty
// fields are left out, so that an optional field that a new factory knows does not
// change the digests of recipes that do not use it.
func side(r recipe.Recipe, of Side) (map[string]any, error) {
	raw, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode recipe %s: %w", r.Name, err)
	}
	var all map[string]any
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, fmt.Errorf("decode recipe %s: %w", r.Name, err)
	}
	sides := map[string]Side{}
	for _, f := range Fields() {
		sides[f.Path] = f.Side
	}
	picked, err := pick(all, "", sides, of)
	if err != nil || picked == nil {
		return map[string]any{}, err
	}
	return picked.(map[string]any), nil
}

// pick returns what a value holds of a side; nil when that is nothing.
func pick(value any, path string, sides map[string]Side, of Side) (any, error) {
	if is, ok := sides[path]; ok {
		if is != of || empty(value) {
			return nil, nil
		}
		return value, nil
	}
	switch v := value.(type) {
	case map[string]any:
		out := map[string]any{}
		for name, inner := range v { // the order does not matter: JSON sorts them
			got, err := pick(inner, strings.TrimPrefix(path+"."+name, "."), sides, of)
			if err != nil {
				return nil, err
			}
			if got != nil {
				out[name] = got
			}
		}
		if len(out) > 0 {
			return out, nil
		}
		return nil, nil
	case []any:
		var out []any
		for _, inner := range v {
			got, err := pick(inner, path, sides, of)
			if err != nil {
				return nil, err
			}
			if got != nil {
				out = append(out, got)
			}
		}
		if len(out) > 0 {
			return out, nil
		}
		return nil, nil
	case nil:
		return nil, nil
	}
	return nil, fmt.Errorf("the field %s of the recipe is neither content nor release: add it to plan.Fields", path)
}

// empty reports whether a JSON value is the zero value of its type.
func empty(value any) bool {
	switch v := value.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case bool:
		return !v
	case float64:
		return v == 0
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}

func digestJSON(value any) (string, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return "", fmt.Errorf("encode what is digested: %w", err)
	}
	return digest(data), nil
}
