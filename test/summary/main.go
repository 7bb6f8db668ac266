// Command summary makes the events of `go test -json` readable: it prints each
// package's line when the package ends, each failing test in full, and at the
// end which tests failed and which were skipped, and why.
//
//	go test -json ./... | summary -skips test/skips.yaml
//
// It exits with 1 when anything failed. With -strict it also does so when a test
// was skipped that the list does not name, or when the list names one that does
// not exist.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"

	"gotest.tools/gotestsum/testjson"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(args []string, in io.Reader, out, errs io.Writer) int {
	flags := flag.NewFlagSet("summary", flag.ContinueOnError)
	flags.SetOutput(errs)
	list := flags.String("skips", "", "`file` that lists the tests that may be skipped")
	strict := flags.Bool("strict", false, "fail when a test is skipped that the list does not name")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	var allowed []allowedSkip
	if *list != "" {
		text, err := os.ReadFile(*list)
		if err != nil {
			fmt.Fprintln(errs, "summary:", err)
			return 2
		}
		found, problems := parseSkips(*list, text)
		for _, p := range problems {
			fmt.Fprintln(errs, p)
		}
		if len(problems) > 0 {
			return 2
		}
		allowed = found
	}
	// An interrupt ends `go test`; what it printed until then is still summarised.
	signal.Ignore(os.Interrupt)
	s := &summary{out: out, errs: errs}
	run, err := testjson.ScanTestOutput(testjson.ScanConfig{Stdout: in, Handler: s, IgnoreNonJSONOutputLines: true})
	if err != nil {
		fmt.Fprintln(errs, "summary:", err)
		return 2
	}
	if !s.end(run, allowed, *list, *strict) {
		return 1
	}
	return 0
}
