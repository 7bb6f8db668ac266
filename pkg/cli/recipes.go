package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ami-factory/ami-factory/pkg/baseline"
	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/pkg/container"
	"github.com/ami-factory/ami-factory/pkg/oss"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/problem"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/userdata/spec"
	"github.com/ami-factory/ami-factory/pkg/waiver"
	"github.com/ami-factory/ami-factory/userdata"
)

// userdataDir is the folder to read recipes and components from; empty for the
// copy built into the program.
func (a *app) userdataDir() (string, error) {
	dir := a.userdata
	if dir == "" {
		if _, err := os.Stat(filepath.Join("userdata", recipe.Dir)); err != nil {
			return "", nil
		}
		dir = "userdata"
	}
	if info, err := os.Stat(filepath.Join(dir, recipe.Dir)); err != nil || !info.IsDir() {
		return "", usage("%s has no folder %s: --userdata takes a folder laid out like the project's userdata/", dir, recipe.Dir)
	}
	return filepath.Abs(dir)
}

// registerUserData adds the flag of commands that read recipes and components.
func (a *app) registerUserData(c *cobra.Command) {
	c.Flags().StringVar(&a.userdata, "userdata", "",
		"`folder` of recipes and components (default: ./userdata if it exists, otherwise the copy built in)")
	_ = c.MarkFlagDirname("userdata") // the flag exists
}

func (a *app) userdataFS() (fs.FS, error) {
	dir, err := a.userdataDir()
	if err != nil || dir == "" {
		return userdata.FS, err
	}
	return os.DirFS(dir), nil
}

func (a *app) recipeCommands() *cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "List the recipes",
		Example: "  ami-factory recipes list\n  ami-factory recipes list --output json | jq -r '.[].name'",
		Args:    takes(),
		RunE:    func(*cobra.Command, []string) error { return a.listRecipes() },
	}
	a.registerUserData(list)
	fields := &cobra.Command{
		Use: "fields [FIELD]", Short: "Describe the fields of a recipe",
		Long: `Describe the fields of a recipe on stdout: type, default, meaning, what is allowed, an
example, and whether the field decides the content of the image, so that a change
needs a bake, or its release. With FIELD, such as builder or builder.timeout, only
that field and the fields below it.`,
		Example: "  ami-factory recipes fields\n  ami-factory recipes fields builder.timeout\n  ami-factory recipes fields distribution --output json",
		RunE: func(c *cobra.Command, given []string) error {
			if len(given) > 1 {
				return takes("one FIELD at most")(c, given)
			}
			return a.describeFields(c, strings.Join(given, ""))
		},
		ValidArgsFunction: once(func(*cobra.Command) ([]string, error) { return fieldNames(), nil }),
	}
	return group(&cobra.Command{
		Use:   "recipes",
		Short: "List the recipes, and describe the fields of a recipe",
		Long: `List the recipes, and describe the fields of a recipe. "ami-factory lint" checks
recipes, and "ami-factory plan" shows what one would build.`,
		Example: "  ami-factory recipes list\n  ami-factory recipes fields",
	}, list, fields)
}

// recipeView is a recipe as "recipes list" prints it in JSON.
type recipeView struct {
	Name         string `json:"name"`
	Family       string `json:"family"`
	Architecture string `json:"architecture"`
	Description  string `json:"description"`
}

// listRecipes lists what the files say, whether or not they are valid: lint says what
// is wrong with them.
func (a *app) listRecipes() error {
	fsys, err := a.userdataFS()
	if err != nil {
		return err
	}
	all, err := recipe.All(fsys, recipe.Options{Now: time.Now()})
	if err != nil {
		return err
	}
	views := make([]recipeView, 0, len(all))
	for _, r := range all {
		views = append(views, recipeView{r.Name, r.Family, r.Architecture, r.Description})
	}
	if a.format == "json" {
		return a.json(views)
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "RECIPE\tFAMILY\tARCHITECTURE\tDESCRIPTION")
	for _, v := range views {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", v.Name, v.Family, v.Architecture, v.Description)
	}
	return w.Flush()
}

// plainField is the path of a field without the marks of lists.
func plainField(path string) string { return strings.ReplaceAll(path, "[]", "") }

// fieldView is a field as "recipes fields" prints it in JSON.
type fieldView struct {
	recipe.Field
	Decides string `json:"decides,omitempty"` // content or release; absent if it has fields of its own
}

func fieldNames() []string {
	var out []string
	for _, f := range recipe.Fields() {
		out = append(out, plainField(f.Path))
	}
	return out
}

func (a *app) describeFields(c *cobra.Command, wanted string) error {
	wanted = plainField(wanted)
	var found []recipe.Field
	for _, f := range recipe.Fields() {
		if p := plainField(f.Path); wanted == "" || p == wanted || strings.HasPrefix(p, wanted+".") {
			found = append(found, f)
		}
	}
	if len(found) == 0 {
		near := ""
		if name := problem.Nearest(wanted, fieldNames()); name != "" {
			near = fmt.Sprintf("; did you mean %q?", name)
		}
		return usage("a recipe has no field %q%s\nSee '%s'", wanted, near, c.CommandPath())
	}
	sides := map[string]string{}
	for _, f := range plan.Fields() {
		sides[f.Path] = string(f.Side)
	}
	if a.format == "json" {
		views := make([]fieldView, 0, len(found))
		for _, f := range found {
			views = append(views, fieldView{f, sides[plainField(f.Path)]})
		}
		return a.json(views)
	}
	var b strings.Builder
	for _, f := range found {
		need := "required"
		switch {
		case f.Default != "":
			need = "default " + f.Default
		case f.Without != "":
			need = "default: " + f.Without
		}
		fmt.Fprintf(&b, "%s  (%s; %s)\n    %s\n", f.Path, f.Type, need, f.Meaning)
		if f.Allowed != "" {
			fmt.Fprintf(&b, "    allowed: %s\n", f.Allowed)
		}
		if side := sides[plainField(f.Path)]; side != "" {
			fmt.Fprintf(&b, "    decides: the image's %s\n", side)
		}
		if !f.Fields || len(found) == 1 {
			fmt.Fprintf(&b, "    example: %s\n", f.Example)
		}
	}
	_, err := io.WriteString(a.out, b.String())
	return err
}

