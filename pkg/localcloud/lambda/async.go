package lambda

import (
	"context"
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
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// Defaults of asynchronous invocations
// (https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html).
const (
	defaultEventAge = 6 * time.Hour
	mostRetries     = 2
)

// The first and the longest pause before a throttled event is tried again.
const (
	firstThrottle   = time.Second
	longestThrottle = 5 * time.Minute
)

// asyncRetries returns the pauses before the second and third attempt of a
// failed asynchronous invocation.
func asyncRetries() [mostRetries]time.Duration {
	return [mostRetries]time.Duration{time.Minute, 2 * time.Minute}
}

// eventConfig configures asynchronous invocations of a function.
type eventConfig struct {
	MaximumAge           *int32 // seconds
	MaximumRetries       *int32
	OnFailure, OnSuccess string // ARNs, or empty
	Modified             time.Time
}

// event is an asynchronous invocation.
type event struct {
	function *function
	config   eventConfig
	id       string
	payload  []byte
	calls    int
	last     native.Outcome
}

// enqueue runs a function in the background, and again after a failure.
func (s *Service) enqueue(f *function, payload []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return &types.ServiceException{Message: aws.String("The embedded AWS is stopping."), Type: aws.String("Server")}
	}
	e := &event{function: f, id: uuid.NewString(), payload: payload}
	if f.config.Events != nil {
		e.config = *f.config.Events
	}
	ctx := wire.WithCaller(s.ctx, wire.Caller{Account: f.key.Account, Region: f.key.Region, ARN: f.config.Role})
	s.async.Add(1)
	s.config.Clock.Go(func() {
		defer s.async.Done()
		condition, destination := "Success", e.config.OnSuccess
		if failed := s.handle(ctx, e); failed != "" {
			condition, destination = failed, e.config.OnFailure
		}
		if ctx.Err() == nil {
			s.report(ctx, e, condition, destination)
		}
	})
	return nil
}

// handle invokes the function until it succeeds, and otherwise returns why it
// gave up.
func (s *Service) handle(ctx context.Context, e *event) (failed string) {
	age, retries := defaultEventAge, mostRetries
	if n := e.config.MaximumAge; n != nil {
		age = time.Duration(*n) * time.Second
	}
	if n := e.config.MaximumRetries; n != nil {
		retries = int(*n)
	}
	end, throttle := s.config.Clock.Now().Add(age), firstThrottle
	for {
		out, err := s.call(ctx, e.function, e.id, e.payload)
		var throttled *types.TooManyRequestsException
		if err == nil && out.FunctionError == "" {
			e.calls, e.last = e.calls+1, out
			return ""
		}
		pause := throttle
		if errors.As(err, &throttled) { // a throttled call does not count as an attempt
			throttle = min(2*throttle, longestThrottle)
		} else {
			e.calls, e.last = e.calls+1, out
			s.config.Logger.Warn("an asynchronous invocation failed", "function", e.function.config.Name, "attempt", e.calls, "error", err, "payload", string(out.Payload))
			if e.calls > retries {
				return "RetriesExhausted"
			}
			pause = asyncRetries()[e.calls-1]
		}
		if s.config.Clock.Now().Add(pause).After(end) {
			return "EventAgeExceeded"
		}
		if s.config.Clock.Sleep(ctx, pause) != nil {
			return "EventAgeExceeded" // the service is closing; nothing is reported then
		}
	}
}

// record is the record that a destination receives
// (https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html).
type record struct {
	Version         string          `json:"version"`
	Timestamp       string          `json:"timestamp"`
	RequestContext  requestContext  `json:"requestContext"`
	RequestPayload  json.RawMessage `json:"requestPayload"`
	ResponseContext responseContext `json:"responseContext"`
	ResponsePayload json.RawMessage `json:"responsePayload,omitempty"`
}

type requestContext struct {
	RequestID              string `json:"requestId"`
	FunctionARN            string `json:"functionArn"`
	Condition              string `json:"condition"`
	ApproximateInvokeCount int    `json:"approximateInvokeCount"`
}

type responseContext struct {
	StatusCode      int    `json:"statusCode"`
	ExecutedVersion string `json:"executedVersion"`
	FunctionError   string `json:"functionError,omitempty"`
}

