package compliance

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Simulate returns the output that goss would print for a compiled file on a
// guest where every control holds except those for which failing is true. It
// checks nothing; simulated guests use it to rehearse the gate.
func Simulate(checks []byte, failing func(control string) bool) ([]byte, error) {
	var compiled Goss
	if err := json.Unmarshal(checks, &compiled); err != nil {
		return nil, fmt.Errorf("read the compiled checks: %w", err)
	}
	type result struct {
		ResourceID   string         `json:"resource-id"`
		ResourceType string         `json:"resource-type"`
		Property     string         `json:"property"`
		Successful   bool           `json:"successful"`
		Skipped      bool           `json:"skipped"`
		Outcome      int            `json:"result"`
		Err          *string        `json:"err"`
		Matcher      map[string]any `json:"matcher-result"`
	}
	results := []result{}
	failed := 0
	types := resourceTypes()
	for _, typ := range slices.Sorted(maps.Keys(compiled)) {
		t, ok := types[typ]
		if !ok {
			return nil, fmt.Errorf("the compiled checks have resources of unknown type %q", typ)
		}
		for _, key := range slices.Sorted(maps.Keys(compiled[typ])) {
			control, name, ok := strings.Cut(key, separator)
			if !ok {
				return nil, fmt.Errorf("the compiled check %q names no control", key)
			}
			attributes := compiled[typ][key]
			resource := t.resource(control, typ, name, attributes)
			for _, property := range resource.Properties {
				r := result{
					ResourceID: resource.ID, ResourceType: t.result, Property: property, Successful: true,
					Matcher: map[string]any{"expected": "as the control requires", "actual": "simulated: as required"},
				}
				if failing != nil && failing(control) {
					r.Successful, r.Outcome, r.Matcher["actual"] = false, 1, "simulated: something else"
					failed++
				}
				results = append(results, r)
			}
		}
	}
	out, err := json.MarshalIndent(map[string]any{
		"results": results,
		"summary": map[string]any{"test-count": len(results), "failed-count": failed, "skipped-count": 0, "total-duration": 0},
	}, "", " ")
	if err != nil {
		return nil, fmt.Errorf("write simulated results: %w", err)
	}
	return out, nil
}

// SimulateEngine returns the packed output of an engine other than goss on a guest
// where everything holds except the controls for which failing is true. It checks
// nothing. settings are the variables that verify/engines.sh is given.
func SimulateEngine(name string, settings map[string]string, failing func(control string) bool) ([]byte, error) {
	var text strings.Builder
	switch name {
	case EngineScript:
		count, err := strconv.Atoi(settings["SCRIPT_COUNT"])
		if err != nil {
			return nil, fmt.Errorf("read the number of scripts: %w", err)
		}
		fmt.Fprintln(&text, scriptHeader)
		for i := range count {
			var lines strings.Builder
			for _, control := range strings.Fields(settings["SCRIPT_CONTROLS"]) {
				status := "pass"
				if failing != nil && failing(control) {
					status = "fail"
				}
				fmt.Fprintf(&lines, "{\"control\":%q,\"status\":%q,\"actual\":\"simulated\"}\n", control, status)
			}
			fmt.Fprintf(&text, "file %d 0 %d 0\n%s\n", i, lines.Len(), lines.String())
		}
		fmt.Fprintln(&text, "end")
	case EngineOpenSCAP:
		fmt.Fprintf(&text, `<TestResult xmlns=%q test-system="simulated"><profile idref=%q/>`, xccdf, settings["OPENSCAP_PROFILE"])
		for i := range maxRules {
			fmt.Fprintf(&text, `<rule-result idref="xccdf_simulated_rule_%04d" severity="medium"><result>pass</result></rule-result>`, i)
		}
		text.WriteString("</TestResult>")
	case EngineBottlerocket:
		const checks = 500
		results := map[string]bottlerocketRule{}
		for i := range checks {
			results[strconv.Itoa(i)] = bottlerocketRule{ID: strconv.Itoa(i), Title: "simulated", Mode: "Automatic", Status: "PASS"}
		}
		raw, err := json.Marshal(map[string]any{
			"name": "simulated", "version": "0", "total": checks, "passed": checks, "skipped": 0, "failed": 0, "status": "PASS", "results": results,
		})
		if err != nil {
			return nil, fmt.Errorf("write a simulated report: %w", err)
		}
		text.Write(raw)
	default:
		return nil, fmt.Errorf("there is no engine %q", name)
	}
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	if _, err := zip.Write([]byte(text.String())); err != nil {
		return nil, err
	}
	if err := zip.Close(); err != nil {
		return nil, err
	}
	return packed.Bytes(), nil
}
