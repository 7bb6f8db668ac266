package diff

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/evidence/inventory"
	"github.com/ami-factory/ami-factory/pkg/evidence/vulnerability"
	"github.com/ami-factory/ami-factory/pkg/plan"
)

// comparison compares two records, one kind after the other.
type comparison struct {
	before, after Record
	counts        Counts // by of(Vulnerabilities)
}

func (c *comparison) of(kind Kind) []Change {
	switch kind {
	case Recipe:
		return c.recipe()
	case Source:
		return c.source()
	case Packages:
		return c.packages()
	case Kernel:
		return c.kernel()
	case Vulnerabilities:
		return c.vulnerabilities()
	case Controls:
		return c.controls()
	case Waivers:
		return c.waivers()
	}
	return changed(c.before.facts(kind), c.after.facts(kind))
}

// facts are the facts of a kind that has no order: values by name.
func (r Record) facts(kind Kind) map[string]string {
	out, v := facts{}, r.Inventory
	switch kind {
	case Components:
		for _, one := range r.Plan.Components {
			out.add(one.Name, "")
			for _, name := range slices.Sorted(maps.Keys(one.Parameters)) {
				out.add(one.Name+" "+name, fmt.Sprintf("%q", one.Parameters[name]))
			}
		}
	case Engines:
		for _, x := range r.Compliance.Results {
			out.add(x.Engine.Name, x.Engine.Version)
		}
	case Users:
		for _, u := range v.Users {
			out.add(u.Name, fmt.Sprintf("uid %s, gid %s, home %s, shell %s, password %s", u.UID, u.GID, u.Home, u.Shell, cmp.Or(u.Password, "unknown")))
		}
		for _, g := range v.Groups {
			out.add("group "+g.Name, fmt.Sprintf("gid %s, members %s", g.GID, strings.Join(g.Members, ", ")))
		}
	case Files:
		for _, f := range v.Files {
			out.add(f.Path, fmt.Sprintf("%s %s:%s, package %s", f.Mode, f.Owner, f.Group, cmp.Or(f.Package, "none")))
		}
	case Sockets:
		for _, s := range v.Sockets {
			out.add(s.Protocol+" "+s.Address+":"+s.Port, s.Process)
		}
	case Units:
		for _, u := range v.Units {
			out.add(u.Name, u.State)
		}
	case Sysctls:
		for _, s := range v.Sysctls {
			out.add(s.Name, s.Value)
		}
	case Repositories:
		for _, x := range v.Repositories {
			state := "disabled"
			if x.Enabled {
				state = "enabled"
			}
			out.add(oneLine(strings.Join([]string{x.File, x.Name, x.URI, x.Suites}, " ")), fmt.Sprintf("%s, components %s, keys %s", state, cmp.Or(x.Parts, "none"), cmp.Or(x.Keys, "not named")))
		}
	case Keys:
		for _, k := range v.Keys {
			out.add(k.File, oneLine("sha256 "+k.SHA256+" "+strings.Join(k.Fingerprints, " ")))
		}
	case Containers:
		for _, i := range v.Images {
			out.add(i.Engine+" "+i.Repository+":"+cmp.Or(i.Tag, "untagged"), cmp.Or(i.Digest, i.ID))
		}
	case System:
		s := v.System
		for name, value := range map[string]string{"distribution": s.ID, "version": s.Version, "codename": s.Codename, description: s.Name, "machine": s.Machine} {
			if value != "" {
				out.add(name, value)
			}
		}
	case Image:
		for _, i := range r.Manifest.Images {
			out.add(i.Region, i.Architecture+", root device "+i.RootDevice)
			for _, volume := range i.Volumes {
				key := "not encrypted"
				if volume.Encrypted {
					key = "encrypted with " + cmp.Or(volume.KMSKeyID, "a key that EC2 does not name")
				}
				out.add(i.Region+" "+volume.Device, fmt.Sprintf("%d GiB, %s", volume.SizeGiB, key))
			}
		}
	case Sharing:
		for _, account := range r.Manifest.Audience.Accounts {
			out.add("account "+account, "")
		}
		for _, organization := range r.Manifest.Audience.Organizations {
			out.add(organization, "")
		}
	}
	return out
}

