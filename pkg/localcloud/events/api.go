package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/smithy-go"
	"github.com/google/uuid"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// Quotas (https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html).
const (
	mostTargets = 5
	mostEntries = 10
	entryBytes  = 256 << 10
)

var ruleName = regexp.MustCompile(`^[.\-_A-Za-z0-9]{1,64}$`)

func notFound(format string, args ...any) error {
	return &types.ResourceNotFoundException{Message: aws.String(fmt.Sprintf(format, args...))}
}

// bus finds a bus of at by name or ARN; none is the default one. s.mu is held.
func (s *Service) bus(at scope.Key, ref string) (*bus, error) {
	if isBus(ref) {
		named := addressOf(ref)
		switch {
		case named.Region != at.Region:
			return nil, wire.Errorf("ValidationException", "Cross-region api call is not allowed.")
		case named.Account != at.Account:
			return nil, wire.Errorf("ValidationException", "%s is of another account: the embedded EventBridge takes events for such a bus, and no other call.", ref)
		}
		ref = named.Bus
	}
	if ref == "" {
		ref = DefaultBus
	}
	b, ok := s.at(at)[ref]
	if !ok {
		return nil, notFound("Event bus %s does not exist.", ref)
	}
	return b, nil
}

// rule finds a rule. s.mu is held.
func (s *Service) rule(at scope.Key, busRef, name *string) (*rule, *bus, error) {
	b, err := s.bus(at, aws.ToString(busRef))
	if err != nil {
		return nil, nil, err
	}
	r, ok := b.Rules[aws.ToString(name)]
	if !ok {
		return nil, nil, notFound("Rule %s does not exist on EventBus %s.", aws.ToString(name), b.Name)
	}
	return r, b, nil
}

func busARN(at scope.Key, name string) string {
	return partition.ARN("events", at.Region, at.Account, "event-bus/"+name)
}

// CreateEventBus makes a custom bus.
func (s *Service) CreateEventBus(ctx context.Context, in *eventbridge.CreateEventBusInput, optFns ...func(*eventbridge.Options)) (*eventbridge.CreateEventBusOutput, error) {
	name := aws.ToString(in.Name)
	if name == "" || name == DefaultBus || strings.Contains(name, "/") {
		return nil, wire.Errorf("ValidationException", "%q is not a name for a custom event bus.", name)
	}
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, taken := s.at(at)[name]; taken {
		return nil, &types.ResourceAlreadyExistsException{Message: aws.String("Event bus " + name + " already exists.")}
	}
	s.at(at)[name] = &bus{Name: name, Description: aws.ToString(in.Description), Created: s.cfg.Clock.Now(), Rules: map[string]*rule{}}
	return &eventbridge.CreateEventBusOutput{EventBusArn: aws.String(busARN(at, name)), Description: in.Description}, nil
}

// DeleteEventBus deletes a custom bus, which must have no rules. One that does
// not exist is no error, as on AWS.
func (s *Service) DeleteEventBus(ctx context.Context, in *eventbridge.DeleteEventBusInput, optFns ...func(*eventbridge.Options)) (*eventbridge.DeleteEventBusOutput, error) {
	name := aws.ToString(in.Name)
	if name == DefaultBus {
		return nil, wire.Errorf("ValidationException", "Cannot delete event bus default.")
	}
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	if b, ok := s.at(at)[name]; ok && len(b.Rules) > 0 {
		return nil, wire.Errorf("ValidationException", "Event bus %s can't be deleted since it has rules.", name)
	}
	delete(s.at(at), name)
	return &eventbridge.DeleteEventBusOutput{}, nil
}

// DescribeEventBus answers one bus.
func (s *Service) DescribeEventBus(ctx context.Context, in *eventbridge.DescribeEventBusInput, optFns ...func(*eventbridge.Options)) (*eventbridge.DescribeEventBusOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.bus(at, aws.ToString(in.Name))
	if err != nil {
		return nil, err
	}
	return &eventbridge.DescribeEventBusOutput{
		Name: aws.String(b.Name), Arn: aws.String(busARN(at, b.Name)), Description: scope.Optional(b.Description), Policy: scope.Optional(b.Policy),
		CreationTime: aws.Time(b.Created), LastModifiedTime: aws.Time(b.Created),
	}, nil
}

