package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/blueprint"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/workflow"
)

// factory is what is deployed, as the state machine leads to it: it names its functions, and
// their environment names everything else.
type factory struct {
	machine   string // ARN; empty: not found
	why       string // it was not
	functions map[workflow.Stage]string
	different []string // states that are not as this program's
	roles     []string // of the functions that use keys; ARNs
	env       map[string]string
}

func (d factory) found() bool { return d.machine != "" }

const deployHint = "deploy the factory (.tools/cdk.sh deploy), or choose its region with --region or its machine with --state-machine"

type identityAPI interface {
	GetCallerIdentity(context.Context, *sts.GetCallerIdentityInput, ...func(*sts.Options)) (*sts.GetCallerIdentityOutput, error)
}

func checkIdentity(ctx context.Context, e *examination) []Finding {
	found, account, partition := identity(ctx, e.aws.sts(), e.region)
	e.account, e.partition = account, partition
	return []Finding{found}
}

func identity(ctx context.Context, api identityAPI, region string) (f Finding, account, partition string) {
	me, err := api.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return problem("credentials", "check the credentials: aws sts get-caller-identity", "they are not accepted: %s", awserr.Brief(err)), "", ""
	}
	partition = "aws"
	if parts := strings.Split(aws.ToString(me.Arn), ":"); len(parts) > 1 {
		partition = parts[1]
	}
	return fine("credentials", "account %s, as %s, in %s", aws.ToString(me.Account), aws.ToString(me.Arn), region), aws.ToString(me.Account), partition
}

type machineAPI interface {
	sfn.ListStateMachinesAPIClient
	DescribeStateMachine(context.Context, *sfn.DescribeStateMachineInput, ...func(*sfn.Options)) (*sfn.DescribeStateMachineOutput, error)
}

func checkDeployment(ctx context.Context, e *examination) []Finding {
	e.deployed = findDeployment(ctx, e.aws.states(), e.opts.StateMachine)
	d := &e.deployed
	if !d.found() {
		f := notChecked("state machine "+workflow.MachineName, "%s", d.why)
		f.Fix = deployHint
		if e.opts.StateMachine != "" {
			f = problem(e.opts.StateMachine, "give the ARN of the stack's output StateMachineArn", "%s", d.why)
		}
		return []Finding{f}
	}
	// The check of the functions reports an environment that cannot be read.
	d.env, _ = environmentOf(ctx, e.aws.lambda(), d.functions[workflow.Launch])
	return []Finding{judgeDefinition(d.machine, d.different, d.env[contract.EnvVersion], e.opts.Version)}
}

// findDeployment finds the machine and reads its definition.
func findDeployment(ctx context.Context, api machineAPI, arn string) factory {
	if arn == "" {
		var err error
		if arn, err = findMachine(ctx, api); err != nil {
			return factory{why: "what is deployed could not be read: " + awserr.Brief(err)}
		}
		if arn == "" {
			return factory{why: "not deployed yet: this account has no state machine " + workflow.MachineName + " in this region"}
		}
	}
	out, err := api.DescribeStateMachine(ctx, &sfn.DescribeStateMachineInput{StateMachineArn: &arn})
	if err != nil {
		return factory{why: "what is deployed could not be read: " + awserr.Brief(err)}
	}
	functions, different, err := compareDefinition(aws.ToString(out.Definition), workflow.Definition())
	if err != nil {
		return factory{why: fmt.Sprintf("%s is not this factory's: %v", arn, err)}
	}
	return factory{machine: arn, functions: functions, different: different, env: map[string]string{}}
}

func findMachine(ctx context.Context, api sfn.ListStateMachinesAPIClient) (string, error) {
	pages := sfn.NewListStateMachinesPaginator(api, &sfn.ListStateMachinesInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return "", err
		}
		for _, m := range page.StateMachines {
			if aws.ToString(m.Name) == workflow.MachineName {
				return aws.ToString(m.StateMachineArn), nil
			}
		}
	}
	return "", nil
}

// integration finds the partition that a definition is written for.
var integration = regexp.MustCompile(`"arn:(aws[a-z-]*):states:::lambda:invoke"`)

