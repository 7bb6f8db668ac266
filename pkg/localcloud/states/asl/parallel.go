package asl

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/sfn/types"
)

// parallel is the Parallel state: its branches run at once, each with the same
// input; the result lists their outputs.
type parallel struct{ branches []*graph }

func (p *parser) parallel(o *object, s *state, variables map[string]bool) body {
	p.transition(o, s)
	p.leaving(o, &s.clause)
	p.policies(o, s)
	s.arguments = o.template("Arguments")
	b := &parallel{}
	list := o.list("Branches")
	if len(list) == 0 {
		p.problems.add(CodeSchema, o.path, "\"Branches\" must list at least one branch")
	}
	for i, v := range list {
		bo, ok := newObject(v, fmt.Sprintf("%s[%d]", o.at("Branches"), i), p.problems)
		if !ok {
			continue
		}
		b.branches = append(b.branches, p.graph(bo, variables))
		bo.done()
	}
	return b
}

func (p *parallel) run(v *visit) (step, error) {
	input, err := v.argumentsOrInput()
	if err != nil {
		return step{}, err
	}
	if err := v.record(types.HistoryEvent{Type: types.HistoryEventTypeParallelStateStarted}); err != nil {
		return step{}, err
	}
	results := make([]any, len(p.branches))
	err = v.fanOut(fan{n: len(p.branches), limit: len(p.branches), work: func(ctx context.Context, i int, s *strand) (err error) {
		results[i], err = s.run(ctx, p.branches[i], input)
		return err
	}})
	if err != nil {
		return step{}, err
	}
	if _, err := v.aside(types.HistoryEvent{Type: types.HistoryEventTypeParallelStateSucceeded}, v.last); err != nil {
		return step{}, err
	}
	return v.through(v.state.clause, results, map[string]any{"result": results})
}
