package factory

import (
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/ami-factory/ami-factory/pkg/workflow"
)

// TargetStack is what an account gets that images are shared with.
type TargetStack struct {
	Stack awscdk.Stack
	Role  awsiam.Role
}

// NewTargetStack adds the stack for target accounts to an app. Its template has no
// assets, asks for no bootstrapping and looks nothing up, so that a StackSet can
// carry it to an organisation; its parameters say whom it trusts.
//
// The role may do to pointers of its account what the factory does to its own.
// Images reach target accounts by launch permissions, which need nothing there:
// deploy it where pointers are to follow.
func NewTargetStack(scope constructs.Construct, id string, stackProps awscdk.StackProps) TargetStack {
	stackProps.Synthesizer = awscdk.NewDefaultStackSynthesizer(&awscdk.DefaultStackSynthesizerProps{GenerateBootstrapVersionRule: jsii.Bool(false)})
	stack := awscdk.NewStack(scope, &id, &stackProps)
	account := awscdk.NewCfnParameter(stack, jsii.String("FactoryAccount"), &awscdk.CfnParameterProps{
		Type: jsii.String("String"), AllowedPattern: jsii.String("^[0-9]{12}$"), ConstraintDescription: jsii.String("an account's twelve digits"),
		Description: jsii.String("The account of the factory."),
	})
	callers := awscdk.NewCfnParameter(stack, jsii.String("FactoryRoleArns"), &awscdk.CfnParameterProps{
		Type:        jsii.String("CommaDelimitedList"),
		Description: jsii.String("The roles that may assume this one: the factory's output PointerRoleArns."),
	})
	external := awscdk.NewCfnParameter(stack, jsii.String("ExternalId"), &awscdk.CfnParameterProps{
		Type: jsii.String("String"), MinLength: jsii.Number(16), MaxLength: jsii.Number(1224), AllowedPattern: jsii.String("^[A-Za-z0-9+=,.@:/-]*$"),
		ConstraintDescription: jsii.String("16 to 1224 letters, digits and + = , . @ : / -"),
		Description:           jsii.String("What the factory has to name when it assumes the role, so that nobody else can have it do so."),
	})
	role := awsiam.NewRole(stack, jsii.String("Role"), &awsiam.RoleProps{
		RoleName:    jsii.String(workflow.TargetRoleName),
		Description: jsii.String("AMI factory: pointers to images in this account"),
		// The account as principal, narrowed to roles: a principal that is a role
		// would be lost when that role is made anew.
		AssumedBy: awsiam.NewAccountPrincipal(account.ValueAsString()).WithConditions(&map[string]any{
			"StringEquals": map[string]any{"sts:ExternalId": external.ValueAsString()},
			"ArnEquals":    map[string]any{"aws:PrincipalArn": callers.ValueAsList()},
		}),
		MaxSessionDuration: awscdk.Duration_Hours(jsii.Number(1)),
	})
	allow(role, workflow.TargetPolicy(*stack.Partition(), *stack.Account()))
	const rule = "AwsSolutions-IAM5"
	exceptPolicy(role,
		exception{rule, []string{`Resource::arn:.+:ssm:\*:.+:parameter/ami-factory/\*`}, "Pointers of whichever recipes and regions there are."},
		exception{rule, []string{`Resource::\*`}, "IAM knows no resource for ec2:DescribeImages."})
	awscdk.NewCfnOutput(stack, jsii.String("RoleArn"), &awscdk.CfnOutputProps{Value: role.RoleArn(), Description: jsii.String("for the factory to assume")})
	return TargetStack{Stack: stack, Role: role}
}

// pointerRoleARNs are the roles that assume a target's, as its parameter takes them.
func pointerRoleARNs(functions Functions) *string {
	var arns []string
	for _, s := range workflow.TargetCallers() {
		arns = append(arns, *functions[s].Role.RoleArn())
	}
	return jsii.String(strings.Join(arns, ","))
}
