package component

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/problem"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/strictyaml"
)

// Refusal describes a combination in which a component cannot be used. It
// applies if all of its conditions hold.
type Refusal struct {
	When     map[string][]strictyaml.Scalar            `yaml:"when"`                              // parameters of the component have one of these values
	With     map[string]map[string][]strictyaml.Scalar `yaml:"with"`                              // other components are in the recipe, and their parameters have one of these values
	Families []string                                  `yaml:"families" jsonschema:"minLength=1"` // the recipe's family is one of these
	Set      []string                                  `yaml:"set" jsonschema:"minLength=1"`      // these parameters are not empty
	Given    []string                                  `yaml:"given" jsonschema:"minLength=1"`    // the recipe sets one of these to a value other than the default: each is a problem
	Missing  []string                                  `yaml:"missing" jsonschema:"minLength=1"`  // one of these is empty: each is a problem
	Reason   string                                    `yaml:"reason" jsonschema:"required,minLength=20"`
	Instead  string                                    `yaml:"instead" jsonschema:"minLength=1"` // what is accepted instead
}

// checkRules checks that everything the rules name exists.
func (c *Component) checkRules(doc *strictyaml.Document) problem.List {
	var out problem.List
	for i, rule := range c.Refuses {
		at := strictyaml.Index("refuses", i)
		out = append(out, c.when(doc, at+".when", "refuses", rule.When)...)
		out = append(out, c.knownFamilies(doc, at+".families", "refuses", rule.Families)...)
		for key, names := range map[string][]string{"set": rule.Set, "given": rule.Given, "missing": rule.Missing} {
			for j, name := range names {
				if _, ok := c.Parameters[name]; !ok {
					out = append(out, doc.Problem(strictyaml.Index(at+"."+key, j), orNone(c.parameterNames()), "refuses: the component has no parameter %q%s", name, didYouMean(name, c.parameterNames())))
				}
			}
		}
		if len(rule.When)+len(rule.With)+len(rule.Families)+len(rule.Set)+len(rule.Given)+len(rule.Missing) == 0 {
			out = append(out, doc.Problem(at, "when, with, families, set, given or missing", "a rule without a condition refuses every recipe"))
		}
	}
	return out
}

// refused returns the problems of combinations in which the recipe's components
// cannot be used.
func refused(r *recipe.Recipe, selected []Selected) problem.List {
	byName := map[string]Selected{}
	for _, s := range selected {
		byName[s.Name] = s
	}
	var out problem.List
	for i, use := range r.Components {
		s, ok := byName[use.Name]
		if !ok {
			continue
		}
		at := fmt.Sprintf("components[%d]", i)
		if slices.ContainsFunc(slices.Collect(maps.Keys(s.Parameters)), func(name string) bool { _, known := s.Values[name]; return !known }) {
			continue // a value is missing or refused, so the rule cannot be evaluated
		}
		for _, rule := range s.Refuses {
			if rule.applies(s, byName) {
				out = append(out, rule.problems(r, at, use, s)...)
			}
		}
	}
	return out
}

// applies reports whether the conditions hold, except given and missing, which
// are problems one by one.
func (rule Refusal) applies(s Selected, selected map[string]Selected) bool {
	if len(rule.Families) > 0 && !slices.Contains(rule.Families, s.Family) {
		return false
	}
	if !haveOneOf(s.Values, rule.When) {
		return false
	}
	for name, values := range rule.With {
		other, ok := selected[name]
		if !ok || !haveOneOf(other.Values, values) {
			return false
		}
	}
	return !slices.ContainsFunc(rule.Set, func(name string) bool { return s.Values[name] == "" })
}

func haveOneOf(have map[string]string, wanted map[string][]strictyaml.Scalar) bool {
	for name, values := range wanted {
		if !slices.Contains(values, strictyaml.Scalar(have[name])) {
			return false
		}
	}
	return true
}

