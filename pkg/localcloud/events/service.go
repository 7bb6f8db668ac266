// Package events is EventBridge of the embedded AWS: event buses, rules with
// patterns, and targets that are Lambda functions, state machines, SNS topics,
// SQS queues and other buses.
package events

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/google/uuid"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/background"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/delivery"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/persist"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// Config is what a Service needs. Targets of a service that is nil are refused.
type Config struct {
	Clock         clock.Clock
	Default       wire.Caller
	Functions     delivery.Functions
	StateMachines delivery.StateMachines
	Topics        delivery.Topics
	Queues        delivery.Queues
	// Assume returns a context whose calls are those of a session of a target's
	// role, which service assumes. Nil: they are Principal's own.
	Assume func(ctx context.Context, service wire.Caller, roleARN string) (context.Context, error)
	Logger *slog.Logger
}

// Event is an event on its way to a bus. Account, Region and Detail are
// required; ID and Time are given when empty, Bus is "default".
type Event struct {
	ID         string
	Source     string
	DetailType string
	Account    string
	Region     string
	Time       time.Time
	Resources  []string
	Detail     any // what encoding/json can marshal into an object
	Bus        string
}

// DefaultBus is the bus that AWS services send their events to.
const DefaultBus = "default"

type bus struct {
	Name        string
	Description string
	Created     time.Time
	Rules       map[string]*rule
}

type rule struct {
	Name        string
	ARN         string
	Description string
	Pattern     string
	State       types.RuleState
	RoleARN     string
	Targets     []types.Target // by id

	compiled Pattern
}

// Service implements EventBridge.
type Service struct {
	cfg  Config
	work *background.Group

	mu        sync.Mutex
	buses     map[scope.Key]map[string]*bus
	listeners map[int]func(Event)
	last      int
}

// New returns a Service.
func New(cfg Config) *Service {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Service{cfg: cfg, work: background.New(cfg.Clock), buses: map[scope.Key]map[string]*bus{}, listeners: map[int]func(Event){}}
}

// Close ends the deliveries that are under way and waits for that, or until ctx
// ends.
func (s *Service) Close(ctx context.Context) error {
	if err := s.work.Close(ctx); err != nil {
		return fmt.Errorf("events: %w", err)
	}
	return nil
}

func (s *Service) caller(ctx context.Context, optFns []func(*eventbridge.Options)) wire.Caller {
	return scope.CallerIn(ctx, s.cfg.Default, optFns, func(o *eventbridge.Options) *string { return &o.Region })
}

// Subscribe calls f with every event of every bus, in order, until cancel is
// called. f must not block.
func (s *Service) Subscribe(f func(Event)) (cancel func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	id := s.last
	s.listeners[id] = f
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.listeners, id)
	}
}

// envelope is an event as targets get it
// (https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-events-structure.html).
type envelope struct {
	Version    string          `json:"version"`
	ID         string          `json:"id"`
	DetailType string          `json:"detail-type"`
	Source     string          `json:"source"`
	Account    string          `json:"account"`
	Time       string          `json:"time"`
	Region     string          `json:"region"`
	Resources  []string        `json:"resources"`
	Detail     json.RawMessage `json:"detail"`
}

