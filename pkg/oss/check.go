package oss

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/github/go-spdx/v2/spdxexp"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/evidence/inventory"
	"github.com/ami-factory/ami-factory/pkg/plaintext"
	"github.com/ami-factory/ami-factory/pkg/problem"
)

// Engine is the name of these checks in results.
const Engine = "oss"

// Subject is what is judged.
type Subject struct {
	ID       string // of the image or the folder
	Packages []inventory.Package
	// Evidence of licenses by the name of the package; nil: there is none.
	Evidence map[string]Evidence
	// Incomplete says why packages may be missing.
	Incomplete []string
}

// Options are how it is judged.
type Options struct {
	Gate    string
	Waivers compliance.Waivers
	Now     time.Time
	RunID   string
}

// Controls lists what Check proves.
func Controls() []compliance.Control {
	control := func(id, severity, title, fix string) compliance.Control {
		return compliance.Control{
			ID: id, Title: title, Severity: severity, Component: "oss", Fix: fix, Engine: Engine,
			Resources: []compliance.Resource{{ID: strings.ToLower(id), Type: "packages", Properties: []string{"approved"}}},
		}
	}
	return []compliance.Control{
		control("OSS-01", "high", "Every package is approved", "Remove the package, or have its source approved in userdata/oss."),
		control("OSS-02", "high", "No approval has expired", "Have the source approved again, or remove the package."),
		control("OSS-03", "high", "Every license is allowed", "Remove the package, or have its licenses reviewed and stated in the approval."),
		control("OSS-04", "critical", "No package has nearly the name of an approved one", "Find out where the package is from. If it is what it should be, have it approved by its own name."),
		control("OSS-05", "critical", "All packages are known", "Collect the inventory again."),
	}
}

// Check judges what is installed. Every package counts, also one that came as a dependency.
func (l List) Check(s Subject, o Options) (compliance.Report, error) {
	found := map[string][]string{}
	say := func(id, format string, args ...any) {
		text := plaintext.Clip(plaintext.Clean(fmt.Sprintf(format, args...)), 500)
		if !slices.Contains(found[id], text) {
			found[id] = append(found[id], text)
		}
	}
	var warnings []string
	for _, p := range s.Packages {
		l.judge(p, s, o.Now, say, &warnings)
	}
	if len(s.Packages) == 0 {
		say("OSS-05", "no package at all")
	}
	for _, why := range s.Incomplete {
		say("OSS-05", "%s", why)
	}
	expected := fmt.Sprintf("%d packages, all as the allow-list says", len(s.Packages))
	properties := map[string][]compliance.PropertyResult{}
	for _, c := range Controls() {
		texts := found[c.ID]
		if len(texts) == 0 {
			properties[c.ID] = []compliance.PropertyResult{{Rule: c.Resources[0].ID, Status: compliance.StatusPass, Expected: expected, Actual: expected}}
		}
		for _, t := range texts {
			properties[c.ID] = append(properties[c.ID], compliance.PropertyResult{Rule: c.Resources[0].ID, Status: compliance.StatusFail, Expected: c.Title, Actual: t})
		}
	}
	report, err := compliance.Judge(compliance.Input{
		Controls: Controls(), Gate: o.Gate, Waivers: o.Waivers, Now: o.Now, RunID: o.RunID, ImageID: s.ID,
		Engine: compliance.Engine{Name: Engine, Version: "1"},
	}, properties)
	slices.Sort(warnings)
	report.Warnings = append(report.Warnings, slices.Compact(warnings)...)
	return report, err
}

func (l List) judge(p inventory.Package, s Subject, now time.Time, say func(id, format string, args ...any), warnings *[]string) {
	source := p.Source
	if source == "" {
		source = p.Name
	}
	label := p.Name
	if source != p.Name {
		label = fmt.Sprintf("%s of the source %s", p.Name, source)
	}
	var ended, other *approval
	for i := range l.approvals {
		a := &l.approvals[i]
		if a.Ecosystem != p.Type || a.Source != source || a.Name != "" && a.Name != p.Name {
			continue
		}
		version := p.SourceVersion
		if version == "" || a.Name != "" {
			version = p.FullVersion()
		}
		in, err := includes(a.versions, version)
		switch {
		case err != nil:
			say("OSS-01", "%s: %v", label, err)
			return
		case !in:
			other = a
		case a.ended(now):
			ended = a
		default:
			if a.endsSoon(now) {
				*warnings = append(*warnings, a.ending())
			}
			l.licensed(p, label, a.Licenses, s, say)
			return
		}
	}
	switch {
	case ended != nil:
		say("OSS-02", "the approval of %s expired on %s (%s)", source, ended.Expires, ended.place)
	case other != nil:
		say("OSS-01", "%s has version %s; approved is %s (%s)", label, p.FullVersion(), other.Versions, other.place)
	default:
		say("OSS-01", "%s %s is not approved", label, p.FullVersion())
		for _, name := range []string{source, p.Name} {
			if like := l.alike(p.Type, name); like != "" {
				say("OSS-04", "%s is nearly %s, which is approved", name, like)
			}
		}
	}
}

// alike is an approved name from which another differs in one letter.
func (l List) alike(ecosystem, name string) string {
	var names []string
	for _, a := range l.approvals {
		if a.Ecosystem == ecosystem {
			names = append(names, a.Source)
			if a.Name != "" {
				names = append(names, a.Name)
			}
		}
	}
	slices.Sort(names)
	if slices.Contains(names, name) {
		return ""
	}
	for _, n := range names {
		if problem.Distance(n, name) == 1 {
			return n
		}
	}
	return ""
}

// licensed judges the licenses of an approved package.
func (l List) licensed(p inventory.Package, label, reviewed string, s Subject, say func(id, format string, args ...any)) {
	evidence, known := s.Evidence[p.Name]
	if reviewed == "" {
		switch {
		case !known:
			say("OSS-03", "the licenses of %s are not known: there is no copyright file, and the approval states none", label)
			return
		case !evidence.Readable || len(evidence.Expressions)+len(evidence.Unknown) == 0:
			say("OSS-03", "the copyright file of %s is not machine-readable, and the approval states no licenses", label)
			return
		}
		for _, u := range evidence.Unknown {
			say("OSS-03", "the copyright file of %s names %q, which SPDX does not have; the approval must state the licenses", label, u)
		}
	}
	allowed := slices.Clone(l.licenses)
	if reviewed != "" {
		stated, err := spdxexp.ExtractLicenses(reviewed)
		if err != nil {
			say("OSS-03", "the approval of %s: %v", label, err)
			return
		}
		allowed = append(allowed, stated...)
	}
	if len(allowed) == 0 {
		say("OSS-03", "no license is allowed")
		return
	}
	for _, e := range evidence.Expressions {
		switch ok, err := spdxexp.Satisfies(e, allowed); {
		case err != nil:
			say("OSS-03", "the copyright file of %s names %q: %v", label, e, err)
		case !ok:
			say("OSS-03", "the copyright file of %s names %s, which is neither allowed nor stated in the approval", label, e)
		}
	}
}
