package main

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"gotest.tools/gotestsum/testjson"
)

// module is what the names of packages begin with, which reports leave out.
const module = "github.com/ami-factory/ami-factory/"

// summary receives the events of test runs and prints what a reader needs at once.
type summary struct {
	out, errs io.Writer
	packages  []string // that ended, in order
	failed    []string // packages that failed; a package may end more than once
}

// Event prints the lines of packages as they come, and a test's output when it failed.
func (s *summary) Event(event testjson.TestEvent, run *testjson.Execution) error {
	switch {
	case event.Action == testjson.ActionBuild:
		return s.print(event.Output) // of the compiler
	case event.Test == "" && event.Action == testjson.ActionOutput:
		if quiet(event.Output) {
			return nil
		}
		return s.print(event.Output)
	case event.Test == "" && event.Action.IsTerminal():
		s.packages = append(s.packages, event.Package)
		if event.Action == testjson.ActionFail {
			s.failed = append(s.failed, event.Package)
		}
	case event.Action == testjson.ActionFail:
		tc := run.Package(event.Package).LastFailedByName(event.Test)
		return s.print(strings.Join(run.OutputLines(tc), ""))
	}
	return nil
}

// Err prints what is no event, such as what go says of its own.
func (s *summary) Err(text string) error {
	_, err := fmt.Fprintln(s.errs, text)
	return err
}

func (s *summary) print(text string) error {
	_, err := io.WriteString(s.out, text)
	return err
}

// quiet are lines of packages that say nothing to a reader.
func quiet(line string) bool {
	return line == "PASS\n" || line == "testing: warning: no tests to run\n" || strings.HasSuffix(line, "[no test files]\n")
}

// end prints the failures, the skips and the counts, and says whether all is well.
func (s *summary) end(run *testjson.Execution, allowed []allowedSkip, list string, strict bool) bool {
	failed, skipped := run.Failed(), run.Skipped()
	var stale []allowedSkip
	for _, a := range allowed {
		if !exists(run, a) {
			stale = append(stale, a)
		}
	}
	unlisted := 0
	if len(skipped) > 0 {
		fmt.Fprintln(s.out, "\nskipped:")
	}
	for _, tc := range skipped {
		why := reason(run.OutputLines(tc))
		fmt.Fprintf(s.out, "  %s %s\n      %s\n", relative(tc.Package), tc.Test, strings.ReplaceAll(why, "\n", "\n      "))
		i := slices.IndexFunc(allowed, func(a allowedSkip) bool { return a.permits(tc, why) })
		switch {
		case i >= 0:
			fmt.Fprintf(s.out, "      accepted: %s\n", allowed[i].Why)
		case list != "":
			unlisted++
			fmt.Fprintf(s.out, "      NOT LISTED in %s for this reason\n", list)
		}
	}
	if strict && len(stale) > 0 {
		fmt.Fprintf(s.out, "\nlisted in %s, but no such test ran or was skipped:\n", list)
		for _, a := range stale {
			fmt.Fprintf(s.out, "  %s %s\n", a.Package, a.Test)
		}
	}
	if len(failed)+len(s.failed) > 0 {
		fmt.Fprintln(s.out, "\nfailed (in full above):")
	}
	for _, tc := range failed {
		fmt.Fprintf(s.out, "  %s %s\n", relative(tc.Package), tc.Test)
	}
	for _, name := range s.failed {
		if len(run.Package(name).Failed) == 0 {
			fmt.Fprintf(s.out, "  %s\n", relative(name)) // it does not compile, or ended in between
		}
	}
	fmt.Fprintf(s.out, "\n%s, %d failed; %s, %d failed, %d skipped", count(len(s.packages), "package"), len(s.failed), count(run.Total(), "test"), len(failed), len(skipped))
	if list != "" {
		fmt.Fprintf(s.out, ", %d of them not listed", unlisted)
	}
	fmt.Fprintln(s.out)
	if len(s.packages) == 0 {
		fmt.Fprintln(s.errs, "summary: no package was tested")
		return false
	}
	return len(failed)+len(s.failed) == 0 && (!strict || unlisted+len(stale) == 0)
}

// permits says whether the test may be skipped for that reason.
func (a allowedSkip) permits(tc testjson.TestCase, why string) bool {
	return a.Package == relative(tc.Package) && a.Test == tc.Test.Name() && strings.Contains(why, a.Says)
}

// exists says whether the run had that test.
func exists(run *testjson.Execution, a allowedSkip) bool {
	p := run.Package(module + a.Package)
	return p != nil && slices.ContainsFunc(p.TestCases(), func(tc testjson.TestCase) bool { return tc.Test.Name() == a.Test })
}

var (
	frame = regexp.MustCompile(`^\s*(=== (RUN|PAUSE|CONT|NAME) |--- (SKIP|PASS|FAIL): )`)
	place = regexp.MustCompile(`^[\w.-]+\.go:\d+: `)
)

// reason is what a test said when it was skipped.
func reason(lines []string) string {
	var said []string
	for _, line := range lines {
		if text := strings.TrimSpace(line); text != "" && !frame.MatchString(line) {
			said = append(said, place.ReplaceAllString(text, ""))
		}
	}
	if len(said) == 0 {
		return "(the test gives no reason)"
	}
	return strings.Join(said, "\n")
}

func relative(name string) string { return strings.TrimPrefix(name, module) }

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
