package asl

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
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
	before    int64  // id of the event before the entry
	event     int64  // id of the entry's event
	retries   int    // $states.context.State.RetryCount
	taskToken string // of the current attempt, or empty
}

// visit enters a state, retries it according to Retry, applies Catch, and leaves
// it.
func (s *strand) visit(ctx context.Context, st *state, input any) (step, error) {
	v := &visit{strand: s, ctx: ctx, state: st, input: input, entered: s.host.Clock().Now(), before: s.last}
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
	v.event, s.in = s.last, st
	left, err := v.attempts()
	if err != nil {
		return step{}, err
	}
	s.in = nil
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
		if err := v.pause(func() error { return v.host.Clock().Sleep(v.ctx, delay) }); err != nil {
			return step{}, context.Cause(v.ctx)
		}
	}
}

// caught applies the first catcher that matches failed, or returns failed.
func (v *visit) caught(failed *Error) (step, error) {
	if v.state.typ == "Map" || v.state.typ == "Parallel" {
		if err := v.record(types.HistoryEvent{Type: types.HistoryEventType(v.state.typ + "StateFailed")}); err != nil {
			return step{}, err
		}
	}
	for _, c := range v.state.catch {
		if failed.matches(c.errorEquals) {
			return v.through(c.clause, failed.output(), map[string]any{"errorOutput": failed.output()})
		}
	}
	return step{}, failed
}

// through evaluates a clause. otherwise is the output if the clause has none;
// extra has the values of $states other than input and context.
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

// leave sets the variables and records the end of the visit.
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
		field := v.field(path)
		return nil, v.failedEvaluation(fmt.Sprintf("The JSONata expression '%s' specified for the field '%s' %s", e.source, field, err), field, v.evaluating())
	})
}

// field returns a path within the state, such as Arguments/Payload.
func (v *visit) field(path string) string {
	return strings.TrimPrefix(strings.TrimPrefix(path, v.state.path), "/")
}

// evaluating returns the event that a failed evaluation follows. AWS evaluates
// the fields of a state's entry before it enters the state.
func (v *visit) evaluating() int64 {
	if v.last == v.event {
		return v.before
	}
	return v.last
}

// failedEvaluation records why a field of the state has no value, and returns
// the error. why is AWS's text after the name of the state.
func (v *visit) failedEvaluation(why, field string, previous int64) error {
	failed := (&Error{
		Name:  ErrQueryEvaluation,
		Cause: fmt.Sprintf("An error occurred while executing the state '%s' (entered at the event id #%d). %s", v.state.name, v.event, why),
	}).clipped()
	id, err := v.aside(types.HistoryEvent{
		Type: types.HistoryEventTypeEvaluationFailed,
		EvaluationFailedEventDetails: &types.EvaluationFailedEventDetails{
			State: aws.String(v.state.name), Error: aws.String(failed.Name), Cause: aws.String(failed.Cause), Location: orAbsent(field),
		},
	}, previous)
	if err != nil {
		return err
	}
	v.last = id
	return failed
}

// mismatch returns the error for a value of the wrong type.
func (v *visit) mismatch(t *template, want string, got any) error {
	raw, err := encode(got)
	if err != nil {
		return err
	}
	why := fmt.Sprintf("returned an unexpected result type. Expected '%s', but was '%s' for value: %s", want, typeOf(got), raw)
	return v.failedEvaluation(v.expression(t)+" "+why, v.field(t.path), v.evaluating())
}

// beyond returns the error for a value outside its limits.
func (v *visit) beyond(t *template, want string, got any) error {
	raw, err := encode(got)
	if err != nil {
		return err
	}
	return v.failedEvaluation(fmt.Sprintf("%s returned a value that is not %s: %s", v.expression(t), want, raw), v.field(t.path), v.evaluating())
}

func (v *visit) expression(t *template) string {
	return fmt.Sprintf("The JSONata expression '%s' specified for the field '%s'", t.source, v.field(t.path))
}

// whole evaluates a template to a whole number within limits. A nil template
// gives otherwise.
func (v *visit) whole(t *template, otherwise, least, most int) (int, error) {
	if t == nil {
		return otherwise, nil
	}
	got, err := v.evaluate(t, nil)
	if err != nil {
		return 0, err
	}
	n, ok := got.(float64)
	if !ok {
		return 0, v.mismatch(t, "number", got)
	}
	if n != float64(int(n)) || int(n) < least || int(n) > most {
		return 0, v.beyond(t, fmt.Sprintf("a whole number between %d and %d", least, most), got)
	}
	return int(n), nil
}

// argumentsOrInput evaluates Arguments, or returns the input if there is none.
func (v *visit) argumentsOrInput() (any, error) {
	if v.state.arguments == nil {
		return v.input, nil
	}
	return v.evaluate(v.state.arguments, nil)
}
