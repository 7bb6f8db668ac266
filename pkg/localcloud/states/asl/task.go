package asl

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// task is the Task state: it calls a Lambda function or another service.
type task struct {
	resource           string
	integration        integration
	waitForToken       bool
	timeout, heartbeat *template
}

// integration is what a task calls.
type integration interface {
	// name returns AWS's name of the task in errors.
	name() string
	// perform does the work, with Arguments or the input as its request.
	perform(ctx context.Context, v *visit, request any) (result any, err error)
	events
}

var lambdaARN = regexp.MustCompile(`^arn:aws[a-z-]*:lambda:[a-z0-9-]+:\d{12}:function:[A-Za-z0-9_-]+(:[A-Za-z0-9$_-]+)?$`)

// integrationARN matches the resource of a service integration.
var integrationARN = regexp.MustCompile(`^arn:aws[a-z-]*:states:::(.+)$`)

func (p *parser) task(o *object, s *state, _ map[string]bool) body {
	p.transition(o, s)
	p.leaving(o, &s.clause)
	p.policies(o, s)
	s.arguments = o.template("Arguments")
	t := &task{
		resource:  o.text("Resource", true),
		timeout:   o.scalar("TimeoutSeconds", "a number"),
		heartbeat: o.scalar("HeartbeatSeconds", "a number"),
	}
	target := ""
	if m := integrationARN.FindStringSubmatch(t.resource); m != nil {
		target, t.waitForToken = strings.CutSuffix(m[1], ".waitForTaskToken")
	}
	switch {
	case t.resource == "":
	case lambdaARN.MatchString(t.resource):
		t.integration = lambdaFunction{arn: t.resource}
	case target == "lambda:invoke":
		t.integration = lambdaInvoke{serviceEvents{"lambda", withToken("invoke", t.waitForToken)}}
		p.checkInvoke(o)
	case target == "sns:publish" || target == "sqs:sendMessage" || target == "events:putEvents":
		service, action, _ := strings.Cut(target, ":")
		t.integration = serviceCall{serviceEvents{service, withToken(action, t.waitForToken)}, action}
	default:
		o.problems.add(CodeNotSupported, o.at("Resource"),
			"the resource %q is not available here (available: the ARN of a Lambda function, and %[2]slambda:invoke, %[2]ssns:publish, %[2]ssqs:sendMessage and %[2]sevents:putEvents, each also with .waitForTaskToken)", t.resource, "arn:aws:states:::")
	}
	return t
}

func withToken(action string, wait bool) string {
	if wait {
		return action + ".waitForTaskToken"
	}
	return action
}

// checkInvoke reports invalid arguments of lambda:invoke.
func (p *parser) checkInvoke(o *object) {
	arguments, ok := o.fields["Arguments"].(map[string]any)
	if !ok {
		if _, isString := o.fields["Arguments"].(string); !isString {
			p.problems.add(CodeSchema, o.path, "lambda:invoke needs \"Arguments\" with \"FunctionName\"")
		}
		return
	}
	if _, ok := arguments["FunctionName"]; !ok {
		p.problems.add(CodeSchema, o.at("Arguments"), "the required field \"FunctionName\" is missing")
	}
	allowed := map[string]bool{"FunctionName": true, "Payload": true, "InvocationType": true, "ClientContext": true, "Qualifier": true, "LogType": true}
	for _, field := range sortedKeys(arguments) {
		if !allowed[field] {
			p.problems.add(CodeSchema, o.at("Arguments")+"/"+field, "the field %q is not supported by lambda:invoke", field)
		}
	}
}

func (t *task) run(v *visit) (step, error) {
	var callback *Callback
	if t.waitForToken {
		var release func()
		callback, release = v.host.Callback()
		defer release()
		defer callback.abandon()
		v.taskToken = callback.Token
		defer func() { v.taskToken = "" }()
	}
	timeout, err := v.whole(t.timeout, 0, 1, maxSeconds)
	if err != nil {
		return step{}, err
	}
	heartbeat, err := v.whole(t.heartbeat, 0, 1, maxSeconds)
	if err != nil {
		return step{}, err
	}
	request, err := v.argumentsOrInput()
	if err != nil {
		return step{}, err
	}
	raw, err := payload("the arguments of the state "+v.state.name, request)
	if err != nil {
		return step{}, err
	}
	if err := t.integration.scheduled(v, raw, timeout, heartbeat); err != nil {
		return step{}, err
	}
	_ = v.pause(func() error { return nil }) // the tasks of all branches are scheduled before the first one starts
	if err := t.integration.started(v); err != nil {
		return step{}, err
	}
	result, err := t.result(v, request, callback, seconds(timeout), seconds(heartbeat))
	if v.ctx.Err() != nil && !errors.Is(err, errTimedOut) {
		return step{}, context.Cause(v.ctx)
	}
	if err != nil {
		return step{}, t.ended(v, err)
	}
	if raw, err = encode(result); err != nil {
		return step{}, err
	}
	if len(raw) > MaxPayload {
		return step{}, t.ended(v, &Error{
			Name: ErrDataLimitExceeded, kind: tooLarge,
			Cause: fmt.Sprintf("The state/task '%s' returned a result with a size exceeding the maximum number of bytes service limit.", t.integration.name()),
		})
	}
	if err := t.integration.succeeded(v, raw); err != nil {
		return step{}, err
	}
	return v.through(v.state.clause, result, map[string]any{"result": result})
}

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }

// ended records a failure and returns it.
func (t *task) ended(v *visit, err error) error {
	failed := AsError(err).clipped()
	record := t.integration.failed
	if failed.Name == ErrTimeout {
		record = t.integration.timedOut
	}
	if err := record(v, failed); err != nil {
		return err
	}
	return failed
}

// result performs the task within its time-out, and waits for its token if it
// has one.
func (t *task) result(v *visit, request any, callback *Callback, timeout, heartbeat time.Duration) (any, error) {
	clk := v.host.Clock()
	var deadline time.Time
	if timeout > 0 {
		deadline = clk.Now().Add(timeout)
	}
	ctx, cancel := context.WithCancel(v.ctx)
	defer cancel() // cancels a task that has timed out; on AWS it continues to run

	var (
		result any
		err    error
		done   = make(chan struct{})
	)
	clk.Go(func() {
		defer close(done)
		result, err = t.integration.perform(ctx, v, request)
	})
	waited := v.pause(func() error { return clk.Wait(ctx, done, timeout) })
	switch {
	case waited != nil && timeout > 0 && !clk.Now().Before(deadline):
		return nil, errTimedOut // also if another branch timed out at the same time
	case waited != nil:
		return nil, context.Cause(v.ctx)
	case err != nil:
		return nil, err
	case callback == nil:
		return result, nil
	}
	raw, err := payload("the answer to the request of the state "+v.state.name, result)
	if err != nil {
		return nil, err
	}
	if err := t.integration.submitted(v, raw); err != nil {
		return nil, err
	}
	var output []byte
	err = v.pause(func() (err error) {
		output, err = callback.await(v.ctx, clk, deadline, heartbeat)
		return err
	})
	if err != nil {
		return nil, err
	}
	return decode(output)
}
