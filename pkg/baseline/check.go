package baseline

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/problem"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/waiver"
)

// Check finds where a recipe is below the baseline. Each problem points into the
// recipe and names the line of the baseline. controls are the controls of the
// recipe's image, or nil if they are unknown because its components have
// problems. Shared waivers that hold for the recipe count like its own; problems
// with them point into their files.
func (b *Baseline) Check(r *recipe.Recipe, controls []compliance.Control, shared ...waiver.Shared) problem.List {
	c := check{Baseline: b, recipe: r, controls: map[string]compliance.Control{}}
	for i, w := range r.Checks.Waivers {
		at := fmt.Sprintf("checks.waivers[%d].", i)
		c.given = append(c.given, given{waiver.Waiver(w), func(field, allowed, format string, args ...any) problem.Problem {
			return r.Problem(at+field, allowed, format, args...)
		}})
	}
	for _, s := range shared {
		c.given = append(c.given, given{s.Waiver, s.Problem})
	}
	for _, control := range controls {
		c.controls[control.ID] = control
	}
	complete := c.components(controls == nil)
	c.gate()
	c.waivers()
	// The controls of a missing component are missing too: report the component only.
	if complete && controls != nil {
		c.required()
	}
	return marked(c.problems.Sort())
}

type check struct {
	*Baseline
	recipe   *recipe.Recipe
	controls map[string]compliance.Control
	given    []given // waivers
	problems problem.List
}

// given is a waiver with where it was written.
type given struct {
	waiver.Waiver
	problem func(field, allowed, format string, args ...any) problem.Problem
}

func (c *check) fail(at, allowed, format string, args ...any) {
	c.problems = append(c.problems, c.recipe.Problem(at, allowed, format, args...))
}

// components reports missing components, and returns whether none is missing. If
// the recipe's use of components is wrong, a misspelt component has already been
// reported.
func (c *check) components(wrong bool) bool {
	complete := true
	for i, name := range c.Components {
		if slices.ContainsFunc(c.recipe.Components, func(use recipe.Component) bool { return use.Name == name }) || c.excepted(c.recipe.Name, name) {
			continue
		}
		complete = false
		if !c.recipe.Valid("components") {
			continue // the list is not known; its own problems say why
		}
		if wrong && slices.ContainsFunc(c.recipe.Components, func(use recipe.Component) bool { return problem.Nearest(use.Name, []string{name}) != "" }) {
			continue
		}
		c.fail("components", "", "component %s is missing, but the baseline requires it in every image (%s)", name, c.line(fmt.Sprintf("components[%d]", i)))
	}
	return complete
}

func (c *check) gate() {
	own, least := c.recipe.Gate.Severity, c.Gate.Severity
	if !known(own) || !known(least) || c.excepted(c.recipe.Name, partGate) || compliance.AtLeast(least, own) {
		return
	}
	c.fail("gate.severity", strings.Join(severitiesUpTo(least), ", "), "gate %s accepts failures of severity %s, which the baseline rejects (%s)", own, least, c.line("gate.severity"))
}

// known reports whether the decoders have accepted the severity.
func known(severity string) bool { return slices.Contains(compliance.Severities(), severity) }

func severitiesUpTo(most string) []string {
	all := compliance.Severities()
	return all[:slices.Index(all, most)+1]
}

// waivers checks the severities of waived controls. Waivers of required controls
// are reported with the control.
func (c *check) waivers() {
	most := c.Waivers.Severity
	if most == "" || c.excepted(c.recipe.Name, partWaivers) {
		return
	}
	for _, w := range c.given {
		control, ok := c.controls[w.Control]
		field := "control"
		if w.Control == "" {
			field = "vulnerability"
		}
		term, dated := w.Term()
		say := func(field, format string, args ...any) {
			c.problems = append(c.problems, w.problem(field, "", format, args...))
		}
		switch {
		case c.requires(w.Control):
		case most == "none":
			what := "control " + w.Control
			if w.Control == "" {
				what = "vulnerability " + w.Subject()
			}
			say(field, "%s is waived, but the baseline allows no waivers (%s)", what, c.line("waivers.severity"))
		case !ok: // the severity of a vulnerability is known when the image is judged
		case !compliance.AtLeast(most, control.Severity):
			say(field, "control %s of severity %s is waived, but the baseline allows waivers only up to severity %s (%s)", w.Control, control.Severity, most, c.line("waivers.severity"))
		case dated && term > c.Waivers.Days.For(control.Severity):
			c.problems = append(c.problems, w.problem("expires", fmt.Sprintf("at most %d days after created", c.Waivers.Days.For(control.Severity)),
				"control %s of severity %s is waived for %d days, but the baseline allows %d (%s)", w.Control, control.Severity, term, c.Waivers.Days.For(control.Severity), c.line("waivers")))
		}
	}
}

