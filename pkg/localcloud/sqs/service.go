// Package sqs is the Simple Queue Service of the embedded AWS: standard queues,
// whose messages are hidden, come back, move to a dead letter queue and expire on
// the embedded AWS's clock.
package sqs

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/persist"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// Config is the configuration of a Service.
type Config struct {
	Clock   clock.Clock
	Default wire.Caller
	// Endpoint returns the beginning of queues' URLs. If it is nil or returns "",
	// they are AWS's. A queue is found by the end of its URL, whatever the
	// beginning.
	Endpoint func() string
	Logger   *slog.Logger
}

// queue is one queue, guarded by s.mu.
type queue struct {
	Name       string
	ARN        string
	Attributes map[string]string // explicitly set attributes
	Tags       map[string]string
	Created    time.Time
	Modified   time.Time
	Messages   []*message // oldest first

	arrived chan struct{} // closed and replaced when there may be messages
}

// message is one message of a queue.
type message struct {
	ID         string
	Body       string
	Attributes map[string]types.MessageAttributeValue `json:",omitempty"`
	Sender     string
	Sent       time.Time
	Visible    time.Time // time from which it can be received
	First      time.Time // time of the first reception, or zero
	Receives   int
	Receipt    string // of the last reception
	From       string `json:",omitempty"` // ARN of the queue from which it was moved
}

// Service implements SQS. It is safe for concurrent use.
type Service struct {
	cfg Config

	mu     sync.Mutex
	queues map[scope.Key]map[string]*queue // by name
}

// New returns a Service without queues.
func New(cfg Config) *Service {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Endpoint == nil {
		cfg.Endpoint = func() string { return "" }
	}
	return &Service{cfg: cfg, queues: map[scope.Key]map[string]*queue{}}
}

func (s *Service) caller(ctx context.Context, optFns []func(*sqs.Options)) wire.Caller {
	return scope.CallerIn(ctx, s.cfg.Default, optFns, func(o *sqs.Options) *string { return &o.Region })
}

func arnOf(at scope.Key, name string) string {
	return partition.ARN("sqs", at.Region, at.Account, name)
}

func (s *Service) urlOf(at scope.Key, name string) string {
	base := s.cfg.Endpoint()
	if base == "" {
		base = "https://" + partition.Host("sqs", at.Region)
	}
	return base + "/" + at.Account + "/" + name
}

var queueURL = regexp.MustCompile(`/([0-9]{12})/([A-Za-z0-9_-]{1,80})$`)

func noQueue() error {
	return &types.QueueDoesNotExist{Message: aws.String("The specified queue does not exist.")}
}

// find finds a queue by URL, in the region of the call. The caller holds s.mu.
func (s *Service) find(address *string, region string) (*queue, error) {
	m := queueURL.FindStringSubmatch(aws.ToString(address))
	if m == nil {
		return nil, &types.InvalidAddress{Message: aws.String(fmt.Sprintf("The address %q is not valid for this endpoint.", aws.ToString(address)))}
	}
	q := s.queues[scope.Key{Account: m[1], Region: region}][m[2]]
	if q == nil {
		return nil, noQueue()
	}
	s.expire(q)
	return q, nil
}

// byARN finds a queue by ARN, or returns nil. The caller holds s.mu.
func (s *Service) byARN(arn string) *queue {
	parts := strings.Split(arn, ":")
	if len(parts) != 6 || parts[2] != "sqs" {
		return nil
	}
	return s.queues[scope.Key{Account: parts[4], Region: parts[3]}][parts[5]]
}

// Policy returns the resource policy of a queue, or "" if it has none. ok is
// false if the queue does not exist.
func (s *Service) Policy(arn string) (policy string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.byARN(arn)
	if q == nil {
		return "", false
	}
	return q.Attributes[string(types.QueueAttributeNamePolicy)], true
}

// Wire describes the service to the HTTP front end.
func (s *Service) Wire() wire.Service {
	return wire.Service{
		ID: "sqs", Name: "SQS", Protocol: wire.AWSJSON, Version: "2012-11-05", TargetPrefix: "AmazonSQS",
		Operations: map[string]wire.Operation{
			"ChangeMessageVisibility": wire.Op(s.ChangeMessageVisibility),
			"CreateQueue":             wire.Op(s.CreateQueue),
			"DeleteMessage":           wire.Op(s.DeleteMessage),
			"DeleteQueue":             wire.Op(s.DeleteQueue),
			"GetQueueAttributes":      wire.Op(s.GetQueueAttributes),
			"GetQueueUrl":             wire.Op(s.GetQueueUrl),
			"ListQueueTags":           wire.Op(s.ListQueueTags),
			"ListQueues":              wire.Op(s.ListQueues),
			"PurgeQueue":              wire.Op(s.PurgeQueue),
			"ReceiveMessage":          wire.Op(s.ReceiveMessage),
			"SendMessage":             wire.Op(s.SendMessage),
			"SetQueueAttributes":      wire.Op(s.SetQueueAttributes),
			"TagQueue":                wire.Op(s.TagQueue),
			"UntagQueue":              wire.Op(s.UntagQueue),
		},
	}
}

// Snapshot implements wire.Stateful.
func (s *Service) Snapshot() (json.RawMessage, error) { return persist.Snapshot(&s.mu, &s.queues) }

// Restore implements wire.Stateful. Messages that were received and not deleted
// become visible after their time-out, as if the receiver had stopped.
func (s *Service) Restore(raw json.RawMessage) error {
	return persist.Restore(&s.mu, "SQS", raw, &s.queues, func(queues map[scope.Key]map[string]*queue) error {
		for _, named := range queues {
			for _, q := range named {
				q.arrived = make(chan struct{})
			}
		}
		return nil
	})
}
