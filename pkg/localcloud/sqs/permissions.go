package sqs

import (
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
)

// Permissions returns the permission rules of SQS's calls.
func (s *Service) Permissions() authz.Permissions {
	return authz.Permissions{Service: "sqs", Denied: authz.AccessDenied, Policy: s.resourcePolicy, Rules: map[string]authz.Rule{
		"ChangeMessageVisibility": onQueue("ChangeMessageVisibility", func(in *sqs.ChangeMessageVisibilityInput) *string { return in.QueueUrl }),
		"DeleteMessage":           onQueue("DeleteMessage", func(in *sqs.DeleteMessageInput) *string { return in.QueueUrl }),
		"DeleteQueue":             onQueue("DeleteQueue", func(in *sqs.DeleteQueueInput) *string { return in.QueueUrl }),
		"GetQueueAttributes":      onQueue("GetQueueAttributes", func(in *sqs.GetQueueAttributesInput) *string { return in.QueueUrl }),
		"ListQueueTags":           onQueue("ListQueueTags", func(in *sqs.ListQueueTagsInput) *string { return in.QueueUrl }),
		"PurgeQueue":              onQueue("PurgeQueue", func(in *sqs.PurgeQueueInput) *string { return in.QueueUrl }),
		"ReceiveMessage":          onQueue("ReceiveMessage", func(in *sqs.ReceiveMessageInput) *string { return in.QueueUrl }),
		"SendMessage":             onQueue("SendMessage", func(in *sqs.SendMessageInput) *string { return in.QueueUrl }),
		"SetQueueAttributes":      onQueue("SetQueueAttributes", func(in *sqs.SetQueueAttributesInput) *string { return in.QueueUrl }),
		"TagQueue":                onQueue("TagQueue", func(in *sqs.TagQueueInput) *string { return in.QueueUrl }),
		"UntagQueue":              onQueue("UntagQueue", func(in *sqs.UntagQueueInput) *string { return in.QueueUrl }),
		"CreateQueue":             onQueue("CreateQueue", func(in *sqs.CreateQueueInput) *string { return in.QueueName }),
		"GetQueueUrl":             onQueue("GetQueueUrl", func(in *sqs.GetQueueUrlInput) *string { return in.QueueName }),
		"ListQueues":              authz.OnAll("sqs:ListQueues"),
	}}
}

func (s *Service) resourcePolicy(arn string) (authz.ResourcePolicy, error) {
	text, _ := s.Policy(arn)
	return authz.PolicyFrom(text)
}

// onQueue makes a rule for an operation on one queue, given by name or URL.
func onQueue[I any](operation string, ref func(*I) *string) authz.Rule {
	return authz.On("sqs:"+operation, func(c authz.Call, in *I) string {
		name := aws.ToString(ref(in))
		account := c.Caller.Account
		if parts := strings.Split(name, "/"); len(parts) > 2 {
			account, name = parts[len(parts)-2], parts[len(parts)-1]
		}
		return c.ARN("sqs", account, name)
	})
}
