package factory

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsevents"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/ami-factory/ami-factory/pkg/blueprint"
)

// NewForwardStack adds the stack for the regions that images are copied to: rules that
// send events of copies to the factory's region, where they end waits. Its template
// stands alone, as that of NewTargetStack, so that a StackSet can carry it to all
// regions of the factory's account: it makes nothing in the factory's own region, and
// nothing in a partition whose regions do not send each other events. Without it the
// factory works, and waits for copies until its time-outs.
func NewForwardStack(scope constructs.Construct, id string, stackProps awscdk.StackProps) awscdk.Stack {
	stackProps.Synthesizer = awscdk.NewDefaultStackSynthesizer(&awscdk.DefaultStackSynthesizerProps{GenerateBootstrapVersionRule: jsii.Bool(false)})
	stack := awscdk.NewStack(scope, &id, &stackProps)
	region := awscdk.NewCfnParameter(stack, jsii.String("FactoryRegion"), &awscdk.CfnParameterProps{
		Type: jsii.String("String"), AllowedPattern: jsii.String("^[a-z]+(-[a-z]+)+-[0-9]+$"), ConstraintDescription: jsii.String("a region, such as eu-west-1"),
		Description: jsii.String("The region of the factory."),
	}).ValueAsString()
	forwards := awscdk.NewCfnCondition(stack, jsii.String("Forwards"), &awscdk.CfnConditionProps{
		Expression: awscdk.Fn_ConditionAnd(
			awscdk.Fn_ConditionEquals(stack.Partition(), blueprint.Forwarding),
			awscdk.Fn_ConditionNot(awscdk.Fn_ConditionEquals(stack.Region(), region))),
	})
	bus := blueprint.HomeBus(*stack.Partition(), *stack.Account(), *region)
	role := newRole(stack, "ForwarderRole", blueprint.ForwarderRole(*stack.Account(), bus))
	for _, f := range blueprint.Forwards() {
		awsevents.NewCfnRule(stack, jsii.String(functionID(f.Name)+"Rule"), &awsevents.CfnRuleProps{
			Description:  jsii.String("AMI factory: " + f.Does),
			EventPattern: f.Pattern.Document(),
			Targets:      &[]any{&awsevents.CfnRule_TargetProperty{Id: jsii.String("home"), Arn: &bus, RoleArn: role.RoleArn()}},
		})
	}
	for _, node := range *stack.Node().FindAll(constructs.ConstructOrder_PREORDER) {
		if resource, ok := node.(awscdk.CfnResource); ok {
			resource.CfnOptions().SetCondition(forwards)
		}
	}
	return stack
}
