package sns

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// Permissions returns the permission rules of SNS's calls.
func (s *Service) Permissions() authz.Permissions {
	rules := map[string]authz.Rule{
		"DeleteTopic":              onTopic("DeleteTopic", func(in *sns.DeleteTopicInput) *string { return in.TopicArn }),
		"GetTopicAttributes":       onTopic("GetTopicAttributes", func(in *sns.GetTopicAttributesInput) *string { return in.TopicArn }),
		"ListSubscriptionsByTopic": onTopic("ListSubscriptionsByTopic", func(in *sns.ListSubscriptionsByTopicInput) *string { return in.TopicArn }),
		"ListTagsForResource":      onTopic("ListTagsForResource", func(in *sns.ListTagsForResourceInput) *string { return in.ResourceArn }),
		"Publish":                  onTopic("Publish", func(in *sns.PublishInput) *string { return in.TopicArn }),
		"SetTopicAttributes":       onTopic("SetTopicAttributes", func(in *sns.SetTopicAttributesInput) *string { return in.TopicArn }),
		"Subscribe":                onTopic("Subscribe", func(in *sns.SubscribeInput) *string { return in.TopicArn }),
		"TagResource":              onTopic("TagResource", func(in *sns.TagResourceInput) *string { return in.ResourceArn }),
		"UntagResource":            onTopic("UntagResource", func(in *sns.UntagResourceInput) *string { return in.ResourceArn }),
		"CreateTopic": authz.On("sns:CreateTopic", func(c authz.Call, in *sns.CreateTopicInput) string {
			return c.ARN("sns", c.Caller.Account, aws.ToString(in.Name))
		}),
	}
	for _, operation := range []string{"GetSubscriptionAttributes", "ListSubscriptions", "ListTopics", "SetSubscriptionAttributes", "Unsubscribe"} {
		rules[operation] = authz.OnAll("sns:" + operation)
	}
	return authz.Permissions{
		Service: "sns", Rules: rules, Policy: s.resourcePolicy,
		Denied: func(message string) error { return wire.Errorf("AuthorizationError", "%s", message) },
	}
}

func (s *Service) resourcePolicy(arn string) (authz.ResourcePolicy, error) {
	text, _ := s.Policy(arn)
	return authz.PolicyFrom(text)
}

// onTopic makes a rule for an operation on one topic.
func onTopic[I any](operation string, arn func(*I) *string) authz.Rule {
	return authz.On("sns:"+operation, func(_ authz.Call, in *I) string { return aws.ToString(arn(in)) })
}
