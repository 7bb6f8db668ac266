package factory

import (
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/ami-factory/ami-factory/pkg/blueprint"
)

// TargetStack is what an account gets that images are shared with.
type TargetStack struct {
	Stack awscdk.Stack
	Roles map[string]awsiam.Role // by name, as blueprint.TargetRoles has them
}

// NewTargetStack adds the stack for target accounts to an app. Its template has no
// assets, asks for no bootstrapping and looks nothing up, so that a StackSet can
// carry it to an organisation; its parameters say whom it trusts.
//
// Images reach target accounts by launch permissions, which need nothing there:
// deploy it where pointers are to follow, in one region, for roles are of all.
func NewTargetStack(scope constructs.Construct, id string, stackProps awscdk.StackProps) TargetStack {
	stackProps.Synthesizer = awscdk.NewDefaultStackSynthesizer(&awscdk.DefaultStackSynthesizerProps{GenerateBootstrapVersionRule: jsii.Bool(false)})
	stack := awscdk.NewStack(scope, &id, &stackProps)
	account := awscdk.NewCfnParameter(stack, jsii.String("FactoryAccount"), &awscdk.CfnParameterProps{
		Type: jsii.String("String"), AllowedPattern: jsii.String("^[0-9]{12}$"), ConstraintDescription: jsii.String("an account's twelve digits"),
		Description: jsii.String("The account of the factory."),
	})
	external := awscdk.NewCfnParameter(stack, jsii.String("ExternalId"), &awscdk.CfnParameterProps{
		Type: jsii.String("String"), MinLength: jsii.Number(16), MaxLength: jsii.Number(1224), AllowedPattern: jsii.String("^[A-Za-z0-9+=,.@:/-]*$"),
		ConstraintDescription: jsii.String("16 to 1224 letters, digits and + = , . @ : / -"),
		Description:           jsii.String("What the factory has to name when it assumes a role, so that nobody else can have it do so."),
	})
	out := TargetStack{Stack: stack, Roles: map[string]awsiam.Role{}}
	for _, spec := range blueprint.TargetRoles() {
		callers := awscdk.NewCfnParameter(stack, jsii.String(callersParameter(spec)), &awscdk.CfnParameterProps{
			Type:        jsii.String("CommaDelimitedList"),
			Description: jsii.String("Who may assume " + spec.Name + ": the factory's output of this name."),
		})
		role := awsiam.NewRole(stack, jsii.String(kindOf(spec)+"Role"), &awsiam.RoleProps{
			RoleName:    jsii.String(spec.Name),
			Description: jsii.String("AMI factory: " + spec.Does),
			AssumedBy: awsiam.NewAccountPrincipal(account.ValueAsString()).WithConditions(
				conditions(spec.Trust(external.ValueAsString(), callers.ValueAsList()))),
			MaxSessionDuration: awscdk.Duration_Hours(jsii.Number(1)),
		})
		allow(role, spec.Policy(*stack.Partition(), *stack.Account()))
		const rule = "AwsSolutions-IAM5"
		exceptPolicy(role,
			exception{rule, []string{`Resource::arn:.+:ssm:\*:.+:parameter/ami-factory/\*`}, "Pointers of whichever recipes and regions there are."},
			exception{rule, []string{`Resource::\*`}, "IAM knows no resource for ec2:DescribeImages."})
		out.Roles[spec.Name] = role
	}
	return out
}

// kindOf begins the ids of a role's constructs: Read or Write.
func kindOf(role blueprint.TargetRole) string {
	kind := strings.TrimPrefix(role.Name, "ami-factory-target-")
	return strings.ToUpper(kind[:1]) + kind[1:]
}

// callersParameter is the parameter that names a role's callers, and the factory's
// output that is its value.
func callersParameter(role blueprint.TargetRole) string { return "Pointer" + kindOf(role) + "RoleArns" }

// callersOf are the roles that assume a target's, as its parameter takes them.
func callersOf(role blueprint.TargetRole, functions Functions) *string {
	var arns []string
	for _, s := range role.Callers {
		arns = append(arns, *functions[s].Role.RoleArn())
	}
	return jsii.String(strings.Join(arns, ","))
}
