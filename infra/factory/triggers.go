package factory

import (
	"fmt"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsevents"
	"github.com/aws/aws-cdk-go/awscdk/v2/awseventstargets"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsscheduler"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/ami-factory/ami-factory/pkg/blueprint"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/workflow"
)

// TriggerProps say when executions are started.
type TriggerProps struct {
	Nightly  string   // schedule expression of EventBridge Scheduler
	Timezone string   // of it, as the IANA names it
	Window   int      // minutes within which a night may begin
	Watch    string   // schedule expression of the look at the sources
	Topics   []string // ARNs of the topics of base images' owners

	Findings     blueprint.FindingRules // the vulnerabilities for which images are built again
	FindingHours int                    // at least between two builds of a recipe for vulnerabilities
}

func (p TriggerProps) schedules() blueprint.ScheduleSettings {
	return blueprint.ScheduleSettings{Nightly: p.Nightly, Timezone: p.Timezone, WindowMinutes: p.Window, Watch: p.Watch}
}

// machineARN is the state machine's, which has a fixed name: triggers need
// the ARN, and the machine itself needs functions.
func machineARN(scope constructs.Construct) string {
	stack := awscdk.Stack_Of(scope)
	return fmt.Sprintf("arn:%s:states:%s:%s:stateMachine:%s", *stack.Partition(), *stack.Region(), *stack.Account(), workflow.MachineName)
}

// newTriggers makes what starts executions: the factory's bus, rules, schedules
// and subscriptions. What cannot be delivered, or fails, is kept in a queue.
func newTriggers(scope constructs.Construct, props *Props, sh shared, functions Functions) {
	for _, fn := range blueprint.Triggers() {
		f := functions[fn.Name]
		// The construct's own way would also let the function read the queue's attributes.
		awslambda.NewCfnEventInvokeConfig(scope, jsii.String(functionID(fn.Name)+"Failures"), &awslambda.CfnEventInvokeConfigProps{
			FunctionName: f.Function.FunctionName(), Qualifier: jsii.String("$LATEST"),
			MaximumEventAgeInSeconds: jsii.Number(blueprint.DeliveryAge.Seconds()), MaximumRetryAttempts: jsii.Number(blueprint.InvocationRetries),
			DestinationConfig: &awslambda.CfnEventInvokeConfig_DestinationConfigProperty{
				OnFailure: &awslambda.CfnEventInvokeConfig_OnFailureProperty{Destination: sh.dead.QueueArn()},
			},
		})
	}
	for _, name := range blueprint.Wakers() {
		awslambda.NewCfnEventInvokeConfig(scope, jsii.String(functionID(name)+"Retries"), &awslambda.CfnEventInvokeConfigProps{
			FunctionName: functions[name].Function.FunctionName(), Qualifier: jsii.String("$LATEST"),
			MaximumEventAgeInSeconds: jsii.Number(blueprint.HintAge.Seconds()), MaximumRetryAttempts: jsii.Number(blueprint.HintRetries),
		})
	}
	newRules(scope, props.Triggers.Findings, functions, sh)
	newSchedules(scope, props, sh, functions)
	for i, topic := range props.Triggers.Topics {
		newSubscription(scope, i, topic, functions[blueprint.ReleaseAnnounced].Function)
	}
}

// newDeadLetters keeps for two weeks what could not be delivered.
func newDeadLetters(scope constructs.Construct, key awskms.IKey) awssqs.Queue {
	p := &awssqs.QueueProps{Encryption: awssqs.QueueEncryption_SQS_MANAGED, EnforceSSL: jsii.Bool(true), RetentionPeriod: awscdk.Duration_Days(jsii.Number(blueprint.DeadLetterDays))}
	if key != nil {
		p.Encryption, p.EncryptionMasterKey = awssqs.QueueEncryption_KMS, key
	}
	dead := awssqs.NewQueue(scope, jsii.String("TriggersDeadLetters"), p)
	except(dead, exception{rule: "AwsSolutions-SQS3", reason: "It is the queue of dead letters itself: rules, schedules and functions send to it, and nothing reads it but people."})
	return dead
}

