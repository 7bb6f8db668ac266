package sns

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/google/uuid"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// Limits of a message (https://docs.aws.amazon.com/sns/latest/api/API_Publish.html).
const (
	longestMessage = 256 << 10 // bytes
	longestSubject = 100       // characters
)

// Publish sends a message to a topic's subscribers in the background.
func (s *Service) Publish(ctx context.Context, in *sns.PublishInput, _ ...func(*sns.Options)) (*sns.PublishOutput, error) {
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
	s.mu.Lock()
	t, err := s.topic(arn)
	if err != nil {
		s.mu.Unlock()
		return nil, err
	}
	t.Messages = append(t.Messages, message)
	if extra := len(t.Messages) - keptMessages; extra > 0 {
		t.Messages = slices.Clone(t.Messages[extra:])
	}
	subscriptions := slices.Clone(t.Subscriptions)
	for _, id := range slices.Sorted(maps.Keys(s.listeners[arn])) {
		s.listeners[arn][id](message)
	}
	s.mu.Unlock()

	for _, sub := range subscriptions {
		s.work.Go(ctx, func(ctx context.Context) {
			if err := s.deliver(ctx, sub, message); err != nil {
				s.cfg.Logger.Warn("message not delivered", "subscription", sub.ARN, "endpoint", sub.Endpoint, "message", message.ID, "error", err)
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

// notification is a message as endpoints get it
// (https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html).
// It bears no signature: nobody here could make one that AWS's certificate
// verifies.
type notification struct {
	Type              string
	MessageID         string `json:"MessageId"`
	TopicArn          string
	Subject           *string `json:"Subject"`
	Message           string
	Timestamp         string
	MessageAttributes map[string]attribute `json:",omitempty"`
}

type attribute struct {
	Type  string
	Value string
}

func (m Message) notification(protocol string) notification {
	n := notification{
		Type: "Notification", MessageID: m.ID, TopicArn: m.TopicARN, Subject: scope.Optional(m.Subject), Message: m.bodyFor(protocol),
		Timestamp: m.Time.UTC().Format("2006-01-02T15:04:05.000Z"),
	}
	if len(m.Attributes) > 0 {
		n.MessageAttributes = map[string]attribute{}
	}
	for name, a := range m.Attributes {
		n.MessageAttributes[name] = attribute{Type: aws.ToString(a.DataType), Value: aws.ToString(a.StringValue)}
	}
	return n
}

func (s *Service) deliver(ctx context.Context, sub subscription, m Message) error {
	if sub.Protocol == "lambda" {
		return s.invoke(ctx, sub, m)
	}
	body := []byte(m.bodyFor(sub.Protocol))
	if !sub.Raw {
		var err error
		if body, err = json.Marshal(m.notification(sub.Protocol)); err != nil {
			return fmt.Errorf("message %s: %w", m.ID, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, sub.Endpoint, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "text/plain; charset=UTF-8")
	request.Header.Set("X-Amz-Sns-Message-Type", "Notification")
	request.Header.Set("X-Amz-Sns-Message-Id", m.ID)
	request.Header.Set("X-Amz-Sns-Topic-Arn", m.TopicARN)
	request.Header.Set("X-Amz-Sns-Subscription-Arn", sub.ARN)
	response, err := s.cfg.Client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10)) // so that the connection can be used again
	if response.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("the endpoint answered %s", response.Status)
	}
	return nil
}

// Principal is the service that invokes functions.
const Principal = "sns.amazonaws.com"

// invoke gives a message to a function as Lambda's event source does
// (https://docs.aws.amazon.com/lambda/latest/dg/with-sns.html).
func (s *Service) invoke(ctx context.Context, sub subscription, m Message) error {
	payload, err := json.Marshal(map[string]any{"Records": []map[string]any{{
		"EventSource": "aws:sns", "EventVersion": "1.0", "EventSubscriptionArn": sub.ARN, "Sns": m.notification(sub.Protocol),
	}}})
	if err != nil {
		return fmt.Errorf("message %s: %w", m.ID, err)
	}
	parts := strings.Split(sub.Endpoint, ":")
	if len(parts) < 7 {
		return fmt.Errorf("%q is not the ARN of a function", sub.Endpoint)
	}
	ctx = wire.WithCaller(ctx, wire.Caller{Account: parts[4], Region: parts[3], ARN: Principal, Source: m.TopicARN})
	_, err = s.cfg.Functions.Invoke(ctx, &lambda.InvokeInput{FunctionName: aws.String(sub.Endpoint), Payload: payload, InvocationType: lambdatypes.InvocationTypeEvent})
	return err
}
