package recipe

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/problem"
	"github.com/ami-factory/ami-factory/pkg/strictyaml"
)

// Dir is the folder of the recipes, below the root of the user data.
const Dir = "recipes"

// Options are the options of Parse.
type Options struct {
	// Now decides whether a waiver has expired. Required.
	Now time.Time
}

// ErrUnknown is in the chain of Load's error if the recipe does not exist.
var ErrUnknown = errors.New("unknown recipe")

// Parse reads a recipe strictly, applies the defaults and checks everything
// that needs no other file. The recipe is never nil; with errors among the
// problems it must not be built.
func Parse(file string, data []byte, opts Options) (*Recipe, problem.List) {
	r := &Recipe{}
	doc, problems := strictyaml.Decode(file, data, r)
	r.doc = doc
	r.applyDefaults()
	c := checker{recipe: r, now: opts.Now}
	c.check()
	return r, append(problems, c.problems...).Sort()
}

// Load parses recipes/<name>.yaml. An unknown name is an error that lists all
// recipes; mistakes in the file are returned as problems.
func Load(fsys fs.FS, name string, opts Options) (*Recipe, problem.List, error) {
	names, err := Names(fsys)
	if err != nil {
		return nil, nil, err
	}
	if !slices.Contains(names, name) {
		hint := ""
		if near := problem.Nearest(name, names); near != "" {
			hint = fmt.Sprintf("; did you mean %q?", near)
		}
		return nil, nil, fmt.Errorf("%w %q%s (there are: %s)", ErrUnknown, name, hint, orNone(names))
	}
	file := path.Join(Dir, name+".yaml")
	data, err := fs.ReadFile(fsys, file)
	if err != nil {
		return nil, nil, fmt.Errorf("read recipe: %w", err)
	}
	r, problems := Parse(file, data, opts)
	return r, problems, nil
}

// All loads every recipe, even with mistakes in the files, which are reported
// when each recipe is checked. A recipe has the name of its file, by which it is
// built, whatever name is in the file.
func All(fsys fs.FS, opts Options) ([]*Recipe, error) {
	names, err := Names(fsys)
	if err != nil {
		return nil, err
	}
	out := make([]*Recipe, 0, len(names))
	for _, name := range names {
		r, _, err := Load(fsys, name, opts)
		if err != nil {
			return nil, err
		}
		r.Name = name
		out = append(out, r)
	}
	return out, nil
}

// Names lists the recipes below recipes/, sorted.
func Names(fsys fs.FS) ([]string, error) {
	files, err := fs.Glob(fsys, path.Join(Dir, "*.yaml"))
	if err != nil {
		return nil, fmt.Errorf("list recipes: %w", err)
	}
	names := make([]string, 0, len(files))
	for _, f := range files {
		names = append(names, strings.TrimSuffix(path.Base(f), ".yaml"))
	}
	slices.Sort(names)
	return names, nil
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// Problem is an error about the value at a path such as components[1].name,
// with its position in the file that the recipe was parsed from.
func (r *Recipe) Problem(at, allowed, format string, args ...any) problem.Problem {
	if r.doc == nil {
		return problem.Problem{
			Severity: problem.Error,
			File:     path.Join(Dir, r.Name+".yaml"),
			Message:  fmt.Sprintf(format, args...),
			Allowed:  allowed,
		}
	}
	return r.doc.Problem(at, allowed, format, args...)
}

// Has reports whether the recipe's file has a value at a path; defaults are not
// in the file.
func (r *Recipe) Has(at string) bool { return r.doc != nil && r.doc.Has(at) }

// Valid reports whether the file has a valid value at a path. A problem with
// such a value is not the consequence of another problem.
func (r *Recipe) Valid(at string) bool { return r.doc == nil || r.doc.Valid(at) }

// WithoutPositions returns the recipe without positions, equal to one that was
// read from JSON.
func (r *Recipe) WithoutPositions() Recipe {
	out := *r
	out.doc = nil
	return out
}

// Home is the region where the image is built: the first of the distribution.
func (r *Recipe) Home() Region {
	if len(r.Distribution.Regions) == 0 {
		return Region{}
	}
	return r.Distribution.Regions[0]
}

// Defaults of what a recipe may leave out.
const (
	DefaultBuilderTimeout = Duration(45 * time.Minute)
	DefaultChecksTimeout  = Duration(15 * time.Minute)
	DefaultGateSeverity   = "medium"
	DefaultFeedAge        = Duration(7 * 24 * time.Hour) // greatest age of a feed of vulnerabilities
	DefaultApproval       = ApprovalNone
	DefaultApprovalTime   = Duration(7 * 24 * time.Hour)
	DefaultCopies         = contract.CopiesBeforeGate
	DefaultKeep           = 3
	DefaultDeprecateAfter = Duration(90 * 24 * time.Hour)
	DefaultRemoveAfter    = Duration(7 * 24 * time.Hour)
)

// applyDefaults sets the defaults of missing values. It does not replace an
// invalid value, so that the value is reported once.
func (r *Recipe) applyDefaults() {
	fill(r, "builder.timeout", &r.Builder.Timeout, DefaultBuilderTimeout)
	fill(r, "checks.timeout", &r.Checks.Timeout, DefaultChecksTimeout)
	fill(r, "gate.severity", &r.Gate.Severity, DefaultGateSeverity)
	fill(r, "approval.mode", &r.Approval.Mode, DefaultApproval)
	fill(r, "approval.expires", &r.Approval.Expires, DefaultApprovalTime)
	fill(r, "distribution.copies", &r.Distribution.Copies, DefaultCopies)
	fill(r, "retention.keep", &r.Retention.Keep, DefaultKeep)
	fill(r, "retention.deprecateAfter", &r.Retention.DeprecateAfter, DefaultDeprecateAfter)
	fill(r, "retention.removeAfter", &r.Retention.RemoveAfter, DefaultRemoveAfter)
}

func fill[T any](r *Recipe, at string, target *T, value T) {
	if !r.doc.Has(at) {
		*target = value
	}
}
