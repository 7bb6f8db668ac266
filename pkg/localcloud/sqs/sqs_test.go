package sqs_test

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/sqs"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire/wiretest"
)

// newQueue makes a service with one queue, on a virtual clock that the test holds.
func newQueue(t *testing.T, attributes map[string]string) (*sqs.Service, *clock.Virtual, string) {
	t.Helper()
	c := clock.NewVirtual(time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC))
	t.Cleanup(c.Hold())
	s := sqs.New(sqs.Config{Clock: c, Default: wire.Caller{Account: "111122223333", Region: "eu-west-1"}})
	out, err := s.CreateQueue(t.Context(), &sdk.CreateQueueInput{QueueName: aws.String("jobs"), Attributes: attributes})
	require.NoError(t, err)
	return s, c, *out.QueueUrl
}

func send(t *testing.T, s *sqs.Service, url, body string) {
	t.Helper()
	_, err := s.SendMessage(t.Context(), &sdk.SendMessageInput{QueueUrl: &url, MessageBody: &body})
	require.NoError(t, err)
}

func receive(t *testing.T, s *sqs.Service, url string, wait int32) []types.Message {
	t.Helper()
	out, err := s.ReceiveMessage(t.Context(), &sdk.ReceiveMessageInput{
		QueueUrl: &url, MaxNumberOfMessages: 10, WaitTimeSeconds: wait, MessageSystemAttributeNames: []types.MessageSystemAttributeName{"All"}, MessageAttributeNames: []string{"All"},
	})
	require.NoError(t, err)
	return out.Messages
}

func sleep(t *testing.T, c *clock.Virtual, d time.Duration) {
	t.Helper()
	require.NoError(t, c.Sleep(t.Context(), d))
}

func count(t *testing.T, s *sqs.Service, url string, name types.QueueAttributeName) string {
	t.Helper()
	out, err := s.GetQueueAttributes(t.Context(), &sdk.GetQueueAttributesInput{QueueUrl: &url, AttributeNames: []types.QueueAttributeName{name}})
	require.NoError(t, err)
	return out.Attributes[string(name)]
}

func TestSQSOverTheWire(t *testing.T) {
	s, _, _ := newQueue(t, nil)
	wiretest.RoundTrip(t, s.Wire(), func(c aws.Config) *sdk.Client {
		// What goes over the wire there is arbitrary, and so are its digests.
		return sdk.NewFromConfig(c, func(o *sdk.Options) { o.DisableMessageChecksumValidation = true })
	})
}

func TestAMessageIsHiddenUntilItIsDeletedOrComesBack(t *testing.T) {
	s, c, url := newQueue(t, nil)
	send(t, s, url, "a")
	first := receive(t, s, url, 0)
	require.Len(t, first, 1)
	assert.Equal(t, "a", *first[0].Body)
	assert.Equal(t, "1", first[0].Attributes["ApproximateReceiveCount"])
	assert.Empty(t, receive(t, s, url, 0), "it is hidden")
	assert.Equal(t, "1", count(t, s, url, types.QueueAttributeNameApproximateNumberOfMessagesNotVisible))
	sleep(t, c, 30*time.Second)
	second := receive(t, s, url, 0)
	require.Len(t, second, 1, "it is back after the visibility time-out")
	assert.Equal(t, "2", second[0].Attributes["ApproximateReceiveCount"])
	_, err := s.ChangeMessageVisibility(t.Context(), &sdk.ChangeMessageVisibilityInput{QueueUrl: &url, ReceiptHandle: second[0].ReceiptHandle, VisibilityTimeout: 0})
	require.NoError(t, err)
	third := receive(t, s, url, 0)
	require.Len(t, third, 1, "its receiver gave it back")
	_, err = s.DeleteMessage(t.Context(), &sdk.DeleteMessageInput{QueueUrl: &url, ReceiptHandle: third[0].ReceiptHandle})
	require.NoError(t, err)
	sleep(t, c, time.Hour)
	assert.Empty(t, receive(t, s, url, 0))
}

func TestAReceiverWaitsForAMessage(t *testing.T) {
	s, c, url := newQueue(t, nil)
	c.AfterFunc(7*time.Second, func() { send(t, s, url, "late") })
	before := c.Now()
	require.Len(t, receive(t, s, url, 20), 1)
	assert.Equal(t, 7*time.Second, c.Now().Sub(before))
	before = c.Now()
	assert.Empty(t, receive(t, s, url, 20), "it is hidden for longer than that")
	assert.Equal(t, 20*time.Second, c.Now().Sub(before))
	require.Len(t, receive(t, s, url, 20), 1, "it comes back while somebody waits")
	assert.Equal(t, 30*time.Second, c.Now().Sub(before))
}

func TestAnOldMessageExpires(t *testing.T) {
	s, c, url := newQueue(t, map[string]string{"MessageRetentionPeriod": "1209600"})
	send(t, s, url, "a")
	sleep(t, c, 14*24*time.Hour)
	assert.Equal(t, "1", count(t, s, url, types.QueueAttributeNameApproximateNumberOfMessages))
	sleep(t, c, time.Second)
	assert.Equal(t, "0", count(t, s, url, types.QueueAttributeNameApproximateNumberOfMessages))
}

