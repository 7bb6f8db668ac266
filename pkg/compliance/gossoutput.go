package compliance

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plaintext"
)

// gossOutput is what goss v0.4.10 prints with --format json.
type gossOutput struct {
	Results []gossResult `json:"results"`
	Summary *struct {
		TestCount    int `json:"test-count"`
		FailedCount  int `json:"failed-count"`
		SkippedCount int `json:"skipped-count"`
	} `json:"summary"`
}

type gossResult struct {
	ResourceID   string    `json:"resource-id"`
	ResourceType string    `json:"resource-type"`
	Property     string    `json:"property"`
	Successful   *bool     `json:"successful"`
	Skipped      bool      `json:"skipped"`
	Outcome      *int      `json:"result"` // 0 success, 1 fail, 2 skip
	Err          *string   `json:"err"`
	StartTime    time.Time `json:"start-time"`
	EndTime      time.Time `json:"end-time"`
	Matcher      struct {
		Actual   any    `json:"actual"`
		Expected any    `json:"expected"`
		Message  string `json:"message"`
		Missing  any    `json:"missing-elements"`
	} `json:"matcher-result"`
}

// parseGoss reads the output and refuses one that cannot be whole.
func parseGoss(data []byte) (gossOutput, error) {
	var out gossOutput
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := dec.Decode(&out); err != nil {
		return out, failure.Wrap(failure.ComplianceFailed, err, "the output of goss is not the JSON it should be")
	}
	if _, err := dec.Token(); err != io.EOF {
		return out, failure.New(failure.ComplianceFailed, "something follows the JSON in the output of goss, so it cannot be trusted")
	}
	if out.Summary == nil || len(out.Results) == 0 {
		return out, failure.New(failure.ComplianceFailed, "goss evaluated nothing, so nothing is proved")
	}
	failed, skipped := 0, 0
	for i := range out.Results {
		r := &out.Results[i]
		r.clean()
		if r.Outcome == nil || r.Successful == nil {
			return out, failure.New(failure.ComplianceFailed, "the output of goss has a result without an outcome, for %s", r.ResourceID)
		}
		if *r.Outcome == 1 {
			failed++
		}
		if r.Skipped {
			skipped++
		}
	}
	s := out.Summary
	if s.TestCount != len(out.Results) || s.FailedCount != failed || s.SkippedCount != skipped {
		return out, failure.New(failure.ComplianceFailed,
			"the summary of goss (%d checks, %d failed, %d skipped) contradicts its results (%d, %d, %d), so they cannot be trusted",
			s.TestCount, s.FailedCount, s.SkippedCount, len(out.Results), failed, skipped)
	}
	return out, nil
}

// clean makes what the guest named and said safe to show; text does so for the
// values.
func (r *gossResult) clean() {
	r.ResourceID, r.ResourceType, r.Property = plaintext.Clean(r.ResourceID), plaintext.Clean(r.ResourceType), plaintext.Clean(r.Property)
	if r.Err != nil {
		*r.Err = plaintext.Clean(*r.Err)
	}
}

// property turns one comparison into words.
func (r gossResult) property(rule string) PropertyResult {
	expected := r.Matcher.Expected
	if m, ok := expected.(map[string]any); ok && len(m) == 1 && m[havePatterns] != nil {
		expected = m[havePatterns]
	}
	out := PropertyResult{Rule: rule, Expected: text(expected), Actual: text(r.Matcher.Actual)}
	if hidden(r.Matcher.Actual) {
		// goss compares text as a stream and does not keep it.
		out.Actual = "text that matches"
		if r.Matcher.Missing != nil {
			out.Actual = "text that does not match"
		}
	}
	if r.Matcher.Missing != nil {
		// Missing may be a pattern that must not match, so it is not "lacking".
		out.Actual += " (unmet: " + text(r.Matcher.Missing) + ")"
	}
	switch {
	case r.Err != nil && *r.Err != "":
		out.Status, out.Actual = StatusError, "error: "+shorten(*r.Err, maxText)
		if r.Matcher.Expected == nil {
			out.Expected = "a value to compare"
		}
	case r.Skipped || *r.Outcome == 2:
		out.Status, out.Actual = StatusNotChecked, "skipped by the engine"
		if r.Matcher.Expected == nil {
			out.Expected = "a value to compare"
		}
	case *r.Outcome == 0 && *r.Successful:
		out.Status = StatusPass
	case *r.Outcome == 1:
		out.Status = StatusFail
	default:
		out.Status, out.Actual = StatusError, "an outcome that the engine does not document"
	}
	return out
}

// hidden says whether goss gave a stream instead of its text.
func hidden(actual any) bool {
	switch v := actual.(type) {
	case map[string]any:
		return len(v) == 0
	case string:
		return strings.HasPrefix(v, "object: *")
	}
	return false
}

// maxText bounds each expected and found value in a report.
const maxText = 2000

func text(v any) string {
	switch v := v.(type) {
	case nil:
		return "nothing"
	case string:
		if v = strings.TrimRight(v, "\n"); v == "" {
			return `""`
		}
		return shorten(plaintext.Clean(v), maxText)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return "a value that cannot be shown"
	}
	return shorten(plaintext.Clean(strings.TrimSpace(b.String())), maxText)
}

// shorten cuts text after limit bytes, at a character's border.
func shorten(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	s = s[:limit]
	for len(s) > 0 {
		if r, size := utf8.DecodeLastRuneInString(s); r != utf8.RuneError || size > 1 {
			break
		}
		s = s[:len(s)-1]
	}
	return s + " …"
}
