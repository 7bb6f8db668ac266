// Package component reads userdata/components: the parts of images, with their
// parameters and controls. It checks a recipe's use of components and packs them
// into the bundle that a builder fetches.
package component

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/problem"
	"github.com/ami-factory/ami-factory/pkg/strictyaml"
)

// Dir is the folder of the components, below the root of the user data.
const Dir = "components"

// ErrUnknown is in the chain of Load's error if the component does not exist.
var ErrUnknown = errors.New("unknown component")

// Component is a component, as the files of its directory describe it.
type Component struct {
	Name        string               `yaml:"name" jsonschema:"required,pattern=^[a-z][a-z0-9]*(-[a-z0-9]+)*$" hint:"lower-case letters, digits and hyphens"`
	Description string               `yaml:"description" jsonschema:"required,minLength=1"`
	Families    []string             `yaml:"families" jsonschema:"required,minItems=1,enum=debian-12,enum=debian-13,enum=ubuntu-22.04,enum=ubuntu-24.04,enum=al2023"`
	Proven      []string             `yaml:"proven" jsonschema:"enum=debian-12,enum=debian-13,enum=ubuntu-22.04,enum=ubuntu-24.04,enum=al2023"` // families on whose guests tests run it
	Order       int                  `yaml:"order" jsonschema:"required,minimum=0,maximum=999"`                                                 // ascending
	Requires    []string             `yaml:"requires"`                                                                                          // components that must be in the recipe too, and are installed first
	Conflicts   []string             `yaml:"conflicts"`                                                                                         // components that must not be in the recipe
	Parameters  map[string]Parameter `yaml:"parameters"`
	Packages    []Package            `yaml:"packages"`                                                    // installed before any install.sh runs
	Upgrade     bool                 `yaml:"upgrade"`                                                     // the run that installs packages also upgrades all that the image has
	Files       []string             `yaml:"files" jsonschema:"pattern=^/[^ ]+$" hint:"an absolute path"` // that it creates in the image; a directory ends with a slash
	Services    []string             `yaml:"services"`                                                    // units enabled for first boot
	Ports       []int                `yaml:"ports" jsonschema:"minimum=1,maximum=65535"`                  // on which its services listen for other machines
	Refuses     []Refusal            `yaml:"refuses"`                                                     // combinations that install.sh or a control refuses

	Controls []compliance.Spec `yaml:"-"` // from checks.yaml
	Notes    []string          `yaml:"-"` // names of additional pages in the component's directory
}

// NeverRun returns the component's families on whose guests no test runs it: for
// them it is written from documentation. It returns nothing for a component
// without "proven".
func (c *Component) NeverRun() []string {
	if c.Proven == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(c.Families), func(family string) bool { return slices.Contains(c.Proven, family) })
}

// Parameter of a component.
type Parameter struct {
	Type        string              `yaml:"type" jsonschema:"required,enum=string,enum=bool,enum=int,enum=ports,enum=cidr,enum=pools"` // ports: a list such as 22,443; cidr: 172.26.0.1/24; pools: 10.210.0.0/16:24 …
	Default     *strictyaml.Scalar  `yaml:"default"`                                                                                   // without it the recipe must set a value
	Allowed     []strictyaml.Scalar `yaml:"allowed"`
	Minimum     *int                `yaml:"minimum"`                                       // of an int
	Maximum     *int                `yaml:"maximum"`                                       // of an int
	Pattern     string              `yaml:"pattern" jsonschema:"minLength=1"`              // regular expression that must match the whole string
	Form        string              `yaml:"form" jsonschema:"minLength=1"`                 // the pattern in words
	List        string              `yaml:"list" jsonschema:"enum=spaces,enum=semicolons"` // the string is a list, and the pattern applies to each item
	Description string              `yaml:"description" jsonschema:"required,minLength=1"`
}

// Steps returns the names of the steps of run.sh that belong to no component.
func Steps() []string { return []string{"packages", "boot-files"} }