// compareDefinition returns the functions that a deployed definition invokes, and
// the states in which it is not this program's. What a deployment has filled in
// for a placeholder is no difference.
func compareDefinition(deployed string, own workflow.Machine) (functions map[workflow.Stage]string, different []string, err error) {
	var have, want any
	if err := json.Unmarshal([]byte(deployed), &have); err != nil {
		return nil, nil, fmt.Errorf("its definition is no JSON: %w", err)
	}
	written := string(own.JSON())
	if m := integration.FindStringSubmatch(deployed); m != nil {
		written = workflow.InPartition(own.JSON(), m[1])
	}
	if err := json.Unmarshal([]byte(written), &want); err != nil {
		return nil, nil, err
	}
	c := comparison{stages: map[string]workflow.Stage{}, functions: map[workflow.Stage]string{}, states: map[string]bool{}}
	for _, spec := range workflow.Stages() {
		c.stages[workflow.Placeholder(spec.Stage)] = spec.Stage
	}
	c.compare("the machine itself", "", want, have)
	if c.functions[workflow.Launch] == "" {
		return nil, nil, fmt.Errorf("it has no state that launches builders")
	}
	return c.functions, slices.Sorted(maps.Keys(c.states)), nil
}

type comparison struct {
	stages    map[string]workflow.Stage // by placeholder
	functions map[workflow.Stage]string
	states    map[string]bool // that differ
}

// compare walks both at once; state is the one that the walk is in, and key what
// holds the values.
func (c comparison) compare(state, key string, want, have any) {
	switch w := want.(type) {
	case map[string]any:
		h, ok := have.(map[string]any)
		if !ok {
			c.states[state] = true
			return
		}
		for _, name := range slices.Compact(slices.Sorted(slices.Values(slices.Concat(slices.Collect(maps.Keys(w)), slices.Collect(maps.Keys(h)))))) {
			at := state
			if key == "States" {
				at = name
			}
			one, inWant := w[name]
			other, inHave := h[name]
			if !inWant || !inHave {
				c.states[at] = true
				continue
			}
			c.compare(at, name, one, other)
		}
	case []any:
		h, ok := have.([]any)
		if !ok || len(h) != len(w) {
			c.states[state] = true
			return
		}
		for i := range w {
			c.compare(state, key, w[i], h[i])
		}
	case string:
		h, ok := have.(string)
		if stage, placed := c.stages[w]; placed && ok && strings.Contains(h, ":function:") {
			c.functions[stage] = h
			return
		}
		if h != w || !ok {
			c.states[state] = true
		}
	default:
		if want != have { // numbers, booleans, null
			c.states[state] = true
		}
	}
}

// judgeDefinition: another version may well have another workflow; the same one
// may not.
func judgeDefinition(machine string, different []string, deployed, own string) Finding {
	const fix = "deploy again from this version's sources (.tools/cdk.sh deploy), or run the doctor of the version that is deployed"
	switch {
	case len(different) == 0:
		return fine(machine, "its definition is that of this version")
	case deployed != own:
		return warning(machine, fix, "its definition is not that of this version, in %s: deployed is version %q, this program is %q", list(different), deployed, own)
	}
	return problem(machine, fix, "its definition is not that of version %q, in %s: somebody has changed it", own, list(different))
}

// list is a list for a sentence, cut after ten.
func list(items []string) string {
	if len(items) > 10 {
		return strings.Join(items[:10], ", ") + fmt.Sprintf(" and %d more", len(items)-10)
	}
	return strings.Join(items, ", ")
}

type functionAPI interface {
	GetFunctionConfiguration(context.Context, *lambda.GetFunctionConfigurationInput, ...func(*lambda.Options)) (*lambda.GetFunctionConfigurationOutput, error)
}

func checkFunctions(ctx context.Context, e *examination) []Finding {
	found, env, roles := functions(ctx, e.aws.lambda(), e.deployed.functions, e.opts.Version)
	if env != nil {
		e.deployed.env = env
	}
	e.deployed.roles = roles
	return found
}

// usingKeys are the stages whose roles need the recipes' keys.
func usingKeys() []workflow.Stage {
	return []workflow.Stage{workflow.Launch, workflow.CreateImage, workflow.Distribute}
}

