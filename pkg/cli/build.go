package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/smithy-go/logging"
	"github.com/spf13/cobra"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/execution"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/partition"
	"github.com/ami-factory/ami-factory/pkg/store"
	"github.com/ami-factory/ami-factory/pkg/workflow"
)

// followEvery is how often the progress of a deployed factory is polled.
const followEvery = 2 * time.Second

// deployed says which factory is meant.
type deployed struct{ machine, region string }

func (d *deployed) register(c *cobra.Command) {
	c.Flags().StringVar(&d.machine, "state-machine", "", "`ARN` of the factory's state machine (default: $"+contract.EnvStateMachine+", otherwise the one named "+workflow.MachineName+")")
	c.Flags().StringVar(&d.region, "region", "", "where the factory is deployed (default: that of the AWS configuration)")
}

// client is Step Functions of the factory and the ARN of its state machine.
func (d deployed) client(ctx context.Context) (*sfn.Client, string, error) {
	cfg, err := awsConfig(ctx, d.region)
	if err != nil {
		return nil, "", err
	}
	api := sfn.NewFromConfig(cfg)
	arn, err := d.arn()
	if err != nil {
		return nil, "", err
	}
	if arn == "" {
		arn, err = execution.FindMachine(ctx, api, workflow.MachineName)
	}
	return api, arn, err
}

// objects reads the factory's bucket, as far as the caller may.
func (d deployed) objects(ctx context.Context) (execution.ObjectReader, error) {
	cfg, err := awsConfig(ctx, d.region)
	if err != nil {
		return nil, err
	}
	api := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = os.Getenv("AWS_ENDPOINT_URL") != "" })
	return func(ctx context.Context, bucket, key string) ([]byte, error) {
		raw, err := store.Store{Bucket: bucket, API: api}.ReadAtMost(ctx, key, contract.BuilderUploadBytes)
		if errors.Is(err, store.ErrNone) {
			return nil, nil
		}
		return raw, err
	}, nil
}

// arn is that of the state machine that is named; empty if none is.
func (d deployed) arn() (string, error) {
	where, value := "--state-machine", d.machine
	if value == "" {
		where, value = contract.EnvStateMachine, os.Getenv(contract.EnvStateMachine)
	}
	if value == "" {
		return "", nil
	}
	m := machineARN.FindStringSubmatch(value)
	if m == nil {
		return "", usage("%s is %q, which is not the ARN of a state machine, such as arn:aws:states:eu-west-1:111122223333:stateMachine:ami-factory", where, value)
	}
	if err := checkRegion(where, m[2]); err != nil {
		return "", err
	}
	if of, ok := partition.Of(m[2]); ok && of.ID != m[1] {
		return "", usage("%s is %q: %s is in partition %s (allowed: arn:%s:states:%s:…)", where, value, m[2], of.ID, of.ID, m[2])
	}
	return value, nil
}

var machineARN = regexp.MustCompile(`^arn:(aws[a-z-]*):states:([a-z0-9-]+):[0-9]{12}:stateMachine:[^:]+$`)

// checkInput refuses an input that no execution takes.
func checkInput(in contract.ExecutionInput) error {
	if err := execution.CheckInput(in); err != nil {
		return &exitError{exitUsage, err}
	}
	return nil
}

// checkRegion refuses a name that cannot be a region's. where says who gave it.
func checkRegion(where, region string) error {
	verdict, message, allowed := partition.Check(region)
	if verdict != partition.Nowhere {
		return nil // the region may be newer than this program
	}
	return usage("%s: %s (allowed: %s)", where, message, allowed)
}

// namesAWS returns the setting of the environment that names an AWS to ask, as a
// person would write it; empty if there is none. What the SDK finds elsewhere, such
// as on an EC2 instance or in the default profile of the shared files, is used only
// by commands that need AWS.
func namesAWS() string {
	for _, name := range []string{"AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_DEFAULT_PROFILE"} {
		if value := os.Getenv(name); value != "" {
			return name + "=" + value
		}
	}
	for _, name := range []string{
		"AWS_ENDPOINT_URL_EC2", "AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
	} {
		if os.Getenv(name) != "" {
			return name
		}
	}
	return ""
}

// whichAWS says, for messages, where the environment sends calls of EC2: an endpoint
// on a loopback address is an embedded AWS.
func whichAWS() string {
	endpoint := cmp.Or(os.Getenv("AWS_ENDPOINT_URL_EC2"), os.Getenv("AWS_ENDPOINT_URL"))
	if endpoint == "" {
		return "AWS"
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		return "the endpoint " + endpoint
	}
	if ip, err := netip.ParseAddr(u.Hostname()); u.Hostname() == "localhost" || err == nil && ip.IsLoopback() {
		return "the embedded AWS at " + endpoint
	}
	return "the endpoint " + endpoint
}

// awsConfig is the configuration of the environment, in a region if one is given. The
// SDK logs nothing: failures are errors, and stderr is for people.
func awsConfig(ctx context.Context, region string) (aws.Config, error) {
	opts := []func(*awsconfig.LoadOptions) error{awsconfig.WithLogger(logging.Nop{})}
	if region != "" {
		opts = append(opts, awsconfig.WithRegion(region))
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx, opts...)
	switch {
	case err != nil:
	case cfg.Region == "":
		err = usage("no region is configured: give --region or set AWS_REGION")
	case region != "":
		err = checkRegion("--region", region)
	default:
		err = checkRegion("the configured region (AWS_REGION, or that of the profile)", cfg.Region)
	}
	return cfg, err
}

