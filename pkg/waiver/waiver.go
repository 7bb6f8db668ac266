// Package waiver holds what a waiver is, wherever it is written: in a recipe or
// in a file that recipes share. A waiver accepts one failed control, or one
// vulnerability in one package, for a reason and for a time.
package waiver

import (
	"fmt"
	"strings"
	"time"
)

// Waiver is what every waiver states. Dates are YYYY-MM-DD, in UTC.
type Waiver struct {
	Control        string
	Vulnerability  string
	Package        string
	FalsePositive  FalsePositive
	Reason         string
	Author         string
	Approver       string
	SecondApprover string
	Created        string
	Expires        string // the last day on which the waiver holds
}

// FalsePositive states that the image is not affected by the vulnerability of the
// waiver. The zero value states nothing: the vulnerability is accepted.
type FalsePositive struct {
	// Justification is why the image is not affected, one of the justifications of OpenVEX.
	Justification string `yaml:"justification" json:"justification,omitempty" jsonschema:"required,enum=component_not_present,enum=vulnerable_code_not_present,enum=vulnerable_code_not_in_execute_path,enum=vulnerable_code_cannot_be_controlled_by_adversary,enum=inline_mitigations_already_exist" example:"vulnerable_code_not_in_execute_path"`
}

// EndsSoon is how long before its end a waiver is reported as ending.
const EndsSoon = 14 * 24 * time.Hour

// Longest is the longest term of any waiver: one that never ends is a policy.
const Longest = 366

// Days are the longest terms of waivers in days, by the severity of what they
// accept. Zero stands for the default of DefaultDays.
type Days struct {
	// Critical is the longest term of a waiver of severity critical.
	Critical int `yaml:"critical,omitempty" json:"critical,omitempty" jsonschema:"minimum=1,maximum=366,default=30"`
	// High is the longest term of a waiver of severity high.
	High int `yaml:"high,omitempty" json:"high,omitempty" jsonschema:"minimum=1,maximum=366,default=90"`
	// Medium is the longest term of a waiver of severity medium.
	Medium int `yaml:"medium,omitempty" json:"medium,omitempty" jsonschema:"minimum=1,maximum=366,default=180"`
	// Low is the longest term of a waiver of severity low.
	Low int `yaml:"low,omitempty" json:"low,omitempty" jsonschema:"minimum=1,maximum=366,default=365"`
}

// DefaultDays are the longest terms where the baseline states none.
func DefaultDays() Days { return Days{Critical: 30, High: 90, Medium: 180, Low: 365} }

// For returns the longest term for a severity. An unknown severity has the term
// of critical, so that a typing error cannot lengthen a waiver.
func (d Days) For(severity string) int {
	standard := DefaultDays()
	of := func(own, otherwise int) int {
		if own > 0 {
			return own
		}
		return otherwise
	}
	switch severity {
	case "low":
		return of(d.Low, standard.Low)
	case "medium":
		return of(d.Medium, standard.Medium)
	case "high":
		return of(d.High, standard.High)
	}
	return of(d.Critical, standard.Critical)
}

// Subject names what the waiver accepts: SYS-02, or CVE-2026-1 in openssl.
func (w Waiver) Subject() string {
	switch {
	case w.Control != "":
		return w.Control
	case w.Package != "":
		return w.Vulnerability + " in " + w.Package
	}
	return w.Vulnerability
}

// Ended reports whether the waiver no longer holds. One whose end is no date has
// ended.
func (w Waiver) Ended(now time.Time) bool {
	end, err := w.end()
	return err != nil || !now.Before(end)
}

// EndsSoon reports whether the waiver still holds, but ends within EndsSoon.
func (w Waiver) EndsSoon(now time.Time) bool {
	end, err := w.end()
	return err == nil && now.Before(end) && end.Sub(now) <= EndsSoon
}

// DaysLeft is how many days the waiver still holds, today included; 0 if it has
// ended.
func (w Waiver) DaysLeft(now time.Time) int {
	end, err := w.end()
	if err != nil || !now.Before(end) {
		return 0
	}
	return int((end.Sub(now) + 24*time.Hour - 1) / (24 * time.Hour))
}

// Term is the time from the day of creation to the last day, in days; ok is
// false if one of the two is no date.
func (w Waiver) Term() (days int, ok bool) {
	from, err := time.Parse(time.DateOnly, w.Created)
	if err != nil {
		return 0, false
	}
	to, err := time.Parse(time.DateOnly, w.Expires)
	if err != nil {
		return 0, false
	}
	return int(to.Sub(from) / (24 * time.Hour)), true
}

// Refuse returns why the waiver does not hold now for something of this
// severity, or "" if it holds. Of an exploited vulnerability two people must
// have approved it.
func (w Waiver) Refuse(severity string, exploited bool, days Days, now time.Time) string {
	term, known := w.Term()
	created, _ := time.Parse(time.DateOnly, w.Created)
	switch {
	case !known && w.Created == "":
		return "does not say when it was created"
	case !known:
		return "has dates that are not of the calendar"
	case w.Ended(now):
		return "expired on " + w.Expires
	case created.After(now):
		return "was created in the future, on " + w.Created
	case term > days.For(severity):
		return fmt.Sprintf("holds for %d days, longer than the %d that are allowed for severity %s", term, days.For(severity), severity)
	case exploited && (w.SecondApprover == "" || same(w.SecondApprover, w.Approver)):
		return "has one approver, but a vulnerability that is known to be exploited needs two"
	}
	return ""
}