func (c *check) requires(control string) bool {
	return slices.Contains(c.Controls, control) && !c.excepted(c.recipe.Name, control)
}

// required checks that each required control is in the image, is checked, is not
// waived, and is severe enough for the recipe's gate to reject the image.
func (c *check) required() {
	for i, id := range c.Controls {
		if !c.requires(id) {
			continue
		}
		where := c.line(fmt.Sprintf("controls[%d]", i))
		control, ok := c.controls[id]
		if !ok {
			c.fail("components", "", "no component checks control %s, but the baseline requires it of every image (%s)", id, where)
			continue
		}
		if control.SwitchedOff != "" {
			c.fail("components", "", "component %s does not check control %s in this image (%s), but the baseline requires it of every image (%s)", control.Component, id, strings.TrimSuffix(control.SwitchedOff, "."), where)
		}
		if j := slices.IndexFunc(c.given, func(w given) bool { return w.Control == id }); j >= 0 {
			c.problems = append(c.problems, c.given[j].problem("control", "", "control %s is waived, but the baseline requires it of every image (%s)", id, where))
		}
		if own := c.recipe.Gate.Severity; known(own) && !compliance.AtLeast(control.Severity, own) {
			c.fail("gate.severity", strings.Join(severitiesUpTo(control.Severity), ", "), "gate %s would accept an image that fails control %s of severity %s, but the baseline requires this control of every image (%s)", own, id, control.Severity, where)
		}
	}
}

// Pointers finds pointers of a recipe that also belong to another recipe: a
// pointer must lead to the images of exactly one recipe. Accounts and regions
// make no difference, because one name with two meanings misleads people who
// move a workload. A pointer must not be a path below another pointer either,
// because a policy or a GetParametersByPath for one would reach the other. Two
// pointers must not differ only in upper and lower case: SSM distinguishes them,
// people do not.
func Pointers(r *recipe.Recipe, all []*recipe.Recipe) problem.List {
	var out problem.List
	if !r.Valid("name") {
		return nil // without a name it is not known which recipe this is
	}
	for i, own := range r.Pointers.Parameters {
		if own == "" {
			continue
		}
		at := fmt.Sprintf("pointers.parameters[%d]", i)
		for _, other := range all {
			if other.Name == r.Name || other.Problem("name", "", "").File == r.Problem("name", "", "").File {
				continue // the recipe itself, perhaps with a name other than its file's
			}
			for j, theirs := range other.Pointers.Parameters {
				const allowed = "a name that no other recipe has, such as /ami-factory/<recipe>/latest"
				p := other.Problem(fmt.Sprintf("pointers.parameters[%d]", j), "", "")
				where := fmt.Sprintf("recipe %s (%s:%d:%d)", other.Name, p.File, p.Line, p.Column)
				a, b := strings.ToLower(own), strings.ToLower(theirs)
				switch {
				case theirs == "":
				case own == theirs:
					out = append(out, r.Problem(at, allowed, "pointer %s belongs to %s", own, where))
				case a == b:
					out = append(out, r.Problem(at, allowed, "pointer %s differs from %s of %s only in upper and lower case", own, theirs, where))
				case strings.HasPrefix(a, b+"/"):
					out = append(out, r.Problem(at, allowed, "pointer %s is below pointer %s of %s", own, theirs, where))
				case strings.HasPrefix(b, a+"/"):
					out = append(out, r.Problem(at, allowed, "pointer %s is above pointer %s of %s", own, theirs, where))
				}
			}
		}
	}
	return marked(out.Sort())
}
