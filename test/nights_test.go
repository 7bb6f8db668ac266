package test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/blueprint"
	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/ec2"
	"github.com/ami-factory/ami-factory/pkg/localcloud/events"
	"github.com/ami-factory/ami-factory/pkg/localcloud/fault"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/partition"
	"github.com/ami-factory/ami-factory/pkg/rehearsal"
	"github.com/ami-factory/ami-factory/pkg/trigger/decide"
	"github.com/ami-factory/ami-factory/pkg/workflow"
)

const (
	amazon     = "137112412989"
	baseSource = "/aws/service/debian/release/12/latest/amd64"
)

// nights is a factory whose schedules ring, on a virtual clock that the test holds:
// time passes in until and sleep only.
type nights struct {
	*rehearsal.Factory
	t     *testing.T
	clock *clock.Virtual

	mu      sync.Mutex
	running map[string]bool // executions
	most    int             // of them at a time
	begun   []string        // names and times
}

// newNights has a recipe, one that builds on its image, and some that build on the
// same source.
func newNights(t *testing.T, others ...string) *nights {
	t.Helper()
	return nightsWith(t, nil, others...)
}

// nightsWith is newNights that notes what roles ask for.
func nightsWith(t *testing.T, decisions func(authz.Decision), others ...string) *nights {
	t.Helper()
	n := &nights{t: t, clock: clock.NewVirtual(time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)), running: map[string]bool{}}
	t.Cleanup(n.clock.Hold()) // after the factory is closed
	n.Factory = familyFactory(t, func(o *rehearsal.Options) {
		o.Clock, o.Schedules, o.Decisions = n.clock, true, decisions
		parent, err := os.ReadFile(filepath.Join(o.UserDataDir, "recipes", recipeName+".yaml"))
		require.NoError(t, err)
		for _, name := range others {
			text := strings.NewReplacer("name: "+recipeName, "name: "+name, pointer, "/ami-factory/"+name+"/latest").Replace(string(parent))
			require.NoError(t, os.WriteFile(filepath.Join(o.UserDataDir, "recipes", name+".yaml"), []byte(text), 0o600))
		}
	})
	t.Cleanup(n.Cloud.Events.Subscribe(n.hear))
	return n
}

// hear counts the executions that run.
func (n *nights) hear(e events.Event) {
	if e.Source != "aws.states" {
		return
	}
	raw, _ := json.Marshal(e.Detail)
	var detail struct{ Name, Status string }
	_ = json.Unmarshal(raw, &detail)
	n.mu.Lock()
	defer n.mu.Unlock()
	if detail.Status == "RUNNING" {
		n.running[detail.Name] = true
		n.most = max(n.most, len(n.running))
		n.begun = append(n.begun, e.Time.UTC().Format("2006-01-02 15:04 ")+detail.Name)
		return
	}
	delete(n.running, detail.Name)
}

func (n *nights) until(at string) {
	n.t.Helper()
	end, err := time.Parse(time.RFC3339, at)
	require.NoError(n.t, err)
	n.sleep(end.Sub(n.clock.Now()))
}

func (n *nights) sleep(d time.Duration) {
	n.t.Helper()
	require.NoError(n.t, n.clock.Sleep(context.Background(), d))
}

// take returns the executions that have begun since the last time, by recipe, and
// proves that all have ended well.
func (n *nights) take() []string {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	require.Empty(n.t, slices.Collect(maps.Keys(n.running)), "executions that run at %s", n.clock.Now())
	var out []string
	for _, line := range n.begun {
		name := line[len("2006-01-02 15:04 "):]
		d, err := n.Cloud.States.DescribeExecution(context.Background(), &sfn.DescribeExecutionInput{ExecutionArn: aws.String(arnOf(n.Factory, name))})
		require.NoError(n.t, err)
		assert.Equal(n.t, "SUCCEEDED", string(d.Status), "%s: %s", name, aws.ToString(d.Cause))
		var in struct{ Recipe string }
		require.NoError(n.t, json.Unmarshal([]byte(aws.ToString(d.Input)), &in))
		out = append(out, in.Recipe)
	}
	n.begun = nil
	return out
}