func (a *app) lint() *cobra.Command {
	var given parameters
	c := &cobra.Command{
		Use:   "lint [RECIPE or FILE ...]",
		Short: "Check recipes and everything they use",
		Long: `Check recipes, the components they use, their parameters and checks, without a
network and without starting anything. Every problem is printed on stderr, with
file, line, column and what is allowed; "no errors" goes to stdout. Without
arguments all recipes are checked, and the list of allowed packages. The exit code is 1
if there is an error.

"ami-factory recipes fields" describes every field of a recipe.`,
		Example: `  ami-factory lint
  ami-factory lint debian-12-docker
  ami-factory lint userdata/recipes/debian-12-docker.yaml --output json`,
		RunE: func(_ *cobra.Command, names []string) error {
			fsys, err := a.userdataFS()
			if err != nil {
				return err
			}
			problems, err := lintAll(fsys, given.values, names)
			if err != nil {
				return err
			}
			return a.judge(problems)
		},
	}
	c.ValidArgsFunction = func(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		names, err := a.recipes(c)
		if err != nil {
			return nil, cobra.ShellCompDirectiveDefault
		}
		return names, cobra.ShellCompDirectiveDefault // files too
	}
	given.register(c)
	a.registerUserData(c)
	return c
}

// judge prints what a check found and makes errors the command's failure.
func (a *app) judge(problems problem.List) error {
	if a.format == "json" {
		a.printed = true
		if err := problems.WriteJSON(a.out); err != nil {
			return err
		}
	} else if err := problems.Print(a.coloured(a.err)); err != nil {
		return err
	}
	if problems.HasErrors() {
		return &exitError{code: exitFailed}
	}
	if a.format != "text" {
		return nil
	}
	_, err := fmt.Fprintln(a.out, "no errors")
	return err
}

func lintAll(fsys fs.FS, given component.Deployment, names []string) (problem.List, error) {
	now := time.Now()
	if len(names) == 0 {
		known, err := recipe.Names(fsys)
		if err == nil && len(known) == 0 {
			err = usage("there are no recipes to check: the folder %s has no file NAME.yaml", recipe.Dir)
		}
		if err != nil {
			return nil, err
		}
		out, err := plan.Lint(fsys, given, now)
		if err != nil {
			return nil, err
		}
		_, allowed, err := oss.Load(fsys, now)
		return append(out, allowed...).Sort(), err
	}
	var out problem.List
	for _, name := range names {
		problems, err := lintOne(fsys, given, name, now)
		if err != nil {
			return nil, err
		}
		out = append(out, problems...)
	}
	return out.Sort(), nil
}

// lintOne takes a recipe's name or the path of a file.
func lintOne(fsys fs.FS, given component.Deployment, name string, now time.Time) (problem.List, error) {
	if !strings.ContainsAny(name, `/\`) && filepath.Ext(name) == "" {
		return plan.Lint(fsys, given, now, name)
	}
	data, err := readArgument(name, "lint takes the name of a recipe or the path of a file")
	if err != nil {
		return nil, err
	}
	return plan.LintFile(name, data, fsys, given, now)
}

// readArgument reads the file that an argument names. takes says what the command
// takes, for an argument that names no file.
func readArgument(file, takes string) ([]byte, error) {
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, usage("%s does not exist; %s", file, takes)
	case err == nil && info.IsDir():
		return nil, usage("%s is a folder; %s", file, takes)
	case err != nil:
		return nil, err
	}
	return os.ReadFile(file)
}

func (a *app) schema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema [recipe, baseline, userdata, component, checks, waivers, oss or contract]",
		Short: "Print the JSON Schema of a kind of file, for editors",
		Long: `Print on stdout the JSON Schema of recipes (the default), of the baseline, of specs
of user data, of the files component.yaml and checks.yaml of components, of shared waivers,
of the list of allowed packages, or of contracts of containers. Editors with a YAML language server check and complete files
with it:

  # yaml-language-server: $schema=recipe.schema.json`,
		Example: `  ami-factory schema > recipe.schema.json
  ami-factory schema userdata > userdata.schema.json`,
		RunE: func(c *cobra.Command, given []string) error {
			what := "recipe"
			if len(given) > 0 {
				what = given[0]
			}
			schemas := map[string]func() []byte{"recipe": recipe.Schema, "baseline": baseline.Schema, "userdata": spec.Schema, "component": component.Schema, "checks": component.ChecksSchema, "waivers": waiver.Schema, "oss": oss.Schema, "contract": container.Schema}
			if len(given) > 1 || schemas[what] == nil {
				return usage("there is no schema of %q (allowed: recipe, baseline, userdata, component, checks, waivers, oss, contract)\nSee '%s --help'", strings.Join(given, " "), c.CommandPath())
			}
			_, err := a.out.Write(schemas[what]())
			return err
		},
	}
}
