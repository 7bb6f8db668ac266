package states

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/states/asl"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// maxEvents is how many events the history of an execution may have.
const maxEvents = 25000

var (
	errClosed = errors.New("the local AWS is stopping")
	errEnded  = errors.New("the execution has ended")
)

// execution is one execution. Its identity does not change; the rest is guarded
// by mu.
type execution struct {
	ARN         string
	Name        string
	MachineARN  string
	MachineName string
	Role        string
	Definition  string
	Revision    string
	Updated     time.Time // of the definition
	Account     string
	Region      string
	Input       string
	Trace       string
	Started     time.Time
	Order       int64 // in which it was started

	mu      sync.Mutex
	result  result
	events  []types.HistoryEvent
	changed chan struct{} // closed and renewed at every event
	done    chan struct{} // closed when it has ended
	cancel  context.CancelCauseFunc
}

// result is how an execution stands or ended.
type result struct {
	Status  types.ExecutionStatus
	Stopped time.Time
	Output  string
	Error   string
	Cause   string
}

func (e *execution) running() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.result.Status == types.ExecutionStatusRunning
}

// append adds an event. e.mu is held.
func (e *execution) append(event types.HistoryEvent, now time.Time) int64 {
	event.Id = int64(len(e.events) + 1)
	event.Timestamp = aws.Time(now)
	e.events = append(e.events, event)
	close(e.changed)
	e.changed = make(chan struct{})
	return event.Id
}

// end records the last event, unless the execution has ended before.
func (e *execution) end(r result, event types.HistoryEvent) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.result.Status != types.ExecutionStatusRunning {
		return false
	}
	event.PreviousEventId = int64(len(e.events))
	e.result = r
	e.append(event, r.Stopped)
	close(e.done)
	return true
}

// run executes the machine on a goroutine of the clock.
func (s *Service) run(e *execution, m *asl.Machine) {
	ctx, cancel := context.WithCancelCause(wire.WithCaller(s.ctx, wire.Caller{
		Account: e.Account, Region: e.Region, ARN: e.Role, Source: e.MachineARN,
	}))
	e.cancel = cancel
	s.active.Add(1)
	s.config.Clock.Go(func() {
		defer s.active.Done()
		defer cancel(nil)
		if m.Timeout > 0 {
			stop := s.config.Clock.AfterFunc(m.Timeout, func() { s.timeOut(e) })
			defer stop()
		}
		input := json.RawMessage(e.Input)
		output, err := m.Run(ctx, &host{service: s, execution: e}, asl.Execution{
			ARN: e.ARN, Name: e.Name, RoleARN: e.Role, MachineARN: e.MachineARN, MachineName: e.MachineName,
			Partition: partition.OrDefault(e.Region).ID, Region: e.Region, Account: e.Account,
			StartTime: e.Started, Input: input,
		})
		switch {
		case s.ctx.Err() != nil, errors.Is(err, errEnded): // stays as it is
		case err != nil:
			s.fail(e, asl.AsError(err))
		default:
			s.succeed(e, string(output))
		}
	})
}

func (s *Service) succeed(e *execution, output string) {
	s.finish(e, result{Status: types.ExecutionStatusSucceeded, Output: output}, types.HistoryEvent{
		Type: types.HistoryEventTypeExecutionSucceeded,
		ExecutionSucceededEventDetails: &types.ExecutionSucceededEventDetails{
			Output: aws.String(output), OutputDetails: &types.HistoryEventExecutionDataDetails{},
		},
	})
}

func (s *Service) fail(e *execution, failed *asl.Error) {
	s.finish(e, result{Status: types.ExecutionStatusFailed, Error: failed.Name, Cause: failed.Cause}, types.HistoryEvent{
		Type: types.HistoryEventTypeExecutionFailed,
		ExecutionFailedEventDetails: &types.ExecutionFailedEventDetails{
			Error: scope.Optional(failed.Name), Cause: scope.Optional(failed.Cause),
		},
	})
}

func (s *Service) timeOut(e *execution) {
	s.finish(e, result{Status: types.ExecutionStatusTimedOut}, types.HistoryEvent{
		Type: types.HistoryEventTypeExecutionTimedOut, ExecutionTimedOutEventDetails: &types.ExecutionTimedOutEventDetails{},
	})
}

