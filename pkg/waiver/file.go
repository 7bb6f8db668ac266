package waiver

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ami-factory/ami-factory/pkg/problem"
	"github.com/ami-factory/ami-factory/pkg/strictyaml"
)

// Dir is the folder of the shared waivers, below the root of the user data.
const Dir = "waivers"

// File is a file of waivers that several recipes share.
type File struct {
	// Waivers are the waivers of the file.
	Waivers []Entry `yaml:"waivers" json:"waivers" jsonschema:"required,minItems=1"`
}

// Entry is a shared waiver.
type Entry struct {
	// Control is the id of the control that may fail. Give either control, or vulnerability and package.
	Control string `yaml:"control,omitempty" json:"control,omitempty" jsonschema:"oneof_required=control,pattern=^([A-Z][A-Z0-9]*-[0-9]{2}|xccdf_[A-Za-z0-9._-]+_rule_[A-Za-z0-9._-]+)$" hint:"a control's id, such as SYS-02, or the id of a rule of a data stream"`
	// Vulnerability is the id of the vulnerability that is accepted in the package.
	Vulnerability string `yaml:"vulnerability,omitempty" json:"vulnerability,omitempty" jsonschema:"oneof_required=vulnerability,pattern=^(CVE-[0-9]{4}-[0-9]{4\\,19}|GHSA(-[0-9a-z]{4}){3}|PENDING-SECURITY-UPDATE(S-UNKNOWN)?|(DSA|DLA|TEMP|ALAS|ALAS2023|USN)-[0-9A-Za-z-]*[0-9A-Za-z])$" hint:"an id such as CVE-2026-12345, GHSA-…, DSA-…, ALAS2023-…"`
	// Package is the name of the source or binary package that has the vulnerability.
	Package string `yaml:"package,omitempty" json:"package,omitempty" jsonschema:"oneof_required=vulnerability,pattern=^[A-Za-z0-9][A-Za-z0-9+._-]*$,maxLength=200" hint:"the name of one package"`
	// FalsePositive is the statement that the image is not affected by the vulnerability, and why. Without it the vulnerability is accepted.
	FalsePositive FalsePositive `yaml:"falsePositive,omitempty" json:"falsePositive,omitzero"`
	// Reason is why it is accepted, or how it was found that the image is not affected. The report shows it.
	Reason string `yaml:"reason" json:"reason" jsonschema:"required,minLength=10,maxLength=1000"`
	// Author is who asks for the waiver.
	Author string `yaml:"author" json:"author" jsonschema:"required,minLength=1" hint:"a text, such as a mail address"`
	// Approver is who answers for the waiver: somebody other than the author.
	Approver string `yaml:"approver" json:"approver" jsonschema:"required,minLength=1" hint:"a text, such as a mail address; not the author's"`
	// SecondApprover is a second person who answers for it. A vulnerability that is known to be exploited needs one.
	SecondApprover string `yaml:"secondApprover,omitempty" json:"secondApprover,omitempty" jsonschema:"minLength=1" hint:"a text, such as a mail address; neither the author's nor the approver's"`
	// Created is the day on which the waiver was approved, in UTC.
	Created string `yaml:"created" json:"created" jsonschema:"required,pattern=^[0-9]{4}-[0-9]{2}-[0-9]{2}$" hint:"a date, YYYY-MM-DD, today or earlier"`
	// Expires is the last day, in UTC, on which the waiver holds. The baseline limits the time from created by severity.
	Expires string `yaml:"expires" json:"expires" jsonschema:"required,pattern=^[0-9]{4}-[0-9]{2}-[0-9]{2}$" hint:"a date, YYYY-MM-DD, at most one year after created"`
	// Scope is the set of recipes for which the waiver holds.
	Scope Scope `yaml:"scope" json:"scope" jsonschema:"required"`
}

// Scope selects recipes. A recipe must match one of recipes and one of families;
// a list that is not given matches every recipe.
type Scope struct {
	// Recipes are names of recipes. The character * stands for any text; at least three other characters must precede it.
	Recipes []string `yaml:"recipes,omitempty" json:"recipes,omitempty" jsonschema:"anyof_required=recipes,minItems=1" hint:"names of recipes, such as debian-12-docker or debian-12-*"`
	// Families are families of operating systems.
	Families []string `yaml:"families,omitempty" json:"families,omitempty" jsonschema:"anyof_required=families,minItems=1,enum=debian-12,enum=debian-13,enum=ubuntu-22.04,enum=ubuntu-24.04,enum=al2023"`
}

// String describes the scope.
func (s Scope) String() string {
	var parts []string
	if len(s.Recipes) > 0 {
		parts = append(parts, "recipes "+strings.Join(s.Recipes, ", "))
	}
	if len(s.Families) > 0 {
		parts = append(parts, "families "+strings.Join(s.Families, ", "))
	}
	return strings.Join(parts, " of ")
}

