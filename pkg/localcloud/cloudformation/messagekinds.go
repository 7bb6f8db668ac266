package cloudformation

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	snstypes "github.com/aws/aws-sdk-go-v2/service/sns/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

type topicProperties struct {
	TopicName, DisplayName          string
	KmsKey                          string `json:"KmsMasterKeyId"`
	Subscription                    []struct{ Endpoint, Protocol string }
	Tags                            []tag
	TracingConfig, SignatureVersion string
}

type topicPolicyProperties struct {
	PolicyDocument document
	Topics         []string
}

type subscriptionProperties struct {
	TopicArn, Endpoint, Protocol, Region string
	RawMessageDelivery                   *bool
	FilterPolicy, RedrivePolicy          document
	FilterPolicyScope                    string
}

func snsKinds(api SNS) map[string]kind {
	p := snsProvider{api}
	return map[string]kind{
		"AWS::SNS::Topic":        of(changer[topicProperties]{create: p.createTopic, update: p.updateTopic, remove: p.deleteTopic, replace: []string{"TopicName"}}),
		"AWS::SNS::TopicPolicy":  of(changer[topicPolicyProperties]{create: p.createPolicy, update: p.updatePolicy, remove: p.deletePolicy}),
		"AWS::SNS::Subscription": of(changer[subscriptionProperties]{create: p.subscribe, remove: p.unsubscribe}),
	}
}

type snsProvider struct{ api SNS }

func (p topicProperties) attributes() map[string]string {
	out := map[string]string{}
	for name, value := range map[string]string{
		"DisplayName": p.DisplayName, "KmsMasterKeyId": p.KmsKey, "TracingConfig": p.TracingConfig, "SignatureVersion": p.SignatureVersion,
	} {
		if value != "" {
			out[name] = value
		}
	}
	return out
}

func (s snsProvider) createTopic(ctx context.Context, t *target, p topicProperties) error {
	name := p.TopicName
	if name == "" {
		name = t.physicalName(256)
	}
	var tags []snstypes.Tag
	all := t.tags(p.Tags)
	for _, key := range sortedKeys(all) {
		tags = append(tags, snstypes.Tag{Key: aws.String(key), Value: aws.String(all[key])})
	}
	out, err := s.api.CreateTopic(ctx, &sns.CreateTopicInput{Name: aws.String(name), Attributes: p.attributes(), Tags: tags})
	if err != nil {
		return err
	}
	t.PhysicalID = aws.ToString(out.TopicArn)
	t.set("TopicArn", t.PhysicalID)
	t.set("TopicName", name)
	for _, sub := range p.Subscription {
		if _, err := s.api.Subscribe(ctx, &sns.SubscribeInput{TopicArn: aws.String(t.PhysicalID), Endpoint: aws.String(sub.Endpoint), Protocol: aws.String(sub.Protocol)}); err != nil {
			return err
		}
	}
	return nil
}

func (s snsProvider) updateTopic(ctx context.Context, t *target, old, p topicProperties) error {
	before, after := old.attributes(), p.attributes()
	for _, name := range without(before, after) {
		after[name] = ""
	}
	for _, name := range sortedKeys(after) {
		if before[name] == after[name] {
			continue
		}
		if _, err := s.api.SetTopicAttributes(ctx, &sns.SetTopicAttributesInput{TopicArn: aws.String(t.PhysicalID), AttributeName: aws.String(name), AttributeValue: aws.String(after[name])}); err != nil {
			return err
		}
	}
	for _, sub := range p.Subscription {
		if _, err := s.api.Subscribe(ctx, &sns.SubscribeInput{TopicArn: aws.String(t.PhysicalID), Endpoint: aws.String(sub.Endpoint), Protocol: aws.String(sub.Protocol)}); err != nil {
			return err
		}
	}
	return nil
}

func (s snsProvider) deleteTopic(ctx context.Context, t *target, _ topicProperties) error {
	_, err := s.api.DeleteTopic(ctx, &sns.DeleteTopicInput{TopicArn: aws.String(t.PhysicalID)})
	return ignoreMissing(err)
}