// description is the name of the operating system for readers. A package changes it
// when it is upgraded.
const description = "description"

// facts are values by name; several values of one name are joined.
type facts map[string]string

func (f facts) add(name, value string) {
	there, ok := f[name]
	if !ok {
		f[name] = value
		return
	}
	all := append(strings.Split(there, "; "), value)
	slices.Sort(all)
	f[name] = strings.Join(slices.Compact(all), "; ")
}

// changed compares facts.
func changed(before, after map[string]string) []Change {
	var out []Change
	for name, was := range before {
		is, ok := after[name]
		switch {
		case !ok:
			out = append(out, Change{Removed, name, was, ""})
		case was != is:
			out = append(out, Change{Changed, name, was, is})
		}
	}
	for name, is := range after {
		if _, ok := before[name]; !ok {
			out = append(out, Change{Added, name, "", is})
		}
	}
	return out
}

// recipe has the fields of the recipe and the other parts of the content that have no
// section.
func (c *comparison) recipe() []Change {
	components := len(changed(c.before.facts(Components), c.after.facts(Components))) > 0
	var out []Change
	for _, d := range plan.Compare(c.before.Plan, c.after.Plan) {
		switch {
		case d.What == plan.SourceChanged, strings.HasPrefix(d.What, "checks.waivers."), d.What == plan.WaiversChanged:
			continue // sections of their own
		case strings.HasPrefix(d.What, "components.") && components:
			continue
		case d.Before == "" && d.After != "":
			out = append(out, Change{Added, d.What, "", d.After})
		case d.Before != "" && d.After == "":
			out = append(out, Change{Removed, d.What, d.Before, ""})
		default:
			out = append(out, Change{Changed, d.What, d.Before, d.After})
		}
	}
	// A plan of an earlier version of the factory does not have them.
	if inputs := (plan.Inputs{}); c.before.Plan.Fingerprint != c.after.Plan.Fingerprint && (c.before.Plan.Inputs == inputs) != (c.after.Plan.Inputs == inputs) {
		out = append(out, Change{Changed, "parts of the content that only one of the two plans records", "", ""})
	}
	return out
}

// sourceImage is the name of the change of the source image.
const sourceImage = "image"

func (c *comparison) source() []Change {
	before, after := c.before.Manifest.Source, c.after.Manifest.Source
	var out []Change
	if before.ImageID != after.ImageID {
		what := Changed
		switch cmp.Compare(before.CreationDate, after.CreationDate) { // RFC 3339 in UTC
		case -1:
			what = Upgraded
		case 1:
			what = Downgraded
		}
		if before.CreationDate == "" || after.CreationDate == "" {
			what = Changed
		}
		out = append(out, Change{what, sourceImage, oneLine(before.ImageID + " " + before.Name), oneLine(after.ImageID + " " + after.Name)})
	}
	return append(out, changed(
		map[string]string{"owner": before.OwnerID, "architecture": before.Architecture},
		map[string]string{"owner": after.OwnerID, "architecture": after.Architecture},
	)...)
}

// versionedName matches names of packages that hold a version of the kernel, so that
// each version is a package of its own: linux-image-6.1.0-28-cloud-amd64.
var versionedName = regexp.MustCompile(`^(linux-[a-z0-9.-]*?)\d+\.\d+\.\d+(?:-\d+|[+~][0-9a-z]+)*(-.+)?$`)

// stem is the name of a package, with a star in place of the kernel's version.
func stem(p inventory.Package) string {
	if m := versionedName.FindStringSubmatch(p.Name); m != nil && p.Type == inventory.Deb && strings.HasPrefix(p.Source, "linux") {
		return m[1] + "*" + m[2]
	}
	return p.Name
}

// kernelName matches names of packages with a kernel.
var kernelName = regexp.MustCompile(`^(linux-image-|kernel(-core)?$|kernel[0-9.]+$)`)

