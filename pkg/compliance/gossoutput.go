package compliance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plaintext"
)

// MaxOutput bounds what goss prints, in bytes: about 700 properties take 500 KB.
// What is larger was not printed by goss for these checks.
const MaxOutput = 8 << 20

const (
	// maxResult bounds one result. Its evidence is cut to far less.
	maxResult = 1 << 20
	// maxValue bounds what is decoded of a value that was found or expected; of a
	// larger one the beginning is shown as it stands.
	maxValue = 64 << 10
	// spareResults is how many results beyond the expected are read, so that a
	// report can name what does not belong there.
	spareResults = 64
)

// gossOutput is what goss v0.4.10 prints with --format json.
type gossOutput struct {
	Results []gossResult
	Summary *gossSummary
}

type gossSummary struct {
	TestCount    int `json:"test-count"`
	FailedCount  int `json:"failed-count"`
	SkippedCount int `json:"skipped-count"`
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
		Actual   json.RawMessage `json:"actual"`
		Expected json.RawMessage `json:"expected"`
		Missing  json.RawMessage `json:"missing-elements"`
	} `json:"matcher-result"`
}

// parseGoss reads the output and refuses one that cannot be whole. It was written
// by a guest, which may be hostile: one result is decoded after the other, and
// reading ends where there is more than the checks can have produced.
func parseGoss(data []byte, expected int) (gossOutput, error) {
	var out gossOutput
	if len(data) > MaxOutput {
		return out, failure.New(failure.ComplianceFailed, "the output of goss has %d bytes, more than the %d that checks can take; nothing of it is trusted", len(data), MaxOutput)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	err := out.read(dec, expected)
	var known *failure.Error
	if errors.As(err, &known) {
		return out, known
	}
	if err != nil {
		return out, failure.Wrap(failure.ComplianceFailed, err, "the output of goss is not the JSON it should be")
	}
	if _, err := dec.Token(); err != io.EOF {
		return out, failure.New(failure.ComplianceFailed, "the output of goss has text after its JSON, so it cannot be trusted")
	}
	if out.Summary == nil || len(out.Results) == 0 {
		return out, failure.New(failure.ComplianceFailed, "goss evaluated nothing, so nothing is proved")
	}
	failed, skipped := 0, 0
	for _, r := range out.Results {
		if r.Outcome == nil || r.Successful == nil {
			return out, failure.New(failure.ComplianceFailed, "the output of goss has a result without an outcome, for %s", shorten(r.ResourceID, maxText))
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

// read takes the members of the one object that goss prints. What it does not know
// is skipped, as goss may print more one day.
func (o *gossOutput) read(dec *json.Decoder, expected int) error {
	if err := delimiter(dec, '{'); err != nil {
		return err
	}
	seen := map[string]bool{}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return err
		}
		name, _ := token.(string)
		if seen[name] && (name == "results" || name == "summary") {
			return failure.New(failure.ComplianceFailed, "the output of goss has %q twice, so it cannot be trusted", name)
		}
		switch name {
		case "results":
			err = o.results(dec, expected)
			seen[name] = true
		case "summary":
			err = dec.Decode(&o.Summary)
			seen[name] = true
		default:
			var skipped json.RawMessage
			err = dec.Decode(&skipped)
		}
		if err != nil {
			return err
		}
	}
	return delimiter(dec, '}')
}

func (o *gossOutput) results(dec *json.Decoder, expected int) error {
	switch token, err := dec.Token(); {
	case err != nil:
		return err
	case token == nil: // null: none at all
		return nil
	case token != json.Delim('['):
		return fmt.Errorf("%v stands where a list of results should", token)
	}
	most := 2*expected + spareResults
	for dec.More() {
		if len(o.Results) == most {
			return failure.New(failure.ComplianceFailed,
				"the output of goss has more than %d results, the checks have %d properties: it was not printed for them, and nothing of it is trusted", most, expected)
		}
		before := dec.InputOffset()
		var r gossResult
		if err := dec.Decode(&r); err != nil {
			return err
		}
		if size := dec.InputOffset() - before; size > maxResult {
			return failure.New(failure.ComplianceFailed, "the output of goss has a result of %d bytes, more than %d, for %s; nothing of it is trusted", size, maxResult, shorten(r.ResourceID, maxText))
		}
		o.Results = append(o.Results, r)
	}
	return delimiter(dec, ']')
}

func delimiter(dec *json.Decoder, want json.Delim) error {
	token, err := dec.Token()
	if err != nil {
		return err
	}
	if token != want {
		return fmt.Errorf("%v stands where %v should", token, want)
	}
	return nil
}

// value decodes what goss found or expected; the beginning of what is too large
// for that, as text.
func value(raw json.RawMessage) any {
	if len(raw) == 0 {
		return nil
	}
	if len(raw) > maxValue {
		return shorten(strings.ToValidUTF8(string(raw[:maxValue]), "\uFFFD"), maxText)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return "a value that cannot be shown"
	}
	return v
}

// property turns one comparison into words.
func (r gossResult) property(rule string) PropertyResult {
	expected, actual, missing := value(r.Matcher.Expected), value(r.Matcher.Actual), value(r.Matcher.Missing)
	if m, ok := expected.(map[string]any); ok && len(m) == 1 && m[havePatterns] != nil {
		expected = m[havePatterns]
	}
	out := PropertyResult{Rule: rule, Expected: text(expected), Actual: text(actual)}
	if hidden(actual) {
		// goss compares text as a stream and does not keep it.
		out.Actual = "text that matches"
		if missing != nil {
			out.Actual = "text that does not match"
		}
	}
	if missing != nil {
		// Missing may be a pattern that must not match, so it is not "lacking".
		out.Actual += " (unmet: " + text(missing) + ")"
	}
	switch {
	case r.Err != nil && *r.Err != "":
		out.Status, out.Actual = StatusError, "error: "+shorten(*r.Err, maxText)
		if expected == nil {
			out.Expected = "a value to compare"
		}
	case r.Skipped || *r.Outcome == 2:
		out.Status, out.Actual = StatusNotChecked, "skipped by the engine"
		if expected == nil {
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
