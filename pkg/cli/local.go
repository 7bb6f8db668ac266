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

	"github.com/ami-factory/ami-factory/pkg/localcloud"
	"github.com/ami-factory/ami-factory/pkg/rehearsal"
)

func (a *app) local() *cobra.Command {
	return group(&cobra.Command{
		Use:   "local",
		Short: "The embedded AWS with the factory deployed in it",
		Long: `The embedded AWS with the factory deployed in it, for any AWS client. It keeps
its state in the folder --state, one for each kind of guests and home region.`,
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
until Ctrl-C. It prints the exports for AWS clients on stdout; "local env" prints
them again. Every request must be signed with these keys, which belong to the state
folder. Whoever knows them can run programs as you.

Stderr shows each execution's start and end, and, if a describe call finds nothing,
in which regions and accounts there are images, instances or snapshots. The logs of
the embedded AWS and its functions go to local.log in the state folder.

With --deployed=false the factory is not deployed, so that "cdk deploy" can deploy
it: what "cdk bootstrap" makes exists, and so do base images, their owners' topics
and the keys that recipes name.

Schedules run: each night builds the recipes that are not up to date, and every half
hour changed sources start builds. --schedules=false turns them off.

Ctrl-C ends running executions; the next run with the same --state removes what
they have made.

Calls fail or are late, and events are lost, late, repeated or out of order, on demand:
/_localcloud/faults takes rules in JSON.

Exit codes: 0 stopped, 1 it could not start, 2 wrong usage.`,
		Example: `  ami-factory local up --guests container
  eval "$(ami-factory local env)"    # in another shell
  aws stepfunctions start-execution \
    --state-machine-arn arn:aws:states:eu-west-1:111122223333:stateMachine:ami-factory \
    --input '{"recipe":"debian-12-docker"}'
  curl --aws-sigv4 aws:amz:eu-west-1:localcloud --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" \
    "$AWS_ENDPOINT_URL/_localcloud/faults" -d '[{"source":"aws.ec2","lose":true,"times":-1}]'
  ami-factory local up --guests simulated --deployed=false`,
		Args: takes(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.runLocalUp(c.Context(), l, listen, bases, deployed, schedules)
		},
	}
	l.register(c)
	l.registerDeployment(c)
	l.registerFeeds(c)
	l.registerRegion(c, "most recipes")
	a.registerUserData(c)
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:4566", "loopback address and port; port 0 means a free port")
	c.Flags().BoolVar(&deployed, "deployed", true, "deploy the factory; false leaves that to \"cdk deploy\"")
	c.Flags().StringSliceVar(&bases, "bases", nil, "`distributions` whose base images to provide, such as debian-12,debian-13 (default: those of all recipes)")
	c.Flags().BoolVar(&schedules, "schedules", true, "let nights and changed sources start builds")
	return c
}

func (a *app) runLocalUp(ctx context.Context, l local, listen string, bases []string, deployed, schedules bool) (err error) {
	if err := localcloud.CheckAddress(listen); err != nil {
		return usage("--listen: %w", err)
	}
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
		return openError(ctx, fmt.Errorf("%w\n--bases selects the base images to provide; the recipes need %s", err, strings.Join(factory.Bases(), ", ")))
	}
	show.started(factory)
	show.note("logs are in " + log.Name() + ", state and keys in " + factory.StateDir)
	run := newLocalRun(factory, deployed)
	if err := run.write(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, run.forget()) }()
	if err := a.printLocal(run); err != nil {
		return err
	}
	show.note("serving; Ctrl-C or `ami-factory local down` stops")
	<-ctx.Done()
	show.note("stopping")
	return nil
}

// printLocal prints what clients need, and what the user can do next.
func (a *app) printLocal(run localRun) error {
	if a.format == "json" {
		return a.json(run)
	}
	machine := "state machine " + run.StateMachine
	if run.StateMachine == "" {
		machine = "nothing is deployed: .tools/cdk.sh deploy"
	}
	if _, err := fmt.Fprintf(a.out, "# embedded AWS at %s, guests are %s\n# container registry at %s: aws ecr get-login-password | docker login -u AWS --password-stdin %s\n# %s\n",
		run.URL, run.Guests, run.Registry, run.Registry, machine); err != nil {
		return err
	}
	return a.exports(run)
}

// largestLog is the size in bytes above which a log is moved away at the next start.
const largestLog = 16 << 20

// openLog opens the log of a state folder, which only its owner can read.
func openLog(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the state folder: %w", err)
	}
	path := filepath.Join(dir, "local.log")
	if info, err := os.Stat(path); err == nil && info.Size() > largestLog {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, fmt.Errorf("move a large log away: %w", err)
		}
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the log: %w", err)
	}
	return f, nil
}