// ListEventBuses lists buses by name.
func (s *Service) ListEventBuses(ctx context.Context, in *eventbridge.ListEventBusesInput, optFns ...func(*eventbridge.Options)) (*eventbridge.ListEventBusesOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	buses := s.at(at)
	names := named(buses, aws.ToString(in.NamePrefix))
	page, next, err := scope.Page(names, aws.ToString(in.NextToken), int(aws.ToInt32(in.Limit)))
	if err != nil {
		return nil, err
	}
	out := &eventbridge.ListEventBusesOutput{NextToken: scope.Optional(next)}
	for _, name := range page {
		b := buses[name]
		out.EventBuses = append(out.EventBuses, types.EventBus{
			Name: aws.String(name), Arn: aws.String(busARN(at, name)), Description: scope.Optional(b.Description), Policy: scope.Optional(b.Policy),
			CreationTime: aws.Time(b.Created), LastModifiedTime: aws.Time(b.Created),
		})
	}
	return out, nil
}

// named are the keys of m with a prefix, sorted.
func named[T any](m map[string]T, prefix string) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(m)), func(name string) bool { return !strings.HasPrefix(name, prefix) })
}

// PutRule makes or replaces a rule; its targets stay.
func (s *Service) PutRule(ctx context.Context, in *eventbridge.PutRuleInput, optFns ...func(*eventbridge.Options)) (*eventbridge.PutRuleOutput, error) {
	name := aws.ToString(in.Name)
	if !ruleName.MatchString(name) {
		return nil, wire.Errorf("ValidationException", "%q is not a name for a rule: 1 to 64 of letters, digits, . - _ are allowed.", name)
	}
	if aws.ToString(in.ScheduleExpression) != "" {
		return nil, wire.Errorf("ValidationException", "The embedded EventBridge serves rules with an EventPattern, not with a ScheduleExpression.")
	}
	if aws.ToString(in.EventPattern) == "" {
		return nil, wire.Errorf("ValidationException", "Parameter(s) EventPattern must be specified.")
	}
	compiled, err := ParsePattern(*in.EventPattern)
	if err != nil {
		return nil, &types.InvalidEventPatternException{Message: aws.String("Event pattern is not valid. Reason: " + err.Error())}
	}
	state := in.State
	if state == "" {
		state = types.RuleStateEnabled
	}
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.bus(at, aws.ToString(in.EventBusName))
	if err != nil {
		return nil, err
	}
	middle := ""
	if b.Name != DefaultBus {
		middle = b.Name + "/"
	}
	r := &rule{
		Name: name, ARN: partition.ARN("events", at.Region, at.Account, "rule/"+middle+name), Description: aws.ToString(in.Description),
		Pattern: *in.EventPattern, State: state, RoleARN: aws.ToString(in.RoleArn), compiled: compiled,
	}
	if old, ok := b.Rules[name]; ok {
		r.Targets = old.Targets
	}
	b.Rules[name] = r
	return &eventbridge.PutRuleOutput{RuleArn: aws.String(r.ARN)}, nil
}

// DescribeRule answers one rule.
func (s *Service) DescribeRule(ctx context.Context, in *eventbridge.DescribeRuleInput, optFns ...func(*eventbridge.Options)) (*eventbridge.DescribeRuleOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	r, b, err := s.rule(at, in.EventBusName, in.Name)
	if err != nil {
		return nil, err
	}
	return &eventbridge.DescribeRuleOutput{
		Name: aws.String(r.Name), Arn: aws.String(r.ARN), Description: scope.Optional(r.Description), EventPattern: aws.String(r.Pattern),
		EventBusName: aws.String(b.Name), State: r.State, RoleArn: scope.Optional(r.RoleARN), CreatedBy: aws.String(at.Account),
	}, nil
}