// Emit puts an event on its bus. Rules that match send it to their targets in
// the background; what a target answers is logged, not returned.
func (s *Service) Emit(ctx context.Context, e Event) error {
	if e.ID == "" {
		e.ID = uuid.NewString()
	}
	if e.Time.IsZero() {
		e.Time = s.cfg.Clock.Now()
	}
	if e.Bus == "" {
		e.Bus = DefaultBus
	}
	detail, err := json.Marshal(e.Detail)
	if err != nil {
		return fmt.Errorf("detail of event %s %q: %w", e.Source, e.DetailType, err)
	}
	resources := e.Resources
	if resources == nil {
		resources = []string{}
	}
	raw, err := json.Marshal(envelope{
		Version: "0", ID: e.ID, DetailType: e.DetailType, Source: e.Source, Account: e.Account, Region: e.Region,
		Time: e.Time.UTC().Format(time.RFC3339), Resources: resources, Detail: detail,
	})
	if err != nil {
		return fmt.Errorf("event %s %q: %w", e.Source, e.DetailType, err)
	}
	var document any
	if err := json.Unmarshal(raw, &document); err != nil {
		return fmt.Errorf("event %s %q: %w", e.Source, e.DetailType, err)
	}
	ctx = wire.WithCaller(ctx, wire.Caller{Account: e.Account, Region: e.Region})
	received := s.cfg.Clock.Now()
	for _, d := range s.route(e, document) {
		input, err := targetInput(d.target, &d.rule, raw, document, received)
		if err != nil {
			s.cfg.Logger.Warn("event not delivered", "rule", d.rule.ARN, "target", aws.ToString(d.target.Arn), "error", err)
			continue
		}
		s.work.Go(ctx, func(ctx context.Context) {
			ctx = wire.WithCaller(ctx, wire.Caller{Account: e.Account, Region: e.Region, ARN: Principal, Source: d.rule.ARN})
			s.deliver(ctx, d, input, e, raw)
		})
	}
	return nil
}

// delivered is an event's rule and one of its targets.
type delivered struct {
	rule   rule
	target types.Target
}

// route calls the listeners and finds the targets, sorted by rule and id.
func (s *Service) route(e Event, document any) []delivered {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(s.listeners)) {
		s.listeners[id](e)
	}
	b, ok := s.at(scope.Key{Account: e.Account, Region: e.Region})[e.Bus]
	if !ok {
		return nil
	}
	var out []delivered
	for _, name := range slices.Sorted(maps.Keys(b.Rules)) {
		r := b.Rules[name]
		if r.State != types.RuleStateDisabled && r.compiled.Match(document) {
			for _, t := range r.Targets {
				out = append(out, delivered{rule: *r, target: t})
			}
		}
	}
	return out
}

// Principal is the service that sends events to targets and dead letter queues.
const Principal = "events.amazonaws.com"

// deliver sends an event to a target until it takes it or the retry policy is
// exhausted, and then to the target's dead letter queue
// (https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html).
func (s *Service) deliver(ctx context.Context, d delivered, input []byte, e Event, raw []byte) {
	var policy delivery.Policy
	if p := d.target.RetryPolicy; p != nil {
		policy = delivery.Policy{MaximumAge: p.MaximumEventAgeInSeconds, MaximumRetries: p.MaximumRetryAttempts}
	}
	result := delivery.Run(ctx, s.cfg.Clock, policy, func(int) error { return s.try(ctx, d.target, input, e) })
	if result.Err == nil || ctx.Err() != nil {
		return
	}
	s.cfg.Logger.Warn("event not delivered", "rule", d.rule.ARN, "target", aws.ToString(d.target.Arn), "retries", result.Retries, "error", result.Err)
	if d.target.DeadLetterConfig == nil || d.target.DeadLetterConfig.Arn == nil {
		return
	}
	in := &sqs.SendMessageInput{MessageBody: aws.String(string(raw)), MessageAttributes: result.Attributes(map[string]string{
		"RULE_ARN": d.rule.ARN, "TARGET_ARN": aws.ToString(d.target.Arn), "RETRY_ATTEMPTS": strconv.Itoa(result.Retries),
	})}
	if err := s.send(ctx, *d.target.DeadLetterConfig.Arn, in); err != nil {
		s.cfg.Logger.Error("lost: the dead letter queue of a rule's target did not take the event", "rule", d.rule.ARN, "error", err)
	}
}

// send puts a message into a queue, as EventBridge.
func (s *Service) send(ctx context.Context, arn string, in *sqs.SendMessageInput) error {
	url, of, err := scope.QueueURL(arn)
	if err != nil {
		return err
	}
	in.QueueUrl = &url
	who := s.caller(ctx, nil) // EventBridge, for a rule
	who.Region = of.Region
	_, err = s.cfg.Queues.SendMessage(wire.WithCaller(ctx, who), in)
	return err
}

