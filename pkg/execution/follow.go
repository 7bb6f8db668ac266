package execution

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/contract"
)

// API lists the calls of Step Functions that starting and following make.
type API interface {
	StartExecution(context.Context, *sfn.StartExecutionInput, ...func(*sfn.Options)) (*sfn.StartExecutionOutput, error)
	DescribeExecution(context.Context, *sfn.DescribeExecutionInput, ...func(*sfn.Options)) (*sfn.DescribeExecutionOutput, error)
	sfn.GetExecutionHistoryAPIClient
	sfn.ListStateMachinesAPIClient
}

// FindMachine returns the ARN of the state machine with a name.
func FindMachine(ctx context.Context, api sfn.ListStateMachinesAPIClient, name string) (string, error) {
	pages := sfn.NewListStateMachinesPaginator(api, &sfn.ListStateMachinesInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return "", fmt.Errorf("look for the state machine %s: %s", name, awserr.Brief(err))
		}
		for _, m := range page.StateMachines {
			if aws.ToString(m.Name) == name {
				return aws.ToString(m.StateMachineArn), nil
			}
		}
	}
	return "", fmt.Errorf("the state machine %s does not exist in this account and region: deploy the factory, choose its region, or give the state machine's ARN", name)
}

// Start starts an execution and returns its ARN. If an execution of the same
// name and input runs, it returns that one.
func Start(ctx context.Context, api API, machineARN, name string, in contract.ExecutionInput) (string, error) {
	input, err := json.Marshal(in)
	if err != nil {
		return "", err
	}
	out, err := api.StartExecution(ctx, &sfn.StartExecutionInput{
		StateMachineArn: &machineARN, Name: &name, Input: aws.String(string(input)),
	})
	if awserr.Is(err, "ExecutionAlreadyExists") {
		return "", fmt.Errorf("an execution %s has ended, or runs with another input; its name is free again after 90 days: choose another", name)
	}
	if err != nil {
		return "", fmt.Errorf("start the execution: %s", awserr.Brief(err))
	}
	return aws.ToString(out.ExecutionArn), nil
}

// Result describes how an execution ended.
type Result struct {
	Execution   string            `json:"execution"` // name
	ARN         string            `json:"executionArn"`
	Status      string            `json:"status"` // Published | UpToDate | Rejected | FailedClean | FailedDirty, or Step Functions' own
	Error       string            `json:"error,omitempty"`
	Cause       string            `json:"cause,omitempty"`
	Fingerprint string            `json:"fingerprint,omitempty"`
	SourceImage string            `json:"sourceImage,omitempty"`
	Action      string            `json:"action,omitempty"` // if it published: bake, or release (of the published image again)
	Images      map[string]string `json:"images"`           // by region
	Report      string            `json:"report,omitempty"`
	Why         string            `json:"why,omitempty"`     // an image was baked, or released again
	Changed     []string          `json:"changed,omitempty"` // what differs from the release before
	Guests      string            `json:"guests,omitempty"`  // what its instances are: ec2, vm, container or simulated
	Seconds     float64           `json:"seconds"`
	States      []StateSeconds    `json:"stages"`
}

// Follow reports each event of an execution to watch until the execution ends.
// It polls at the given interval. With a reader of the factory's bucket it also
// reports the steps of the builder.
func Follow(ctx context.Context, api API, arn string, every time.Duration, read ObjectReader, watch func(Event)) (Result, error) {
	timeline, last := NewTimeline(), int64(0)
	builder := builderSteps{
		read: read, key: contract.ExecutionKey(NameOf(arn), contract.StepsObject), progress: GuestProgress{Role: "builder"},
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		// Ask for the status first, so that the history read afterwards is complete if
		// the execution has ended.
		now, err := api.DescribeExecution(ctx, &sfn.DescribeExecutionInput{ExecutionArn: &arn})
		if err != nil {
			return Result{}, fmt.Errorf("follow the execution: %w", err)
		}
		events, err := since(ctx, api, arn, last)
		if err != nil {
			return Result{}, fmt.Errorf("follow the execution: %w", err)
		}
		if provisions(timeline.newest()) { // or did, before these events
			for _, e := range events {
				builder.bucket = cmp.Or(builder.bucket, bucketIn(e))
			}
			for _, step := range builder.look(ctx) {
				watch(step)
			}
		}
		for _, e := range events {
			last = e.Id
			for _, step := range timeline.Add(e) {
				watch(step)
			}
		}
		if now.Status != sfntypes.ExecutionStatusRunning {
			return ResultOf(now, timeline)
		}
		select {
		case <-ctx.Done():
			return Result{}, ctx.Err()
		case <-tick.C:
		}
	}
}

// since returns the events after an event id, in order. It reads the newest
// pages first, so that a long history costs no more than a short one.
func since(ctx context.Context, api API, arn string, id int64) ([]sfntypes.HistoryEvent, error) {
	var out []sfntypes.HistoryEvent
	pages := sfn.NewGetExecutionHistoryPaginator(api, &sfn.GetExecutionHistoryInput{
		ExecutionArn: &arn, ReverseOrder: true, MaxResults: 1000, IncludeExecutionData: aws.Bool(true),
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, e := range page.Events {
			if e.Id <= id {
				slices.Reverse(out)
				return out, nil
			}
			out = append(out, e)
		}
	}
	slices.Reverse(out)
	return out, nil
}

// ResultOf returns the result of an ended execution, from its description and
// its history.
func ResultOf(end *sfn.DescribeExecutionOutput, t *Timeline) (Result, error) {
	r := Result{
		Execution: aws.ToString(end.Name), ARN: aws.ToString(end.ExecutionArn), Status: t.Ending(),
		Error: aws.ToString(end.Error), Cause: aws.ToString(end.Cause), Images: map[string]string{},
		Seconds: aws.ToTime(end.StopDate).Sub(aws.ToTime(end.StartDate)).Seconds(), States: t.Seconds(),
	}
	if decided := t.Resolved(); decided != nil {
		r.Why, r.Changed, r.Guests = decided.Why, decided.Changed, decided.Guests.Kind
	}
	if r.Status == "" { // stopped, or timed out
		r.Status = string(end.Status)
	}
	if end.Status != sfntypes.ExecutionStatusSucceeded {
		return r, nil
	}
	var out struct {
		Fingerprint, SourceImage, Action string
		Images                           map[string]string
		Report                           struct{ Bucket, Key string }
	}
	if err := json.Unmarshal([]byte(aws.ToString(end.Output)), &out); err != nil {
		return r, fmt.Errorf("read the execution's output: %w", err)
	}
	r.Fingerprint, r.SourceImage, r.Action, r.Images = out.Fingerprint, out.SourceImage, out.Action, out.Images
	if out.Report.Key != "" {
		r.Report = "s3://" + out.Report.Bucket + "/" + out.Report.Key
	}
	return r, nil
}
