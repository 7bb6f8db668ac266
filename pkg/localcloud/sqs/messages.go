package sqs

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/uuid"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// Limits of calls
// (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html).
const (
	mostReceived      = 10
	mostAttributes    = 10
	longestWait       = 20 * time.Second
	longestVisibility = 12 * time.Hour
	longestDelay      = 15 * time.Minute
)

func invalidParameter(format string, args ...any) error {
	return wire.Errorf("InvalidParameterValue", format, args...)
}

// SendMessage adds a message to a queue.
func (s *Service) SendMessage(ctx context.Context, in *sqs.SendMessageInput, optFns ...func(*sqs.Options)) (*sqs.SendMessageOutput, error) {
	who := s.caller(ctx, optFns)
	body := aws.ToString(in.MessageBody)
	delay := time.Duration(in.DelaySeconds) * time.Second
	switch {
	case body == "":
		return nil, wire.Errorf("MissingParameter", "The request must contain the parameter MessageBody.")
	case delay < 0 || delay > longestDelay:
		return nil, invalidParameter("Value %d for parameter DelaySeconds is invalid. Reason: 0 to 900 are allowed.", in.DelaySeconds)
	}
	size, err := sizeOf(body, in.MessageAttributes)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.find(in.QueueUrl, who.Region)
	if err != nil {
		return nil, err
	}
	if most, _ := strconv.Atoi(q.attribute("MaximumMessageSize")); size > most {
		return nil, invalidParameter("One or more parameters are invalid. Reason: Message must be shorter than %d bytes.", most)
	}
	if delay == 0 {
		delay = q.seconds("DelaySeconds")
	}
	now := s.cfg.Clock.Now()
	m := &message{
		ID: uuid.NewString(), Body: body, Attributes: maps.Clone(in.MessageAttributes), Sender: who.Account, Sent: now, Visible: now.Add(delay),
	}
	q.Messages = append(q.Messages, m)
	q.wake()
	return &sqs.SendMessageOutput{
		MessageId: aws.String(m.ID), MD5OfMessageBody: aws.String(digest(body)), MD5OfMessageAttributes: scope.Optional(digestOf(m.Attributes)),
	}, nil
}

// sizeOf returns the size of a message that counts for the limit, in bytes.
func sizeOf(body string, attributes map[string]types.MessageAttributeValue) (int, error) {
	if len(attributes) > mostAttributes {
		return 0, invalidParameter("Number of message attributes [%d] exceeds the allowed maximum [%d].", len(attributes), mostAttributes)
	}
	size := len(body)
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		a := attributes[name]
		kind, _, _ := strings.Cut(aws.ToString(a.DataType), ".")
		switch {
		case kind != "String" && kind != "Number" && kind != "Binary":
			return 0, invalidParameter("The message attribute '%s' has an invalid message attribute type: String, Number and Binary are allowed.", name)
		case kind == "Binary" && len(a.BinaryValue) == 0, kind != "Binary" && aws.ToString(a.StringValue) == "":
			return 0, invalidParameter("The message attribute '%s' must contain a non-empty value.", name)
		}
		size += len(name) + len(aws.ToString(a.DataType)) + len(aws.ToString(a.StringValue)) + len(a.BinaryValue)
	}
	return size, nil
}

// wake wakes the waiting receivers, because there may be a message.
func (q *queue) wake() {
	close(q.arrived)
	q.arrived = make(chan struct{})
}

// expire removes messages that are too old. The caller holds s.mu.
func (s *Service) expire(q *queue) {
	oldest := s.cfg.Clock.Now().Add(-q.seconds("MessageRetentionPeriod"))
	q.Messages = slices.DeleteFunc(q.Messages, func(m *message) bool { return m.Sent.Before(oldest) })
}