func newRules(scope constructs.Construct, findings blueprint.FindingRules, functions Functions, sh shared) {
	bus := awsevents.NewEventBus(scope, jsii.String("Bus"), &awsevents.EventBusProps{EventBusName: jsii.String(contract.FactoryBus)})
	for _, r := range blueprint.Rules(machineARN(scope), *sh.bucket.BucketName(), findings) {
		pattern := &awsevents.EventPattern{Source: jsii.Strings(r.Pattern.Source...), DetailType: jsii.Strings(r.Pattern.DetailType...)}
		if len(r.Pattern.Detail) > 0 {
			pattern.Detail = &r.Pattern.Detail
		}
		var on awsevents.IEventBus // nil: the account's default bus
		if r.Bus != "" {
			on = bus
		}
		awsevents.NewRule(scope, jsii.String(functionID(r.Name)+"Rule"), &awsevents.RuleProps{
			Description: jsii.String(r.Does), EventBus: on, EventPattern: pattern,
			Targets: &[]awsevents.IRuleTarget{awseventstargets.NewLambdaFunction(functions[r.Function].Function, delivery(r, sh.dead))},
		})
	}
}

// delivery is how a rule's events are delivered: those that start builds are kept if
// they cannot be, and hints are dropped.
func delivery(r blueprint.Rule, dead awssqs.Queue) *awseventstargets.LambdaFunctionProps {
	if r.Hint {
		return &awseventstargets.LambdaFunctionProps{
			MaxEventAge: awscdk.Duration_Minutes(jsii.Number(blueprint.HintAge.Minutes())), RetryAttempts: jsii.Number(blueprint.HintRetries),
		}
	}
	return &awseventstargets.LambdaFunctionProps{DeadLetterQueue: dead, MaxEventAge: awscdk.Duration_Hours(jsii.Number(blueprint.DeliveryAge.Hours()))}
}

func newSchedules(scope constructs.Construct, props *Props, sh shared, functions Functions) {
	role := newRole(scope, "ScheduleRole", blueprint.SchedulesRole(siteOf(scope, sh, props), functions.arn))
	for _, s := range blueprint.Schedules(props.Triggers.schedules()) {
		window := &awsscheduler.CfnSchedule_FlexibleTimeWindowProperty{Mode: jsii.String("OFF")}
		if s.WindowMinutes > 0 {
			window = &awsscheduler.CfnSchedule_FlexibleTimeWindowProperty{Mode: jsii.String("FLEXIBLE"), MaximumWindowInMinutes: jsii.Number(float64(s.WindowMinutes))}
		}
		awsscheduler.NewCfnSchedule(scope, jsii.String(functionID(s.Name)), &awsscheduler.CfnScheduleProps{
			Description:        &s.Does,
			ScheduleExpression: &s.Expression, ScheduleExpressionTimezone: &s.Timezone, FlexibleTimeWindow: window,
			Target: &awsscheduler.CfnSchedule_TargetProperty{
				Arn: functions[s.Function].Function.FunctionArn(), RoleArn: role.RoleArn(), Input: &s.Input,
				DeadLetterConfig: &awsscheduler.CfnSchedule_DeadLetterConfigProperty{Arn: sh.dead.QueueArn()},
				RetryPolicy: &awsscheduler.CfnSchedule_RetryPolicyProperty{
					MaximumEventAgeInSeconds: jsii.Number(blueprint.DeliveryAge.Seconds()), MaximumRetryAttempts: jsii.Number(blueprint.ScheduleRetries),
				},
			},
		})
	}
}

// newSubscription listens to a topic of somebody else, in whichever region it is.
func newSubscription(scope constructs.Construct, i int, topic string, announced awslambda.Function) {
	id := fmt.Sprintf("Announcement%d", i+1)
	announced.AddPermission(jsii.String(id), &awslambda.Permission{
		Principal: awsiam.NewServicePrincipal(jsii.String("sns.amazonaws.com"), nil), SourceArn: &topic,
	})
	awssns.NewCfnSubscription(scope, jsii.String(id+"Subscription"), &awssns.CfnSubscriptionProps{
		TopicArn: &topic, Protocol: jsii.String("lambda"), Endpoint: announced.FunctionArn(), Region: jsii.String(strings.Split(topic, ":")[3]),
	})
}
