package scheduler

import (
	"context"
	"encoding/json"
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

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/delivery"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// occurrence is one due time of a schedule.
type occurrence struct {
	schedule schedule
	time     time.Time // scheduled time
	last     bool      // there is no later one
}

// attempt is one call of a target.
type attempt struct {
	occurrence
	number int    // 1 for the first
	id     string // of the execution
	// request is the request to the target, for the dead letter queue.
	request []byte
}

// deliver calls the target until it accepts the call or the retry policy is
// exhausted. In the latter case it sends the request to the dead letter queue.
func (s *Service) deliver(ctx context.Context, o occurrence) {
	defer s.complete(o)
	var policy delivery.Policy
	if p := o.schedule.Settings.Target.RetryPolicy; p != nil {
		policy = delivery.Policy{MaximumAge: p.MaximumEventAgeInSeconds, MaximumRetries: p.MaximumRetryAttempts}
	}
	var last attempt
	result := delivery.Run(ctx, s.cfg.Clock, policy, func(number int) error {
		last = attempt{occurrence: o, number: number, id: scope.Hex(16)}
		return s.try(ctx, &last)
	})
	if result.Err == nil || ctx.Err() != nil {
		return
	}
	s.cfg.Logger.Warn("a schedule's target could not be called", "schedule", o.schedule.ARN, "retries", result.Retries, "error", result.Err)
	if err := s.bury(ctx, last, result); err != nil {
		s.cfg.Logger.Error("an invocation of a schedule is lost: the dead letter queue did not accept it", "schedule", o.schedule.ARN, "error", err)
	}
}

// session returns a context for calls with the schedule's role, in a region.
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
		url, _, _ := scope.QueueURL(*t.Arn) // checked when the schedule was created
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
	a.request, _ = json.Marshal(request) // texts can always be marshalled
}

const timeFormat = "2006-01-02T15:04:05Z"

// input returns the target's input, with the values of the context attributes
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

// bury sends an undelivered request to the dead letter queue, if there is one
// (https://docs.aws.amazon.com/scheduler/latest/UserGuide/configuring-schedule-dlq.html).
func (s *Service) bury(ctx context.Context, a attempt, r delivery.Result) error {
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
	in := &sqs.SendMessageInput{QueueUrl: &url, MessageBody: aws.String(string(a.request)), MessageAttributes: r.Attributes(map[string]string{
		"EXECUTION_ID": a.id, "IS_PAYLOAD_TRUNCATED": "false", "RETRY_ATTEMPTS": strconv.Itoa(r.Retries), "SCHEDULED_TIME": a.time.UTC().Format(timeFormat),
		"SCHEDULE_ARN": a.schedule.ARN, "TARGET_ARN": aws.ToString(a.schedule.Settings.Target.Arn),
	})}
	if len(a.request) == 0 { // the target was never called
		in.MessageBody = aws.String("{}")
	}
	if _, err := s.cfg.Queues.SendMessage(ctx, in); err != nil {
		return fmt.Errorf("%s: %w", *dead.Arn, err)
	}
	return nil
}
