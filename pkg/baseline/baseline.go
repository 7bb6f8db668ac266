// Package baseline holds what a deployment requires of every recipe: components,
// the most lenient gate, controls that must pass, what may be waived, and that
// each pointer belongs to one recipe. The baseline is a file beside the recipes,
// so that a security team can own it.
package baseline

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"time"

	"github.com/ami-factory/ami-factory/pkg/problem"
	"github.com/ami-factory/ami-factory/pkg/strictyaml"
	"github.com/ami-factory/ami-factory/pkg/waiver"
)

// File is the name of the baseline, at the root of the user data.
const File = "baseline.yaml"

// Rule marks problems of this package, so that a stage can distinguish a recipe
// below the baseline from an invalid one.
const Rule = "baseline"

// Baseline is the content of the file.
type Baseline struct {
	// Components that every image must have.
	Components []string `yaml:"components" json:"components" jsonschema:"required,minItems=1,pattern=^[a-z][a-z0-9]*(-[a-z0-9]+)*$" hint:"the name of a directory in userdata/components"`
	// Gate is the most lenient gate of a recipe.
	Gate Gate `yaml:"gate" json:"gate" jsonschema:"required"`
	// Controls that every image must prove: each is checked, its failure rejects
	// the image, and neither recipes nor components may waive it.
	Controls []string `yaml:"controls" json:"controls" jsonschema:"required,pattern=^[A-Z][A-Z0-9]*-[0-9]{2}$" hint:"a control's id, such as SYS-02"`
	// Waivers limits the waivers of recipes. Recipes may not waive required controls.
	Waivers Waivers `yaml:"waivers" json:"waivers" jsonschema:"required"`
	// Exceptions of single recipes, each with a reason and an end.
	Exceptions []Exception `yaml:"exceptions,omitempty" json:"exceptions,omitempty"`

	doc *strictyaml.Document
	now time.Time
}

// Gate is the most lenient gate.
type Gate struct {
	// Severity from which a failed control must reject the image; a recipe may set
	// a lower one.
	Severity string `yaml:"severity" json:"severity" jsonschema:"required,enum=low,enum=medium,enum=high,enum=critical"`
}

// Waivers limits the waivers of recipes, and those that recipes share.
type Waivers struct {
	// Severity up to which a recipe may waive controls; none forbids waivers.
	Severity string `yaml:"severity" json:"severity" jsonschema:"required,enum=none,enum=low,enum=medium,enum=high,enum=critical"`
	// Days limits the time from the creation of a waiver to its end, in days, by the
	// severity of what it accepts.
	Days waiver.Days `yaml:"days,omitempty" json:"days,omitempty"`
}

// Exception frees one recipe from parts of the baseline.
type Exception struct {
	// Recipe to which the exception applies.
	Recipe string `yaml:"recipe" json:"recipe" jsonschema:"required,pattern=^[a-z][a-z0-9]*([-.][a-z0-9]+)*$" hint:"the name of a recipe"`
	// From lists the parts of the baseline that do not apply: required components
	// and controls by name, gate, or waivers.
	From []string `yaml:"from" json:"from" jsonschema:"required,minItems=1"`
	// Owner is the person or team responsible for the exception.
	Owner string `yaml:"owner" json:"owner" jsonschema:"required,minLength=1"`
	// Reason for the exception.
	Reason string `yaml:"reason" json:"reason" jsonschema:"required,minLength=10,maxLength=1000"`
	// Expires is the last day, in UTC, on which the exception applies: YYYY-MM-DD,
	// at most one year ahead.
	Expires string `yaml:"expires" json:"expires" jsonschema:"required,pattern=^[0-9]{4}-[0-9]{2}-[0-9]{2}$" hint:"a date, YYYY-MM-DD"`
}

// Parts of the baseline that an exception can name, in addition to components
// and controls.
const (
	partGate    = "gate"
	partWaivers = "waivers"
)

// maxException is the longest time for which an exception may apply.
const maxException = 366 * 24 * time.Hour

//go:embed schema.json
var schema []byte

// Schema is the JSON Schema of the file for editors. It is generated from the
// types of this package by its tests (go test ./pkg/baseline -update).
func Schema() []byte { return slices.Clone(schema) }

