package cloudformation

import (
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
)

// Principal is the service that assumes the roles of stacks.
const Principal = "cloudformation.amazonaws.com"

// Permissions returns the permission rules of CloudFormation's calls
// (https://docs.aws.amazon.com/service-authorization/latest/reference/list_awscloudformation.html).
// The service creates resources as the account's root user: it does not check
// the permissions of the stack's role.
func (s *Service) Permissions() authz.Permissions {
	rules := map[string]authz.Rule{
		"CreateStack":                 onStack(s, "CreateStack", func(in *cloudformation.CreateStackInput) (*string, *string) { return in.StackName, in.RoleARN }),
		"UpdateStack":                 onStack(s, "UpdateStack", func(in *cloudformation.UpdateStackInput) (*string, *string) { return in.StackName, in.RoleARN }),
		"DeleteStack":                 onStack(s, "DeleteStack", func(in *cloudformation.DeleteStackInput) (*string, *string) { return in.StackName, in.RoleARN }),
		"CreateChangeSet":             onStack(s, "CreateChangeSet", func(in *cloudformation.CreateChangeSetInput) (*string, *string) { return in.StackName, in.RoleARN }),
		"DeleteChangeSet":             onStack(s, "DeleteChangeSet", func(in *cloudformation.DeleteChangeSetInput) (*string, *string) { return in.StackName, nil }),
		"DescribeChangeSet":           onStack(s, "DescribeChangeSet", func(in *cloudformation.DescribeChangeSetInput) (*string, *string) { return in.StackName, nil }),
		"DescribeEvents":              onStack(s, "DescribeEvents", func(in *cloudformation.DescribeEventsInput) (*string, *string) { return in.StackName, nil }),
		"DescribeStackEvents":         onStack(s, "DescribeStackEvents", func(in *cloudformation.DescribeStackEventsInput) (*string, *string) { return in.StackName, nil }),
		"DescribeStackResource":       onStack(s, "DescribeStackResource", func(in *cloudformation.DescribeStackResourceInput) (*string, *string) { return in.StackName, nil }),
		"DescribeStackResources":      onStack(s, "DescribeStackResources", func(in *cloudformation.DescribeStackResourcesInput) (*string, *string) { return in.StackName, nil }),
		"DescribeStacks":              onStack(s, "DescribeStacks", func(in *cloudformation.DescribeStacksInput) (*string, *string) { return in.StackName, nil }),
		"ExecuteChangeSet":            onStack(s, "ExecuteChangeSet", func(in *cloudformation.ExecuteChangeSetInput) (*string, *string) { return in.StackName, nil }),
		"GetTemplate":                 onStack(s, "GetTemplate", func(in *cloudformation.GetTemplateInput) (*string, *string) { return in.StackName, nil }),
		"GetTemplateSummary":          onStack(s, "GetTemplateSummary", func(in *cloudformation.GetTemplateSummaryInput) (*string, *string) { return in.StackName, nil }),
		"ListChangeSets":              onStack(s, "ListChangeSets", func(in *cloudformation.ListChangeSetsInput) (*string, *string) { return in.StackName, nil }),
		"ListStackResources":          onStack(s, "ListStackResources", func(in *cloudformation.ListStackResourcesInput) (*string, *string) { return in.StackName, nil }),
		"UpdateTerminationProtection": onStack(s, "UpdateTerminationProtection", func(in *cloudformation.UpdateTerminationProtectionInput) (*string, *string) { return in.StackName, nil }),
	}
	for _, operation := range []string{"ListExports", "ListStacks", "ValidateTemplate"} {
		rules[operation] = authz.OnAll("cloudformation:" + operation)
	}
	return authz.Permissions{Service: "cloudformation", Denied: authz.AccessDenied, Rules: rules}
}

// onStack makes a rule for an operation on a stack, which may pass a role.
func onStack[I any](s *Service, operation string, of func(*I) (name, role *string)) authz.Rule {
	return authz.Of(func(c authz.Call, in *I) []authz.Request {
		name, role := of(in)
		stack := authz.Request{Action: "cloudformation:" + operation, Resource: s.stackFor(c, aws.ToString(name))}
		return append([]authz.Request{stack}, authz.PassRole(Principal, aws.ToString(role))...)
	})
}

// stackFor returns the ARN of a stack, or * without a name. The id of a stack
// that does not exist yet is unknown.
func (s *Service) stackFor(c authz.Call, ref string) string {
	switch {
	case ref == "":
		return "*"
	case strings.HasPrefix(ref, "arn:"):
		return ref
	}
	if found, err := s.DescribeStacks(c.Context, &cloudformation.DescribeStacksInput{StackName: &ref}); err == nil && len(found.Stacks) == 1 {
		return aws.ToString(found.Stacks[0].StackId)
	}
	return c.ARN("cloudformation", c.Caller.Account, "stack/"+ref+"/*")
}
