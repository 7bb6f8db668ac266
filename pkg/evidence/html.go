package evidence

import (
	_ "embed"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/plan"
)

//go:embed report.css
var pageStyle string

// page is a report with additional values that the page shows.
type page struct {
	Report
	Digest  string
	Tone    string // good | bad | neutral
	Verdict string
	Meaning string
	Guest   string
}

// WriteHTML writes the report as one self-contained page, without scripts and
// without fonts or images from elsewhere.
func (r Report) WriteHTML(w io.Writer) error {
	digest, err := r.Digest()
	if err != nil {
		return err
	}
	p := page{Report: r.canonical(), Digest: digest}
	p.Tone, p.Verdict, p.Meaning = verdict(p.Status)
	if p.Simulated {
		p.Tone, p.Meaning = "neutral", "In the simulation: "+p.Meaning
	}
	p.Guest = guestSentence(p.Guests)
	if err := p.document().Render(w); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

func verdict(status string) (tone, title, meaning string) {
	switch status {
	case contract.Published:
		return "good", "Published", "The image passed the gate, every copy was verified, and the pointers name it now."
	case contract.UpToDate:
		return "good", "Up to date", "An image with the same content and release is already published. Nothing was built."
	case contract.Rejected:
		return "bad", "Rejected", "The image did not pass the gate. It was not published, and no pointer was moved."
	case contract.ApprovalRefused:
		return "bad", "Rejected by a person", "The image passed the gate, and a person rejected the release. It was not published, and no pointer was moved."
	case contract.ApprovalTimedOut:
		return "bad", "Not approved in time", "The image passed the gate, and too few people approved the release in time. It was not published, and no pointer was moved."
	case contract.FailedClean:
		return "bad", "Failed", "The execution failed. Everything it had made was removed; nothing was published."
	case contract.FailedDirty:
		return "bad", "Failed, with remains", "The execution failed, and some of what it made could not be removed. See “Left behind”."
	default:
		return "neutral", status, "The execution ended in a state that this report does not know."
	}
}

func guestSentence(g compliance.Guests) string {
	var s string
	switch g.Kind {
	case "ec2", "":
		s = "Amazon EC2 instances"
	case "vm":
		s = "Rehearsal in virtual machines, not on Amazon EC2"
	case "container":
		s = "Rehearsal in containers, not on Amazon EC2; they share the kernel of the machine on which they ran"
	case "simulated":
		s = "SIMULATED: no real guest ran; every answer came from a script"
	default:
		s = g.Kind
	}
	if g.Description != "" {
		s += " (" + g.Description + ")"
	}
	return s
}

func date(t time.Time) string {
	if t.IsZero() {
		return "—"
	}
	return t.UTC().Format("2 January 2006, 15:04:05 UTC")
}

// quantity of a line of the cost, in its unit.
func quantity(v float64) string { return shortest(significant(v, 3)) }

// price of one unit, in US dollars.
func price(v float64) string { return "$" + shortest(significant(v, 4)) }

func dollars(v float64) string { return "$" + significant(v, 2) }

func between(a, b time.Time) string {
	if a.IsZero() || b.Before(a) {
		return "—"
	}
	return duration(b.Sub(a).Seconds())
}

func percent(part, whole float64) string {
	if whole <= 0 {
		return "0"
	}
	return fmt.Sprintf("%.1f", 100*part/whole)
}

// cis are the rules of CIS benchmarks that a result is about.
func cis(r compliance.Result) string {
	var out []string
	for _, c := range r.Refs.CIS {
		out = append(out, c.Benchmark+" "+c.ID)
	}
	return strings.Join(out, ", ")
}

// parameters of a component, without the empty ones.
func parameters(c plan.Component) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(c.Parameters)) {
		if c.Parameters[name] != "" {
			out = append(out, name+" = "+c.Parameters[name])
		}
	}
	return strings.Join(out, ", ")
}

// linkable says whether a URI may be the target of a link. Others, such as
// s3:// and whatever a guest could have made up, are shown only.
func linkable(uri string) bool {
	return strings.HasPrefix(uri, "https://") || strings.HasPrefix(uri, "http://")
}

// pointer splits a pointer into where it is and the parameter's name, which has no
// colon.
func pointer(s string) (place, name string) {
	at := strings.LastIndex(s, ":")
	if at < 0 {
		return "", s
	}
	return strings.ReplaceAll(s[:at], ":", ", "), s[at+1:]
}

func duration(seconds float64) string {
	switch {
	case seconds < 1:
		return fmt.Sprintf("%.0f ms", seconds*1000)
	case seconds < 60:
		return fmt.Sprintf("%.1f s", seconds)
	case seconds < 3600:
		return fmt.Sprintf("%d min %02d s", int(seconds)/60, int(seconds)%60)
	default:
		return fmt.Sprintf("%d h %02d min", int(seconds)/3600, int(seconds)%3600/60)
	}
}

// significant writes a number with the given number of significant digits, and
// at least cents: 0.00023, 12.50, 431.
func significant(v float64, digits int) string {
	switch {
	case v == 0:
		return "0"
	case v == math.Trunc(v) && v >= 10:
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	before := int(math.Floor(math.Log10(v))) + 1
	return strconv.FormatFloat(v, 'f', max(digits-before, 2), 64)
}

// shortest removes trailing zeros of a fraction.
func shortest(number string) string {
	if !strings.Contains(number, ".") {
		return number
	}
	return strings.TrimSuffix(strings.TrimRight(number, "0"), ".")
}