func TestADelayedMessageComesLater(t *testing.T) {
	s, c, url := newQueue(t, map[string]string{"DelaySeconds": "5"})
	send(t, s, url, "a")
	assert.Equal(t, "1", count(t, s, url, types.QueueAttributeNameApproximateNumberOfMessagesDelayed))
	assert.Empty(t, receive(t, s, url, 0))
	sleep(t, c, 5*time.Second)
	assert.Len(t, receive(t, s, url, 0), 1)
}

func TestWhatIsReceivedTooOftenIsADeadLetter(t *testing.T) {
	s, c, dead := newQueue(t, nil)
	out, err := s.CreateQueue(t.Context(), &sdk.CreateQueueInput{QueueName: aws.String("work"), Attributes: map[string]string{
		"RedrivePolicy": `{"deadLetterTargetArn":"arn:aws:sqs:eu-west-1:111122223333:jobs","maxReceiveCount":"2"}`,
	}})
	require.NoError(t, err)
	send(t, s, *out.QueueUrl, "a")
	for range 2 {
		require.Len(t, receive(t, s, *out.QueueUrl, 0), 1)
		sleep(t, c, 30*time.Second)
	}
	assert.Empty(t, receive(t, s, *out.QueueUrl, 0))
	moved := receive(t, s, dead, 0)
	require.Len(t, moved, 1)
	assert.Equal(t, "arn:aws:sqs:eu-west-1:111122223333:work", moved[0].Attributes["DeadLetterQueueSourceArn"])
}

func TestAQueueIsThatOfItsAccountAndRegion(t *testing.T) {
	s, _, url := newQueue(t, nil)
	_, err := s.SendMessage(t.Context(), &sdk.SendMessageInput{QueueUrl: &url, MessageBody: aws.String("a")}, func(o *sdk.Options) { o.Region = "us-east-1" })
	var missing *types.QueueDoesNotExist
	require.ErrorAs(t, err, &missing)
	other := wire.WithCaller(t.Context(), wire.Caller{Account: "444455556666", Region: "eu-west-1"})
	list, err := s.ListQueues(other, &sdk.ListQueuesInput{})
	require.NoError(t, err)
	assert.Empty(t, list.QueueUrls)
}

func TestQueuesAndMessagesThatAreRefused(t *testing.T) {
	s, _, url := newQueue(t, map[string]string{"MaximumMessageSize": "1024"})
	for sentence, in := range map[string]*sdk.CreateQueueInput{
		"a FIFO queue":             {QueueName: aws.String("jobs.fifo")},
		"an attribute of no queue": {QueueName: aws.String("x"), Attributes: map[string]string{"FifoQueue": "true"}},
		"too long a time-out":      {QueueName: aws.String("x"), Attributes: map[string]string{"VisibilityTimeout": "43201"}},
		"a policy that is no JSON": {QueueName: aws.String("x"), Attributes: map[string]string{"Policy": "allow"}},
		"a redrive to nowhere":     {QueueName: aws.String("x"), Attributes: map[string]string{"RedrivePolicy": `{"maxReceiveCount":3}`}},
		"the same with other ways": {QueueName: aws.String("jobs"), Attributes: map[string]string{"MaximumMessageSize": "2048"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := s.CreateQueue(t.Context(), in)
			assert.Error(t, err)
		})
	}
	for sentence, in := range map[string]*sdk.SendMessageInput{
		"an empty message":         {QueueUrl: &url},
		"too long a message":       {QueueUrl: &url, MessageBody: aws.String(string(make([]byte, 1025)))},
		"no address":               {QueueUrl: aws.String("jobs"), MessageBody: aws.String("a")},
		"an attribute of no type":  {QueueUrl: &url, MessageBody: aws.String("a"), MessageAttributes: map[string]types.MessageAttributeValue{"x": {StringValue: aws.String("y")}}},
		"an attribute of no value": {QueueUrl: &url, MessageBody: aws.String("a"), MessageAttributes: map[string]types.MessageAttributeValue{"x": {DataType: aws.String("String")}}},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := s.SendMessage(t.Context(), in)
			assert.Error(t, err)
		})
	}
	again, err := s.CreateQueue(t.Context(), &sdk.CreateQueueInput{QueueName: aws.String("jobs"), Attributes: map[string]string{"MaximumMessageSize": "1024"}})
	require.NoError(t, err)
	assert.Equal(t, url, *again.QueueUrl)
}

func TestMessagesOutliveTheProcess(t *testing.T) {
	s, _, url := newQueue(t, nil)
	send(t, s, url, "a")
	raw, err := s.Snapshot()
	require.NoError(t, err)
	again, _, _ := newQueue(t, nil)
	require.NoError(t, again.Restore(raw))
	require.Len(t, receive(t, again, url, 20), 1)
}
