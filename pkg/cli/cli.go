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
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/pkg/problem"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/rehearsal"
)

// The exit codes of every command.
const (
	exitOK          = 0
	exitFailed      = 1 // bad input, or the work failed and nothing is left behind
	exitUsage       = 2 // unknown command, flag, value of a flag, or what an argument names
	exitRejected    = 3 // the gate refused the image
	exitLeft        = 4 // something could not be removed
	exitInterrupted = 130
)

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

// usage is a wrong use of a command: exit code 2.
func usage(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

// app is what commands share.
type app struct {
	in       io.Reader
	out, err io.Writer
	format   string // text | json
	userdata string
	printed  bool                     // the command has printed its data as JSON
	tune     func(*rehearsal.Options) // changes what flags ask for; nil: nothing
}

// Main runs the command line and returns the exit code.
func Main(args []string, in io.Reader, out, errOut io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first Ctrl-C removes what was made; the second ends the process at once.
	context.AfterFunc(ctx, stop)
	return (&app{in: in, out: out, err: errOut}).run(ctx, args)
}

// run is Main under a context whose end is a Ctrl-C.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.root()
	shells(root)
	root.SetArgs(args)
	if askedFormat(args) == "json" {
		a.format = "json"
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	return a.exit(ctx, root.ExecuteContext(ctx))
}

// askedFormat is the value of --output among the arguments, wherever it stands. The parser
// of flags stops at the first mistake, whose message must be in the format too.
func askedFormat(args []string) string {
	format := ""
	for i, arg := range args {
		switch value, ok := strings.CutPrefix(arg, "--output="); {
		case arg == "--":
			return format
		case ok:
			format = value
		case (arg == "-o" || arg == "--output") && i+1 < len(args):
			format = args[i+1]
		case strings.HasPrefix(arg, "-o") && len(arg) > 2:
			format = strings.TrimPrefix(arg[2:], "=")
		}
	}
	return format
}

// exit reports an error and returns the exit code. With --output json the error is
// also the command's data, since a program that reads stdout would find nothing
// there; a command that printed its data has already said what happened.
func (a *app) exit(ctx context.Context, err error) int {
	if err == nil {
		return exitOK
	}
	var coded *exitError
	var invalid *problem.InvalidError
	code, message, problems := exitFailed, err.Error(), problem.List(nil)
	switch {
	case errors.As(err, &coded):
		code, message = coded.code, coded.Error()
	case errors.As(err, &invalid):
		message, problems = fmt.Sprintf("%d problems", len(invalid.Problems)), invalid.Problems
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		code, message = exitInterrupted, "interrupted"
	case errors.Is(err, recipe.ErrUnknown), errors.Is(err, component.ErrUnknown):
		code = exitUsage
	}
	switch {
	case problems != nil:
		_ = problems.Print(a.coloured(a.err))
	case message != "":
		_, _ = fmt.Fprintln(a.err, "ami-factory:", message)
	}
	if a.format == "json" && !a.printed && message != "" {
		_ = a.json(failed{Error: message, ExitCode: code, Problems: problems}) // stderr has it too
	}
	return code
}

// failed is a command's data under --output json when it has no other.
type failed struct {
	Error    string       `json:"error"`
	ExitCode int          `json:"exitCode"`
	Problems problem.List `json:"problems,omitempty"`
}

func (a *app) root() *cobra.Command {
	root := group(&cobra.Command{
		Use:   "ami-factory",
		Short: "Bakes, verifies and publishes golden machine images",
		Long: `ami-factory bakes golden machine images (AMIs) from recipes, proves that they
hold what they promise, and publishes them: all regions, or none.

The same functions and the same state machine run on AWS and, for rehearsal,
on this machine against an embedded AWS whose instances are real virtual
machines. Only build, resume, doctor, approvals, approve, reject and feeds pin with
--upload talk to AWS, and plan, images, report, diff, evidence and site if the
environment names an AWS endpoint, profile or credentials. report, diff, evidence
and site also do if a bucket is given.

Results go to stdout, progress and problems to stderr.`,
		Example: `  ami-factory lint
  ami-factory plan debian-12-docker
  ami-factory bake debian-12-docker
  ami-factory images list`,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if a.format != "text" && a.format != "json" {
				return usage("--output is %q (allowed: text, json)", a.format)
			}
			return nil
		},
	}, a.lint(), a.plan(), a.schema(), a.recipeCommands(), a.waivers(), a.components(), a.container(), a.oss(), a.userData(), a.bake(), a.build(), a.approvals(), a.approve(), a.reject(), a.resume(), a.report(), a.diff(), a.evidence(), a.feeds(), a.site(), a.doctor(), a.local(), a.images(), a.version())
	root.PersistentFlags().StringVarP(&a.format, "output", "o", "text", "what to print on stdout: text or json")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp)) // the flag exists
	root.Flags().Bool("version", false, "print the version")                                                                            // defined here, since cobra would give it -v, which means --verbose
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage("%w\nSee '%s --help'", err, c.CommandPath())
	})
	return root
}

// takes is a check of the number of arguments, whose failure is a usage error
// that names what is wanted.
func takes(what ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, given []string) error {
		if len(given) == len(what) {
			return nil
		}
		wanted := "takes no arguments"
		if len(what) > 0 {
			wanted = "takes " + strings.Join(what, " and ")
		}
		got := "none was given"
		if len(given) > 0 {
			got = fmt.Sprintf("%q was given", given)
		}
		return usage("%s %s, and %s\nUsage: %s\nSee '%s --help'", c.CommandPath(), wanted, got, c.UseLine(), c.CommandPath())
	}
}

// json prints v, indented.
func (a *app) json(v any) error {
	a.printed = true
	enc := json.NewEncoder(a.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// group makes a command that only holds others: an unknown one is an error.
func group(c *cobra.Command, children ...*cobra.Command) *cobra.Command {
	c.Args = cobra.ArbitraryArgs
	c.RunE = func(c *cobra.Command, given []string) error {
		if len(given) == 0 {
			return c.Help()
		}
		near := ""
		if found := c.SuggestionsFor(given[0]); len(found) > 0 {
			near = fmt.Sprintf(", did you mean %s?", strings.Join(found, " or "))
		}
		return usage("unknown command %q of %s%s\nSee '%s --help'", given[0], c.CommandPath(), near, c.CommandPath())
	}
	c.SuggestionsMinimumDistance = 2
	c.AddCommand(children...)
	return c
}
