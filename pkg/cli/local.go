package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ami-factory/ami-factory/pkg/rehearsal"
)

func (a *app) local() *cobra.Command {
	return group(&cobra.Command{
		Use:   "local",
		Short: "The embedded AWS with the factory deployed in it",
		Long: `The embedded AWS with the factory deployed in it, for any AWS client. It keeps
its state in the folder --state, one for each kind of guests.`,
		Example: `  ami-factory local up --guests container
  eval "$(ami-factory local env)"
  ami-factory local status
  ami-factory local down`,
	}, a.localUp(), a.localEnv(), a.localStatus(), a.localDown())
}

func (a *app) localUp() *cobra.Command {
	var l local
	var listen string
	var bases []string
	var deployed, schedules bool
	c := &cobra.Command{
		Use:   "up",
		Short: "Serve the embedded AWS for any AWS client, until Ctrl-C",
		Long: `Serve the embedded AWS on a loopback address, with the factory deployed in it,
until Ctrl-C. What to export for AWS clients is printed on stdout, and later by
"local env". Every request must be signed with these keys, which are of the state
folder: whoever knows them can run programs as you.

A line on stderr reports each execution's start and end, and where images,
instances or snapshots are when a describe call found none. What the embedded AWS
and its functions log goes to local.log in the state folder.

With --deployed=false nothing is deployed in it, and "cdk deploy" can do so: what
"cdk bootstrap" makes is there, and base images, their owners' topics and the keys
that recipes name.

Schedules ring: at night the recipes that are stale are built, and every half hour
a look is taken whether a source has moved. --schedules=false keeps them quiet.

Executions that are under way at Ctrl-C end; what they have made is removed by
the next run with the same --state.

Exit codes: 0 stopped, 1 it could not start, 2 wrong usage.`,
		Example: `  ami-factory local up --guests container
  eval "$(ami-factory local env)"    # in another shell
  aws stepfunctions start-execution \
    --state-machine-arn arn:aws:states:eu-west-1:111122223333:stateMachine:ami-factory \
    --input '{"recipe":"debian-12-docker"}'
  ami-factory local up --guests simulated --deployed=false`,
		Args: takes(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.runLocalUp(c.Context(), l, listen, bases, deployed, schedules)
		},
	}
	l.register(c)
	l.registerDeployment(c)
	a.registerUserData(c)
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:4566", "loopback address and port; port 0 takes a free one")
	c.Flags().BoolVar(&deployed, "deployed", true, "deploy the factory; false leaves that to \"cdk deploy\"")
	c.Flags().StringSliceVar(&bases, "bases", nil, "`distributions` whose base images to provide, such as debian-12,debian-13 (default: those of all recipes)")
	c.Flags().BoolVar(&schedules, "schedules", true, "let nights and the watch of sources start builds")
	return c
}

func (a *app) runLocalUp(ctx context.Context, l local, listen string, bases []string, deployed, schedules bool) (err error) {
	opts, err := a.options(l)
	if err != nil {
		return err
	}
	show := newDisplay(a.err)
	defer show.end()
	opts.Progress, opts.Listen, opts.Bare, opts.Schedules, opts.Notice = show.note, listen, !deployed, schedules, show.note
	log, err := openLog(opts.Dir())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	var logs io.Writer = log
	if l.verbose {
		logs = io.MultiWriter(log, a.err)
	}
	opts.Log = slog.New(slog.NewTextHandler(logs, nil))
	factory, err := rehearsal.Open(ctx, opts)
	if err != nil {
		return openError(ctx, err)
	}
	defer func() { err = errors.Join(err, factory.Close(ctx)) }()
	if len(bases) == 0 {
		bases = factory.Bases()
	}
	if err := factory.ProvideBases(ctx, bases...); err != nil {
		return openError(ctx, fmt.Errorf("%w\n--bases says which base images to provide; recipes want %s", err, strings.Join(factory.Bases(), ", ")))
	}
	show.started(factory)
	show.note("logs are in " + log.Name() + ", state and keys in " + factory.StateDir)
	run := newLocalRun(factory, deployed)
	if err := run.write(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, run.forget()) }()
	if err := a.tellLocal(run); err != nil {
		return err
	}
	show.note("serving; Ctrl-C or `ami-factory local down` stops")
	<-ctx.Done()
	show.note("stopping")
	return nil
}

// tellLocal prints what clients need to know, and the user to do.
func (a *app) tellLocal(run localRun) error {
	if a.format == "json" {
		return a.json(run)
	}
	machine := "state machine " + run.StateMachine
	if run.StateMachine == "" {
		machine = "nothing is deployed: .tools/cdk.sh deploy"
	}
	if _, err := fmt.Fprintf(a.out, "# embedded AWS at %s, guests are %s\n# %s\n", run.URL, run.Guests, machine); err != nil {
		return err
	}
	return a.exports(run)
}

// largestLog is the size in bytes from which on a log is put aside at the next start.
const largestLog = 16 << 20

// openLog opens the log of a state folder, which only its owner can read.
func openLog(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the state folder: %w", err)
	}
	path := filepath.Join(dir, "local.log")
	if info, err := os.Stat(path); err == nil && info.Size() > largestLog {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, fmt.Errorf("putting a large log aside: %w", err)
		}
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the log: %w", err)
	}
	return f, nil
}
