// Package metric defines the metrics of the factory, and writes them in
// CloudWatch's embedded metric format: lines of JSON on standard output, from
// which CloudWatch Logs makes metrics. So functions call no API and need no
// permission for them. Alarms and dashboards use the names.
package metric

import "slices"

// Namespace holds all metrics of the factory.
const Namespace = "AmiFactory"

// Names of metrics.
const (
	BakeDuration   = "BakeDuration"
	StageDuration  = "StageDuration"
	ImageCost      = "ImageCost"
	Executions     = "Executions"
	Failures       = "Failures"
	NewestImageAge = "NewestImageAge"
	RecipesPaused  = "RecipesPaused"
)

// Names of dimensions.
const (
	Recipe = "Recipe" // a recipe's name
	Stage  = "Stage"  // a state of the workflow, such as AwaitProvisioned
	Status = "Status" // how an execution ended, such as Published
	Code   = "Code"   // the error of an execution: a failure.Code, or one of Step Functions
)

// Unit is CloudWatch's unit of a metric
// (https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricDatum.html).
type Unit string

// Units in use.
const (
	Seconds Unit = "Seconds"
	Count   Unit = "Count"
	None    Unit = "None" // CloudWatch has no units for currencies
)

// Spec describes a metric.
type Spec struct {
	Name       string
	Unit       Unit
	Dimensions []string // exactly these, in this order; empty for a figure of the whole factory
	Means      string   // one line
}

// Table returns all metrics, in order of importance.
func Table() []Spec {
	return []Spec{
		{Name: BakeDuration, Unit: Seconds, Dimensions: []string{Recipe}, Means: "from an execution's start, or the end of its delay, to its notification; only of executions that build"},
		{Name: StageDuration, Unit: Seconds, Dimensions: []string{Stage}, Means: "what a state of the workflow took, its waits included"},
		{Name: ImageCost, Unit: None, Dimensions: []string{Recipe}, Means: "US dollars that an execution cost at list prices, estimated"},
		{Name: Executions, Unit: Count, Dimensions: []string{Status}, Means: "executions that ended with this status"},
		{Name: Failures, Unit: Count, Dimensions: []string{Code}, Means: "executions that ended with this error, refused images included"},
		{Name: NewestImageAge, Unit: Seconds, Dimensions: []string{Recipe}, Means: "age of the published image, every night; none while nothing is published"},
		{Name: RecipesPaused, Unit: Count, Means: "recipes that are paused until somebody resumes them, every night"},
	}
}

// Lookup returns the table's row of a metric.
func Lookup(name string) (Spec, bool) {
	all := Table()
	i := slices.IndexFunc(all, func(s Spec) bool { return s.Name == name })
	if i < 0 {
		return Spec{}, false
	}
	return all[i], true
}
