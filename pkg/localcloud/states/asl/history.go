package asl

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"
)

// events writes a task's history events. There are two families: for a
// function's ARN and for service integrations. submitted is for a task that
// still waits for its token after the service's answer.
type events interface {
	scheduled(v *visit, request []byte, timeout, heartbeat int) error
	started(v *visit) error
	submitted(v *visit, answer []byte) error
	succeeded(v *visit, output []byte) error
	failed(v *visit, e *Error) error
	timedOut(v *visit, e *Error) error
}

func whole() *types.HistoryEventExecutionDataDetails {
	return &types.HistoryEventExecutionDataDetails{}
}

// orNil returns nil for a limit that is not set.
func orNil(n int) *int64 {
	if n == 0 {
		return nil
	}
	return aws.Int64(int64(n))
}

// orAbsent returns nil for an empty name or cause.
func orAbsent(s string) *string {
	if s == "" {
		return nil
	}
	return aws.String(s)
}

func (l lambdaFunction) scheduled(v *visit, request []byte, timeout, _ int) error {
	return v.record(types.HistoryEvent{
		Type: types.HistoryEventTypeLambdaFunctionScheduled,
		LambdaFunctionScheduledEventDetails: &types.LambdaFunctionScheduledEventDetails{
			Resource: aws.String(l.arn), Input: aws.String(string(request)), InputDetails: whole(), TimeoutInSeconds: orNil(timeout),
		},
	})
}

func (l lambdaFunction) started(v *visit) error {
	return v.record(types.HistoryEvent{Type: types.HistoryEventTypeLambdaFunctionStarted})
}

// submitted is never called: a task with a function's ARN cannot wait for a
// token.
func (l lambdaFunction) submitted(*visit, []byte) error { return nil }

func (l lambdaFunction) succeeded(v *visit, output []byte) error {
	return v.record(types.HistoryEvent{
		Type: types.HistoryEventTypeLambdaFunctionSucceeded,
		LambdaFunctionSucceededEventDetails: &types.LambdaFunctionSucceededEventDetails{
			Output: aws.String(string(output)), OutputDetails: whole(),
		},
	})
}

func (l lambdaFunction) failed(v *visit, e *Error) error {
	return v.record(types.HistoryEvent{
		Type: types.HistoryEventTypeLambdaFunctionFailed,
		LambdaFunctionFailedEventDetails: &types.LambdaFunctionFailedEventDetails{
			Error: orAbsent(e.Name), Cause: orAbsent(e.Cause),
		},
	})
}

func (l lambdaFunction) timedOut(v *visit, e *Error) error {
	return v.record(types.HistoryEvent{
		Type: types.HistoryEventTypeLambdaFunctionTimedOut,
		LambdaFunctionTimedOutEventDetails: &types.LambdaFunctionTimedOutEventDetails{
			Error: orAbsent(e.Name), Cause: orAbsent(e.Cause),
		},
	})
}

// serviceEvents writes the history events of
// arn:aws:states:::<service>:<resource>.
type serviceEvents struct{ service, resource string }

func (s serviceEvents) scheduled(v *visit, request []byte, timeout, heartbeat int) error {
	return v.record(types.HistoryEvent{
		Type: types.HistoryEventTypeTaskScheduled,
		TaskScheduledEventDetails: &types.TaskScheduledEventDetails{
			ResourceType: aws.String(s.service), Resource: aws.String(s.resource), Region: aws.String(v.exec.Region),
			Parameters: aws.String(string(request)), TimeoutInSeconds: orNil(timeout), HeartbeatInSeconds: orNil(heartbeat),
		},
	})
}

func (s serviceEvents) started(v *visit) error {
	return v.record(types.HistoryEvent{
		Type: types.HistoryEventTypeTaskStarted,
		TaskStartedEventDetails: &types.TaskStartedEventDetails{
			ResourceType: aws.String(s.service), Resource: aws.String(s.resource),
		},
	})
}

func (s serviceEvents) submitted(v *visit, answer []byte) error {
	return v.record(types.HistoryEvent{
		Type: types.HistoryEventTypeTaskSubmitted,
		TaskSubmittedEventDetails: &types.TaskSubmittedEventDetails{
			ResourceType: aws.String(s.service), Resource: aws.String(s.resource), Output: aws.String(string(answer)), OutputDetails: whole(),
		},
	})
}

func (s serviceEvents) succeeded(v *visit, output []byte) error {
	return v.record(types.HistoryEvent{
		Type: types.HistoryEventTypeTaskSucceeded,
		TaskSucceededEventDetails: &types.TaskSucceededEventDetails{
			ResourceType: aws.String(s.service), Resource: aws.String(s.resource), Output: aws.String(string(output)), OutputDetails: whole(),
		},
	})
}

func (s serviceEvents) failed(v *visit, e *Error) error {
	return v.record(types.HistoryEvent{
		Type: types.HistoryEventTypeTaskFailed,
		TaskFailedEventDetails: &types.TaskFailedEventDetails{
			ResourceType: aws.String(s.service), Resource: aws.String(s.resource), Error: orAbsent(e.Name), Cause: orAbsent(e.Cause),
		},
	})
}

func (s serviceEvents) timedOut(v *visit, e *Error) error {
	return v.record(types.HistoryEvent{
		Type: types.HistoryEventTypeTaskTimedOut,
		TaskTimedOutEventDetails: &types.TaskTimedOutEventDetails{
			ResourceType: aws.String(s.service), Resource: aws.String(s.resource), Error: orAbsent(e.Name), Cause: orAbsent(e.Cause),
		},
	})
}