// publishAll builds the recipe, and with it what builds on its image.
func (n *nights) publishAll() {
	n.t.Helper()
	_, err := n.Cloud.States.StartExecution(context.Background(), &sfn.StartExecutionInput{
		StateMachineArn: &n.StateMachine, Name: aws.String("by-hand"), Input: aws.String(`{"recipe":"` + recipeName + `"}`),
	})
	require.NoError(n.t, err)
	n.sleep(2 * time.Hour)
	require.Equal(n.t, []string{recipeName, child}, n.take())
}

// release makes Debian publish a newer image.
func (n *nights) release(name string) {
	n.t.Helper()
	dir := n.t.TempDir()
	require.NoError(n.t, vm.WriteImage(dir, vm.ImageInfo{Kind: vm.Simulated, VolumeGiB: 2, SHA256: strings.Repeat("ab", 32)}))
	ids, err := n.Cloud.EC2.RegisterBase(ec2.BaseImage{Name: name, OwnerID: "136693071363", ImageDir: dir, Digest: name, Created: n.clock.Now()})
	require.NoError(n.t, err)
	for region, id := range ids {
		n.Cloud.SSM.SetPublicParameter(region, baseSource, id)
	}
}

// deadLetters takes all that are in the queue.
func (n *nights) deadLetters() []sqstypes.Message {
	n.t.Helper()
	client := sqs.NewFromConfig(n.Cloud.AWSConfig(""))
	var all []sqstypes.Message
	for {
		out, err := client.ReceiveMessage(context.Background(), &sqs.ReceiveMessageInput{
			QueueUrl: &n.DeadLetters, MaxNumberOfMessages: 10, MessageAttributeNames: []string{"All"},
		})
		require.NoError(n.t, err)
		if len(out.Messages) == 0 {
			return all
		}
		for _, m := range out.Messages {
			_, err := client.DeleteMessage(context.Background(), &sqs.DeleteMessageInput{QueueUrl: &n.DeadLetters, ReceiptHandle: m.ReceiptHandle})
			require.NoError(n.t, err)
			all = append(all, m)
		}
	}
}

// announce publishes a release announcement with the key of an account.
func (n *nights) announce(account, topic string) {
	n.t.Helper()
	client := sns.NewFromConfig(n.Cloud.AWSConfigFor(account, "us-east-1"))
	_, err := client.Publish(context.Background(), &sns.PublishInput{TopicArn: &topic, Subject: aws.String("New AMI"), Message: aws.String(`{"v1":{}}`)})
	require.NoError(n.t, err)
}

func TestAtNightOnlyWhatIsStaleBuildsAFewAtATime(t *testing.T) {
	t.Parallel()
	stale := []string{"stale-1", "stale-2", "stale-3", "stale-4", "stale-5"}
	n := newNights(t, stale...)
	n.publishAll()

	n.until("2026-11-02T03:00:00Z")
	assert.Empty(t, n.take(), "it is not night yet")
	n.until("2026-11-02T09:00:00Z")
	built := n.take()
	assert.ElementsMatch(t, stale, built, "what was published yesterday is not built again")
	assert.LessOrEqual(t, n.most, decide.DefaultLimits().MaxRunning)
	assert.Greater(t, n.most, 1)

	n.until("2026-11-03T09:00:00Z")
	assert.Empty(t, n.take(), "nothing has changed until the next night")
	assert.Empty(t, n.deadLetters())
	assert.Empty(t, take(t, n.Factory).Alive)
}

func TestASourceThatMovedIsSeenWithinHalfAnHour(t *testing.T) {
	t.Parallel()
	n := newNights(t)
	n.publishAll()
	n.release("debian-12-amd64-20261101")
	n.sleep(30 * time.Minute)
	n.sleep(2 * time.Hour)
	assert.Equal(t, []string{recipeName, child}, n.take())
}