// Load reads the baseline below the root of the user data. A missing file is a
// problem, so that nobody can avoid the baseline by deleting the file. No recipe
// may be built if there are errors among the problems.
func Load(fsys fs.FS, now time.Time) (*Baseline, problem.List, error) {
	data, err := fs.ReadFile(fsys, File)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, problem.List{{
			Severity: problem.Error, File: File, Rule: Rule,
			Message: "there is no " + File + " beside the folder recipes, and nothing is built without a baseline",
			Allowed: "a file with the schema that `ami-factory schema baseline` prints",
		}}, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read the baseline: %w", err)
	}
	b, problems := parse(path.Base(File), data, now)
	return b, problems, nil
}

// Limits returns the longest terms of waivers; the defaults if there is no baseline.
func (b *Baseline) Limits() waiver.Days {
	var days waiver.Days
	if b != nil {
		days = b.Waivers.Days
	}
	return waiver.Days{Critical: days.For("critical"), High: days.For("high"), Medium: days.For("medium"), Low: days.For("low")}
}

// parse reads a baseline strictly. It never returns a nil baseline.
func parse(file string, data []byte, now time.Time) (*Baseline, problem.List) {
	b := &Baseline{now: now}
	var problems problem.List
	b.doc, problems = strictyaml.Decode(file, data, b)
	problems = append(problems, b.distinct("components", b.Components)...)
	problems = append(problems, b.distinct("controls", b.Controls)...)
	for i, e := range b.Exceptions {
		problems = append(problems, b.exception(fmt.Sprintf("exceptions[%d]", i), e)...)
	}
	return b, marked(problems.Sort())
}

// marked marks problems as those of the baseline.
func marked(problems problem.List) problem.List {
	for i := range problems {
		problems[i].Rule = Rule
	}
	return problems
}

func (b *Baseline) distinct(at string, values []string) problem.List {
	var out problem.List
	for i, v := range values {
		if j := slices.Index(values, v); j < i && v != "" {
			out = append(out, b.doc.Problem(strictyaml.Index(at, i), "", "%s is listed twice; the first is %s", v, strictyaml.Index(at, j)))
		}
	}
	return out
}

func (b *Baseline) exception(at string, e Exception) problem.List {
	var out problem.List
	for i, part := range e.From {
		if part != "" && part != partGate && part != partWaivers && !slices.Contains(b.Components, part) && !slices.Contains(b.Controls, part) {
			out = append(out, b.doc.Problem(fmt.Sprintf("%s.from[%d]", at, i), "gate, waivers, a name of components or an id of controls", "the baseline does not require %q, so nothing can be excepted from it", part))
		}
	}
	if !b.doc.Valid(at + ".expires") {
		return out
	}
	day, err := time.Parse(time.DateOnly, e.Expires)
	switch {
	case err != nil:
		out = append(out, b.doc.Problem(at+".expires", "a date, YYYY-MM-DD", "expires: %q is not a date of the calendar", e.Expires))
	case day.Sub(b.now) > maxException:
		out = append(out, b.doc.Problem(at+".expires", "at most one year ahead", "the exception of recipe %s would hold until %s", e.Recipe, e.Expires))
	case b.expired(e):
		// Only a warning: an error would stop every other recipe too.
		p := b.doc.Problem(at+".expires", "", "the exception of recipe %s expired on %s and no longer applies", e.Recipe, e.Expires)
		p.Severity = problem.Warning
		out = append(out, p)
	}
	return out
}

func (b *Baseline) expired(e Exception) bool {
	day, err := time.Parse(time.DateOnly, e.Expires)
	return err != nil || !b.now.Before(day.Add(24*time.Hour))
}

// excepted reports whether a recipe has an exception from a part of the baseline.
func (b *Baseline) excepted(recipe, part string) bool {
	return slices.ContainsFunc(b.Exceptions, func(e Exception) bool {
		return e.Recipe == recipe && slices.Contains(e.From, part) && !b.expired(e)
	})
}

// line returns the position in the baseline, such as baseline.yaml:7:5.
func (b *Baseline) line(at string) string {
	p := b.doc.Problem(at, "", "")
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}
