package lambda

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awslambda "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/google/uuid"

	"github.com/ami-factory/ami-factory/pkg/localcloud/lambda/native"
)

// Limits of payloads, in bytes.
const (
	maxRequest      = 6 * 1024 * 1024
	maxAsyncRequest = 1024 * 1024
	maxLogTail      = 4 * 1024
)

// Invoke implements the method of awslambda.Client.
func (s *Service) Invoke(ctx context.Context, in *awslambda.InvokeInput, optFns ...func(*awslambda.Options)) (*awslambda.InvokeOutput, error) {
	name := aws.ToString(in.FunctionName)
	if in.Qualifier != nil {
		name += ":" + *in.Qualifier
	}
	f, err := s.find(name, s.caller(ctx, optFns))
	if err != nil {
		return nil, err
	}
	kind := orDefault(in.InvocationType, types.InvocationTypeRequestResponse)
	payload, err := checkPayload(in.Payload, kind)
	if err != nil {
		return nil, err
	}
	switch kind {
	case types.InvocationTypeDryRun:
		return &awslambda.InvokeOutput{StatusCode: 204}, nil
	case types.InvocationTypeEvent:
		return &awslambda.InvokeOutput{StatusCode: 202}, s.enqueue(f, payload)
	case types.InvocationTypeRequestResponse:
	default:
		return nil, invalid("the invocation type %q is not RequestResponse, Event or DryRun", kind)
	}
	out, err := s.call(ctx, f, uuid.NewString(), payload)
	if err != nil {
		return nil, err
	}
	answer := &awslambda.InvokeOutput{StatusCode: 200, ExecutedVersion: aws.String("$LATEST"), Payload: out.Payload}
	if out.FunctionError != "" {
		answer.FunctionError = aws.String(out.FunctionError)
	}
	if in.LogType == types.LogTypeTail {
		answer.LogResult = aws.String(base64.StdEncoding.EncodeToString([]byte(tailOf(out.Log))))
	}
	return answer, nil
}

func tailOf(log string) string {
	if len(log) > maxLogTail {
		return log[len(log)-maxLogTail:]
	}
	return log
}

// checkPayload applies the limits. A missing payload becomes an empty object.
func checkPayload(payload []byte, kind types.InvocationType) ([]byte, error) {
	limit := maxRequest
	if kind == types.InvocationTypeEvent {
		limit = maxAsyncRequest
	}
	switch {
	case len(payload) > limit:
		return nil, &types.RequestTooLargeException{
			Message: aws.String(fmt.Sprintf("%d byte payload is too large for the %s invocation type (limit %d bytes)", len(payload), kind, limit)),
			Type:    aws.String("User"),
		}
	case len(payload) == 0:
		return []byte("{}"), nil
	case !json.Valid(payload):
		return nil, &types.InvalidRequestContentException{
			Message: aws.String("Could not parse request body into json: the payload is not JSON"), Type: aws.String("User"),
		}
	}
	return payload, nil
}

// call runs a function once and waits for it. A caller that goes away, such as a
// state whose execution was stopped, does not end the function: it runs to its end or
// its time-out, as on AWS.
func (s *Service) call(ctx context.Context, f *function, id string, payload []byte) (native.Outcome, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return native.Outcome{}, stopping(native.ErrClosed)
	}
	s.running.Add(1)
	s.mu.Unlock()
	release, err := f.admit()
	if err != nil {
		s.running.Done()
		return native.Outcome{}, err
	}
	var (
		out  native.Outcome
		done = make(chan struct{})
	)
	s.config.Clock.Go(func() {
		defer s.running.Done()
		defer close(done)
		defer release()
		alive, cancel := context.WithCancel(context.WithoutCancel(ctx))
		defer cancel()
		defer context.AfterFunc(s.ctx, cancel)()
		out, err = s.run(alive, f, id, payload)
	})
	if err := s.config.Clock.Wait(ctx, done, 0); err != nil {
		return native.Outcome{}, err
	}
	return out, err
}

// run runs a function once, until ctx ends.
func (s *Service) run(ctx context.Context, f *function, id string, payload []byte) (out native.Outcome, err error) {
	if f.handler != nil {
		out, err = s.inProcess(ctx, f, id, payload)
	} else {
		out, err = f.pool.Invoke(ctx, id, payload)
	}
	if errors.Is(err, native.ErrClosed) || err != nil && s.ctx.Err() != nil {
		return out, stopping(err)
	}
	if err != nil {
		return out, err
	}
	f.stats.record(out)
	out.Log = framed(id, f.config, out)
	return out, nil
}

func stopping(err error) error {
	return &types.ServiceException{Message: aws.String("The function was replaced or the embedded AWS is stopping: " + err.Error()), Type: aws.String("Server")}
}

// framed adds Lambda's START, END and REPORT lines to a log.
func framed(id string, c configuration, out native.Outcome) string {
	log := out.Log
	if log != "" && !strings.HasSuffix(log, "\n") {
		log += "\n"
	}
	ms := func(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond)) }
	line := fmt.Sprintf("REPORT RequestId: %s\tDuration: %s\tMemory Size: %d MB", id, ms(out.Duration), c.MemoryMiB)
	if out.Cold {
		line += "\tInit Duration: " + ms(out.Init)
	}
	return fmt.Sprintf("START RequestId: %s Version: $LATEST\n%sEND RequestId: %s\n%s\n", id, log, id, line)
}

// admit applies the reserved concurrency.
func (f *function) admit() (release func(), err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r := f.config.Reserved; r != nil && f.inFlight >= int(*r) {
		return nil, &types.TooManyRequestsException{
			Message: aws.String("Rate Exceeded."), Type: aws.String("User"),
			Reason: types.ThrottleReasonReservedFunctionConcurrentInvocationLimitExceeded,
		}
	}
	f.inFlight++
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.inFlight--
	}, nil
}

// Invoker calls functions by ARN, for Step Functions.
type Invoker struct{ service *Service }

// Invoker returns the service's Invoker.
func (s *Service) Invoker() Invoker { return Invoker{service: s} }

// Invoke runs a function and waits for it. functionError is "Unhandled" if the
// function failed; out is then an object with errorType and errorMessage.
func (i Invoker) Invoke(ctx context.Context, functionARN string, payload []byte) (out []byte, functionError string, err error) {
	answer, err := i.service.Invoke(ctx, &awslambda.InvokeInput{FunctionName: aws.String(functionARN), Payload: payload})
	if err != nil {
		return nil, "", err
	}
	return answer.Payload, aws.ToString(answer.FunctionError), nil
}
