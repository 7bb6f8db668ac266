package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ami-factory/ami-factory/pkg/baseline"
	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/problem"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/userdata/spec"
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
		return "", fmt.Errorf("%s has no folder %s: --userdata takes a folder laid out like the project's userdata/", dir, recipe.Dir)
	}
	return filepath.Abs(dir)
}

// registerUserData adds the flag of commands that read recipes and components.
func (a *app) registerUserData(c *cobra.Command) {
	c.Flags().StringVar(&a.userdata, "userdata", "",
		"`folder` of recipes and components (default: ./userdata if there is one, else the copy built in)")
	_ = c.MarkFlagDirname("userdata") // the flag exists
}

func (a *app) userdataFS() (fs.FS, error) {
	dir, err := a.userdataDir()
	if err != nil || dir == "" {
		return userdata.FS, err
	}
	return os.DirFS(dir), nil
}

func (a *app) lint() *cobra.Command {
	var given parameters
	c := &cobra.Command{
		Use:   "lint [RECIPE or FILE ...]",
		Short: "Check recipes and everything they use",
		Long: `Check recipes, the components they use, their parameters and checks, without a
network and without starting anything. Every problem is printed with file, line
and column and with what would be allowed. Without arguments all recipes are
checked. The exit code is 1 when there is an error.`,
		Example: `  ami-factory lint
  ami-factory lint debian-12-docker
  ami-factory lint drafts/my-image.yaml --output json`,
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
		return plan.Lint(fsys, given, now)
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
	data, err := os.ReadFile(name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, &exitError{exitUsage, fmt.Errorf("%s does not exist; lint takes the name of a recipe or the path of a file", name)}
		}
		return nil, err
	}
	return plan.LintFile(name, data, fsys, given, now)
}

func (a *app) schema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema [recipe, baseline, userdata, component or checks]",
		Short: "Print the JSON Schema of a kind of file, for editors",
		Long: `Print the JSON Schema of recipes, of the baseline, of specs of user data, or of the
files component.yaml and checks.yaml of components. Editors with a YAML
language server check and complete files with it:

  # yaml-language-server: $schema=recipe.schema.json`,
		Example: `  ami-factory schema > recipe.schema.json
  ami-factory schema userdata > userdata.schema.json`,
		RunE: func(c *cobra.Command, given []string) error {
			what := "recipe"
			if len(given) > 0 {
				what = given[0]
			}
			schemas := map[string]func() []byte{"recipe": recipe.Schema, "baseline": baseline.Schema, "userdata": spec.Schema, "component": component.Schema, "checks": component.ChecksSchema}
			if len(given) > 1 || schemas[what] == nil {
				return &exitError{exitUsage, fmt.Errorf("there is no schema of %q (allowed: recipe, baseline, userdata, component, checks)\nSee '%s --help'", strings.Join(given, " "), c.CommandPath())}
			}
			_, err := a.out.Write(schemas[what]())
			return err
		},
	}
}