func (s snsProvider) setPolicy(ctx context.Context, topics []string, policy string) error {
	for _, topic := range topics {
		_, err := s.api.SetTopicAttributes(ctx, &sns.SetTopicAttributesInput{TopicArn: aws.String(topic), AttributeName: aws.String("Policy"), AttributeValue: aws.String(policy)})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s snsProvider) createPolicy(ctx context.Context, t *target, p topicPolicyProperties) error {
	t.PhysicalID = t.physicalName(128)
	t.set("Id", t.PhysicalID)
	return s.setPolicy(ctx, p.Topics, string(p.PolicyDocument))
}

func (s snsProvider) updatePolicy(ctx context.Context, _ *target, _, p topicPolicyProperties) error {
	return s.setPolicy(ctx, p.Topics, string(p.PolicyDocument))
}

// deletePolicy does nothing, as on AWS: a topic always has a policy.
func (s snsProvider) deletePolicy(context.Context, *target, topicPolicyProperties) error { return nil }

func (s snsProvider) subscribe(ctx context.Context, t *target, p subscriptionProperties) error {
	attributes := map[string]string{}
	if aws.ToBool(p.RawMessageDelivery) {
		attributes["RawMessageDelivery"] = "true"
	}
	for name, value := range map[string]string{"FilterPolicy": string(p.FilterPolicy), "FilterPolicyScope": p.FilterPolicyScope, "RedrivePolicy": string(p.RedrivePolicy)} {
		if value != "" {
			attributes[name] = value
		}
	}
	out, err := s.api.Subscribe(ctx, &sns.SubscribeInput{
		TopicArn: aws.String(p.TopicArn), Endpoint: aws.String(p.Endpoint), Protocol: aws.String(p.Protocol), Attributes: attributes, ReturnSubscriptionArn: true,
	}, s.in(p.Region))
	if err != nil {
		return err
	}
	t.PhysicalID = aws.ToString(out.SubscriptionArn)
	t.set("Arn", t.PhysicalID)
	return nil
}

// in sets the region of a call; empty means the stack's region.
func (s snsProvider) in(region string) func(*sns.Options) {
	return func(o *sns.Options) {
		if region != "" {
			o.Region = region
		}
	}
}

func (s snsProvider) unsubscribe(ctx context.Context, t *target, p subscriptionProperties) error {
	_, err := s.api.Unsubscribe(ctx, &sns.UnsubscribeInput{SubscriptionArn: aws.String(t.PhysicalID)}, s.in(p.Region))
	return ignoreMissing(err)
}

type queueProperties struct {
	QueueName                                                string
	DelaySeconds, MaximumMessageSize, MessageRetentionPeriod string
	ReceiveMessageWaitTimeSeconds, VisibilityTimeout         string
	KmsKey                                                   string `json:"KmsMasterKeyId"`
	KmsDataKeyReusePeriodSeconds                             string
	SqsManagedSseEnabled                                     string
	FifoQueue, ContentBasedDeduplication, DeduplicationScope string
	FifoThroughputLimit                                      string
	RedrivePolicy, RedriveAllowPolicy                        document
	Tags                                                     []tag
}

type queuePolicyProperties struct {
	PolicyDocument document
	Queues         []string
}

func sqsKinds(api SQS) map[string]kind {
	p := sqsProvider{api}
	return map[string]kind{
		"AWS::SQS::Queue":       of(changer[queueProperties]{create: p.createQueue, update: p.updateQueue, remove: p.deleteQueue, replace: []string{"QueueName", "FifoQueue"}}),
		"AWS::SQS::QueuePolicy": of(changer[queuePolicyProperties]{create: p.createPolicy, update: p.updatePolicy, remove: p.deletePolicy}),
	}
}

type sqsProvider struct{ api SQS }

func (p queueProperties) attributes() map[string]string {
	out := map[string]string{}
	for name, value := range map[string]string{
		"DelaySeconds": p.DelaySeconds, "MaximumMessageSize": p.MaximumMessageSize, "MessageRetentionPeriod": p.MessageRetentionPeriod,
		"ReceiveMessageWaitTimeSeconds": p.ReceiveMessageWaitTimeSeconds, "VisibilityTimeout": p.VisibilityTimeout, "KmsMasterKeyId": p.KmsKey,
		"KmsDataKeyReusePeriodSeconds": p.KmsDataKeyReusePeriodSeconds, "SqsManagedSseEnabled": p.SqsManagedSseEnabled, "FifoQueue": p.FifoQueue,
		"ContentBasedDeduplication": p.ContentBasedDeduplication, "DeduplicationScope": p.DeduplicationScope, "FifoThroughputLimit": p.FifoThroughputLimit,
		"RedrivePolicy": string(p.RedrivePolicy), "RedriveAllowPolicy": string(p.RedriveAllowPolicy),
	} {
		if value != "" {
			out[name] = value
		}
	}
	return out
}

// initial holds SQS's defaults of attributes
// (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html).
var initial = map[string]string{
	"DelaySeconds": "0", "MessageRetentionPeriod": "345600", "ReceiveMessageWaitTimeSeconds": "0", "VisibilityTimeout": "30",
	"SqsManagedSseEnabled": "true", "KmsMasterKeyId": "", "RedrivePolicy": "", "RedriveAllowPolicy": "",
}

func (s sqsProvider) createQueue(ctx context.Context, t *target, p queueProperties) error {
	name := p.QueueName
	if name == "" {
		name = t.physicalName(80)
	}
	out, err := s.api.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String(name), Attributes: p.attributes(), Tags: t.tags(p.Tags)})
	if err != nil {
		return err
	}
	t.PhysicalID = aws.ToString(out.QueueUrl)
	t.set("Arn", t.arn("sqs", name))
	t.set("QueueName", name)
	t.set("QueueUrl", t.PhysicalID)
	return nil
}

