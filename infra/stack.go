package main

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

// FactoryStackProps is what an operator chooses.
type FactoryStackProps struct {
	awscdk.StackProps
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

// FactoryStack is the deployed factory.
type FactoryStack struct {
	Stack     awscdk.Stack
	Bucket    awss3.Bucket
	Functions Functions
	Workflow  Workflow
}

// NewFactoryStack adds the factory to an app. The props must be valid.
func NewFactoryStack(scope constructs.Construct, id string, props *FactoryStackProps) FactoryStack {
	stack := awscdk.NewStack(scope, &id, &props.StackProps)
	bucket := newBucket(stack)
	topic := awssns.NewTopic(stack, jsii.String("Topic"), &awssns.TopicProps{
		DisplayName: jsii.String("AMI factory executions"),
		EnforceSSL:  jsii.Bool(true),
	})
	builder := newBuilderRole(stack)
	functions := newFunctions(stack, props, shared{bucket: bucket, topic: topic, builder: builder})
	wf := newWorkflow(stack, functions)
	newTriggers(stack, props.Triggers, functions)

	output := func(name string, value *string, text string) {
		awscdk.NewCfnOutput(stack, &name, &awscdk.CfnOutputProps{Value: value, Description: &text})
	}
	output("StateMachineArn", wf.StateMachine.StateMachineArn(), "start an execution here with {\"recipe\": \"...\"}")
	output("BucketName", bucket.BucketName(), "plans, results and reports")
	output("TopicArn", topic.TopicArn(), "tells how every execution ended")
	return FactoryStack{Stack: stack, Bucket: bucket, Functions: functions, Workflow: wf}
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