// try sends an event to a target once.
func (s *Service) try(ctx context.Context, t types.Target, input []byte, e Event) error {
	arn := aws.ToString(t.Arn)
	var err error
	if t.RoleArn != nil && s.cfg.Assume != nil {
		if ctx, err = s.cfg.Assume(ctx, s.caller(ctx, nil), *t.RoleArn); err != nil {
			return err
		}
	}
	switch serviceOf(arn) {
	case "lambda":
		_, err = s.cfg.Functions.Invoke(ctx, &lambda.InvokeInput{FunctionName: t.Arn, Payload: input, InvocationType: lambdatypes.InvocationTypeEvent})
	case "states":
		_, err = s.cfg.StateMachines.StartExecution(ctx, &sfn.StartExecutionInput{StateMachineArn: t.Arn, Input: aws.String(string(input)), Name: aws.String(e.ID + "_" + uuid.NewString())})
	case "sns":
		_, err = s.cfg.Topics.Publish(ctx, &sns.PublishInput{TopicArn: t.Arn, Message: aws.String(string(input))})
	case "sqs":
		return s.send(ctx, arn, &sqs.SendMessageInput{MessageBody: aws.String(string(input))})
	case "events":
		parts := strings.Split(arn, ":")
		forwarded := e
		forwarded.Region, forwarded.Account, forwarded.Bus = parts[3], parts[4], strings.TrimPrefix(parts[5], "event-bus/")
		if forwarded.Account == e.Account && forwarded.Region == e.Region && forwarded.Bus == e.Bus {
			return wire.Errorf("ValidationException", "rule sends the events of bus %s to itself", e.Bus)
		}
		return s.Emit(ctx, forwarded)
	}
	return err
}

func serviceOf(arn string) string {
	parts := strings.Split(arn, ":")
	if len(parts) < 6 || parts[0] != "arn" {
		return ""
	}
	return parts[2]
}

// at returns the buses of an account in a region. s.mu is held.
func (s *Service) at(k scope.Key) map[string]*bus {
	if buses, ok := s.buses[k]; ok {
		return buses
	}
	s.buses[k] = map[string]*bus{DefaultBus: {Name: DefaultBus, Created: s.cfg.Clock.Now(), Rules: map[string]*rule{}}}
	return s.buses[k]
}

// Wire describes the service to the HTTP front.
func (s *Service) Wire() wire.Service {
	return wire.Service{
		ID: "events", Name: "EventBridge", Protocol: wire.AWSJSON, Version: "2015-10-07", TargetPrefix: "AWSEvents",
		Operations: map[string]wire.Operation{
			"CreateEventBus":    wire.Op(s.CreateEventBus),
			"DeleteEventBus":    wire.Op(s.DeleteEventBus),
			"DeleteRule":        wire.Op(s.DeleteRule),
			"DescribeEventBus":  wire.Op(s.DescribeEventBus),
			"DescribeRule":      wire.Op(s.DescribeRule),
			"DisableRule":       wire.Op(s.DisableRule),
			"EnableRule":        wire.Op(s.EnableRule),
			"ListEventBuses":    wire.Op(s.ListEventBuses),
			"ListRules":         wire.Op(s.ListRules),
			"ListTargetsByRule": wire.Op(s.ListTargetsByRule),
			"PutEvents":         wire.Op(s.PutEvents),
			"PutRule":           wire.Op(s.PutRule),
			"PutTargets":        wire.Op(s.PutTargets),
			"RemoveTargets":     wire.Op(s.RemoveTargets),
			"TestEventPattern":  wire.Op(s.TestEventPattern),
		},
	}
}

// Snapshot implements wire.Stateful.
func (s *Service) Snapshot() (json.RawMessage, error) { return persist.Snapshot(&s.mu, &s.buses) }

// Restore implements wire.Stateful.
func (s *Service) Restore(raw json.RawMessage) error {
	return persist.Restore(&s.mu, "EventBridge", raw, &s.buses, func(buses map[scope.Key]map[string]*bus) error {
		for _, named := range buses {
			for _, b := range named {
				for _, r := range b.Rules {
					compiled, err := ParsePattern(r.Pattern)
					if err != nil {
						return fmt.Errorf("rule %s: %w", r.ARN, err)
					}
					r.compiled = compiled
				}
			}
		}
		return nil
	})
}