func (s sqsProvider) updateQueue(ctx context.Context, t *target, old, p queueProperties) error {
	before, after := old.attributes(), p.attributes()
	for _, name := range without(before, after) {
		value, ok := initial[name]
		if !ok {
			return invalid("the embedded AWS cannot remove the attribute %s from a queue", name)
		}
		after[name] = value
	}
	if len(after) == 0 {
		return nil
	}
	_, err := s.api.SetQueueAttributes(ctx, &sqs.SetQueueAttributesInput{QueueUrl: aws.String(t.PhysicalID), Attributes: after})
	return err
}

func (s sqsProvider) deleteQueue(ctx context.Context, t *target, _ queueProperties) error {
	_, err := s.api.DeleteQueue(ctx, &sqs.DeleteQueueInput{QueueUrl: aws.String(t.PhysicalID)})
	return ignoreMissing(err)
}

func (s sqsProvider) setPolicy(ctx context.Context, queues []string, policy string) error {
	for _, url := range queues {
		_, err := s.api.SetQueueAttributes(ctx, &sqs.SetQueueAttributesInput{
			QueueUrl: aws.String(url), Attributes: map[string]string{string(sqstypes.QueueAttributeNamePolicy): policy},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s sqsProvider) createPolicy(ctx context.Context, t *target, p queuePolicyProperties) error {
	t.PhysicalID = t.physicalName(128)
	t.set("Id", t.PhysicalID)
	return s.setPolicy(ctx, p.Queues, string(p.PolicyDocument))
}

func (s sqsProvider) updatePolicy(ctx context.Context, _ *target, _, p queuePolicyProperties) error {
	return s.setPolicy(ctx, p.Queues, string(p.PolicyDocument))
}

func (s sqsProvider) deletePolicy(ctx context.Context, _ *target, p queuePolicyProperties) error {
	return ignoreMissing(s.setPolicy(ctx, p.Queues, ""))
}