func TestAnAnnouncementDeliveredFiveTimesBuildsTheDependantsOnce(t *testing.T) {
	t.Parallel()
	n := newNights(t)
	n.publishAll()
	n.release("debian-12-amd64-20261101")
	n.Cloud.SNS.Repeat(4)
	before := invocationsOf(n.Factory, blueprint.ReleaseAnnounced)
	n.announce(amazon, blueprint.AnnouncementTopics(partition.Default)[0])
	n.sleep(time.Minute)
	assert.Equal(t, before+5, invocationsOf(n.Factory, blueprint.ReleaseAnnounced))
	n.mu.Lock()
	assert.NotEmpty(t, n.running, "it is built at once, not at the next look")
	n.mu.Unlock()
	n.sleep(3 * time.Hour)
	assert.Equal(t, []string{recipeName, child}, n.take(), "the recipe, and after it what builds on its image, once each")
	assert.Empty(t, n.deadLetters())
}

func TestWhatIsForgedBuildsNothingAndIsADeadLetter(t *testing.T) {
	t.Parallel()
	topic := blueprint.AnnouncementTopics(partition.Default)[0]
	function := "ami-factory-" + string(blueprint.ReleaseAnnounced)
	for sentence, tc := range map[string]struct {
		forge func(*nights)
		says  string
	}{
		"a topic of somebody's, which SNS signs for him": {func(n *nights) {
			client := sns.NewFromConfig(n.Cloud.AWSConfigFor("666666666666", "us-east-1"))
			made, err := client.CreateTopic(context.Background(), &sns.CreateTopicInput{Name: aws.String("amazon-linux-2023-ami-updates"), Attributes: map[string]string{"SignatureVersion": "2"}})
			require.NoError(n.t, err)
			_, err = client.Subscribe(context.Background(), &sns.SubscribeInput{
				TopicArn: made.TopicArn, Protocol: aws.String("lambda"), Endpoint: aws.String("arn:aws:lambda:eu-west-1:111122223333:function:" + function),
			})
			require.NoError(n.t, err)
			_, err = n.Cloud.Lambda.AddPermission(context.Background(), &lambda.AddPermissionInput{ // or it would not even be asked
				FunctionName: &function, StatementId: aws.String("forged"), Action: aws.String("lambda:InvokeFunction"), Principal: aws.String("sns.amazonaws.com"),
			})
			require.NoError(n.t, err)
			n.announce("666666666666", *made.TopicArn)
		}, "none of those that are listened to"},
		"the right topic, signed with another key": {func(n *nights) {
			n.forge(topic, func(a map[string]any, key *rsa.PrivateKey) { sign(n.t, a, key) })
		}, "not that of this message"},
		"a genuine signature under another message": {func(n *nights) {
			n.forge(topic, func(a map[string]any, _ *rsa.PrivateKey) { a["Message"] = "another" })
		}, "not that of this message"},
		"a certificate that somebody else serves": {func(n *nights) {
			n.forge(topic, func(a map[string]any, key *rsa.PrivateKey) {
				sign(n.t, a, key)
				a["SigningCertUrl"] = "https://sns.us-east-1.amazonaws.com.example.org/SimpleNotificationService-0.pem"
			})
		}, "not where SNS keeps its certificates"},
	} {
		t.Run(sentence, func(t *testing.T) {
			n := newNights(t)
			n.sleep(time.Minute) // the first look
			n.release("debian-12-amd64-20261101")
			tc.forge(n)
			n.sleep(10 * time.Minute)
			assert.Empty(t, n.take())
			letters := n.deadLetters()
			require.Len(t, letters, 1)
			assert.Contains(t, *letters[0].Body, "AnnouncementRefused")
			assert.Contains(t, *letters[0].Body, tc.says)
			assert.Contains(t, *letters[0].Body, `"condition":"RetriesExhausted","approximateInvokeCount":3`)
		})
	}
	t.Run("signed in version 1 it is genuine, and builds", func(t *testing.T) {
		n := newNights(t)
		n.sleep(time.Minute) // the first look
		n.release("debian-12-amd64-20261101")
		_, err := sns.NewFromConfig(n.Cloud.AWSConfigFor(amazon, "us-east-1")).SetTopicAttributes(t.Context(), &sns.SetTopicAttributesInput{
			TopicArn: &topic, AttributeName: aws.String("SignatureVersion"), AttributeValue: aws.String("1"),
		})
		require.NoError(t, err)
		n.announce(amazon, topic)
		n.sleep(time.Hour)
		assert.Equal(t, []string{recipeName, child}, n.take(), "the recipe, and after it what builds on its image")
		assert.Empty(t, n.deadLetters())
	})
	t.Run("the topic of Amazon, by somebody else", func(t *testing.T) {
		n := newNights(t)
		_, err := sns.NewFromConfig(n.Cloud.AWSConfigFor("666666666666", "us-east-1")).Publish(context.Background(), &sns.PublishInput{TopicArn: &topic, Message: aws.String("x")})
		assert.ErrorContains(t, err, "AuthorizationError")
	})
}

