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

// MaxOutput limits goss's output, in bytes: about 700 properties take 500 KB.
// Anything larger is not goss's output for these checks.
const MaxOutput = 8 << 20

const (
	// maxResult limits one result, in bytes. Its evidence is cut to far less.
	maxResult = 1 << 20
	// maxValue limits the size of a found or expected value that is decoded, in
	// bytes. Of a larger value, the report has the beginning without decoding it.
	maxValue = 64 << 10
	// spareResults is how many more results than expected are read, so that a
	// report can name those that do not belong there.
	spareResults = 64
)

// gossOutput is the output of goss v0.4.10 with --format json.
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

// parseGoss reads the output and refuses it if it cannot be complete. A guest
// wrote it, which may be hostile: results are decoded one by one, and reading
// stops as soon as there is more than the checks can produce.
func parseGoss(data []byte, expected int) (gossOutput, error) {
	var out gossOutput
	if len(data) > MaxOutput {
		return out, failure.New(failure.ComplianceFailed, "the output of goss has %d bytes, more than the %d that checks can produce; it is not used", len(data), MaxOutput)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	err := out.read(dec, expected)
	var known *failure.Error
	if errors.As(err, &known) {
		return out, known
	}
	if err != nil {
		return out, failure.Wrap(failure.ComplianceFailed, err, "the output of goss is not the expected JSON")
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

// read decodes the members of the one object that goss prints. It skips unknown
// members, because a later goss may print more.
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
	case token == nil: // null: no results
		return nil
	case token != json.Delim('['):
		return fmt.Errorf("found %v instead of a list of results", token)
	}
	most := 2*expected + spareResults
	for dec.More() {
		if len(o.Results) == most {
			return failure.New(failure.ComplianceFailed,
				"the output of goss has more than %d results, but the checks have %d properties: it does not belong to them and is not used", most, expected)
		}
		before := dec.InputOffset()
		var r gossResult
		if err := dec.Decode(&r); err != nil {
			return err
		}
		if size := dec.InputOffset() - before; size > maxResult {
			return failure.New(failure.ComplianceFailed, "the output of goss has a result of %d bytes, more than %d, for %s; the output is not used", size, maxResult, shorten(r.ResourceID, maxText))
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
		return fmt.Errorf("found %v instead of %v", token, want)
	}
	return nil
}

// value decodes what goss found or expected. For a value that is too large it
// returns the beginning, as text.
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

// property describes one comparison in words.
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
		// Missing may be a pattern that must not match, so the word "lacking" would be wrong.
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

// hidden reports whether goss printed a stream object instead of its text.
func hidden(actual any) bool {
	switch v := actual.(type) {
	case map[string]any:
		return len(v) == 0
	case string:
		return strings.HasPrefix(v, "object: *")
	}
	return false
}

// maxText limits each expected and found value in a report, in bytes.
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

// shorten cuts text after at most limit bytes, between two characters.
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
