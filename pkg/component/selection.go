package component

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/problem"
	"github.com/ami-factory/ami-factory/pkg/recipe"
)

// Selected is a component with the values of its parameters in a recipe.
type Selected struct {
	*Component
	Family string            // the recipe's
	Values map[string]string // of every parameter, defaults included
}

// Select loads the components that a recipe lists, in the order of installation:
// ascending Order, then name. The value of a parameter is the recipe's,
// otherwise the deployment's, otherwise the default. Problems with the recipe's
// use of components point into the recipe, problems of a component into the
// component's files. waived are controls that shared waivers accept in this
// recipe's image.
func Select(fsys fs.FS, r *recipe.Recipe, given Deployment, waived ...string) ([]Selected, problem.List, error) {
	names, err := Names(fsys)
	if err != nil {
		return nil, nil, err
	}
	problems, err := given.Check(fsys)
	if err != nil {
		return nil, nil, err
	}
	var out []Selected
	owners := map[string]string{}
	seen := map[string]bool{}
	for i, use := range r.Components {
		if use.Name == "" || seen[use.Name] || !r.Valid(fmt.Sprintf("components[%d].name", i)) {
			continue // the recipe's own check reports it
		}
		seen[use.Name] = true
		at := fmt.Sprintf("components[%d]", i)
		c, own, err := Load(fsys, use.Name)
		if errors.Is(err, ErrUnknown) {
			problems = append(problems, r.Problem(at+".name", orNone(names), "there is no component %q%s", use.Name, didYouMean(use.Name, names)))
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		problems = append(problems, own...)
		if r.Family != "" && r.Valid("family") && len(c.Families) > 0 && !slices.Contains(c.Families, r.Family) {
			problems = append(problems, r.Problem(at+".name", strings.Join(c.Families, ", "), "component %s does not support family %s", use.Name, r.Family))
		}
		values, wrong := c.values(r, at, use, given[use.Name])
		problems = append(problems, wrong...)
		for _, control := range c.Controls {
			if other, dup := owners[control.ID]; dup && other != use.Name {
				problems = append(problems, r.Problem(at+".name", "", "control %s is in component %s and again in %s; give one of them another id", control.ID, other, use.Name))
			}
			owners[control.ID] = use.Name
		}
		out = append(out, Selected{Component: c, Family: r.Family, Values: values})
	}
	problems = append(problems, together(r, out)...)
	slices.SortStableFunc(out, func(a, b Selected) int {
		return cmp.Or(cmp.Compare(a.Order, b.Order), cmp.Compare(a.Name, b.Name))
	})
	problems = append(problems, waivers(r, out)...)
	problems = append(problems, refused(r, out)...)
	problems = append(problems, forbidden(r, out, waived)...)
	problems = append(problems, versions(r, out)...)
	return out, problems.Sort(), nil
}

// together returns the problems of components that require or exclude each other.
func together(r *recipe.Recipe, selected []Selected) problem.List {
	var problems problem.List
	used := map[string]bool{}
	for _, use := range r.Components {
		used[use.Name] = true
	}
	owner := map[string]string{}
	for i, use := range r.Components {
		at := slices.IndexFunc(selected, func(s Selected) bool { return s.Name == use.Name })
		if at < 0 {
			continue
		}
		c, where := selected[at], fmt.Sprintf("components[%d].name", i)
		for _, name := range c.Requires {
			if !used[name] {
				problems = append(problems, r.Problem(where, "", "component %s requires the component %s, which the recipe does not list", c.Name, name))
			}
		}
		for _, name := range c.Conflicts {
			if used[name] {
				problems = append(problems, r.Problem(where, "", "component %s cannot be in one image with %s", c.Name, name))
			}
		}
		for _, file := range c.Files {
			if other, dup := owner[file]; dup && other != c.Name && !strings.HasSuffix(file, "/") {
				problems = append(problems, r.Problem(where, "", "components %s and %s both put %s into the image", other, c.Name, file))
			}
			owner[file] = c.Name
		}
	}
	return problems
}

// values returns the values of the parameters for one use of the component.
func (c *Component) values(r *recipe.Recipe, at string, use recipe.Component, given map[string]string) (map[string]string, problem.List) {
	var problems problem.List
	out := map[string]string{}
	for name, p := range c.Parameters {
		_, ofRecipe := use.Parameters[name]
		if text, _, ok := value(given, name); ok {
			out[name] = text
		} else if p.Default != nil {
			out[name] = string(*p.Default)
		} else if !ofRecipe {
			problems = append(problems, r.Problem(at+".parameters."+name, p.accepts(), "component %s needs the parameter %s: %s", c.Name, name, p.Description))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(use.Parameters)) {
		where := at + ".parameters." + name
		p, ok := c.Parameters[name]
		if !ok {
			problems = append(problems, r.Problem(where, orNone(c.parameterNames()), "component %s has no parameter %q%s", c.Name, name, didYouMean(name, c.parameterNames())))
			continue
		}
		own := use.Parameters[name]
		if message, allowed := p.Refuse(own); message != "" {
			problems = append(problems, r.Problem(where, allowed, "parameter %s of %s: %s", name, c.Name, message))
			continue
		}
		if _, rule, _ := value(given, name); !rule {
			out[name] = own
		}
	}
	return out, problems
}

// waivers reports waivers of controls that the image does not have.
func waivers(r *recipe.Recipe, selected []Selected) problem.List {
	var ids []string
	for _, s := range selected {
		for _, spec := range s.Controls {
			if spec.AppliesTo(s.Family, s.Values) {
				ids = append(ids, spec.ID)
			}
		}
	}
	if len(ids) == 0 {
		return nil // report the components' own problems first
	}
	engines := r.Checks.Engines
	if engines.Script != nil {
		for _, c := range engines.Script.Controls {
			ids = append(ids, c.ID)
		}
	}
	if engines.OpenSCAP != nil {
		ids = append(ids, compliance.OpenSCAPControl)
	}
	if engines.Bottlerocket != nil {
		ids = append(ids, compliance.BottlerocketControl)
	}
	slices.Sort(ids)
	var out problem.List
	for i, w := range r.Checks.Waivers {
		if at := fmt.Sprintf("checks.waivers[%d].control", i); r.Valid(at) && !slices.Contains(ids, w.Control) && (engines.OpenSCAP == nil || !strings.HasPrefix(w.Control, "xccdf_")) {
			out = append(out, r.Problem(at, nearControls(w.Control, ids), "the image has no control %s to waive%s", w.Control, didYouMean(w.Control, ids)))
		}
	}
	return out
}

// NeverRun returns the names of the selected components that no test runs on a
// guest of the recipe's family, in their order.
func NeverRun(selected []Selected) []string {
	var out []string
	for _, s := range selected {
		if slices.Contains(s.Component.NeverRun(), s.Family) {
			out = append(out, s.Name)
		}
	}
	return out
}

// nearControls returns controls with a similar id, because an image has more
// than a hundred.
func nearControls(id string, ids []string) string {
	const most = 5
	if len(ids) <= most {
		return strings.Join(ids, ", ")
	}
	prefix, _, _ := strings.Cut(id, "-")
	var near []string
	for _, known := range ids {
		if strings.HasPrefix(known, prefix+"-") {
			near = append(near, known)
		}
	}
	if len(near) == 0 || len(near) > 2*most {
		near = nil
		left := slices.Clone(ids)
		for found := problem.Nearest(id, left); found != "" && len(near) < most; found = problem.Nearest(id, left) {
			near = append(near, found)
			left = slices.DeleteFunc(left, func(s string) bool { return s == found })
		}
	}
	if len(near) == 0 {
		return fmt.Sprintf("one of the image's %d controls, which ami-factory plan lists", len(ids))
	}
	return strings.Join(near, ", ")
}

// Sets returns the controls of the selected components, for compliance.Compile.
func Sets(selected []Selected) []compliance.Set {
	out := make([]compliance.Set, 0, len(selected))
	for _, s := range selected {
		out = append(out, compliance.Set{Component: s.Name, Family: s.Family, Values: s.Values, Specs: s.Controls})
	}
	return out
}
