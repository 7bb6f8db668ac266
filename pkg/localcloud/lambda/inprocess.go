package lambda

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/aws/aws-lambda-go/lambda/messages"
	"github.com/aws/aws-lambda-go/lambdacontext"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/lambda/native"
)

// inProcess runs a Go handler on a goroutine of the clock, which also times it
// out.
func (s *Service) inProcess(ctx context.Context, f *function, id string, payload []byte) (native.Outcome, error) {
	inner, cancel := context.WithCancel(lambdacontext.NewContext(ctx, &lambdacontext.LambdaContext{
		AwsRequestID: id, InvokedFunctionArn: f.config.ARN,
	}))
	defer cancel()
	var (
		begun = time.Now()
		out   native.Outcome
		done  = make(chan struct{})
	)
	s.config.Clock.Go(func() {
		defer close(done)
		out = handle(clock.Working(inner), f.handler, payload)
	})
	err := s.config.Clock.Wait(ctx, done, f.config.Timeout)
	switch {
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		return failed("Sandbox.Timedout", fmt.Sprintf("RequestId: %s Error: Task timed out after %.2f seconds", id, f.config.Timeout.Seconds())), nil
	case err != nil:
		return native.Outcome{}, err
	}
	out.Duration = time.Since(begun)
	if len(out.Payload) > native.MaxResponse {
		return failed("Function.ResponseSizeTooLarge",
			fmt.Sprintf("Response payload size exceeded maximum allowed payload size (%d bytes).", native.MaxResponse)), nil
	}
	return out, nil
}

// handle calls a handler, and converts errors and panics like aws-lambda-go in a
// process.
func handle(ctx context.Context, h Handler, payload []byte) (out native.Outcome) {
	defer func() {
		if p := recover(); p != nil {
			out = failed(typeName(p), fmt.Sprint(p))
		}
	}()
	answer, err := h(ctx, payload)
	if err == nil {
		return native.Outcome{Payload: answer}
	}
	var own messages.InvokeResponse_Error
	if e, ok := any(err).(messages.InvokeResponse_Error); ok { // like aws-lambda-go: by value and not wrapped
		own = e
	} else {
		own = messages.InvokeResponse_Error{Type: typeName(err), Message: err.Error()}
	}
	return failed(own.Type, own.Message)
}

func typeName(v any) string {
	t := reflect.TypeOf(v)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Name()
}

func failed(errorType, message string) native.Outcome {
	raw, err := json.Marshal(messages.InvokeResponse_Error{Type: errorType, Message: message})
	if err != nil { // strings can always be marshalled
		raw = []byte(`{"errorType":"Runtime.Unknown"}`)
	}
	return native.Outcome{Payload: raw, FunctionError: "Unhandled"}
}
