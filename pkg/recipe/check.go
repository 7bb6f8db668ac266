package recipe

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/ami-factory/ami-factory/pkg/problem"
	"github.com/ami-factory/ami-factory/pkg/waiver"
)

// checker checks the rules that tags cannot express: those between fields, and
// those of AWS. It does not report missing or malformed values, which the
// decoder has reported.
type checker struct {
	recipe   *Recipe
	now      time.Time
	problems problem.List
}

func (c *checker) fail(at, allowed, format string, args ...any) {
	c.problems = append(c.problems, c.recipe.Problem(at, allowed, format, args...))
}

func (c *checker) warn(at, allowed, format string, args ...any) {
	p := c.recipe.Problem(at, allowed, format, args...)
	p.Severity = problem.Warning
	c.problems = append(c.problems, p)
}

func (c *checker) check() {
	c.name()
	c.source()
	c.builder()
	c.components()
	c.waivers()
	c.engines()
	c.distribution()
	c.sharing()
	c.pointers()
	c.durations()
	c.vulnerabilities()
}

func (c *checker) name() {
	r := c.recipe
	base := strings.TrimSuffix(path.Base(r.doc.File()), path.Ext(r.doc.File()))
	if r.doc.Valid("name") && r.Name != base {
		c.fail("name", base, "name is %q, but the file is called %s", r.Name, path.Base(r.doc.File()))
	}
}

func (c *checker) source() {
	s := c.recipe.Source
	if !c.recipe.Has("source") {
		return
	}
	hasParameter, hasFilters := c.recipe.Has("source.parameter"), c.recipe.Has("source.filters")
	switch {
	case hasParameter && hasFilters:
		c.fail("source.filters", "either parameter or filters", "source has both parameter and filters")
	case !hasParameter && !hasFilters:
		c.fail("source", "either parameter or filters", "source has no parameter and no filters, so there is no base image")
	}
	seen := map[string]int{}
	for i, f := range s.Filters {
		at := fmt.Sprintf("source.filters[%d].name", i)
		if f.Name == "owner-id" || f.Name == "owner-alias" {
			c.fail(at, "", "filter %s is not needed: source.owner is always enforced", f.Name)
		}
		if j, dup := seen[f.Name]; dup && f.Name != "" {
			c.fail(at, "", "filter %s is listed twice; the first is source.filters[%d]", f.Name, j)
			continue
		}
		seen[f.Name] = i
	}
}

var (
	instanceType = regexp.MustCompile(`^([a-z]+)([0-9]+)([a-z-]*)\.([a-z0-9-]+)$`)
	subnetID     = regexp.MustCompile(`^subnet-[0-9a-f]{8}([0-9a-f]{9})?$`)
)

// ArchitectureOf returns the architecture of an instance type from its name: a g
// after the generation's number or the family a1 means Graviton, arm64. ok is
// false for mac types and unknown forms.
// https://docs.aws.amazon.com/ec2/latest/instancetypes/instance-type-names.html
func ArchitectureOf(name string) (architecture string, ok bool) {
	m := instanceType.FindStringSubmatch(name)
	switch {
	case m == nil || m[1] == "mac":
		return "", false
	case m[1]+m[2] == "a1", strings.HasPrefix(m[3], "g"):
		return "arm64", true
	default:
		return "x86_64", true
	}
}

