package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	lambdaapi "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"
	schedulertypes "github.com/aws/aws-sdk-go-v2/service/scheduler/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/blueprint"
	localsns "github.com/ami-factory/ami-factory/pkg/localcloud/sns"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// deploySchedules makes the schedules. They are active only where Options.Schedules says
// so, because a night's builds must not join a bake.
func (f *Factory) deploySchedules(ctx context.Context) error {
	if f.opts.Schedules {
		f.Cloud.Scheduler.Start()
	}
	for _, s := range blueprint.Schedules(blueprint.DefaultSchedules()) {
		if err := f.deploySchedule(ctx, s); err != nil {
			return fmt.Errorf("schedule %s: %w", s.Name, err)
		}
	}
	return nil
}

func (f *Factory) deploySchedule(ctx context.Context, s blueprint.Schedule) error {
	name, role := prefix+s.Name, f.roleARN(blueprint.SchedulesRoleName)
	window := &schedulertypes.FlexibleTimeWindow{Mode: schedulertypes.FlexibleTimeWindowModeOff}
	if s.WindowMinutes > 0 {
		window = &schedulertypes.FlexibleTimeWindow{Mode: schedulertypes.FlexibleTimeWindowModeFlexible, MaximumWindowInMinutes: aws.Int32(int32(s.WindowMinutes))}
	}
	target := &schedulertypes.Target{
		Arn: aws.String(f.functionARN(s.Function)), RoleArn: &role, Input: &s.Input,
		DeadLetterConfig: &schedulertypes.DeadLetterConfig{Arn: aws.String(f.deadLettersARN())},
		RetryPolicy: &schedulertypes.RetryPolicy{
			MaximumEventAgeInSeconds: aws.Int32(int32(blueprint.DeliveryAge.Seconds())), MaximumRetryAttempts: aws.Int32(blueprint.ScheduleRetries),
		},
	}
	_, err := f.Cloud.Scheduler.UpdateSchedule(ctx, &scheduler.UpdateScheduleInput{
		Name: &name, Description: &s.Does, ScheduleExpression: &s.Expression, ScheduleExpressionTimezone: &s.Timezone, FlexibleTimeWindow: window, Target: target,
	})
	var missing *schedulertypes.ResourceNotFoundException
	if !errors.As(err, &missing) {
		return err
	}
	_, err = f.Cloud.Scheduler.CreateSchedule(ctx, &scheduler.CreateScheduleInput{
		Name: &name, Description: &s.Does, ScheduleExpression: &s.Expression, ScheduleExpressionTimezone: &s.Timezone, FlexibleTimeWindow: window, Target: target,
	})
	return err
}

// provideTopics makes the topics of the owners of base images, in their accounts
// and regions. Whoever calls with an owner's key publishes there as the owner does
// on AWS.
func (f *Factory) provideTopics(ctx context.Context) error {
	for _, arn := range blueprint.AnnouncementTopics() {
		parts := strings.Split(arn, ":")
		owner := wire.WithCaller(ctx, wire.Caller{Account: parts[4], Region: parts[3]})
		_, err := f.Cloud.SNS.CreateTopic(owner, &sns.CreateTopicInput{Name: &parts[5], Attributes: map[string]string{"SignatureVersion": "2"}})
		if err != nil {
			return fmt.Errorf("topic %s: %w", arn, err)
		}
	}
	return nil
}

// deployAnnouncements listens to the topics.
func (f *Factory) deployAnnouncements(ctx context.Context) error {
	if err := f.provideTopics(ctx); err != nil {
		return err
	}
	for i, arn := range blueprint.AnnouncementTopics() {
		if err := f.listen(ctx, fmt.Sprintf("Announcement%d", i+1), arn); err != nil {
			return fmt.Errorf("subscription of %s: %w", arn, err)
		}
	}
	return nil
}

func (f *Factory) listen(ctx context.Context, statement, topicARN string) error {
	announced := f.functionARN(blueprint.ReleaseAnnounced)
	_, err := f.Cloud.Lambda.AddPermission(ctx, &lambdaapi.AddPermissionInput{
		FunctionName: &announced, StatementId: &statement, Action: aws.String("lambda:InvokeFunction"), Principal: aws.String(localsns.Principal), SourceArn: &topicARN,
	})
	if err != nil && !awserr.Is(err, "ResourceConflictException") {
		return err
	}
	_, err = f.Cloud.SNS.Subscribe(ctx, &sns.SubscribeInput{TopicArn: &topicARN, Protocol: aws.String("lambda"), Endpoint: &announced})
	return err
}
