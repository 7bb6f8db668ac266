package diff

import (
	"fmt"
	"slices"
	"strings"
)

// OnlyPackageUpgrades reports whether nothing but upgrades of packages differs, with
// what follows from them: a later kernel of an upgraded kernel package, vulnerabilities
// that are fixed, and another image of the same source that is not older. It is false
// where something is not known: without a verified release before, with an inventory
// that is not complete, with more changes than are listed.
func (d Diff) OnlyPackageUpgrades() bool {
	if d.Before == nil || len(d.Before.Incomplete)+len(d.After.Incomplete) > 0 || d.Before.Simulated != d.After.Simulated {
		return false
	}
	kernel := slices.ContainsFunc(d.Section(Packages).Changes, func(c Change) bool { return kernelName.MatchString(c.Name) })
	for _, s := range d.Sections {
		if s.More > 0 {
			return false
		}
		for _, c := range s.Changes {
			if !s.Kind.ordinary(c, kernel) {
				return false
			}
		}
	}
	return true
}

// ordinary reports whether a change is an upgrade of a package, or follows from one.
func (k Kind) ordinary(c Change, kernelUpgraded bool) bool {
	switch k {
	case Packages:
		return c.What == Upgraded
	case Kernel:
		return c.What == Upgraded && kernelUpgraded
	case Source:
		return c.Name == sourceImage && c.What == Upgraded
	case Vulnerabilities:
		return c.What == Fixed
	case System:
		return c.Name == description && c.What == Changed
	}
	return false
}

// Ordinary reports whether a change of a section is one that OnlyPackageUpgrades
// allows.
func (d Diff) Ordinary(k Kind, c Change) bool {
	kernel := slices.ContainsFunc(d.Section(Packages).Changes, func(c Change) bool { return kernelName.MatchString(c.Name) })
	return k.ordinary(c, kernel)
}

// Grave reports whether a person should look at a change first: something is worse, or
// more of the guest can be reached or can do more.
func (d Diff) Grave(k Kind, c Change) bool {
	switch k {
	case Vulnerabilities, Users, Files, Sockets, Repositories, Keys, Sharing, Waivers:
		return !slices.Contains([]string{Fixed, Removed, Ended, Shortened}, c.What)
	case Controls:
		return slices.Contains([]string{Worsened, Removed, Changed}, c.What)
	case Source:
		return !d.Ordinary(k, c)
	}
	return c.What == Downgraded
}

// Limits of one line of a summary.
const (
	maxExamples = 3
	maxExample  = 120 // characters
)

// Lines summarises the diff in at most max sentences, of which the first says what is
// compared. The sections follow that hold more than upgrades of packages, then the
// others.
func (d Diff) Lines(max int) []string {
	if d.Before == nil {
		return []string{"Nothing is compared with this release: " + d.NotCompared + "."}[:min(max, 1)]
	}
	lines := []string{fmt.Sprintf("Compared with %s, released by the execution %s.", d.Before.ImageID, d.Before.Execution)}
	for _, side := range []struct {
		name string
		of   Side
	}{{"before", *d.Before}, {"now", d.After}} {
		if len(side.of.Incomplete) > 0 {
			lines = append(lines, fmt.Sprintf("The inventory %s is not complete: %s.", side.name, clip(strings.Join(side.of.Incomplete, "; "))))
		}
	}
	if d.Before.Simulated != d.After.Simulated {
		lines = append(lines, "One of the two was checked in a simulated guest: their inventories cannot be compared.")
	}
	switch {
	case len(d.Sections) == 0:
		lines = append(lines, "Nothing differs.")
	case d.OnlyPackageUpgrades():
		lines = append(lines, "Only packages were upgraded.")
	}
	var first, last []string
	for _, s := range d.Sections {
		line := d.sentence(s)
		if slices.ContainsFunc(s.Changes, func(c Change) bool { return !d.Ordinary(s.Kind, c) }) || s.More > 0 {
			first = append(first, line)
		} else {
			last = append(last, line)
		}
	}
	lines = append(lines, append(first, last...)...)
	if len(lines) <= max {
		return lines
	}
	if max < 2 {
		return lines[:max]
	}
	left := len(lines) - max + 1
	return append(lines[:max-1], fmt.Sprintf("%d more %s, see the report.", left, plural(left, "line", "lines")))
}

// sentence summarises a section: how many changes of each sort, and examples, first
// those that are more than upgrades of packages.
func (d Diff) sentence(s Section) string {
	var counts []string
	for _, verb := range s.Kind.verbs() {
		if n := count(s.Changes, verb); n > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", n, verb))
		}
	}
	if s.More > 0 {
		counts = append(counts, fmt.Sprintf("%d not listed", s.More))
	}
	if s.Kind == Vulnerabilities {
		counts = append(counts, fmt.Sprintf("%d remaining", d.Vulnerabilities.Remaining))
	}
	shown := slices.Clone(s.Changes)
	slices.SortStableFunc(shown, func(a, b Change) int { return rank(d.Ordinary(s.Kind, a)) - rank(d.Ordinary(s.Kind, b)) })
	var examples []string
	for _, c := range shown[:min(len(shown), maxExamples)] {
		examples = append(examples, clip(c.String()))
	}
	if len(shown) > maxExamples {
		examples = append(examples, "…")
	}
	return fmt.Sprintf("%s: %s (%s).", s.Kind.Title(), strings.Join(counts, ", "), strings.Join(examples, "; "))
}

// String is the change in a few words.
func (c Change) String() string {
	switch {
	case c.Before != "" && c.After != "":
		return fmt.Sprintf("%s %s: %s -> %s", c.Name, c.What, c.Before, c.After)
	case c.Before+c.After != "":
		return fmt.Sprintf("%s %s: %s", c.Name, c.What, c.Before+c.After)
	}
	return c.Name + " " + c.What
}

func count(changes []Change, verb string) int {
	n := 0
	for _, c := range changes {
		if c.What == verb {
			n++
		}
	}
	return n
}

func rank(ordinary bool) int {
	if ordinary {
		return 1
	}
	return 0
}

func clip(s string) string {
	if r := []rune(s); len(r) > maxExample {
		return string(r[:maxExample-1]) + "…"
	}
	return s
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}