func (c *checker) builder() {
	b := c.recipe.Builder
	seen := map[string]bool{}
	for i, t := range b.InstanceTypes {
		at := fmt.Sprintf("builder.instanceTypes[%d]", i)
		if t == "" {
			continue
		}
		architecture, ok := ArchitectureOf(t)
		switch {
		case !ok:
			c.fail(at, "an EC2 instance type such as t3.medium or m7g.large", "%q is not an instance type that can build an image", t)
		case seen[t]:
			c.fail(at, "", "instance type %s is listed twice", t)
		case c.recipe.doc.Valid("architecture") && architecture != c.recipe.Architecture:
			c.fail(at, "types of architecture "+c.recipe.Architecture, "instance type %s is %s, but the recipe's architecture is %s", t, architecture, c.recipe.Architecture)
		}
		seen[t] = true
	}
	subnets := map[string]bool{}
	for i, s := range b.SubnetIDs {
		at := fmt.Sprintf("builder.subnetIds[%d]", i)
		switch {
		case !subnetID.MatchString(s):
			c.fail(at, "subnet- and 17 hexadecimal digits", "%q is not a subnet id", s)
		case subnets[s]:
			c.fail(at, "", "subnet %s is listed twice", s)
		}
		subnets[s] = true
	}
	c.key("builder.rootVolume.kmsKey", b.RootVolume.KMSKey, c.recipe.Home().Name)
	c.cloudConfig(b.CloudConfig)
}

// cloudConfig must be a part that cloud-init recognises: it ignores other text,
// with only a warning in its log.
func (c *checker) cloudConfig(text string) {
	const at, allowed = "builder.cloudConfig", "a YAML mapping in ASCII whose first line is #cloud-config"
	if text == "" {
		return
	}
	var settings map[string]any
	switch {
	case !strings.HasPrefix(text, "#cloud-config\n"):
		c.fail(at, allowed, "cloudConfig does not begin with the line #cloud-config, so cloud-init would ignore it")
	case strings.ContainsFunc(text, func(r rune) bool { return r > '~' || r < ' ' && r != '\n' && r != '\t' }):
		c.fail(at, allowed, "cloudConfig has characters beyond plain ASCII")
	case strings.Contains(text, "@@"):
		c.fail(at, allowed, "cloudConfig has @@, which the factory uses for its placeholders")
	default:
		if err := yaml.Load([]byte(text), &settings); err != nil {
			c.fail(at, allowed, "cloudConfig is not a YAML mapping: %v", err)
		}
	}
}

func (c *checker) components() {
	seen := map[string]int{}
	for i, comp := range c.recipe.Components {
		if comp.Name == "" {
			continue
		}
		if j, dup := seen[comp.Name]; dup {
			c.fail(fmt.Sprintf("components[%d].name", i), "", "component %s is listed twice; the first is components[%d]", comp.Name, j)
			continue
		}
		seen[comp.Name] = i
	}
}

func (c *checker) waivers() {
	seen := map[string]int{}
	for i, w := range c.recipe.Checks.Waivers {
		at := fmt.Sprintf("checks.waivers[%d]", i)
		given := waiver.Waiver(w)
		has := func(field string) bool { return c.recipe.Has(at + "." + field) }
		if !has("control") && !has("vulnerability") && !has("package") {
			c.fail(at, "either control, or vulnerability and package", "%s does not say what it accepts", at)
		}
		if j, dup := seen[given.Subject()]; dup && given.Subject() != "" {
			field := "control"
			if w.Control == "" {
				field = "vulnerability"
			}
			c.fail(at+"."+field, "", "%s is waived twice; the first is checks.waivers[%d]", given.Subject(), j)
		} else {
			seen[given.Subject()] = i
		}
		for _, f := range given.Check(c.now, func(field string) bool { return c.recipe.Valid(at + "." + field) }) {
			say := c.fail
			if f.Warning {
				say = c.warn
			}
			say(at+"."+f.Field, f.Allowed, "%s", f.Message)
		}
	}
}

