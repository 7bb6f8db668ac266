package localcloud_test

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	eventtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"
	schedulertypes "github.com/aws/aws-sdk-go-v2/service/scheduler/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	snstypes "github.com/aws/aws-sdk-go-v2/service/sns/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud"
	"github.com/ami-factory/ami-factory/pkg/localcloud/iam"
	locallambda "github.com/ami-factory/ami-factory/pkg/localcloud/lambda"
)

const anybodySends = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"sqs:SendMessage","Resource":"*"}]}`

// inbox is a queue that everybody may send to.
func inbox(t *testing.T, c *localcloud.Cloud, name string) (url, arn string) {
	t.Helper()
	return queueWith(t, c, name, map[string]string{"Policy": anybodySends})
}

func queueWith(t *testing.T, c *localcloud.Cloud, name string, attributes map[string]string) (url, arn string) {
	t.Helper()
	out, err := sqs.NewFromConfig(c.AWSConfig("")).CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: &name, Attributes: attributes})
	require.NoError(t, err)
	return *out.QueueUrl, "arn:aws:sqs:" + region + ":" + account + ":" + name
}

// letter waits for a message in a queue.
func letter(t *testing.T, c *localcloud.Cloud, url string) sqstypes.Message {
	t.Helper()
	out, err := sqs.NewFromConfig(c.AWSConfig("")).ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{
		QueueUrl: &url, WaitTimeSeconds: 20, MessageAttributeNames: []string{"All"}, VisibilityTimeout: 600,
	})
	require.NoError(t, err)
	require.Len(t, out.Messages, 1)
	return out.Messages[0]
}

func TestEveryOperationOfSQSOverTheWire(t *testing.T) {
	c := listening(t)
	cfg, calls := recorded(c)
	client := sqs.NewFromConfig(cfg)
	ctx := t.Context()
	url := must[*sqs.CreateQueueOutput](t)(client.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String("jobs"), Tags: map[string]string{"a": "b"}})).QueueUrl
	assert.Equal(t, c.URL()+"/"+account+"/jobs", *url)
	assert.Equal(t, *url, *must[*sqs.GetQueueUrlOutput](t)(client.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: aws.String("jobs")})).QueueUrl)
	assert.Equal(t, []string{*url}, must[*sqs.ListQueuesOutput](t)(client.ListQueues(ctx, &sqs.ListQueuesInput{})).QueueUrls)
	must[*sqs.SetQueueAttributesOutput](t)(client.SetQueueAttributes(ctx, &sqs.SetQueueAttributesInput{QueueUrl: url, Attributes: map[string]string{"VisibilityTimeout": "60"}}))
	attributes := must[*sqs.GetQueueAttributesOutput](t)(client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: url, AttributeNames: []sqstypes.QueueAttributeName{"All"}})).Attributes
	assert.Equal(t, "60", attributes["VisibilityTimeout"])
	assert.Equal(t, "arn:aws:sqs:eu-west-1:111122223333:jobs", attributes["QueueArn"])
	must[*sqs.TagQueueOutput](t)(client.TagQueue(ctx, &sqs.TagQueueInput{QueueUrl: url, Tags: map[string]string{"c": "d"}}))
	must[*sqs.UntagQueueOutput](t)(client.UntagQueue(ctx, &sqs.UntagQueueInput{QueueUrl: url, TagKeys: []string{"a"}}))
	assert.Equal(t, map[string]string{"c": "d"}, must[*sqs.ListQueueTagsOutput](t)(client.ListQueueTags(ctx, &sqs.ListQueueTagsInput{QueueUrl: url})).Tags)
	// The client compares the digests of body and attributes itself.
	must[*sqs.SendMessageOutput](t)(client.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: url, MessageBody: aws.String("<m> & é"), MessageAttributes: map[string]sqstypes.MessageAttributeValue{
		"kind": {DataType: aws.String("String"), StringValue: aws.String("night")}, "raw": {DataType: aws.String("Binary"), BinaryValue: []byte{1, 2}},
	}}))
	got := letter(t, c, *url)
	assert.Equal(t, "<m> & é", *got.Body)
	assert.Equal(t, "night", *got.MessageAttributes["kind"].StringValue)
	assert.Equal(t, []byte{1, 2}, got.MessageAttributes["raw"].BinaryValue)
	must[*sqs.ChangeMessageVisibilityOutput](t)(client.ChangeMessageVisibility(ctx, &sqs.ChangeMessageVisibilityInput{QueueUrl: url, ReceiptHandle: got.ReceiptHandle}))
	again := must[*sqs.ReceiveMessageOutput](t)(client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: url})).Messages
	require.Len(t, again, 1)
	must[*sqs.DeleteMessageOutput](t)(client.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: url, ReceiptHandle: again[0].ReceiptHandle}))
	must[*sqs.PurgeQueueOutput](t)(client.PurgeQueue(ctx, &sqs.PurgeQueueInput{QueueUrl: url}))
	must[*sqs.DeleteQueueOutput](t)(client.DeleteQueue(ctx, &sqs.DeleteQueueInput{QueueUrl: url}))
	_, err := client.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: url, MessageBody: aws.String("x")})
	var missing *sqstypes.QueueDoesNotExist
	require.ErrorAs(t, err, &missing, "the SDK knows the error by its type")
	assert.Empty(t, calls.missing(c.SQS.Wire()))
}

func TestEveryOperationOfTheSchedulerOverTheWire(t *testing.T) {
	c := listening(t)
	client := scheduler.NewFromConfig(c.AWSConfig(""))
	ctx := t.Context()
	_, queue := inbox(t, c, "jobs")
	group := must[*scheduler.CreateScheduleGroupOutput](t)(client.CreateScheduleGroup(ctx, &scheduler.CreateScheduleGroupInput{
		Name: aws.String("nights"), Tags: []schedulertypes.Tag{{Key: aws.String("a"), Value: aws.String("b")}},
	})).ScheduleGroupArn
	start := time.Date(2026, 11, 1, 12, 30, 0, 0, time.UTC)
	in := &scheduler.CreateScheduleInput{
		Name: aws.String("nightly"), GroupName: aws.String("nights"), ScheduleExpression: aws.String("cron(0 3 * * ? *)"), ScheduleExpressionTimezone: aws.String("Europe/Berlin"),
		StartDate: &start, FlexibleTimeWindow: &schedulertypes.FlexibleTimeWindow{Mode: schedulertypes.FlexibleTimeWindowModeFlexible, MaximumWindowInMinutes: aws.Int32(60)},
		Target: &schedulertypes.Target{
			Arn: &queue, RoleArn: aws.String("arn:aws:iam::111122223333:role/schedules"), Input: aws.String(`{"é":1}`),
			RetryPolicy: &schedulertypes.RetryPolicy{MaximumRetryAttempts: aws.Int32(0)}, DeadLetterConfig: &schedulertypes.DeadLetterConfig{Arn: &queue},
		},
	}
	arn := must[*scheduler.CreateScheduleOutput](t)(client.CreateSchedule(ctx, in)).ScheduleArn
	assert.Equal(t, "arn:aws:scheduler:eu-west-1:111122223333:schedule/nights/nightly", *arn)
	got := must[*scheduler.GetScheduleOutput](t)(client.GetSchedule(ctx, &scheduler.GetScheduleInput{Name: in.Name, GroupName: in.GroupName}))
	assert.Equal(t, in.Target, got.Target)
	assert.Equal(t, start, got.StartDate.UTC())
	assert.WithinDuration(t, time.Now(), *got.CreationDate, time.Minute)
	assert.Equal(t, in.FlexibleTimeWindow, got.FlexibleTimeWindow)
	must[*scheduler.UpdateScheduleOutput](t)(client.UpdateSchedule(ctx, &scheduler.UpdateScheduleInput{
		Name: in.Name, GroupName: in.GroupName, ScheduleExpression: in.ScheduleExpression, FlexibleTimeWindow: in.FlexibleTimeWindow, Target: in.Target, State: schedulertypes.ScheduleStateDisabled,
	}))
	list := must[*scheduler.ListSchedulesOutput](t)(client.ListSchedules(ctx, &scheduler.ListSchedulesInput{
		GroupName: in.GroupName, NamePrefix: aws.String("night"), State: schedulertypes.ScheduleStateDisabled, MaxResults: aws.Int32(10),
	})).Schedules
	require.Len(t, list, 1)
	assert.Equal(t, queue, *list[0].Target.Arn)
	assert.Equal(t, *group, *must[*scheduler.GetScheduleGroupOutput](t)(client.GetScheduleGroup(ctx, &scheduler.GetScheduleGroupInput{Name: in.GroupName})).Arn)
	assert.Len(t, must[*scheduler.ListScheduleGroupsOutput](t)(client.ListScheduleGroups(ctx, &scheduler.ListScheduleGroupsInput{})).ScheduleGroups, 2)
	must[*scheduler.TagResourceOutput](t)(client.TagResource(ctx, &scheduler.TagResourceInput{ResourceArn: group, Tags: []schedulertypes.Tag{{Key: aws.String("c"), Value: aws.String("d")}}}))
	must[*scheduler.UntagResourceOutput](t)(client.UntagResource(ctx, &scheduler.UntagResourceInput{ResourceArn: group, TagKeys: []string{"a"}}))
	tags := must[*scheduler.ListTagsForResourceOutput](t)(client.ListTagsForResource(ctx, &scheduler.ListTagsForResourceInput{ResourceArn: group})).Tags
	require.Len(t, tags, 1)
	assert.Equal(t, "d", *tags[0].Value)
	must[*scheduler.DeleteScheduleOutput](t)(client.DeleteSchedule(ctx, &scheduler.DeleteScheduleInput{Name: in.Name, GroupName: in.GroupName}))
	_, err := client.GetSchedule(ctx, &scheduler.GetScheduleInput{Name: in.Name, GroupName: in.GroupName})
	var missing *schedulertypes.ResourceNotFoundException
	require.ErrorAs(t, err, &missing, "the SDK knows the error by its type")
	must[*scheduler.DeleteScheduleGroupOutput](t)(client.DeleteScheduleGroup(ctx, &scheduler.DeleteScheduleGroupInput{Name: in.GroupName}))
	_, err = client.CreateSchedule(ctx, &scheduler.CreateScheduleInput{Name: aws.String("x"), ScheduleExpression: aws.String("never"), FlexibleTimeWindow: in.FlexibleTimeWindow, Target: in.Target})
	var invalid *schedulertypes.ValidationException
	require.ErrorAs(t, err, &invalid)
	assert.Contains(t, *invalid.Message, "invalid Schedule Expression never")
}

func TestAScheduleMayDoWhatItsRoleMay(t *testing.T) {
	c := listening(t, func(cfg *localcloud.Config) { cfg.EnforceIAM = true })
	client := scheduler.NewFromConfig(c.AWSConfig(""))
	c.Scheduler.Start()
	// Without a policy of the queue's own, which alone would let the role send.
	jobs, jobsARN := queueWith(t, c, "jobs", nil)
	dead, deadARN := queueWith(t, c, "dead", nil)
	for name, queue := range map[string]string{"may": jobsARN, "may-not": jobsARN} {
		allowed := deadARN
		if name == "may" {
			allowed = queue
		}
		role := "arn:aws:iam::111122223333:role/" + name
		trust := json.RawMessage(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"scheduler.amazonaws.com"},"Action":"sts:AssumeRole"}]}`)
		require.NoError(t, c.IAM.PutRole(iam.Role{ARN: role, Trust: trust, Policies: map[string]json.RawMessage{"calls": json.RawMessage(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sqs:SendMessage","Resource":"` + allowed + `"}]}`)}}))
		_, err := client.CreateSchedule(t.Context(), &scheduler.CreateScheduleInput{
			Name: &name, ScheduleExpression: aws.String("rate(1 day)"), FlexibleTimeWindow: &schedulertypes.FlexibleTimeWindow{Mode: schedulertypes.FlexibleTimeWindowModeOff},
			Target: &schedulertypes.Target{Arn: &queue, RoleArn: &role, Input: aws.String(name), DeadLetterConfig: &schedulertypes.DeadLetterConfig{Arn: &deadARN}},
		})
		require.NoError(t, err)
	}
	assert.Equal(t, "may", *letter(t, c, jobs).Body)
	refused := letter(t, c, dead)
	assert.Contains(t, *refused.Body, `"MessageBody":"may-not"`)
	assert.Equal(t, "0", *refused.MessageAttributes["RETRY_ATTEMPTS"].StringValue)
	assert.Contains(t, *refused.MessageAttributes["ERROR_MESSAGE"].StringValue, "is not authorized to perform: sqs:SendMessage on resource: "+jobsARN)
}

func TestWhatAFunctionFailsAtReachesItsDestination(t *testing.T) {
	c := listening(t)
	url, arn := inbox(t, c, "failures")
	require.NoError(t, c.Lambda.Deploy(locallambda.Function{Name: "f", Handler: func(_ context.Context, payload []byte) ([]byte, error) {
		if strings.Contains(string(payload), "good") {
			return []byte(`{"did":"well"}`), nil
		}
		return nil, errors.New("broken")
	}}))
	client := lambda.NewFromConfig(c.AWSConfig(""))
	ctx := t.Context()
	name := aws.String("f")
	must[*lambda.PutFunctionEventInvokeConfigOutput](t)(client.PutFunctionEventInvokeConfig(ctx, &lambda.PutFunctionEventInvokeConfigInput{
		FunctionName: name, MaximumRetryAttempts: aws.Int32(0), DestinationConfig: &lambdatypes.DestinationConfig{OnFailure: &lambdatypes.OnFailure{Destination: &arn}},
	}))
	updated := must[*lambda.UpdateFunctionEventInvokeConfigOutput](t)(client.UpdateFunctionEventInvokeConfig(ctx, &lambda.UpdateFunctionEventInvokeConfigInput{FunctionName: name, MaximumEventAgeInSeconds: aws.Int32(60)}))
	assert.Equal(t, arn, *updated.DestinationConfig.OnFailure.Destination)
	got := must[*lambda.GetFunctionEventInvokeConfigOutput](t)(client.GetFunctionEventInvokeConfig(ctx, &lambda.GetFunctionEventInvokeConfigInput{FunctionName: name}))
	assert.EqualValues(t, 0, *got.MaximumRetryAttempts)
	assert.WithinDuration(t, time.Now(), *got.LastModified, time.Minute)
	assert.Len(t, must[*lambda.ListFunctionEventInvokeConfigsOutput](t)(client.ListFunctionEventInvokeConfigs(ctx, &lambda.ListFunctionEventInvokeConfigsInput{FunctionName: name})).FunctionEventInvokeConfigs, 1)

	for _, payload := range []string{`{"n":"good"}`, `{"n":"bad"}`} {
		must[*lambda.InvokeOutput](t)(client.Invoke(ctx, &lambda.InvokeInput{FunctionName: name, InvocationType: lambdatypes.InvocationTypeEvent, Payload: []byte(payload)}))
	}
	var record map[string]any
	require.NoError(t, json.Unmarshal([]byte(*letter(t, c, url).Body), &record))
	assert.Equal(t, map[string]any{"n": "bad"}, record["requestPayload"])
	assert.Equal(t, "broken", record["responsePayload"].(map[string]any)["errorMessage"])
	about := record["requestContext"].(map[string]any)
	assert.Equal(t, "RetriesExhausted", about["condition"])
	assert.EqualValues(t, 1, about["approximateInvokeCount"])
	must[*lambda.DeleteFunctionEventInvokeConfigOutput](t)(client.DeleteFunctionEventInvokeConfig(ctx, &lambda.DeleteFunctionEventInvokeConfigInput{FunctionName: name}))
	_, err := client.GetFunctionEventInvokeConfig(ctx, &lambda.GetFunctionEventInvokeConfigInput{FunctionName: name})
	var missing *lambdatypes.ResourceNotFoundException
	require.ErrorAs(t, err, &missing)
}

func TestAnEventThatCannotBeDeliveredIsADeadLetter(t *testing.T) {
	c := listening(t)
	url, arn := inbox(t, c, "dead")
	client := eventbridge.NewFromConfig(c.AWSConfig(""))
	ctx := t.Context()
	must[*eventbridge.PutRuleOutput](t)(client.PutRule(ctx, &eventbridge.PutRuleInput{Name: aws.String("all"), EventPattern: aws.String(`{"source":["factory"]}`)}))
	must[*eventbridge.PutTargetsOutput](t)(client.PutTargets(ctx, &eventbridge.PutTargetsInput{Rule: aws.String("all"), Targets: []eventtypes.Target{{
		Id: aws.String("t"), Arn: aws.String("arn:aws:lambda:eu-west-1:111122223333:function:gone"), DeadLetterConfig: &eventtypes.DeadLetterConfig{Arn: &arn},
	}}}))
	must[*eventbridge.PutEventsOutput](t)(client.PutEvents(ctx, &eventbridge.PutEventsInput{Entries: []eventtypes.PutEventsRequestEntry{{
		Source: aws.String("factory"), DetailType: aws.String("x"), Detail: aws.String(`{"n":7}`),
	}}}))
	got := letter(t, c, url)
	assert.Contains(t, *got.Body, `"detail":{"n":7}`)
	assert.Equal(t, "arn:aws:events:eu-west-1:111122223333:rule/all", *got.MessageAttributes["RULE_ARN"].StringValue)
	assert.Equal(t, "ResourceNotFoundException", *got.MessageAttributes["ERROR_CODE"].StringValue)
	assert.Equal(t, "0", *got.MessageAttributes["RETRY_ATTEMPTS"].StringValue)
	_, err := client.PutTargets(ctx, &eventbridge.PutTargetsInput{Rule: aws.String("all"), Targets: []eventtypes.Target{{
		Id: aws.String("t"), Arn: &arn, RetryPolicy: &eventtypes.RetryPolicy{MaximumEventAgeInSeconds: aws.Int32(1)},
	}}})
	assert.ErrorContains(t, err, "60 to 86400")
}

func TestAMessageIsSignedByTheCertificateThatSNSServes(t *testing.T) {
	c := listening(t)
	client := sns.NewFromConfig(c.AWSConfig(""))
	url, arn := inbox(t, c, "genuine")
	ctx := t.Context()
	for version, sum := range map[string]func(string) (crypto.Hash, []byte){
		"1": func(s string) (crypto.Hash, []byte) { d := sha1.Sum([]byte(s)); return crypto.SHA1, d[:] },
		"2": func(s string) (crypto.Hash, []byte) { d := sha256.Sum256([]byte(s)); return crypto.SHA256, d[:] },
	} {
		t.Run("version "+version, func(t *testing.T) {
			topic := must[*sns.CreateTopicOutput](t)(client.CreateTopic(ctx, &sns.CreateTopicInput{Name: aws.String("news-" + version)})).TopicArn
			if version == "2" { // 1 is what a topic has that says nothing
				must[*sns.SetTopicAttributesOutput](t)(client.SetTopicAttributes(ctx, &sns.SetTopicAttributesInput{TopicArn: topic, AttributeName: aws.String("SignatureVersion"), AttributeValue: &version}))
			}
			must[*sns.SubscribeOutput](t)(client.Subscribe(ctx, &sns.SubscribeInput{TopicArn: topic, Protocol: aws.String("sqs"), Endpoint: &arn}))
			must[*sns.PublishOutput](t)(client.Publish(ctx, &sns.PublishInput{TopicArn: topic, Subject: aws.String("s"), Message: aws.String("m")}))
			var n map[string]string
			require.NoError(t, json.Unmarshal([]byte(*letter(t, c, url).Body), &n))
			assert.Equal(t, version, n["SignatureVersion"])
			response, err := http.Get(n["SigningCertURL"])
			require.NoError(t, err)
			defer response.Body.Close()
			raw, err := io.ReadAll(response.Body)
			require.NoError(t, err)
			block, _ := pem.Decode(raw)
			require.NotNil(t, block, string(raw))
			certificate, err := x509.ParseCertificate(block.Bytes)
			require.NoError(t, err)
			signature, err := base64.StdEncoding.DecodeString(n["Signature"])
			require.NoError(t, err)
			hash, digest := sum("Message\nm\nMessageId\n" + n["MessageId"] + "\nSubject\ns\nTimestamp\n" + n["Timestamp"] + "\nTopicArn\n" + *topic + "\nType\nNotification\n")
			assert.NoError(t, rsa.VerifyPKCS1v15(certificate.PublicKey.(*rsa.PublicKey), hash, digest, signature))
		})
	}
	response, err := http.Get(c.URL() + "/SimpleNotificationService-0000.pem")
	require.NoError(t, err)
	defer response.Body.Close()
	assert.Equal(t, http.StatusNotFound, response.StatusCode)
}

func TestASubscriptionGetsWhatItsFilterWants(t *testing.T) {
	c := listening(t)
	client := sns.NewFromConfig(c.AWSConfig(""))
	url, arn := inbox(t, c, "critical")
	ctx := t.Context()
	topic := must[*sns.CreateTopicOutput](t)(client.CreateTopic(ctx, &sns.CreateTopicInput{Name: aws.String("news")})).TopicArn
	subscription := must[*sns.SubscribeOutput](t)(client.Subscribe(ctx, &sns.SubscribeInput{TopicArn: topic, Protocol: aws.String("sqs"), Endpoint: &arn, Attributes: map[string]string{
		"FilterPolicy": `{"severity":["high",{"prefix":"crit"}]}`, "RawMessageDelivery": "true",
	}})).SubscriptionArn
	publish := func(severity, body string) {
		must[*sns.PublishOutput](t)(client.Publish(ctx, &sns.PublishInput{TopicArn: topic, Message: &body, MessageAttributes: map[string]snstypes.MessageAttributeValue{
			"severity": {DataType: aws.String("String"), StringValue: &severity},
		}}))
	}
	publish("low", `{"n":1}`)
	publish("critical", `{"n":2}`)
	got := letter(t, c, url)
	assert.Equal(t, `{"n":2}`, *got.Body)
	assert.Equal(t, "critical", *got.MessageAttributes["severity"].StringValue)
	for name, value := range map[string]string{"FilterPolicyScope": "MessageBody", "FilterPolicy": `{"n":[{"numeric":[">",3]}]}`} {
		must[*sns.SetSubscriptionAttributesOutput](t)(client.SetSubscriptionAttributes(ctx, &sns.SetSubscriptionAttributesInput{SubscriptionArn: subscription, AttributeName: &name, AttributeValue: &value}))
	}
	publish("low", `{"n":3}`)
	publish("low", `{"n":4}`)
	assert.Equal(t, `{"n":4}`, *letter(t, c, url).Body)
	assert.Equal(t, "MessageBody", must[*sns.GetSubscriptionAttributesOutput](t)(client.GetSubscriptionAttributes(ctx, &sns.GetSubscriptionAttributesInput{SubscriptionArn: subscription})).Attributes["FilterPolicyScope"])
	_, err := client.SetSubscriptionAttributes(ctx, &sns.SetSubscriptionAttributesInput{SubscriptionArn: subscription, AttributeName: aws.String("FilterPolicy"), AttributeValue: aws.String("{")})
	assert.ErrorContains(t, err, "FilterPolicy")
}

func TestATopicTakesMessagesOfItsOwnAccount(t *testing.T) {
	c := listening(t)
	owner, other := sns.NewFromConfig(c.AWSConfigFor("137112412989", "us-east-1")), sns.NewFromConfig(c.AWSConfigFor("666666666666", "us-east-1"))
	ctx := t.Context()
	topic := must[*sns.CreateTopicOutput](t)(owner.CreateTopic(ctx, &sns.CreateTopicInput{Name: aws.String("updates")})).TopicArn
	must[*sns.PublishOutput](t)(owner.Publish(ctx, &sns.PublishInput{TopicArn: topic, Message: aws.String("x")}))
	_, err := other.Publish(ctx, &sns.PublishInput{TopicArn: topic, Message: aws.String("x")})
	var denied *snstypes.AuthorizationErrorException
	require.ErrorAs(t, err, &denied)
	must[*sns.SetTopicAttributesOutput](t)(owner.SetTopicAttributes(ctx, &sns.SetTopicAttributesInput{TopicArn: topic, AttributeName: aws.String("Policy"),
		AttributeValue: aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},"Action":["SNS:Publish"],"Resource":"` + *topic + `"}]}`)}))
	must[*sns.PublishOutput](t)(other.Publish(ctx, &sns.PublishInput{TopicArn: topic, Message: aws.String("x")}))
}
