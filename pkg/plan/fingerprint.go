package plan

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/userdata"
	"github.com/ami-factory/ami-factory/pkg/waiver"
)

// Side is what a field of a recipe decides.
type Side string

const (
	// Content decides the bytes of the image. A change needs a bake.
	Content Side = "content"
	// Release decides what is done with the image. A change releases the existing
	// image again.
	Release Side = "release"
)

// Field is a field of the recipe that has no fields itself.
type Field struct {
	Path string // such as distribution.regions.name; for a list, the field of its elements
	Side Side
}

// Fields lists all fields of a recipe, in the order of its struct. If a field of
// the recipe is missing here, every plan fails, so that a new field cannot be
// forgotten.
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
		{"checks.waivers.vulnerability", Release},
		{"checks.waivers.package", Release},
		{"checks.waivers.falsePositive.justification", Release},
		{"checks.waivers.reason", Release},
		{"checks.waivers.author", Release},
		{"checks.waivers.approver", Release},
		{"checks.waivers.secondApprover", Release},
		{"checks.waivers.created", Release},
		{"checks.waivers.expires", Release},
		{"checks.engines.script.files", Content},
		{"checks.engines.script.controls.id", Content},
		{"checks.engines.script.controls.title", Content},
		{"checks.engines.script.controls.severity", Content},
		{"checks.engines.openscap.stream", Content},
		{"checks.engines.openscap.sha256", Content},
		{"checks.engines.openscap.profile", Content},
		{"checks.engines.openscap.minimumRules", Content},
		{"checks.engines.openscap.notApplicable", Content},
		{"checks.engines.openscap.severity", Content},
		{"checks.engines.openscap.program", Content},
		{"checks.engines.openscap.programSHA256", Content},
		{"checks.engines.bottlerocket.report", Content},
		{"checks.engines.bottlerocket.level", Content},
		{"checks.engines.bottlerocket.minimumChecks", Content},
		{"gate.severity", Release},
		{"gate.vulnerabilities.severity", Release},
		{"gate.vulnerabilities.scanner", Release},
		{"gate.vulnerabilities.onlyFixable", Release},
		{"gate.vulnerabilities.graceDays", Release},
		{"gate.vulnerabilities.maximumAge", Release},
		{"gate.vulnerabilities.feeds.kind", Release},
		{"gate.vulnerabilities.feeds.sha256", Release},
		{"gate.vulnerabilities.feeds.published", Release},
		{"approval.mode", Release},
		{"approval.expires", Release},
		{"distribution.regions.name", Release},
		{"distribution.regions.kmsKey", Release},
		{"distribution.copies", Release},
		{"distribution.accounts", Release},
		{"distribution.organizations", Release},
		{"pointers.parameters", Release},
		{"pointers.accounts", Release},
		{"retention.keep", Release},
		{"retention.deprecateAfter", Release},
		{"retention.removeAfter", Release},
	}
}

// Versions of the digested documents. A new version bakes, or releases, every
// image again: change it when a stage makes a different image from the same
// plan.
const (
	contentSchema = "ami-factory/fingerprint/2"
	releaseSchema = "ami-factory/release/1"
)

// content is the document whose digest is the fingerprint: everything that
// decides the bytes of the image and is known before the bake. It must not
// contain anything that differs between two executions with the same input, nor
// the factory's version: only changed files are a reason to bake.
type content struct {
	Schema      string            `json:"schema"`
	SourceImage string            `json:"sourceImage"`
	Recipe      any               `json:"recipe"`      // its fields on the side Content
	Files       map[string]string `json:"files"`       // SHA-256 by path, see assembly.digests
	UserData    string            `json:"userData"`    // SHA-256 of the neutral user data
	CheckEngine string            `json:"checkEngine"` // SHA-256
}

// released is the document whose digest is the release id.
type released struct {
	Schema  string `json:"schema"`
	Content string `json:"content"` // fingerprint
	Recipe  any    `json:"recipe"`  // its fields on the side Release
	// Waivers are the shared ones that hold for the recipe. A renewed one releases
	// the image again, and bakes nothing.
	Waivers []compliance.Waiver `json:"waivers,omitempty"`
}