// Holds reports whether the scope includes a recipe.
func (s Scope) Holds(recipe, family string) bool {
	if len(s.Recipes) == 0 && len(s.Families) == 0 {
		return false
	}
	return (len(s.Recipes) == 0 || slices.ContainsFunc(s.Recipes, func(p string) bool { return Matches(p, recipe) })) &&
		(len(s.Families) == 0 || slices.Contains(s.Families, family))
}

// Matches reports whether a name matches a pattern, in which * stands for any text.
func Matches(pattern, name string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == name
	}
	rest, ok := strings.CutPrefix(name, parts[0])
	if !ok {
		return false
	}
	last := len(parts) - 1
	for _, part := range parts[1:last] {
		i := strings.Index(rest, part)
		if i < 0 {
			return false
		}
		rest = rest[i+len(part):]
	}
	return strings.HasSuffix(rest, parts[last])
}

// Shared is a waiver of a file.
type Shared struct {
	Waiver
	Scope Scope

	at  string
	doc *strictyaml.Document
}

// File is the path of the waiver's file, below the root of the user data.
func (s Shared) File() string { return s.doc.File() }

// Place is the waiver's position, such as waivers/team.yaml:3:5.
func (s Shared) Place() string {
	p := s.doc.Problem(s.at, "", "")
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Problem is an error about a field of the waiver, with its position.
func (s Shared) Problem(field, allowed, format string, args ...any) problem.Problem {
	return s.doc.Problem(strictyaml.Join(s.at, field), allowed, format, args...)
}

// Valid reports whether a field of the waiver was read without a problem.
func (s Shared) Valid(field string) bool { return s.doc.Valid(strictyaml.Join(s.at, field)) }

//go:embed schema.json
var schema []byte

// Schema is the JSON Schema of a file of waivers, for editors. It is generated
// from the types of this package by its tests (go test ./pkg/waiver -update).
func Schema() []byte { return slices.Clone(schema) }

// Recipe is what a scope selects by.
type Recipe struct{ Name, Family string }

// Set holds the shared waivers of a deployment.
type Set struct {
	entries []judged
	unread  problem.List // of files that cannot be read as a whole; they concern every recipe
}

// judged is a waiver with what is wrong with it.
type judged struct {
	Shared
	problems problem.List
}

// Of returns the waivers that hold for a recipe, and the problems that concern
// it: those of waivers whose scope includes it or is itself wrong, and those of
// files that cannot be read. A waiver with an error does not hold.
func (s Set) Of(recipe, family string) ([]Shared, problem.List) {
	var out []Shared
	problems := slices.Clone(s.unread)
	for _, e := range s.entries {
		included := e.Scope.Holds(recipe, family)
		if included || e.lost() {
			problems = append(problems, e.problems...)
		}
		if included && !e.problems.HasErrors() {
			out = append(out, e.Shared)
		}
	}
	return out, problems.Sort()
}

// lost reports whether it is not known which recipes the waiver is for.
func (j judged) lost() bool {
	return slices.ContainsFunc(j.problems, func(p problem.Problem) bool { return p.Rule == scopeRule })
}

// scopeRule marks problems with a scope.
const scopeRule = "waiver-scope"

// All returns every shared waiver, also those with errors, by file and position.
func (s Set) All() []Shared {
	var out []Shared
	for _, e := range s.entries {
		out = append(out, e.Shared)
	}
	return out
}

// Problems returns all problems of all files.
func (s Set) Problems() problem.List {
	out := slices.Clone(s.unread)
	for _, e := range s.entries {
		out = append(out, e.problems...)
	}
	return out.Sort()
}

// Load reads all shared waivers below the root of the user data, sorted by file
// and position; there may be none. recipes are all recipes of the user data;
// controls returns the ids of all controls that can be checked, and is only
// called if there are waivers.
func Load(fsys fs.FS, recipes []Recipe, controls func() ([]string, error), now time.Time) (Set, error) {
	var out Set
	entries, err := fs.ReadDir(fsys, Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return out, fmt.Errorf("list the shared waivers: %w", err)
	}
	known := sync.OnceValues(controls)
	for _, e := range entries {
		name := path.Join(Dir, e.Name())
		if e.IsDir() || path.Ext(e.Name()) != ".yaml" {
			if ext := path.Ext(e.Name()); e.IsDir() || ext == ".yml" || ext == ".json" {
				// Otherwise it would hold waivers that nobody reads.
				out.unread = append(out.unread, problem.Problem{
					Severity: problem.Error, File: name, Line: 1, Column: 1, Message: name + " is not read", Allowed: "files whose names end in .yaml, directly in " + Dir,
				})
			}
			continue
		}
		data, err := fs.ReadFile(fsys, name)
		if err != nil {
			return out, fmt.Errorf("read the shared waivers: %w", err)
		}
		ids, err := known()
		if err != nil {
			return out, err
		}
		out.read(name, data, recipes, ids, now)
	}
	return out, nil
}

func (s *Set) read(name string, data []byte, recipes []Recipe, controls []string, now time.Time) {
	var f File
	doc, wrong := strictyaml.Decode(name, data, &f)
	s.unread = append(s.unread, wrong...)
	for i, entry := range f.Waivers {
		j := judged{Shared: Shared{Waiver: entry.waiver(), Scope: entry.Scope, doc: doc, at: strictyaml.Index("waivers", i)}}
		j.problems = append(j.check(recipes, controls, now), s.twice(j.Shared, recipes)...)
		s.entries = append(s.entries, j)
	}
}

// twice reports a waiver of something that an earlier one waives for one of the
// same recipes.
func (s *Set) twice(w Shared, recipes []Recipe) problem.List {
	if w.Subject() == "" {
		return nil
	}
	for _, earlier := range s.entries {
		if earlier.Subject() != w.Subject() {
			continue
		}
		for _, r := range recipes {
			if earlier.Scope.Holds(r.Name, r.Family) && w.Scope.Holds(r.Name, r.Family) {
				return problem.List{w.Problem(w.subjectField(), "", "%s is waived twice for recipe %s; the first is %s", w.Subject(), r.Name, earlier.Place())}
			}
		}
	}
	return nil
}

func (e Entry) waiver() Waiver {
	return Waiver{
		Control: e.Control, Vulnerability: e.Vulnerability, Package: e.Package, FalsePositive: e.FalsePositive, Reason: e.Reason,
		Author: e.Author, Approver: e.Approver, SecondApprover: e.SecondApprover, Created: e.Created, Expires: e.Expires,
	}
}

func (s Shared) subjectField() string {
	if s.Control != "" {
		return "control"
	}
	return "vulnerability"
}

func (s Shared) check(recipes []Recipe, controls []string, now time.Time) problem.List {
	var out problem.List
	if !s.doc.Has(strictyaml.Join(s.at, "control")) && !s.doc.Has(strictyaml.Join(s.at, "vulnerability")) && !s.doc.Has(strictyaml.Join(s.at, "package")) {
		out = append(out, s.Problem("", "either control, or vulnerability and package", "the waiver does not say what it accepts"))
	}
	for _, f := range s.Check(now, s.Valid) {
		p := s.Problem(f.Field, f.Allowed, "%s", f.Message)
		if f.Warning {
			p.Severity = problem.Warning
		}
		out = append(out, p)
	}
	if s.Valid("control") && !slices.Contains(controls, s.Control) && !strings.HasPrefix(s.Control, "xccdf_") {
		near := ""
		if name := problem.Nearest(s.Control, controls); name != "" {
			near = fmt.Sprintf("; did you mean %q?", name)
		}
		out = append(out, s.Problem("control", "a control of a component", "no component has a control %s to waive%s", s.Control, near))
	}
	return append(out, s.scope(recipes)...)
}

// literal is how many characters of a pattern must precede the first *.
const literal = 3

// scope refuses a scope that names no recipe, or that comes to every recipe
// without naming them.
func (s Shared) scope(recipes []Recipe) problem.List {
	var out problem.List
	fail := func(field, allowed, format string, args ...any) {
		p := s.Problem(field, allowed, format, args...)
		p.Rule = scopeRule
		out = append(out, p)
	}
	if !s.Valid("scope") {
		return nil
	}
	if len(s.Scope.Recipes) == 0 && len(s.Scope.Families) == 0 {
		fail("scope", "recipes, families", "scope selects nothing; name the recipes or the families for which the waiver holds")
		return out
	}
	var names []string
	for _, r := range recipes {
		names = append(names, r.Name)
	}
	globs := len(s.Scope.Recipes) == 0
	for i, p := range s.Scope.Recipes {
		at := fmt.Sprintf("scope.recipes[%d]", i)
		before, _, glob := strings.Cut(p, "*")
		globs = globs || glob
		matching := slices.ContainsFunc(names, func(n string) bool { return Matches(p, n) })
		switch {
		case slices.Index(s.Scope.Recipes, p) < i:
			fail(at, "", "%s is listed twice", p)
		case strings.ContainsAny(p, "?[]{}\\,! \t"):
			fail(at, "a name, in which * stands for any text", "%q is not a name of recipes", p)
		case glob && len(before) < literal:
			fail(at, "at least three characters before the *, such as debian-12-*", "scope %q is too broad: a waiver holds for recipes that somebody has looked at", p)
		case !glob && !matching:
			near := ""
			if name := problem.Nearest(p, names); name != "" {
				near = fmt.Sprintf("; did you mean %q?", name)
			}
			fail(at, "the name of a recipe", "there is no recipe %q%s", p, near)
		case !matching:
			w := s.Problem(at, "", "no recipe matches %s, so the waiver holds for none by it", p)
			w.Severity = problem.Warning
			out = append(out, w)
		}
	}
	for i, f := range s.Scope.Families {
		if slices.Index(s.Scope.Families, f) < i {
			fail(fmt.Sprintf("scope.families[%d]", i), "", "%s is listed twice", f)
		}
	}
	if out.HasErrors() || !globs || len(recipes) < 2 {
		return out
	}
	if !slices.ContainsFunc(recipes, func(r Recipe) bool { return !s.Scope.Holds(r.Name, r.Family) }) {
		fail("scope", "fewer recipes, or each by its name", "the scope is too broad: it includes all %d recipes of this user data", len(recipes))
	}
	return out
}
