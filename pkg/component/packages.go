package component

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/problem"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/strictyaml"
)

// Package that a component needs, of the distribution or of a repository that its
// prepare.sh adds. It is installed where all of its conditions hold, in one run of
// the package manager with the packages of all other components.
type Package struct {
	Name     string                         `yaml:"name" jsonschema:"required,pattern=^[a-z0-9][a-z0-9+._-]*$" hint:"a package's name"`
	Families []string                       `yaml:"families" jsonschema:"enum=debian-12,enum=debian-13,enum=ubuntu-22.04,enum=ubuntu-24.04,enum=al2023"` // default: all of the component's
	When     map[string][]strictyaml.Scalar `yaml:"when"`                                                                                                // parameters of the component have one of these values
	Set      []string                       `yaml:"set" jsonschema:"minLength=1"`                                                                        // these parameters are not empty
	Unset    []string                       `yaml:"unset" jsonschema:"minLength=1"`                                                                      // these parameters are empty
	Version  string                         `yaml:"version" jsonschema:"minLength=1"`                                                                    // the parameter with the exact version; default: the newest version
	Early    bool                           `yaml:"early"`                                                                                               // prepare.sh of some component needs it: an image that lacks it gets it before the others

	at string // FILE:LINE:COLUMN of its name
}

// Wanted is a package that a component installs into an image of one recipe.
type Wanted struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"` // exact; empty for the newest
	Early   bool   `json:"early,omitempty"`
	At      string `json:"at"` // where it is declared: FILE:LINE:COLUMN
}

// Wanted are the packages that the component installs with its values in a recipe,
// sorted by name.
func (s Selected) Wanted() []Wanted {
	out := []Wanted{}
	for _, p := range s.Packages {
		if p.applies(s) {
			out = append(out, Wanted{Name: p.Name, Version: s.Values[p.Version], Early: p.Early, At: p.at})
		}
	}
	slices.SortStableFunc(out, func(a, b Wanted) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (p Package) applies(s Selected) bool {
	empty := func(name string) bool { return s.Values[name] == "" }
	return (len(p.Families) == 0 || slices.Contains(p.Families, s.Family)) && haveOneOf(s.Values, p.When) &&
		!slices.ContainsFunc(p.Set, empty) && !slices.ContainsFunc(p.Unset, func(name string) bool { return !empty(name) })
}

// checkPackages checks that the conditions of packages name what there is, and
// notes where each package is declared.
func (c *Component) checkPackages(doc *strictyaml.Document) problem.List {
	var out problem.List
	first := map[string]int{}
	for i := range c.Packages {
		p := &c.Packages[i]
		at := strictyaml.Index("packages", i)
		here := doc.Problem(at+".name", "", "")
		p.at = fmt.Sprintf("%s:%d:%d", here.File, here.Line, here.Column)
		id := "package " + p.Name
		out = append(out, c.knownFamilies(doc, at+".families", id, p.Families)...)
		out = append(out, c.when(doc, at+".when", id, p.When)...)
		for key, names := range map[string][]string{"set": p.Set, "unset": p.Unset} {
			for j, name := range names {
				if _, ok := c.Parameters[name]; !ok {
					out = append(out, doc.Problem(strictyaml.Index(at+"."+key, j), orNone(c.parameterNames()), "%s: the component has no parameter %q%s", id, name, didYouMean(name, c.parameterNames())))
				}
			}
		}
		if _, ok := c.Parameters[p.Version]; p.Version != "" && !ok {
			out = append(out, doc.Problem(at+".version", orNone(c.parameterNames()), "%s: version names the parameter with the version, and the component has no parameter %q%s", id, p.Version, didYouMean(p.Version, c.parameterNames())))
		}
		if j, twice := first[p.Name]; twice && p.unconditional() && c.Packages[j].unconditional() && p.shares(c.Packages[j]) {
			out = append(out, doc.Problem(at+".name", "each package once, or entries for different families or parameters", "package %s is listed twice; the first is packages[%d]", p.Name, j))
		} else if !twice {
			first[p.Name] = i
		}
	}
	return out
}

func (p Package) unconditional() bool { return len(p.When)+len(p.Set)+len(p.Unset) == 0 }

// shares says whether two entries have a family in common.
func (p Package) shares(other Package) bool {
	return len(p.Families) == 0 || len(other.Families) == 0 ||
		slices.ContainsFunc(p.Families, func(family string) bool { return slices.Contains(other.Families, family) })
}

// versions are the packages that two components want in different versions: one
// run cannot install both.
func versions(r *recipe.Recipe, selected []Selected) problem.List {
	var out problem.List
	type owner struct{ component, version string }
	first := map[string]owner{}
	for _, s := range selected {
		for _, w := range s.Wanted() {
			had, ok := first[w.Name]
			switch {
			case w.Version == "":
			case !ok:
				first[w.Name] = owner{s.Name, w.Version}
			case had.version != w.Version:
				out = append(out, r.Problem(use(r, s.Name), fmt.Sprintf("one version of %s in the parameters of both", w.Name),
					"component %s wants the package %s in version %s, and component %s in version %s", s.Name, w.Name, w.Version, had.component, had.version))
			}
		}
	}
	return out
}

// use is the path of the name of a component in the recipe.
func use(r *recipe.Recipe, name string) string {
	i := slices.IndexFunc(r.Components, func(c recipe.Component) bool { return c.Name == name })
	return fmt.Sprintf("components[%d].name", i)
}

// Conditions are the package's conditions for readers, such as "debian-12,
// `engine: docker-ce`"; empty when it is always installed.
func (p Package) Conditions() string {
	var parts []string
	if len(p.Families) > 0 {
		parts = append(parts, strings.Join(p.Families, " "))
	}
	parts = append(parts, oneOf("", p.When)...)
	for _, name := range p.Set {
		parts = append(parts, "with `"+name+"`")
	}
	for _, name := range p.Unset {
		parts = append(parts, "without `"+name+"`")
	}
	if p.Version != "" {
		parts = append(parts, "in the version of `"+p.Version+"`")
	}
	if p.Early {
		parts = append(parts, "early")
	}
	return strings.Join(parts, ", ")
}
