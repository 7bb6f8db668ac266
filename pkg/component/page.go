package component

import (
	"fmt"
	"strings"
)

// PageFile is the name of a component's page in its directory.
const PageFile = "README.md"

// Page renders the component's documentation as Markdown, from component.yaml
// and checks.yaml: its purpose, its parameters, what it puts into an image and
// what it proves.
func (c *Component) Page() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n%s.\n\n", c.Name, strings.TrimRight(strings.TrimSpace(c.Description), "."))
	b.WriteString("<!-- Made of component.yaml and checks.yaml by: go test ./userdata -update -->\n\n")
	row := func(what string, values []string) {
		if len(values) > 0 {
			fmt.Fprintf(&b, "- %s: %s\n", what, strings.Join(values, ", "))
		}
	}
	row("families", c.Families)
	row("never run on a guest of", c.NeverRun())
	fmt.Fprintf(&b, "- place in the order of installation: %d\n", c.Order)
	row("requires", c.Requires)
	row("excludes", c.Conflicts)
	row("packages", c.packageList())
	if c.Upgrade {
		row("upgrades", []string{"all packages that the image has, in the same run"})
	}
	row("puts into the image", quoted(c.Files))
	row("enabled for the first boot", quoted(c.Services))
	var ports []string
	for _, port := range c.Ports {
		ports = append(ports, fmt.Sprint(port))
	}
	row("listens on ports", ports)
	var notes []string
	for _, file := range c.Notes {
		notes = append(notes, fmt.Sprintf("[%s](%s)", strings.TrimSuffix(file, ".md"), file))
	}
	row("more", notes)

	if len(c.Parameters) > 0 {
		b.WriteString("\n## Parameters\n\n| parameter | type | default | meaning |\n|---|---|---|---|\n")
		for _, name := range c.parameterNames() {
			p := c.Parameters[name]
			kind := p.Type + p.bounds()
			if len(p.Allowed) > 0 || p.Form != "" {
				kind = p.accepts()
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, cell(kind), defaultOf(p), cell(p.Description))
		}
	}
	if len(c.Refuses) > 0 {
		b.WriteString("\n## Refused\n\n")
		for _, refusal := range c.Refuses {
			fmt.Fprintf(&b, "- %s\n", refusal.sentence())
		}
	}
	b.WriteString("\n## Controls\n\n| control | severity | what is proved | references |\n|---|---|---|---|\n")
	for _, spec := range c.Controls {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", spec.ID, spec.Severity, cell(spec.Title), cell(strings.Join(spec.CIS, ", ")))
	}
	c.writeSnapshotRules(&b)
	return []byte(b.String())
}

// writeSnapshotRules lists the rules for the snapshot, by control.
func (c *Component) writeSnapshotRules(b *strings.Builder) {
	heading := "\n## Read from the snapshot\n\nWithout running the image, before its first boot:\n\n| control | what has to be true |\n|---|---|\n"
	for _, spec := range c.Controls {
		var statements []string
		for _, rule := range spec.Snapshot {
			for _, s := range rule.Statements() {
				statements = append(statements, "`"+cell(s)+"`")
			}
		}
		if len(statements) > 0 {
			fmt.Fprintf(b, "%s| %s | %s |\n", heading, spec.ID, strings.Join(statements, ", "))
			heading = ""
		}
	}
}

func (c *Component) packageList() []string {
	out := make([]string, 0, len(c.Packages))
	for _, p := range c.Packages {
		text := "`" + p.Name + "`"
		if conditions := p.Conditions(); conditions != "" {
			text += " (" + conditions + ")"
		}
		out = append(out, text)
	}
	return out
}

func defaultOf(p Parameter) string {
	switch {
	case p.Default == nil:
		return "none: it must be given"
	case *p.Default == "":
		return "empty"
	default:
		return "`" + cell(string(*p.Default)) + "`"
	}
}

func quoted(names []string) []string {
	out := make([]string, 0, len(names))
	for _, n := range names {
		out = append(out, "`"+n+"`")
	}
	return out
}

// cell escapes text for one cell of a Markdown table.
func cell(text string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "|", `\|`)
}