// report sends the result of an event to a destination.
func (s *Service) report(ctx context.Context, e *event, condition, destination string) {
	if destination == "" {
		return
	}
	c := e.function.config
	raw, err := json.Marshal(record{
		Version: "1.0", Timestamp: s.config.Clock.Now().UTC().Format("2006-01-02T15:04:05.000Z"),
		RequestContext:  requestContext{RequestID: e.id, FunctionARN: c.ARN + ":$LATEST", Condition: condition, ApproximateInvokeCount: e.calls},
		RequestPayload:  e.payload,
		ResponseContext: responseContext{StatusCode: 200, ExecutedVersion: "$LATEST", FunctionError: e.last.FunctionError}, ResponsePayload: e.last.Payload,
	})
	if err == nil {
		err = s.config.Destination(ctx, wire.Caller{Account: e.function.key.Account, Region: e.function.key.Region, Source: e.function.config.ARN}, c.Role, destination, raw)
	}
	if err != nil {
		s.config.Logger.Error("the record of an asynchronous invocation is lost: its destination did not accept it", "function", c.Name, "destination", destination, "error", err)
	}
}

// PutFunctionEventInvokeConfig implements the method of awslambda.Client.
// Omitted settings get their defaults.
func (s *Service) PutFunctionEventInvokeConfig(ctx context.Context, in *awslambda.PutFunctionEventInvokeConfigInput, optFns ...func(*awslambda.Options)) (*awslambda.PutFunctionEventInvokeConfigOutput, error) {
	out, err := s.configureEvents(s.caller(ctx, optFns), aws.ToString(in.FunctionName), in.Qualifier, func(c *eventConfig) {
		*c = eventConfig{MaximumAge: in.MaximumEventAgeInSeconds, MaximumRetries: in.MaximumRetryAttempts}
		c.setDestinations(in.DestinationConfig)
	})
	if err != nil {
		return nil, err
	}
	return &awslambda.PutFunctionEventInvokeConfigOutput{
		FunctionArn: out.FunctionArn, LastModified: out.LastModified, DestinationConfig: out.DestinationConfig,
		MaximumEventAgeInSeconds: out.MaximumEventAgeInSeconds, MaximumRetryAttempts: out.MaximumRetryAttempts,
	}, nil
}

// UpdateFunctionEventInvokeConfig implements the method of awslambda.Client.
// Omitted settings do not change.
func (s *Service) UpdateFunctionEventInvokeConfig(ctx context.Context, in *awslambda.UpdateFunctionEventInvokeConfigInput, optFns ...func(*awslambda.Options)) (*awslambda.UpdateFunctionEventInvokeConfigOutput, error) {
	out, err := s.configureEvents(s.caller(ctx, optFns), aws.ToString(in.FunctionName), in.Qualifier, func(c *eventConfig) {
		if in.MaximumEventAgeInSeconds != nil {
			c.MaximumAge = in.MaximumEventAgeInSeconds
		}
		if in.MaximumRetryAttempts != nil {
			c.MaximumRetries = in.MaximumRetryAttempts
		}
		if in.DestinationConfig != nil {
			c.setDestinations(in.DestinationConfig)
		}
	})
	if err != nil {
		return nil, err
	}
	return &awslambda.UpdateFunctionEventInvokeConfigOutput{
		FunctionArn: out.FunctionArn, LastModified: out.LastModified, DestinationConfig: out.DestinationConfig,
		MaximumEventAgeInSeconds: out.MaximumEventAgeInSeconds, MaximumRetryAttempts: out.MaximumRetryAttempts,
	}, nil
}

func (c *eventConfig) setDestinations(d *types.DestinationConfig) {
	c.OnFailure, c.OnSuccess = "", ""
	if d == nil {
		return
	}
	if d.OnFailure != nil {
		c.OnFailure = aws.ToString(d.OnFailure.Destination)
	}
	if d.OnSuccess != nil {
		c.OnSuccess = aws.ToString(d.OnSuccess.Destination)
	}
}

