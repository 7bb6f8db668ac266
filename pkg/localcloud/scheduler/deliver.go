package scheduler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	ebtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// What a schedule without a retry policy has
// (https://docs.aws.amazon.com/scheduler/latest/APIReference/API_RetryPolicy.html).
const (
	defaultAge      = 24 * time.Hour
	defaultAttempts = 185
)

// The pause before the first retry and the longest one; each is twice the one
// before. AWS says that they grow exponentially, not how long they are.
const (
	firstPause   = time.Second
	longestPause = 10 * time.Minute
)

// occurrence is a schedule whose time has come.
type occurrence struct {
	schedule schedule
	time     time.Time // that it was scheduled for
	last     bool      // it will not come again
}

// attempt is one call of a target.
type attempt struct {
	occurrence
	number int    // 1 for the first
	id     string // of the execution
	// request is what the target was asked, for the dead letter queue.
	request []byte
}

// deliver calls the target until it takes the call or the retry policy is
// exhausted, and then tells the dead letter queue.
func (s *Service) deliver(ctx context.Context, o occurrence) {
	defer s.complete(o)
	age, retries := defaultAge, defaultAttempts
	if p := o.schedule.Settings.Target.RetryPolicy; p != nil {
		if p.MaximumEventAgeInSeconds != nil {
			age = time.Duration(*p.MaximumEventAgeInSeconds) * time.Second
		}
		if p.MaximumRetryAttempts != nil {
			retries = int(*p.MaximumRetryAttempts)
		}
	}
	begun, pause := s.cfg.Clock.Now(), firstPause
	for number := 1; ; number++ {
		a := attempt{occurrence: o, number: number, id: scope.Hex(16)}
		err := s.try(ctx, &a)
		if err == nil || ctx.Err() != nil {
			return
		}
		exhausted := ""
		switch {
		case !mayPass(err):
		case number > retries:
			exhausted = "MaximumRetryAttempts"
		case s.cfg.Clock.Now().Add(pause).Sub(begun) > age:
			exhausted = "MaximumEventAgeInSeconds"
		default:
			s.cfg.Logger.Info("a schedule's target did not take the call, which is tried again", "schedule", o.schedule.ARN, "attempt", number, "error", err)
			if s.cfg.Clock.Sleep(ctx, pause) != nil {
				return
			}
			pause = min(2*pause, longestPause)
			continue
		}
		s.cfg.Logger.Warn("a schedule's target could not be called", "schedule", o.schedule.ARN, "attempts", number, "error", err)
		s.bury(ctx, a, exhausted, err)
		return
	}
}

// mayPass says whether a call that failed may succeed a moment later: throttling
// and faults of a service may; a missing target or permission stays missing.
func mayPass(err error) bool {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return true
	}
	code := api.ErrorCode()
	return api.ErrorFault() == smithy.FaultServer || strings.Contains(code, "TooManyRequests") || strings.Contains(code, "Throttl") ||
		strings.HasPrefix(code, "ServiceUnavailable") || code == "RequestLimitExceeded"
}

// session is a context whose calls are those of the schedule's role, in a region.
func (s *Service) session(ctx context.Context, one schedule, region string) (context.Context, error) {
	at := wire.Caller{Account: one.At.Account, Region: one.At.Region}
	if s.cfg.Assume == nil {
		at.Region = region
		return wire.WithCaller(ctx, at), nil
	}
	ctx, err := s.cfg.Assume(ctx, at, aws.ToString(one.Settings.Target.RoleArn), one.ARN)
	if err != nil {
		return nil, err
	}
	who, _ := wire.CallerFrom(ctx)
	who.Region = region
	return wire.WithCaller(ctx, who), nil
}

// try calls the target once.
func (s *Service) try(ctx context.Context, a *attempt) error {
	t := a.schedule.Settings.Target
	parts := strings.Split(aws.ToString(t.Arn), ":")
	ctx, err := s.session(ctx, a.schedule, parts[3])
	if err != nil {
		return err
	}
	input, err := a.input()
	if err != nil {
		return err
	}
	switch parts[2] {
	case "lambda":
		in := &lambda.InvokeInput{FunctionName: t.Arn, InvocationType: lambdatypes.InvocationTypeEvent, Payload: []byte(input)}
		a.asks(map[string]any{"FunctionName": in.FunctionName, "InvocationType": in.InvocationType, "Payload": input})
		_, err = s.cfg.Functions.Invoke(ctx, in)
	case "states":
		in := &sfn.StartExecutionInput{StateMachineArn: t.Arn, Input: &input}
		a.asks(map[string]any{"StateMachineArn": t.Arn, "Input": input})
		_, err = s.cfg.StateMachines.StartExecution(ctx, in)
	case "sns":
		a.asks(map[string]any{"TopicArn": t.Arn, "Message": input})
		_, err = s.cfg.Topics.Publish(ctx, &sns.PublishInput{TopicArn: t.Arn, Message: &input})
	case "sqs":
		url, _, _ := scope.QueueURL(*t.Arn) // checked when the schedule was made
		a.asks(map[string]any{"QueueUrl": url, "MessageBody": input})
		_, err = s.cfg.Queues.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: &url, MessageBody: &input})
	case "events":
		p := t.EventBridgeParameters
		a.asks(map[string]any{"Entries": []map[string]any{{"EventBusName": t.Arn, "Source": p.Source, "DetailType": p.DetailType, "Detail": input}}})
		err = s.putEvent(ctx, ebtypes.PutEventsRequestEntry{EventBusName: t.Arn, Source: p.Source, DetailType: p.DetailType, Detail: &input, Time: &a.time})
	}
	return err
}

