package plan

import (
	"io/fs"
	"time"

	"github.com/ami-factory/ami-factory/pkg/baseline"
	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/pkg/problem"
	"github.com/ami-factory/ami-factory/pkg/recipe"
)

// Lint checks recipes by name, all of them when none is named, with everything
// they use and what the deployment gives them, and without a network. An unknown
// name is an error in whose chain is recipe.ErrUnknown.
func Lint(fsys fs.FS, given component.Deployment, now time.Time, names ...string) (problem.List, error) {
	if len(names) == 0 {
		var err error
		if names, err = recipe.Names(fsys); err != nil {
			return nil, err
		}
	}
	var out problem.List
	for _, name := range names {
		r, problems, err := recipe.Load(fsys, name, recipe.Options{Now: now})
		if err != nil {
			return nil, err
		}
		more, err := Check(r, fsys, given, now)
		if err != nil {
			return nil, err
		}
		out = append(append(out, problems...), more...)
		if !r.RehearsalOnly {
			out = append(out, OnAWS(r)...)
		}
	}
	return out.Sort(), nil
}

// LintFile checks a recipe that is not, or not yet, among those of fsys.
func LintFile(file string, data []byte, fsys fs.FS, given component.Deployment, now time.Time) (problem.List, error) {
	r, problems := recipe.Parse(file, data, recipe.Options{Now: now})
	more, err := Check(r, fsys, given, now)
	problems = append(problems, more...)
	if !r.RehearsalOnly {
		problems = append(problems, OnAWS(r)...)
	}
	return problems.Sort(), err
}

// Check finds what is wrong with a recipe's use of the user data (components,
// parameters, checks, and the size of what is told to the builder), where it is
// below the deployment's baseline, and which of its pointers are another
// recipe's. Problems of the latter two kinds have the rule baseline.Rule.
func Check(r *recipe.Recipe, fsys fs.FS, given component.Deployment, now time.Time) (problem.List, error) {
	a, problems, err := assemble(r, fsys, given)
	if err != nil {
		return problems, err
	}
	floor, wrong, err := baseline.Load(fsys, now)
	if err != nil {
		return problems, err
	}
	if !wrong.HasErrors() {
		controls := a.controls
		if controls == nil && !problems.HasErrors() {
			controls = []compliance.Control{} // known, and none
		}
		problems = append(problems, floor.Check(r, controls)...)
	}
	problems = append(problems, wrong...)
	all, err := recipe.All(fsys, recipe.Options{Now: now})
	return append(problems, baseline.Pointers(r, all)...), err
}
