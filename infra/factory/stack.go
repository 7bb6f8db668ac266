package factory

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
)

// The architectures a deployment's functions can have, as context names them.
const (
	ARM64 = "arm64"
	X86   = "x86_64"
)

// Props is what an operator chooses.
type Props struct {
	Architecture     string   // of the functions: ARM64 or X86
	FunctionsDir     string   // holds <stage>/bootstrap
	GossFile         string   // the static check engine for guests
	Version          string   // told to the functions; part of every fingerprint
	SubnetIDs        []string // of builders and verifiers; the default VPC's when empty
	SecurityGroupIDs []string
	Parameters       string // of components, for all recipes: JSON, or empty
	Triggers         TriggerProps
	KeyARNs          []string // customer keys of recipes; any key of the account, by way of EC2, when empty
}

// AmiFactory is the deployed factory.
type AmiFactory struct {
	Bucket    awss3.Bucket
	Topic     awssns.Topic
	Functions Functions
	Workflow  Workflow
}

// NewAmiFactory adds the factory to a stack, one to an account and region: the
// state machine and the event bus have fixed names. The props must be valid.
func NewAmiFactory(scope constructs.Construct, id string, props *Props) AmiFactory {
	scope = constructs.NewConstruct(scope, &id)
	bucket := newBucket(scope)
	topic := awssns.NewTopic(scope, jsii.String("Topic"), &awssns.TopicProps{
		DisplayName: jsii.String("AMI factory executions"),
		EnforceSSL:  jsii.Bool(true),
	})
	builder := newBuilderRole(scope)
	functions := newFunctions(scope, props, shared{bucket: bucket, topic: topic, builder: builder})
	wf := newWorkflow(scope, functions)
	newTriggers(scope, props.Triggers, functions)
	return AmiFactory{Bucket: bucket, Topic: topic, Functions: functions, Workflow: wf}
}

// Stack is a stack that holds the factory alone.
type Stack struct {
	Stack   awscdk.Stack
	Factory AmiFactory
}

// NewStack adds a stack with the factory to an app. The props must be valid.
func NewStack(scope constructs.Construct, id string, stackProps awscdk.StackProps, props *Props) Stack {
	stack := awscdk.NewStack(scope, &id, &stackProps)
	// The CDK leaves an id of this name out of the resources' own.
	factory := NewAmiFactory(stack, "Default", props)
	output := func(name string, value *string, text string) {
		awscdk.NewCfnOutput(stack, &name, &awscdk.CfnOutputProps{Value: value, Description: &text})
	}
	output("StateMachineArn", factory.Workflow.StateMachine.StateMachineArn(), "start an execution here with {\"recipe\": \"...\"}")
	output("BucketName", factory.Bucket.BucketName(), "plans, results and reports")
	output("TopicArn", factory.Topic.TopicArn(), "tells how every execution ended")
	return Stack{Stack: stack, Factory: factory}
}

func newBucket(scope constructs.Construct) awss3.Bucket {
	return awss3.NewBucket(scope, jsii.String("Bucket"), &awss3.BucketProps{
		BlockPublicAccess: awss3.BlockPublicAccess_BLOCK_ALL(),
		Encryption:        awss3.BucketEncryption_S3_MANAGED,
		EnforceSSL:        jsii.Bool(true),
		Versioned:         jsii.Bool(true),
		// Reports are evidence: they outlive the stack.
		RemovalPolicy: awscdk.RemovalPolicy_RETAIN,
	})
}
