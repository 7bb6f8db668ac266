// Package oss holds the list of open-source packages that security allows in images, and
// judges what is installed by it. A package that nobody approved is refused.
package oss

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/github/go-spdx/v2/spdxexp"

	"github.com/ami-factory/ami-factory/pkg/problem"
	"github.com/ami-factory/ami-factory/pkg/strictyaml"
)

// Dir is the folder of the allow-list, below the root of the user data.
const Dir = "oss"

// EndsSoon is how long before its end an approval is reported as ending.
const EndsSoon = 30 * 24 * time.Hour

// Longest is the longest term of an approval in days.
const Longest = 366

// File is a part of the allow-list.
type File struct {
	// Licenses are those that are allowed, as SPDX identifiers, each alone or with an exception. The files' lists are joined.
	Licenses []string `yaml:"licenses,omitempty" json:"licenses,omitempty" jsonschema:"minItems=1,minLength=1,maxLength=200"`
	// Packages are the approvals.
	Packages []Entry `yaml:"packages,omitempty" json:"packages,omitempty" jsonschema:"minItems=1"`
}

// Entry is an approval of a package.
type Entry struct {
	// Ecosystem is the kind of package: deb, rpm or generic.
	Ecosystem string `yaml:"ecosystem" json:"ecosystem" jsonschema:"required,enum=deb,enum=rpm,enum=generic"`
	// Source is the source package, with all packages that are built from it.
	Source string `yaml:"source" json:"source" jsonschema:"required,pattern=^[A-Za-z0-9][A-Za-z0-9+._-]*$,maxLength=200" hint:"the name of one source package"`
	// Name is the only package of the source that is approved; default all.
	Name string `yaml:"name,omitempty" json:"name,omitempty" jsonschema:"pattern=^[A-Za-z0-9][A-Za-z0-9+._-]*$,maxLength=200" hint:"the name of one package"`
	// Versions are those that are approved, such as ">= 3.0, < 4"; default all.
	Versions string `yaml:"versions,omitempty" json:"versions,omitempty" jsonschema:"minLength=1,maxLength=200" hint:"comparisons with >=, >, <, <= or =, separated by commas"`
	// Licenses is the SPDX expression that a person has found to be the package's. Without it, the package's own copyright file decides.
	Licenses string `yaml:"licenses,omitempty" json:"licenses,omitempty" jsonschema:"minLength=1,maxLength=1000"`
	// Reason is why the package is needed.
	Reason string `yaml:"reason" json:"reason" jsonschema:"required,minLength=10,maxLength=1000"`
	// Owner is who asks for the package and keeps it current.
	Owner string `yaml:"owner" json:"owner" jsonschema:"required,minLength=1" hint:"a text, such as a mail address"`
	// ApprovedBy is who answers for the approval: somebody other than the owner.
	ApprovedBy string `yaml:"approvedBy" json:"approvedBy" jsonschema:"required,minLength=1" hint:"a text, such as a mail address; not the owner's"`
	// Approved is the day of the approval, in UTC.
	Approved string `yaml:"approved" json:"approved" jsonschema:"required,pattern=^[0-9]{4}-[0-9]{2}-[0-9]{2}$" hint:"a date, YYYY-MM-DD, today or earlier"`
	// Expires is the last day, in UTC, on which the approval holds.
	Expires string `yaml:"expires" json:"expires" jsonschema:"required,pattern=^[0-9]{4}-[0-9]{2}-[0-9]{2}$" hint:"a date, YYYY-MM-DD, at most one year after approved"`
	// Evidence is where the review is recorded.
	Evidence string `yaml:"evidence,omitempty" json:"evidence,omitempty" jsonschema:"minLength=1,maxLength=500"`
}

//go:embed schema.json
var schema []byte

// Schema is the JSON Schema of a file of the allow-list, for editors. It is generated from
// the types of this package by its tests (go test ./pkg/oss -update).
func Schema() []byte { return slices.Clone(schema) }

// approval is an entry with its place.
type approval struct {
	Entry
	place    string // file:line:column
	versions []comparison
}

// List is the allow-list of a deployment.
type List struct {
	licenses  []string
	approvals []approval
}

// Len is how many approvals the list has.
func (l List) Len() int { return len(l.approvals) }

// Load reads all files of the allow-list below the root of the user data, and finds what is
// wrong with them; there may be none. A list with errors must not be used.
func Load(fsys fs.FS, now time.Time) (List, problem.List, error) {
	var out List
	var problems problem.List
	entries, err := fs.ReadDir(fsys, Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil, nil
	}
	if err != nil {
		return out, nil, fmt.Errorf("list the allow-list: %w", err)
	}
	type read struct {
		file File
		doc  *strictyaml.Document
	}
	var files []read
	for _, e := range entries {
		name := path.Join(Dir, e.Name())
		if e.IsDir() || path.Ext(e.Name()) != ".yaml" {
			if ext := path.Ext(e.Name()); e.IsDir() || ext == ".yml" || ext == ".json" {
				problems = append(problems, problem.Problem{
					Severity: problem.Error, File: name, Line: 1, Column: 1, Message: name + " is not read", Allowed: "files whose names end in .yaml, directly in " + Dir,
				})
			}
			continue
		}
		data, err := fs.ReadFile(fsys, name)
		if err != nil {
			return out, nil, fmt.Errorf("read the allow-list: %w", err)
		}
		var f File
		doc, wrong := strictyaml.Decode(name, data, &f)
		problems = append(problems, wrong...)
		files = append(files, read{f, doc})
		for i, id := range f.Licenses {
			at := strictyaml.Index("licenses", i)
			if !doc.Valid(at) {
				continue
			}
			if why := oneLicense(id); why != "" {
				problems = append(problems, doc.Problem(at, "an SPDX identifier such as Apache-2.0, or LicenseRef-NAME", "%s", why))
				continue
			}
			out.licenses = append(out.licenses, id)
		}
	}
	slices.Sort(out.licenses)
	out.licenses = slices.Compact(out.licenses)
	for _, r := range files {
		for i, entry := range r.file.Packages {
			problems = append(problems, out.add(r.doc, strictyaml.Index("packages", i), entry, now)...)
		}
		if len(r.file.Packages) > 0 && len(out.licenses) == 0 {
			problems = append(problems, r.doc.KeyProblem("packages", "licenses: [Apache-2.0, …] in one of the files", "no file says which licenses are allowed"))
		}
	}
	return out, problems.Sort(), nil
}

