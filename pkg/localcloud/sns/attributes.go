package sns

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sns/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
	"github.com/ami-factory/ami-factory/pkg/localcloud/events"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// topicAttributes returns the attributes that can be set
// (https://docs.aws.amazon.com/sns/latest/api/API_SetTopicAttributes.html). The
// embedded SNS uses SignatureVersion and Policy, and only stores the others.
func topicAttributes() []string {
	return []string{"DeliveryPolicy", "DisplayName", "KmsMasterKeyId", "Policy", "SignatureVersion", "TracingConfig"}
}

func checkTopicAttributes(attributes map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		value := attributes[name]
		switch {
		case !slices.Contains(topicAttributes(), name):
			return invalid("AttributeName %s (allowed: %s)", name, strings.Join(topicAttributes(), ", "))
		case name == "SignatureVersion" && value != "" && value != "1" && value != "2":
			return invalid("SignatureVersion %q (allowed: 1, 2)", value)
		case name == "Policy" && value != "":
			if _, err := authz.ParseResource([]byte(value)); err != nil {
				return invalid("Policy: %v", err)
			}
		}
	}
	return nil
}

// signatureVersion returns the signature version of a topic's messages. AWS's
// default is version 1.
func (t *topic) signatureVersion() string {
	if v := t.Attributes["SignatureVersion"]; v != "" {
		return v
	}
	return "1"
}

// mayPublish checks whether an account's root user may publish: that of the
// topic's account may, that of another account if the topic's policy allows it.
// Sessions of roles and services were checked before, if policies are enforced.
func (t *topic) mayPublish(who wire.Caller) error {
	if who.ARN == "" {
		who.ARN = wire.RootARN(who.Account, who.Region)
	}
	if who.Account == strings.Split(t.ARN, ":")[4] || !strings.HasSuffix(who.ARN, ":root") {
		return nil
	}
	const action = "sns:Publish"
	policy, err := authz.ParseResource([]byte(t.Attributes["Policy"]))
	about := authz.Context(map[string][]string{"aws:PrincipalAccount": {who.Account}, "aws:PrincipalArn": {who.ARN}, "aws:SecureTransport": {"true"}})
	if err == nil && policy.Lets(authz.Principal{Account: who.Account, ARN: who.ARN}, authz.Request{Action: action, Resource: t.ARN, Context: about}) {
		return nil
	}
	return &types.AuthorizationErrorException{Message: aws.String(
		"User: " + who.ARN + " is not authorized to perform: SNS:Publish on resource: " + t.ARN + " because no resource-based policy allows the SNS:Publish action")}
}

// SetTopicAttributes sets one attribute. An empty value removes it.
func (s *Service) SetTopicAttributes(_ context.Context, in *sns.SetTopicAttributesInput, _ ...func(*sns.Options)) (*sns.SetTopicAttributesOutput, error) {
	name, value := aws.ToString(in.AttributeName), aws.ToString(in.AttributeValue)
	if err := checkTopicAttributes(map[string]string{name: value}); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.topic(aws.ToString(in.TopicArn))
	if err != nil {
		return nil, err
	}
	t.Attributes = maps.Clone(t.Attributes)
	if t.Attributes == nil {
		t.Attributes = map[string]string{}
	}
	t.Attributes[name] = value
	if value == "" {
		delete(t.Attributes, name)
	}
	return &sns.SetTopicAttributesOutput{}, nil
}

// set sets an attribute of a subscription. An empty value removes it.
func (sub *subscription) set(name, value string) error {
	switch name {
	case "RawMessageDelivery":
		raw, err := strconv.ParseBool(value)
		if err != nil && value != "" {
			return invalid("RawMessageDelivery %q (allowed: true, false)", value)
		}
		if raw && sub.Protocol == "lambda" {
			return invalid("Attributes Reason: Delivery protocol [lambda] does not support raw message delivery.")
		}
		sub.Raw = raw
		return nil
	case "FilterPolicy":
		if _, err := events.ParsePattern(value); err != nil && value != "" {
			return invalid("FilterPolicy: %s", err)
		}
	case "FilterPolicyScope":
		if value != "" && value != scopeAttributes && value != scopeBody {
			return invalid("FilterPolicyScope %q (allowed: %s, %s)", value, scopeAttributes, scopeBody)
		}
	case "RedrivePolicy":
		if _, _, err := scope.QueueURL(deadLetters(value)); err != nil && value != "" {
			return invalid("RedrivePolicy: deadLetterTargetArn: %s", err)
		}
	case "DeliveryPolicy": // stored only
	default:
		return invalid("Attributes Reason: the embedded SNS does not serve the attribute %s", name)
	}
	sub.Attributes = maps.Clone(sub.Attributes)
	if value == "" {
		delete(sub.Attributes, name)
		return nil
	}
	if sub.Attributes == nil {
		sub.Attributes = map[string]string{}
	}
	sub.Attributes[name] = value
	return nil
}

