package factory

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/ami-factory/ami-factory/pkg/blueprint"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/metric"
	"github.com/ami-factory/ami-factory/pkg/workflow"
)

// AlarmProps say when alarms ring and whom they tell.
type AlarmProps struct {
	On              bool
	TopicARNs       []string // in place of a topic of the stack's own
	Subscribers     []string // of the stack's own topic: mail and https addresses
	FailuresInARow  int      // days
	MaxImageAgeDays int      // 0: no alarm
	MaxDailyCost    int      // US dollars; 0: no alarm
}

const (
	day       = 24 * time.Hour
	minute5   = 5 * time.Minute
	mostTerms = 10 // metrics in an alarm's expression, by CloudWatch's quotas
)

// Alarm is a condition that somebody has to look into.
type alarm struct {
	id, text  string
	terms     []term
	formula   string        // of the terms' ids; empty for one term alone
	period    time.Duration // of each value
	values    int           // that have to be over the threshold, one after the other
	threshold float64       // from which on it rings
}

// term is a metric in an alarm.
type term struct {
	id, namespace, name, statistic string
	dimensions                     []dimension
}

type dimension struct{ name, value string }

// watched is what alarms and the dashboard look at.
type watched struct {
	functions Functions
	machine   string // ARN
	dead      awssqs.Queue
}

// newAlarms makes the alarms and returns their ARNs, and the topic that they
// tell unless others are named.
func newAlarms(scope constructs.Construct, props AlarmProps, key awskms.IKey, w watched) ([]*string, awssns.ITopic) {
	var own awssns.ITopic
	var told []any
	for _, arn := range props.TopicARNs {
		told = append(told, arn)
	}
	if len(told) == 0 {
		own = newAlarmTopic(scope, props.Subscribers, key)
		told = []any{own.TopicArn()}
	}
	newTotals(scope, w.functions)
	var arns []*string
	for _, a := range alarmsOf(props, w) {
		arns = append(arns, a.make(scope, told).AttrArn())
	}
	return arns, own
}

func newAlarmTopic(scope constructs.Construct, subscribers []string, key awskms.IKey) awssns.ITopic {
	topic := awssns.NewTopic(scope, jsii.String("AlarmTopic"), &awssns.TopicProps{
		DisplayName: jsii.String("AMI factory alarms"), EnforceSSL: jsii.Bool(true), MasterKey: key,
	})
	stack := awscdk.Stack_Of(scope)
	topic.AddToResourcePolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Sid: jsii.String("Alarms"), Actions: jsii.Strings("sns:Publish"), Resources: &[]*string{topic.TopicArn()},
		Principals: &[]awsiam.IPrincipal{awsiam.NewServicePrincipal(jsii.String("cloudwatch.amazonaws.com"), nil)},
		Conditions: &map[string]any{
			"StringEquals": map[string]any{"aws:SourceAccount": stack.Account()},
			"ArnLike": map[string]any{"aws:SourceArn": stack.FormatArn(&awscdk.ArnComponents{
				Service: jsii.String("cloudwatch"), Resource: jsii.String("alarm"), ArnFormat: awscdk.ArnFormat_COLON_RESOURCE_NAME, ResourceName: jsii.String("*"),
			})},
		},
	}))
	subscribe(scope, "Alarm", topic, subscribers)
	return topic
}

// subscribe has a topic tell addresses, which have to confirm that.
func subscribe(scope constructs.Construct, id string, topic awssns.ITopic, addresses []string) {
	for i, a := range addresses {
		protocol := "email"
		if strings.HasPrefix(a, "https://") {
			protocol = "https"
		}
		awssns.NewCfnSubscription(scope, jsii.String(fmt.Sprintf("%sSubscriber%d", id, i+1)), &awssns.CfnSubscriptionProps{
			TopicArn: topic.TopicArn(), Protocol: &protocol, Endpoint: jsii.String(a),
		})
	}
}

