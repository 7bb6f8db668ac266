package scheduler

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // time zones must be known on every machine

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"
	"github.com/aws/aws-sdk-go-v2/service/scheduler/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

var (
	resourceName = regexp.MustCompile(`^[0-9a-zA-Z_.-]{1,64}$`)
	roleARN      = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$`)
)

func invalid(format string, args ...any) error {
	return &types.ValidationException{Message: aws.String(fmt.Sprintf(format, args...))}
}

func noSchedule(name string) error {
	return &types.ResourceNotFoundException{Message: aws.String("Schedule " + name + " does not exist.")}
}

// CreateSchedule makes a schedule. A rate without a start date runs at once.
func (s *Service) CreateSchedule(ctx context.Context, in *scheduler.CreateScheduleInput, optFns ...func(*scheduler.Options)) (*scheduler.CreateScheduleOutput, error) {
	name := aws.ToString(in.Name)
	if !resourceName.MatchString(name) {
		return nil, invalid("%q is not a name for a schedule: 1 to 64 of letters, digits, - _ . are allowed", name)
	}
	at := scope.KeyOf(s.caller(ctx, optFns))
	one := &schedule{
		Name: name, Group: orDefault(in.GroupName), At: at, Token: aws.ToString(in.ClientToken), Created: s.cfg.Clock.Now(),
		Settings: settings{
			Expression: aws.ToString(in.ScheduleExpression), Zone: aws.ToString(in.ScheduleExpressionTimezone), Start: in.StartDate, End: in.EndDate,
			State: in.State, After: in.ActionAfterCompletion, Description: in.Description, KmsKeyARN: in.KmsKeyArn,
		},
	}
	one.ARN = partition.ARN("scheduler", at.Region, at.Account, "schedule/"+one.Group+"/"+name)
	one.Modified = one.Created
	if err := s.settle(ctx, one, in.FlexibleTimeWindow, in.Target); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.group(at, one.Group)
	if err != nil {
		return nil, err
	}
	if have, ok := g.Schedules[name]; ok {
		if one.Token != "" && have.Token == one.Token {
			return &scheduler.CreateScheduleOutput{ScheduleArn: aws.String(have.ARN)}, nil
		}
		return nil, &types.ConflictException{Message: aws.String("Schedule " + name + " already exists.")}
	}
	g.Schedules[name] = one
	one.plan(one.Created.Add(-time.Nanosecond))
	s.arm()
	return &scheduler.CreateScheduleOutput{ScheduleArn: aws.String(one.ARN)}, nil
}

// UpdateSchedule replaces all settings of a schedule, like AWS: omitted settings
// get their defaults. A rate starts again.
func (s *Service) UpdateSchedule(ctx context.Context, in *scheduler.UpdateScheduleInput, optFns ...func(*scheduler.Options)) (*scheduler.UpdateScheduleOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	name, groupName := aws.ToString(in.Name), orDefault(in.GroupName)
	s.mu.Lock()
	have, err := s.schedule(at, groupName, name)
	if err != nil {
		s.mu.Unlock()
		return nil, err
	}
	changed := have.copy()
	s.mu.Unlock()
	changed.Modified = s.cfg.Clock.Now()
	changed.Settings = settings{
		Expression: aws.ToString(in.ScheduleExpression), Zone: aws.ToString(in.ScheduleExpressionTimezone), Start: in.StartDate, End: in.EndDate,
		State: in.State, After: in.ActionAfterCompletion, Description: in.Description, KmsKeyARN: in.KmsKeyArn,
	}
	if err := s.settle(ctx, &changed, in.FlexibleTimeWindow, in.Target); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if have, err = s.schedule(at, groupName, name); err != nil {
		return nil, err
	}
	changed.plan(changed.Modified.Add(-time.Nanosecond))
	*have = changed
	s.arm()
	return &scheduler.UpdateScheduleOutput{ScheduleArn: aws.String(have.ARN)}, nil
}

// settle checks the settings of a schedule and sets AWS's defaults.
func (s *Service) settle(ctx context.Context, one *schedule, window *types.FlexibleTimeWindow, target *types.Target) error {
	c := &one.Settings
	if window == nil || target == nil || c.Expression == "" {
		return invalid("FlexibleTimeWindow, ScheduleExpression and Target are required")
	}
	c.Window, c.Target = *window, *target
	minutes := aws.ToInt32(window.MaximumWindowInMinutes)
	switch window.Mode {
	case types.FlexibleTimeWindowModeOff:
		if window.MaximumWindowInMinutes != nil {
			return invalid("MaximumWindowInMinutes is for the mode FLEXIBLE only")
		}
	case types.FlexibleTimeWindowModeFlexible:
		if minutes < 1 || minutes > 1440 {
			return invalid("MaximumWindowInMinutes is %d (allowed: 1 to 1440)", minutes)
		}
	default:
		return invalid("FlexibleTimeWindow.Mode is %q (allowed: OFF, FLEXIBLE)", window.Mode)
	}
	if c.State == "" {
		c.State = types.ScheduleStateEnabled
	}
	if c.After == "" {
		c.After = types.ActionAfterCompletionNone
	}
	if c.Zone == "" {
		c.Zone = "UTC"
	}
	switch {
	case !slices.Contains(c.State.Values(), c.State):
		return invalid("State is %q (allowed: ENABLED, DISABLED)", c.State)
	case !slices.Contains(c.After.Values(), c.After):
		return invalid("ActionAfterCompletion is %q (allowed: NONE, DELETE)", c.After)
	case c.Start != nil && c.End != nil && !c.Start.Before(*c.End):
		return invalid("The StartDate must come before the EndDate.")
	}
	if err := one.compile(); err != nil {
		return invalid("%s", err)
	}
	return s.checkTarget(ctx, one)
}

// compile reads the expression.
func (one *schedule) compile() error {
	zone, err := time.LoadLocation(one.Settings.Zone)
	if err != nil {
		return fmt.Errorf("invalid ScheduleExpressionTimezone %s: a name of the IANA time zone database is expected, such as Europe/Berlin", one.Settings.Zone)
	}
	base := one.Modified
	if one.Settings.Start != nil {
		base = *one.Settings.Start
	}
	one.timing, err = parseExpression(one.Settings.Expression, zone, base)
	return err
}

// checkTarget refuses targets that can never be called.
func (s *Service) checkTarget(ctx context.Context, one *schedule) error {
	t := one.Settings.Target
	arn := aws.ToString(t.Arn)
	if !s.serves(arn) {
		return invalid("Provided Arn is not in correct format. %q: the embedded Scheduler calls Lambda functions, state machines, SNS topics, SQS queues and event buses.", arn)
	}
	if strings.Contains(arn, ":event-bus/") && (t.EventBridgeParameters == nil || aws.ToString(t.EventBridgeParameters.Source) == "" || aws.ToString(t.EventBridgeParameters.DetailType) == "") {
		return invalid("EventBridgeParameters with a Source and a DetailType are required for an event bus.")
	}
	if t.DeadLetterConfig != nil && t.DeadLetterConfig.Arn != nil {
		if _, _, err := scope.QueueURL(*t.DeadLetterConfig.Arn); err != nil || s.cfg.Queues == nil {
			return invalid("DeadLetterConfig.Arn %q is not the ARN of a queue.", *t.DeadLetterConfig.Arn)
		}
	}
	if p := t.RetryPolicy; p != nil {
		if n := p.MaximumEventAgeInSeconds; n != nil && (*n < 60 || *n > 86400) {
			return invalid("MaximumEventAgeInSeconds is %d (allowed: 60 to 86400)", *n)
		}
		if n := p.MaximumRetryAttempts; n != nil && (*n < 0 || *n > 185) {
			return invalid("MaximumRetryAttempts is %d (allowed: 0 to 185)", *n)
		}
	}
	if !roleARN.MatchString(aws.ToString(t.RoleArn)) {
		return invalid("Provided RoleArn %q is not the ARN of a role.", aws.ToString(t.RoleArn))
	}
	if _, err := s.session(ctx, *one, one.At.Region); err != nil {
		return invalid("The execution role you provide must allow AWS EventBridge Scheduler to assume the role. (%s)", err)
	}
	return nil
}

func (s *Service) serves(arn string) bool {
	parts := strings.Split(arn, ":")
	if len(parts) < 6 || parts[0] != "arn" || parts[3] == "" {
		return false
	}
	switch parts[2] {
	case "lambda":
		return s.cfg.Functions != nil && parts[5] == "function"
	case "states":
		return s.cfg.StateMachines != nil && parts[5] == "stateMachine"
	case "sns":
		return s.cfg.Topics != nil
	case "sqs":
		return s.cfg.Queues != nil
	case "events":
		return s.cfg.Buses != nil && strings.HasPrefix(parts[5], "event-bus/")
	}
	return false
}

// schedule finds a schedule. The caller holds s.mu.
func (s *Service) schedule(at scope.Key, groupName, name string) (*schedule, error) {
	g, err := s.group(at, groupName)
	if err != nil {
		return nil, err
	}
	one, ok := g.Schedules[name]
	if !ok {
		return nil, noSchedule(name)
	}
	return one, nil
}

// GetSchedule returns one schedule.
func (s *Service) GetSchedule(ctx context.Context, in *scheduler.GetScheduleInput, optFns ...func(*scheduler.Options)) (*scheduler.GetScheduleOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	one, err := s.schedule(at, orDefault(in.GroupName), aws.ToString(in.Name))
	if err != nil {
		return nil, err
	}
	c := one.Settings
	return &scheduler.GetScheduleOutput{
		Name: aws.String(one.Name), GroupName: aws.String(one.Group), Arn: aws.String(one.ARN),
		CreationDate: aws.Time(one.Created), LastModificationDate: aws.Time(one.Modified),
		ScheduleExpression: aws.String(c.Expression), ScheduleExpressionTimezone: aws.String(c.Zone), StartDate: c.Start, EndDate: c.End,
		FlexibleTimeWindow: &c.Window, State: c.State, ActionAfterCompletion: c.After, Description: c.Description, KmsKeyArn: c.KmsKeyARN, Target: &c.Target,
	}, nil
}

// DeleteSchedule deletes a schedule. Running deliveries continue.
func (s *Service) DeleteSchedule(ctx context.Context, in *scheduler.DeleteScheduleInput, optFns ...func(*scheduler.Options)) (*scheduler.DeleteScheduleOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	one, err := s.schedule(at, orDefault(in.GroupName), aws.ToString(in.Name))
	if err != nil {
		return nil, err
	}
	delete(s.groups[at][one.Group].Schedules, one.Name)
	s.arm()
	return &scheduler.DeleteScheduleOutput{}, nil
}

// ListSchedules lists schedules by group and name.
func (s *Service) ListSchedules(ctx context.Context, in *scheduler.ListSchedulesInput, optFns ...func(*scheduler.Options)) (*scheduler.ListSchedulesOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	if name := aws.ToString(in.GroupName); name != "" {
		if _, err := s.group(at, name); err != nil {
			return nil, err
		}
	}
	var all []types.ScheduleSummary
	for _, groupName := range slices.Sorted(maps.Keys(s.groups[at])) {
		if in.GroupName != nil && *in.GroupName != groupName {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(s.groups[at][groupName].Schedules)) {
			one := s.groups[at][groupName].Schedules[name]
			if !strings.HasPrefix(name, aws.ToString(in.NamePrefix)) || in.State != "" && in.State != one.Settings.State {
				continue
			}
			all = append(all, types.ScheduleSummary{
				Name: aws.String(name), GroupName: aws.String(groupName), Arn: aws.String(one.ARN), State: one.Settings.State,
				CreationDate: aws.Time(one.Created), LastModificationDate: aws.Time(one.Modified), Target: &types.TargetSummary{Arn: one.Settings.Target.Arn},
			})
		}
	}
	page, next, err := scope.Page(all, aws.ToString(in.NextToken), pageLimit(in.MaxResults))
	if err != nil {
		return nil, invalid("the NextToken is not valid")
	}
	if page == nil {
		page = []types.ScheduleSummary{}
	}
	return &scheduler.ListSchedulesOutput{Schedules: page, NextToken: scope.Optional(next)}, nil
}

// mostListed is the maximum and default number of items in a list.
const mostListed = 100

func pageLimit(asked *int32) int {
	if asked == nil || *asked < 1 || *asked > mostListed {
		return mostListed
	}
	return int(*asked)
}
