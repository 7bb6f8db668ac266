package plan

import (
	"io/fs"
	"sync"
	"time"

	"github.com/ami-factory/ami-factory/pkg/baseline"
	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/pkg/problem"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/waiver"
)

// Catalog is the user data of a deployment, with the baseline and all recipes,
// each read once. Components are decoded once as long as their files stay the same.
type Catalog struct {
	userData   fs.FS
	parameters component.Deployment
	now        time.Time
	recipes    []*recipe.Recipe
	floor      *baseline.Baseline
	wrong      problem.List // with the baseline
	waivers    waiver.Set   // that recipes share
}

// Open reads the recipes and the baseline. Load and Draft return their problems,
// for each recipe.
func Open(fsys fs.FS, given component.Deployment, now time.Time) (*Catalog, error) {
	c := &Catalog{userData: component.Remember(fsys), parameters: given, now: now}
	var err error
	if c.floor, c.wrong, err = baseline.Load(fsys, now); err != nil {
		return nil, err
	}
	if c.recipes, err = recipe.All(fsys, recipe.Options{Now: now}); err != nil {
		return nil, err
	}
	var scopes []waiver.Recipe
	for _, r := range c.recipes {
		scopes = append(scopes, waiver.Recipe{Name: r.Name, Family: r.Family})
	}
	c.waivers, err = waiver.Load(fsys, scopes, func() ([]string, error) {
		ids, err := component.ControlIDs(fsys)
		return append(ids, declared(c.recipes)...), err
	}, now)
	return c, err
}

// Waivers returns the waivers that recipes share.
func (c *Catalog) Waivers() waiver.Set { return c.waivers }

// Recipes returns all recipes, valid or not, sorted by name.
func (c *Catalog) Recipes() []*recipe.Recipe { return c.recipes }

// Draft is everything about a build that is known before the source is resolved.
// Its bundle is packed by the first call of Build, and only once.
type Draft struct {
	Recipe *recipe.Recipe
	parts  assembly
	packed func() ([]byte, error) // returns the bundle
	shared []waiver.Shared        // waivers that hold for the recipe
	days   waiver.Days            // the longest terms of waivers
}

// Load drafts a recipe of the catalog and returns all of its problems. For an
// unknown name, recipe.ErrUnknown is in the error's chain.
func (c *Catalog) Load(name string) (Draft, problem.List, error) {
	r, problems, err := recipe.Load(c.userData, name, recipe.Options{Now: c.now})
	if err != nil {
		return Draft{}, nil, err
	}
	d, more, err := c.Draft(r)
	return d, append(problems, more...), err
}

// Draft assembles a recipe, which need not be in the catalog. It finds problems
// with the recipe's use of the user data (components, parameters, checks, and
// the size of the builder's user data), parts that are below the deployment's
// baseline, and pointers that belong to another recipe. Problems of the last two
// kinds have the rule baseline.Rule.
func (c *Catalog) Draft(r *recipe.Recipe) (Draft, problem.List, error) {
	d := Draft{Recipe: r}
	var problems problem.List
	var err error
	var wrong problem.List
	d.shared, wrong = c.waivers.Of(r.Name, r.Family)
	d.days = c.floor.Limits()
	if d.parts, problems, err = assemble(r, c.userData, c.parameters, d.shared); err != nil {
		return d, problems, err
	}
	d.packed = sync.OnceValues(func() ([]byte, error) { return component.Bundle(d.parts.files) })
	problems = append(problems, wrong...)
	if !c.wrong.HasErrors() {
		controls := d.parts.controls
		if controls == nil && !problems.HasErrors() {
			controls = []compliance.Control{} // the controls are known: there are none
		}
		problems = append(problems, c.floor.Check(r, controls, d.shared...)...)
	}
	problems = append(problems, c.wrong...)
	return d, append(problems, baseline.Pointers(r, c.recipes)...), nil
}
