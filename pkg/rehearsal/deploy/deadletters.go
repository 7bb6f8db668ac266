package deploy

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	eventtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	lambdaapi "github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/ami-factory/ami-factory/pkg/blueprint"
	"github.com/ami-factory/ami-factory/pkg/localcloud/events"
)

// deadLettersName is the queue of what could not be delivered, or failed.
const deadLettersName = prefix + "triggers-dead-letters"

func (d *Deployment) deadLettersARN() string {
	return d.arn("sqs", d.cloud.Region(), deadLettersName)
}

// deployDeadLetters makes the queue, and leads to it what the triggers could not
// do.
func (d *Deployment) deployDeadLetters(ctx context.Context) error {
	// As the CDK's construct allows it on AWS: to EventBridge, for rules of the
	// account.
	policy, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": []map[string]any{{
		"Effect": "Allow", "Principal": map[string]any{"Service": events.Principal}, "Action": "sqs:SendMessage", "Resource": d.deadLettersARN(),
		"Condition": map[string]any{"ArnLike": map[string]any{"aws:SourceArn": d.arn("events", d.cloud.Region(), "rule/*")}},
	}}})
	if err != nil {
		return err
	}
	attributes := map[string]string{"MessageRetentionPeriod": strconv.Itoa(blueprint.DeadLetterDays * 24 * 60 * 60), "Policy": string(policy)}
	queue, err := d.cloud.SQS.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String(deadLettersName), Attributes: attributes})
	if err != nil {
		return fmt.Errorf("queue of dead letters: %w", err)
	}
	d.DeadLetters = aws.ToString(queue.QueueUrl)
	for _, fn := range blueprint.Triggers() {
		_, err := d.cloud.Lambda.PutFunctionEventInvokeConfig(ctx, &lambdaapi.PutFunctionEventInvokeConfigInput{
			FunctionName:             aws.String(d.FunctionARN(fn.Name)),
			MaximumEventAgeInSeconds: aws.Int32(int32(blueprint.DeliveryAge.Seconds())), MaximumRetryAttempts: aws.Int32(blueprint.InvocationRetries),
			DestinationConfig: &lambdatypes.DestinationConfig{OnFailure: &lambdatypes.OnFailure{Destination: aws.String(d.deadLettersARN())}},
		})
		if err != nil {
			return fmt.Errorf("failures of function %s: %w", fn.Name, err)
		}
	}
	for _, name := range blueprint.Wakers() {
		_, err := d.cloud.Lambda.PutFunctionEventInvokeConfig(ctx, &lambdaapi.PutFunctionEventInvokeConfigInput{
			FunctionName:             aws.String(d.FunctionARN(name)),
			MaximumEventAgeInSeconds: aws.Int32(int32(blueprint.HintAge.Seconds())), MaximumRetryAttempts: aws.Int32(blueprint.HintRetries),
		})
		if err != nil {
			return fmt.Errorf("retries of function %s: %w", name, err)
		}
	}
	return nil
}

// target is the function of a rule as its target.
func (d *Deployment) target(r blueprint.Rule) eventtypes.Target {
	t := eventtypes.Target{Id: aws.String(r.Function), Arn: aws.String(d.FunctionARN(r.Function))}
	if r.Hint {
		t.RetryPolicy = &eventtypes.RetryPolicy{MaximumEventAgeInSeconds: aws.Int32(int32(blueprint.HintAge.Seconds())), MaximumRetryAttempts: aws.Int32(blueprint.HintRetries)}
		return t
	}
	t.DeadLetterConfig = &eventtypes.DeadLetterConfig{Arn: aws.String(d.deadLettersARN())}
	t.RetryPolicy = &eventtypes.RetryPolicy{MaximumEventAgeInSeconds: aws.Int32(int32(blueprint.DeliveryAge.Seconds()))}
	return t
}
