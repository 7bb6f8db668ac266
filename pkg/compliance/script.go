package compliance

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Script is the engine of a recipe's own checks: programs beside the recipe, each
// of which prints JSON lines or TAP.
//
// A JSON line is {"control": "WEB-01", "status": "pass", "expected": "…",
// "actual": "…"}, with status pass, fail, error or skip. TAP is that of versions
// 12 to 14, with a plan; the description of a test begins with the control's id.
type Script struct {
	Files    []ScriptFile `json:"files"`
	Declared []Control    `json:"controls"` // of the recipe
}

// ScriptFile is a program of the recipe.
type ScriptFile struct {
	Path string `json:"path"` // below the root of the user data
	Data []byte `json:"data"`
}

// Limits of scripts.
const (
	MaxScripts      = 16
	MaxScript       = 256 << 10 // bytes of a program
	MaxScriptOutput = 1 << 20   // bytes that one program may print
	maxScriptLines  = 10_000
	maxScriptErrors = 4 << 10
)

const scriptHeader = "ami-factory-script/1"

func (s *Script) name() string        { return EngineScript }
func (s *Script) controls() []Control { return s.Declared }
func (s *Script) most() int64 {
	return MaxScripts * (MaxScriptOutput + maxScriptErrors + 200)
}

func (s *Script) content() Content {
	var all []string
	for _, f := range s.Files {
		all = append(all, f.Path+" "+digest(f.Data))
	}
	return Content{ID: "recipe", SHA256: digest([]byte(strings.Join(all, "\n")))}
}

// ran is what one program did.
type ran struct {
	file   string
	exit   int
	output []byte
	errors string
}

// judge reads what verify/engines.sh packs: for each program its exit code, its
// output and its errors, with their lengths.
func (s *Script) judge(output io.Reader, blank func(Control) Result) ([]Result, error) {
	programs, err := s.read(bufio.NewReader(output))
	if err != nil {
		return nil, err
	}
	byControl := map[string][]PropertyResult{}
	var strangers []Result
	for _, p := range programs {
		lines, err := p.lines()
		failed := false
		for _, l := range lines {
			failed = failed || l.status != StatusPass
			if !slices.ContainsFunc(s.Declared, func(c Control) bool { return c.ID == l.control }) {
				strangers = append(strangers, stranger(blank, p.file+" "+l.control, "the recipe declares no control "+l.control))
				continue
			}
			byControl[l.control] = append(byControl[l.control], PropertyResult{Rule: p.file, Status: l.status, Expected: text(l.expected), Actual: text(l.actual)})
		}
		// Programs end with 1 when a check failed, as prove and goss do.
		switch {
		case p.exit == 124 || p.exit == 137:
			strangers = append(strangers, stranger(blank, p.file, "it did not end in time"))
		case err != nil && p.exit != 0:
			strangers = append(strangers, stranger(blank, p.file, fmt.Sprintf("%v; it ended with %d: %s", err, p.exit, p.errors)))
		case err != nil:
			strangers = append(strangers, stranger(blank, p.file, err.Error()))
		case len(p.output) > MaxScriptOutput:
			strangers = append(strangers, stranger(blank, p.file, fmt.Sprintf("it printed more than %d bytes", MaxScriptOutput)))
		case p.exit != 0 && (p.exit != 1 || !failed):
			strangers = append(strangers, stranger(blank, p.file, fmt.Sprintf("it ended with %d: %s", p.exit, p.errors)))
		}
	}
	var out []Result
	for _, c := range s.Declared {
		r := blank(c)
		r.Properties = byControl[c.ID]
		for _, f := range s.Files {
			r.EngineRuleIDs = append(r.EngineRuleIDs, "script:"+f.Path)
		}
		r.conclude()
		if len(r.Properties) == 0 {
			r.Evidence.Expected, r.Evidence.Actual = "a result", "none: no script reported it"
		}
		out = append(out, r)
	}
	return append(out, strangers...), nil
}

// read reads the frames.
func (s *Script) read(in *bufio.Reader) ([]ran, error) {
	line, err := frameLine(in)
	if err != nil || line != scriptHeader {
		return nil, fmt.Errorf("it does not begin with %s", scriptHeader)
	}
	var out []ran
	for {
		if line, err = frameLine(in); err != nil {
			return nil, fmt.Errorf("it ends early: %w", err)
		}
		if line == "end" {
			break
		}
		fields := strings.Fields(line)
		numbers := make([]int, len(fields))
		for i, f := range fields {
			if i > 0 {
				if numbers[i], err = strconv.Atoi(f); err != nil || numbers[i] < 0 {
					return nil, fmt.Errorf("it has a wrong line %q", shorten(line, 100))
				}
			}
		}
		switch {
		case len(fields) != 5 || fields[0] != "file" || numbers[3] > MaxScriptOutput+1 || numbers[4] > maxScriptErrors:
			return nil, fmt.Errorf("it has a wrong line %q", shorten(line, 100))
		case numbers[1] != len(out) || numbers[1] >= len(s.Files):
			return nil, fmt.Errorf("it has output of script %d, which is not expected there", numbers[1])
		}
		body := make([]byte, numbers[3]+numbers[4]+1)
		if _, err := io.ReadFull(in, body); err != nil || body[len(body)-1] != '\n' {
			return nil, fmt.Errorf("the output of script %d is not as long as announced", numbers[1])
		}
		out = append(out, ran{
			file: s.Files[len(out)].Path, exit: numbers[2], output: body[:numbers[3]],
			errors: text(string(body[numbers[3] : numbers[3]+numbers[4]])),
		})
	}
	if len(out) != len(s.Files) {
		return nil, fmt.Errorf("it has the output of %d scripts, the recipe has %d", len(out), len(s.Files))
	}
	if _, err := in.ReadByte(); err != io.EOF {
		return nil, fmt.Errorf("it goes on after its end")
	}
	return out, nil
}