// configureEvents changes the configuration of a function.
func (s *Service) configureEvents(who wire.Caller, name string, qualifier *string, change func(*eventConfig)) (types.FunctionEventInvokeConfig, error) {
	f, err := s.find(qualified(&name, qualifier), who)
	if err != nil {
		return types.FunctionEventInvokeConfig{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var c eventConfig
	if f.config.Events != nil {
		c = *f.config.Events
	}
	change(&c)
	if err := s.checkEvents(c); err != nil {
		return types.FunctionEventInvokeConfig{}, err
	}
	c.Modified = s.config.Clock.Now()
	f.config.Events = &c
	return f.describeEvents(), nil
}

func (s *Service) checkEvents(c eventConfig) error {
	if n := c.MaximumAge; n != nil && (*n < 60 || *n > 21600) {
		return invalid("MaximumEventAgeInSeconds %d is not between 60 and 21600", *n)
	}
	if n := c.MaximumRetries; n != nil && (*n < 0 || *n > mostRetries) {
		return invalid("MaximumRetryAttempts %d is not between 0 and %d", *n, mostRetries)
	}
	for _, arn := range []string{c.OnFailure, c.OnSuccess} {
		if arn == "" {
			continue
		}
		parts := strings.Split(arn, ":")
		known := len(parts) >= 6 && parts[0] == "arn" && (parts[2] == "sqs" || parts[2] == "sns" || parts[2] == "lambda" || parts[2] == "events")
		if !known || s.config.Destination == nil {
			return invalid("The provided destination %s is invalid: the ARN of a queue, a topic, a function or an event bus is expected", arn)
		}
	}
	return nil
}

// describeEvents returns the configuration in the API's form. The caller holds
// the service's mu.
func (f *function) describeEvents() types.FunctionEventInvokeConfig {
	c := f.config.Events
	out := types.FunctionEventInvokeConfig{
		FunctionArn: aws.String(f.config.ARN + ":$LATEST"), LastModified: aws.Time(c.Modified), MaximumEventAgeInSeconds: c.MaximumAge, MaximumRetryAttempts: c.MaximumRetries,
		DestinationConfig: &types.DestinationConfig{OnFailure: &types.OnFailure{Destination: orNil(c.OnFailure)}, OnSuccess: &types.OnSuccess{Destination: orNil(c.OnSuccess)}},
	}
	return out
}

func noEvents(f *function) error {
	return notFound(fmt.Sprintf("The function %s:$LATEST doesn't have an EventInvokeConfig", f.config.ARN))
}

// GetFunctionEventInvokeConfig implements the method of awslambda.Client.
func (s *Service) GetFunctionEventInvokeConfig(ctx context.Context, in *awslambda.GetFunctionEventInvokeConfigInput, optFns ...func(*awslambda.Options)) (*awslambda.GetFunctionEventInvokeConfigOutput, error) {
	f, err := s.find(qualified(in.FunctionName, in.Qualifier), s.caller(ctx, optFns))
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.config.Events == nil {
		return nil, noEvents(f)
	}
	out := f.describeEvents()
	return &awslambda.GetFunctionEventInvokeConfigOutput{
		FunctionArn: out.FunctionArn, LastModified: out.LastModified, DestinationConfig: out.DestinationConfig,
		MaximumEventAgeInSeconds: out.MaximumEventAgeInSeconds, MaximumRetryAttempts: out.MaximumRetryAttempts,
	}, nil
}

// DeleteFunctionEventInvokeConfig implements the method of awslambda.Client.
func (s *Service) DeleteFunctionEventInvokeConfig(ctx context.Context, in *awslambda.DeleteFunctionEventInvokeConfigInput, optFns ...func(*awslambda.Options)) (*awslambda.DeleteFunctionEventInvokeConfigOutput, error) {
	f, err := s.find(qualified(in.FunctionName, in.Qualifier), s.caller(ctx, optFns))
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.config.Events == nil {
		return nil, noEvents(f)
	}
	f.config.Events = nil
	return &awslambda.DeleteFunctionEventInvokeConfigOutput{}, nil
}

// ListFunctionEventInvokeConfigs implements the method of awslambda.Client.
func (s *Service) ListFunctionEventInvokeConfigs(ctx context.Context, in *awslambda.ListFunctionEventInvokeConfigsInput, optFns ...func(*awslambda.Options)) (*awslambda.ListFunctionEventInvokeConfigsOutput, error) {
	f, err := s.find(aws.ToString(in.FunctionName), s.caller(ctx, optFns))
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := &awslambda.ListFunctionEventInvokeConfigsOutput{FunctionEventInvokeConfigs: []types.FunctionEventInvokeConfig{}}
	if f.config.Events != nil {
		out.FunctionEventInvokeConfigs = append(out.FunctionEventInvokeConfigs, f.describeEvents())
	}
	return out, nil
}
