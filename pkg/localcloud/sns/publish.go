package sns

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/google/uuid"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/delivery"
)

// Limits of a message (https://docs.aws.amazon.com/sns/latest/api/API_Publish.html).
const (
	longestMessage = 256 << 10 // bytes
	longestSubject = 100       // characters
)

// Publish sends a message to a topic's subscribers in the background. The topic
// of another account must have a policy that allows it.
func (s *Service) Publish(ctx context.Context, in *sns.PublishInput, optFns ...func(*sns.Options)) (*sns.PublishOutput, error) {
	arn := aws.ToString(in.TopicArn)
	if arn == "" {
		arn = aws.ToString(in.TargetArn)
	}
	if arn == "" {
		return nil, invalid("TopicArn or TargetArn Reason: no value for required parameter (the embedded SNS sends to topics only)")
	}
	message, err := s.newMessage(arn, in)
	if err != nil {
		return nil, err
	}
	who := s.caller(ctx, optFns)
	s.mu.Lock()
	t, err := s.topic(arn)
	if err == nil {
		err = t.mayPublish(who)
	}
	if err != nil {
		s.mu.Unlock()
		return nil, err
	}
	version := t.signatureVersion()
	t.Messages = append(t.Messages, message)
	if extra := len(t.Messages) - keptMessages; extra > 0 {
		t.Messages = slices.Clone(t.Messages[extra:])
	}
	subscriptions := slices.Repeat(t.Subscriptions, 1+s.repeats)
	for _, id := range slices.Sorted(maps.Keys(s.listeners[arn])) {
		s.listeners[arn][id](message)
	}
	s.mu.Unlock()

	for _, sub := range subscriptions {
		if !sub.wants(message) {
			continue
		}
		s.work.Go(ctx, func(ctx context.Context) {
			result := delivery.Run(ctx, s.cfg.Clock, retries(), func(int) error { return s.deliver(ctx, sub, message, version) })
			if result.Err != nil && ctx.Err() == nil {
				s.cfg.Logger.Warn("message not delivered", "subscription", sub.ARN, "endpoint", sub.Endpoint, "message", message.ID, "error", result.Err)
				s.bury(ctx, sub, message, version, result)
			}
		})
	}
	return &sns.PublishOutput{MessageId: aws.String(message.ID)}, nil
}

func (s *Service) newMessage(arn string, in *sns.PublishInput) (Message, error) {
	m := Message{
		ID: uuid.NewString(), TopicARN: arn, Subject: aws.ToString(in.Subject), Body: aws.ToString(in.Message),
		Attributes: in.MessageAttributes, Time: s.cfg.Clock.Now(),
	}
	switch {
	case m.Body == "":
		return m, invalid("Empty message")
	case len(m.Body) > longestMessage:
		return m, invalid("Message too long: %d bytes, %d are allowed", len(m.Body), longestMessage)
	case len(m.Subject) > longestSubject || strings.ContainsAny(m.Subject, "\n\r"):
		return m, invalid("Subject: one line of at most %d characters is allowed", longestSubject)
	}
	switch structure := aws.ToString(in.MessageStructure); structure {
	case "":
	case "json":
		if err := json.Unmarshal([]byte(m.Body), &m.ByProtocol); err != nil {
			return m, invalid("Message Structure - JSON message body failed to parse: %s", err)
		}
		body, ok := m.ByProtocol["default"]
		if !ok {
			return m, invalid("Message Structure - No default entry in JSON message body")
		}
		m.Body = body
	default:
		return m, invalid("MessageStructure %q: only json is allowed", structure)
	}
	return m, nil
}

func (m Message) bodyFor(protocol string) string {
	if body, ok := m.ByProtocol[protocol]; ok {
		return body
	}
	return m.Body
}
