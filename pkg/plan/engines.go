package plan

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/problem"
	"github.com/ami-factory/ami-factory/pkg/recipe"
)

// engines reads what a recipe's engines are given, and finds what is wrong with
// it. controls are those of the components.
func engines(r *recipe.Recipe, fsys fs.FS, controls []compliance.Control) (compliance.Engines, problem.List, error) {
	var out compliance.Engines
	var problems problem.List
	given := r.Checks.Engines
	if s := given.Script; s != nil {
		script := &compliance.Script{}
		for i, c := range s.Controls {
			at := fmt.Sprintf("checks.engines.script.controls[%d].id", i)
			if j := slices.IndexFunc(controls, func(x compliance.Control) bool { return x.ID == c.ID }); j >= 0 {
				problems = append(problems, r.Problem(at, "an id that no component has", "control %s is of component %s", c.ID, controls[j].Component))
			}
			if c.ID == compliance.OpenSCAPControl || c.ID == compliance.BottlerocketControl {
				problems = append(problems, r.Problem(at, "another id", "control %s is of another engine", c.ID))
			}
			script.Declared = append(script.Declared, compliance.Control{ID: c.ID, Title: c.Title, Severity: c.Severity, Component: "recipe", Engine: compliance.EngineScript})
		}
		for i, name := range s.Files {
			at := fmt.Sprintf("checks.engines.script.files[%d]", i)
			if name == "" || !fs.ValidPath(name) || r.Has(at) && !r.Valid(at) {
				continue // reported with the file
			}
			file := path.Join(recipe.Dir, name)
			data, err := fs.ReadFile(fsys, file)
			var isPath *fs.PathError
			switch {
			case errors.Is(err, fs.ErrNotExist), errors.As(err, &isPath) && !errors.Is(err, fs.ErrPermission):
				problems = append(problems, r.Problem(at, "a file beside the recipe", "there is no file %s", file))
				continue
			case err != nil:
				return out, nil, fmt.Errorf("read the recipe's own checks: %w", err)
			case len(data) > compliance.MaxScript:
				problems = append(problems, r.Problem(at, fmt.Sprintf("at most %d bytes", compliance.MaxScript), "%s has %d bytes", file, len(data)))
			case !bytes.HasPrefix(data, []byte("#!/")):
				problems = append(problems, r.Problem(at, "an interpreter in the first line, such as #!/bin/sh", "%s does not begin with #!/", file))
			}
			script.Files = append(script.Files, compliance.ScriptFile{Path: file, Data: data})
		}
		out.Script = script
	}
	if o := given.OpenSCAP; o != nil {
		severity := o.Severity
		if severity == "" {
			severity = "low"
		}
		out.OpenSCAP = &compliance.OpenSCAP{
			Stream: o.Stream, SHA256: o.SHA256, Program: o.Program, ProgramSHA256: o.ProgramSHA256, Profile: o.Profile,
			MinimumRules: o.MinimumRules, NotApplicable: o.NotApplicable, Severity: severity,
		}
	}
	if b := given.Bottlerocket; b != nil {
		out.Bottlerocket = &compliance.Bottlerocket{Report: b.Report, Level: max(b.Level, 1), MinimumChecks: b.MinimumChecks}
	}
	return out, problems, nil
}

// declared returns the controls that recipes and their engines have, beside those of
// components.
func declared(recipes []*recipe.Recipe) []string {
	var out []string
	for _, r := range recipes {
		if s := r.Checks.Engines.Script; s != nil {
			for _, c := range s.Controls {
				out = append(out, c.ID)
			}
		}
	}
	return append(out, compliance.OpenSCAPControl, compliance.BottlerocketControl)
}