// versions are the versions of a package that are installed at the same time.
type versions struct {
	of    string   // type of package
	whole []string // everything that is known of each
	list  []string
	from  []string // source packages
}

func (c *comparison) packages() []Change {
	type key struct{ of, stem, arch string }
	arches := map[string]map[string]bool{}
	grouped := func(all []inventory.Package) map[key]versions {
		out := map[key]versions{}
		for _, p := range all {
			k := key{p.Type, stem(p), p.Arch}
			v := out[k]
			v.of, v.list, v.from = p.Type, append(v.list, p.FullVersion()), append(v.from, p.Source)
			v.whole = append(v.whole, fmt.Sprintf("%s %s of %s %s", p.Name, p.FullVersion(), p.Source, p.SourceVersion))
			out[k] = v
			if arches[k.stem] == nil {
				arches[k.stem] = map[string]bool{}
			}
			arches[k.stem][p.Arch] = true
		}
		return out
	}
	before, after := grouped(c.before.Inventory.Packages), grouped(c.after.Inventory.Packages)
	all := maps.Clone(before)
	maps.Copy(all, after)
	var out []Change
	for k := range all {
		name := k.stem
		if len(arches[k.stem]) > 1 {
			name += ":" + k.arch
		}
		was, is := before[k], after[k]
		slices.Sort(was.whole)
		slices.Sort(is.whole)
		if slices.Equal(was.whole, is.whole) {
			continue
		}
		change := between(k.of, name, was.list, is.list)
		// Another source package is more than an upgrade, whatever the version.
		moved := len(without(is.from, was.from))+len(without(was.from, is.from)) > 0
		if change == nil || moved && (change.What == Upgraded || change.What == Downgraded) {
			change = &Change{Changed, name, strings.Join(was.whole, ", "), strings.Join(is.whole, ", ")}
		}
		out = append(out, *change)
	}
	return out
}

// between compares lists of versions; nil if they are equal.
func between(packageType, name string, was, is []string) *Change {
	slices.Sort(was)
	slices.Sort(is)
	was, is = slices.Compact(was), slices.Compact(is)
	change := Change{Changed, name, strings.Join(was, ", "), strings.Join(is, ", ")}
	gone, came := without(was, is), without(is, was)
	switch {
	case len(gone)+len(came) == 0:
		return nil
	case len(gone) == 0 && len(was) == 0:
		change.What = Added
	case len(came) == 0 && len(is) == 0:
		change.What = Removed
	case above(packageType, came, was):
		change.What = Upgraded
	case above(packageType, gone, is):
		change.What = Downgraded
	case len(gone) == 0:
		change.What = Added
	case len(came) == 0:
		change.What = Removed
	}
	return &change
}

func without(list, others []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(others, s) })
}

// above reports whether each version of the first list is later than every one of the
// second. A version that cannot be compared is not.
func above(packageType string, high, low []string) bool {
	for _, h := range high {
		for _, l := range low {
			if order, err := vulnerability.Compare(packageType, h, l); err != nil || order <= 0 {
				return false
			}
		}
	}
	return len(high) > 0
}

func (c *comparison) kernel() []Change {
	packageType := inventory.Deb
	for _, p := range slices.Concat(c.before.Inventory.Packages, c.after.Inventory.Packages) {
		if p.Type == inventory.RPM {
			packageType = inventory.RPM
		}
	}
	some := func(version string) []string {
		if version == "" {
			return nil
		}
		return []string{version}
	}
	before, after := c.before.Inventory.Kernel, c.after.Inventory.Kernel
	var out []Change
	for _, change := range []*Change{
		between(packageType, "running", some(before.Running), some(after.Running)),
		between(packageType, "default", some(before.Default), some(after.Default)),
		between(packageType, "installed", slices.Clone(before.Installed), slices.Clone(after.Installed)),
	} {
		if change != nil {
			out = append(out, *change)
		}
	}
	return out
}

