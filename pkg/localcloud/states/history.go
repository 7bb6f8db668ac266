package states

import (
	"context"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"
)

// GetExecutionHistory implements sfn.Client's.
func (s *Service) GetExecutionHistory(ctx context.Context, in *sfn.GetExecutionHistoryInput, optFns ...func(*sfn.Options)) (*sfn.GetExecutionHistoryOutput, error) {
	e, err := s.lookUp(in.ExecutionArn, s.caller(ctx, optFns))
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	all := slices.Clone(e.events)
	e.mu.Unlock()
	if in.ReverseOrder {
		slices.Reverse(all)
	}
	events, next, err := page(all, in.NextToken, in.MaxResults)
	if err != nil {
		return nil, err
	}
	if in.IncludeExecutionData != nil && !*in.IncludeExecutionData {
		for i := range events {
			events[i] = withoutData(events[i])
		}
	}
	return &sfn.GetExecutionHistoryOutput{Events: events, NextToken: next}, nil
}

// withoutData leaves the inputs and outputs out, in copies of the details.
func withoutData(e types.HistoryEvent) types.HistoryEvent {
	if d := e.ExecutionStartedEventDetails; d != nil {
		c := *d
		c.Input, c.InputDetails = nil, nil
		e.ExecutionStartedEventDetails = &c
	}
	if d := e.ExecutionSucceededEventDetails; d != nil {
		c := *d
		c.Output, c.OutputDetails = nil, nil
		e.ExecutionSucceededEventDetails = &c
	}
	if d := e.StateEnteredEventDetails; d != nil {
		c := *d
		c.Input, c.InputDetails = nil, nil
		e.StateEnteredEventDetails = &c
	}
	if d := e.StateExitedEventDetails; d != nil {
		c := *d
		c.Output, c.OutputDetails, c.AssignedVariables, c.AssignedVariablesDetails = nil, nil, nil, nil
		e.StateExitedEventDetails = &c
	}
	if d := e.LambdaFunctionScheduledEventDetails; d != nil {
		c := *d
		c.Input, c.InputDetails = nil, nil
		e.LambdaFunctionScheduledEventDetails = &c
	}
	if d := e.LambdaFunctionSucceededEventDetails; d != nil {
		c := *d
		c.Output, c.OutputDetails = nil, nil
		e.LambdaFunctionSucceededEventDetails = &c
	}
	if d := e.TaskScheduledEventDetails; d != nil {
		c := *d
		c.Parameters = aws.String("{}")
		e.TaskScheduledEventDetails = &c
	}
	if d := e.TaskSubmittedEventDetails; d != nil {
		c := *d
		c.Output, c.OutputDetails = nil, nil
		e.TaskSubmittedEventDetails = &c
	}
	if d := e.TaskSucceededEventDetails; d != nil {
		c := *d
		c.Output, c.OutputDetails = nil, nil
		e.TaskSucceededEventDetails = &c
	}
	return e
}

// Wait returns the execution when it has ended. It looks in all accounts and
// regions.
func (s *Service) Wait(ctx context.Context, executionARN string) (*sfn.DescribeExecutionOutput, error) {
	e, err := s.anywhere(executionARN)
	if err != nil {
		return nil, err
	}
	if err := s.config.Clock.Wait(ctx, e.done, 0); err != nil {
		return nil, err
	}
	return e.describe(), nil
}

// Watch delivers the execution's history, from its first event on, as it comes.
// The channel is closed after the last event, or when ctx ends.
func (s *Service) Watch(ctx context.Context, executionARN string) (<-chan types.HistoryEvent, error) {
	e, err := s.anywhere(executionARN)
	if err != nil {
		return nil, err
	}
	events := make(chan types.HistoryEvent)
	go func() {
		defer close(events)
		for seen := 0; ; {
			e.mu.Lock()
			fresh, changed, ended := e.events[seen:], e.changed, e.result.Status != types.ExecutionStatusRunning
			e.mu.Unlock()
			for _, event := range fresh {
				select {
				case events <- event:
				case <-ctx.Done():
					return
				}
			}
			seen += len(fresh)
			if ended {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	return events, nil
}

func (s *Service) anywhere(executionARN string) (*execution, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.executions[executionARN]; e != nil {
		return e, nil
	}
	return nil, missing(executionARN)
}
