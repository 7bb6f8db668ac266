package evidence

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/ami-factory/ami-factory/pkg/compliance"
)

// The elements of a JUnit report that CI systems read
// (https://docs.gitlab.com/ci/testing/unit_test_reports/).
type (
	junitSuites struct {
		XMLName xml.Name `xml:"testsuites"`
		Name    string   `xml:"name,attr"`
		junitCounts
		Suites []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name string `xml:"name,attr"`
		junitCounts
		Timestamp string      `xml:"timestamp,attr,omitempty"`
		Cases     []junitCase `xml:"testcase"`
	}
	junitCounts struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Errors   int `xml:"errors,attr"`
		Skipped  int `xml:"skipped,attr"`
	}
	junitCase struct {
		Name      string        `xml:"name,attr"`
		ClassName string        `xml:"classname,attr"`
		File      string        `xml:"file,attr,omitempty"`
		Time      string        `xml:"time,attr"`
		Failure   *junitOutcome `xml:"failure"`
		Error     *junitOutcome `xml:"error"`
		Skipped   *junitOutcome `xml:"skipped"`
	}
	junitOutcome struct {
		Type    string `xml:"type,attr,omitempty"`
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// WriteJUnit writes each control and each vulnerability as a test case, grouped by
// component, which is also the class name. A waived one is skipped; one that could not be
// checked is an error. Without results the execution itself is the only case.
func (r Report) WriteJUnit(w io.Writer) error {
	name := r.Recipe
	if r.canonical().Simulated {
		name = "SIMULATED: " + name
	}
	out := junitSuites{Name: name}
	names := map[string]bool{}
	for _, c := range r.junitCases() {
		// A name that occurs twice in a class would hide one of the two.
		for at, base := 2, c.Name; names[c.ClassName+"\x00"+c.Name]; at++ {
			c.Name = fmt.Sprintf("%s (%d)", base, at)
		}
		names[c.ClassName+"\x00"+c.Name] = true
		if len(out.Suites) == 0 || out.Suites[len(out.Suites)-1].Name != c.ClassName {
			out.Suites = append(out.Suites, junitSuite{Name: c.ClassName, Timestamp: timestamp(r.Execution.Started)})
		}
		suite := &out.Suites[len(out.Suites)-1]
		suite.Cases = append(suite.Cases, c)
		suite.count(c)
		out.count(c)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(out); err != nil {
		return fmt.Errorf("write the JUnit report: %w", err)
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func (n *junitCounts) count(c junitCase) {
	n.Tests++
	switch {
	case c.Failure != nil:
		n.Failures++
	case c.Error != nil:
		n.Errors++
	case c.Skipped != nil:
		n.Skipped++
	}
}

func timestamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05")
}

// junitCases are sorted by class and name.
func (r Report) junitCases() []junitCase {
	var out []junitCase
	if r.Compliance != nil {
		for _, x := range r.Compliance.Results {
			c := junitCase{
				Name: x.ControlID + " " + x.Title, ClassName: cmp.Or(x.Component, "controls"), File: r.RecipeFile(),
				Time: fmt.Sprintf("%.3f", max(x.Ended.Sub(x.Started).Seconds(), 0)),
			}
			if !good(x) {
				c.judge(ofControl(x), x.Status == compliance.StatusFail)
			}
			out = append(out, c)
		}
	}
	if r.Vulnerabilities != nil {
		for _, v := range r.Vulnerabilities.Findings {
			if v.Status == VulnerabilityNotAffected {
				continue
			}
			c := junitCase{Name: v.ID + " " + v.Package, ClassName: ComponentVulnerabilities, File: r.RecipeFile(), Time: "0.000"}
			c.judge(ofVulnerability(v), true)
			out = append(out, c)
		}
	}
	if r.Failure != nil && r.Compliance == nil {
		out = append(out, junitCase{
			Name: "execution " + r.Execution.Name, ClassName: "execution", Time: fmt.Sprintf("%.3f", max(r.Execution.Ended.Sub(r.Execution.Started).Seconds(), 0)),
			Error: &junitOutcome{Type: r.Failure.Error, Message: "failed in state " + r.Failure.State, Text: r.Failure.Cause},
		})
	}
	slices.SortStableFunc(out, func(a, b junitCase) int {
		return cmp.Or(strings.Compare(a.ClassName, b.ClassName), strings.Compare(a.Name, b.Name))
	})
	return out
}

// judge sets the outcome of a case that did not pass. failed: it was checked, and what
// was found is wrong.
func (c *junitCase) judge(f Finding, failed bool) {
	kind := f.Severity
	if f.Rejecting {
		kind += ", rejects the image"
	}
	switch {
	case f.Waiver != nil:
		c.Skipped = &junitOutcome{Message: "waived: " + WaivedBy(*f.Waiver)}
	case failed:
		c.Failure = &junitOutcome{Type: kind, Message: f.Title, Text: f.text()}
	default:
		c.Error = &junitOutcome{Type: kind, Message: strings.ReplaceAll(f.Status, "_", " ") + ": " + f.Title, Text: f.text()}
	}
}

func (f Finding) text() string {
	out := "Expected: " + f.Expected + "\nFound: " + f.Actual
	if f.Fix != "" {
		out += "\nFix: " + f.Fix
	}
	return out
}