// functions looks at every function of the state machine, and takes the
// environment, which all share, from the one that launches.
func functions(ctx context.Context, api functionAPI, arns map[workflow.Stage]string, own string) (out []Finding, env map[string]string, roles []string) {
	var good []string
	versions := map[string][]string{}
	for _, spec := range workflow.Stages() {
		arn := arns[spec.Stage]
		looked := "function " + string(spec.Stage)
		if arn == "" {
			out = append(out, problem(looked, redeploy, "no state of the machine invokes it"))
			continue
		}
		c, err := api.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: &arn})
		if awserr.IsNotFound(err) || awserr.Is(err, "ResourceNotFoundException") {
			out = append(out, problem(looked, redeploy, "%s does not exist: executions will fail there", arn))
			continue
		}
		if err != nil {
			out = append(out, unread(looked, err))
			continue
		}
		if spec.Stage == workflow.Launch && c.Environment != nil {
			env = c.Environment.Variables
		}
		if slices.Contains(usingKeys(), spec.Stage) {
			roles = append(roles, aws.ToString(c.Role))
		}
		if f, bad := judgeFunction(looked, c); bad {
			out = append(out, f)
			continue
		}
		version := ""
		if c.Environment != nil {
			version = c.Environment.Variables[contract.EnvVersion]
		}
		versions[version] = append(versions[version], string(spec.Stage))
		if want, ok := blueprint.Lookup(string(spec.Stage)); ok && version == own {
			if f, bad := judgeSettings(looked, want, c); bad {
				out = append(out, f)
				continue
			}
		}
		good = append(good, string(spec.Stage))
	}
	if f, ok := judgeVersions(versions, own); ok {
		out = append(out, f)
	} else if len(good) > 0 {
		out = append(out, fine("functions of the state machine", "%d of %d are there and ready, in version %s", len(good), len(workflow.Stages()), own))
	}
	return out, env, roles
}

// judgeFunction says what keeps a function from being invoked. A function
// without a state is one that was always ready.
func judgeFunction(looked string, c *lambda.GetFunctionConfigurationOutput) (Finding, bool) {
	switch {
	case c.State != "" && c.State != lambdatypes.StateActive && c.State != lambdatypes.StateInactive: // which wakes up
		return problem(looked, "aws lambda get-function --function-name "+aws.ToString(c.FunctionArn), "it is %s: %s", c.State, aws.ToString(c.StateReason)), true
	case c.LastUpdateStatus == lambdatypes.LastUpdateStatusFailed:
		return problem(looked, redeploy, "its last update failed: %s", aws.ToString(c.LastUpdateStatusReason)), true
	}
	return Finding{}, false
}

// judgeSettings compares the settings of a function with the blueprint of the same
// version.
func judgeSettings(looked string, want blueprint.Function, c *lambda.GetFunctionConfigurationOutput) (Finding, bool) {
	var missing []string
	for _, name := range want.Required() {
		if c.Environment == nil || c.Environment.Variables[name] == "" {
			missing = append(missing, name)
		}
	}
	timeout := time.Duration(aws.ToInt32(c.Timeout)) * time.Second
	switch {
	case len(missing) > 0:
		return problem(looked, redeploy, "its environment lacks %s: it refuses to work", list(missing)), true
	case timeout < want.Timeout:
		return problem(looked, redeploy, "its time-out is %v, and this version's is %v: it may be stopped before it is done", timeout, want.Timeout), true
	case int(aws.ToInt32(c.MemorySize)) < want.MemoryMiB:
		return warning(looked, redeploy, "it has %d MiB of memory, and this version gives it %d: it is slower, or runs out of memory", aws.ToInt32(c.MemorySize), want.MemoryMiB), true
	}
	return Finding{}, false
}

// judgeVersions has a finding unless all functions are of this program's version.
func judgeVersions(versions map[string][]string, own string) (Finding, bool) {
	const looked = "version of the functions"
	switch len(versions) {
	case 0:
		return Finding{}, false
	case 1:
		for v := range versions {
			if v == own {
				return Finding{}, false
			}
			return warning(looked, "run the doctor of version "+v+", or deploy this one", "deployed is %q, this program is %q: recipes are judged as this program knows them", v, own), true
		}
	}
	var parts []string
	for _, v := range slices.Sorted(maps.Keys(versions)) {
		parts = append(parts, fmt.Sprintf("%q: %s", v, list(versions[v])))
	}
	return problem(looked, redeploy, "the functions are of different versions, so a plan made by one may not be read by the next: %s", strings.Join(parts, "; ")), true
}

func environmentOf(ctx context.Context, api functionAPI, arn string) (map[string]string, error) {
	c, err := api.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: &arn})
	if err != nil || c.Environment == nil {
		return map[string]string{}, err
	}
	return c.Environment.Variables, nil
}