func (c *comparison) vulnerabilities() []Change {
	before, after := c.before.findings(), c.after.findings()
	grade := func(found []vulnerability.Finding) string {
		out := found[0].Severity
		if found[0].Exploited != "" {
			out += ", exploited since " + found[0].Exploited
		}
		return out
	}
	whole := func(found []vulnerability.Finding) string {
		out := grade(found) + ", installed " + found[0].Installed
		if found[0].Fixed != "" {
			out += ", fixed in " + found[0].Fixed
		}
		return out
	}
	var out []Change
	for name, was := range before {
		is, ok := after[name]
		switch {
		case !ok:
			c.counts.Fixed++
			out = append(out, Change{Fixed, name, whole(was), ""})
			continue
		case grade(was) != grade(is):
			out = append(out, Change{Changed, name, grade(was), grade(is)})
		}
		c.counts.Remaining++
	}
	for name, is := range after {
		if _, ok := before[name]; !ok {
			c.counts.New++
			out = append(out, Change{New, name, "", whole(is)})
		}
	}
	return out
}

// verdict is what the checks said of a control.
type verdict struct {
	rank     int // 0: it holds; 1: a waiver accepts that it does not; 2: it does not
	word     string
	severity string
}

func verdicts(r compliance.Report) map[string]verdict {
	out := map[string]verdict{}
	for _, x := range r.Results {
		v := verdict{2, x.Status, x.Severity}
		switch {
		case x.Status == compliance.StatusPass, x.Status == compliance.StatusNotApplicable:
			v.rank = 0
		case x.Waiver != nil:
			v.rank, v.word = 1, "waived"
		}
		out[x.ControlID] = v
	}
	return out
}

func (v verdict) String() string { return v.word + " (" + v.severity + ")" }

func (c *comparison) controls() []Change {
	before, after := verdicts(c.before.Compliance), verdicts(c.after.Compliance)
	var out []Change
	for id, was := range before {
		is, ok := after[id]
		switch {
		case !ok:
			out = append(out, Change{Removed, id, was.String(), ""})
		case is.rank < was.rank:
			out = append(out, Change{Improved, id, was.String(), is.String()})
		case is.rank > was.rank:
			out = append(out, Change{Worsened, id, was.String(), is.String()})
		case is != was:
			out = append(out, Change{Changed, id, was.String(), is.String()})
		}
	}
	for id, is := range after {
		if _, ok := before[id]; !ok {
			out = append(out, Change{Added, id, "", is.String()})
		}
	}
	return out
}

func (c *comparison) waivers() []Change {
	type held struct{ expires, terms, created, falsePositive string }
	of := func(r Record) map[string]held {
		out := map[string]held{}
		for _, w := range r.waivers() {
			terms := fmt.Sprintf("until %s, by %s, approved by %s: %s", cmp.Or(w.Expires, "it is removed"), cmp.Or(w.Author, "an author who is not named"),
				strings.Join(slices.DeleteFunc([]string{w.Approver, w.SecondApprover}, func(s string) bool { return s == "" }), " and "), w.Reason)
			if w.FalsePositive != "" {
				terms += ", stated as a false positive: " + w.FalsePositive
			}
			if there, again := out[w.ID]; again {
				terms = there.terms + "; " + terms
			}
			out[w.ID] = held{w.Expires, terms, w.Created, w.FalsePositive}
		}
		return out
	}
	before, after := of(c.before), of(c.after)
	var out []Change
	for id, was := range before {
		is, ok := after[id]
		switch {
		case !ok:
			out = append(out, Change{Ended, id, was.terms, ""})
		case is.falsePositive != was.falsePositive:
			out = append(out, Change{Changed, id, was.terms, is.terms})
		case is.expires > was.expires:
			out = append(out, Change{Renewed, id, was.terms, is.terms})
		case is.expires < was.expires:
			out = append(out, Change{Shortened, id, was.terms, is.terms})
		case is != was:
			out = append(out, Change{Changed, id, was.terms, is.terms})
		}
	}
	for id, is := range after {
		if _, ok := before[id]; !ok {
			out = append(out, Change{Added, id, "", is.terms})
		}
	}
	return out
}