// newTotals adds figures of the whole factory to those that functions publish by
// recipe, from the same lines of their logs: an alarm cannot sum over recipes,
// except over the last three hours.
func newTotals(scope constructs.Construct, functions Functions) {
	for _, t := range totals() {
		awslogs.NewCfnMetricFilter(scope, jsii.String(t.metric+"Total"), &awslogs.CfnMetricFilterProps{
			LogGroupName:  functions[t.from].Logs.LogGroupName(),
			FilterPattern: jsii.String("{ $." + t.metric + " = * }"),
			MetricTransformations: &[]any{&awslogs.CfnMetricFilter_MetricTransformationProperty{
				MetricNamespace: jsii.String(metric.Namespace), MetricName: jsii.String(t.metric), MetricValue: jsii.String("$." + t.metric),
			}},
		})
	}
}

// total is a figure by recipe, and the function that publishes it.
type total struct {
	metric string
	from   string
}

func totals() []total {
	return []total{{metric.ImageCost, string(workflow.Notify)}, {metric.NewestImageAge, blueprint.StartBuilds}}
}

func alarmsOf(props AlarmProps, w watched) []alarm {
	machine := []dimension{{"StateMachineArn", w.machine}}
	states := func(id, name string) term { return term{id, "AWS/States", name, "Sum", machine} }
	ours := func(name, statistic string, dimensions ...dimension) []term {
		return []term{{"m", metric.Namespace, name, statistic, dimensions}}
	}
	out := []alarm{{
		id: "FailedDirty", text: "An execution could not remove all that it made. Its message and report name what is left: remove that by hand.",
		terms: ours(metric.Executions, "Sum", dimension{metric.Status, contract.FailedDirty}), period: minute5, values: 1, threshold: 1,
	}, {
		id: "FailingInARow", text: fmt.Sprintf("On %d days in a row executions failed and none succeeded. Look at the last reports' failures: quota, network, permissions, or a repository that is gone.", props.FailuresInARow),
		terms:   []term{states("failed", "ExecutionsFailed"), states("succeeded", "ExecutionsSucceeded")},
		formula: "IF(FILL(failed, 0) > 0 AND FILL(succeeded, 0) == 0, 1, 0)", period: day, values: props.FailuresInARow, threshold: 1,
	}, {
		id: "RecipesPaused", text: "A recipe failed again and again and is not built any more. Fix the cause, then: ami-factory resume RECIPE.",
		terms: ours(metric.RecipesPaused, "Maximum"), period: day, values: 1, threshold: 1,
	}, {
		id: "ExecutionsTimedOut", text: "Executions were ended from outside (timed out or aborted), and so without cleaning up. Look for resources with the tag ami-factory:execution.",
		terms:   []term{states("timedout", "ExecutionsTimedOut"), states("aborted", "ExecutionsAborted")},
		formula: "FILL(timedout, 0) + FILL(aborted, 0)", period: minute5, values: 1, threshold: 1,
	}, {
		id: "DeadLetters", text: "An event could not be delivered to a trigger, or the trigger failed on it every time. Read it from the queue TriggersDeadLetters, fix the cause, and start the build by hand.",
		terms:  []term{{"m", "AWS/SQS", "ApproximateNumberOfMessagesVisible", "Maximum", []dimension{{"QueueName", *w.dead.QueueName()}}}},
		period: minute5, values: 1, threshold: 1,
	}, {
		id: "SilentErrors", text: "A function failed whose failures no execution tells: a trigger, the one that tells, or the one that events wake executions by. Read its log.",
		terms: functionTerms(w.functions, silent(), "Errors"), formula: sum(len(silent())), period: minute5, values: 1, threshold: 1,
	}}
	i := 0
	for some := range slices.Chunk(allFunctions(), mostTerms) {
		i++
		out = append(out, alarm{
			id: fmt.Sprintf("Throttles%d", i), text: "Lambda refused to run functions: the account's concurrency is used up. Ask for more, or move what else runs there.",
			terms: functionTerms(w.functions, some, "Throttles"), formula: sum(len(some)), period: minute5, values: 3, threshold: 1,
		})
	}
	if props.MaxImageAgeDays > 0 {
		out = append(out, alarm{
			id: "OldImages", text: fmt.Sprintf("A recipe's published image is older than %d days. The dashboard says which; look at its last executions.", props.MaxImageAgeDays),
			terms: ours(metric.NewestImageAge, "Maximum"), period: day, values: 1, threshold: float64(props.MaxImageAgeDays) * day.Seconds(),
		})
	}
	if props.MaxDailyCost > 0 {
		out = append(out, alarm{
			id: "DailyCost", text: fmt.Sprintf("The day's executions cost more than %d US dollars, as estimated at list prices. Look for recipes that build again and again.", props.MaxDailyCost),
			terms: ours(metric.ImageCost, "Sum"), period: day, values: 1, threshold: float64(props.MaxDailyCost),
		})
	}
	return out
}

