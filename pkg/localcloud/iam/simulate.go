package iam

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
)

// SimulatePrincipalPolicy returns the decision of a role's own policies on
// actions and resources. It does not count the requests as used permissions, and
// does not support policies of resources.
func (s *Service) SimulatePrincipalPolicy(_ context.Context, in *iam.SimulatePrincipalPolicyInput, _ ...func(*iam.Options)) (*iam.SimulatePrincipalPolicyOutput, error) {
	if in.ResourcePolicy != nil || len(in.PolicyInputList) > 0 || len(in.PermissionsBoundaryPolicyInputList) > 0 || len(in.PolicyExclusionList) > 0 {
		return nil, invalid("The embedded IAM simulates a role's own policies only: leave ResourcePolicy, PolicyInputList, PermissionsBoundaryPolicyInputList and PolicyExclusionList out.")
	}
	pairs := map[string][]string{}
	for _, c := range in.ContextEntries {
		key, err := authz.CanonicalKey(aws.ToString(c.ContextKeyName))
		if err != nil {
			return nil, &types.InvalidInputException{Message: aws.String(err.Error())}
		}
		pairs[key] = c.ContextKeyValues
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.find(aws.ToString(in.PolicySourceArn))
	if r == nil {
		return nil, noSuchEntity("The role %s cannot be found.", aws.ToString(in.PolicySourceArn))
	}
	documents := []authz.Document{}
	for _, p := range s.policiesOf(r) {
		documents = append(documents, p.document)
	}
	resources := in.ResourceArns
	if len(resources) == 0 {
		resources = []string{"*"}
	}
	var all []types.EvaluationResult
	for _, action := range in.ActionNames {
		for _, resource := range resources {
			verdict := authz.Evaluate(authz.Request{Action: action, Resource: resource, Context: pairs}, documents, s.boundaryOf(r))
			all = append(all, simulated(action, resource, verdict))
		}
	}
	page, truncated, next, err := list(all, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	return &iam.SimulatePrincipalPolicyOutput{EvaluationResults: page, IsTruncated: truncated, Marker: next}, nil
}

func simulated(action, resource string, verdict authz.Verdict) types.EvaluationResult {
	out := types.EvaluationResult{
		EvalActionName: aws.String(action), EvalResourceName: aws.String(resource), EvalDecision: types.PolicyEvaluationDecisionTypeImplicitDeny,
		MatchedStatements: []types.Statement{}, MissingContextValues: []string{},
	}
	switch verdict {
	case authz.Allowed:
		out.EvalDecision = types.PolicyEvaluationDecisionTypeAllowed
	case authz.Denied, authz.DeniedByBoundary:
		out.EvalDecision = types.PolicyEvaluationDecisionTypeExplicitDeny
	}
	if verdict == authz.OutsideTheBoundary || verdict == authz.DeniedByBoundary {
		out.PermissionsBoundaryDecisionDetail = &types.PermissionsBoundaryDecisionDetail{AllowedByPermissionsBoundary: false}
	}
	return out
}
