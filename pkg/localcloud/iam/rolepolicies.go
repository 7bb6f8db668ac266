package iam

import (
	"context"
	"maps"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
)

// Quotas of a role's policies
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html).
const (
	maxAttached   = 10
	maxInlineSize = 10240 // characters without white space, for all inline policies together
)

// PutRolePolicy makes or replaces an inline policy.
func (s *Service) PutRolePolicy(ctx context.Context, in *iam.PutRolePolicyInput, optFns ...func(*iam.Options)) (*iam.PutRolePolicyOutput, error) {
	name := aws.ToString(in.PolicyName)
	if err := checkName("policyName", name, 128); err != nil {
		return nil, err
	}
	text, err := read(in.PolicyDocument, authz.Parse)
	if err != nil {
		return nil, err
	}
	return &iam.PutRolePolicyOutput{}, s.change(ctx, optFns, in.RoleName, func(_ string, _ *account, r *role) error {
		size := sizeOf(text.raw)
		for other, p := range r.Inline {
			if other != name {
				size += sizeOf(p.raw)
			}
		}
		if size > maxInlineSize {
			return &types.LimitExceededException{Message: aws.String("Maximum policy size of 10240 bytes exceeded for role " + r.Name)}
		}
		r.Inline[name] = text
		return nil
	})
}

// sizeOf returns a document's length without white space, as IAM's quotas count
// it.
func sizeOf(document string) int {
	n := 0
	for _, c := range document {
		if c != ' ' && c != '\t' && c != '\n' && c != '\r' {
			n++
		}
	}
	return n
}

func (r *role) inline(name *string) (policyText, error) {
	text, ok := r.Inline[aws.ToString(name)]
	if !ok {
		return policyText{}, noSuchEntity("The role policy with name %s cannot be found.", aws.ToString(name))
	}
	return text, nil
}

// GetRolePolicy returns an inline policy, percent-encoded like IAM.
func (s *Service) GetRolePolicy(ctx context.Context, in *iam.GetRolePolicyInput, optFns ...func(*iam.Options)) (*iam.GetRolePolicyOutput, error) {
	out := &iam.GetRolePolicyOutput{RoleName: in.RoleName, PolicyName: in.PolicyName}
	return out, s.change(ctx, optFns, in.RoleName, func(_ string, _ *account, r *role) error {
		text, err := r.inline(in.PolicyName)
		out.PolicyDocument = encoded(text.raw)
		return err
	})
}

// DeleteRolePolicy deletes an inline policy.
func (s *Service) DeleteRolePolicy(ctx context.Context, in *iam.DeleteRolePolicyInput, optFns ...func(*iam.Options)) (*iam.DeleteRolePolicyOutput, error) {
	return &iam.DeleteRolePolicyOutput{}, s.change(ctx, optFns, in.RoleName, func(_ string, _ *account, r *role) error {
		_, err := r.inline(in.PolicyName)
		delete(r.Inline, aws.ToString(in.PolicyName))
		return err
	})
}

// ListRolePolicies lists a role's inline policies by name.
func (s *Service) ListRolePolicies(ctx context.Context, in *iam.ListRolePoliciesInput, optFns ...func(*iam.Options)) (*iam.ListRolePoliciesOutput, error) {
	out := &iam.ListRolePoliciesOutput{}
	return out, s.change(ctx, optFns, in.RoleName, func(_ string, _ *account, r *role) (err error) {
		out.PolicyNames, out.IsTruncated, out.Marker, err = list(slices.Sorted(maps.Keys(r.Inline)), in.Marker, in.MaxItems)
		return err
	})
}

// AttachRolePolicy attaches a managed policy. Attaching it again changes
// nothing, as on AWS.
func (s *Service) AttachRolePolicy(ctx context.Context, in *iam.AttachRolePolicyInput, optFns ...func(*iam.Options)) (*iam.AttachRolePolicyOutput, error) {
	return &iam.AttachRolePolicyOutput{}, s.change(ctx, optFns, in.RoleName, func(id string, _ *account, r *role) error {
		arn := aws.ToString(in.PolicyArn)
		if _, ok := s.managed(id, arn); !ok {
			return noSuchEntity("Policy %s does not exist or is not attachable.", arn)
		}
		switch {
		case slices.Contains(r.Attached, arn):
		case len(r.Attached) == maxAttached:
			return &types.LimitExceededException{Message: aws.String("Cannot exceed quota for PoliciesPerRole: 10")}
		default:
			r.Attached = append(r.Attached, arn)
		}
		return nil
	})
}

// DetachRolePolicy detaches a managed policy.
func (s *Service) DetachRolePolicy(ctx context.Context, in *iam.DetachRolePolicyInput, optFns ...func(*iam.Options)) (*iam.DetachRolePolicyOutput, error) {
	return &iam.DetachRolePolicyOutput{}, s.change(ctx, optFns, in.RoleName, func(_ string, _ *account, r *role) error {
		arn := aws.ToString(in.PolicyArn)
		i := slices.Index(r.Attached, arn)
		if i < 0 {
			return noSuchEntity("Policy %s was not found.", arn)
		}
		r.Attached = slices.Delete(r.Attached, i, i+1)
		return nil
	})
}

// ListAttachedRolePolicies lists a role's managed policies, in the order of
// their attachment.
func (s *Service) ListAttachedRolePolicies(ctx context.Context, in *iam.ListAttachedRolePoliciesInput, optFns ...func(*iam.Options)) (*iam.ListAttachedRolePoliciesOutput, error) {
	out := &iam.ListAttachedRolePoliciesOutput{}
	return out, s.change(ctx, optFns, in.RoleName, func(id string, _ *account, r *role) (err error) {
		var all []types.AttachedPolicy
		for _, arn := range r.Attached {
			if p, ok := s.managed(id, arn); ok {
				all = append(all, types.AttachedPolicy{PolicyArn: aws.String(arn), PolicyName: aws.String(p.Name)})
			}
		}
		out.AttachedPolicies, out.IsTruncated, out.Marker, err = list(all, in.Marker, in.MaxItems)
		return err
	})
}

// PutRolePermissionsBoundary sets the managed policy that limits a role's
// permissions.
func (s *Service) PutRolePermissionsBoundary(ctx context.Context, in *iam.PutRolePermissionsBoundaryInput, optFns ...func(*iam.Options)) (*iam.PutRolePermissionsBoundaryOutput, error) {
	return &iam.PutRolePermissionsBoundaryOutput{}, s.change(ctx, optFns, in.RoleName, func(id string, _ *account, r *role) error {
		return s.setBoundary(id, r, in.PermissionsBoundary)
	})
}

func (s *Service) setBoundary(id string, r *role, arn *string) error {
	if _, ok := s.managed(id, aws.ToString(arn)); !ok {
		return noSuchEntity("Scope ARN: %s does not exist or is not attachable.", aws.ToString(arn))
	}
	r.Boundary, r.OwnBoundary = *arn, nil
	return nil
}

// DeleteRolePermissionsBoundary removes a role's boundary.
func (s *Service) DeleteRolePermissionsBoundary(ctx context.Context, in *iam.DeleteRolePermissionsBoundaryInput, optFns ...func(*iam.Options)) (*iam.DeleteRolePermissionsBoundaryOutput, error) {
	return &iam.DeleteRolePermissionsBoundaryOutput{}, s.change(ctx, optFns, in.RoleName, func(_ string, _ *account, r *role) error {
		r.Boundary, r.OwnBoundary = "", nil
		return nil
	})
}
