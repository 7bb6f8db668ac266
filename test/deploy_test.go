package test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	cfntypes "github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/blueprint"
	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/partition"
	processor "github.com/ami-factory/ami-factory/pkg/program"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/rehearsal"
	"github.com/ami-factory/ami-factory/pkg/rehearsal/guests"
	"github.com/ami-factory/ami-factory/pkg/workflow"
	"github.com/ami-factory/ami-factory/userdata"
)

// stackName is the factory's, as infra's main names it.
const stackName = "AmiFactory"

// cdk is the stock command line, pointed at an embedded AWS by nothing but the
// environment.
type cdk struct {
	t       *testing.T
	tool    string // the script that runs it in the version of the project
	dir     string // that it runs in, with a cdk.json
	env     []string
	context []string
}

// program runs a program in the folder; if it fails, its last lines are in the message.
func (c cdk) program(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = c.dir, c.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return string(out), nil
}

func (c cdk) run(args ...string) string {
	c.t.Helper()
	all := append([]string{"--no-color", "--no-notices", "--ci"}, args...)
	out, err := c.program(c.tool, append(all, c.context...)...)
	require.NoError(c.t, err, out)
	return out
}

// newCDK prepares a folder for the command line, or says what this machine lacks
// for it.
func newCDK(t *testing.T, f *rehearsal.Factory) cdk {
	t.Helper()
	for _, program := range []string{"node", "npx"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("not run: `cdk deploy` needs Node.js 20 or later with npm, and %s is not installed", program)
		}
	}
	tool, err := filepath.Abs(filepath.Join("..", ".tools", "cdk.sh"))
	require.NoError(t, err)
	c := cdk{t: t, tool: tool, dir: t.TempDir(), env: withoutAWS(os.Environ())}
	c.env = append(c.env, f.Cloud.Environment()...)
	c.env = append(c.env, "CDK_DISABLE_CLI_TELEMETRY=true", "JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION=true", "JSII_SILENCE_WARNING_DEPRECATED_NODE_VERSION=true")
	out, err := c.program(tool, "--version")
	require.NoError(t, err, "npm cannot provide the CDK's command line: %s", out)
	dir, err := built()
	require.NoError(t, err)
	app := filepath.Join(c.dir, "infra")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", app, "../infra")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	said, err := build.CombinedOutput()
	require.NoError(t, err, "build the CDK app: %s", said)

	// The app's own settings, but for how it is run.
	raw, err := os.ReadFile(filepath.Join("..", "cdk.json"))
	require.NoError(t, err)
	var settings map[string]any
	require.NoError(t, json.Unmarshal(raw, &settings))
	settings["app"] = app
	raw, err = json.Marshal(settings)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(c.dir, "cdk.json"), raw, 0o600))
	// Beside this machine's engine, those of the other guests that recipes are for.
	names, err := recipe.Names(userdata.FS)
	require.NoError(t, err)
	for _, name := range names {
		r, _, err := recipe.Load(userdata.FS, name, recipe.Options{Now: time.Now()})
		require.NoError(t, err)
		architecture := processor.GOARCH(r.Architecture)
		engine := filepath.Join(filepath.Dir(filepath.Join(dir, gossIn)), architecture)
		if _, err := os.Stat(engine); err == nil {
			continue
		}
		build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", engine, "github.com/goss-org/goss/cmd/goss")
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+architecture)
		out, err := build.CombinedOutput()
		require.NoError(t, err, "build the check engine for %s: %s", architecture, out)
	}
	architecture := "x86_64"
	if runtime.GOARCH == "arm64" {
		architecture = "arm64"
	}
	c.context = []string{
		"-c", "architecture=" + architecture, "-c", "functions=" + filepath.Join(dir, functionsIn), "-c", "goss=" + filepath.Dir(filepath.Join(dir, gossIn)),
	}
	return c
}

// withoutAWS is an environment that says nothing of AWS.
func withoutAWS(env []string) []string {
	var out []string
	for _, v := range env {
		if !strings.HasPrefix(v, "AWS_") {
			out = append(out, v)
		}
	}
	return out
}

// decided are the decisions on the calls of roles.
type decided struct {
	mu  sync.Mutex
	all []authz.Decision
}

func (d *decided) add(decision authz.Decision) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = append(d.all, decision)
}

func (d *decided) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = nil
}

