package lambda

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awslambda "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/google/uuid"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// statement is one statement of a function's policy.
type statement struct {
	Sid       string
	Effect    string
	Principal map[string]string
	Action    string
	Resource  string
	Condition map[string]map[string]string `json:",omitempty"`
}

// policy is a resource policy in GetPolicy's form.
type policy struct {
	Version   string
	ID        string `json:"Id"`
	Statement []statement
}

// AddPermission implements the method of awslambda.Client.
func (s *Service) AddPermission(ctx context.Context, in *awslambda.AddPermissionInput, optFns ...func(*awslambda.Options)) (*awslambda.AddPermissionOutput, error) {
	f, err := s.find(qualified(in.FunctionName, in.Qualifier), s.caller(ctx, optFns))
	if err != nil {
		return nil, err
	}
	added := statement{
		Sid: aws.ToString(in.StatementId), Effect: "Allow", Action: aws.ToString(in.Action), Resource: f.config.ARN,
		Principal: principal(aws.ToString(in.Principal), strings.Split(f.config.ARN, ":")[3]),
	}
	if added.Sid == "" || added.Action == "" || in.Principal == nil {
		return nil, invalid("StatementId, Action and Principal are required")
	}
	condition := func(operator, key string, value *string) {
		if value != nil {
			if added.Condition == nil {
				added.Condition = map[string]map[string]string{}
			}
			if added.Condition[operator] == nil {
				added.Condition[operator] = map[string]string{}
			}
			added.Condition[operator][key] = *value
		}
	}
	condition("ArnLike", "AWS:SourceArn", in.SourceArn)
	condition("StringEquals", "AWS:SourceAccount", in.SourceAccount)
	condition("StringEquals", "aws:PrincipalOrgID", in.PrincipalOrgID)
	if in.FunctionUrlAuthType != "" {
		if added.Action != "lambda:InvokeFunctionUrl" {
			return nil, invalid("FunctionUrlAuthType is only supported for lambda:InvokeFunctionUrl action")
		}
		condition("StringEquals", "lambda:FunctionUrlAuthType", aws.String(string(in.FunctionUrlAuthType)))
	}
	if in.InvokedViaFunctionUrl != nil {
		if added.Action != "lambda:InvokeFunction" {
			return nil, invalid("InvokedViaFunctionUrl is only supported for lambda:InvokeFunction action")
		}
		condition("Bool", "lambda:InvokedViaFunctionUrl", aws.String(strconv.FormatBool(*in.InvokedViaFunctionUrl)))
	}

	raw, err := json.Marshal(added)
	if err != nil {
		return nil, fmt.Errorf("write the statement: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.ContainsFunc(f.config.Policy, func(o statement) bool { return o.Sid == added.Sid }) {
		return nil, conflict(fmt.Sprintf("The statement id (%s) provided already exists. Please provide a new statement id, or remove the existing statement.", added.Sid))
	}
	f.config.Policy = append(slices.Clone(f.config.Policy), added)
	f.config.PolicyRevision = uuid.NewString()
	return &awslambda.AddPermissionOutput{Statement: aws.String(string(raw))}, nil
}

// principal returns the principal of a statement in a region.
func principal(p, region string) map[string]string {
	switch {
	case authz.IsServiceName(p):
		return map[string]string{"Service": p}
	case len(p) == 12 && strings.Trim(p, "0123456789") == "":
		return map[string]string{"AWS": wire.RootARN(p, region)}
	default:
		return map[string]string{"AWS": p}
	}
}

// GetPolicy implements the method of awslambda.Client.
func (s *Service) GetPolicy(ctx context.Context, in *awslambda.GetPolicyInput, optFns ...func(*awslambda.Options)) (*awslambda.GetPolicyOutput, error) {
	f, err := s.find(qualified(in.FunctionName, in.Qualifier), s.caller(ctx, optFns))
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(f.config.Policy) == 0 {
		return nil, notFound("The resource you requested does not exist.")
	}
	raw, err := json.Marshal(policy{Version: "2012-10-17", ID: "default", Statement: f.config.Policy})
	if err != nil {
		return nil, fmt.Errorf("write the policy: %w", err)
	}
	return &awslambda.GetPolicyOutput{Policy: aws.String(string(raw)), RevisionId: orNil(f.config.PolicyRevision)}, nil
}

// Policy returns the resource policy of a function, by its ARN, or "" if it has
// none. ok is false if the function does not exist.
func (s *Service) Policy(arn string) (document string, ok bool, err error) {
	f, err := s.find(arn, s.config.Default)
	if err != nil {
		return "", false, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(f.config.Policy) == 0 {
		return "", true, nil
	}
	raw, err := json.Marshal(policy{Version: "2012-10-17", ID: "default", Statement: f.config.Policy})
	return string(raw), true, err
}

// RemovePermission implements the method of awslambda.Client.
func (s *Service) RemovePermission(ctx context.Context, in *awslambda.RemovePermissionInput, optFns ...func(*awslambda.Options)) (*awslambda.RemovePermissionOutput, error) {
	f, err := s.find(qualified(in.FunctionName, in.Qualifier), s.caller(ctx, optFns))
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	left := slices.DeleteFunc(slices.Clone(f.config.Policy), func(o statement) bool { return o.Sid == aws.ToString(in.StatementId) })
	if len(left) == len(f.config.Policy) {
		return nil, notFound("Statement " + aws.ToString(in.StatementId) + " is not found in resource policy.")
	}
	f.config.Policy, f.config.PolicyRevision = left, uuid.NewString()
	return &awslambda.RemovePermissionOutput{}, nil
}

// ListTags implements the method of awslambda.Client.
func (s *Service) ListTags(ctx context.Context, in *awslambda.ListTagsInput, optFns ...func(*awslambda.Options)) (*awslambda.ListTagsOutput, error) {
	f, err := s.find(aws.ToString(in.Resource), s.caller(ctx, optFns))
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return &awslambda.ListTagsOutput{Tags: maps.Clone(f.config.Tags)}, nil
}

// TagResource implements the method of awslambda.Client.
func (s *Service) TagResource(ctx context.Context, in *awslambda.TagResourceInput, optFns ...func(*awslambda.Options)) (*awslambda.TagResourceOutput, error) {
	f, err := s.find(aws.ToString(in.Resource), s.caller(ctx, optFns))
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	tags := maps.Clone(f.config.Tags)
	if tags == nil {
		tags = map[string]string{}
	}
	maps.Copy(tags, in.Tags)
	f.config.Tags = tags
	return &awslambda.TagResourceOutput{}, nil
}

// UntagResource implements the method of awslambda.Client.
func (s *Service) UntagResource(ctx context.Context, in *awslambda.UntagResourceInput, optFns ...func(*awslambda.Options)) (*awslambda.UntagResourceOutput, error) {
	f, err := s.find(aws.ToString(in.Resource), s.caller(ctx, optFns))
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	tags := maps.Clone(f.config.Tags)
	for _, key := range in.TagKeys {
		delete(tags, key)
	}
	f.config.Tags = tags
	return &awslambda.UntagResourceOutput{}, nil
}
