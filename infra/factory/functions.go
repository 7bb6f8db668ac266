package factory

import (
	"path/filepath"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3assets"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/ami-factory/ami-factory/pkg/workflow"
)

// Function is one stage's Lambda function with a role of its own.
type Function struct {
	Function awslambda.Function
	Role     awsiam.Role
}

// Functions by stage.
type Functions map[workflow.Stage]Function

// shared is what all functions use.
type shared struct {
	bucket  awss3.Bucket
	topic   awssns.Topic
	builder builderRole
}

func newFunctions(scope constructs.Construct, props *Props, sh shared) Functions {
	goss := awss3assets.NewAsset(scope, jsii.String("Goss"), &awss3assets.AssetProps{Path: &props.GossFile})
	env := map[string]*string{
		"AMI_FACTORY_BUCKET":           sh.bucket.BucketName(),
		"AMI_FACTORY_TOPIC_ARN":        sh.topic.TopicArn(),
		"AMI_FACTORY_INSTANCE_PROFILE": sh.builder.profile.Ref(),
		"AMI_FACTORY_VERSION":          &props.Version,
		"AMI_FACTORY_GOSS_BUCKET":      goss.S3BucketName(),
		"AMI_FACTORY_GOSS_KEY":         goss.S3ObjectKey(),
		"AMI_FACTORY_GOSS_SHA256":      jsii.String(fileSHA256(props.GossFile)),
	}
	setList(env, "AMI_FACTORY_SUBNET_IDS", props.SubnetIDs)
	setList(env, "AMI_FACTORY_SECURITY_GROUP_IDS", props.SecurityGroupIDs)
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
	deployment := deploymentOf(scope, sh, props, goss)
	out := Functions{}
	for _, spec := range workflow.Functions() {
		environment := env
		if isTrigger[spec.Stage] {
			environment = triggerEnv
		}
		id := functionID(spec.Stage)
		logs := awslogs.NewLogGroup(scope, jsii.String(id+"Logs"), &awslogs.LogGroupProps{
			Retention:     awslogs.RetentionDays_THREE_MONTHS,
			RemovalPolicy: awscdk.RemovalPolicy_DESTROY,
		})
		role := awsiam.NewRole(scope, jsii.String(id+"Role"), &awsiam.RoleProps{
			AssumedBy:   awsiam.NewServicePrincipal(jsii.String("lambda.amazonaws.com"), nil),
			Description: jsii.String("AMI factory function " + string(spec.Stage)),
		})
		allow(role, spec.Policy(deployment))
		logs.GrantWrite(role)
		out[spec.Stage] = Function{Role: role, Function: awslambda.NewFunction(scope, &id, &awslambda.FunctionProps{
			Description:  jsii.String(spec.Does),
			Runtime:      awslambda.Runtime_PROVIDED_AL2023(),
			Architecture: arch,
			Handler:      jsii.String("bootstrap"),
			Code:         awslambda.Code_FromAsset(jsii.String(filepath.Join(props.FunctionsDir, string(spec.Stage))), nil),
			MemorySize:   jsii.Number(float64(spec.MemoryMiB)),
			Timeout:      awscdk.Duration_Seconds(jsii.Number(spec.Timeout.Seconds())),
			Role:         role,
			LogGroup:     logs,
			Environment:  &environment,
		})}
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
