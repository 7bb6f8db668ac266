package factory

import (
	"fmt"
	"strconv"
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

// nightlyInput is what the nightly schedule sends; Scheduler fills in the time.
const nightlyInput = blueprint.NightlyInput

// deliveryHours is how long an event is tried to be delivered.
const deliveryHours = blueprint.DeliveryHours

// sendDeadLetter is what keeps what failed.
const sendDeadLetter = "sqs:SendMessage"

// machineARN is the state machine's, which has a fixed name: triggers are told of
// it, and it is made of functions.
func machineARN(scope constructs.Construct) string {
	stack := awscdk.Stack_Of(scope)
	return fmt.Sprintf("arn:%s:states:%s:%s:stateMachine:%s", *stack.Partition(), *stack.Region(), *stack.Account(), workflow.MachineName)
}

// triggerEnvironment is what the triggers are told beside what all functions are.
func triggerEnvironment(scope constructs.Construct, props *Props, all map[string]*string) map[string]*string {
	env := map[string]*string{
		contract.EnvStateMachine: jsii.String(machineARN(scope)),
		contract.EnvEventBus:     jsii.String(contract.FactoryBus),
	}
	setList(env, contract.EnvTopics, props.Triggers.Topics)
	if props.Triggers.FindingHours > 0 {
		env[contract.EnvFindingHours] = jsii.String(strconv.Itoa(props.Triggers.FindingHours))
	}
	if props.Triggers.Findings.OnDemand {
		env[contract.EnvOnDemand] = jsii.String("true")
	}
	setList(env, contract.EnvProducts, props.Triggers.Findings.Products)
	for name, value := range all {
		env[name] = value
	}
	return env
}

// newTriggers makes what starts executions: the factory's bus, rules, schedules
// and subscriptions. What cannot be delivered, or fails, is kept in a queue.
func newTriggers(scope constructs.Construct, props TriggerProps, key awskms.IKey, functions Functions) awssqs.Queue {
	dead := newDeadLetters(scope, key)
	for _, fn := range blueprint.Triggers() {
		f := functions[fn.Name]
		// The construct's own way would also let the function read the queue's attributes.
		f.Role.AddToPolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
			Actions: jsii.Strings(sendDeadLetter), Resources: &[]*string{dead.QueueArn()},
		}))
		awslambda.NewCfnEventInvokeConfig(scope, jsii.String(functionID(fn.Name)+"Failures"), &awslambda.CfnEventInvokeConfigProps{
			FunctionName: f.Function.FunctionName(), Qualifier: jsii.String("$LATEST"),
			MaximumEventAgeInSeconds: jsii.Number(deliveryHours * 3600), MaximumRetryAttempts: jsii.Number(blueprint.InvocationRetries),
			DestinationConfig: &awslambda.CfnEventInvokeConfig_DestinationConfigProperty{
				OnFailure: &awslambda.CfnEventInvokeConfig_OnFailureProperty{Destination: dead.QueueArn()},
			},
		})
	}
	newRules(scope, props.Findings, functions[blueprint.StartBuilds].Function, dead)
	newSchedules(scope, props, key, functions, dead)
	for i, topic := range props.Topics {
		newSubscription(scope, i, topic, functions[blueprint.ReleaseAnnounced].Function)
	}
	return dead
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

func newRules(scope constructs.Construct, findings blueprint.FindingRules, start awslambda.Function, dead awssqs.Queue) {
	bus := awsevents.NewEventBus(scope, jsii.String("Bus"), &awsevents.EventBusProps{EventBusName: jsii.String(contract.FactoryBus)})
	for _, r := range blueprint.Rules(machineARN(scope), findings) {
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
			Targets: &[]awsevents.IRuleTarget{awseventstargets.NewLambdaFunction(start, &awseventstargets.LambdaFunctionProps{
				DeadLetterQueue: dead, MaxEventAge: awscdk.Duration_Hours(jsii.Number(deliveryHours)),
			})},
		})
	}
}

func newSchedules(scope constructs.Construct, props TriggerProps, key awskms.IKey, functions Functions, dead awssqs.Queue) {
	start, watch := functions[blueprint.StartBuilds].Function, functions[blueprint.WatchSources].Function
	role := awsiam.NewRole(scope, jsii.String("ScheduleRole"), &awsiam.RoleProps{
		AssumedBy: awsiam.NewServicePrincipal(jsii.String("scheduler.amazonaws.com"), &awsiam.ServicePrincipalOpts{
			Conditions: &map[string]any{"StringEquals": map[string]any{"aws:SourceAccount": awscdk.Stack_Of(scope).Account()}},
		}),
		Description: jsii.String("AMI factory schedules"),
	})
	role.AddToPolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Actions: jsii.Strings("lambda:InvokeFunction"), Resources: &[]*string{start.FunctionArn(), watch.FunctionArn()},
	}))
	role.AddToPolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Actions: jsii.Strings(sendDeadLetter), Resources: &[]*string{dead.QueueArn()},
	}))
	if key != nil {
		allow(role, dataKeyUse(*key.KeyArn(), urlSuffix(awscdk.Stack_Of(scope)), []string{sendDeadLetter}))
	}
	target := func(f awslambda.Function, input string) *awsscheduler.CfnSchedule_TargetProperty {
		return &awsscheduler.CfnSchedule_TargetProperty{
			Arn: f.FunctionArn(), RoleArn: role.RoleArn(), Input: &input,
			DeadLetterConfig: &awsscheduler.CfnSchedule_DeadLetterConfigProperty{Arn: dead.QueueArn()},
			RetryPolicy: &awsscheduler.CfnSchedule_RetryPolicyProperty{
				MaximumEventAgeInSeconds: jsii.Number(deliveryHours * 3600), MaximumRetryAttempts: jsii.Number(blueprint.ScheduleRetries),
			},
		}
	}
	awsscheduler.NewCfnSchedule(scope, jsii.String("Nightly"), &awsscheduler.CfnScheduleProps{
		Description:        jsii.String("builds what is stale"),
		ScheduleExpression: &props.Nightly, ScheduleExpressionTimezone: &props.Timezone,
		FlexibleTimeWindow: &awsscheduler.CfnSchedule_FlexibleTimeWindowProperty{
			Mode: jsii.String("FLEXIBLE"), MaximumWindowInMinutes: jsii.Number(float64(props.Window)),
		},
		Target: target(start, nightlyInput),
	})
	awsscheduler.NewCfnSchedule(scope, jsii.String("Watch"), &awsscheduler.CfnScheduleProps{
		Description:        jsii.String("looks at the sources of recipes"),
		ScheduleExpression: &props.Watch, ScheduleExpressionTimezone: &props.Timezone,
		FlexibleTimeWindow: &awsscheduler.CfnSchedule_FlexibleTimeWindowProperty{Mode: jsii.String("OFF")},
		Target:             target(watch, blueprint.WatchInput),
	})
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
