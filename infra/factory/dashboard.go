package factory

import (
	"fmt"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/ami-factory/ami-factory/pkg/metric"
)

// Sizes of widgets, of the 24 columns that a dashboard has.
const (
	widgetWidth  = 12
	widgetHeight = 6
)

// newDashboard shows the factory's figures, found by their names: recipes and
// stages that come later show by themselves. The document is CloudWatch's
// "Dashboard body structure and syntax".
func newDashboard(scope constructs.Construct, w watched, alarms []*string) {
	stack := awscdk.Stack_Of(scope)
	var widgets []any
	add := func(kind string, properties map[string]any) {
		n := len(widgets)
		widgets = append(widgets, map[string]any{
			"type": kind, "x": n % 2 * widgetWidth, "y": n / 2 * widgetHeight, "width": widgetWidth, "height": widgetHeight, "properties": properties,
		})
	}
	if len(alarms) > 0 {
		add("alarm", map[string]any{"title": "Alarms", "alarms": alarms})
	}
	graph := func(title string, period int, metrics ...any) {
		add("metric", map[string]any{
			"title": title, "region": stack.Region(), "view": "timeSeries", "stat": "Sum", "period": period, "metrics": metrics,
		})
	}
	graph("Executions by how they ended, per day", 86400, found("Sum", 86400, metric.Executions))
	graph("Failures by code, per day", 86400, found("Sum", 86400, metric.Failures))
	graph("Age of the newest image by recipe, seconds", 86400, found("Maximum", 86400, metric.NewestImageAge))
	graph("Bakes by recipe, seconds (90th percentile)", 3600, found("p90", 3600, metric.BakeDuration))
	graph("Stages, seconds (median)", 3600, found("p50", 3600, metric.StageDuration))
	graph("Estimated cost by recipe, US dollars per day", 86400, found("Sum", 86400, metric.ImageCost))
	graph("State machine", 300,
		[]any{"AWS/States", "ExecutionsStarted", "StateMachineArn", w.machine},
		[]any{"AWS/States", "ExecutionsSucceeded", "StateMachineArn", w.machine},
		[]any{"AWS/States", "ExecutionsFailed", "StateMachineArn", w.machine},
		[]any{"AWS/States", "ExecutionsAborted", "StateMachineArn", w.machine},
		[]any{"AWS/States", "ExecutionsTimedOut", "StateMachineArn", w.machine})
	var errors []any
	for _, s := range silent() {
		errors = append(errors, []any{"AWS/Lambda", "Errors", "FunctionName", w.functions[s].Function.FunctionName(), map[string]any{"label": string(s)}})
	}
	graph("Errors that no execution tells, and dead letters", 300, append(errors,
		[]any{"AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", w.dead.QueueName(), map[string]any{"stat": "Maximum", "label": "dead letters"}})...)
	awscloudwatch.NewCfnDashboard(scope, jsii.String("Dashboard"), &awscloudwatch.CfnDashboardProps{
		DashboardBody: stack.ToJsonString(map[string]any{"widgets": widgets}, nil),
	})
}

// found is every series of a metric of the factory's.
func found(statistic string, period int, name string) any {
	spec, ok := metric.Lookup(name)
	if !ok {
		panic(fmt.Sprintf("metric %s is not in the table", name))
	}
	schema := metric.Namespace
	for _, d := range spec.Dimensions {
		schema += "," + d
	}
	return []any{map[string]any{"expression": fmt.Sprintf(`SEARCH('{%s} MetricName="%s"', '%s', %d)`, schema, name, statistic, period)}}
}