func frameLine(in *bufio.Reader) (string, error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return "", err
	}
	return string(bytes.TrimSuffix(line, []byte("\n"))), nil
}

// said is what a program says of a control.
type said struct{ control, status, expected, actual string }

// lines reads JSON lines or TAP; which of the two decides the first line.
func (p ran) lines() ([]said, error) {
	var lines []string
	for _, l := range strings.Split(string(p.output), "\n") {
		if l = strings.TrimSuffix(l, "\r"); strings.TrimSpace(l) != "" {
			lines = append(lines, l)
		}
	}
	switch {
	case len(lines) == 0:
		return nil, fmt.Errorf("it printed nothing")
	case len(lines) > maxScriptLines:
		return nil, fmt.Errorf("it printed more than %d lines", maxScriptLines)
	case strings.HasPrefix(lines[0], "{"):
		return jsonLines(lines)
	}
	return tap(lines)
}

func jsonLines(lines []string) ([]said, error) {
	var out []said
	for i, l := range lines {
		var v struct {
			Control  string `json:"control"`
			Status   string `json:"status"`
			Expected string `json:"expected"`
			Actual   string `json:"actual"`
		}
		dec := json.NewDecoder(strings.NewReader(l))
		dec.DisallowUnknownFields()
		err := dec.Decode(&v)
		if err == nil && dec.More() {
			err = fmt.Errorf("there is more than one value")
		}
		if err != nil {
			return out, fmt.Errorf("its line %d is no JSON line: %w", i+1, err)
		}
		status, ok := map[string]string{"pass": StatusPass, "fail": StatusFail, "error": StatusError, "skip": StatusNotChecked}[v.Status]
		if !ok {
			status, v.Actual = StatusError, fmt.Sprintf("the unknown status %q", v.Status)
		}
		if v.Expected == "" {
			v.Expected = "the check passes"
		}
		if v.Actual == "" {
			v.Actual = v.Status
		}
		out = append(out, said{v.Control, status, v.Expected, v.Actual})
	}
	return out, nil
}

var (
	tapPlan = regexp.MustCompile(`^1\.\.([0-9]{1,5})(\s*#.*)?$`)
	tapTest = regexp.MustCompile(`^(not )?ok(?:\s+([0-9]{1,5}))?(?:\s+(?:-\s*)?(.*))?$`)
)

func tap(lines []string) ([]said, error) {
	var out []said
	planned, numbered := -1, map[int]bool{}
	for i, l := range lines {
		if m := tapPlan.FindStringSubmatch(l); m != nil {
			if planned >= 0 {
				return out, fmt.Errorf("its TAP has two plans")
			}
			planned, _ = strconv.Atoi(m[1]) // at most five digits
			continue
		}
		if m := tapTest.FindStringSubmatch(l); m != nil {
			number := len(out) + 1
			if m[2] != "" {
				number, _ = strconv.Atoi(m[2]) // at most five digits
			}
			if numbered[number] {
				return out, fmt.Errorf("its TAP has test %d twice", number)
			}
			numbered[number] = true
			out = append(out, tapSaid(m[1] == "", m[3]))
			continue
		}
		switch {
		case i == 0 && strings.HasPrefix(l, "TAP version "), strings.HasPrefix(l, "#"), strings.HasPrefix(l, "pragma "):
			if last := len(out) - 1; last >= 0 && strings.HasPrefix(l, "#") && out[last].status == StatusFail && len(out[last].actual) < maxText {
				out[last].actual = strings.TrimPrefix(out[last].actual+" "+strings.TrimSpace(strings.TrimPrefix(l, "#")), "not ok ")
			}
		case strings.HasPrefix(l, " "): // YAML of a test, or a subtest, whose result follows
		case strings.HasPrefix(l, "Bail out!"):
			return out, fmt.Errorf("it gave up: %s", text(l))
		default:
			return out, fmt.Errorf("its line %q is neither TAP nor a JSON line", shorten(text(l), 100))
		}
	}
	switch {
	case planned < 0:
		return out, fmt.Errorf("its TAP has no plan, so it is not known whether it is complete")
	case planned != len(out):
		return out, fmt.Errorf("its TAP has %d tests, its plan has %d", len(out), planned)
	}
	for n := range numbered {
		if n < 1 || n > planned {
			return out, fmt.Errorf("its TAP has a test %d beyond its plan of %d", n, planned)
		}
	}
	return out, nil
}

func tapSaid(ok bool, description string) said {
	description, directive, _ := strings.Cut(description, " #")
	control, rest, _ := strings.Cut(strings.TrimSpace(description), " ")
	out := said{control: strings.TrimRight(control, ":"), status: StatusFail, expected: strings.TrimSpace(rest), actual: "not ok"}
	if out.expected == "" {
		out.expected = "the check passes"
	}
	skipped := strings.HasPrefix(strings.ToUpper(strings.TrimSpace(directive)), "SKIP")
	switch {
	case ok && skipped:
		out.status, out.actual = StatusNotChecked, "skipped: "+strings.TrimSpace(directive)
	case ok:
		out.status, out.actual = StatusPass, "ok"
	}
	return out
}