// summary lists, for the template's roles, which calls were denied, and how often
// each has called.
func (d *decided) summary() (denied []string, roles map[string]int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	roles = map[string]int{}
	for _, decision := range d.all {
		name := decision.RoleARN[strings.LastIndex(decision.RoleARN, "/")+1:]
		if !strings.HasPrefix(name, stackName+"-") {
			continue // of the CDK
		}
		roles[name]++
		if decision.Verdict != authz.Allowed {
			denied = append(denied, name+" "+decision.Request.Action+" "+decision.Request.Resource)
		}
	}
	return denied, roles
}

func TestTheStockCommandLineDeploysTheFactory(t *testing.T) {
	if testing.Short() {
		t.Skip("not run: -short, and the CDK app takes minutes to compile")
	}
	var decisions decided
	ctx := t.Context()
	// Node.js takes credentials for expired that have been so for a while.
	virtual := clock.NewVirtual(time.Now())
	letGo := func() {}
	t.Cleanup(func() { letGo() }) // after the factory is closed
	f := simFactory(t, func(o *rehearsal.Options) {
		o.Bare, o.Decisions = true, decisions.add
		o.Clock = virtual
		o.Simulated = guests.Simulated{Boot: 20 * time.Second, Provision: 4 * time.Minute, Check: 20 * time.Second}
	})
	c := newCDK(t, f)
	c.context = append(c.context, "-c", "targetAccounts="+target, "-c", "targetExternalId="+externalID)
	cfg := f.Cloud.AWSConfig("")

	// The deployed resources exist and are listed.
	c.run("deploy", "--require-approval", "never", "--outputs-file", "outputs.json", "-c", "version=first")
	raw, err := os.ReadFile(filepath.Join(c.dir, "outputs.json"))
	require.NoError(t, err)
	var outputs map[string]map[string]string
	require.NoError(t, json.Unmarshal(raw, &outputs))
	machine := outputs[stackName]["StateMachineArn"]
	assert.Equal(t, "arn:aws:states:eu-west-1:111122223333:stateMachine:"+workflow.MachineName, machine)
	resources := deployed(t, cfg)
	assert.Len(t, resources["AWS::Lambda::Function"], len(blueprint.Functions()))
	assert.Equal(t, []string{outputs[stackName]["BucketName"]}, resources["AWS::S3::Bucket"][:1])

	// It bakes, with the roles of the template.
	published := execute(t, cfg, machine)
	assert.Equal(t, "Published", published.Status)
	denied, roles := decisions.summary()
	assert.Empty(t, denied)
	for _, spec := range workflow.Stages() {
		if spec.Stage == workflow.RequestApproval {
			continue // the recipe wants no approval
		}
		assert.Truef(t, anyRole(roles, functionRole(spec.Stage)), "stage %s was held to a role of the template: %v", spec.Stage, roles)
	}

	requireTrustOfTarget(t, f, c, outputs[stackName])
	c.run("synth", "--quiet", "--output", "forward.out", "-c", "stack=forward")
	forward, err := os.ReadFile(filepath.Join(c.dir, "forward.out", "AmiFactoryForward.template.json"))
	require.NoError(t, err)
	requireForwards(t, f, forward)
	decisions.forget() // what it had denied

	// Again: nothing to do.
	assert.Contains(t, c.run("deploy", "--require-approval", "never", "-c", "version=first"), "no changes")
	forced := c.run("deploy", "--require-approval", "never", "--force", "-c", "version=first")
	assert.Contains(t, forced, "no changes")
	assert.Equal(t, cfntypes.StackStatusCreateComplete, stack(t, cfg).StackStatus, "CloudFormation found none either")

	// From here on time passes only when the test lets it.
	letGo = virtual.Hold()
	f.StateMachine, f.DeadLetters = machine, resources["AWS::SQS::Queue"][0]
	n := &nights{Factory: f, t: t, clock: virtual, running: map[string]bool{}}
	t.Cleanup(f.Cloud.Events.Subscribe(n.hear))
	f.Cloud.Scheduler.Start()
	n.startByItself()
	denied, _ = decisions.summary()
	assert.Empty(t, denied)

	// A change reaches the functions, and cdk diff shows it before.
	diff := c.run("diff", "-c", "version=second")
	assert.Contains(t, diff, "AMI_FACTORY_VERSION")
	c.run("deploy", "--require-approval", "never", "-c", "version=second")
	assert.Equal(t, cfntypes.StackStatusUpdateComplete, stack(t, cfg).StackStatus)
	for _, name := range resources["AWS::Lambda::Function"] {
		out, err := lambda.NewFromConfig(cfg).GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: &name})
		require.NoError(t, err)
		assert.Equal(t, "second", out.Environment.Variables["AMI_FACTORY_VERSION"], name)
	}
	assert.Equal(t, resources, deployed(t, cfg), "nothing was replaced")

	// What is left is what the template retains.
	id := stack(t, cfg).StackId
	c.run("destroy", "--force")
	requireOnlyRetained(t, cfg, id, resources)
}

