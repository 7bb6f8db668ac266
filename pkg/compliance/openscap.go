package compliance

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
)

// OpenSCAP is the engine of oscap and a SCAP data stream. Its exit code says too
// little (2 is a failure or an unknown result), so only the results count: the
// ARF, the asset reporting format of NIST IR 7694, with an XCCDF 1.2 test result
// (NIST IR 7275).
type OpenSCAP struct {
	Stream        string   `json:"stream"` // where the data stream is: see stage RunCompliance
	SHA256        string   `json:"sha256"` // of the data stream
	Program       string   `json:"program,omitempty"`
	ProgramSHA256 string   `json:"programSHA256,omitempty"`
	Profile       string   `json:"profile"` // id
	MinimumRules  int      `json:"minimumRules"`
	NotApplicable []string `json:"notApplicable,omitempty"` // ids of rules that may be
	Severity      string   `json:"severity"`                // from which a failed rule rejects the image
}

// OpenSCAPControl is the control that enough rules of the profile were evaluated.
const OpenSCAPControl = "OSCAP-01"

// Limits of what oscap writes. The results of a profile of 400 rules have 30 MB,
// most of it the data stream's own text.
const (
	maxARF      = 512 << 20
	maxXMLDepth = 100
	maxRules    = 5000
	maxXMLText  = 64 << 10 // of an id, a title or a result
)

const xccdf = "http://checklists.nist.gov/xccdf/1.2"

func (o *OpenSCAP) name() string { return EngineOpenSCAP }
func (o *OpenSCAP) most() int64  { return maxARF }

func (o *OpenSCAP) content() Content {
	return Content{ID: o.Profile, Version: path.Base(o.Stream), SHA256: o.SHA256}
}

func (o *OpenSCAP) controls() []Control {
	return []Control{{
		ID: OpenSCAPControl, Severity: "critical", Component: "recipe", Engine: EngineOpenSCAP, RulesFrom: o.Severity,
		Title: fmt.Sprintf("OpenSCAP evaluated at least %d rules of the profile %s", o.MinimumRules, o.Profile),
	}}
}

// xccdfRule is the result of one rule.
type xccdfRule struct {
	id, severity string
	results      []string
	messages     []string
}

type testResult struct {
	profile string
	engine  string
	rules   map[string]*xccdfRule
}

func (o *OpenSCAP) judge(output io.Reader, blank func(Control) Result) ([]Result, error) {
	tests, titles, err := readARF(output)
	if err != nil {
		return nil, err
	}
	switch {
	case len(tests) == 0:
		return nil, errors.New("it has no test result: nothing was evaluated")
	case len(tests) > 1:
		return nil, fmt.Errorf("it has %d test results", len(tests))
	case tests[0].profile != o.Profile:
		return nil, fmt.Errorf("it is of the profile %q, not %q", shorten(text(tests[0].profile), 200), o.Profile)
	}
	evaluated, dropped := 0, map[string]int{}
	var out []Result
	for _, id := range slices.Sorted(maps.Keys(tests[0].rules)) {
		rule := tests[0].rules[id]
		c := Control{ID: id, Title: titles[id], Severity: severityOf(rule.severity), Component: "recipe", Engine: EngineOpenSCAP}
		if c.Title == "" {
			c.Title = id
		}
		r := blank(c)
		r.EngineRuleIDs, r.From, r.Engine.Version = []string{"xccdf:" + id}, o.Severity, tests[0].engine
		for _, result := range rule.results {
			p := PropertyResult{Rule: id, Expected: "pass", Actual: text(strings.TrimSpace(result + " " + strings.Join(rule.messages, " ")))}
			switch result {
			case "pass":
				p.Status = StatusPass
			case "fail":
				p.Status = StatusFail
			case "fixed":
				// Nothing may change a verifier: the image itself does not comply.
				p.Status, p.Actual = StatusError, "fixed, but a verifier changes nothing"
			case "notapplicable":
				p.Status, p.Expected = StatusNotApplicable, "pass, or notapplicable as the recipe says"
				if !slices.Contains(o.NotApplicable, id) {
					p.Status, p.Expected = StatusError, "pass; checks.engines.openscap.notApplicable does not list the rule"
				}
			case "notchecked":
				p.Status = StatusManual
			case "notselected", "informational":
				dropped[result]++
				continue
			default: // error, unknown and what the standard does not have
				p.Status = StatusError
			}
			r.Properties = append(r.Properties, p)
		}
		if len(r.Properties) == 0 {
			continue
		}
		r.concludeRule()
		if r.Status == StatusPass || r.Status == StatusFail {
			evaluated++
		}
		out = append(out, r)
	}
	enough := blank(o.controls()[0])
	enough.Engine.Version = tests[0].engine
	p := PropertyResult{
		Rule: "rules that passed or failed", Status: StatusPass, Expected: fmt.Sprintf("at least %d", o.MinimumRules),
		Actual: fmt.Sprintf("%d of %d; not selected: %d, informational: %d", evaluated, len(tests[0].rules), dropped["notselected"], dropped["informational"]),
	}
	if evaluated < o.MinimumRules {
		p.Status = StatusFail
	}
	enough.Properties = []PropertyResult{p}
	enough.conclude()
	return append([]Result{enough}, out...), nil
}

