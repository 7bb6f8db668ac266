package guest

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/ami-factory/ami-factory/pkg/plaintext"
)

// maxName is how much of a step's name is kept, in bytes.
const maxName = 64

// ReadSteps reads the steps that a builder uploads, which userdata/runner/run.sh
// writes. Last stays empty: only the console shows single lines.
func ReadSteps(raw []byte) (Progress, error) {
	var p Progress
	clean, err := plaintext.JSON(raw)
	if err != nil {
		return p, fmt.Errorf("the builder's steps are not JSON: %w", err)
	}
	var v struct {
		Schema int `json:"schema"`
		Steps  []struct {
			Name    string `json:"name"`
			Status  string `json:"status"` // running | ok | failed
			Seconds int    `json:"seconds"`
		} `json:"steps"`
	}
	if err := json.Unmarshal(clean, &v); err != nil {
		return p, fmt.Errorf("the builder's steps: %w", err)
	}
	if v.Schema != 1 {
		return p, fmt.Errorf("the builder's steps have schema %d, not 1", v.Schema)
	}
	for _, s := range v.Steps {
		name := plaintext.Clip(s.Name, maxName)
		if s.Status == "running" {
			p.Running = name
			continue
		}
		p.Done = append(p.Done, Installed{Name: name, OK: s.Status == "ok", Took: time.Duration(s.Seconds) * time.Second})
	}
	return p, nil
}