// externalID is what the role of the target account asks for.
const externalID = "the-id-of-this-test"

// requireTrustOfTarget makes the stack of target accounts in one, as a StackSet
// would, and sees it trust the deployed roles that write pointers, and no other.
func requireTrustOfTarget(t *testing.T, f *rehearsal.Factory, c cdk, outputs map[string]string) {
	t.Helper()
	c.run("synth", "--quiet", "--output", "target.out", "-c", "stack=target")
	body, err := os.ReadFile(filepath.Join(c.dir, "target.out", "AmiFactoryTarget.template.json"))
	require.NoError(t, err)
	there := cloudformation.NewFromConfig(f.Cloud.AWSConfigFor(target, ""))
	parameter := func(name, value string) cfntypes.Parameter {
		return cfntypes.Parameter{ParameterKey: &name, ParameterValue: &value}
	}
	_, err = there.CreateStack(t.Context(), &cloudformation.CreateStackInput{
		StackName: aws.String("Target"), TemplateBody: aws.String(string(body)), Capabilities: []cfntypes.Capability{cfntypes.CapabilityCapabilityNamedIam},
		Parameters: []cfntypes.Parameter{
			parameter("FactoryAccount", f.Cloud.Account()), parameter("ExternalId", externalID),
			parameter("PointerReadRoleArns", outputs["PointerReadRoleArns"]), parameter("PointerWriteRoleArns", outputs["PointerWriteRoleArns"]),
		},
	})
	require.NoError(t, err)
	require.NoError(t, cloudformation.NewStackCreateCompleteWaiter(there).Wait(t.Context(), &cloudformation.DescribeStacksInput{StackName: aws.String("Target")}, patience))

	as := func(callerARN, name, externalID string) *ssm.Client {
		cfg := f.Cloud.AWSConfigOfRole("", callerARN, "")
		cfg.Credentials = stscreds.NewAssumeRoleProvider(sts.NewFromConfig(cfg), blueprint.TargetRoleARN("aws", target, name), func(o *stscreds.AssumeRoleOptions) { o.ExternalID = &externalID })
		return ssm.NewFromConfig(cfg)
	}
	write := func(client *ssm.Client, name string) error {
		_, err := client.PutParameter(t.Context(), &ssm.PutParameterInput{Name: &name, Value: aws.String("x"), Type: ssmtypes.ParameterTypeString, Overwrite: aws.Bool(true)})
		return err
	}
	read := func(client *ssm.Client) error {
		_, err := client.GetParameter(t.Context(), &ssm.GetParameterInput{Name: aws.String(pointer)})
		return err
	}
	writers, readers := strings.Split(outputs["PointerWriteRoleArns"], ","), strings.Split(outputs["PointerReadRoleArns"], ",")
	require.Len(t, writers, 2)
	require.Len(t, readers, 2)
	const refused = "is not authorized to perform: "
	for _, role := range writers {
		client := as(role, blueprint.TargetWriterName, externalID)
		require.NoError(t, write(client, pointer), role)
		require.ErrorContains(t, write(client, "/other"), refused+"ssm:PutParameter", role)
	}
	for _, role := range readers {
		client := as(role, blueprint.TargetReaderName, externalID)
		require.NoError(t, read(client), role)
		require.ErrorContains(t, write(client, pointer), refused+"ssm:PutParameter", role)
		require.ErrorContains(t, read(as(role, blueprint.TargetWriterName, externalID)), refused+"sts:AssumeRole", "one that reads may not move")
	}
	require.ErrorContains(t, read(as(writers[0], blueprint.TargetWriterName, "another-id-altogether")), refused+"sts:AssumeRole")
}

