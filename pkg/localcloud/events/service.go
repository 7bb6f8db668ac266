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
	// MayPut says why the caller of ctx may not put events onto the bus of in. Nil:
	// everybody may.
	MayPut func(ctx context.Context, in *eventbridge.PutEventsInput) error
	// Disturb lets an event arrive on a bus by calling deliver, which does not block:
	// at once, later, more than once or never. Nil: at once.
	Disturb func(e Arrival, deliver func())
	Logger  *slog.Logger
}

// Arrival is an event that is about to arrive on a bus.
type Arrival struct {
	Account, Region    string // of the bus
	Source, DetailType string
	Document           any // the event as encoding/json decodes it
}

// Event is an event of an account and region, on its way to a bus there. Account,
// Region and Detail are required; ID and Time are given when empty, Bus is "default".
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
	Policy      string `json:",omitempty"` // JSON; empty: none
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

// Subscribe calls f with every event that is emitted, in order, until cancel is
// called: before Disturb, and not again on other buses. f must not block.
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

// busAddress is an event bus.
type busAddress struct {
	scope.Key
	Bus string
}

// addressOf is the bus of an ARN, of the form that serves has checked.
func addressOf(arn string) busAddress {
	parts := strings.Split(arn, ":")
	return busAddress{scope.Key{Account: parts[4], Region: parts[3]}, strings.TrimPrefix(parts[5], "event-bus/")}
}

// item is an event between buses and targets.
type item struct {
	Event
	raw      []byte // as targets get it
	document any    // raw, decoded
	// forwarded says that a rule of another bus sent it. EventBridge routes such an event
	// to no third bus, so that rules cannot send events in circles
	// (https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-bus-to-bus.html).
	forwarded bool
}

// Emit puts an event on its bus. Rules that match send it to their targets in
// the background; what a target answers is logged, not returned.
func (s *Service) Emit(ctx context.Context, e Event) error {
	if e.Bus == "" {
		e.Bus = DefaultBus
	}
	return s.emit(ctx, e, busAddress{scope.Key{Account: e.Account, Region: e.Region}, e.Bus})
}

// emit puts an event on a bus, which may be of another account.
func (s *Service) emit(ctx context.Context, e Event, on busAddress) error {
	if e.ID == "" {
		e.ID = uuid.NewString()
	}
	if e.Time.IsZero() {
		e.Time = s.cfg.Clock.Now()
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
	it := item{Event: e, raw: raw}
	if err := json.Unmarshal(raw, &it.document); err != nil {
		return fmt.Errorf("event %s %q: %w", e.Source, e.DetailType, err)
	}
	s.tell(e)
	s.arrive(ctx, it, on)
	return nil
}

// tell calls the listeners.
func (s *Service) tell(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(s.listeners)) {
		s.listeners[id](e)
	}
}

// arrive lets an event arrive on a bus, as Disturb wants it.
func (s *Service) arrive(ctx context.Context, it item, on busAddress) {
	deliver := func() { s.dispatch(ctx, it, on) }
	if s.cfg.Disturb == nil {
		deliver()
		return
	}
	s.cfg.Disturb(Arrival{Account: on.Account, Region: on.Region, Source: it.Source, DetailType: it.DetailType, Document: it.document}, deliver)
}

// dispatch sends an event that is on a bus to the targets there.
func (s *Service) dispatch(ctx context.Context, it item, on busAddress) {
	received := s.cfg.Clock.Now()
	for _, d := range s.route(it, on) {
		input, err := targetInput(d.target, &d.rule, it.raw, it.document, received)
		if err != nil {
			s.cfg.Logger.Warn("event not delivered", "rule", d.rule.ARN, "target", aws.ToString(d.target.Arn), "error", err)
			continue
		}
		s.work.Go(ctx, func(ctx context.Context) {
			ctx = wire.WithCaller(ctx, wire.Caller{Account: on.Account, Region: on.Region, ARN: Principal, Source: d.rule.ARN})
			s.deliver(ctx, d, input, it)
		})
	}
}

// delivered is an event's rule and one of its targets.
type delivered struct {
	rule   rule
	on     busAddress // bus of the rule
	target types.Target
}