// end is the first moment at which the waiver no longer holds.
func (w Waiver) end() (time.Time, error) {
	day, err := time.Parse(time.DateOnly, w.Expires)
	return day.AddDate(0, 0, 1), err
}

// Finding is something wrong with a waiver, or worth a warning.
type Finding struct {
	Field   string // of the waiver, such as expires
	Message string
	Allowed string
	Warning bool
}

// Check finds what is wrong with a waiver, whatever the severity of its subject.
// valid says which fields were read without a problem, so that a missing or
// malformed one, which the decoder reports, is not reported again.
func (w Waiver) Check(now time.Time, valid func(field string) bool) []Finding {
	var out []Finding
	say := func(field, allowed, format string, args ...any) {
		out = append(out, Finding{Field: field, Message: fmt.Sprintf(format, args...), Allowed: allowed})
	}
	w.subject(say, valid)
	w.falsePositive(say, valid)
	w.people(say, valid)
	var from, to time.Time
	for _, d := range []struct {
		field, text string
		into        *time.Time
	}{{"created", w.Created, &from}, {"expires", w.Expires, &to}} {
		if !valid(d.field) {
			continue
		}
		var err error
		if *d.into, err = time.Parse(time.DateOnly, d.text); err != nil {
			say(d.field, "a date, YYYY-MM-DD", "%s: %q is not a date of the calendar", d.field, d.text)
		}
	}
	if from.After(now) {
		say("created", "today or earlier, in UTC", "the waiver of %s was created in the future, on %s", w.Subject(), w.Created)
	}
	switch {
	case to.IsZero():
	case !from.IsZero() && to.Before(from):
		say("expires", "the day of creation or later", "the waiver of %s expires on %s, before it was created on %s", w.Subject(), w.Expires, w.Created)
	case w.Ended(now):
		say("expires", "today or later", "the waiver of %s expired on %s; fix what it accepts or have the waiver approved again", w.Subject(), w.Expires)
	case to.Sub(now) > Longest*24*time.Hour || !from.IsZero() && to.Sub(from) > Longest*24*time.Hour:
		say("expires", "at most one year after its creation", "the waiver of %s would hold until %s", w.Subject(), w.Expires)
	case w.EndsSoon(now):
		out = append(out, Finding{Field: "expires", Message: w.Ending(now), Warning: true})
	}
	return out
}

// Ending says when the waiver ends.
func (w Waiver) Ending(now time.Time) string {
	left := w.DaysLeft(now)
	days := "days"
	if left == 1 {
		days = "day"
	}
	return fmt.Sprintf("the waiver of %s ends on %s, with %d %s left; fix what it accepts or have the waiver approved again", w.Subject(), w.Expires, left, days)
}

func (w Waiver) subject(say func(field, allowed, format string, args ...any), valid func(string) bool) {
	control, vulnerability, pkg := valid("control"), valid("vulnerability"), valid("package")
	const allowed = "either control, or vulnerability and package"
	switch {
	case w.Control != "" && (w.Vulnerability != "" || w.Package != ""):
		say("control", allowed, "a waiver accepts a control or a vulnerability, not both")
	case vulnerability && w.Package == "" && !control:
		say("vulnerability", "vulnerability and package", "the waiver of %s names no package; without one it would be a waiver of the vulnerability everywhere", w.Vulnerability)
	case pkg && w.Vulnerability == "" && !control:
		say("package", "vulnerability and package", "the waiver names the package %s, but no vulnerability", w.Package)
	}
}

// updates begins the ids that stand for pending updates of the guest. They are not
// vulnerabilities, so they cannot be false positives.
const updates = "PENDING-SECURITY-UPDATE"

func (w Waiver) falsePositive(say func(field, allowed, format string, args ...any), valid func(string) bool) {
	switch {
	case !valid("falsePositive"):
	case w.Control != "" && w.Vulnerability == "":
		say("falsePositive", "falsePositive beside vulnerability and package", "the waiver of %s says falsePositive, but a control is not a vulnerability", w.Control)
	case strings.HasPrefix(w.Vulnerability, updates):
		say("falsePositive", "falsePositive beside the id of a vulnerability", "%s is about updates that are pending, not about a vulnerability that can be a false positive", w.Subject())
	}
}

func (w Waiver) people(say func(field, allowed, format string, args ...any), valid func(string) bool) {
	if valid("author") && valid("approver") && same(w.Author, w.Approver) {
		say("approver", "somebody other than author", "the waiver of %s is approved by its author, %s", w.Subject(), w.Approver)
	}
	if !valid("secondApprover") {
		return
	}
	if valid("author") && same(w.Author, w.SecondApprover) {
		say("secondApprover", "somebody other than author", "the waiver of %s is approved by its author, %s", w.Subject(), w.SecondApprover)
	}
	if valid("approver") && same(w.Approver, w.SecondApprover) {
		say("secondApprover", "somebody other than approver", "the waiver of %s has the same approver twice, %s", w.Subject(), w.SecondApprover)
	}
}

// same reports whether two texts name the same person.
func same(a, b string) bool {
	normal := func(s string) string { return strings.ToLower(strings.Join(strings.Fields(s), " ")) }
	return normal(a) == normal(b)
}
