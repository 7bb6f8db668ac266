package factory

import (
	"maps"
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
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/ami-factory/ami-factory/pkg/workflow"
)

// Function is one stage's Lambda function with a role and a log of its own.
type Function struct {
	Function awslambda.Function
	Role     awsiam.Role
	Logs     awslogs.LogGroup
}

// Functions by stage.
type Functions map[workflow.Stage]Function

// shared is what all functions use.
type shared struct {
	bucket  awss3.Bucket
	topic   awssns.Topic
	builder builderRole
	engines map[string]awss3assets.Asset // check engines by the guests' architecture
	network network
	logs    logging
	key     awskms.IKey // nil: AWS's own
}

func newFunctions(scope constructs.Construct, props *Props, sh shared) Functions {
	env := map[string]*string{
		"AMI_FACTORY_BUCKET":           sh.bucket.BucketName(),
		"AMI_FACTORY_TOPIC_ARN":        sh.topic.TopicArn(),
		"AMI_FACTORY_INSTANCE_PROFILE": sh.builder.profile.Ref(),
		"AMI_FACTORY_VERSION":          jsii.String(props.version()),
		"AMI_FACTORY_CHECK_ENGINES":    jsii.String(sh.describeEngines(props)),
	}
	setList(env, "AMI_FACTORY_SUBNET_IDS", sh.network.subnets)
	setList(env, "AMI_FACTORY_SECURITY_GROUP_IDS", sh.network.groups)
	if props.DualStack {
		env["AWS_USE_DUALSTACK_ENDPOINT"] = jsii.String("true") // the SDK's own setting
	}
	if props.Parameters != "" {
		env["AMI_FACTORY_COMPONENT_PARAMETERS"] = &props.Parameters
	}

	triggerEnv := triggerEnvironment(scope, props, env)
	isTrigger := map[workflow.Stage]bool{}
	for _, spec := range workflow.Triggers() {
		isTrigger[spec.Stage] = true
	}

	arch := awslambda.Architecture_ARM_64()
	if props.Architecture == X86 {
		arch = awslambda.Architecture_X86_64()
	}
	tracing := awslambda.Tracing_DISABLED
	if props.Logs.Tracing {
		tracing = awslambda.Tracing_ACTIVE
	}
	deployment := deploymentOf(scope, sh, props)
	out := Functions{}
	for _, spec := range workflow.Functions() {
		environment := maps.Clone(env)
		if isTrigger[spec.Stage] {
			environment = triggerEnv
		}
		// Lambda takes 4 KB of it in all: who does not need something is not told it.
		if spec.Stage == workflow.Notify && props.Prices != "" {
			environment["AMI_FACTORY_PRICES"] = &props.Prices
		}
		if role := workflow.TargetRoleOf(spec.Stage); role != "" && len(props.Targets.Accounts) > 0 {
			environment["AMI_FACTORY_TARGET_ROLE_ARN"] = jsii.String(workflow.TargetRoleARN(deployment.Partition, "*", role))
			environment["AMI_FACTORY_TARGET_EXTERNAL_ID"] = &props.Targets.ExternalID
		}
		id := functionID(spec.Stage)
		logs := sh.logs.group(scope, id+"Logs")
		role := awsiam.NewRole(scope, jsii.String(id+"Role"), &awsiam.RoleProps{
			AssumedBy:   awsiam.NewServicePrincipal(jsii.String("lambda.amazonaws.com"), nil),
			Description: jsii.String("AMI factory function " + string(spec.Stage)),
		})
		allow(role, spec.Policy(deployment))
		logs.GrantWrite(role)
		f := Function{Role: role, Logs: logs, Function: awslambda.NewFunction(scope, &id, &awslambda.FunctionProps{
			Description:  jsii.String(spec.Does),
			Runtime:      awslambda.Runtime_PROVIDED_AL2023(),
			Architecture: arch,
			Handler:      jsii.String("bootstrap"),
			Code:         awslambda.Code_FromAsset(jsii.String(filepath.Join(props.functionsDir(), string(spec.Stage))), nil),
			MemorySize:   jsii.Number(float64(spec.MemoryMiB)),
			Timeout:      awscdk.Duration_Seconds(jsii.Number(spec.Timeout.Seconds())),
			Role:         role,
			LogGroup:     logs,
			Environment:  &environment,
			Tracing:      tracing,

			ReservedConcurrentExecutions: reserved(props, isTrigger[spec.Stage]),
		})}
		if sh.key != nil {
			allow(role, dataKeyUse(*sh.key.KeyArn(), urlSuffix(awscdk.Stack_Of(scope)), encryptedActions(spec, isTrigger[spec.Stage])))
		}
		exceptPolicy(role, wildcards()...)
		onlyPolicy(f.Function, role)
		out[spec.Stage] = f
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

// encryptedActions are what a function does with what is encrypted at rest.
func encryptedActions(spec workflow.Spec, trigger bool) []string {
	var out []string
	for _, a := range spec.Actions {
		out = append(out, a.Name)
	}
	if trigger {
		out = append(out, sendDeadLetter)
	}
	return out
}

// functionID begins the ids of a function's constructs, such as CheckInstance.
func functionID(s workflow.Stage) string {
	return strings.TrimSuffix(workflow.PlaceholderName(s), "FunctionArn")
}

func setList(env map[string]*string, name string, values []string) {
	if len(values) > 0 {
		env[name] = jsii.String(strings.Join(values, ","))
	}
}
