package factory

import (
	"path/filepath"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3assets"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/ami-factory/ami-factory/pkg/blueprint"
	"github.com/ami-factory/ami-factory/pkg/workflow"
)

// Function is a Lambda function with a role and a log of its own.
type Function struct {
	Function awslambda.Function
	Role     awsiam.Role
	Logs     awslogs.LogGroup
}

// Functions by name.
type Functions map[string]Function

func (f Functions) arn(name string) string { return *f[name].Function.FunctionArn() }

// shared is what all functions use.
type shared struct {
	bucket  awss3.Bucket
	topic   awssns.Topic
	builder builderRole
	engines map[string]awss3assets.Asset // check engines by the guests' architecture
	network network
	logs    logging
	key     awskms.IKey // nil: AWS's own
	dead    awssqs.Queue
	signing awskms.Key // signs evidence
}

func newFunctions(scope constructs.Construct, props *Props, sh shared) Functions {
	arch := awslambda.Architecture_ARM_64()
	if props.Architecture == X86 {
		arch = awslambda.Architecture_X86_64()
	}
	tracing := awslambda.Tracing_DISABLED
	if props.Logs.Tracing {
		tracing = awslambda.Tracing_ACTIVE
	}
	site, settings := siteOf(scope, sh, props), settingsOf(scope, sh, props)
	out := Functions{}
	for _, fn := range blueprint.Functions() {
		id := functionID(fn.Name)
		logs := sh.logs.group(scope, id+"Logs")
		role := newRole(scope, id+"Role", fn.Role(site))
		logs.GrantWrite(role)
		f := Function{Role: role, Logs: logs, Function: awslambda.NewFunction(scope, &id, &awslambda.FunctionProps{
			Description:  jsii.String(fn.Does),
			Runtime:      awslambda.Runtime_PROVIDED_AL2023(),
			Architecture: arch,
			Handler:      jsii.String("bootstrap"),
			Code:         awslambda.Code_FromAsset(jsii.String(filepath.Join(props.functionsDir(), fn.Name)), nil),
			MemorySize:   jsii.Number(float64(fn.MemoryMiB)),
			Timeout:      awscdk.Duration_Seconds(jsii.Number(fn.Timeout.Seconds())),
			Role:         role,
			LogGroup:     logs,
			Environment:  environment(fn.Environment(settings)),
			Tracing:      tracing,

			ReservedConcurrentExecutions: reserved(props, fn.Trigger),
		})}
		exceptPolicy(role, wildcards()...)
		onlyPolicy(f.Function, role)
		out[fn.Name] = f
	}
	return out
}

// reserved keeps triggers to one run at a time: they read what is running and
// remembered before they start something, and two at once would each see room for
// one more execution. What comes meanwhile waits in Lambda's own queue. Stages
// reserve nothing: how many run is bounded by the executions that triggers start,
// and a stage that waits for concurrency would be an execution that stands still.
func reserved(props *Props, trigger bool) *float64 {
	if !trigger || !props.ReserveConcurrency {
		return nil
	}
	return jsii.Number(1)
}

// settingsOf are what the functions of this stack read from their environment.
func settingsOf(scope constructs.Construct, sh shared, props *Props) blueprint.Settings {
	out := blueprint.Settings{
		Bucket: *sh.bucket.BucketName(), Topic: *sh.topic.TopicArn(), InstanceProfile: *sh.builder.profile.Ref(),
		Version: props.version(), CheckEngines: sh.describeEngines(props), Subnets: sh.network.subnets, SecurityGroups: sh.network.groups,
		Parameters: props.Parameters, Prices: props.Prices, DualStack: props.DualStack,
		Approvers: props.Approvers, SigningKey: *sh.signing.KeyArn(), StateMachine: machineARN(scope), AnnouncementTopics: props.Triggers.Topics, Findings: props.Triggers.Findings, FindingHours: props.Triggers.FindingHours, InspectorScan: props.InspectorScan, SecurityHub: props.SecurityHub,
	}
	if len(props.Targets.Accounts) > 0 {
		partition := *awscdk.Stack_Of(scope).Partition()
		out.TargetRoles = func(name string) string { return blueprint.TargetRoleARN(partition, "*", name) }
		out.TargetExternalID = props.Targets.ExternalID
	}
	return out
}

// environment is one as the CDK takes it.
func environment(of map[string]string) *map[string]*string {
	out := map[string]*string{}
	for name, value := range of {
		out[name] = &value
	}
	return &out
}

// functionID begins the ids of a function's constructs, such as CheckInstance.
func functionID(name string) string {
	return strings.TrimSuffix(workflow.PlaceholderName(workflow.Stage(name)), "FunctionArn")
}
