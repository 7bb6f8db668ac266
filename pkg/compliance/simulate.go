package compliance

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
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