// problems returns the problems of a rule that applies, each at the part of the
// recipe that causes it.
func (rule Refusal) problems(r *recipe.Recipe, at string, use recipe.Component, s Selected) problem.List {
	var out problem.List
	for _, name := range rule.Missing {
		if s.Values[name] == "" {
			out = append(out, r.Problem(at+".parameters."+name, s.Parameters[name].accepts(), "component %s needs the parameter %s here: %s", s.Name, name, rule.Reason))
		}
	}
	for _, name := range rule.Given {
		given, ok := use.Parameters[name]
		if ok && (s.Parameters[name].Default == nil || given != string(*s.Parameters[name].Default)) {
			out = append(out, r.Problem(at+".parameters."+name, rule.Instead, "parameter %s of %s: %s", name, s.Name, rule.Reason))
		}
	}
	if len(rule.Missing)+len(rule.Given) > 0 {
		return out
	}
	where := at + ".name"
	for _, name := range slices.Concat(rule.Set, slices.Sorted(maps.Keys(rule.When))) {
		if _, ok := use.Parameters[name]; ok {
			where = at + ".parameters." + name
			break
		}
	}
	return append(out, r.Problem(where, rule.Instead, "component %s: %s", s.Name, rule.Reason))
}

// forbidden returns a problem for each package, unit and port of a component
// that a control of the same image forbids, unless the control is waived: by the
// recipe, or by one of these shared waivers.
func forbidden(r *recipe.Recipe, selected []Selected, shared []string) problem.List {
	waived := map[string]bool{}
	for _, id := range shared {
		waived[id] = true
	}
	for _, w := range r.Checks.Waivers {
		waived[w.Control] = true
	}
	var out problem.List
	for i, use := range r.Components {
		at := slices.IndexFunc(selected, func(s Selected) bool { return s.Name == use.Name })
		if at < 0 {
			continue
		}
		s, where := selected[at], fmt.Sprintf("components[%d].name", i)
		for _, owner := range selected {
			if owner.Name == s.Name {
				continue
			}
			for _, control := range owner.Controls {
				if waived[control.ID] || !control.AppliesTo(owner.Family, owner.Values) || control.SwitchedOff(owner.Family, owner.Values) != "" {
					continue
				}
				way := "a waiver in checks.waivers with control: " + control.ID + ", reason, author, approver, created and expires"
				for _, wanted := range s.Wanted() {
					if name := wanted.Name; control.Goss.Forbids("package", name) {
						out = append(out, r.Problem(where, way, "component %s installs the package %s, which control %s of component %s forbids: %s", s.Name, name, control.ID, owner.Name, control.Title))
					}
				}
				for _, unit := range s.Services {
					if control.Goss.Forbids("service", unit) {
						out = append(out, r.Problem(where, way, "component %s enables %s, which control %s of component %s forbids: %s", s.Name, unit, control.ID, owner.Name, control.Title))
					}
				}
				if control.Ports == "" {
					continue
				}
				open := strings.Split(owner.Values[control.Ports], ",")
				for _, port := range s.Ports {
					if !slices.Contains(open, fmt.Sprint(port)) {
						out = append(out, r.Problem(where, fmt.Sprintf("parameter %s of %s with the port, such as %q, or %s", control.Ports, owner.Name, strings.Join(append(open, fmt.Sprint(port)), ","), way),
							"component %s listens on port %d, which control %s of component %s forbids: %s", s.Name, port, control.ID, owner.Name, control.Title))
					}
				}
			}
		}
	}
	return out
}

// sentence describes the refusal: its conditions, then the reason.
func (rule Refusal) sentence() string {
	var parts []string
	parts = append(parts, oneOf("", rule.When)...)
	for _, name := range slices.Sorted(maps.Keys(rule.With)) {
		if len(rule.With[name]) == 0 {
			parts = append(parts, "with "+name)
		}
		parts = append(parts, oneOf("with "+name+" of ", rule.With[name])...)
	}
	if len(rule.Families) > 0 {
		parts = append(parts, "on "+strings.Join(rule.Families, ", "))
	}
	for _, list := range []struct {
		word  string
		names []string
	}{{"", rule.Set}, {"", rule.Given}, {"without ", rule.Missing}} {
		if len(list.names) > 0 {
			parts = append(parts, list.word+strings.Join(quoted(list.names), " or "))
		}
	}
	return strings.Join(parts, ", ") + ": " + rule.Reason
}

// oneOf are conditions on parameters for readers, such as "`engine: docker-ce`".
func oneOf(prefix string, all map[string][]strictyaml.Scalar) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		var words []string
		for _, v := range all[name] {
			words = append(words, string(v))
		}
		out = append(out, prefix+"`"+name+": "+strings.Join(words, " or ")+"`")
	}
	return out
}