func (s *Service) putEvent(ctx context.Context, entry ebtypes.PutEventsRequestEntry) error {
	out, err := s.cfg.Buses.PutEvents(ctx, &eventbridge.PutEventsInput{Entries: []ebtypes.PutEventsRequestEntry{entry}})
	if err != nil || out.FailedEntryCount == 0 {
		return err
	}
	return wire.Errorf(aws.ToString(out.Entries[0].ErrorCode), "%s", aws.ToString(out.Entries[0].ErrorMessage))
}

func (a *attempt) asks(request map[string]any) {
	a.request, _ = json.Marshal(request) // texts marshal
}

const timeFormat = "2006-01-02T15:04:05Z"

// input is what the target gets, with the context attributes filled in
// (https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-schedule-context-attributes.html).
func (a *attempt) input() (string, error) {
	one := a.schedule
	if one.Settings.Target.Input != nil {
		return strings.NewReplacer(
			"<aws.scheduler.schedule-arn>", one.ARN, "<aws.scheduler.scheduled-time>", a.time.UTC().Format(timeFormat),
			"<aws.scheduler.execution-id>", a.id, "<aws.scheduler.attempt-number>", strconv.Itoa(a.number),
		).Replace(*one.Settings.Target.Input), nil
	}
	raw, err := json.Marshal(map[string]any{
		"version": "0", "id": a.id, "detail-type": "Scheduled Event", "source": "aws.scheduler", "account": one.At.Account, "region": one.At.Region,
		"time": a.time.UTC().Format(timeFormat), "resources": []string{one.ARN}, "detail": "{}",
	})
	return string(raw), err
}

// bury sends what could not be delivered to the dead letter queue
// (https://docs.aws.amazon.com/scheduler/latest/UserGuide/configuring-schedule-dlq.html).
func (s *Service) bury(ctx context.Context, a attempt, exhausted string, failure error) {
	if err := s.sendDead(ctx, a, exhausted, failure); err != nil {
		s.cfg.Logger.Error("lost: the dead letter queue of a schedule did not take what could not be delivered", "schedule", a.schedule.ARN, "error", err)
	}
}

func (s *Service) sendDead(ctx context.Context, a attempt, exhausted string, failure error) error {
	dead := a.schedule.Settings.Target.DeadLetterConfig
	if dead == nil || aws.ToString(dead.Arn) == "" {
		return nil
	}
	url, of, err := scope.QueueURL(*dead.Arn)
	if err != nil {
		return err
	}
	if ctx, err = s.session(ctx, a.schedule, of.Region); err != nil {
		return err
	}
	code, message := "InternalFailure", failure.Error()
	var api smithy.APIError
	if errors.As(failure, &api) {
		code, message = api.ErrorCode(), api.ErrorMessage()
	}
	attributes := map[string]string{
		"ERROR_CODE": code, "ERROR_MESSAGE": message, "EXECUTION_ID": a.id, "EXHAUSTED_RETRY_CONDITION": exhausted, "IS_PAYLOAD_TRUNCATED": "false",
		"RETRY_ATTEMPTS": strconv.Itoa(a.number - 1), "SCHEDULED_TIME": a.time.UTC().Format(timeFormat), "SCHEDULE_ARN": a.schedule.ARN,
		"TARGET_ARN": aws.ToString(a.schedule.Settings.Target.Arn),
	}
	in := &sqs.SendMessageInput{QueueUrl: &url, MessageBody: aws.String(string(a.request)), MessageAttributes: map[string]sqstypes.MessageAttributeValue{}}
	if len(a.request) == 0 { // it was not even asked
		in.MessageBody = aws.String("{}")
	}
	for name, value := range attributes {
		if value != "" {
			in.MessageAttributes[name] = sqstypes.MessageAttributeValue{DataType: aws.String("String"), StringValue: aws.String(value)}
		}
	}
	if _, err := s.cfg.Queues.SendMessage(ctx, in); err != nil {
		return fmt.Errorf("%s: %w", *dead.Arn, err)
	}
	return nil
}