func (s *Service) abort(e *execution, name, cause string) {
	s.finish(e, result{Status: types.ExecutionStatusAborted, Error: name, Cause: cause}, aborted(name, cause))
}

func aborted(name, cause string) types.HistoryEvent {
	return types.HistoryEvent{
		Type: types.HistoryEventTypeExecutionAborted,
		ExecutionAbortedEventDetails: &types.ExecutionAbortedEventDetails{
			Error: scope.Optional(name), Cause: scope.Optional(cause),
		},
	}
}

// finish ends an execution, stops what is left of its work and announces it.
func (s *Service) finish(e *execution, r result, last types.HistoryEvent) {
	r.Stopped = s.config.Clock.Now()
	if !e.end(r, last) {
		return
	}
	e.cancel(errEnded)
	s.config.Logger.Debug("execution ended", "execution", e.ARN, "status", r.Status, "error", r.Error)
	s.announce(e)

	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep(s.machines[e.MachineARN])
}

// announce sends the execution's status to the listener.
func (s *Service) announce(e *execution) {
	if s.config.Events == nil {
		return
	}
	e.mu.Lock()
	r := e.result
	e.mu.Unlock()
	detail := map[string]any{
		"executionArn": e.ARN, "stateMachineArn": e.MachineARN, "name": e.Name, "status": r.Status,
		"startDate": e.Started.UnixMilli(), "stopDate": nil,
		"input": e.Input, "inputDetails": map[string]bool{"included": true},
		"output": nil, "outputDetails": nil, "error": scope.Optional(r.Error), "cause": scope.Optional(r.Cause),
		"stateMachineVersionArn": nil, "stateMachineAliasArn": nil, "redriveCount": 0, "redriveDate": nil,
		"redriveStatus": types.ExecutionRedriveStatusNotRedrivable, "redriveStatusReason": redriveReason,
	}
	at := e.Started
	if r.Status != types.ExecutionStatusRunning {
		detail["stopDate"] = r.Stopped.UnixMilli()
		at = r.Stopped
	}
	if r.Status == types.ExecutionStatusSucceeded {
		detail["output"], detail["outputDetails"] = r.Output, map[string]bool{"included": true}
	}
	raw, err := json.Marshal(detail)
	if err != nil {
		s.config.Logger.Error("an execution's event cannot be written", "execution", e.ARN, "error", err)
		return
	}
	s.config.Events(Event{
		Account: e.Account, Region: e.Region, Source: "aws.states", DetailType: "Step Functions Execution Status Change",
		Time: at, Resources: []string{e.ARN}, Detail: raw,
	})
}

// host is the asl.Host of one execution.
type host struct {
	service   *Service
	execution *execution
}

// Clock implements asl.Host.
func (h *host) Clock() clock.Clock { return h.service.config.Clock }

// Record implements asl.Host.
func (h *host) Record(event types.HistoryEvent) (int64, error) {
	now := h.service.config.Clock.Now()
	e := h.execution
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.result.Status != types.ExecutionStatusRunning:
		return 0, errEnded
	case len(e.events) >= maxEvents-1: // the last one says how it ended
		return 0, &asl.Error{
			Name:  asl.ErrRuntime,
			Cause: fmt.Sprintf("The execution reached the maximum number of history events (%d).", maxEvents),
		}
	}
	return e.append(event, now), nil
}

// Invoke implements asl.Host.
func (h *host) Invoke(ctx context.Context, functionARN string, payload []byte) ([]byte, string, error) {
	return h.service.config.Invoker.Invoke(ctx, functionARN, payload)
}

// Call implements asl.Host.
func (h *host) Call(ctx context.Context, service, action string, arguments []byte) ([]byte, error) {
	if h.service.config.Integrations == nil {
		return nil, &asl.Error{Name: asl.ErrRuntime, Cause: fmt.Sprintf("The integration %s:%s is not connected in this embedded AWS.", service, action)}
	}
	return h.service.config.Integrations.Call(ctx, service, action, arguments)
}

// Callback implements asl.Host.
func (h *host) Callback() (c *asl.Callback, release func()) {
	c = asl.NewCallback(newToken(h.execution.ARN))
	s := h.service
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[c.Token] = c
	return c, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.tokens, c.Token)
	}
}
