package plan

import (
	"io/fs"
	"time"

	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/pkg/problem"
	"github.com/ami-factory/ami-factory/pkg/recipe"
)

// Lint checks the named recipes, or all of them if no name is given, with
// everything they use and the deployment's parameters. It needs no network. For
// an unknown name, recipe.ErrUnknown is in the error's chain.
func Lint(fsys fs.FS, given component.Deployment, now time.Time, names ...string) (problem.List, error) {
	all := len(names) == 0
	if all {
		var err error
		if names, err = recipe.Names(fsys); err != nil {
			return nil, err
		}
	}
	c, err := Open(fsys, given, now)
	if err != nil {
		return nil, err
	}
	var out problem.List
	if all {
		out = append(out, c.waivers.Problems()...) // also of those that hold for no recipe
	}
	for _, name := range names {
		d, problems, err := c.Load(name)
		if err != nil {
			return nil, err
		}
		out = append(out, problems...)
		if !d.Recipe.RehearsalOnly {
			out = append(out, OnAWS(d.Recipe)...)
		}
	}
	return out.Sort(), nil
}

// LintFile checks a recipe that need not be among those of fsys.
func LintFile(file string, data []byte, fsys fs.FS, given component.Deployment, now time.Time) (problem.List, error) {
	c, err := Open(fsys, given, now)
	if err != nil {
		return nil, err
	}
	return c.LintFile(file, data)
}

// LintFile checks a recipe, which need not be in the catalog.
func (c *Catalog) LintFile(file string, data []byte) (problem.List, error) {
	r, problems := recipe.Parse(file, data, recipe.Options{Now: c.now})
	_, more, err := c.Draft(r)
	problems = append(problems, more...)
	if !r.RehearsalOnly {
		problems = append(problems, OnAWS(r)...)
	}
	return problems.Sort(), err
}
