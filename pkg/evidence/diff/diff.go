// Package diff compares two releases of a recipe by their signed evidence: the recipe,
// the source image, packages, vulnerabilities, controls, waivers and the configuration
// of the guest. It is pure: equal evidence gives equal bytes.
package diff

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/ami-factory/ami-factory/pkg/plaintext"
)

// Schema is the schema's name of a Diff.
const Schema = "ami-factory/diff/1"

// Bounds of a diff. Guests decide how much their inventories hold.
const (
	MaxSize     = 16 << 20 // bytes of the encoded form
	maxPackages = 3000     // changes of packages that are listed; the others are counted
	maxChanges  = 500      // changes of another section
	maxValue    = 250      // bytes of a name or a value
	maxReason   = 1000     // bytes of NotCompared
)

// NoPrevious is the reason of a diff of a recipe's first release.
const NoPrevious = "no image of the recipe was published before"

// Diff is what differs between two releases of a recipe.
type Diff struct {
	Schema string `json:"schema"`
	Recipe string `json:"recipe"`
	// Before is the release that is compared with; nil if there is none whose evidence
	// was verified. Then NotCompared says why, and there are no sections.
	Before      *Side  `json:"before"`
	NotCompared string `json:"notCompared,omitempty"`
	After       Side   `json:"after"`
	// Sections has those with changes only, in the order of Kinds.
	Sections []Section `json:"sections"`
	// Vulnerabilities counts the findings.
	Vulnerabilities Counts `json:"vulnerabilities"`
}

// Side identifies a release and its image in the home region.
type Side struct {
	ImageID        string `json:"imageId"`
	ImageName      string `json:"imageName"`
	Execution      string `json:"execution"` // name of the execution that released it
	Fingerprint    string `json:"fingerprint"`
	ReleaseID      string `json:"releaseId"`
	FactoryVersion string `json:"factoryVersion"`
	Simulated      bool   `json:"simulated,omitempty"` // no guest was asked
	// Incomplete lists the parts of the inventory that the guest could not answer, and
	// why. What is not known is not compared.
	Incomplete []string `json:"incomplete,omitempty"`
}

// Kind is what a section is about.
type Kind string

// Kinds of sections.
const (
	Recipe          Kind = "recipe"     // fields, by path
	Components      Kind = "components" // and their parameters
	Source          Kind = "source"     // the base image
	Packages        Kind = "packages"
	Kernel          Kind = "kernel"
	Vulnerabilities Kind = "vulnerabilities" // by id and source package
	Controls        Kind = "controls"
	Engines         Kind = "engines" // that checked the controls
	Waivers         Kind = "waivers"
	Users           Kind = "users" // and groups that have members
	Files           Kind = "files" // setuid or setgid
	Sockets         Kind = "sockets"
	Units           Kind = "units"
	Sysctls         Kind = "sysctls"
	Repositories    Kind = "repositories"
	Keys            Kind = "keys" // that sign packages
	Containers      Kind = "containers"
	System          Kind = "system"
	Image           Kind = "image"   // its volumes and attributes in EC2
	Sharing         Kind = "sharing" // who may launch the image
)

// Kinds returns all kinds, in the order of sections.
func Kinds() []Kind {
	return []Kind{
		Recipe, Components, Source, Packages, Kernel, Vulnerabilities, Controls, Engines, Waivers, Users, Files, Sockets, Units, Sysctls, Repositories, Keys,
		Containers, System, Image, Sharing,
	}
}

// Title names the kind for readers.
func (k Kind) Title() string {
	return map[Kind]string{
		Recipe: "Recipe", Components: "Components", Source: "Source image", Packages: "Packages", Kernel: "Kernel", Vulnerabilities: "Vulnerabilities",
		Controls: "Controls", Engines: "Check engines", Waivers: "Waivers", Users: "Users and groups", Files: "Setuid and setgid files", Sockets: "Listening sockets",
		Units: "Enabled units", Sysctls: "Kernel parameters", Repositories: "Package repositories", Keys: "Keys of repositories", Containers: "Container images",
		System: "Operating system", Image: "Image attributes", Sharing: "Sharing",
	}[k]
}

// Section is one kind of changes.
type Section struct {
	Kind    Kind     `json:"kind"`
	Changes []Change `json:"changes"`        // by name
	More    int      `json:"more,omitempty"` // changes that are not listed
}

// limit is how many changes a section of the kind lists.
func (k Kind) limit() int {
	if k == Packages {
		return maxPackages
	}
	return maxChanges
}

// Verbs of changes.
const (
	Added      = "added"
	Removed    = "removed"
	Upgraded   = "upgraded"
	Downgraded = "downgraded"
	Changed    = "changed"  // in no direction
	Fixed      = "fixed"    // a vulnerability that is no longer found
	New        = "new"      // a vulnerability that was not found before
	Improved   = "improved" // a control that failed or was waived
	Worsened   = "worsened" // a control that passed or was waived
	Ended      = "ended"    // a waiver that holds no longer
	Renewed    = "renewed"  // a waiver that holds longer
	Shortened  = "shortened"
)