// fingerprint is the SHA-256 of the content of an image, in hex, with the digests of
// parts of the content.
func fingerprint(in Input, of *recipe.Recipe, a assembly) (string, Inputs, error) {
	r := of.WithoutPositions()
	// The digest covers the values of all parameters, in the order of installation,
	// so the order of the recipe's list and an explicit default make no difference.
	r.Components = nil
	for _, s := range a.selected {
		r.Components = append(r.Components, recipeComponent(Component{Name: s.Name, Parameters: s.Values}))
	}
	fields, err := side(r, Content)
	if err != nil {
		return "", Inputs{}, err
	}
	told, err := userdata.Render(a.neutral(of))
	if err != nil {
		return "", Inputs{}, err
	}
	inputs := Inputs{UserData: digest([]byte(told)), CheckEngine: in.CheckEngine}
	if inputs.Files, err = digestJSON(a.digests()); err != nil {
		return "", Inputs{}, err
	}
	sum, err := digestJSON(content{
		Schema: contentSchema, SourceImage: in.Source.ImageID, Recipe: fields, Files: a.digests(),
		UserData: inputs.UserData, CheckEngine: inputs.CheckEngine,
	})
	return sum, inputs, err
}

// recipeComponent returns a component in the form in which a recipe lists it.
func recipeComponent(c Component) recipe.Component {
	return recipe.Component{Name: c.Name, Parameters: c.Parameters}
}

// releaseID is the SHA-256 of the content and of its release, in hex.
func releaseID(r *recipe.Recipe, fingerprint string, shared []compliance.Waiver) (string, error) {
	fields, err := side(normal(r.WithoutPositions()), Release)
	if err != nil {
		return "", err
	}
	return digestJSON(released{Schema: releaseSchema, Content: fingerprint, Recipe: fields, Waivers: shared})
}

// normal is a recipe without what makes no difference: the order of lists
// whose order has no meaning, and the default of an optional field that recipes of
// earlier releases do not have.
func normal(r recipe.Recipe) recipe.Recipe {
	sorted := func(list []string) []string { return slices.Sorted(slices.Values(list)) }
	r.Distribution.Accounts, r.Distribution.Organizations = sorted(r.Distribution.Accounts), sorted(r.Distribution.Organizations)
	r.Pointers.Parameters, r.Pointers.Accounts = sorted(r.Pointers.Parameters), sorted(r.Pointers.Accounts)
	r.Distribution.Regions = slices.SortedFunc(slices.Values(r.Distribution.Regions), func(a, b recipe.Region) int { return cmp.Compare(a.Name, b.Name) })
	if r.Distribution.Copies == recipe.DefaultCopies {
		r.Distribution.Copies = ""
	}
	if (r.Approval == recipe.Approval{Mode: recipe.DefaultApproval, Expires: recipe.DefaultApprovalTime}) {
		r.Approval = recipe.Approval{}
	}
	r.Checks.Waivers = slices.SortedFunc(slices.Values(r.Checks.Waivers), func(a, b recipe.Waiver) int {
		return strings.Compare(waiver.Waiver(a).Subject(), waiver.Waiver(b).Subject())
	})
	return r
}

// digests returns, by path, the digests of the files that go into the image or
// describe it, and of the files with its checks. It does not use the archive,
// whose bytes can change with the compressor of a new Go release.
func (a assembly) digests() map[string]string {
	out := map[string]string{}
	for _, files := range [][]component.File{a.files, a.definitions} {
		for _, f := range files {
			out[f.Path] = digest(f.Data)
		}
	}
	if a.engines.Script != nil {
		for _, f := range a.engines.Script.Files {
			out[f.Path] = digest(f.Data)
		}
	}
	return out
}

// neutral is the user data of a recipe's builder, without the parts that differ
// between executions or are known only after the fingerprint.
func (a assembly) neutral(r *recipe.Recipe) userdata.Spec {
	return a.spec(r, Bundle{SHA256: strings.Repeat("0", 64)}, userdata.Release{})
}

// side returns the recipe's fields on one side, as JSON values. It leaves out
// empty fields, so that a new optional field does not change the digests of
// recipes that do not use it.
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

// pick returns the part of a value that is on a side, or nil.
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
		for name, inner := range v { // any order: JSON sorts the keys
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
		return "", fmt.Errorf("encode the digested document: %w", err)
	}
	return digest(data), nil
}
