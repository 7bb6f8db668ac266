package localcloud

import (
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	eventtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	sdklambda "github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	sdksfn "github.com/aws/aws-sdk-go-v2/service/sfn"
	sdksns "github.com/aws/aws-sdk-go-v2/service/sns"
	sdksqs "github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/lambda"
	"github.com/ami-factory/ami-factory/pkg/localcloud/scheduler"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

func (c *Cloud) newScheduler(caller wire.Caller) *scheduler.Service {
	t := targets{c}
	return scheduler.New(scheduler.Config{
		Clock: c.cfg.Clock, Default: caller, Functions: t, StateMachines: t, Topics: t, Queues: t, Buses: t, Logger: c.cfg.Logger,
		Assume: func(ctx context.Context, at wire.Caller, roleARN, scheduleARN string) (context.Context, error) {
			service := wire.Caller{Account: at.Account, Region: at.Region, ARN: scheduler.Principal, Source: scheduleARN}
			return c.sessionOf(ctx, service, roleARN, "schedule-"+scope.Hex(16))
		},
	})
}

// assumeForRule makes a context for calls with the role of a rule's target.
func (c *Cloud) assumeForRule(ctx context.Context, service wire.Caller, roleARN string) (context.Context, error) {
	return c.sessionOf(ctx, service, roleARN, "events-"+scope.Hex(16))
}

// destination sends the record of an asynchronous invocation, with the role of
// the function.
func (c *Cloud) destination(ctx context.Context, of wire.Caller, roleARN, arn string, record []byte) error {
	parts := strings.Split(arn, ":")
	of.Region, of.ARN = parts[3], lambda.Principal
	if roleARN == "" {
		ctx = wire.WithCaller(ctx, wire.Caller{Account: of.Account, Region: of.Region})
	} else {
		var err error
		if ctx, err = c.sessionOf(ctx, of, roleARN, "lambda-"+scope.Hex(16)); err != nil {
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

// targets are the calls that services make on behalf of others. Each needs the
// permissions of the context's caller, as over HTTP.
type targets struct{ c *Cloud }

func (t targets) permit(ctx context.Context, service, operation string, input any) error {
	who, _ := wire.CallerFrom(ctx)
	return t.c.authz.Permit(ctx, who, service, operation, input)
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

// mayPutEvents says why the caller of ctx may not put events onto a bus.
func (t targets) mayPutEvents(ctx context.Context, in *eventbridge.PutEventsInput) error {
	return t.permit(ctx, "events", "PutEvents", in)
}

// PutEvents is EventBridge's.
func (t targets) PutEvents(ctx context.Context, in *eventbridge.PutEventsInput, opts ...func(*eventbridge.Options)) (*eventbridge.PutEventsOutput, error) {
	if err := t.mayPutEvents(ctx, in); err != nil {
		return nil, err
	}
	return t.c.Events.PutEvents(ctx, in, opts...)
}