// ReceiveMessage hides some messages and returns them. If there are none, it
// waits as long as the call or the queue specifies.
func (s *Service) ReceiveMessage(ctx context.Context, in *sqs.ReceiveMessageInput, optFns ...func(*sqs.Options)) (*sqs.ReceiveMessageOutput, error) {
	region := s.caller(ctx, optFns).Region
	if in.MaxNumberOfMessages < 0 || in.MaxNumberOfMessages > mostReceived {
		return nil, invalidParameter("Value %d for parameter MaxNumberOfMessages is invalid. Reason: Must be between 1 and 10, if provided.", in.MaxNumberOfMessages)
	}
	wait := time.Duration(in.WaitTimeSeconds) * time.Second
	if wait < 0 || wait > longestWait {
		return nil, invalidParameter("Value %d for parameter WaitTimeSeconds is invalid. Reason: Must be >= 0 and <= 20, if provided.", in.WaitTimeSeconds)
	}
	var until time.Time
	for {
		out, next, err := s.receive(region, in)
		if err != nil || len(out.Messages) > 0 {
			return out, err
		}
		now := s.cfg.Clock.Now()
		if until.IsZero() {
			if wait == 0 {
				wait = next.wait
			}
			until = now.Add(wait)
		}
		if !now.Before(until) {
			return out, nil
		}
		limit := until.Sub(now)
		if !next.visible.IsZero() {
			limit = min(limit, next.visible.Sub(now))
		}
		if err := s.cfg.Clock.Wait(ctx, next.arrived, limit); err != nil && !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return nil, err
		}
	}
}

// waiting describes for what a receiver without messages waits.
type waiting struct {
	arrived chan struct{}
	visible time.Time     // time at which the next message becomes visible; zero if none will
	wait    time.Duration // the queue's waiting time
}

// receive takes available messages.
func (s *Service) receive(region string, in *sqs.ReceiveMessageInput) (*sqs.ReceiveMessageOutput, waiting, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.find(in.QueueUrl, region)
	if err != nil {
		return nil, waiting{}, err
	}
	hide := q.seconds("VisibilityTimeout")
	if in.VisibilityTimeout != 0 {
		hide = time.Duration(in.VisibilityTimeout) * time.Second
	}
	if hide < 0 || hide > longestVisibility {
		return nil, waiting{}, invalidParameter("Value %d for parameter VisibilityTimeout is invalid. Reason: Must be >= 0 and <= 43200, if provided.", in.VisibilityTimeout)
	}
	s.giveUp(q)
	now := s.cfg.Clock.Now()
	next := waiting{arrived: q.arrived, wait: q.seconds("ReceiveMessageWaitTimeSeconds")}
	out := &sqs.ReceiveMessageOutput{}
	for _, m := range q.Messages {
		switch {
		case m.Visible.After(now):
			if next.visible.IsZero() || m.Visible.Before(next.visible) {
				next.visible = m.Visible
			}
		case len(out.Messages) < max(1, int(in.MaxNumberOfMessages)):
			m.Receives++
			if m.First.IsZero() {
				m.First = now
			}
			m.Visible, m.Receipt = now.Add(hide), base64.StdEncoding.EncodeToString([]byte(m.ID+" "+uuid.NewString()))
			out.Messages = append(out.Messages, m.received(in))
		}
	}
	return out, next, nil
}

// giveUp moves messages that were received too often to the queue's dead letter
// queue. The caller holds s.mu.
func (s *Service) giveUp(q *queue) {
	text := q.Attributes["RedrivePolicy"]
	if text == "" {
		return
	}
	policy, err := parseRedrive(text)
	dead := s.byARN(policy.Target)
	if err != nil || dead == nil {
		return // as on AWS, messages stay if the dead letter queue does not exist
	}
	most, now := policy.Most.String(), s.cfg.Clock.Now()
	limit, _ := strconv.Atoi(most)
	moved := false
	q.Messages = slices.DeleteFunc(q.Messages, func(m *message) bool {
		if m.Receives < limit || m.Visible.After(now) {
			return false
		}
		m.From, m.Receives, m.Receipt, m.Visible, m.First = q.ARN, 0, "", now, time.Time{}
		dead.Messages = append(dead.Messages, m)
		moved = true
		return true
	})
	if moved {
		dead.wake()
	}
}

