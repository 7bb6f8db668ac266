// Package sns is the Simple Notification Service of the embedded AWS: topics
// whose messages go to Lambda functions, to queues, to HTTP endpoints on this
// machine and to functions of the process itself, and are kept for inspection.
// Messages are signed; the embedded SNS serves the certificate.
package sns

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sns/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/background"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/delivery"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/persist"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// keptMessages is the number of messages that a topic keeps.
const keptMessages = 1000

// Principal is the service that delivers messages.
const Principal = "sns.amazonaws.com"

// Config is the configuration of a Service.
type Config struct {
	Clock     clock.Clock
	Default   wire.Caller
	Functions delivery.Functions // if nil, subscriptions of Lambda functions are refused
	Queues    delivery.Queues    // if nil, subscriptions of queues are refused
	Client    *http.Client       // for HTTP endpoints; the default has a time-out of ten seconds
	// Endpoint returns the base URL of the certificate. If it is nil or returns "",
	// messages have the URL of AWS's own certificate, which does not match.
	Endpoint func() string
	Logger   *slog.Logger
}

// Message is a published message.
type Message struct {
	ID         string
	TopicARN   string
	Subject    string
	Body       string                                 // the default entry with MessageStructure "json", otherwise the message
	ByProtocol map[string]string                      `json:",omitempty"`
	Attributes map[string]types.MessageAttributeValue `json:",omitempty"`
	Time       time.Time
}

type topic struct {
	ARN           string
	DisplayName   string
	Tags          map[string]string
	Subscriptions []subscription // oldest first
	Messages      []Message      // oldest first
	Attributes    map[string]string
}

type subscription struct {
	ARN      string
	Protocol string
	Endpoint string
	Owner    string
	Raw      bool
	// Attributes that were set, without RawMessageDelivery.
	Attributes map[string]string `json:",omitempty"`
}

// Service implements SNS.
type Service struct {
	cfg  Config
	work *background.Group
	sign signer

	mu        sync.Mutex
	topics    map[scope.Key]map[string]*topic // by name
	listeners map[string]map[int]func(Message)
	last      int
	repeats   int
}

// Repeat delivers every message this many additional times, because SNS delivers
// at least once.
func (s *Service) Repeat(times int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.repeats = times
}

// New returns a Service.
func New(cfg Config) *Service {
	if cfg.Client == nil {
		cfg.Client = &http.Client{Timeout: 10 * time.Second}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Endpoint == nil {
		cfg.Endpoint = func() string { return "" }
	}
	return &Service{cfg: cfg, work: background.New(cfg.Clock), topics: map[scope.Key]map[string]*topic{}, listeners: map[string]map[int]func(Message){}}
}

// Close stops running deliveries, and waits until they have ended or ctx ends.
func (s *Service) Close(ctx context.Context) error {
	if err := s.work.Close(ctx); err != nil {
		return fmt.Errorf("sns: %w", err)
	}
	return nil
}

func (s *Service) caller(ctx context.Context, optFns []func(*sns.Options)) wire.Caller {
	return scope.CallerIn(ctx, s.cfg.Default, optFns, func(o *sns.Options) *string { return &o.Region })
}

var topicARN = regexp.MustCompile(`^arn:aws[a-z-]*:sns:([a-z0-9-]+):([0-9]{12}):([A-Za-z0-9_-]{1,256})$`)

// topic finds a topic by ARN, in any account and region. The caller holds s.mu.
func (s *Service) topic(arn string) (*topic, error) {
	m := topicARN.FindStringSubmatch(arn)
	if m == nil {
		return nil, &types.InvalidParameterException{Message: aws.String(fmt.Sprintf("Invalid parameter: TopicArn %q", arn))}
	}
	t, ok := s.topics[scope.Key{Account: m[2], Region: m[1]}][m[3]]
	if !ok {
		return nil, &types.NotFoundException{Message: aws.String("Topic does not exist")}
	}
	return t, nil
}

// Listen calls f with every message of a topic until cancel is called. f must
// not block.
func (s *Service) Listen(arn string, f func(Message)) (cancel func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	id := s.last
	if s.listeners[arn] == nil {
		s.listeners[arn] = map[int]func(Message){}
	}
	s.listeners[arn][id] = f
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.listeners[arn], id)
	}
}

// Policy returns the resource policy of a topic, or "" if it has none. ok is
// false if the topic does not exist.
func (s *Service) Policy(arn string) (policy string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.topic(arn)
	if err != nil {
		return "", false
	}
	return t.Attributes["Policy"], true
}

// Messages returns the last 1,000 messages of a topic, oldest first.
func (s *Service) Messages(arn string) []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.topic(arn)
	if err != nil {
		return nil
	}
	return append([]Message(nil), t.Messages...)
}

// Wire describes the service to the HTTP front end.
func (s *Service) Wire() wire.Service {
	return wire.Service{
		ID: "sns", Name: "SNS", Protocol: wire.AWSQuery, Version: "2010-03-31",
		Operations: map[string]wire.Operation{
			"CreateTopic":               wire.Op(s.CreateTopic),
			"DeleteTopic":               wire.Op(s.DeleteTopic),
			"GetSubscriptionAttributes": wire.Op(s.GetSubscriptionAttributes),
			"GetTopicAttributes":        wire.Op(s.GetTopicAttributes),
			"ListSubscriptions":         wire.Op(s.ListSubscriptions),
			"ListSubscriptionsByTopic":  wire.Op(s.ListSubscriptionsByTopic),
			"ListTagsForResource":       wire.Op(s.ListTagsForResource),
			"ListTopics":                wire.Op(s.ListTopics),
			"Publish":                   wire.Op(s.Publish),
			"SetSubscriptionAttributes": wire.Op(s.SetSubscriptionAttributes),
			"SetTopicAttributes":        wire.Op(s.SetTopicAttributes),
			"Subscribe":                 wire.Op(s.Subscribe),
			"TagResource":               wire.Op(s.TagResource),
			"Unsubscribe":               wire.Op(s.Unsubscribe),
			"UntagResource":             wire.Op(s.UntagResource),
		},
	}
}

// Snapshot implements wire.Stateful.
func (s *Service) Snapshot() (json.RawMessage, error) { return persist.Snapshot(&s.mu, &s.topics) }

// Restore implements wire.Stateful.
func (s *Service) Restore(raw json.RawMessage) error {
	return persist.Restore(&s.mu, "SNS", raw, &s.topics, nil)
}
