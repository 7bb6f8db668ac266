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

// Catalog is the user data of a deployment with what every recipe is compared with:
// the baseline and the other recipes, each read once.
type Catalog struct {
	userData   fs.FS
	parameters component.Deployment
	now        time.Time
	recipes    []*recipe.Recipe
	floor      *baseline.Baseline
	wrong      problem.List // with the baseline
}

// Open reads the recipes and the baseline. What is wrong with them is returned by
// Load and Draft, for each recipe.
func Open(fsys fs.FS, given component.Deployment, now time.Time) (*Catalog, error) {
	c := &Catalog{userData: fsys, parameters: given, now: now}
	var err error
	if c.floor, c.wrong, err = baseline.Load(fsys, now); err != nil {
		return nil, err
	}
	c.recipes, err = recipe.All(fsys, recipe.Options{Now: now})
	return c, err
}

// Recipes are all, sorted by name, valid or not.
func (c *Catalog) Recipes() []*recipe.Recipe { return c.recipes }

// Draft is what a recipe makes of the user data before its source is known. Its
// bundle is packed once, however often it is built.
type Draft struct {
	Recipe *recipe.Recipe
	parts  assembly
}

// Load drafts a recipe of the catalog and returns everything that is wrong with it.
// An unknown name is an error in whose chain is recipe.ErrUnknown.
func (c *Catalog) Load(name string) (Draft, problem.List, error) {
	r, problems, err := recipe.Load(c.userData, name, recipe.Options{Now: c.now})
	if err != nil {
		return Draft{}, nil, err
	}
	d, more, err := c.Draft(r)
	return d, append(problems, more...), err
}

// Draft assembles a recipe, of the catalog or not. It finds what is wrong with its
// use of the user data (components, parameters, checks, and the size of what is told
// to the builder), where it is below the deployment's baseline, and which of its
// pointers are another recipe's. Problems of the latter two kinds have the rule
// baseline.Rule.
func (c *Catalog) Draft(r *recipe.Recipe) (Draft, problem.List, error) {
	d := Draft{Recipe: r}
	var problems problem.List
	var err error
	if d.parts, problems, err = assemble(r, c.userData, c.parameters); err != nil {
		return d, problems, err
	}
	if !c.wrong.HasErrors() {
		controls := d.parts.controls
		if controls == nil && !problems.HasErrors() {
			controls = []compliance.Control{} // known, and none
		}
		problems = append(problems, c.floor.Check(r, controls)...)
	}
	problems = append(problems, c.wrong...)
	return d, append(problems, baseline.Pointers(r, c.recipes)...), nil
}
