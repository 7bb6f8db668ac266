package program

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Engine is the program that runs the checks in a guest: an object in a bucket.
type Engine struct {
	Bucket  string `json:"bucket,omitempty"` // empty: the factory's bucket
	Key     string `json:"key"`
	SHA256  string `json:"sha256"`            // hex
	Version string `json:"version,omitempty"` // of its Go module
}

// Engines has an engine for each architecture of guests: x86_64 or arm64.
type Engines map[string]Engine

// ParseEngines parses engines from JSON, the form in a deployment's settings.
func ParseEngines(text string) (Engines, error) {
	out := Engines{}
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&out); err != nil {
		return nil, fmt.Errorf("the check engines are not a JSON object of architectures: %w", err)
	}
	for _, architecture := range slices.Sorted(maps.Keys(out)) {
		if e := out[architecture]; e.Key == "" || e.SHA256 == "" {
			return nil, fmt.Errorf("the check engine for %s has no key or no sha256", architecture)
		}
	}
	return out, nil
}