// silent are the functions whose failures no execution tells. Those of the others
// are no news by themselves: a stage that has to wait says so by an error.
func silent() []string {
	out := append([]string{string(workflow.Notify)}, blueprint.Wakers()...)
	for _, fn := range blueprint.Triggers() {
		out = append(out, fn.Name)
	}
	return out
}

func allFunctions() []string {
	var out []string
	for _, fn := range blueprint.Functions() {
		out = append(out, fn.Name)
	}
	return out
}

func functionTerms(functions Functions, of []string, name string) []term {
	var out []term
	for i, s := range of {
		out = append(out, term{fmt.Sprintf("f%d", i), "AWS/Lambda", name, "Sum", []dimension{{"FunctionName", *functions[s].Function.FunctionName()}}})
	}
	return out
}

// sum adds terms of which most have no value most of the time.
func sum(n int) string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("FILL(f%d, 0)", i))
	}
	return strings.Join(out, " + ")
}

func (a alarm) make(scope constructs.Construct, told []any) awscloudwatch.CfnAlarm {
	var queries []any
	for _, t := range a.terms {
		var dimensions []any
		for _, d := range t.dimensions {
			dimensions = append(dimensions, &awscloudwatch.CfnAlarm_DimensionProperty{Name: jsii.String(d.name), Value: jsii.String(d.value)})
		}
		queries = append(queries, &awscloudwatch.CfnAlarm_MetricDataQueryProperty{
			Id: jsii.String(t.id), ReturnData: jsii.Bool(a.formula == ""),
			MetricStat: &awscloudwatch.CfnAlarm_MetricStatProperty{
				Metric: &awscloudwatch.CfnAlarm_MetricProperty{Namespace: jsii.String(t.namespace), MetricName: jsii.String(t.name), Dimensions: &dimensions},
				Period: jsii.Number(a.period.Seconds()), Stat: jsii.String(t.statistic),
			},
		})
	}
	if a.formula != "" {
		queries = append(queries, &awscloudwatch.CfnAlarm_MetricDataQueryProperty{
			Id: jsii.String("result"), Expression: jsii.String(a.formula), Label: jsii.String(a.id), ReturnData: jsii.Bool(true),
		})
	}
	return awscloudwatch.NewCfnAlarm(scope, jsii.String(a.id+"Alarm"), &awscloudwatch.CfnAlarmProps{
		AlarmDescription: jsii.String(a.text), Metrics: &queries, EvaluationPeriods: jsii.Number(a.values), DatapointsToAlarm: jsii.Number(a.values),
		ComparisonOperator: jsii.String("GreaterThanOrEqualToThreshold"), Threshold: jsii.Number(a.threshold),
		TreatMissingData: jsii.String("notBreaching"), AlarmActions: &told, OkActions: &told,
	})
}
