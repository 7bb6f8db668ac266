package cli

import (
	"context"
	"errors"
	"fmt"
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
		Example: `  ami-factory local up --guests container`,
	}, a.localUp())
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
until Ctrl-C. What to export for AWS clients is printed on stdout.

With --deployed=false nothing is deployed in it, and "cdk deploy" can do so: what
"cdk bootstrap" makes is there, and base images, their owners' topics and the keys
that recipes name.

Schedules ring: at night the recipes that are stale are built, and every half hour
a look is taken whether a source has moved. --schedules=false keeps them quiet.

Executions that are under way at Ctrl-C end; what they have made is removed by
the next run with the same --state.`,
		Example: `  ami-factory local up --guests container
  aws stepfunctions start-execution --endpoint-url http://127.0.0.1:4566 \
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
	opts.Progress, opts.Listen, opts.Bare, opts.Schedules = show.note, listen, !deployed, schedules
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
	if err := a.tellLocal(factory, deployed); err != nil {
		return err
	}
	show.note("serving; Ctrl-C stops")
	<-ctx.Done()
	show.note("stopping")
	return nil
}

// tellLocal prints what clients need to know, and the user to do.
func (a *app) tellLocal(factory *rehearsal.Factory, deployed bool) error {
	if a.format == "json" {
		env := map[string]string{}
		for _, v := range factory.Cloud.Environment() {
			name, value, _ := strings.Cut(v, "=")
			env[name] = value
		}
		return a.json(map[string]any{
			"url": factory.URL, "stateMachine": factory.StateMachine, "bucket": factory.Bucket, "guests": factory.Guests, "environment": env, "deadLetters": factory.DeadLetters,
		})
	}
	exports := "export " + strings.Join(factory.Cloud.Environment(), "\nexport ")
	if !deployed {
		_, err := fmt.Fprintf(a.out, "# embedded AWS at %s, guests are %s\n# nothing is deployed: .tools/cdk.sh deploy\n%s\n", factory.URL, factory.Guests, exports)
		return err
	}
	_, err := fmt.Fprintf(a.out, "# embedded AWS at %s, guests are %s\n# state machine %s\nexport %s=%s\n%s\n",
		factory.URL, factory.Guests, factory.StateMachine, envBucket, factory.Bucket, exports)
	return err
}
