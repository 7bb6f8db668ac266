package sns_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	sdk "github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/sns"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

type functions struct{ got chan string }

func (f functions) Invoke(ctx context.Context, in *lambda.InvokeInput, _ ...func(*lambda.Options)) (*lambda.InvokeOutput, error) {
	c, _ := wire.CallerFrom(ctx)
	f.got <- c.Account + " " + *in.FunctionName + " " + string(in.Payload)
	return &lambda.InvokeOutput{}, nil
}

func newService(t *testing.T) (*sns.Service, string, chan string) {
	t.Helper()
	f := functions{got: make(chan string, 8)}
	s := sns.New(sns.Config{Clock: clock.NewReal(), Default: wire.Caller{Account: "111122223333", Region: "eu-west-1"}, Functions: f})
	t.Cleanup(func() { require.NoError(t, s.Close(context.Background())) })
	out, err := s.CreateTopic(t.Context(), &sdk.CreateTopicInput{Name: aws.String("news")})
	require.NoError(t, err)
	return s, *out.TopicArn, f.got
}

func subscribe(t *testing.T, s *sns.Service, arn, protocol, endpoint string, attributes map[string]string) (string, error) {
	t.Helper()
	out, err := s.Subscribe(t.Context(), &sdk.SubscribeInput{TopicArn: aws.String(arn), Protocol: aws.String(protocol), Endpoint: aws.String(endpoint), Attributes: attributes})
	if err != nil {
		return "", err
	}
	return *out.SubscriptionArn, nil
}

func TestAMessageReachesEverySubscriber(t *testing.T) {
	s, arn, invoked := newService(t)
	posted := make(chan string, 2)
	endpoint := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		posted <- string(raw)
	}))
	defer endpoint.Close()
	_, err := subscribe(t, s, arn, "http", endpoint.URL+"/json", nil)
	require.NoError(t, err)
	_, err = subscribe(t, s, arn, "http", endpoint.URL+"/raw", map[string]string{"RawMessageDelivery": "true"})
	require.NoError(t, err)
	const function = "arn:aws:lambda:eu-west-1:111122223333:function:notify"
	_, err = subscribe(t, s, arn, "lambda", function, nil)
	require.NoError(t, err)
	received := make(chan sns.Message, 1)
	defer s.Listen(arn, func(m sns.Message) { received <- m })()

	out, err := s.Publish(t.Context(), &sdk.PublishInput{TopicArn: aws.String(arn), Subject: aws.String("Published"), Message: aws.String("debian-12-docker")})
	require.NoError(t, err)
	m := <-received
	assert.Equal(t, *out.MessageId, m.ID)
	assert.Equal(t, "debian-12-docker", m.Body)
	assert.Contains(t, <-invoked, "111122223333 "+function+` {"Records":[{"EventSource":"aws:sns"`)
	bodies := []string{<-posted, <-posted}
	if bodies[0] != "debian-12-docker" {
		bodies[0], bodies[1] = bodies[1], bodies[0]
	}
	assert.Equal(t, "debian-12-docker", bodies[0])
	var notification map[string]any
	require.NoError(t, json.Unmarshal([]byte(bodies[1]), &notification))
	assert.Equal(t, "Published", notification["Subject"])
	assert.Equal(t, arn, notification["TopicArn"])
	assert.Len(t, s.Messages(arn), 1)

	raw, err := s.Snapshot()
	require.NoError(t, err)
	again, _, _ := newService(t)
	require.NoError(t, again.Restore(raw))
	assert.Len(t, again.Messages(arn), 1)
}

func TestSubscriptionsAndTopicsAreListedAndEnd(t *testing.T) {
	s, arn, invoked := newService(t)
	first, err := subscribe(t, s, arn, "lambda", "arn:aws:lambda:eu-west-1:111122223333:function:a", nil)
	require.NoError(t, err)
	same, err := subscribe(t, s, arn, "lambda", "arn:aws:lambda:eu-west-1:111122223333:function:a", nil)
	require.NoError(t, err)
	assert.Equal(t, first, same)
	all, err := s.ListSubscriptions(t.Context(), &sdk.ListSubscriptionsInput{})
	require.NoError(t, err)
	assert.Len(t, all.Subscriptions, 1)
	_, err = s.Unsubscribe(t.Context(), &sdk.UnsubscribeInput{SubscriptionArn: aws.String(first)})
	require.NoError(t, err)
	of, err := s.ListSubscriptionsByTopic(t.Context(), &sdk.ListSubscriptionsByTopicInput{TopicArn: aws.String(arn)})
	require.NoError(t, err)
	assert.Empty(t, of.Subscriptions)
	_, err = s.Publish(t.Context(), &sdk.PublishInput{TopicArn: aws.String(arn), Message: aws.String("x")})
	require.NoError(t, err)
	require.NoError(t, s.Close(t.Context()))
	assert.Empty(t, invoked)

	topics, err := s.ListTopics(t.Context(), &sdk.ListTopicsInput{}, func(o *sdk.Options) { o.Region = "us-east-1" })
	require.NoError(t, err)
	assert.Empty(t, topics.Topics, "topics are by region")
	_, err = s.DeleteTopic(t.Context(), &sdk.DeleteTopicInput{TopicArn: aws.String(arn)})
	require.NoError(t, err)
	_, err = s.Publish(t.Context(), &sdk.PublishInput{TopicArn: aws.String(arn), Message: aws.String("x")})
	assert.ErrorContains(t, err, "Topic does not exist")
}

func TestRefusals(t *testing.T) {
	s, arn, _ := newService(t)
	for sentence, tc := range map[string]struct{ protocol, endpoint, want string }{
		"an endpoint elsewhere":     {"https", "https://example.com/hook", "this machine only"},
		"a name that looks local":   {"http", "http://localhost.example.com/", "this machine only"},
		"another scheme":            {"https", "http://127.0.0.1/", "match the specified protocol"},
		"a protocol not served":     {"email", "a@example.com", "http, https, lambda and sqs"},
		"what is no function's ARN": {"lambda", "notify", "Lambda endpoint ARN"},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := subscribe(t, s, arn, tc.protocol, tc.endpoint, nil)
			assert.ErrorContains(t, err, tc.want)
		})
	}
	for sentence, in := range map[string]*sdk.PublishInput{
		"an empty message":   {TopicArn: aws.String(arn)},
		"too long a message": {TopicArn: aws.String(arn), Message: aws.String(strings.Repeat("x", 256<<10+1))},
		"a subject of lines": {TopicArn: aws.String(arn), Message: aws.String("x"), Subject: aws.String("a\nb")},
		"no topic":           {Message: aws.String("x")},
		"JSON of no default": {TopicArn: aws.String(arn), Message: aws.String(`{"http":"x"}`), MessageStructure: aws.String("json")},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := s.Publish(t.Context(), in)
			assert.ErrorContains(t, err, "Invalid parameter")
		})
	}
}
