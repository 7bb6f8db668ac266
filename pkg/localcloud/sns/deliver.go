package sns

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/delivery"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// retries returns SNS's default retry policy for HTTP endpoints: three retries
// (https://docs.aws.amazon.com/sns/latest/dg/sns-message-delivery-retries.html).
// The embedded SNS uses it for Lambda and SQS too, instead of AWS's 100,015
// retries, because these are in the same process.
func retries() delivery.Policy { return delivery.Policy{MaximumRetries: aws.Int32(3)} }

// notification is a message in the form that endpoints receive
// (https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html).
type notification struct {
	Type              string
	MessageID         string `json:"MessageId"`
	TopicArn          string
	Subject           *string `json:",omitempty"`
	Message           string
	Timestamp         string
	SignatureVersion  string
	Signature         string
	SigningCertURL    string               `json:",omitempty"`
	UnsubscribeURL    string               `json:",omitempty"`
	MessageAttributes map[string]attribute `json:",omitempty"`
}

type attribute struct {
	Type  string
	Value string
}

// notification returns the signed message for a subscription.
func (s *Service) notification(sub subscription, m Message, version string) (notification, error) {
	n := notification{
		Type: "Notification", MessageID: m.ID, TopicArn: m.TopicARN, Subject: scope.Optional(m.Subject), Message: m.bodyFor(sub.Protocol),
		Timestamp: m.Time.UTC().Format("2006-01-02T15:04:05.000Z"), SignatureVersion: version,
	}
	if len(m.Attributes) > 0 {
		n.MessageAttributes = map[string]attribute{}
	}
	for name, a := range m.Attributes {
		n.MessageAttributes[name] = attribute{Type: aws.ToString(a.DataType), Value: aws.ToString(a.StringValue)}
	}
	signature, certificate, err := s.sign.sign(n, version)
	if err != nil {
		return n, fmt.Errorf("message %s: %w", m.ID, err)
	}
	base := s.cfg.Endpoint()
	if base == "" {
		base = "https://" + partition.Host("sns", strings.Split(m.TopicARN, ":")[3])
	}
	n.Signature, n.SigningCertURL = signature, base+certificate
	n.UnsubscribeURL = base + "/?Action=Unsubscribe&SubscriptionArn=" + sub.ARN
	return n, nil
}

func (s *Service) deliver(ctx context.Context, sub subscription, m Message, version string) error {
	if sub.Protocol == "lambda" {
		return s.invoke(ctx, sub, m, version)
	}
	body, err := s.body(sub, m, version)
	if err != nil {
		return err
	}
	if sub.Protocol == "sqs" {
		return s.send(ctx, sub, sub.Endpoint, body, m)
	}
	return s.post(ctx, sub, body, m)
}

// body returns what an endpoint receives: the signed notification, or the
// message alone with raw delivery.
func (s *Service) body(sub subscription, m Message, version string) ([]byte, error) {
	if sub.Raw {
		return []byte(m.bodyFor(sub.Protocol)), nil
	}
	n, err := s.notification(sub, m, version)
	if err != nil {
		return nil, err
	}
	return json.Marshal(n)
}

// send sends a message to a queue, as SNS. Raw messages carry their attributes.
func (s *Service) send(ctx context.Context, sub subscription, arn string, body []byte, m Message) error {
	url, of, err := scope.QueueURL(arn)
	if err != nil {
		return err
	}
	in := &sqs.SendMessageInput{QueueUrl: &url, MessageBody: aws.String(string(body)), MessageAttributes: map[string]sqstypes.MessageAttributeValue{}}
	for name, a := range m.Attributes {
		if sub.Raw {
			in.MessageAttributes[name] = sqstypes.MessageAttributeValue{DataType: a.DataType, StringValue: a.StringValue, BinaryValue: a.BinaryValue}
		}
	}
	_, err = s.cfg.Queues.SendMessage(s.asSNS(ctx, m, of), in)
	return err
}

// asSNS returns a context for calls of SNS on behalf of a topic.
func (s *Service) asSNS(ctx context.Context, m Message, of scope.Key) context.Context {
	return wire.WithCaller(ctx, wire.Caller{Account: strings.Split(m.TopicARN, ":")[4], Region: of.Region, ARN: Principal, Source: m.TopicARN})
}

func (s *Service) post(ctx context.Context, sub subscription, body []byte, m Message) error {
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
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10)) // so that the connection can be reused
	if response.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("the endpoint answered %s", response.Status)
	}
	return nil
}

// lambdaNotification is a notification in the form of Lambda's event source: two
// members have other names, and a missing subject is null.
type lambdaNotification struct {
	notification
	Subject           *string
	SigningCertURL    string               `json:"SigningCertUrl"`
	UnsubscribeURL    string               `json:"UnsubscribeUrl"`
	MessageAttributes map[string]attribute `json:"MessageAttributes"`
}

// invoke passes a message to a function, like Lambda's event source
// (https://docs.aws.amazon.com/lambda/latest/dg/with-sns.html).
func (s *Service) invoke(ctx context.Context, sub subscription, m Message, version string) error {
	n, err := s.notification(sub, m, version)
	if err != nil {
		return err
	}
	record := lambdaNotification{
		notification: n, Subject: n.Subject, SigningCertURL: n.SigningCertURL, UnsubscribeURL: n.UnsubscribeURL, MessageAttributes: n.MessageAttributes,
	}
	record.notification.SigningCertURL, record.notification.UnsubscribeURL = "", ""
	if record.MessageAttributes == nil {
		record.MessageAttributes = map[string]attribute{}
	}
	payload, err := json.Marshal(map[string]any{"Records": []map[string]any{{
		"EventSource": "aws:sns", "EventVersion": "1.0", "EventSubscriptionArn": sub.ARN, "Sns": record,
	}}})
	if err != nil {
		return fmt.Errorf("message %s: %w", m.ID, err)
	}
	parts := strings.Split(sub.Endpoint, ":")
	if len(parts) < 7 {
		return wire.Errorf("InvalidParameterValueException", "%q is not the ARN of a function", sub.Endpoint)
	}
	ctx = wire.WithCaller(ctx, wire.Caller{Account: parts[4], Region: parts[3], ARN: Principal, Source: m.TopicARN})
	_, err = s.cfg.Functions.Invoke(ctx, &lambda.InvokeInput{FunctionName: aws.String(sub.Endpoint), Payload: payload, InvocationType: lambdatypes.InvocationTypeEvent})
	return err
}

// bury sends an undelivered message to the subscription's dead letter queue
// (https://docs.aws.amazon.com/sns/latest/dg/sns-dead-letter-queues.html).
func (s *Service) bury(ctx context.Context, sub subscription, m Message, version string, r delivery.Result) {
	arn := deadLetters(sub.Attributes["RedrivePolicy"])
	if arn == "" {
		return
	}
	body, err := s.body(sub, m, version)
	if err == nil {
		err = s.send(ctx, sub, arn, body, m)
	}
	if err != nil {
		s.cfg.Logger.Error("a message is lost: the dead letter queue of the subscription did not accept it", "subscription", sub.ARN, "error", err, "was", r.Err)
	}
}