// oneLicense says why a text is no license that can be allowed.
func oneLicense(id string) string {
	if ok, _ := spdxexp.ValidateLicenses([]string{id}); !ok {
		return fmt.Sprintf("%q is no identifier of SPDX", id)
	}
	found, err := spdxexp.ExtractLicenses(id)
	if err != nil || len(found) != 1 || strings.Contains(id, " AND ") || strings.Contains(id, " OR ") {
		return fmt.Sprintf("%q is more than one license", id)
	}
	return ""
}

// add checks an entry and adds it.
func (l *List) add(doc *strictyaml.Document, at string, e Entry, now time.Time) problem.List {
	var out problem.List
	fail := func(field, allowed, format string, args ...any) {
		out = append(out, doc.Problem(strictyaml.Join(at, field), allowed, format, args...))
	}
	valid := func(field string) bool { return doc.Valid(strictyaml.Join(at, field)) }
	p := doc.Problem(at, "", "")
	a := approval{Entry: e, place: fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)}
	if valid("owner") && valid("approvedBy") && same(e.Owner, e.ApprovedBy) {
		fail("approvedBy", "somebody other than owner", "%s is approved by its owner, %s", e.Source, e.ApprovedBy)
	}
	if valid("versions") {
		var err error
		if a.versions, err = comparisons(e.Ecosystem, e.Versions); err != nil {
			fail("versions", "comparisons with >=, >, <, <= or =, separated by commas", "%s", err)
		}
	}
	if valid("licenses") {
		ok, err := spdxexp.Satisfies(e.Licenses, append([]string{"LicenseRef-none-is-allowed"}, l.licenses...))
		switch {
		case err != nil:
			fail("licenses", "an SPDX expression, such as MIT OR Apache-2.0", "%q is no expression of SPDX: %v", e.Licenses, err)
		case !ok:
			fail("licenses", strings.Join(l.licenses, ", "), "the licenses of %s, %s, are not allowed", e.Source, e.Licenses)
		}
	}
	var from, to time.Time
	for _, d := range []struct {
		field, text string
		into        *time.Time
	}{{"approved", e.Approved, &from}, {"expires", e.Expires, &to}} {
		if !valid(d.field) {
			continue
		}
		var err error
		if *d.into, err = time.Parse(time.DateOnly, d.text); err != nil {
			fail(d.field, "a date, YYYY-MM-DD", "%s: %q is not a date of the calendar", d.field, d.text)
		}
	}
	if from.After(now) {
		fail("approved", "today or earlier, in UTC", "the approval of %s is of the future, %s", e.Source, e.Approved)
	}
	switch {
	case to.IsZero():
	case !from.IsZero() && to.Before(from):
		fail("expires", "the day of the approval or later", "the approval of %s expires on %s, before it was given on %s", e.Source, e.Expires, e.Approved)
	case !from.IsZero() && to.Sub(from) > Longest*24*time.Hour:
		fail("expires", "at most one year after approved", "the approval of %s would hold until %s", e.Source, e.Expires)
	case a.ended(now):
		// The check of an image fails by it; the file itself may be older than that day.
		out = append(out, warning(doc.Problem(strictyaml.Join(at, "expires"), "today or later", "the approval of %s expired on %s: images with it are rejected; have it approved again, or remove the package", e.Source, e.Expires)))
	case a.endsSoon(now):
		out = append(out, warning(doc.Problem(strictyaml.Join(at, "expires"), "", "%s", a.ending())))
	}
	for _, earlier := range l.approvals {
		if earlier.Ecosystem == e.Ecosystem && earlier.Source == e.Source && earlier.Name == e.Name && earlier.Versions == e.Versions && e.Source != "" {
			fail("source", "", "%s is approved twice; the first is %s", e.Source, earlier.place)
		}
	}
	l.approvals = append(l.approvals, a)
	return out
}

func warning(p problem.Problem) problem.Problem {
	p.Severity = problem.Warning
	return p
}

// same reports whether two texts name the same person.
func same(a, b string) bool {
	normal := func(s string) string { return strings.ToLower(strings.Join(strings.Fields(s), " ")) }
	return normal(a) == normal(b)
}

func (a approval) end() (time.Time, error) {
	day, err := time.Parse(time.DateOnly, a.Expires)
	return day.AddDate(0, 0, 1), err
}

// ended reports whether the approval no longer holds. One whose end is no date has ended.
func (a approval) ended(now time.Time) bool {
	end, err := a.end()
	return err != nil || !now.Before(end)
}

func (a approval) endsSoon(now time.Time) bool {
	end, err := a.end()
	return err == nil && now.Before(end) && end.Sub(now) <= EndsSoon
}

func (a approval) ending() string {
	return fmt.Sprintf("the approval of %s ends on %s; have it approved again, or remove the package", a.Source, a.Expires)
}
