package factory

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/ami-factory/ami-factory/pkg/blueprint"
)

// AmiFactory is the deployed factory.
type AmiFactory struct {
	Bucket    awss3.Bucket
	Topic     awssns.Topic
	Functions Functions
	Workflow  Workflow

	DeadLetters awssqs.Queue
	AlarmTopic  awssns.ITopic // nil when alarms are off, or tell others
	Key         awskms.IKey   // of what is at rest; nil for AWS's own
	SigningKey  awskms.Key    // signs evidence
	ApprovalURL *string       // where people approve releases and start builds
}

// NewAmiFactory adds the factory to a stack, one to an account and region: the
// state machine and the event bus have fixed names. The props must be valid.
func NewAmiFactory(scope constructs.Construct, id string, props *Props) AmiFactory {
	scope = constructs.NewConstruct(scope, &id)
	key := newKey(scope, props.EncryptionKey)
	logs := logging{days: props.Logs.Days, key: key}
	bucket := newBucket(scope, props.Storage, key)
	topic := awssns.NewTopic(scope, jsii.String("Topic"), &awssns.TopicProps{
		DisplayName: jsii.String("AMI factory executions"),
		EnforceSSL:  jsii.Bool(true),
		MasterKey:   key,
	})
	subscribe(scope, "Execution", topic, props.Subscribers)
	sh := shared{bucket: bucket, topic: topic, engines: newEngines(scope, props), builder: newBuilderRole(scope), key: key, logs: logs, dead: newDeadLetters(scope, key), signing: newSigningKey(scope)}
	sh.network = newNetwork(scope, props, logs, storedObjects{*bucket.ArnForObjects(jsii.String("*")), sh.engineARNs()})
	newScriptDocument(scope)
	functions := newFunctions(scope, props, sh)
	allowSigning(sh.signing, functions)
	wf := newWorkflow(scope, props.Logs, logs, functions)
	newTriggers(scope, props, sh, functions)
	door := newDoor(functions)
	out := AmiFactory{Bucket: bucket, Topic: topic, Functions: functions, Workflow: wf, DeadLetters: sh.dead, Key: key, SigningKey: sh.signing, ApprovalURL: door.Url()}
	look := watched{functions: functions, machine: *wf.StateMachine.StateMachineArn(), dead: sh.dead}
	var alarms []*string
	if props.Alarms.On {
		alarms, out.AlarmTopic = newAlarms(scope, props.Alarms, key, look)
	}
	if props.Dashboard {
		newDashboard(scope, look, alarms)
	}
	props.Roles.applyTo(scope)
	answerRules(scope, props)
	for name, value := range props.Tags {
		awscdk.Tags_Of(scope).Add(jsii.String(name), jsii.String(value), nil)
	}
	return out
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
	output("TopicArn", factory.Topic.TopicArn(), "has a message about every execution")
	output("SigningKeyArn", factory.SigningKey.KeyArn(), "signs the evidence of releases: ami-factory evidence key prints its public half")
	output("ApprovalUrl", factory.ApprovalURL, "takes what people decide about releases, and starts builds by hand: signed requests only")
	output("DeadLettersUrl", factory.DeadLetters.QueueUrl(), "what could not be delivered to triggers")
	for _, role := range blueprint.TargetRoles() {
		output(callersParameter(role), callersOf(role, factory.Functions), "for the parameter of this name, of the stack of target accounts")
	}
	if factory.AlarmTopic != nil {
		output("AlarmTopicArn", factory.AlarmTopic.TopicArn(), "tells what somebody has to look into")
	}
	return Stack{Stack: stack, Factory: factory}
}