func (a *app) build() *cobra.Command {
	var to deployed
	var in contract.ExecutionInput
	var name string
	var noWait bool
	var door door
	c := &cobra.Command{
		Use:   "build RECIPE",
		Short: "Build an image on a deployed factory",
		Long: `Start an execution on a deployed factory, on AWS or one that "local up" serves
(AWS_ENDPOINT_URL), and wait until it ends. Progress goes to stderr, the result
to stdout. The builder's steps are shown as it reports them, if the caller may read
executions/NAME/steps.json in the factory's bucket. Ctrl-C stops waiting; the execution
goes on.

RECIPE is a recipe of the deployed factory. An unknown one ends FailedClean at once,
and the cause lists the known ones. If the published image is up to date, the
execution ends UpToDate; --force builds again, with today's packages. --source must
be an image of the owner that the recipe names.

The limits of triggers do not apply: it starts while other executions run, and also
builds a paused recipe, which is resumed if the build succeeds.

Each call starts a new execution, unless --name names one: if an execution of that
name runs with the same input, the command waits for that one.

Exit codes: 0 published or up to date (with --no-wait: started), 1 failed and
nothing is left, 2 wrong usage, 3 rejected by the gate or not
approved, 4 something is left behind, 130 interrupted.`,
		Example: `  ami-factory build debian-12-docker
  ami-factory build debian-12-docker --force --no-wait
  ami-factory build debian-12-docker --name "nightly-$(date +%F)" --output json`,
		Args: takes("one RECIPE"),
		RunE: func(c *cobra.Command, given []string) error {
			in.Recipe = given[0]
			door.region, door.flag = to.region, "--approval-url"
			return a.runBuild(c.Context(), to, door, in, name, noWait)
		},
	}
	c.ValidArgsFunction = once(a.recipes)
	to.register(c)
	c.Flags().BoolVar(&in.Force, "force", false, "build even when nothing changed")
	c.Flags().StringVar(&in.Source, "source", "", "AMI id to build on instead of the recipe's source")
	c.Flags().StringVar(&name, "name", "", "`name` of the execution, to join rather than to start a second")
	c.Flags().StringVar(&door.url, "approval-url", "", "`address` of the function URL of approvals, which keeps who starts the execution; recipes with approvals need it (default: $"+contract.EnvApprovalURL+" with --as)")
	c.Flags().StringVar(&door.person, "as", "", "`name` of the session in which the role of $"+contract.EnvApproverRole+" is assumed, to use that address")
	c.Flags().BoolVar(&noWait, "no-wait", false, "print the execution's ARN and do not wait for its end")
	return c
}

func (a *app) runBuild(ctx context.Context, to deployed, through door, in contract.ExecutionInput, name string, noWait bool) error {
	if err := checkInput(in); err != nil {
		return err
	}
	if name == "" {
		name = execution.NameByHand(in.Recipe, time.Now())
	} else if err := execution.CheckName(name); err != nil {
		return usage("--name: %w", err)
	}
	api, machine, err := to.client(ctx)
	if err != nil {
		return err
	}
	arn, err := startBuild(ctx, through, in, name, func() (string, error) { return execution.Start(ctx, api, machine, name, in) })
	if err != nil {
		return err
	}
	if noWait {
		if a.format == "json" {
			return a.json(map[string]string{"execution": name, "executionArn": arn})
		}
		_, err := fmt.Fprintln(a.out, arn)
		return err
	}
	show := newDisplay(a.err)
	show.note("execution " + arn)
	steps, err := to.objects(ctx)
	if err != nil {
		return err
	}
	result, err := execution.Follow(ctx, api, arn, followEvery, steps, show.event)
	show.end()
	if ctx.Err() != nil {
		return &exitError{exitInterrupted, fmt.Errorf("interrupted: the execution goes on; stop it with aws stepfunctions stop-execution --execution-arn %s", arn)}
	}
	if err != nil {
		return err
	}
	if a.format == "json" {
		err = a.json(result)
	} else {
		err = writeResult(a.coloured(a.out), in.Recipe, result)
	}
	if code := exitCode(result.Status); err == nil && code != exitOK {
		return &exitError{code: code}
	}
	return err
}

func writeResult(w io.Writer, recipe string, r execution.Result) error {
	var b strings.Builder
	row := rows(&b)
	if r.Guests == string(vm.Simulated) {
		b.WriteString(simulatedNotice)
	}
	writeOutcome(row, recipe, r)
	if r.Action == contract.ActionRelease {
		row("action", "release of the published image again, without a bake")
	}
	writeReason(row, r.Why, r.Changed)
	if r.Guests != "" {
		row("guests", "%s", r.Guests)
	}
	if r.Report != "" {
		row("report", "%s", r.Report)
	}
	row("execution", "%s", r.ARN)
	_, err := io.WriteString(w, b.String())
	return err
}
