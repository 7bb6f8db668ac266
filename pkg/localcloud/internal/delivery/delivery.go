// Package delivery retries deliveries from one service of the embedded AWS to
// another, like EventBridge and its Scheduler.
package delivery

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
)

// Defaults without a retry policy
// (https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-retry-policy.html).
const (
	defaultAge      = 24 * time.Hour
	defaultAttempts = 185
)

// The pause before the first retry, and the longest pause; each is twice the
// previous one. AWS documents that they grow exponentially, but not their
// length.
const (
	firstPause   = time.Second
	longestPause = 10 * time.Minute
)

// Policy limits retries. A nil field has AWS's default.
type Policy struct {
	MaximumAge     *int32 // seconds
	MaximumRetries *int32
}

// Result of a delivery.
type Result struct {
	Err       error // of the last attempt; nil if it was delivered
	Retries   int
	Exhausted string // which limit of the policy was reached; empty if a retry would not have helped
}

// Run calls try, with the number of the attempt from 1 on, until it succeeds, a
// retry could not help, the policy is exhausted or ctx ends.
func Run(ctx context.Context, c clock.Clock, p Policy, try func(number int) error) Result {
	age, retries := defaultAge, defaultAttempts
	if p.MaximumAge != nil {
		age = time.Duration(*p.MaximumAge) * time.Second
	}
	if p.MaximumRetries != nil {
		retries = int(*p.MaximumRetries)
	}
	begun, pause := c.Now(), firstPause
	for number := 1; ; number++ {
		out := Result{Err: try(number), Retries: number - 1}
		switch {
		case out.Err == nil || ctx.Err() != nil || !mayPass(out.Err):
			return out
		case number > retries:
			out.Exhausted = "MaximumRetryAttempts"
			return out
		case c.Now().Add(pause).Sub(begun) > age:
			out.Exhausted = "MaximumEventAgeInSeconds"
			return out
		}
		if c.Sleep(ctx, pause) != nil {
			return out
		}
		pause = min(2*pause, longestPause)
	}
}

// mayPass reports whether a failed call may succeed later: after throttling or a
// fault of a service, but not if a target or permission is missing.
func mayPass(err error) bool {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return true
	}
	code := api.ErrorCode()
	return api.ErrorFault() == smithy.FaultServer || strings.Contains(code, "TooManyRequests") || strings.Contains(code, "Throttl") ||
		strings.HasPrefix(code, "ServiceUnavailable") || code == "RequestLimitExceeded"
}

// Attributes returns the attributes of a dead letter: the given ones that are
// not empty, and how the delivery failed.
func (r Result) Attributes(given map[string]string) map[string]types.MessageAttributeValue {
	out := map[string]types.MessageAttributeValue{}
	add := func(name, value string) {
		if value != "" {
			out[name] = types.MessageAttributeValue{DataType: aws.String("String"), StringValue: aws.String(value)}
		}
	}
	for name, value := range given {
		add(name, value)
	}
	code, message := "InternalFailure", r.Err.Error()
	var api smithy.APIError
	if errors.As(r.Err, &api) {
		code, message = api.ErrorCode(), api.ErrorMessage()
	}
	add("ERROR_CODE", code)
	add("ERROR_MESSAGE", message)
	add("EXHAUSTED_RETRY_CONDITION", r.Exhausted)
	return out
}