// ListRules lists a bus's rules by name.
func (s *Service) ListRules(ctx context.Context, in *eventbridge.ListRulesInput, optFns ...func(*eventbridge.Options)) (*eventbridge.ListRulesOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.bus(at, aws.ToString(in.EventBusName))
	if err != nil {
		return nil, err
	}
	page, next, err := scope.Page(named(b.Rules, aws.ToString(in.NamePrefix)), aws.ToString(in.NextToken), int(aws.ToInt32(in.Limit)))
	if err != nil {
		return nil, err
	}
	out := &eventbridge.ListRulesOutput{NextToken: scope.Optional(next)}
	for _, name := range page {
		r := b.Rules[name]
		out.Rules = append(out.Rules, types.Rule{
			Name: aws.String(r.Name), Arn: aws.String(r.ARN), Description: scope.Optional(r.Description), EventPattern: aws.String(r.Pattern),
			EventBusName: aws.String(b.Name), State: r.State, RoleArn: scope.Optional(r.RoleARN),
		})
	}
	return out, nil
}

// EnableRule lets a rule match again.
func (s *Service) EnableRule(ctx context.Context, in *eventbridge.EnableRuleInput, optFns ...func(*eventbridge.Options)) (*eventbridge.EnableRuleOutput, error) {
	return &eventbridge.EnableRuleOutput{}, s.setState(ctx, in.EventBusName, in.Name, types.RuleStateEnabled, optFns)
}

// DisableRule keeps a rule from matching.
func (s *Service) DisableRule(ctx context.Context, in *eventbridge.DisableRuleInput, optFns ...func(*eventbridge.Options)) (*eventbridge.DisableRuleOutput, error) {
	return &eventbridge.DisableRuleOutput{}, s.setState(ctx, in.EventBusName, in.Name, types.RuleStateDisabled, optFns)
}

func (s *Service) setState(ctx context.Context, busRef, name *string, state types.RuleState, optFns []func(*eventbridge.Options)) error {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	r, _, err := s.rule(at, busRef, name)
	if err != nil {
		return err
	}
	r.State = state
	return nil
}

// DeleteRule deletes a rule without targets. One that does not exist is no
// error, as on AWS.
func (s *Service) DeleteRule(ctx context.Context, in *eventbridge.DeleteRuleInput, optFns ...func(*eventbridge.Options)) (*eventbridge.DeleteRuleOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.bus(at, aws.ToString(in.EventBusName))
	if err != nil {
		return nil, err
	}
	name := aws.ToString(in.Name)
	if r, ok := b.Rules[name]; ok && len(r.Targets) > 0 {
		return nil, wire.Errorf("ValidationException", "Rule can't be deleted since it has targets.")
	}
	delete(b.Rules, name)
	return &eventbridge.DeleteRuleOutput{}, nil
}

