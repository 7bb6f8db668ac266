package compliance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
)

// Bottlerocket is the engine of "apiclient report", whose answer is JSON.
// https://bottlerocket.dev/en/os/latest/api/reporting/
type Bottlerocket struct {
	Report        string `json:"report"` // cis, cis-k8s or fips
	Level         int    `json:"level"`  // of a CIS report: 1 or 2
	MinimumChecks int    `json:"minimumChecks"`
}

// BottlerocketControl is the control that the report proves.
const BottlerocketControl = "BRKT-01"

func (b *Bottlerocket) name() string { return EngineBottlerocket }
func (b *Bottlerocket) most() int64  { return 4 << 20 }

func (b *Bottlerocket) content() Content {
	return Content{ID: "apiclient report " + b.Report, Version: fmt.Sprint(b.Level)}
}

func (b *Bottlerocket) controls() []Control {
	return []Control{{
		ID: BottlerocketControl, Severity: "critical", Component: "recipe", Engine: EngineBottlerocket,
		Title: fmt.Sprintf("Bottlerocket's report %s passes, with at least %d checks", b.Report, b.MinimumChecks),
	}}
}

type bottlerocketReport struct {
	Total   *int                        `json:"total"`
	Passed  *int                        `json:"passed"`
	Skipped *int                        `json:"skipped"`
	Failed  *int                        `json:"failed"`
	Status  string                      `json:"status"`
	Name    string                      `json:"name"`
	Version string                      `json:"version"`
	Results map[string]bottlerocketRule `json:"results"`
}

type bottlerocketRule struct {
	ID     string `json:"id"`
	Title  string `json:"title"`
	Mode   string `json:"mode"`
	Status string `json:"status"`
	Error  string `json:"error"`
}

func (b *Bottlerocket) judge(output io.Reader, blank func(Control) Result) ([]Result, error) {
	raw, err := io.ReadAll(output)
	if err != nil {
		return nil, err
	}
	if err := noRepeatedKeys(raw); err != nil {
		return nil, err
	}
	var report bottlerocketReport
	if err := json.Unmarshal(raw, &report); err != nil {
		return nil, err
	}
	if report.Total == nil || report.Passed == nil || report.Skipped == nil || report.Failed == nil || report.Name == "" {
		return nil, fmt.Errorf("it is no report: it lacks its name or its counts")
	}
	r := blank(b.controls()[0])
	counts := map[string]int{}
	for _, key := range slices.Sorted(maps.Keys(report.Results)) {
		rule := report.Results[key]
		counts[rule.Status]++
		id := key
		if rule.ID != "" {
			id = rule.ID
		}
		r.EngineRuleIDs = append(r.EngineRuleIDs, "bottlerocket:"+text(id))
		p := PropertyResult{Rule: text(id + " " + rule.Title), Expected: "PASS", Actual: text(rule.Status)}
		switch {
		case rule.Status == "PASS":
			p.Status = StatusPass
		case rule.Status == "FAIL":
			p.Status = StatusFail
			if rule.Error != "" {
				p.Actual = "FAIL: " + text(rule.Error)
			}
		case rule.Status == "SKIP" && rule.Mode == "Manual":
			continue // a person checks it; the engine says that it did not
		case rule.Status == "SKIP":
			p.Status = StatusNotChecked
		default:
			p.Status, p.Actual = StatusError, "an unknown status: "+text(rule.Status)
		}
		r.Properties = append(r.Properties, p)
	}
	if *report.Total != len(report.Results) || *report.Passed != counts["PASS"] || *report.Failed != counts["FAIL"] || *report.Skipped != counts["SKIP"] {
		return nil, fmt.Errorf("its counts (%d checks, %d passed, %d failed, %d skipped) contradict its results (%d, %d, %d, %d)",
			*report.Total, *report.Passed, *report.Failed, *report.Skipped, len(report.Results), counts["PASS"], counts["FAIL"], counts["SKIP"])
	}
	evaluated := counts["PASS"] + counts["FAIL"]
	enough := PropertyResult{Rule: "checks that were evaluated", Status: StatusPass, Expected: fmt.Sprintf("at least %d", b.MinimumChecks), Actual: fmt.Sprint(evaluated)}
	if evaluated < b.MinimumChecks {
		enough.Status = StatusFail
	}
	r.Properties = append(r.Properties, enough)
	r.Engine.Version = text(report.Version)
	r.conclude()
	return []Result{r}, nil
}

// noRepeatedKeys refuses JSON with a key that an object has twice: readers would
// not agree on its value. It refuses text after the JSON too.
func noRepeatedKeys(raw []byte) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	type object struct {
		keys map[string]bool // nil: a list
		key  bool            // the next token is a key
	}
	var open []*object
	for {
		token, err := dec.Token()
		if err == io.EOF && len(open) == 0 {
			return nil
		}
		if err != nil {
			return err
		}
		var in *object
		if len(open) > 0 {
			in = open[len(open)-1]
		}
		if delim, ok := token.(json.Delim); ok {
			switch delim {
			case '{':
				open = append(open, &object{keys: map[string]bool{}, key: true})
				continue
			case '[':
				open = append(open, &object{})
				continue
			}
			open = open[:len(open)-1]
			if len(open) == 0 {
				if _, err := dec.Token(); err != io.EOF {
					return fmt.Errorf("it has text after its JSON")
				}
				return nil
			}
			if in = open[len(open)-1]; in.keys != nil {
				in.key = true
			}
			continue
		}
		if in == nil || in.keys == nil {
			continue
		}
		if in.key {
			name, _ := token.(string)
			if in.keys[name] {
				return fmt.Errorf("it has %q twice", shorten(text(name), 100))
			}
			in.keys[name] = true
		}
		in.key = !in.key
	}
}
