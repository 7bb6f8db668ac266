// Package cli holds the commands of ami-factory. Data goes to stdout, progress
// and problems to stderr.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/ami-factory/ami-factory/pkg/report"
)

// The exit codes of every command.
const (
	exitOK          = 0
	exitFailed      = 1 // bad input, or the work failed and nothing is left behind
	exitUsage       = 2 // unknown command, flag or value of a flag
	exitRejected    = 3 // the gate refused the image
	exitLeft        = 4 // something could not be removed
	exitInterrupted = 130
)

// Version of this build; the Makefile sets it.
var Version string //nolint:gochecknoglobals // the linker writes it

// version falls back to what the Go toolchain recorded.
func version() string {
	if Version != "" {
		return Version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "dev"
}

// exitError carries an exit code; its message has been printed, or is err's.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// app is what commands share.
type app struct {
	in       io.Reader
	out, err io.Writer
	format   string // text | json
	userdata string
}

// Main runs the command line and returns the exit code.
func Main(args []string, in io.Reader, out, errOut io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &app{in: in, out: out, err: errOut}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	return a.exit(ctx, root.ExecuteContext(ctx))
}

func (a *app) exit(ctx context.Context, err error) int {
	if err == nil {
		return exitOK
	}
	var coded *exitError
	var invalid *report.InvalidError
	switch {
	case errors.As(err, &coded):
		if msg := coded.Error(); msg != "" {
			_, _ = fmt.Fprintln(a.err, "ami-factory:", msg)
		}
		return coded.code
	case errors.As(err, &invalid):
		_ = invalid.Problems.Print(a.err)
		return exitFailed
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		_, _ = fmt.Fprintln(a.err, "ami-factory: interrupted")
		return exitInterrupted
	}
	_, _ = fmt.Fprintln(a.err, "ami-factory:", err)
	return exitFailed
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "ami-factory",
		Short: "Bakes, verifies and publishes golden machine images",
		Long: `ami-factory bakes golden machine images (AMIs) from recipes, proves that they
hold what they promise, and publishes them: all regions, or none.

The same functions and the same state machine run on AWS and, for rehearsal,
on this machine against an embedded AWS whose instances are real virtual
machines. Nothing here talks to AWS unless you deploy it.`,
		Example: `  ami-factory lint
  ami-factory plan debian-12-docker
  ami-factory bake debian-12-docker
  ami-factory images list`,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if a.format != "text" && a.format != "json" {
				return &exitError{exitUsage, fmt.Errorf("--output is %q (allowed: text, json)", a.format)}
			}
			return nil
		},
	}
	root.PersistentFlags().StringVarP(&a.format, "output", "o", "text", "what to print on stdout: text or json")
	root.PersistentFlags().StringVar(&a.userdata, "userdata", "",
		"folder of recipes and components (default: ./userdata if there is one, else the copy built in)")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return &exitError{exitUsage, fmt.Errorf("%w\nSee '%s --help'", err, c.CommandPath())}
	})
	root.AddCommand(a.lint(), a.plan(), a.schema(), a.bake(), a.local(), a.images())
	return root
}

// args is a cobra argument check whose failure is a usage error with the
// command's own usage line.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, given []string) error {
		if err := check(c, given); err != nil {
			return &exitError{exitUsage, fmt.Errorf("%w\nUsage: %s\nSee '%s --help'", err, c.UseLine(), c.CommandPath())}
		}
		return nil
	}
}

// json prints v, indented.
func (a *app) json(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// group makes a command that only holds others: an unknown one is an error.
func group(c *cobra.Command, children ...*cobra.Command) *cobra.Command {
	c.RunE = func(c *cobra.Command, given []string) error {
		if len(given) > 0 {
			return &exitError{exitUsage, fmt.Errorf("unknown command %q for %q\nSee '%s --help'", given[0], c.CommandPath(), c.CommandPath())}
		}
		return c.Help()
	}
	c.AddCommand(children...)
	return c
}
