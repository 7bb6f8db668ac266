package states

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/sfn/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/states/asl"
)

// lostCause is the cause of executions that a restart ended.
const lostCause = "the local AWS stopped while it ran"

// snapshot is the state as it is kept.
type snapshot struct {
	Machines   []*machine
	Executions []savedExecution
}

type savedExecution struct {
	Execution *execution
	Result    result
	Events    []types.HistoryEvent
}

// Snapshot implements wire.Stateful.
func (s *Service) Snapshot() (json.RawMessage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var saved snapshot
	for _, arn := range slices.Sorted(maps.Keys(s.machines)) {
		saved.Machines = append(saved.Machines, s.machines[arn])
	}
	for _, e := range s.executions {
		e.mu.Lock()
		saved.Executions = append(saved.Executions, savedExecution{Execution: e, Result: e.result, Events: slices.Clone(e.events)})
		e.mu.Unlock()
	}
	slices.SortFunc(saved.Executions, func(a, b savedExecution) int { return cmp.Compare(a.Execution.Order, b.Execution.Order) })
	return json.Marshal(saved)
}

// Restore implements wire.Stateful. Executions that ran are aborted.
func (s *Service) Restore(raw json.RawMessage) error {
	var saved snapshot
	if err := json.Unmarshal(raw, &saved); err != nil {
		return fmt.Errorf("restore Step Functions: %w", err)
	}
	machines := map[string]*machine{}
	for _, m := range saved.Machines {
		parsed, problems := asl.Parse([]byte(m.Definition))
		if len(problems) > 0 {
			return fmt.Errorf("restore the state machine %s: %w", m.ARN, problems)
		}
		m.parsed = parsed
		if m.Tags == nil {
			m.Tags = map[string]string{}
		}
		machines[m.ARN] = m
	}
	executions := map[string]*execution{}
	var last int64
	for _, se := range saved.Executions {
		e := se.Execution
		e.result, e.events = se.Result, se.Events
		e.changed, e.done = make(chan struct{}), make(chan struct{})
		e.cancel = func(error) {}
		if e.result.Status == types.ExecutionStatusRunning {
			e.end(result{
				Status: types.ExecutionStatusAborted, Error: asl.ErrRuntime, Cause: lostCause, Stopped: s.config.Clock.Now(),
			}, aborted(asl.ErrRuntime, lostCause))
		} else {
			close(e.done)
		}
		executions[e.ARN] = e
		last = max(last, e.Order)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.machines, s.executions, s.started = machines, executions, last
	for _, arn := range slices.Sorted(maps.Keys(machines)) {
		s.sweep(machines[arn])
	}
	return nil
}
