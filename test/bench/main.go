// Command bench runs the benchmarks of this module and prints one table, with what each
// row means.
//
//	go run ./test/bench            everything that needs no real guests
//	go run ./test/bench -guests    and bakes in containers and virtual machines
//
// Progress goes to stderr, the table to stdout, and below it the tables that benchmarks
// print themselves. It exits with 1 when a benchmark failed.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, out, errs io.Writer) int {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(errs)
	guests := flags.Bool("guests", false, "bake in containers and virtual machines as well")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var printed bytes.Buffer
	code := 0
	for _, s := range suites() {
		if s.guests && !*guests {
			continue
		}
		fmt.Fprintf(errs, "bench: %s\n", s.pkg)
		c := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", s.pattern(), "-benchtime", s.time, "-timeout", "40m", s.pkg)
		c.Stdout, c.Stderr = &printed, errs
		if err := c.Run(); err != nil {
			fmt.Fprintf(errs, "bench: %s: %v\n", s.pkg, err)
			code = 1
		}
	}
	rows, rest := parse(&printed)
	for _, line := range rest {
		if code != 0 {
			fmt.Fprintln(errs, line) // it says what failed
		}
	}
	fmt.Fprintf(out, "%d processors, %s/%s; figures of a machine that does other work are proportions\n\n", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH)
	writeTable(out, rows)
	for _, line := range rest {
		if code == 0 {
			fmt.Fprintln(out, line)
		}
	}
	return code
}
