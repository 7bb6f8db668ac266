package cli

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/component"
)

// componentView is a component as the commands print it in JSON.
type componentView struct {
	Name        string                   `json:"name"`
	Description string                   `json:"description"`
	Families    []string                 `json:"families"`
	NeverRun    []string                 `json:"neverRun,omitempty"` // families on whose guests it was never run
	Order       int                      `json:"order"`
	Requires    []string                 `json:"requires,omitempty"`
	Conflicts   []string                 `json:"conflicts,omitempty"`
	Packages    []packageView            `json:"packages,omitempty"`
	Upgrade     bool                     `json:"upgrade,omitempty"` // the image's packages are upgraded in the same run
	Files       []string                 `json:"files,omitempty"`
	Services    []string                 `json:"services,omitempty"`
	Parameters  map[string]parameterView `json:"parameters,omitempty"`
	Controls    []controlView            `json:"controls,omitempty"`
}

type parameterView struct {
	Type        string   `json:"type"`
	Default     *string  `json:"default,omitempty"` // absent: it must be given
	Allowed     []string `json:"allowed,omitempty"`
	Description string   `json:"description"`
}

type packageView struct {
	Name       string `json:"name"`
	Conditions string `json:"conditions,omitempty"` // empty: it is always installed
}

type controlView struct {
	ID       string   `json:"id"`
	Severity string   `json:"severity"`
	Title    string   `json:"title"`
	CIS      []string `json:"cis,omitempty"`
}

func (a *app) components() *cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "List the components a recipe can name",
		Example: "  ami-factory components list\n  ami-factory components list --output json | jq -r '.[].name'",
		Args:    takes(),
		RunE:    func(*cobra.Command, []string) error { return a.listComponents() },
	}
	show := &cobra.Command{
		Use: "show COMPONENT", Short: "Show a component's packages, parameters, files and controls",
		Example: "  ami-factory components show hardening\n  ami-factory components show docker --output json | jq .parameters",
		Args:    takes("one COMPONENT"),
		RunE:    func(_ *cobra.Command, given []string) error { return a.showComponent(given[0]) },

		ValidArgsFunction: once(a.componentNames),
	}
	a.registerUserData(list)
	a.registerUserData(show)
	return group(&cobra.Command{
		Use:   "components",
		Short: "List and show what can be put into an image",
		Long: `List and show components: what can be put into an image, the parameters that a
recipe can set, and the controls that a component proves. The output is on stdout.`,
		Example: `  ami-factory components list
  ami-factory components show hardening`,
	}, list, show)
}

func (a *app) loadComponents(names ...string) ([]*component.Component, error) {
	fsys, err := a.userdataFS()
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		if names, err = component.Names(fsys); err != nil {
			return nil, err
		}
	}
	out := make([]*component.Component, 0, len(names))
	for _, name := range names {
		c, problems, err := component.Load(fsys, name)
		if err != nil {
			return nil, err
		}
		if err := problems.Err(); err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

func (a *app) listComponents() error {
	all, err := a.loadComponents()
	if err != nil {
		return err
	}
	if a.format == "json" {
		views := make([]componentView, 0, len(all))
		for _, c := range all {
			v := view(c)
			v.Parameters, v.Controls = nil, nil
			views = append(views, v)
		}
		return a.json(views)
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "COMPONENT\tCONTROLS\tFAMILIES\tDESCRIPTION")
	starred := false
	for _, c := range all {
		families := make([]string, 0, len(c.Families))
		for _, family := range c.Families {
			if slices.Contains(c.NeverRun(), family) {
				family, starred = family+"*", true
			}
			families = append(families, family)
		}
		_, _ = fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", c.Name, len(c.Controls), strings.Join(families, " "), firstSentence(c.Description))
	}
	if err := w.Flush(); err != nil || !starred {
		return err
	}
	_, err = fmt.Fprintln(a.out, "\n* never run on a guest of this family")
	return err
}

// firstSentence is what a table has room for; the rest is in `components show`.
func firstSentence(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if first, _, more := strings.Cut(text, ". "); more {
		return first + "."
	}
	return text
}

func (a *app) showComponent(name string) error {
	found, err := a.loadComponents(name)
	if err != nil {
		return err
	}
	if a.format == "json" {
		return a.json(view(found[0]))
	}
	return view(found[0]).write(a.out)
}

// write prints the component for people; its page has the same as Markdown.
func (v componentView) write(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(label, format string, values ...any) {
		if text := fmt.Sprintf(format, values...); text != "" {
			_, _ = fmt.Fprintf(w, "%s\t%s\n", label, text)
		}
	}
	row("component", "%s", v.Name)
	row("description", "%s", v.Description)
	row("families", "%s", strings.Join(v.Families, ", "))
	row("order", "%d", v.Order)
	row("requires", "%s", strings.Join(v.Requires, ", "))
	row("conflicts", "%s", strings.Join(v.Conflicts, ", "))
	for i, p := range v.Packages {
		row(first(i, "packages"), "%s", strings.TrimSpace(p.Name+"  "+strings.ReplaceAll(p.Conditions, "`", "")))
	}
	if v.Upgrade {
		row("upgrades", "all packages that the image has, in the same run")
	}
	row("services", "%s", strings.Join(v.Services, ", "))
	for i, file := range v.Files {
		row(first(i, "files"), "%s", file)
	}
	if len(v.Parameters) > 0 {
		_, _ = fmt.Fprint(w, "\nPARAMETER\tTYPE\tDEFAULT\tALLOWED\tDESCRIPTION\n")
	}
	for _, name := range slices.Sorted(maps.Keys(v.Parameters)) {
		p := v.Parameters[name]
		standard := "(required)"
		if p.Default != nil {
			standard = cmp.Or(*p.Default, "(empty)")
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", name, p.Type, standard, strings.Join(p.Allowed, ", "), p.Description)
	}
	if len(v.Controls) > 0 {
		_, _ = fmt.Fprint(w, "\nCONTROL\tSEVERITY\tCIS\tTITLE\n")
	}
	for _, c := range v.Controls {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", c.ID, c.Severity, strings.Join(c.CIS, ", "), c.Title)
	}
	return w.Flush()
}

func view(c *component.Component) componentView {
	v := componentView{
		Name: c.Name, Description: c.Description, Families: c.Families, NeverRun: c.NeverRun(), Order: c.Order, Requires: c.Requires,
		Conflicts: c.Conflicts, Upgrade: c.Upgrade, Files: c.Files, Services: c.Services, Parameters: map[string]parameterView{},
	}
	for _, p := range c.Packages {
		v.Packages = append(v.Packages, packageView{p.Name, p.Conditions()})
	}
	for name, p := range c.Parameters {
		pv := parameterView{Type: p.Type, Description: p.Description}
		if p.Default != nil {
			text := string(*p.Default)
			pv.Default = &text
		}
		for _, allowed := range p.Allowed {
			pv.Allowed = append(pv.Allowed, string(allowed))
		}
		v.Parameters[name] = pv
	}
	for _, spec := range c.Controls {
		v.Controls = append(v.Controls, controlOf(spec))
	}
	return v
}

func controlOf(spec compliance.Spec) controlView {
	return controlView{ID: spec.ID, Severity: spec.Severity, Title: spec.Title, CIS: spec.CIS}
}