// concludeRule is conclude for the statuses that only XCCDF has.
func (r *Result) concludeRule() {
	r.conclude()
	has := func(status string) bool {
		return slices.ContainsFunc(r.Properties, func(p PropertyResult) bool { return p.Status == status })
	}
	switch {
	case has(StatusError), has(StatusFail):
	case has(StatusManual):
		r.Status = StatusManual
	case has(StatusPass):
		r.Status = StatusPass
	case has(StatusNotApplicable):
		r.Status = StatusNotApplicable
	}
}

// severityOf maps XCCDF's severities. One that the content does not state counts
// as medium.
func severityOf(s string) string {
	switch s {
	case "low", "medium", "high":
		return s
	case "info":
		return "low"
	}
	return "medium"
}

// readARF reads the test results and the titles of rules from XML, as a stream.
// It refuses a document type, and so every entity that a document could define.
func readARF(in io.Reader) ([]testResult, map[string]string, error) {
	dec := xml.NewDecoder(in)
	dec.Strict = true
	var tests []testResult
	titles := map[string]string{}
	var open []xml.Name
	rule, ruleAt := "", 0 // the benchmark's rule that is open
	var current *testResult
	var result *xccdfRule
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			if len(open) > 0 {
				return nil, nil, errors.New("its XML ends early")
			}
			return tests, titles, nil
		}
		if err != nil {
			return nil, nil, fmt.Errorf("its XML is broken: %w", err)
		}
		switch t := token.(type) {
		case xml.Directive:
			return nil, nil, errors.New("its XML has a document type, which could define entities")
		case xml.StartElement:
			if open = append(open, t.Name); len(open) > maxXMLDepth {
				return nil, nil, fmt.Errorf("its XML is nested more than %d deep", maxXMLDepth)
			}
			if t.Name.Space != xccdf {
				continue
			}
			switch t.Name.Local {
			case "TestResult":
				if current != nil || len(tests) >= 8 {
					return nil, nil, errors.New("it has a test result inside of another, or too many")
				}
				current = &testResult{rules: map[string]*xccdfRule{}, engine: clip(attr(t, "test-system"))}
			case "Rule":
				rule, ruleAt = clip(attr(t, "id")), len(open)
			case "title":
				if current != nil || rule == "" || len(open) != ruleAt+1 || len(titles) >= maxRules {
					continue
				}
				title, err := content(dec, &open)
				if err != nil {
					return nil, nil, err
				}
				titles[rule] = shorten(text(strings.Join(strings.Fields(title), " ")), 200)
			case "profile":
				if current != nil && result == nil {
					if current.profile != "" {
						return nil, nil, errors.New("a test result has two profiles")
					}
					current.profile = clip(attr(t, "idref"))
				}
			case "rule-result":
				if current == nil || result != nil {
					return nil, nil, errors.New("it has a rule result outside of a test result")
				}
				id := clip(attr(t, "idref"))
				if !isRule(id) {
					return nil, nil, fmt.Errorf("it has a result of %q, which is not the id of a rule", shorten(text(id), 100))
				}
				if result = current.rules[id]; result == nil {
					if len(current.rules) >= maxRules {
						return nil, nil, fmt.Errorf("it has results of more than %d rules", maxRules)
					}
					result = &xccdfRule{id: id, severity: clip(attr(t, "severity"))}
					current.rules[id] = result
				}
			case "result", "message":
				if result == nil {
					continue
				}
				said, err := content(dec, &open)
				if err != nil {
					return nil, nil, err
				}
				said = strings.TrimSpace(said)
				if list := map[string]*[]string{"result": &result.results, "message": &result.messages}[t.Name.Local]; len(*list) < 100 {
					*list = append(*list, shorten(said, maxText))
				}
			}
		case xml.EndElement:
			open = open[:len(open)-1]
			if t.Name.Space != xccdf {
				continue
			}
			switch t.Name.Local {
			case "TestResult":
				tests, current = append(tests, *current), nil
			case "Rule":
				rule = ""
			case "rule-result":
				if len(result.results) == 0 {
					result.results = []string{"none"}
				}
				result = nil
			}
		}
	}
}

// content returns the text of the open element, and closes it.
func content(dec *xml.Decoder, open *[]xml.Name) (string, error) {
	var b strings.Builder
	for depth := 1; ; {
		token, err := dec.Token()
		if err != nil {
			return "", fmt.Errorf("its XML is broken: %w", err)
		}
		switch t := token.(type) {
		case xml.Directive:
			return "", errors.New("its XML has a document type, which could define entities")
		case xml.CharData:
			if b.Len() < maxXMLText {
				b.WriteString(shorten(string(t), maxXMLText))
			}
		case xml.StartElement:
			if depth++; depth > maxXMLDepth {
				return "", fmt.Errorf("its XML is nested more than %d deep", maxXMLDepth)
			}
		case xml.EndElement:
			if depth--; depth == 0 {
				*open = (*open)[:len(*open)-1]
				return b.String(), nil
			}
		}
	}
}

func attr(t xml.StartElement, name string) string {
	for _, a := range t.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

func clip(s string) string { return shorten(s, 300) }

// isRule reports whether an id is that of an XCCDF rule, by XCCDF's naming.
func isRule(id string) bool {
	return strings.HasPrefix(id, "xccdf_") && strings.Contains(id, "_rule_") && !strings.ContainsFunc(id, func(r rune) bool {
		return r != '_' && r != '.' && r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}
