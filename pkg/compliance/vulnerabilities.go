package compliance

import (
	"fmt"
	"time"
)

// Vulnerabilities summarises the verdict on an image's vulnerabilities, which package
// vulnerability keeps in full in vulnerabilities.json. It is part of the verdict of a
// report.
type Vulnerabilities struct {
	SHA256    string   `json:"sha256"` // of vulnerabilities.json
	Gate      bool     `json:"gate"`   // the recipe has gate.vulnerabilities
	Verdict   string   `json:"verdict"`
	Total     int      `json:"total"`
	Rejecting int      `json:"rejecting"`
	Waived    int      `json:"waived"`
	Waivers   []Waiver `json:"waivers,omitempty"` // that the verdict needed
	Cause     string   `json:"cause,omitempty"`   // why the image was rejected
}

// Judge makes the verdict on vulnerabilities part of the report's.
func (r *Report) Judge(v *Vulnerabilities) {
	r.Vulnerabilities = v
	if v.Verdict != VerdictPassed {
		r.Verdict = VerdictRejected
	}
}

// doubts returns why the record does not prove that the image passed; gate says
// whether the recipe demands it.
func (v *Vulnerabilities) doubts(gate bool) []string {
	switch {
	case v == nil && gate:
		return []string{"the recipe has gate.vulnerabilities, and it has no verdict on vulnerabilities"}
	case v == nil:
		return nil
	case gate && !v.Gate:
		return []string{"the recipe has gate.vulnerabilities, and vulnerabilities were judged without it"}
	case v.Verdict != VerdictPassed || v.Rejecting > 0:
		return []string{fmt.Sprintf("its verdict on vulnerabilities is %q with %d that reject", v.Verdict, v.Rejecting)}
	}
	return nil
}

// VulnerabilityDoubts is like Doubts for the part of the verdict on vulnerabilities.
func (r Report) VulnerabilityDoubts(gate bool) []string { return r.Vulnerabilities.doubts(gate) }

// ended returns the waivers that the verdict needed and that no longer hold.
func (v *Vulnerabilities) ended(now time.Time) []Waiver {
	if v == nil {
		return nil
	}
	var out []Waiver
	for _, w := range v.Waivers {
		if w.terms().Ended(now) {
			out = append(out, w)
		}
	}
	return out
}
