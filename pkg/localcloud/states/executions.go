package states

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/google/uuid"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/states/asl"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// nameLifetime is how long the name of an execution that has ended is taken.
const nameLifetime = 90 * 24 * time.Hour

const redriveReason = "Executions cannot be redriven in the embedded AWS"

// StartExecution implements sfn.Client's. Starting an execution that runs, with
// the same name and input, returns that one.
func (s *Service) StartExecution(ctx context.Context, in *sfn.StartExecutionInput, optFns ...func(*sfn.Options)) (*sfn.StartExecutionOutput, error) {
	c := s.caller(ctx, optFns)
	name := aws.ToString(in.Name)
	if in.Name == nil {
		name = uuid.NewString()
	}
	if err := checkName(name); err != nil {
		return nil, err
	}
	input := "{}"
	if in.Input != nil {
		input = *in.Input
	}
	if err := checkInput(input); err != nil {
		return nil, err
	}
	e, isNew, err := s.start(in, c, name, input)
	if err != nil {
		return nil, err
	}
	if isNew {
		s.announce(e)
	}
	return &sfn.StartExecutionOutput{ExecutionArn: aws.String(e.ARN), StartDate: aws.Time(e.Started)}, nil
}

func checkInput(input string) error {
	switch {
	case len(input) > asl.MaxPayload:
		return &types.InvalidExecutionInput{Message: aws.String(fmt.Sprintf("Invalid State Machine Execution Input: it has %d bytes; the maximum is %d", len(input), asl.MaxPayload))}
	case !json.Valid([]byte(input)):
		return &types.InvalidExecutionInput{Message: aws.String("Invalid State Machine Execution Input: it is not JSON")}
	}
	return nil
}

func (s *Service) start(in *sfn.StartExecutionInput, c wire.Caller, name, input string) (e *execution, isNew bool, err error) {
	// Until the execution's own work is started, a virtual clock must not move.
	defer s.config.Clock.Hold()()
	s.mu.Lock()
	defer s.mu.Unlock()
	m, err := s.find(in.StateMachineArn, c)
	if err != nil {
		return nil, false, err
	}
	if m.Deleting {
		return nil, false, &types.StateMachineDeleting{Message: aws.String("State Machine is being deleted: '" + m.ARN + "'")}
	}
	now := s.config.Clock.Now()
	arn := executionARN(c, m.Name, name)
	if old := s.executions[arn]; old != nil {
		old.mu.Lock()
		r := old.result
		old.mu.Unlock()
		running := r.Status == types.ExecutionStatusRunning
		switch {
		case running && old.Input == input:
			return old, false, nil
		case running || now.Sub(r.Stopped) < nameLifetime:
			return nil, false, &types.ExecutionAlreadyExists{Message: aws.String("Execution Already Exists: '" + arn + "'")}
		}
	}
	s.started++
	e = &execution{
		ARN: arn, Name: name, MachineARN: m.ARN, MachineName: m.Name, Role: m.Role,
		Definition: m.Definition, Revision: m.Revision, Updated: m.Updated,
		Account: c.Account, Region: c.Region, Input: input, Trace: aws.ToString(in.TraceHeader),
		Started: now, Order: s.started,
		result:  result{Status: types.ExecutionStatusRunning},
		changed: make(chan struct{}), done: make(chan struct{}),
	}
	e.append(types.HistoryEvent{
		Type: types.HistoryEventTypeExecutionStarted,
		ExecutionStartedEventDetails: &types.ExecutionStartedEventDetails{
			Input: aws.String(input), InputDetails: &types.HistoryEventExecutionDataDetails{}, RoleArn: aws.String(m.Role),
		},
	}, now)
	s.executions[arn] = e
	s.run(e, m.parsed)
	return e, true, nil
}

