package localcloud

import (
	"context"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	eventtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	sdklambda "github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	sdksfn "github.com/aws/aws-sdk-go-v2/service/sfn"
	sdksns "github.com/aws/aws-sdk-go-v2/service/sns"
	sdksqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	sdksts "github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/scheduler"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

func (c *Cloud) newScheduler(caller wire.Caller) *scheduler.Service {
	t := targets{c}
	return scheduler.New(scheduler.Config{
		Clock: c.cfg.Clock, Default: caller, Functions: t, StateMachines: t, Topics: t, Queues: t, Buses: t, Logger: c.cfg.Logger,
		Assume: func(ctx context.Context, at wire.Caller, roleARN, scheduleARN string) (context.Context, error) {
			return c.assume(ctx, at, scheduler.Principal, roleARN, "schedule-"+scope.Hex(16))
		},
	})
}

// assume makes a context for calls in a session of a role that a service assumes.
func (c *Cloud) assume(ctx context.Context, at wire.Caller, service, roleARN, session string) (context.Context, error) {
	asService := wire.WithCaller(ctx, wire.Caller{Account: at.Account, Region: at.Region, ARN: service})
	out, err := c.STS.AssumeRole(asService, &sdksts.AssumeRoleInput{RoleArn: aws.String(roleARN), RoleSessionName: aws.String(session)})
	if err != nil {
		return nil, fmt.Errorf("%s assumes %s: %w", service, roleARN, err)
	}
	id := aws.ToString(out.Credentials.AccessKeyId)
	account, arn, _ := c.STS.Resolve(id)
	return wire.WithCaller(ctx, wire.Caller{Account: account, Region: at.Region, AccessKeyID: id, ARN: arn}), nil
}

// destination sends the record of an asynchronous invocation, with the role of
// the function.
func (c *Cloud) destination(ctx context.Context, of wire.Caller, roleARN, arn string, record []byte) error {
	parts := strings.Split(arn, ":")
	of.Region = parts[3]
	if roleARN == "" {
		ctx = wire.WithCaller(ctx, wire.Caller{Account: of.Account, Region: of.Region})
	} else {
		var err error
		if ctx, err = c.assume(ctx, of, lambdaPrincipal, roleARN, "lambda-"+scope.Hex(16)); err != nil {
			return err
		}
	}
	t, text := targets{c}, aws.String(string(record))
	switch parts[2] {
	case "sqs":
		url, _, err := scope.QueueURL(arn)
		if err != nil {
			return err
		}
		_, err = t.SendMessage(ctx, &sdksqs.SendMessageInput{QueueUrl: &url, MessageBody: text})
		return err
	case "sns":
		_, err := t.Publish(ctx, &sdksns.PublishInput{TopicArn: &arn, Message: text})
		return err
	case "lambda":
		_, err := t.Invoke(ctx, &sdklambda.InvokeInput{FunctionName: &arn, InvocationType: lambdatypes.InvocationTypeEvent, Payload: record})
		return err
	}
	out, err := t.PutEvents(ctx, &eventbridge.PutEventsInput{Entries: []eventtypes.PutEventsRequestEntry{{
		EventBusName: &arn, Source: aws.String("lambda"), DetailType: aws.String("Lambda Function Invocation Result"), Detail: text,
	}}})
	if err == nil && out.FailedEntryCount > 0 {
		err = wire.Errorf(aws.ToString(out.Entries[0].ErrorCode), "%s", aws.ToString(out.Entries[0].ErrorMessage))
	}
	return err
}

// lambdaPrincipal is who assumes the role of a function.
const lambdaPrincipal = "lambda.amazonaws.com"

// targets are what services call in the name of others: with the permissions of
// the caller of the context, as if it had called over HTTP.
type targets struct{ c *Cloud }

func (t targets) permit(ctx context.Context, service, operation string, input any) error {
	who, _ := wire.CallerFrom(ctx)
	return t.c.permit(ctx, who, service, operation, input)
}

// Invoke is Lambda's.
func (t targets) Invoke(ctx context.Context, in *sdklambda.InvokeInput, opts ...func(*sdklambda.Options)) (*sdklambda.InvokeOutput, error) {
	if err := t.permit(ctx, "lambda", "Invoke", aws.ToString(in.FunctionName)); err != nil {
		return nil, err
	}
	return t.c.Lambda.Invoke(ctx, in, opts...)
}

// StartExecution is that of Step Functions.
func (t targets) StartExecution(ctx context.Context, in *sdksfn.StartExecutionInput, opts ...func(*sdksfn.Options)) (*sdksfn.StartExecutionOutput, error) {
	if err := t.permit(ctx, "states", "StartExecution", in); err != nil {
		return nil, err
	}
	return t.c.States.StartExecution(ctx, in, opts...)
}

// Publish is SNS's.
func (t targets) Publish(ctx context.Context, in *sdksns.PublishInput, opts ...func(*sdksns.Options)) (*sdksns.PublishOutput, error) {
	if err := t.permit(ctx, "sns", "Publish", in); err != nil {
		return nil, err
	}
	return t.c.SNS.Publish(ctx, in, opts...)
}

// SendMessage is SQS's.
func (t targets) SendMessage(ctx context.Context, in *sdksqs.SendMessageInput, opts ...func(*sdksqs.Options)) (*sdksqs.SendMessageOutput, error) {
	if err := t.permit(ctx, "sqs", "SendMessage", in); err != nil {
		return nil, err
	}
	return t.c.SQS.SendMessage(ctx, in, opts...)
}

// PutEvents is EventBridge's.
func (t targets) PutEvents(ctx context.Context, in *eventbridge.PutEventsInput, opts ...func(*eventbridge.Options)) (*eventbridge.PutEventsOutput, error) {
	if err := t.permit(ctx, "events", "PutEvents", in); err != nil {
		return nil, err
	}
	return t.c.Events.PutEvents(ctx, in, opts...)
}