// route finds the targets of an event on a bus, sorted by rule and id.
func (s *Service) route(it item, on busAddress) []delivered {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.at(on.Key)[on.Bus]
	if !ok {
		return nil
	}
	var out []delivered
	for _, name := range slices.Sorted(maps.Keys(b.Rules)) {
		r := b.Rules[name]
		if r.State == types.RuleStateDisabled || !r.compiled.Match(it.document) {
			continue
		}
		for _, t := range r.Targets {
			if it.forwarded && serviceOf(aws.ToString(t.Arn)) == "events" {
				s.cfg.Logger.Debug("event not forwarded again", "rule", r.ARN, "target", aws.ToString(t.Arn))
				continue
			}
			out = append(out, delivered{rule: *r, on: on, target: t})
		}
	}
	return out
}

// Principal is the service that sends events to targets and dead letter queues.
const Principal = "events.amazonaws.com"

// deliver sends an event to a target until it takes it or the retry policy is
// exhausted, and then to the target's dead letter queue
// (https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html).
func (s *Service) deliver(ctx context.Context, d delivered, input []byte, it item) {
	var policy delivery.Policy
	if p := d.target.RetryPolicy; p != nil {
		policy = delivery.Policy{MaximumAge: p.MaximumEventAgeInSeconds, MaximumRetries: p.MaximumRetryAttempts}
	}
	result := delivery.Run(ctx, s.cfg.Clock, policy, func(int) error { return s.try(ctx, d, input, it) })
	if result.Err == nil || ctx.Err() != nil {
		return
	}
	s.cfg.Logger.Warn("event not delivered", "rule", d.rule.ARN, "target", aws.ToString(d.target.Arn), "retries", result.Retries, "error", result.Err)
	if d.target.DeadLetterConfig == nil || d.target.DeadLetterConfig.Arn == nil {
		return
	}
	in := &sqs.SendMessageInput{MessageBody: aws.String(string(it.raw)), MessageAttributes: result.Attributes(map[string]string{
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
func (s *Service) try(ctx context.Context, d delivered, input []byte, it item) error {
	t := d.target
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
		_, err = s.cfg.StateMachines.StartExecution(ctx, &sfn.StartExecutionInput{StateMachineArn: t.Arn, Input: aws.String(string(input)), Name: aws.String(it.ID + "_" + uuid.NewString())})
	case "sns":
		_, err = s.cfg.Topics.Publish(ctx, &sns.PublishInput{TopicArn: t.Arn, Message: aws.String(string(input))})
	case "sqs":
		return s.send(ctx, arn, &sqs.SendMessageInput{MessageBody: aws.String(string(input))})
	case "events":
		return s.forward(ctx, d, it)
	}
	return err
}

// forward sends an event to another bus. It stays one of its own account and region.
func (s *Service) forward(ctx context.Context, d delivered, it item) error {
	arn := aws.ToString(d.target.Arn)
	to := addressOf(arn)
	if to == d.on {
		return wire.Errorf("ValidationException", "rule %s sends the events of bus %s to itself", d.rule.Name, to.Bus)
	}
	if err := checkForwarding(d.target, d.on.Key); err != nil {
		return err
	}
	if d.target.RoleArn != nil && s.cfg.MayPut != nil {
		if err := s.cfg.MayPut(ctx, &eventbridge.PutEventsInput{Entries: []types.PutEventsRequestEntry{{
			EventBusName: &arn, Source: aws.String(it.Source), DetailType: aws.String(it.DetailType), Resources: it.Resources,
		}}}); err != nil {
			return err
		}
	}
	s.mu.Lock()
	_, err := s.bus(to.Key, to.Bus)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	it.forwarded = true
	s.arrive(ctx, it, to)
	return nil
}

// checkForwarding refuses a bus in another account or region as a target without a role
// (https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-cross-account.html).
func checkForwarding(t types.Target, from scope.Key) error {
	arn := aws.ToString(t.Arn)
	if serviceOf(arn) == "events" && addressOf(arn).Key != from && aws.ToString(t.RoleArn) == "" {
		return wire.Errorf("ValidationException", "RoleArn is required for target %s.", arn)
	}
	return nil
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
			"PutPermission":     wire.Op(s.PutPermission),
			"PutRule":           wire.Op(s.PutRule),
			"PutTargets":        wire.Op(s.PutTargets),
			"RemovePermission":  wire.Op(s.RemovePermission),
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