// verbs are the changes that a section of a kind may have.
func (k Kind) verbs() []string {
	switch k {
	case Source, Packages, Kernel:
		return []string{Added, Removed, Upgraded, Downgraded, Changed}
	case Vulnerabilities:
		return []string{Fixed, New, Changed}
	case Controls:
		return []string{Added, Removed, Improved, Worsened, Changed}
	case Waivers:
		return []string{Added, Ended, Renewed, Shortened, Changed}
	}
	return []string{Added, Removed, Changed}
}

// Change is one difference.
type Change struct {
	What   string `json:"what"`
	Name   string `json:"name"`
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

// Counts of vulnerabilities.
type Counts struct {
	Fixed     int `json:"fixed"`
	New       int `json:"new"`
	Remaining int `json:"remaining"`
}

// Section returns the changes of a kind.
func (d Diff) Section(k Kind) Section {
	for _, s := range d.Sections {
		if s.Kind == k {
			return s
		}
	}
	return Section{Kind: k, Changes: []Change{}}
}

// Total is the number of changes, also of those that are not listed.
func (s Section) Total() int { return len(s.Changes) + s.More }

// Empty reports whether the releases were compared and nothing differs.
func (d Diff) Empty() bool { return d.Before != nil && len(d.Sections) == 0 }

// Of compares two releases of a recipe. Without a release before, reason says why;
// empty means NoPrevious.
func Of(before *Record, after Record, reason string) Diff {
	d := Diff{Schema: Schema, Recipe: after.recipe(), After: after.Side, Sections: []Section{}}
	if before == nil {
		d.NotCompared = shownWithin(cmp.Or(reason, NoPrevious), maxReason)
		return d
	}
	side := before.Side
	d.Before = &side
	c := comparison{before: *before, after: after}
	for _, kind := range Kinds() {
		changes := c.of(kind)
		for i := range changes {
			x := &changes[i]
			x.Name, x.Before, x.After = shown(x.Name), shown(x.Before), shown(x.After)
		}
		slices.SortStableFunc(changes, func(a, b Change) int {
			return cmp.Compare(a.Name, b.Name)
		})
		s := Section{Kind: kind, Changes: changes}
		if limit := kind.limit(); len(changes) > limit {
			s.Changes, s.More = changes[:limit], len(changes)-limit
		}
		if len(changes) > 0 {
			d.Sections = append(d.Sections, s)
		}
	}
	d.Vulnerabilities = c.counts
	return d
}

// shown makes a text of a guest or a recipe safe to print, in one line of bounded
// length.
func shown(s string) string { return shownWithin(s, maxValue) }

func shownWithin(s string, limit int) string {
	return oneLine(plaintext.Clip(oneLine(plaintext.Clean(s)), limit))
}

// Encode returns the diff as indented JSON: the same diff gives the same bytes.
func (d Diff) Encode() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(d); err != nil {
		return nil, fmt.Errorf("write the diff: %w", err)
	}
	if b.Len() > MaxSize {
		return nil, fmt.Errorf("the diff has %d bytes, %d are allowed", b.Len(), MaxSize)
	}
	return b.Bytes(), nil
}

// Decode reads what Encode has written, and refuses every other form: unknown fields,
// other bytes for the same content, too much of it.
func Decode(raw []byte) (Diff, error) {
	var d Diff
	if len(raw) > MaxSize {
		return d, fmt.Errorf("read the diff: it has %d bytes, %d are allowed", len(raw), MaxSize)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return Diff{}, fmt.Errorf("read the diff: %w", err)
	}
	if err := d.check(); err != nil {
		return Diff{}, fmt.Errorf("read the diff: %w", err)
	}
	again, err := d.Encode()
	if err != nil {
		return Diff{}, err
	}
	if !bytes.Equal(again, raw) {
		return Diff{}, errors.New("read the diff: it is not in the form that the factory writes")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Diff{}, errors.New("read the diff: text follows the JSON document")
	}
	return d, nil
}

func (d Diff) check() error {
	switch {
	case d.Schema != Schema:
		return fmt.Errorf("its schema is %q, not %s", d.Schema, Schema)
	case (d.Before == nil) != (d.NotCompared != ""):
		return errors.New("it must have either a release before, or a reason why nothing was compared")
	case d.Before == nil && len(d.Sections) > 0:
		return errors.New("it has changes, but no release before")
	case d.Sections == nil:
		return errors.New("it has no list of sections")
	}
	last := -1
	for _, s := range d.Sections {
		at := slices.Index(Kinds(), s.Kind)
		switch {
		case at < 0:
			return fmt.Errorf("it has a section %q", s.Kind)
		case at <= last:
			return fmt.Errorf("its section %s is out of order", s.Kind)
		case len(s.Changes) == 0, s.More < 0, len(s.Changes) > s.Kind.limit():
			return fmt.Errorf("its section %s has %d changes and %d more", s.Kind, len(s.Changes), s.More)
		}
		last = at
		for _, c := range s.Changes {
			if !slices.Contains(s.Kind.verbs(), c.What) {
				return fmt.Errorf("its section %s has a change %q", s.Kind, c.What)
			}
		}
	}
	return nil
}