// Scopes of a filter policy.
const (
	scopeAttributes = "MessageAttributes"
	scopeBody       = "MessageBody"
)

// deadLetters returns the queue in a redrive policy, or "".
func deadLetters(policy string) string {
	var p struct {
		Target string `json:"deadLetterTargetArn"`
	}
	_ = json.Unmarshal([]byte(policy), &p) // invalid JSON has no queue
	return p.Target
}

// wants reports whether a message passes the subscription's filter
// (https://docs.aws.amazon.com/sns/latest/dg/sns-subscription-filter-policies.html).
func (sub subscription) wants(m Message) bool {
	text := sub.Attributes["FilterPolicy"]
	if text == "" {
		return true
	}
	pattern, err := events.ParsePattern(text)
	if err != nil {
		return false // it was checked when it was set
	}
	document := any(m.filtered())
	if sub.Attributes["FilterPolicyScope"] == scopeBody {
		if json.Unmarshal([]byte(m.Body), &document) != nil {
			return false
		}
	}
	return pattern.Match(document)
}

// filtered returns a message's attributes in the form that patterns match.
func (m Message) filtered() map[string]any {
	out := map[string]any{}
	for name, a := range m.Attributes {
		text := aws.ToString(a.StringValue)
		var value any = text
		if kind := aws.ToString(a.DataType); kind == "Number" || kind == "String.Array" {
			if json.Unmarshal([]byte(text), &value) != nil {
				value = text
			}
		}
		out[name] = value
	}
	return out
}

// subscriptionAt finds a subscription by ARN. The caller holds s.mu.
func (s *Service) subscriptionAt(arn string) (*subscription, *topic, error) {
	if i := strings.LastIndex(arn, ":"); i > 0 {
		if t, err := s.topic(arn[:i]); err == nil {
			for n := range t.Subscriptions {
				if t.Subscriptions[n].ARN == arn {
					return &t.Subscriptions[n], t, nil
				}
			}
		}
	}
	return nil, nil, &types.NotFoundException{Message: aws.String("Subscription does not exist")}
}

// SetSubscriptionAttributes sets one attribute. An empty value removes it.
func (s *Service) SetSubscriptionAttributes(_ context.Context, in *sns.SetSubscriptionAttributesInput, _ ...func(*sns.Options)) (*sns.SetSubscriptionAttributesOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub, _, err := s.subscriptionAt(aws.ToString(in.SubscriptionArn))
	if err != nil {
		return nil, err
	}
	return &sns.SetSubscriptionAttributesOutput{}, sub.set(aws.ToString(in.AttributeName), aws.ToString(in.AttributeValue))
}

// GetSubscriptionAttributes returns a subscription's attributes.
func (s *Service) GetSubscriptionAttributes(_ context.Context, in *sns.GetSubscriptionAttributesInput, _ ...func(*sns.Options)) (*sns.GetSubscriptionAttributesOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub, t, err := s.subscriptionAt(aws.ToString(in.SubscriptionArn))
	if err != nil {
		return nil, err
	}
	out := map[string]string{
		"SubscriptionArn": sub.ARN, "TopicArn": t.ARN, "Owner": sub.Owner, "Protocol": sub.Protocol, "Endpoint": sub.Endpoint,
		"RawMessageDelivery": strconv.FormatBool(sub.Raw), "PendingConfirmation": "false", "ConfirmationWasAuthenticated": "true",
	}
	maps.Copy(out, sub.Attributes)
	return &sns.GetSubscriptionAttributesOutput{Attributes: out}, nil
}

// TagResource adds tags to a topic.
func (s *Service) TagResource(_ context.Context, in *sns.TagResourceInput, _ ...func(*sns.Options)) (*sns.TagResourceOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.topic(aws.ToString(in.ResourceArn))
	if err != nil {
		return nil, err
	}
	for _, tag := range in.Tags {
		t.Tags[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
	}
	return &sns.TagResourceOutput{}, nil
}

// UntagResource removes tags from a topic.
func (s *Service) UntagResource(_ context.Context, in *sns.UntagResourceInput, _ ...func(*sns.Options)) (*sns.UntagResourceOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.topic(aws.ToString(in.ResourceArn))
	if err != nil {
		return nil, err
	}
	for _, key := range in.TagKeys {
		delete(t.Tags, key)
	}
	return &sns.UntagResourceOutput{}, nil
}

// ListTagsForResource returns a topic's tags, by key.
func (s *Service) ListTagsForResource(_ context.Context, in *sns.ListTagsForResourceInput, _ ...func(*sns.Options)) (*sns.ListTagsForResourceOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.topic(aws.ToString(in.ResourceArn))
	if err != nil {
		return nil, err
	}
	out := &sns.ListTagsForResourceOutput{}
	for _, key := range slices.Sorted(maps.Keys(t.Tags)) {
		out.Tags = append(out.Tags, types.Tag{Key: aws.String(key), Value: aws.String(t.Tags[key])})
	}
	return out, nil
}