// lookUp returns an execution of the caller's.
func (s *Service) lookUp(arn *string, c wire.Caller) (*execution, error) {
	if err := checkARN(arn, "execution"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.executions[*arn]
	if e == nil || !ownedBy(*arn, c) {
		return nil, missing(*arn)
	}
	return e, nil
}

func missing(arn string) error {
	return &types.ExecutionDoesNotExist{Message: aws.String("Execution Does Not Exist: '" + arn + "'")}
}

// DescribeExecution implements sfn.Client's.
func (s *Service) DescribeExecution(ctx context.Context, in *sfn.DescribeExecutionInput, optFns ...func(*sfn.Options)) (*sfn.DescribeExecutionOutput, error) {
	e, err := s.lookUp(in.ExecutionArn, s.caller(ctx, optFns))
	if err != nil {
		return nil, err
	}
	out := e.describe()
	if in.IncludedData == types.IncludedDataMetadataOnly {
		out.Input, out.Output, out.InputDetails, out.OutputDetails = nil, nil, nil, nil
	}
	return out, nil
}

func (e *execution) describe() *sfn.DescribeExecutionOutput {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := &sfn.DescribeExecutionOutput{
		ExecutionArn: aws.String(e.ARN), Name: aws.String(e.Name), StateMachineArn: aws.String(e.MachineARN),
		Status: e.result.Status, StartDate: aws.Time(e.Started), TraceHeader: scope.Optional(e.Trace),
		Input: aws.String(e.Input), InputDetails: &types.CloudWatchEventsExecutionDataDetails{Included: true},
		Error: scope.Optional(e.result.Error), Cause: scope.Optional(e.result.Cause),
		RedriveCount: aws.Int32(0), RedriveStatus: types.ExecutionRedriveStatusNotRedrivable, RedriveStatusReason: aws.String(redriveReason),
	}
	if e.result.Status != types.ExecutionStatusRunning {
		out.StopDate = aws.Time(e.result.Stopped)
	}
	if e.result.Status == types.ExecutionStatusSucceeded {
		out.Output = aws.String(e.result.Output)
		out.OutputDetails = &types.CloudWatchEventsExecutionDataDetails{Included: true}
	}
	return out
}

// DescribeStateMachineForExecution implements sfn.Client's: the definition with
// which the execution was started.
func (s *Service) DescribeStateMachineForExecution(ctx context.Context, in *sfn.DescribeStateMachineForExecutionInput, optFns ...func(*sfn.Options)) (*sfn.DescribeStateMachineForExecutionOutput, error) {
	e, err := s.lookUp(in.ExecutionArn, s.caller(ctx, optFns))
	if err != nil {
		return nil, err
	}
	return &sfn.DescribeStateMachineForExecutionOutput{
		StateMachineArn: aws.String(e.MachineARN), Name: aws.String(e.MachineName), RoleArn: aws.String(e.Role),
		Definition: aws.String(e.Definition), UpdateDate: aws.Time(e.Updated), RevisionId: scope.Optional(e.Revision),
		LoggingConfiguration: &types.LoggingConfiguration{Level: types.LogLevelOff}, TracingConfiguration: &types.TracingConfiguration{},
	}, nil
}

// ListExecutions implements sfn.Client's; the latest comes first.
func (s *Service) ListExecutions(ctx context.Context, in *sfn.ListExecutionsInput, optFns ...func(*sfn.Options)) (*sfn.ListExecutionsOutput, error) {
	c := s.caller(ctx, optFns)
	s.mu.Lock()
	defer s.mu.Unlock()
	m, err := s.find(in.StateMachineArn, c)
	if err != nil {
		return nil, err
	}
	var found []*execution
	for _, e := range s.executions {
		if e.MachineARN == m.ARN {
			found = append(found, e)
		}
	}
	slices.SortFunc(found, func(a, b *execution) int { return cmp.Compare(b.Order, a.Order) })
	var all []types.ExecutionListItem
	for _, e := range found {
		d := e.describe()
		if in.StatusFilter != "" && in.StatusFilter != d.Status {
			continue
		}
		all = append(all, types.ExecutionListItem{
			ExecutionArn: d.ExecutionArn, Name: d.Name, StateMachineArn: d.StateMachineArn,
			Status: d.Status, StartDate: d.StartDate, StopDate: d.StopDate, RedriveCount: d.RedriveCount,
		})
	}
	items, next, err := page(all, in.NextToken, in.MaxResults)
	if err != nil {
		return nil, err
	}
	return &sfn.ListExecutionsOutput{Executions: items, NextToken: next}, nil
}

// StopExecution implements sfn.Client's. An execution that has ended stays as it
// is.
func (s *Service) StopExecution(ctx context.Context, in *sfn.StopExecutionInput, optFns ...func(*sfn.Options)) (*sfn.StopExecutionOutput, error) {
	e, err := s.lookUp(in.ExecutionArn, s.caller(ctx, optFns))
	if err != nil {
		return nil, err
	}
	s.abort(e, aws.ToString(in.Error), aws.ToString(in.Cause))
	return &sfn.StopExecutionOutput{StopDate: e.describe().StopDate}, nil
}
