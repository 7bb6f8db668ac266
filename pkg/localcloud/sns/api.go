package sns

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sns/types"
	"github.com/google/uuid"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// pageSize is the number of topics or subscriptions in a list
// (https://docs.aws.amazon.com/sns/latest/api/API_ListTopics.html).
const pageSize = 100

var topicName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,256}$`)

func invalid(format string, args ...any) error {
	return &types.InvalidParameterException{Message: aws.String("Invalid parameter: " + fmt.Sprintf(format, args...))}
}

// CreateTopic makes a topic, or returns the existing one with that name.
func (s *Service) CreateTopic(ctx context.Context, in *sns.CreateTopicInput, optFns ...func(*sns.Options)) (*sns.CreateTopicOutput, error) {
	name := aws.ToString(in.Name)
	if !topicName.MatchString(name) {
		return nil, invalid("Topic Name %q: 1 to 256 of letters, digits, - _ are allowed (the embedded SNS has no FIFO topics)", name)
	}
	if err := checkTopicAttributes(in.Attributes); err != nil {
		return nil, err
	}
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.topics[at] == nil {
		s.topics[at] = map[string]*topic{}
	}
	t, ok := s.topics[at][name]
	if !ok {
		t = &topic{
			ARN: partition.ARN("sns", at.Region, at.Account, name), Tags: map[string]string{}, Attributes: maps.Clone(in.Attributes),
		}
		for _, tag := range in.Tags {
			t.Tags[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
		}
		s.topics[at][name] = t
	}
	return &sns.CreateTopicOutput{TopicArn: aws.String(t.ARN)}, nil
}

// DeleteTopic deletes a topic with its subscriptions. It succeeds if the topic does not
// exist, as on AWS.
func (s *Service) DeleteTopic(_ context.Context, in *sns.DeleteTopicInput, _ ...func(*sns.Options)) (*sns.DeleteTopicOutput, error) {
	m := topicARN.FindStringSubmatch(aws.ToString(in.TopicArn))
	if m == nil {
		return nil, invalid("TopicArn %q", aws.ToString(in.TopicArn))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.topics[scope.Key{Account: m[2], Region: m[1]}], m[3])
	return &sns.DeleteTopicOutput{}, nil
}

// GetTopicAttributes returns a topic's attributes.
func (s *Service) GetTopicAttributes(_ context.Context, in *sns.GetTopicAttributesInput, _ ...func(*sns.Options)) (*sns.GetTopicAttributesOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.topic(aws.ToString(in.TopicArn))
	if err != nil {
		return nil, err
	}
	attributes := maps.Clone(t.Attributes)
	if attributes == nil {
		attributes = map[string]string{}
	}
	attributes["TopicArn"] = t.ARN
	attributes["Owner"] = strings.Split(t.ARN, ":")[4]
	attributes["SubscriptionsConfirmed"] = strconv.Itoa(len(t.Subscriptions))
	attributes["SubscriptionsPending"] = "0"
	return &sns.GetTopicAttributesOutput{Attributes: attributes}, nil
}

// ListTopics lists the account's topics by name.
func (s *Service) ListTopics(ctx context.Context, in *sns.ListTopicsInput, optFns ...func(*sns.Options)) (*sns.ListTopicsOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	page, next, err := scope.Page(slices.Sorted(maps.Keys(s.topics[at])), aws.ToString(in.NextToken), pageSize)
	if err != nil {
		return nil, err
	}
	out := &sns.ListTopicsOutput{NextToken: scope.Optional(next)}
	for _, name := range page {
		out.Topics = append(out.Topics, types.Topic{TopicArn: aws.String(s.topics[at][name].ARN)})
	}
	return out, nil
}

// Subscribe subscribes a Lambda function, a queue, or an HTTP endpoint on this
// machine to a topic. The endpoint need not confirm. Everybody can subscribe, as
// for public topics.
func (s *Service) Subscribe(ctx context.Context, in *sns.SubscribeInput, optFns ...func(*sns.Options)) (*sns.SubscribeOutput, error) {
	protocol, endpoint := aws.ToString(in.Protocol), aws.ToString(in.Endpoint)
	if err := s.checkEndpoint(protocol, endpoint); err != nil {
		return nil, err
	}
	sub := subscription{Protocol: protocol, Endpoint: endpoint, Owner: s.caller(ctx, optFns).Account}
	for _, name := range slices.Sorted(maps.Keys(in.Attributes)) {
		if err := sub.set(name, in.Attributes[name]); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.topic(aws.ToString(in.TopicArn))
	if err != nil {
		return nil, err
	}
	for _, have := range t.Subscriptions {
		if have.Protocol != protocol || have.Endpoint != endpoint {
			continue
		}
		if have.Raw != sub.Raw || !maps.Equal(have.Attributes, sub.Attributes) {
			return nil, invalid("Attributes Reason: Subscription already exists with different attributes")
		}
		return &sns.SubscribeOutput{SubscriptionArn: aws.String(have.ARN)}, nil
	}
	sub.ARN = t.ARN + ":" + uuid.NewString()
	t.Subscriptions = append(t.Subscriptions, sub)
	return &sns.SubscribeOutput{SubscriptionArn: aws.String(sub.ARN)}, nil
}

func (s *Service) checkEndpoint(protocol, endpoint string) error {
	switch protocol {
	case "lambda":
		if s.cfg.Functions == nil {
			return invalid("Protocol lambda: no Lambda is configured")
		}
		if !strings.Contains(endpoint, ":function:") {
			return invalid("Lambda endpoint ARN %q", endpoint)
		}
		return nil
	case "sqs":
		if s.cfg.Queues == nil {
			return invalid("Protocol sqs: no SQS is configured")
		}
		if _, _, err := scope.QueueURL(endpoint); err != nil {
			return invalid("SQS endpoint ARN: %s", err)
		}
		return nil
	case "http", "https":
		u, err := url.Parse(endpoint)
		if err != nil || u.Scheme != protocol {
			return invalid("Endpoint must match the specified protocol")
		}
		if ip := net.ParseIP(u.Hostname()); u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return invalid("Endpoint %s: the embedded SNS sends to this machine only (localhost, 127.0.0.1, [::1])", endpoint)
		}
		return nil
	}
	return invalid("Protocol %q: the embedded SNS sends to http, https, lambda and sqs", protocol)
}

// Unsubscribe ends a subscription. It succeeds if the subscription does not exist, as on AWS.
func (s *Service) Unsubscribe(_ context.Context, in *sns.UnsubscribeInput, _ ...func(*sns.Options)) (*sns.UnsubscribeOutput, error) {
	arn := aws.ToString(in.SubscriptionArn)
	i := strings.LastIndex(arn, ":")
	if i < 0 {
		return nil, invalid("SubscriptionArn %q", arn)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t, err := s.topic(arn[:i]); err == nil {
		t.Subscriptions = slices.DeleteFunc(t.Subscriptions, func(have subscription) bool { return have.ARN == arn })
	}
	return &sns.UnsubscribeOutput{}, nil
}

// ListSubscriptions lists the account's subscriptions in the region, also to
// topics of others.
func (s *Service) ListSubscriptions(ctx context.Context, in *sns.ListSubscriptionsInput, optFns ...func(*sns.Options)) (*sns.ListSubscriptionsOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []types.Subscription
	for key, topics := range s.topics {
		for _, t := range topics {
			for _, sub := range t.subscriptions() {
				if key.Region == at.Region && aws.ToString(sub.Owner) == at.Account {
					all = append(all, sub)
				}
			}
		}
	}
	slices.SortFunc(all, func(a, b types.Subscription) int {
		return strings.Compare(aws.ToString(a.SubscriptionArn), aws.ToString(b.SubscriptionArn))
	})
	page, next, err := scope.Page(all, aws.ToString(in.NextToken), pageSize)
	if err != nil {
		return nil, err
	}
	return &sns.ListSubscriptionsOutput{Subscriptions: page, NextToken: scope.Optional(next)}, nil
}

// ListSubscriptionsByTopic lists a topic's subscriptions, oldest first.
func (s *Service) ListSubscriptionsByTopic(_ context.Context, in *sns.ListSubscriptionsByTopicInput, _ ...func(*sns.Options)) (*sns.ListSubscriptionsByTopicOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.topic(aws.ToString(in.TopicArn))
	if err != nil {
		return nil, err
	}
	page, next, err := scope.Page(t.subscriptions(), aws.ToString(in.NextToken), pageSize)
	if err != nil {
		return nil, err
	}
	return &sns.ListSubscriptionsByTopicOutput{Subscriptions: page, NextToken: scope.Optional(next)}, nil
}

func (t *topic) subscriptions() []types.Subscription {
	var out []types.Subscription
	for _, sub := range t.Subscriptions {
		out = append(out, types.Subscription{
			SubscriptionArn: aws.String(sub.ARN), TopicArn: aws.String(t.ARN), Protocol: aws.String(sub.Protocol),
			Endpoint: aws.String(sub.Endpoint), Owner: aws.String(sub.Owner),
		})
	}
	return out
}
