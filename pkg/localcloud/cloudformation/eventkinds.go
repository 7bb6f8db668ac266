package cloudformation

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	eventtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"
	schedulertypes "github.com/aws/aws-sdk-go-v2/service/scheduler/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

type busProperties struct {
	Name        string
	Description string
	Policy      document
}

// busPolicyProperties are one statement of a bus's policy: as a whole, or by its parts.
type busPolicyProperties struct {
	EventBusName, StatementId, Action, Principal string
	Statement                                    document
	Condition                                    *eventtypes.Condition
}

type eventRuleProperties struct {
	Name, Description, EventBusName string
	EventPattern                    document
	State                           eventtypes.RuleState
	RoleArn                         string
	Targets                         []eventtypes.Target
	ScheduleExpression              string
}

func eventsKinds(api Events) map[string]kind {
	p := eventsProvider{api}
	return map[string]kind{
		"AWS::Events::EventBus":       of(changer[busProperties]{create: p.createBus, update: p.updateBus, remove: p.deleteBus, replace: []string{"Name", "Description"}}),
		"AWS::Events::EventBusPolicy": of(changer[busPolicyProperties]{create: p.createBusPolicy, update: p.updateBusPolicy, remove: p.deleteBusPolicy, replace: []string{"EventBusName", "StatementId"}}),
		"AWS::Events::Rule": of(changer[eventRuleProperties]{
			create: p.createRule, update: p.updateRule, remove: p.deleteRule, replace: []string{"Name", "EventBusName"},
		}),
	}
}

type eventsProvider struct{ api Events }

func (e eventsProvider) createBus(ctx context.Context, t *target, p busProperties) error {
	out, err := e.api.CreateEventBus(ctx, &eventbridge.CreateEventBusInput{Name: aws.String(p.Name), Description: scope.Optional(p.Description)})
	if err != nil {
		return err
	}
	t.PhysicalID = p.Name
	t.set("Arn", aws.ToString(out.EventBusArn))
	t.set("Name", p.Name)
	return e.setBusPolicy(ctx, p)
}

// setBusPolicy makes the policy of a bus that of p.
func (e eventsProvider) setBusPolicy(ctx context.Context, p busProperties) error {
	if p.Policy == "" {
		return nil
	}
	_, err := e.api.PutPermission(ctx, &eventbridge.PutPermissionInput{EventBusName: aws.String(p.Name), Policy: aws.String(string(p.Policy))})
	return err
}

func (e eventsProvider) updateBus(ctx context.Context, _ *target, old, p busProperties) error {
	if old.Policy != "" && p.Policy == "" {
		_, err := e.api.RemovePermission(ctx, &eventbridge.RemovePermissionInput{EventBusName: aws.String(p.Name), RemoveAllPermissions: true})
		return err
	}
	return e.setBusPolicy(ctx, p)
}

// createBusPolicy adds a statement to a bus's policy. Ref gives the bus and the
// statement's id.
func (e eventsProvider) createBusPolicy(ctx context.Context, t *target, p busPolicyProperties) error {
	in := &eventbridge.PutPermissionInput{EventBusName: scope.Optional(p.EventBusName), StatementId: aws.String(p.StatementId)}
	if p.Statement == "" {
		in.Action, in.Principal, in.Condition = aws.String(p.Action), aws.String(p.Principal), p.Condition
		if p.Action == "" {
			in.Action = aws.String("events:PutEvents")
		}
	} else {
		policy, err := e.withStatement(ctx, p)
		if err != nil {
			return err
		}
		in.StatementId, in.Policy = nil, &policy
	}
	if _, err := e.api.PutPermission(ctx, in); err != nil {
		return err
	}
	bus := busName(p.EventBusName)
	if bus == "" {
		bus = "default"
	}
	t.PhysicalID = bus + "|" + p.StatementId
	return nil
}

