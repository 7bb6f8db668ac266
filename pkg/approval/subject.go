package approval

import (
	"fmt"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/plaintext"
)

// Subject is what people decide about, in short: the signed evidence says it in full.
// RequestApproval takes all of it from records whose digests the manifest names.
type Subject struct {
	Simulated bool    `json:"simulated,omitempty"` // no guest was run: the evidence proves nothing
	Verdict   string  `json:"verdict"`             // of the gate, such as passed
	Gate      string  `json:"gate"`                // lowest severity that rejects
	Passed    int     `json:"passed"`              // controls
	Failed    int     `json:"failed"`              // below the gate, and not waived
	Waived    int     `json:"waived"`
	Packages  int     `json:"packages"` // of the image, which were matched against known vulnerabilities
	Open      []Count `json:"open"`     // vulnerabilities that are not waived, the highest severity first; none is left out
	// WaivedVulnerabilities counts the vulnerabilities that waivers accept.
	WaivedVulnerabilities int `json:"waivedVulnerabilities"`
	// NotAffected counts the vulnerabilities that waivers state to be false positives.
	NotAffected int      `json:"notAffected,omitempty"`
	Waivers     []string `json:"waivers"`               // of the recipe, one line each
	MoreWaivers int      `json:"moreWaivers,omitempty"` // that are not listed
	Images      []Image  `json:"images"`                // by region
	Changes     []string `json:"changes,omitempty"`     // from the release before, in lines
}

// Count is a number of vulnerabilities of one severity.
type Count struct {
	Severity string `json:"severity"`
	Count    int    `json:"count"`
}

// Image is the image of one region.
type Image struct {
	Region  string `json:"region"`
	ImageID string `json:"imageId"`
}

// Bounds of the lists in a subject. Recipes and guests decide how long the lists in the
// evidence are.
const (
	MaxWaivers = 40
	MaxChanges = 40
	maxLine    = 400 // bytes as JSON
)

// Line makes a text fit for one line of a subject.
func Line(s string) string {
	one := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	return one(plaintext.Clip(one(plaintext.Clean(s)), maxLine))
}

// Row is one line of a description. Rows that go on with the one before have no label.
type Row struct{ Label, Text string }

// Describe is what a person reads before they decide.
func (r Request) Describe() []Row {
	var out []Row
	add := func(label, format string, args ...any) {
		out = append(out, Row{label, Line(fmt.Sprintf(format, args...))})
	}
	list := func(label string, lines []string) {
		for i, line := range lines {
			if i > 0 {
				label = ""
			}
			add(label, "%s", line)
		}
	}
	add("release", "of %s by %s", r.Recipe, r.Execution)
	add("started by", "%s", r.Requester)
	if s := r.Subject; s != nil {
		if s.Simulated {
			add("guests", "SIMULATED: no guest was run, and nothing below is proved")
		}
		add("verdict", "%s: %d controls passed, %d failed below the gate (%s), %d waived", s.Verdict, s.Passed, s.Failed, s.Gate, s.Waived)
		add("vulnerable", "%s", s.vulnerabilities())
		waivers := s.Waivers
		if s.MoreWaivers > 0 {
			waivers = append(waivers[:len(waivers):len(waivers)], fmt.Sprintf("and %d more, which the report lists", s.MoreWaivers))
		}
		if len(waivers) == 0 {
			waivers = []string{"none"}
		}
		list("waivers", waivers)
		for i, image := range s.Images {
			label := "images"
			if i > 0 {
				label = ""
			}
			add(label, "%s %s", image.Region, image.ImageID)
		}
		list("changes", s.Changes)
	}
	add("evidence", "%s", r.BundleDigest)
	return out
}

func (s Subject) vulnerabilities() string {
	var counts []string
	for _, c := range s.Open {
		counts = append(counts, fmt.Sprintf("%d %s", c.Count, c.Severity))
	}
	open := "none is known"
	if len(counts) > 0 {
		open = strings.Join(counts, ", ")
	}
	if s.WaivedVulnerabilities > 0 {
		open += fmt.Sprintf("; %d waived", s.WaivedVulnerabilities)
	}
	if s.NotAffected > 0 {
		open += fmt.Sprintf("; %d stated as false positives", s.NotAffected)
	}
	return fmt.Sprintf("%s, in %d packages", open, s.Packages)
}