// forge calls the function with what SNS would have sent, after a change.
func (n *nights) forge(topic string, change func(announcement map[string]any, key *rsa.PrivateKey)) {
	n.t.Helper()
	client := sns.NewFromConfig(n.Cloud.AWSConfigFor(amazon, "us-east-1"))
	queue, err := n.Cloud.SQS.CreateQueue(context.Background(), &sqs.CreateQueueInput{QueueName: aws.String("genuine")})
	require.NoError(n.t, err)
	_, err = n.Cloud.SQS.SetQueueAttributes(context.Background(), &sqs.SetQueueAttributesInput{QueueUrl: queue.QueueUrl, Attributes: map[string]string{
		"Policy": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"sns.amazonaws.com"},"Action":"sqs:SendMessage","Resource":"arn:aws:sqs:eu-west-1:111122223333:genuine"}]}`,
	}})
	require.NoError(n.t, err)
	// The genuine one goes to a queue instead of the function.
	list, err := client.ListSubscriptionsByTopic(context.Background(), &sns.ListSubscriptionsByTopicInput{TopicArn: &topic})
	require.NoError(n.t, err)
	for _, s := range list.Subscriptions {
		_, err := client.Unsubscribe(context.Background(), &sns.UnsubscribeInput{SubscriptionArn: s.SubscriptionArn})
		require.NoError(n.t, err)
	}
	_, err = client.Subscribe(context.Background(), &sns.SubscribeInput{TopicArn: &topic, Protocol: aws.String("sqs"), Endpoint: aws.String("arn:aws:sqs:eu-west-1:111122223333:genuine")})
	require.NoError(n.t, err)
	n.announce(amazon, topic)
	got, err := n.Cloud.SQS.ReceiveMessage(context.Background(), &sqs.ReceiveMessageInput{QueueUrl: queue.QueueUrl, WaitTimeSeconds: 20})
	require.NoError(n.t, err)
	require.Len(n.t, got.Messages, 1)
	var announcement map[string]any
	require.NoError(n.t, json.Unmarshal([]byte(*got.Messages[0].Body), &announcement))
	announcement["SigningCertUrl"] = announcement["SigningCertURL"] // as functions have it
	delete(announcement, "SigningCertURL")
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(n.t, err)
	change(announcement, key)
	payload, err := json.Marshal(map[string]any{"Records": []any{map[string]any{"EventSource": "aws:sns", "Sns": announcement}}})
	require.NoError(n.t, err)
	_, err = lambda.NewFromConfig(n.Cloud.AWSConfig("")).Invoke(context.Background(), &lambda.InvokeInput{
		FunctionName: aws.String("ami-factory-" + string(blueprint.ReleaseAnnounced)), InvocationType: lambdatypes.InvocationTypeEvent, Payload: payload,
	})
	require.NoError(n.t, err)
}

// sign signs an announcement in version 2 with a key of one's own.
func sign(t *testing.T, a map[string]any, key *rsa.PrivateKey) {
	t.Helper()
	text := ""
	for _, name := range []string{"Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"} {
		text += fmt.Sprintf("%s\n%s\n", name, a[name])
	}
	sum := sha256.Sum256([]byte(text))
	raw, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	require.NoError(t, err)
	a["Signature"] = base64.StdEncoding.EncodeToString(raw)
}

func TestANightThatKeepsFailingIsADeadLetter(t *testing.T) {
	t.Parallel()
	n := newNights(t)
	n.sleep(time.Minute)
	_, err := n.Cloud.Faults.Add(fault.Rule{Service: "states", Operation: "ListExecutions", Code: "AccessDeniedException", Status: 400, Times: -1})
	require.NoError(t, err)
	n.until("2026-11-02T05:00:00Z")
	assert.Empty(t, n.take())
	letters := n.deadLetters()
	require.Len(t, letters, 1, "one night, after three attempts")
	var record struct {
		RequestContext  struct{ Condition, FunctionArn string }
		RequestPayload  struct{ Time time.Time }
		ResponsePayload struct{ ErrorMessage string }
	}
	require.NoError(t, json.Unmarshal([]byte(*letters[0].Body), &record))
	assert.Equal(t, "RetriesExhausted", record.RequestContext.Condition)
	assert.Contains(t, record.RequestContext.FunctionArn, string(blueprint.StartBuilds))
	assert.Equal(t, time.Date(2026, 11, 2, 3, 0, 0, 0, time.UTC), record.RequestPayload.Time)
	assert.Contains(t, record.ResponsePayload.ErrorMessage, "list the executions that run")
}

func TestAScheduleWhoseFunctionIsGoneIsADeadLetter(t *testing.T) {
	t.Parallel()
	n := newNights(t)
	n.sleep(time.Minute)
	_, err := n.Cloud.Lambda.DeleteFunction(context.Background(), &lambda.DeleteFunctionInput{FunctionName: aws.String("ami-factory-" + string(blueprint.StartBuilds))})
	require.NoError(t, err)
	n.until("2026-11-02T05:00:00Z")
	letters := n.deadLetters()
	require.Len(t, letters, 1)
	assert.Equal(t, "ResourceNotFoundException", *letters[0].MessageAttributes["ERROR_CODE"].StringValue)
	assert.Equal(t, "2026-11-02T03:00:00Z", *letters[0].MessageAttributes["SCHEDULED_TIME"].StringValue)
	assert.Contains(t, *letters[0].MessageAttributes["SCHEDULE_ARN"].StringValue, "ami-factory-nightly")
}

// failingTriggers has each trigger fail, a night, and a night whose function is
// gone.
func failingTriggers(t *testing.T, l *ledger) {
	t.Helper()
	n := nightsWith(t, l.note)
	l.factories = append(l.factories, n.Factory)
	client := lambda.NewFromConfig(n.Cloud.AWSConfig(""))
	for _, name := range []workflow.Stage{blueprint.StartBuilds, blueprint.WatchSources, blueprint.ReleaseAnnounced} {
		_, err := client.Invoke(context.Background(), &lambda.InvokeInput{
			FunctionName: aws.String("ami-factory-" + string(name)), InvocationType: lambdatypes.InvocationTypeEvent, Payload: []byte(`["no event"]`),
		})
		require.NoError(t, err)
	}
	n.until("2026-11-02T03:00:00Z")
	require.Len(t, n.deadLetters(), 3, "one of each")
	n.until("2026-11-02T04:00:00Z")
	require.Empty(t, n.deadLetters())
	_, err := n.Cloud.Lambda.DeleteFunction(context.Background(), &lambda.DeleteFunctionInput{FunctionName: aws.String("ami-factory-" + string(blueprint.StartBuilds))})
	require.NoError(t, err)
	n.until("2026-11-03T04:00:00Z")
	assert.NotEmpty(t, n.deadLetters())
}

func TestABakeIsNotJoinedByANight(t *testing.T) {
	t.Parallel()
	clk := clock.NewVirtual(time.Date(2026, 11, 2, 2, 59, 0, 0, time.UTC))
	t.Cleanup(clk.Hold())
	f := familyFactory(t, func(o *rehearsal.Options) { o.Clock = clk })
	require.NoError(t, clk.Sleep(context.Background(), 5*time.Hour))
	assert.Zero(t, invocationsOf(f, blueprint.StartBuilds))
	assert.Zero(t, invocationsOf(f, blueprint.WatchSources))
}
