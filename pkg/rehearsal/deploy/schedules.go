package deploy

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
func (d *Deployment) deploySchedules(ctx context.Context) error {
	if d.opts.Schedules {
		d.cloud.Scheduler.Start()
	}
	for _, s := range blueprint.Schedules(blueprint.DefaultSchedules()) {
		if err := d.deploySchedule(ctx, s); err != nil {
			return fmt.Errorf("schedule %s: %w", s.Name, err)
		}
	}
	return nil
}

func (d *Deployment) deploySchedule(ctx context.Context, s blueprint.Schedule) error {
	name, role := prefix+s.Name, d.roleARN(blueprint.SchedulesRoleName)
	window := &schedulertypes.FlexibleTimeWindow{Mode: schedulertypes.FlexibleTimeWindowModeOff}
	if s.WindowMinutes > 0 {
		window = &schedulertypes.FlexibleTimeWindow{Mode: schedulertypes.FlexibleTimeWindowModeFlexible, MaximumWindowInMinutes: aws.Int32(int32(s.WindowMinutes))}
	}
	target := &schedulertypes.Target{
		Arn: aws.String(d.FunctionARN(s.Function)), RoleArn: &role, Input: &s.Input,
		DeadLetterConfig: &schedulertypes.DeadLetterConfig{Arn: aws.String(d.deadLettersARN())},
		RetryPolicy: &schedulertypes.RetryPolicy{
			MaximumEventAgeInSeconds: aws.Int32(int32(blueprint.DeliveryAge.Seconds())), MaximumRetryAttempts: aws.Int32(blueprint.ScheduleRetries),
		},
	}
	_, err := d.cloud.Scheduler.UpdateSchedule(ctx, &scheduler.UpdateScheduleInput{
		Name: &name, Description: &s.Does, ScheduleExpression: &s.Expression, ScheduleExpressionTimezone: &s.Timezone, FlexibleTimeWindow: window, Target: target,
	})
	var missing *schedulertypes.ResourceNotFoundException
	if !errors.As(err, &missing) {
		return err
	}
	_, err = d.cloud.Scheduler.CreateSchedule(ctx, &scheduler.CreateScheduleInput{
		Name: &name, Description: &s.Does, ScheduleExpression: &s.Expression, ScheduleExpressionTimezone: &s.Timezone, FlexibleTimeWindow: window, Target: target,
	})
	return err
}

// provideTopics makes the topics of the owners of base images, in their accounts
// and regions. Whoever calls with an owner's key publishes there as the owner does
// on AWS.
func (d *Deployment) provideTopics(ctx context.Context) error {
	for _, arn := range blueprint.AnnouncementTopics(d.partition().ID) {
		parts := strings.Split(arn, ":")
		owner := wire.WithCaller(ctx, wire.Caller{Account: parts[4], Region: parts[3]})
		_, err := d.cloud.SNS.CreateTopic(owner, &sns.CreateTopicInput{Name: &parts[5], Attributes: map[string]string{"SignatureVersion": "2"}})
		if err != nil {
			return fmt.Errorf("topic %s: %w", arn, err)
		}
	}
	return nil
}

// deployAnnouncements listens to the topics.
func (d *Deployment) deployAnnouncements(ctx context.Context) error {
	if err := d.provideTopics(ctx); err != nil {
		return err
	}
	for i, arn := range blueprint.AnnouncementTopics(d.partition().ID) {
		if err := d.listen(ctx, fmt.Sprintf("Announcement%d", i+1), arn); err != nil {
			return fmt.Errorf("subscription of %s: %w", arn, err)
		}
	}
	return nil
}

func (d *Deployment) listen(ctx context.Context, statement, topicARN string) error {
	announced := d.FunctionARN(blueprint.ReleaseAnnounced)
	_, err := d.cloud.Lambda.AddPermission(ctx, &lambdaapi.AddPermissionInput{
		FunctionName: &announced, StatementId: &statement, Action: aws.String("lambda:InvokeFunction"), Principal: aws.String(localsns.Principal), SourceArn: &topicARN,
	})
	if err != nil && !awserr.Is(err, "ResourceConflictException") {
		return err
	}
	_, err = d.cloud.SNS.Subscribe(ctx, &sns.SubscribeInput{TopicArn: &topicARN, Protocol: aws.String("lambda"), Endpoint: &announced})
	return err
}