// withStatement is the policy that a bus has, with a statement in place of that of its
// id.
func (e eventsProvider) withStatement(ctx context.Context, p busPolicyProperties) (string, error) {
	bus, err := e.api.DescribeEventBus(ctx, &eventbridge.DescribeEventBusInput{Name: scope.Optional(p.EventBusName)})
	if err != nil {
		return "", err
	}
	policy := struct {
		Version   string
		Statement []map[string]any
	}{Version: "2012-10-17"}
	if text := aws.ToString(bus.Policy); text != "" {
		if err := json.Unmarshal([]byte(text), &policy); err != nil {
			return "", err
		}
	}
	var statement map[string]any
	if err := json.Unmarshal([]byte(p.Statement), &statement); err != nil {
		return "", wire.Errorf("ValidationError", "Statement: an object is expected: %s", err)
	}
	statement["Sid"] = p.StatementId
	policy.Statement = slices.DeleteFunc(policy.Statement, func(s map[string]any) bool { return s["Sid"] == p.StatementId })
	policy.Statement = append(policy.Statement, statement)
	text, err := json.Marshal(policy)
	return string(text), err
}

func (e eventsProvider) updateBusPolicy(ctx context.Context, t *target, _, p busPolicyProperties) error {
	return e.createBusPolicy(ctx, t, p)
}

func (e eventsProvider) deleteBusPolicy(ctx context.Context, _ *target, p busPolicyProperties) error {
	_, err := e.api.RemovePermission(ctx, &eventbridge.RemovePermissionInput{EventBusName: scope.Optional(p.EventBusName), StatementId: aws.String(p.StatementId)})
	return ignoreMissing(err)
}

func (e eventsProvider) deleteBus(ctx context.Context, t *target, _ busProperties) error {
	_, err := e.api.DeleteEventBus(ctx, &eventbridge.DeleteEventBusInput{Name: aws.String(t.PhysicalID)})
	return ignoreMissing(err)
}

// createRule makes a rule. Ref is the rule's name, with the bus's name before it
// unless it is the default bus.
func (e eventsProvider) createRule(ctx context.Context, t *target, p eventRuleProperties) error {
	name := p.Name
	if name == "" {
		name = t.physicalName(64)
	}
	arn, err := e.put(ctx, name, p)
	if err != nil {
		return err
	}
	t.PhysicalID = name
	if p.EventBusName != "" && p.EventBusName != "default" {
		t.PhysicalID = busName(p.EventBusName) + "|" + name
	}
	t.set("Arn", arn)
	return e.setTargets(ctx, name, p, nil)
}

func busName(ref string) string {
	if i := strings.Index(ref, ":event-bus/"); i >= 0 {
		return ref[i+len(":event-bus/"):]
	}
	return ref
}

// nameOf returns the name of a rule from its physical id.
func nameOf(physicalID string) string { return physicalID[strings.LastIndex(physicalID, "|")+1:] }

func (e eventsProvider) put(ctx context.Context, name string, p eventRuleProperties) (arn string, err error) {
	out, err := e.api.PutRule(ctx, &eventbridge.PutRuleInput{
		Name: aws.String(name), EventBusName: scope.Optional(p.EventBusName), Description: scope.Optional(p.Description),
		EventPattern: scope.Optional(string(p.EventPattern)), ScheduleExpression: scope.Optional(p.ScheduleExpression), State: p.State, RoleArn: scope.Optional(p.RoleArn),
	})
	if err != nil {
		return "", err
	}
	return aws.ToString(out.RuleArn), nil
}

// setTargets sets the targets of a rule to those of p.
func (e eventsProvider) setTargets(ctx context.Context, name string, p eventRuleProperties, before []eventtypes.Target) error {
	var gone []string
	for _, old := range before {
		if !slices.ContainsFunc(p.Targets, func(t eventtypes.Target) bool { return aws.ToString(t.Id) == aws.ToString(old.Id) }) {
			gone = append(gone, aws.ToString(old.Id))
		}
	}
	if len(gone) > 0 {
		if _, err := e.api.RemoveTargets(ctx, &eventbridge.RemoveTargetsInput{Rule: aws.String(name), EventBusName: scope.Optional(p.EventBusName), Ids: gone}); err != nil {
			return err
		}
	}
	if len(p.Targets) == 0 {
		return nil
	}
	_, err := e.api.PutTargets(ctx, &eventbridge.PutTargetsInput{Rule: aws.String(name), EventBusName: scope.Optional(p.EventBusName), Targets: p.Targets})
	return err
}

func (e eventsProvider) updateRule(ctx context.Context, t *target, old, p eventRuleProperties) error {
	name := nameOf(t.PhysicalID)
	if _, err := e.put(ctx, name, p); err != nil {
		return err
	}
	return e.setTargets(ctx, name, p, old.Targets)
}