// engines checks what can be checked without the files.
func (c *checker) engines() {
	e := c.recipe.Checks.Engines
	if e.Script != nil {
		c.distinct("checks.engines.script.files", "file", e.Script.Files)
		var ids []string
		for _, control := range e.Script.Controls {
			ids = append(ids, control.ID)
		}
		for i, id := range ids {
			if j := slices.Index(ids, id); j < i && id != "" {
				c.fail(fmt.Sprintf("checks.engines.script.controls[%d].id", i), "", "control %s is declared twice; the first is checks.engines.script.controls[%d]", id, j)
			}
		}
	}
	if e.OpenSCAP != nil {
		const at = "checks.engines.openscap."
		c.distinct(at+"notApplicable", "rule", e.OpenSCAP.NotApplicable)
		// Each entry excuses one rule, and minimumRules are evaluated: so at least as many
		// rules are proved as are excused, whatever is listed.
		if n, least := len(e.OpenSCAP.NotApplicable), e.OpenSCAP.MinimumRules; n > least && c.recipe.Valid(at+"minimumRules") {
			c.fail(at+"notApplicable", fmt.Sprintf("at most %d, which is minimumRules", least), "%d rules need not apply, and only %d must be evaluated: a scan must prove at least as much as it leaves out", n, least)
		}
		if (e.OpenSCAP.Program == "") != (e.OpenSCAP.ProgramSHA256 == "") {
			c.fail("checks.engines.openscap", "both program and programSHA256, or neither", "a program is fetched by its digest: program and programSHA256 belong together")
		}
	}
	if e.Bottlerocket != nil && e.Bottlerocket.Level != 0 && e.Bottlerocket.Report == "fips" {
		c.fail("checks.engines.bottlerocket.level", "a CIS report", "the report fips has no levels")
	}
}

// vulnerabilities checks the feeds: each once, of a time of the calendar, and none that
// the gate would refuse for its age.
func (c *checker) vulnerabilities() {
	v := c.recipe.Gate.Vulnerabilities
	if c.recipe.Has("gate.vulnerabilities.maximumAge") {
		c.span("gate.vulnerabilities.maximumAge", v.MaximumAge, time.Hour, 90*24*time.Hour)
	}
	if v.Scanner == InspectorScanner {
		for _, field := range []string{"feeds", "maximumAge"} {
			if at := "gate.vulnerabilities." + field; c.recipe.Has(at) {
				c.fail(at, "scanner "+FeedScanner, "%s is about feeds, and the scanner %s reads none: it has data of its own", field, InspectorScanner)
			}
		}
	}
	seen := map[string]int{}
	for i, f := range v.Feeds {
		at := fmt.Sprintf("gate.vulnerabilities.feeds[%d]", i)
		if j, dup := seen[f.SHA256]; dup && c.recipe.Valid(at+".sha256") {
			c.fail(at+".sha256", "", "the feed is listed twice; the first is gate.vulnerabilities.feeds[%d]", j)
		} else {
			seen[f.SHA256] = i
		}
		if !c.recipe.Valid(at + ".published") {
			continue
		}
		published, err := time.Parse(time.RFC3339, f.Published)
		switch age := c.now.Sub(published); {
		case err != nil:
			c.fail(at+".published", "a time such as 2026-11-30T06:00:00Z", "%q is not a time of the calendar", f.Published)
		case age < 0:
			c.fail(at+".published", "now or earlier, in UTC", "the feed would be published in the future, at %s", f.Published)
		case age > time.Duration(v.Age()):
			c.warn(at+".published", "", "the feed is stale: it is of %s, and maximumAge is %s; the gate fails until a newer one is pinned", f.Published, v.Age())
		}
	}
}

func (c *checker) durations() {
	r := c.recipe
	c.span("builder.timeout", r.Builder.Timeout, 5*time.Minute, 6*time.Hour)
	c.span("checks.timeout", r.Checks.Timeout, time.Minute, 2*time.Hour)
	c.span("approval.expires", r.Approval.Expires, time.Hour, 30*24*time.Hour)
	// AWS accepts deprecation times up to ten years ahead.
	c.span("retention.deprecateAfter", r.Retention.DeprecateAfter, 24*time.Hour, 3650*24*time.Hour)
	// EC2 reports a launch up to a day late, so a shorter time proves nothing.
	c.span("retention.removeAfter", r.Retention.RemoveAfter, 24*time.Hour, 3650*24*time.Hour)
}

func (c *checker) span(at string, d Duration, from, to time.Duration) {
	if !c.recipe.doc.Valid(at) {
		return
	}
	if t := time.Duration(d); t < from || t > to {
		c.fail(at, Duration(from).String()+" to "+Duration(to).String(), "%s is out of range: %s", at, d)
	}
}
