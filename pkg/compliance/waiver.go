package compliance

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/ami-factory/ami-factory/pkg/waiver"
)

// Waiver accepts one failed control, or one vulnerability in one package.
type Waiver struct {
	ID             string `json:"id"`
	Control        string `json:"control,omitempty"`
	Vulnerability  string `json:"vulnerability,omitempty"`
	Package        string `json:"package,omitempty"`       // source or binary package with the vulnerability
	FalsePositive  string `json:"falsePositive,omitempty"` // the image is not affected: a justification of OpenVEX
	Reason         string `json:"reason"`
	Author         string `json:"author,omitempty"`
	Approver       string `json:"approver"`
	SecondApprover string `json:"secondApprover,omitempty"`
	Created        string `json:"created,omitempty"` // YYYY-MM-DD
	Expires        string `json:"expires"`           // YYYY-MM-DD, the last day of its validity, in UTC; empty if built in
	Scope          string `json:"scope"`             // the recipe, or the scope of a shared waiver
	File           string `json:"file,omitempty"`    // of a shared waiver, below the root of the user data
	BuiltIn        bool   `json:"builtIn,omitempty"` // given by the component, reviewed with its code
}

// terms returns what the waiver states.
func (w Waiver) terms() waiver.Waiver {
	return waiver.Waiver{
		Control: w.Control, Vulnerability: w.Vulnerability, Package: w.Package, FalsePositive: waiver.FalsePositive{Justification: w.FalsePositive}, Reason: w.Reason,
		Author: w.Author, Approver: w.Approver, SecondApprover: w.SecondApprover, Created: w.Created, Expires: w.Expires,
	}
}

// Subject names what the waiver accepts: SYS-02, or CVE-2026-12345 in openssl.
func (w Waiver) Subject() string { return w.terms().Subject() }

// DaysLeft is how many days the waiver still holds, today included. A built-in
// waiver has no end; for it ok is false.
func (w Waiver) DaysLeft(now time.Time) (days int, ok bool) {
	return w.terms().DaysLeft(now), !w.BuiltIn
}

// EndsSoon reports whether the waiver still holds, but ends within 14 days.
func (w Waiver) EndsSoon(now time.Time) bool { return !w.BuiltIn && w.terms().EndsSoon(now) }

// EndingSoon says which of the waivers still hold, but end within 14 days.
func EndingSoon(all []Waiver, now time.Time) []string {
	var out []string
	for _, w := range all {
		if w.EndsSoon(now) {
			out = append(out, w.terms().Ending(now))
		}
	}
	slices.Sort(out)
	return out
}

// Waivers judges failed controls and vulnerabilities by the waivers of an image.
type Waivers struct {
	Given []Waiver
	Days  waiver.Days // the longest terms by severity; zero stands for the defaults
}

// Subject is what a waiver may accept.
type Subject struct {
	Control       string   // of a control: its id
	Vulnerability string   // of a vulnerability: its id
	Aliases       []string // other ids of the same vulnerability
	Packages      []string // names of the package with the vulnerability: binary and source
	Severity      string
	FalsePositive bool // only waivers that state a false positive hold; otherwise only those that accept it
	Exploited     bool // known to be exploited, as CISA's catalogue says: two people must have approved the waiver
}

func (s Subject) matches(w Waiver) bool {
	if s.Control != "" || w.Control != "" {
		return s.Control == w.Control
	}
	return w.Vulnerability != "" && s.FalsePositive == (w.FalsePositive != "") && (s.Vulnerability == w.Vulnerability || slices.Contains(s.Aliases, w.Vulnerability)) && slices.Contains(s.Packages, w.Package)
}

// For returns the waiver that accepts a subject now, or nil. notes say why a
// waiver that names the subject does not hold, or that the one that holds ends
// soon.
func (ws Waivers) For(s Subject, now time.Time) (holding *Waiver, notes []string) {
	for _, w := range ws.Given {
		if w.BuiltIn || !s.matches(w) {
			continue
		}
		if why := w.terms().Refuse(s.Severity, s.Exploited, ws.Days, now); why != "" {
			notes = append(notes, fmt.Sprintf("the waiver of %s %s and was not applied", w.Subject(), why))
			continue
		}
		if holding == nil {
			found := w
			holding = &found
			if w.EndsSoon(now) {
				notes = append(notes, w.terms().Ending(now))
			}
		}
	}
	return holding, notes
}

// ofControls returns the waivers of controls, sorted by control.
func (ws Waivers) ofControls() []Waiver {
	out := slices.DeleteFunc(slices.Clone(ws.Given), func(w Waiver) bool { return w.Control == "" })
	slices.SortStableFunc(out, func(a, b Waiver) int { return cmp.Compare(a.Control, b.Control) })
	return out
}

// Ended returns the waivers that the verdict needed and that no longer hold: an
// image is not published on their strength. A waiver of a failure below the gate
// was not needed.
func (r Report) Ended(now time.Time) []Waiver {
	var out []Waiver
	for _, result := range r.Results {
		w := result.Waiver
		if w != nil && !w.BuiltIn && !result.good() && result.rejects(r.Gate) && w.terms().Ended(now) {
			out = append(out, *w)
		}
	}
	return append(out, r.Vulnerabilities.ended(now)...)
}
