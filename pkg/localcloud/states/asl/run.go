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

// Host performs the tasks and keeps the history of one execution.
type Host interface {
	Clock() clock.Clock
	// Record appends event to the history with an id and the clock's time, and
	// returns the id. An error ends the execution.
	Record(event types.HistoryEvent) (id int64, err error)
	// Invoke calls a Lambda function. functionError is the value of
	// X-Amz-Function-Error; if it is not empty, out is the error's payload.
	Invoke(ctx context.Context, functionARN string, payload []byte) (out []byte, functionError string, err error)
	// Call calls an action of another service with the arguments of its API.
	Call(ctx context.Context, service, action string, arguments []byte) (out []byte, err error)
	// Callback makes a task token, which SendTaskSuccess, SendTaskFailure and
	// SendTaskHeartbeat accept until release is called.
	Callback() (c *Callback, release func())
}

// Execution identifies the running execution, with the values of the context
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

// runner holds what all strands of an execution share.
type runner struct {
	host  Host
	exec  Execution
	input any

	turns turns
	mu    sync.Mutex
	rnd   *rand.Rand
}

// random returns the next number of the execution's own sequence, so that the
// same execution has the same jitter in every run.
func (r *runner) random() float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rnd.Float64()
}

// strand is one sequence of states: the execution's main one, a branch or an
// iteration.
type strand struct {
	*runner
	scope *scope
	item  map[string]any // $states.context.Map.Item, in an iteration
	last  int64          // id of its latest event; 0 before the first
	in    *state         // entered and not left yet
}

// branch makes a strand inside s whose first event follows the event after. s
// must not continue before its branches have ended.
func (s *strand) branch(after int64) *strand {
	return &strand{
		runner: s.runner,
		scope:  &scope{outer: s.scope, vars: map[string]any{}},
		item:   s.item,
		last:   after,
	}
}

// scope holds the variables of a strand. It can read those of enclosing strands.
type scope struct {
	outer *scope
	vars  map[string]any
}

// visible returns all variables that can be read.
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

// aside appends an event that follows the event after. The strand's next event
// does not follow it.
func (s *strand) aside(event types.HistoryEvent, previous int64) (id int64, err error) {
	event.PreviousEventId = previous
	return s.host.Record(event)
}

// pause lets other strands run while f waits.
func (s *strand) pause(f func() error) error {
	s.turns.leave()
	defer s.turns.take()
	return f()
}
