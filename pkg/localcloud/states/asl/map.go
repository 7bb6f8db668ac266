package asl

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"
)

// maxInlineConcurrency is the number of iterations of an inline Map that run at
// once if MaxConcurrency is 0 or larger than this.
const maxInlineConcurrency = 40

// mapState is the Map state in inline mode: its processor runs once for each
// item, and the result lists the outputs.
type mapState struct {
	processor           *graph
	items, selector     *template
	concurrency         *template
	tolerated, tolerant *template // a count, a percentage
}

func (p *parser) mapState(o *object, s *state, variables map[string]bool) body {
	p.transition(o, s)
	p.leaving(o, &s.clause)
	p.policies(o, s)
	m := &mapState{
		items:       o.template("Items"),
		selector:    o.template("ItemSelector"),
		concurrency: o.scalar("MaxConcurrency", "a number"),
		tolerated:   o.scalar("ToleratedFailureCount", "a number"),
		tolerant:    o.scalar("ToleratedFailurePercentage", "a number"),
	}
	raw, ok := o.take("ItemProcessor")
	if !ok {
		p.problems.add(CodeSchema, o.path, "the required field \"ItemProcessor\" is missing")
		return m
	}
	po, ok := newObject(raw, o.at("ItemProcessor"), p.problems)
	if !ok {
		return m
	}
	if raw, ok := po.take("ProcessorConfig"); ok {
		if co, ok := newObject(raw, po.at("ProcessorConfig"), p.problems); ok {
			if mode := co.text("Mode", false); mode != "" && mode != "INLINE" {
				p.problems.add(CodeNotSupported, co.at("Mode"), "the mode %q is not available here: use INLINE", mode)
			}
			co.done()
		}
	}
	m.processor = p.graph(po, variables)
	po.done()
	return m
}

func (m *mapState) run(v *visit) (step, error) {
	items, err := m.list(v)
	if err != nil {
		return step{}, err
	}
	concurrency, err := v.whole(m.concurrency, 0, 0, maxSeconds)
	if err != nil {
		return step{}, err
	}
	if concurrency == 0 || concurrency > maxInlineConcurrency {
		concurrency = maxInlineConcurrency
	}
	tolerance, err := m.tolerance(v, len(items))
	if err != nil {
		return step{}, err
	}
	err = v.record(types.HistoryEvent{
		Type:                        types.HistoryEventTypeMapStateStarted,
		MapStateStartedEventDetails: &types.MapStateStartedEventDetails{Length: int32(len(items))}, // small: the size of the payload limits it
	})
	if err != nil {
		return step{}, err
	}
	run := iterations{v: v, m: m, items: items, tolerance: tolerance, outputs: make([]any, len(items)), good: make([]bool, len(items))}
	err = v.fanOut(fan{n: len(items), limit: concurrency, begin: run.begin, work: run.work, finish: run.finish, abort: run.abort})
	if err != nil {
		return step{}, err
	}
	results := run.results()
	if _, err := v.aside(types.HistoryEvent{Type: types.HistoryEventTypeMapStateSucceeded}, v.last); err != nil {
		return step{}, err
	}
	return v.through(v.state.clause, results, map[string]any{"result": results})
}

// list returns the items: Items, or the input.
func (m *mapState) list(v *visit) ([]any, error) {
	if m.items == nil {
		if list, ok := v.input.([]any); ok {
			return list, nil
		}
		raw, err := encode(v.input)
		if err != nil {
			return nil, err
		}
		return nil, v.failedEvaluation("Map state input must be an array but was: "+string(raw), "", v.evaluating())
	}
	got, err := v.evaluate(m.items, nil)
	if err != nil {
		return nil, err
	}
	list, ok := got.([]any)
	if !ok {
		return nil, v.mismatch(m.items, "array", got)
	}
	return list, nil
}

// tolerance returns how many of n iterations may fail.
func (m *mapState) tolerance(v *visit, n int) (int, error) {
	count, err := v.whole(m.tolerated, 0, 0, maxSeconds)
	if err != nil || m.tolerant == nil {
		return count, err
	}
	got, err := v.evaluate(m.tolerant, nil)
	if err != nil {
		return 0, err
	}
	percentage, ok := got.(float64)
	if !ok {
		return 0, v.mismatch(m.tolerant, "number", got)
	}
	if percentage < 0 || percentage > 100 {
		return 0, v.beyond(m.tolerant, "a number between 0 and 100", got)
	}
	share := int(percentage * float64(n) / 100)
	if m.tolerated == nil {
		return share, nil
	}
	return min(count, share), nil // exceeding either threshold fails the state
}

// iterations is one run over the items.
type iterations struct {
	v         *visit
	m         *mapState
	items     []any
	tolerance int
	failed    int
	outputs   []any
	good      []bool
}

// results returns the outputs of successful iterations, in order.
func (r *iterations) results() []any {
	all := []any{}
	for i, out := range r.outputs {
		if r.good[i] {
			all = append(all, out)
		}
	}
	return all
}

func (r *iterations) details(i int) *types.MapIterationEventDetails {
	return &types.MapIterationEventDetails{Name: aws.String(r.v.state.name), Index: int32(i)} // small: the size of the payload limits it
}

func (r *iterations) begin(i int, s *strand) error {
	s.item = map[string]any{"Index": float64(i), "Value": r.items[i]}
	return s.record(types.HistoryEvent{Type: types.HistoryEventTypeMapIterationStarted, MapIterationStartedEventDetails: r.details(i)})
}

func (r *iterations) work(ctx context.Context, i int, s *strand) error {
	out, err := r.process(ctx, i, s)
	switch {
	case err == nil:
		r.outputs[i], r.good[i] = out, true
		return nil
	case ctx.Err() != nil || r.m.tolerated == nil && r.m.tolerant == nil:
		return err
	}
	return r.tolerate(err)
}

// finish records the end of an iteration. The next event of its worker does not
// follow this event.
func (r *iterations) finish(i int, s *strand) (last int64, err error) {
	if !r.good[i] {
		if err := r.abort(i, true, s.last); err != nil {
			return 0, err
		}
		return s.last, s.aborted(s.last)
	}
	return s.aside(types.HistoryEvent{
		Type: types.HistoryEventTypeMapIterationSucceeded, MapIterationSucceededEventDetails: r.details(i),
	}, s.last)
}

func (r *iterations) abort(i int, failed bool, after int64) error {
	event := types.HistoryEvent{Type: types.HistoryEventTypeMapIterationAborted, MapIterationAbortedEventDetails: r.details(i)}
	if failed {
		event = types.HistoryEvent{Type: types.HistoryEventTypeMapIterationFailed, MapIterationFailedEventDetails: r.details(i)}
	}
	_, err := r.v.aside(event, after)
	return err
}

func (r *iterations) process(ctx context.Context, i int, s *strand) (any, error) {
	input := r.items[i]
	if r.m.selector != nil {
		selecting := &visit{strand: s, ctx: ctx, state: r.v.state, input: r.v.input, entered: r.v.entered, before: r.v.before, event: r.v.event, retries: r.v.retries}
		var err error
		if input, err = selecting.evaluate(r.m.selector, nil); err != nil {
			return nil, err
		}
	}
	return s.run(ctx, r.m.processor, input)
}

// tolerate decides whether a failed iteration fails the state.
func (r *iterations) tolerate(err error) error {
	r.failed++
	if r.failed <= r.tolerance {
		return nil
	}
	return &Error{
		Name:  ErrExceedToleratedFailures,
		Cause: fmt.Sprintf("%d iterations failed, %d are tolerated; the latest: %s", r.failed, r.tolerance, AsError(err)),
	}
}