func (e eventsProvider) deleteRule(ctx context.Context, t *target, p eventRuleProperties) error {
	name := nameOf(t.PhysicalID)
	bare := p
	bare.Targets = nil
	if err := e.setTargets(ctx, name, bare, p.Targets); err != nil {
		return ignoreMissing(err)
	}
	_, err := e.api.DeleteRule(ctx, &eventbridge.DeleteRuleInput{Name: aws.String(name), EventBusName: scope.Optional(p.EventBusName)})
	return ignoreMissing(err)
}

type scheduleProperties struct {
	Name, GroupName, Description                   string
	ScheduleExpression, ScheduleExpressionTimezone string
	State                                          schedulertypes.ScheduleState
	FlexibleTimeWindow                             *schedulertypes.FlexibleTimeWindow
	Target                                         *schedulertypes.Target
}

type scheduleGroupProperties struct {
	Name string
	Tags []tag
}

func schedulerKinds(api Scheduler) map[string]kind {
	p := schedulerProvider{api}
	return map[string]kind{
		"AWS::Scheduler::Schedule": of(changer[scheduleProperties]{
			create: p.createSchedule, update: p.updateSchedule, remove: p.deleteSchedule, replace: []string{"Name", "GroupName"},
		}),
		"AWS::Scheduler::ScheduleGroup": of(changer[scheduleGroupProperties]{create: p.createGroup, remove: p.deleteGroup}),
	}
}

type schedulerProvider struct{ api Scheduler }

func (s schedulerProvider) createSchedule(ctx context.Context, t *target, p scheduleProperties) error {
	name := p.Name
	if name == "" {
		name = t.physicalName(64)
	}
	out, err := s.api.CreateSchedule(ctx, &scheduler.CreateScheduleInput{
		Name: aws.String(name), GroupName: scope.Optional(p.GroupName), Description: scope.Optional(p.Description), ScheduleExpression: aws.String(p.ScheduleExpression),
		ScheduleExpressionTimezone: scope.Optional(p.ScheduleExpressionTimezone), State: p.State, FlexibleTimeWindow: p.FlexibleTimeWindow, Target: p.Target,
	})
	if err != nil {
		return err
	}
	t.PhysicalID = name
	t.set("Arn", aws.ToString(out.ScheduleArn))
	return nil
}

func (s schedulerProvider) updateSchedule(ctx context.Context, t *target, _, p scheduleProperties) error {
	_, err := s.api.UpdateSchedule(ctx, &scheduler.UpdateScheduleInput{
		Name: aws.String(t.PhysicalID), GroupName: scope.Optional(p.GroupName), Description: scope.Optional(p.Description), ScheduleExpression: aws.String(p.ScheduleExpression),
		ScheduleExpressionTimezone: scope.Optional(p.ScheduleExpressionTimezone), State: p.State, FlexibleTimeWindow: p.FlexibleTimeWindow, Target: p.Target,
	})
	return err
}

func (s schedulerProvider) deleteSchedule(ctx context.Context, t *target, p scheduleProperties) error {
	_, err := s.api.DeleteSchedule(ctx, &scheduler.DeleteScheduleInput{Name: aws.String(t.PhysicalID), GroupName: scope.Optional(p.GroupName)})
	return ignoreMissing(err)
}

func (s schedulerProvider) createGroup(ctx context.Context, t *target, p scheduleGroupProperties) error {
	name := p.Name
	if name == "" {
		name = t.physicalName(64)
	}
	var tags []schedulertypes.Tag
	all := t.tags(p.Tags)
	for _, key := range sortedKeys(all) {
		tags = append(tags, schedulertypes.Tag{Key: aws.String(key), Value: aws.String(all[key])})
	}
	out, err := s.api.CreateScheduleGroup(ctx, &scheduler.CreateScheduleGroupInput{Name: aws.String(name), Tags: tags})
	if err != nil {
		return err
	}
	t.PhysicalID = name
	t.set("Arn", aws.ToString(out.ScheduleGroupArn))
	return nil
}

func (s schedulerProvider) deleteGroup(ctx context.Context, t *target, _ scheduleGroupProperties) error {
	_, err := s.api.DeleteScheduleGroup(ctx, &scheduler.DeleteScheduleGroupInput{Name: aws.String(t.PhysicalID)})
	return ignoreMissing(err)
}