// The template of the stack of further regions is a golden, so that it is deployed
// without the CDK too.
func TestTheStackOfFurtherRegionsForwardsEventsOfCopies(t *testing.T) {
	t.Parallel()
	f := simFactory(t, func(o *rehearsal.Options) { o.Bare = true })
	body, err := os.ReadFile(filepath.Join("..", "infra", "factory", "testdata", "forward.json"))
	require.NoError(t, err)
	requireForwards(t, f, body)
}

// requireForwards makes the stack of further regions in one, as a StackSet would, where
// it forwards what the blueprint says, and at home, where it makes nothing.
func requireForwards(t *testing.T, f *rehearsal.Factory, body []byte) {
	t.Helper()
	forwardsIn := func(region string) (n int) {
		api := eventbridge.NewFromConfig(f.Cloud.AWSConfig(region))
		rules, err := api.ListRules(t.Context(), &eventbridge.ListRulesInput{})
		require.NoError(t, err)
		for _, r := range rules.Rules {
			targets, err := api.ListTargetsByRule(t.Context(), &eventbridge.ListTargetsByRuleInput{Rule: r.Name})
			require.NoError(t, err)
			for _, target := range targets.Targets {
				if aws.ToString(target.Arn) == blueprint.HomeBus("aws", f.Cloud.Account(), home) {
					n++
				}
			}
		}
		return n
	}
	for region, rules := range map[string]int{second: len(blueprint.Forwards()), home: 0} {
		there := cloudformation.NewFromConfig(f.Cloud.AWSConfig(region))
		_, err := there.CreateStack(t.Context(), &cloudformation.CreateStackInput{
			StackName: aws.String("Forward"), TemplateBody: aws.String(string(body)), Capabilities: []cfntypes.Capability{cfntypes.CapabilityCapabilityIam},
			Parameters: []cfntypes.Parameter{{ParameterKey: aws.String("FactoryRegion"), ParameterValue: aws.String(home)}},
		})
		require.NoError(t, err)
		require.NoError(t, cloudformation.NewStackCreateCompleteWaiter(there).Wait(t.Context(), &cloudformation.DescribeStacksInput{StackName: aws.String("Forward")}, patience))
		assert.Equal(t, rules, forwardsIn(region), region)
		_, err = there.DeleteStack(t.Context(), &cloudformation.DeleteStackInput{StackName: aws.String("Forward")})
		require.NoError(t, err)
		require.NoError(t, cloudformation.NewStackDeleteCompleteWaiter(there).Wait(t.Context(), &cloudformation.DescribeStacksInput{StackName: aws.String("Forward")}, patience))
		assert.Zero(t, forwardsIn(region), region)
	}
}

// startByItself sees the template's schedules, rules and subscription start what
// they should: the recipe is published, the others are not.
func (n *nights) startByItself() {
	n.t.Helper()
	others := slices.DeleteFunc(recipesOf(n.t), func(name string) bool { return name == recipeName })
	n.sleep(26 * time.Hour)
	assert.ElementsMatch(n.t, others, n.take(), "a night builds what is stale, and nothing else")
	n.sleep(24 * time.Hour)
	assert.Empty(n.t, n.take(), "nothing has changed until the next")

	n.release("debian-12-amd64-20261101")
	n.Cloud.SNS.Repeat(4)
	n.announce(amazon, blueprint.AnnouncementTopics(partition.Default)[0])
	n.sleep(3 * time.Hour)
	var dependants []string
	for _, name := range recipesOf(n.t) {
		if strings.HasPrefix(name, "debian-12-") {
			dependants = append(dependants, name)
		}
	}
	assert.ElementsMatch(n.t, dependants, n.take(), "an announcement that comes five times builds what builds on the source once")
	for _, letter := range n.deadLetters() {
		assert.Fail(n.t, "a dead letter", *letter.Body)
	}

	_, err := sns.NewFromConfig(n.Cloud.AWSConfigFor(amazon, "us-east-1")).SetTopicAttributes(n.t.Context(), &sns.SetTopicAttributesInput{
		TopicArn: aws.String(blueprint.AnnouncementTopics(partition.Default)[0]), AttributeName: aws.String("SignatureVersion"), AttributeValue: aws.String("1"),
	})
	require.NoError(n.t, err)
	n.Cloud.SNS.Repeat(0)
	n.announce(amazon, blueprint.AnnouncementTopics(partition.Default)[0])
	n.sleep(10 * time.Minute)
	assert.Empty(n.t, n.take(), "nothing is new")
	assert.Empty(n.t, n.deadLetters(), "a signature of version 1, which topics have unless their owner changes it, is accepted")
}