// Names lists all components, sorted.
func Names(fsys fs.FS) ([]string, error) {
	files, err := fs.Glob(fsys, path.Join(Dir, "*", "component.yaml"))
	if err != nil {
		return nil, fmt.Errorf("list components: %w", err)
	}
	names := make([]string, 0, len(files))
	for _, f := range files {
		names = append(names, path.Base(path.Dir(f)))
	}
	slices.Sort(names)
	return names, nil
}

// ControlIDs lists the controls of all components, sorted. It reads no more of
// the files than the ids: Load reports what is wrong with them.
func ControlIDs(fsys fs.FS) ([]string, error) {
	files, err := fs.Glob(fsys, path.Join(Dir, "*", "checks.yaml"))
	if err != nil {
		return nil, fmt.Errorf("list the components' checks: %w", err)
	}
	var out []string
	for _, f := range files {
		data, err := fs.ReadFile(fsys, f)
		if err != nil {
			return nil, fmt.Errorf("read the components' checks: %w", err)
		}
		var checks struct {
			Controls []struct {
				ID string `yaml:"id"`
			} `yaml:"controls"`
		}
		if err := yaml.Load(data, &checks); err != nil {
			continue // Load says why
		}
		for _, c := range checks.Controls {
			out = append(out, c.ID)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// Load reads components/<name>. An unknown name is an error that lists all
// components; mistakes in the files are returned as problems.
func Load(fsys fs.FS, name string) (*Component, problem.List, error) {
	names, err := Names(fsys)
	if err != nil {
		return nil, nil, err
	}
	if !slices.Contains(names, name) {
		return nil, nil, fmt.Errorf("%w %q%s (there are: %s)", ErrUnknown, name, didYouMean(name, names), orNone(names))
	}
	if m, ok := fsys.(*memory); ok {
		return m.load(name, names)
	}
	return load(fsys, name, names)
}

// load reads a component that exists. names lists all components.
func load(fsys fs.FS, name string, names []string) (*Component, problem.List, error) {
	dir := path.Join(Dir, name)
	data, err := fs.ReadFile(fsys, path.Join(dir, "component.yaml"))
	if err != nil {
		return nil, nil, fmt.Errorf("read component %s: %w", name, err)
	}
	c := &Component{}
	doc, problems := strictyaml.Decode(path.Join(dir, "component.yaml"), data, c)
	problems = append(problems, c.check(doc, name)...)
	more, err := c.others(fsys, doc, names)
	if err != nil {
		return nil, nil, err
	}
	problems = append(problems, more...)

	file := path.Join(dir, "checks.yaml")
	data, err = fs.ReadFile(fsys, file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		problems = append(problems, problem.Problem{
			Severity: problem.Error, File: file,
			Message: "the component has no checks; what is not checked is not proved",
			Allowed: "at least one control",
		})
	case err != nil:
		return nil, nil, fmt.Errorf("read component %s: %w", name, err)
	default:
		controls, more := c.checks(file, data)
		c.Controls = controls
		problems = append(problems, more...)
	}
	notes, err := fs.Glob(fsys, path.Join(dir, "*.md"))
	if err != nil {
		return nil, nil, fmt.Errorf("read component %s: %w", name, err)
	}
	for _, file := range notes {
		if base := path.Base(file); base != PageFile {
			c.Notes = append(c.Notes, base)
		}
	}
	more, err = scripts(fsys, dir)
	if err != nil {
		return nil, nil, fmt.Errorf("read component %s: %w", name, err)
	}
	return c, append(problems, more...).Sort(), nil
}

func (c *Component) check(doc *strictyaml.Document, directory string) problem.List {
	var out problem.List
	if slices.Contains(Steps(), c.Name) {
		out = append(out, doc.Problem("name", "another name", "%q is the name of a step of run.sh", c.Name))
	}
	if c.Name != "" && c.Name != directory {
		out = append(out, doc.Problem("name", directory, "name is %q, but the directory is called %s", c.Name, directory))
	}
	for i, family := range c.Proven {
		if len(c.Families) > 0 && !slices.Contains(c.Families, family) {
			out = append(out, doc.Problem(strictyaml.Index("proven", i), strings.Join(c.Families, ", "), "proven: the component does not support family %q", family))
		}
	}
	for name, p := range c.Parameters {
		at := "parameters." + name
		if !parameterName.MatchString(name) {
			out = append(out, doc.KeyProblem(at, "letters and digits, beginning with a small letter", "%q cannot be the name of a parameter", name))
		}
		for key, bound := range map[string]*int{"minimum": p.Minimum, "maximum": p.Maximum} {
			if bound != nil && p.Type != "int" {
				out = append(out, doc.KeyProblem(at+"."+key, "type: int", "parameter %s is of type %s, which has no %s", name, p.Type, key))
			}
		}
		out = append(out, p.checkForm(doc, at)...)
		for i, v := range p.Allowed {
			if message := p.mismatch(string(v)); message != "" {
				out = append(out, doc.Problem(strictyaml.Index(at+".allowed", i), "", "allowed: %s", message))
			}
		}
		if p.Default != nil {
			if message, allowed := p.Refuse(string(*p.Default)); message != "" {
				out = append(out, doc.Problem(at+".default", allowed, "default: %s", message))
			}
		}
	}
	return append(append(out, c.checkPackages(doc)...), c.checkRules(doc)...)
}

// others checks the component's references to other components: that they exist,
// and that required ones are installed first. names lists all components.
func (c *Component) others(fsys fs.FS, doc *strictyaml.Document, names []string) (problem.List, error) {
	var out problem.List
	for list, others := range map[string][]string{"requires": c.Requires, "conflicts": c.Conflicts} {
		for i, name := range others {
			if !slices.Contains(names, name) {
				out = append(out, doc.Problem(strictyaml.Index(list, i), orNone(names), "%s: there is no component %q%s", list, name, didYouMean(name, names)))
			}
		}
	}
	for i, rule := range c.Refuses {
		for name := range rule.With {
			if !slices.Contains(names, name) {
				out = append(out, doc.KeyProblem(strictyaml.Index("refuses", i)+".with."+name, orNone(names), "refuses: there is no component %q%s", name, didYouMean(name, names)))
			}
		}
	}
	for i, name := range c.Requires {
		if !slices.Contains(names, name) {
			continue
		}
		file := path.Join(Dir, name, "component.yaml")
		data, err := fs.ReadFile(fsys, file)
		if err != nil {
			return nil, fmt.Errorf("read component %s: %w", name, err)
		}
		var other Component
		strictyaml.Decode(file, data, &other) // its own check reports its problems
		if other.Name = name; !other.before(c) {
			out = append(out, doc.Problem(strictyaml.Index("requires", i), fmt.Sprintf("order: above %d, or another component", other.Order),
				"component %s of order %d requires %s, which has order %d and so is not installed before it", c.Name, c.Order, name, other.Order))
		}
	}
	// Do not ask recipes to list a component that does not exist.
	c.Requires = slices.DeleteFunc(c.Requires, func(name string) bool { return !slices.Contains(names, name) })
	return out, nil
}

// before reports whether a component is installed before another: by order, then by name.
func (c *Component) before(other *Component) bool {
	return cmp.Or(cmp.Compare(c.Order, other.Order), cmp.Compare(c.Name, other.Name)) < 0
}

// checks reads checks.yaml.
func (c *Component) checks(file string, data []byte) ([]compliance.Spec, problem.List) {
	var content struct {
		Controls []compliance.Spec `yaml:"controls" jsonschema:"required,minItems=1"`
	}
	doc, out := strictyaml.Decode(file, data, &content)
	first := map[string]int{}
	for i, spec := range content.Controls {
		at := strictyaml.Index("controls", i)
		if j, dup := first[spec.ID]; dup && spec.ID != "" {
			out = append(out, doc.Problem(at+".id", "", "control %s is described twice; the first is controls[%d]", spec.ID, j))
		} else {
			first[spec.ID] = i
		}
		out = append(out, c.conditions(doc, at, spec)...)
		if spec.Goss == nil && spec.ID != "" && !slices.ContainsFunc(spec.Waived, func(w compliance.BuiltIn) bool { return len(w.When)+len(w.Families) == 0 }) {
			out = append(out, doc.Problem(at+".id", "goss, or a waiver without conditions", "%s: goss is required but missing", spec.ID))
		}
		if p, ok := c.Parameters[spec.Ports]; spec.Ports != "" && (!ok || p.Type != "ports") {
			out = append(out, doc.Problem(at+".ports", "a parameter of type ports", "%s: %q is not a parameter of the component that lists ports", spec.ID, spec.Ports))
		}
		out = append(out, snapshotRules(doc, at+".snapshot", spec)...)
		if !doc.Valid(at + ".goss") {
			continue
		}
		for _, p := range spec.Goss.Check() {
			where := at + ".goss"
			for _, key := range p.Path {
				where = strictyaml.Join(where, key)
			}
			out = append(out, doc.KeyProblem(where, p.Allowed, "%s: %s", spec.ID, p.Message))
		}
	}
	return content.Controls, out
}

// snapshotRules checks a control's rules for the image's snapshot.
func snapshotRules(doc *strictyaml.Document, at string, spec compliance.Spec) problem.List {
	if !doc.Valid(at) {
		return nil
	}
	var out problem.List
	for i, rule := range spec.Snapshot {
		for _, p := range rule.Check() {
			where := strictyaml.Index(at, i)
			for _, key := range p.Path {
				if n, err := strconv.Atoi(key); err == nil {
					where = strictyaml.Index(where, n)
					continue
				}
				where = strictyaml.Join(where, key)
			}
			out = append(out, doc.Problem(where, p.Allowed, "%s: %s", spec.ID, p.Message))
		}
	}
	return out
}

// conditions checks the conditions of a control: when, families and waived.
func (c *Component) conditions(doc *strictyaml.Document, at string, spec compliance.Spec) problem.List {
	out := c.when(doc, at+".when", spec.ID, spec.When)
	out = append(out, c.knownFamilies(doc, at+".families", spec.ID, spec.Families)...)
	for i, w := range spec.Waived {
		waived := strictyaml.Index(at+".waived", i)
		out = append(out, c.when(doc, waived+".when", spec.ID, w.When)...)
		out = append(out, c.knownFamilies(doc, waived+".families", spec.ID, w.Families)...)
	}
	return out
}

// knownFamilies checks that a condition names families of the component.
func (c *Component) knownFamilies(doc *strictyaml.Document, at, id string, families []string) problem.List {
	var out problem.List
	for i, family := range families {
		if where := strictyaml.Index(at, i); doc.Valid(where) && !slices.Contains(c.Families, family) {
			out = append(out, doc.Problem(where, strings.Join(c.Families, ", "), "%s: the component does not support family %q", id, family))
		}
	}
	return out
}

func (c *Component) when(doc *strictyaml.Document, at, id string, when map[string][]strictyaml.Scalar) problem.List {
	var out problem.List
	for name, values := range when {
		where := at + "." + name
		p, ok := c.Parameters[name]
		if !ok {
			out = append(out, doc.KeyProblem(where, orNone(c.parameterNames()), "%s: the component has no parameter %q", id, name))
			continue
		}
		for i, v := range values {
			if message, allowed := p.Refuse(string(v)); message != "" {
				out = append(out, doc.Problem(strictyaml.Index(where, i), allowed, "%s: %s can never have this value: %s", id, name, message))
			}
		}
	}
	return out
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
