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

	"github.com/ami-factory/ami-factory/pkg/blueprint"
	"github.com/ami-factory/ami-factory/pkg/contract"
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
		contract.EnvBucket:          sh.bucket.BucketName(),
		contract.EnvTopic:           sh.topic.TopicArn(),
		contract.EnvInstanceProfile: sh.builder.profile.Ref(),
		contract.EnvVersion:         jsii.String(props.version()),
		contract.EnvEngines:         jsii.String(sh.describeEngines(props)),
	}
	setList(env, contract.EnvSubnets, sh.network.subnets)
	setList(env, contract.EnvSecurityGroups, sh.network.groups)
	if props.DualStack {
		env["AWS_USE_DUALSTACK_ENDPOINT"] = jsii.String("true") // the SDK's own setting
	}
	if props.Parameters != "" {
		env[contract.EnvParameters] = &props.Parameters
	}

	triggerEnv := triggerEnvironment(scope, props, env)
	arch := awslambda.Architecture_ARM_64()
	if props.Architecture == X86 {
		arch = awslambda.Architecture_X86_64()
	}
	tracing := awslambda.Tracing_DISABLED
	if props.Logs.Tracing {
		tracing = awslambda.Tracing_ACTIVE
	}
	site := siteOf(scope, sh, props)
	out := Functions{}
	for _, fn := range blueprint.Functions() {
		environment := maps.Clone(env)
		if fn.Trigger {
			environment = triggerEnv
		}
		// Lambda takes 4 KB of it in all: who does not need something is not told it.
		if fn.Name == string(workflow.Notify) && props.Prices != "" {
			environment[contract.EnvPrices] = &props.Prices
		}
		if role := blueprint.TargetRoleOf(fn.Name); role != "" && len(props.Targets.Accounts) > 0 {
			environment[contract.EnvTargetRole] = jsii.String(blueprint.TargetRoleARN(site.Partition, "*", role))
			environment[contract.EnvTargetExternal] = &props.Targets.ExternalID
		}
		id := functionID(fn.Name)
		logs := sh.logs.group(scope, id+"Logs")
		role := awsiam.NewRole(scope, jsii.String(id+"Role"), &awsiam.RoleProps{
			AssumedBy:   awsiam.NewServicePrincipal(jsii.String("lambda.amazonaws.com"), nil),
			Description: jsii.String("AMI factory function " + fn.Name),
		})
		allow(role, fn.Policy(site))
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
			Environment:  &environment,
			Tracing:      tracing,

			ReservedConcurrentExecutions: reserved(props, fn.Trigger),
		})}
		if sh.key != nil {
			allow(role, dataKeyUse(*sh.key.KeyArn(), urlSuffix(awscdk.Stack_Of(scope)), encryptedActions(fn)))
		}
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

// encryptedActions are what a function does with what is encrypted at rest.
func encryptedActions(fn blueprint.Function) []string {
	var out []string
	for _, a := range fn.Actions {
		out = append(out, a.Name)
	}
	if fn.Trigger {
		out = append(out, sendDeadLetter)
	}
	return out
}

// functionID begins the ids of a function's constructs, such as CheckInstance.
func functionID(name string) string {
	return strings.TrimSuffix(workflow.PlaceholderName(workflow.Stage(name)), "FunctionArn")
}

func setList(env map[string]*string, name string, values []string) {
	if len(values) > 0 {
		env[name] = jsii.String(strings.Join(values, ","))
	}
}