// received returns a message with the attributes that the receiver requested.
func (m *message) received(in *sqs.ReceiveMessageInput) types.Message {
	out := types.Message{
		MessageId: aws.String(m.ID), Body: aws.String(m.Body), MD5OfBody: aws.String(digest(m.Body)), ReceiptHandle: aws.String(m.Receipt),
	}
	millis := func(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }
	system := map[string]string{
		"SenderId": m.Sender, "SentTimestamp": millis(m.Sent), "ApproximateReceiveCount": strconv.Itoa(m.Receives), "ApproximateFirstReceiveTimestamp": millis(m.First),
	}
	if m.From != "" {
		system["DeadLetterQueueSourceArn"] = m.From
	}
	asked := map[string]bool{}
	for _, name := range in.MessageSystemAttributeNames {
		asked[string(name)] = true
	}
	//lint:ignore SA1019 older clients send this name
	for _, name := range in.AttributeNames {
		asked[string(name)] = true
	}
	for name, value := range system {
		if asked[name] || asked["All"] {
			if out.Attributes == nil {
				out.Attributes = map[string]string{}
			}
			out.Attributes[name] = value
		}
	}
	for name, value := range m.Attributes {
		if slices.ContainsFunc(in.MessageAttributeNames, func(pattern string) bool { return matchesName(pattern, name) }) {
			if out.MessageAttributes == nil {
				out.MessageAttributes = map[string]types.MessageAttributeValue{}
			}
			out.MessageAttributes[name] = value
		}
	}
	out.MD5OfMessageAttributes = scope.Optional(digestOf(out.MessageAttributes))
	return out
}

// matchesName reports whether an attribute is requested: by name, by All or .*,
// or by a prefix before .* .
func matchesName(pattern, name string) bool {
	prefix, isPrefix := strings.CutSuffix(pattern, ".*")
	return pattern == "All" || pattern == name || isPrefix && strings.HasPrefix(name, prefix)
}

// held finds the message of a receipt. An older receipt of the same message is
// valid too, as on AWS. The caller holds s.mu.
func (q *queue) held(receipt *string) (int, error) {
	raw, err := base64.StdEncoding.DecodeString(aws.ToString(receipt))
	id, _, ok := strings.Cut(string(raw), " ")
	if err != nil || !ok {
		return -1, &types.ReceiptHandleIsInvalid{Message: aws.String(fmt.Sprintf("The input receipt handle %q is not a valid receipt handle.", aws.ToString(receipt)))}
	}
	return slices.IndexFunc(q.Messages, func(m *message) bool { return m.ID == id }), nil
}

// DeleteMessage deletes a received message. It succeeds if the message was
// already deleted, as on AWS.
func (s *Service) DeleteMessage(ctx context.Context, in *sqs.DeleteMessageInput, optFns ...func(*sqs.Options)) (*sqs.DeleteMessageOutput, error) {
	region := s.caller(ctx, optFns).Region
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.find(in.QueueUrl, region)
	if err != nil {
		return nil, err
	}
	i, err := q.held(in.ReceiptHandle)
	if err != nil {
		return nil, err
	}
	if i >= 0 {
		q.Messages = slices.Delete(q.Messages, i, i+1)
	}
	return &sqs.DeleteMessageOutput{}, nil
}

// ChangeMessageVisibility sets how long a received message stays hidden from now
// on.
func (s *Service) ChangeMessageVisibility(ctx context.Context, in *sqs.ChangeMessageVisibilityInput, optFns ...func(*sqs.Options)) (*sqs.ChangeMessageVisibilityOutput, error) {
	region := s.caller(ctx, optFns).Region
	hide := time.Duration(in.VisibilityTimeout) * time.Second
	if hide < 0 || hide > longestVisibility {
		return nil, invalidParameter("Value %d for parameter VisibilityTimeout is invalid. Reason: VisibilityTimeout must be an integer between 0 and 43200.", in.VisibilityTimeout)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.find(in.QueueUrl, region)
	if err != nil {
		return nil, err
	}
	i, err := q.held(in.ReceiptHandle)
	if err != nil {
		return nil, err
	}
	now := s.cfg.Clock.Now()
	if i < 0 || q.Messages[i].Receives == 0 || !q.Messages[i].Visible.After(now) {
		return nil, &types.MessageNotInflight{Message: aws.String("The message is not in flight: it was deleted, or its visibility timeout is over.")}
	}
	q.Messages[i].Visible = now.Add(hide)
	q.wake()
	return &sqs.ChangeMessageVisibilityOutput{}, nil
}

// PurgeQueue deletes all messages.
func (s *Service) PurgeQueue(ctx context.Context, in *sqs.PurgeQueueInput, optFns ...func(*sqs.Options)) (*sqs.PurgeQueueOutput, error) {
	region := s.caller(ctx, optFns).Region
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.find(in.QueueUrl, region)
	if err != nil {
		return nil, err
	}
	q.Messages = nil
	return &sqs.PurgeQueueOutput{}, nil
}