// PutTargets adds or replaces targets of a rule.
func (s *Service) PutTargets(ctx context.Context, in *eventbridge.PutTargetsInput, optFns ...func(*eventbridge.Options)) (*eventbridge.PutTargetsOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	for _, t := range in.Targets {
		if aws.ToString(t.Id) == "" {
			return nil, wire.Errorf("ValidationException", "A target needs an Id.")
		}
		if !s.serves(aws.ToString(t.Arn)) {
			return nil, wire.Errorf("ValidationException", "Parameter %s is not valid. Reason: the embedded EventBridge sends events to Lambda functions, state machines, SNS topics, SQS queues and event buses.", aws.ToString(t.Arn))
		}
		if err := errors.Join(checkTarget(t), s.checkDelivery(t)); err != nil {
			return nil, wire.Errorf("ValidationException", "%s", err)
		}
		if err := checkForwarding(t, at); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, _, err := s.rule(at, in.EventBusName, in.Rule)
	if err != nil {
		return nil, err
	}
	targets := slices.Clone(r.Targets)
	for _, t := range in.Targets {
		targets = slices.DeleteFunc(targets, func(have types.Target) bool { return *have.Id == *t.Id })
		targets = append(targets, t)
	}
	if len(targets) > mostTargets {
		return nil, &types.LimitExceededException{Message: aws.String(fmt.Sprintf("The requested resource exceeds the maximum number allowed: a rule has at most %d targets.", mostTargets))}
	}
	slices.SortFunc(targets, func(a, b types.Target) int { return strings.Compare(*a.Id, *b.Id) })
	r.Targets = targets
	return &eventbridge.PutTargetsOutput{FailedEntries: []types.PutTargetsResultEntry{}}, nil
}

// serves says whether events can be sent to arn.
func (s *Service) serves(arn string) bool {
	switch serviceOf(arn) {
	case "lambda":
		return s.cfg.Functions != nil
	case "states":
		return s.cfg.StateMachines != nil
	case "sns":
		return s.cfg.Topics != nil
	case "sqs":
		return s.cfg.Queues != nil
	case "events":
		return isBus(arn)
	}
	return false
}

// isBus says whether a text is the ARN of an event bus.
func isBus(text string) bool {
	parts := strings.Split(text, ":")
	return len(parts) == 6 && serviceOf(text) == "events" && strings.HasPrefix(parts[5], "event-bus/")
}

// checkDelivery refuses what AWS does not take of a target's delivery.
func (s *Service) checkDelivery(t types.Target) error {
	if p := t.RetryPolicy; p != nil {
		if n := p.MaximumEventAgeInSeconds; n != nil && (*n < 60 || *n > 86400) {
			return fmt.Errorf("MaximumEventAgeInSeconds is %d (allowed: 60 to 86400)", *n)
		}
		if n := p.MaximumRetryAttempts; n != nil && (*n < 0 || *n > 185) {
			return fmt.Errorf("MaximumRetryAttempts is %d (allowed: 0 to 185)", *n)
		}
	}
	if d := t.DeadLetterConfig; d != nil && d.Arn != nil && (s.cfg.Queues == nil || serviceOf(*d.Arn) != "sqs") {
		return fmt.Errorf("DeadLetterConfig.Arn %s is not the ARN of a queue", *d.Arn)
	}
	return nil
}

// ListTargetsByRule lists a rule's targets by id.
func (s *Service) ListTargetsByRule(ctx context.Context, in *eventbridge.ListTargetsByRuleInput, optFns ...func(*eventbridge.Options)) (*eventbridge.ListTargetsByRuleOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	r, _, err := s.rule(at, in.EventBusName, in.Rule)
	if err != nil {
		return nil, err
	}
	page, next, err := scope.Page(r.Targets, aws.ToString(in.NextToken), int(aws.ToInt32(in.Limit)))
	if err != nil {
		return nil, err
	}
	return &eventbridge.ListTargetsByRuleOutput{Targets: slices.Clone(page), NextToken: scope.Optional(next)}, nil
}

// RemoveTargets takes targets off a rule.
func (s *Service) RemoveTargets(ctx context.Context, in *eventbridge.RemoveTargetsInput, optFns ...func(*eventbridge.Options)) (*eventbridge.RemoveTargetsOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	r, _, err := s.rule(at, in.EventBusName, in.Rule)
	if err != nil {
		return nil, err
	}
	out := &eventbridge.RemoveTargetsOutput{FailedEntries: []types.RemoveTargetsResultEntry{}}
	for _, id := range in.Ids {
		i := slices.IndexFunc(r.Targets, func(t types.Target) bool { return *t.Id == id })
		if i < 0 {
			out.FailedEntryCount++
			out.FailedEntries = append(out.FailedEntries, types.RemoveTargetsResultEntry{
				TargetId: aws.String(id), ErrorCode: aws.String("ResourceNotFoundException"), ErrorMessage: aws.String("Rule " + r.Name + " does not have a target " + id),
			})
			continue
		}
		r.Targets = slices.Delete(slices.Clone(r.Targets), i, i+1)
	}
	return out, nil
}

// PutEvents puts an application's own events on buses.
func (s *Service) PutEvents(ctx context.Context, in *eventbridge.PutEventsInput, optFns ...func(*eventbridge.Options)) (*eventbridge.PutEventsOutput, error) {
	if len(in.Entries) == 0 || len(in.Entries) > mostEntries {
		return nil, wire.Errorf("ValidationException", "%d entries given; 1 to %d are allowed", len(in.Entries), mostEntries)
	}
	at := scope.KeyOf(s.caller(ctx, optFns))
	out := &eventbridge.PutEventsOutput{}
	for _, entry := range in.Entries {
		event, on, code, message := s.newEvent(at, entry)
		if code == "" {
			if err := s.emit(ctx, event, on); err != nil {
				code, message = "InternalException", err.Error()
			}
		}
		if code != "" {
			out.FailedEntryCount++
			out.Entries = append(out.Entries, types.PutEventsResultEntry{ErrorCode: aws.String(code), ErrorMessage: aws.String(message)})
			continue
		}
		out.Entries = append(out.Entries, types.PutEventsResultEntry{EventId: aws.String(event.ID)})
	}
	return out, nil
}

// newEvent makes the event of an entry, and says on which bus it goes: one of another
// account has an ARN. What the bus's policy says is decided before.
func (s *Service) newEvent(at scope.Key, entry types.PutEventsRequestEntry) (e Event, on busAddress, code, message string) {
	detail := aws.ToString(entry.Detail)
	var fields map[string]any
	switch {
	case aws.ToString(entry.Source) == "":
		return e, on, "InvalidArgument", "Parameter Source is not valid. Reason: Source is a required argument."
	case strings.HasPrefix(*entry.Source, "aws."):
		return e, on, "NotAuthorizedForSourceException", "Not authorized for the source."
	case aws.ToString(entry.DetailType) == "":
		return e, on, "InvalidArgument", "Parameter DetailType is not valid. Reason: DetailType is a required argument."
	case len(detail) > entryBytes:
		return e, on, "InvalidArgument", fmt.Sprintf("The entry is larger than %d bytes.", entryBytes)
	case json.Unmarshal([]byte(detail), &fields) != nil:
		return e, on, "MalformedDetail", "Detail is malformed."
	}
	on = busAddress{Key: at}
	ref := aws.ToString(entry.EventBusName)
	if isBus(ref) {
		on.Account = addressOf(ref).Account
	}
	s.mu.Lock()
	b, err := s.bus(on.Key, ref)
	s.mu.Unlock()
	if err != nil {
		var api smithy.APIError
		errors.As(err, &api) // all of them are
		return e, on, api.ErrorCode(), api.ErrorMessage()
	}
	on.Bus = b.Name
	e = Event{
		ID: uuid.NewString(), Source: *entry.Source, DetailType: *entry.DetailType, Account: at.Account, Region: at.Region,
		Resources: entry.Resources, Detail: json.RawMessage(detail), Bus: b.Name,
	}
	if entry.Time != nil {
		e.Time = *entry.Time
	}
	return e, on, "", ""
}

// TestEventPattern says whether a pattern matches an event.
func (s *Service) TestEventPattern(_ context.Context, in *eventbridge.TestEventPatternInput, _ ...func(*eventbridge.Options)) (*eventbridge.TestEventPatternOutput, error) {
	pattern, err := ParsePattern(aws.ToString(in.EventPattern))
	if err != nil {
		return nil, &types.InvalidEventPatternException{Message: aws.String("Event pattern is not valid. Reason: " + err.Error())}
	}
	var event any
	if err := json.Unmarshal([]byte(aws.ToString(in.Event)), &event); err != nil {
		return nil, wire.Errorf("ValidationException", "Parameter Event is not valid. Reason: %s", err)
	}
	return &eventbridge.TestEventPatternOutput{Result: pattern.Match(event)}, nil
}
