package asl

import (
	"context"
	"encoding/json"
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sfn/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
)

// Host performs tasks and keeps the history of one execution.
type Host interface {
	Clock() clock.Clock
	// Record appends event to the history, with an id and the time of the
	// clock, and returns the id. An error ends the execution.
	Record(event types.HistoryEvent) (id int64, err error)
	// Invoke calls a Lambda function. functionError is what Lambda reports in
	// X-Amz-Function-Error; out is then the error's payload.
	Invoke(ctx context.Context, functionARN string, payload []byte) (out []byte, functionError string, err error)
	// Call performs an action of another service with the arguments of its API.
	Call(ctx context.Context, service, action string, arguments []byte) (out []byte, err error)
	// Callback makes a task token that SendTaskSuccess and its siblings know
	// until release is called.
	Callback() (c *Callback, release func())
}

// Execution says which execution runs; the values are those of the context
// object.
type Execution struct {
	ARN, Name, RoleARN      string
	MachineARN, MachineName string
	Partition, Region       string
	Account                 string
	StartTime               time.Time
	Input                   json.RawMessage
}

// Run executes the machine until it ends, fails (*Error) or ctx ends (its cause).
func (m *Machine) Run(ctx context.Context, host Host, e Execution) (output json.RawMessage, err error) {
	input, err := decode(e.Input)
	if err != nil {
		return nil, &Error{Name: ErrRuntime, Cause: "the input is not JSON: " + err.Error()}
	}
	seed := fnv.New64a()
	_, _ = seed.Write([]byte(e.ARN))
	r := &runner{
		host:  host,
		exec:  e,
		input: input,
		rnd:   rand.New(rand.NewPCG(seed.Sum64(), 0)), // #nosec G404 -- jitter, reproducible
	}
	s := &strand{runner: r, scope: &scope{vars: map[string]any{}}}
	r.turns.take()
	defer r.turns.leave()
	out, err := s.run(ctx, m.graph, input)
	if err != nil {
		return nil, err
	}
	return encode(out)
}

// runner is what all strands of an execution share.
type runner struct {
	host  Host
	exec  Execution
	input any

	turns turns
	mu    sync.Mutex
	rnd   *rand.Rand
}

// random is the execution's own sequence of numbers: the same execution jitters
// alike in every run.
func (r *runner) random() float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rnd.Float64()
}

// strand is one sequence of states: the execution's main one, or that of a
// branch or an iteration.
type strand struct {
	*runner
	scope *scope
	item  map[string]any // $states.context.Map.Item, in an iteration
	last  int64          // id of its latest event; 0 before the first
	in    *state         // that it has entered and not left
}

// branch starts a strand inside s, whose first event follows another one. s must
// not run before its branches have ended.
func (s *strand) branch(after int64) *strand {
	return &strand{
		runner: s.runner,
		scope:  &scope{outer: s.scope, vars: map[string]any{}},
		item:   s.item,
		last:   after,
	}
}

// scope holds the variables of a strand; it sees those of the strands around it.
type scope struct {
	outer *scope
	vars  map[string]any
}

// visible collects all variables that can be read.
func (s *scope) visible() map[string]any {
	all := map[string]any{}
	for ; s != nil; s = s.outer {
		for name, v := range s.vars {
			if _, hidden := all[name]; !hidden {
				all[name] = v
			}
		}
	}
	return all
}

// run visits states from the start of g to an end.
func (s *strand) run(ctx context.Context, g *graph, input any) (output any, err error) {
	for name := g.startAt; ; {
		left, err := s.visit(ctx, g.states[name], input)
		if err != nil {
			return nil, err
		}
		if left.next == "" {
			return left.output, nil
		}
		name, input = left.next, left.output
	}
}

// record appends an event that follows the strand's latest one.
func (s *strand) record(event types.HistoryEvent) error {
	id, err := s.aside(event, s.last)
	if err == nil {
		s.last = id
	}
	return err
}

// aside appends an event that follows another one, and that the strand's next
// event does not follow.
func (s *strand) aside(event types.HistoryEvent, previous int64) (id int64, err error) {
	event.PreviousEventId = previous
	return s.host.Record(event)
}

// pause lets other strands work while f waits.
func (s *strand) pause(f func() error) error {
	s.turns.leave()
	defer s.turns.take()
	return f()
}