// recipesOf are the names of the recipes that functions carry.
func recipesOf(t *testing.T) []string {
	t.Helper()
	names, err := recipe.Names(userdata.FS)
	require.NoError(t, err)
	return names
}

// functionRole begins the name of a function's role, up to what CloudFormation
// adds; names are cut to fit.
func functionRole(s workflow.Stage) string {
	var id strings.Builder
	for word := range strings.SplitSeq(string(s), "-") {
		id.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return id.String() + "Role"
}

func anyRole(roles map[string]int, id string) bool {
	for name := range roles {
		if strings.HasPrefix(name, stackName) && strings.Contains(name, id) {
			return true
		}
	}
	return false
}

func stack(t *testing.T, cfg aws.Config) cfntypes.Stack {
	t.Helper()
	out, err := cloudformation.NewFromConfig(cfg).DescribeStacks(t.Context(), &cloudformation.DescribeStacksInput{StackName: aws.String(stackName)})
	require.NoError(t, err)
	return out.Stacks[0]
}

// deployed are the physical ids of the stack's resources by type.
func deployed(t *testing.T, cfg aws.Config) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	pages := cloudformation.NewListStackResourcesPaginator(cloudformation.NewFromConfig(cfg), &cloudformation.ListStackResourcesInput{StackName: aws.String(stackName)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		require.NoError(t, err)
		for _, r := range page.StackResourceSummaries {
			out[*r.ResourceType] = append(out[*r.ResourceType], *r.PhysicalResourceId)
		}
	}
	return out
}

// ending is the output of an execution.
type ending struct {
	Status string
	Images map[string]string
}

// execute starts an execution with the SDK's client and waits for its end.
func execute(t *testing.T, cfg aws.Config, machine string) ending {
	t.Helper()
	client := sfn.NewFromConfig(cfg)
	started, err := client.StartExecution(t.Context(), &sfn.StartExecutionInput{StateMachineArn: &machine, Input: aws.String(`{"recipe":"` + recipeName + `"}`)})
	require.NoError(t, err)
	var out *sfn.DescribeExecutionOutput
	require.Eventually(t, func() bool {
		out, err = client.DescribeExecution(t.Context(), &sfn.DescribeExecutionInput{ExecutionArn: started.ExecutionArn})
		require.NoError(t, err)
		return out.Status != sfntypes.ExecutionStatusRunning
	}, patience, 100*time.Millisecond)
	require.Equal(t, sfntypes.ExecutionStatusSucceeded, out.Status, "%s: %s", aws.ToString(out.Error), aws.ToString(out.Cause))
	var e ending
	require.NoError(t, json.NewDecoder(bytes.NewReader([]byte(*out.Output))).Decode(&e))
	return e
}

// requireOnlyRetained looks for what a destroyed stack has left.
func requireOnlyRetained(t *testing.T, cfg aws.Config, stackID *string, resources map[string][]string) {
	t.Helper()
	ctx := t.Context()
	out, err := cloudformation.NewFromConfig(cfg).DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: stackID})
	require.NoError(t, err)
	assert.Equal(t, cfntypes.StackStatusDeleteComplete, out.Stacks[0].StackStatus)
	functions, err := lambda.NewFromConfig(cfg).ListFunctions(ctx, &lambda.ListFunctionsInput{})
	require.NoError(t, err)
	assert.Empty(t, functions.Functions)
	machines, err := sfn.NewFromConfig(cfg).ListStateMachines(ctx, &sfn.ListStateMachinesInput{})
	require.NoError(t, err)
	assert.Empty(t, machines.StateMachines)
	roles, err := iam.NewFromConfig(cfg).ListRoles(ctx, &iam.ListRolesInput{})
	require.NoError(t, err)
	for _, role := range roles.Roles {
		assert.Truef(t, strings.HasPrefix(*role.RoleName, "cdk-"), "role %s", *role.RoleName)
	}
	client := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
	for _, bucket := range resources["AWS::S3::Bucket"][:1] {
		_, err := client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &bucket})
		assert.NoErrorf(t, err, "the reports in %s are evidence, and stay", bucket)
	}
}
