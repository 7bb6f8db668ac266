package asl

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"
)

// visit is one stay in a state, with all its attempts.
type visit struct {
	*strand
	ctx       context.Context
	state     *state
	input     any
	entered   time.Time
	retries   int    // $states.context.State.RetryCount
	taskToken string // of the current attempt; empty without one
}

// visit enters a state, attempts it as often as its Retry allows, turns to its
// Catch, and leaves it.
func (s *strand) visit(ctx context.Context, st *state, input any) (step, error) {
	v := &visit{strand: s, ctx: ctx, state: st, input: input, entered: s.host.Clock().Now()}
	raw, err := payload("the input of the state "+st.name, input)
	if err != nil {
		return step{}, err
	}
	err = v.record(types.HistoryEvent{
		Type: types.HistoryEventType(st.typ + "StateEntered"),
		StateEnteredEventDetails: &types.StateEnteredEventDetails{
			Name: aws.String(st.name), Input: aws.String(string(raw)), InputDetails: &types.HistoryEventExecutionDataDetails{},
		},
	})
	if err != nil {
		return step{}, err
	}
	left, err := v.attempts()
	if err != nil {
		return step{}, err
	}
	return left, v.leave(left)
}

// attempts runs the state's body until it succeeds, or until its error is
// caught or final.
func (v *visit) attempts() (step, error) {
	used := make([]int, len(v.state.retry))
	for {
		left, err := v.state.body.run(v)
		if err == nil {
			return left, nil
		}
		if v.ctx.Err() != nil {
			return step{}, context.Cause(v.ctx)
		}
		failed := AsError(err).clipped()
		i := slices.IndexFunc(v.state.retry, func(r retrier) bool { return failed.matches(r.errorEquals) })
		if i < 0 || used[i] >= v.state.retry[i].attempts {
			return v.caught(failed)
		}
		delay := v.state.retry[i].delay(used[i], v.random)
		used[i]++
		v.retries++
		if err := v.host.Clock().Sleep(v.ctx, delay); err != nil {
			return step{}, context.Cause(v.ctx)
		}
	}
}

// caught hands failed to the first catcher that names it, or returns it.
func (v *visit) caught(failed *Error) (step, error) {
	for _, c := range v.state.catch {
		if failed.matches(c.errorEquals) {
			return v.through(c.clause, failed.output(), map[string]any{"errorOutput": failed.output()})
		}
	}
	return step{}, failed
}

// through evaluates what a clause says about leaving: otherwise is the output if
// it says none, extra what $states has besides input and context.
func (v *visit) through(c clause, otherwise any, extra map[string]any) (step, error) {
	left := step{next: c.next, output: otherwise}
	if c.output != nil {
		out, err := v.evaluate(c.output, extra)
		if err != nil {
			return step{}, err
		}
		left.output = out
	}
	for _, name := range slices.Sorted(maps.Keys(c.assign)) {
		value, err := v.evaluate(c.assign[name], extra)
		if err != nil {
			return step{}, err
		}
		if _, err := payload("the variable "+name, value); err != nil {
			return step{}, err
		}
		if left.assigned == nil {
			left.assigned = map[string]any{}
		}
		left.assigned[name] = value
	}
	if _, err := payload("the output of the state "+v.state.name, left.output); err != nil {
		return step{}, err
	}
	return left, nil
}

// leave takes the variables over and records the end of the visit.
func (v *visit) leave(left step) error {
	maps.Copy(v.scope.vars, left.assigned)
	if v.state.typ == "Fail" {
		return nil
	}
	raw, err := payload("the output of the state "+v.state.name, left.output)
	if err != nil {
		return err
	}
	details := &types.StateExitedEventDetails{
		Name: aws.String(v.state.name), Output: aws.String(string(raw)), OutputDetails: &types.HistoryEventExecutionDataDetails{},
	}
	for name, value := range left.assigned {
		raw, err := encode(value)
		if err != nil {
			return err
		}
		if details.AssignedVariables == nil {
			details.AssignedVariables = map[string]string{}
			details.AssignedVariablesDetails = &types.AssignedVariablesDetails{}
		}
		details.AssignedVariables[name] = string(raw)
	}
	return v.record(types.HistoryEvent{
		Type: types.HistoryEventType(v.state.typ + "StateExited"), StateExitedEventDetails: details,
	})
}

// evaluate builds a template's value. A failure is recorded in the history.
func (v *visit) evaluate(t *template, extra map[string]any) (any, error) {
	variables := v.scope.visible()
	states := map[string]any{"input": v.input, "context": v.contextObject()}
	maps.Copy(states, extra)
	variables["states"] = states
	now := v.host.Clock().Now()

	return t.build(func(e *Expression, path string) (any, error) {
		result, err := e.eval(variables, now, v.random)
		if err == nil {
			return result, nil
		}
		failed := AsError(err)
		failed = &Error{Name: failed.Name, Cause: fmt.Sprintf("At %s: %s", path, failed.Cause)}
		return nil, v.failedEvaluation(failed, path)
	})
}

func (v *visit) failedEvaluation(failed *Error, path string) error {
	err := v.record(types.HistoryEvent{
		Type: types.HistoryEventTypeEvaluationFailed,
		EvaluationFailedEventDetails: &types.EvaluationFailedEventDetails{
			State: aws.String(v.state.name), Error: aws.String(failed.Name), Cause: aws.String(failed.clipped().Cause),
			Location: aws.String(path),
		},
	})
	if err != nil {
		return err
	}
	return failed
}

// mismatch is the error of an expression whose value has the wrong type.
func (v *visit) mismatch(t *template, want string, got any) error {
	return v.failedEvaluation(&Error{
		Name:  ErrQueryEvaluation,
		Cause: fmt.Sprintf("At %s: the expression must return %s, not %s", t.path, want, kindOf(got)),
	}, t.path)
}

// whole evaluates a template to a whole number within limits; absent is
// otherwise.
func (v *visit) whole(t *template, otherwise, least, most int) (int, error) {
	if t == nil {
		return otherwise, nil
	}
	got, err := v.evaluate(t, nil)
	if err != nil {
		return 0, err
	}
	n, ok := got.(float64)
	if !ok || n != float64(int(n)) || int(n) < least || int(n) > most {
		want := fmt.Sprintf("a whole number between %d and %d", least, most)
		if ok {
			return 0, v.mismatch(t, want+fmt.Sprintf(" (it is %v)", n), got)
		}
		return 0, v.mismatch(t, want, got)
	}
	return int(n), nil
}

// argumentsOrInput evaluates Arguments; without it, the input takes its place.
func (v *visit) argumentsOrInput() (any, error) {
	if v.state.arguments == nil {
		return v.input, nil
	}
	return v.evaluate(v.state.arguments, nil)
}
