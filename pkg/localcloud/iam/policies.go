package iam

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// maxVersions is the maximum number of versions of a managed policy, and
// maxManagedSize the maximum length of one, in characters without white space.
const (
	maxVersions    = 5
	maxManagedSize = 6144
)

// policy is one managed policy.
type policy struct {
	Name, Path, ARN, ID string
	Description         string
	Created, Updated    time.Time
	Versions            []policyVersion // oldest first
	Default             string          // such as v1
	Made                int             // number of versions ever made
	Tags                map[string]string
}

type policyVersion struct {
	ID      string
	Created time.Time
	Text    policyText
}

// current is the default version.
func (p *policy) current() policyText {
	v, _ := p.version(&p.Default) // there is always one
	return v.Text
}

func (p *policy) version(id *string) (policyVersion, error) {
	for _, v := range p.Versions {
		if v.ID == aws.ToString(id) {
			return v, nil
		}
	}
	return policyVersion{}, noSuchEntity("Policy %s version %s does not exist or is not attachable.", p.ARN, aws.ToString(id))
}

func (p *policy) add(text policyText, now time.Time) policyVersion {
	p.Made++
	v := policyVersion{ID: fmt.Sprintf("v%d", p.Made), Created: now, Text: text}
	p.Versions, p.Updated = append(p.Versions, v), now
	return v
}

// managed finds a managed policy of an account or of AWS. The caller holds s.mu.
func (s *Service) managed(id, arn string) (*policy, bool) {
	if p, ok := s.aws[arn]; ok {
		return p, true
	}
	a := s.accounts[id]
	if a == nil {
		return nil, false
	}
	p, ok := a.Policies[arn]
	return p, ok
}

// policyOf finds a managed policy for a call. The caller holds s.mu.
func (s *Service) policyOf(id string, arn *string) (*policy, error) {
	p, ok := s.managed(id, aws.ToString(arn))
	if !ok {
		return nil, noSuchEntity("Policy %s was not found.", aws.ToString(arn))
	}
	return p, nil
}

// own is policyOf for calls that change the policy, which must not be AWS's.
func (s *Service) own(id string, arn *string) (*policy, error) {
	p, err := s.policyOf(id, arn)
	if err == nil && authz.AccountOf(p.ARN) == awsAccount {
		return nil, wire.Errorf("AccessDenied", "Policy %s is AWS's own and cannot be changed.", p.ARN)
	}
	return p, err
}

func (s *Service) readManaged(raw *string) (policyText, error) {
	text, err := read(raw, authz.Parse)
	if err == nil && sizeOf(text.raw) > maxManagedSize {
		err = &types.LimitExceededException{Message: aws.String(fmt.Sprintf("Cannot exceed quota for PolicySize: %d", maxManagedSize))}
	}
	return text, err
}

// CreatePolicy makes a customer managed policy.
func (s *Service) CreatePolicy(ctx context.Context, in *iam.CreatePolicyInput, optFns ...func(*iam.Options)) (*iam.CreatePolicyOutput, error) {
	name := aws.ToString(in.PolicyName)
	if err := checkName("policyName", name, 128); err != nil {
		return nil, err
	}
	path, err := checkPath(in.Path)
	if err != nil {
		return nil, err
	}
	text, err := s.readManaged(in.PolicyDocument)
	if err != nil {
		return nil, err
	}
	p := &policy{Name: name, Path: path, Description: aws.ToString(in.Description), Created: s.now(), Tags: map[string]string{}}
	if err := addTags(p.Tags, in.Tags); err != nil {
		return nil, err
	}
	p.Default = p.add(text, p.Created).ID
	s.mu.Lock()
	defer s.mu.Unlock()
	id, a := s.at(ctx, optFns)
	for _, other := range a.Policies {
		if other.Name == name {
			return nil, alreadyExists("A policy called %s already exists. Duplicate names are not allowed.", name)
		}
	}
	p.ARN = s.arn(id, "policy", path, name)
	p.ID = scope.UniqueID("ANPA", p.ARN)
	a.Policies[p.ARN] = p
	return &iam.CreatePolicyOutput{Policy: s.describePolicy(a, p)}, nil
}

// describePolicy returns the policy in the API's form. The caller holds s.mu.
func (s *Service) describePolicy(a *account, p *policy) *types.Policy {
	attached, boundaries := a.uses(p.ARN)
	return &types.Policy{
		Arn: aws.String(p.ARN), PolicyName: aws.String(p.Name), PolicyId: aws.String(p.ID), Path: aws.String(p.Path), Description: scope.Optional(p.Description),
		CreateDate: aws.Time(p.Created), UpdateDate: aws.Time(p.Updated), DefaultVersionId: aws.String(p.Default), IsAttachable: true,
		AttachmentCount: aws.Int32(int32(attached)), PermissionsBoundaryUsageCount: aws.Int32(int32(boundaries)), // small numbers
		Tags: tagList(p.Tags),
	}
}

// uses counts the roles with a policy attached, and those with it as their
// boundary.
func (a *account) uses(arn string) (attached, boundaries int) {
	for _, r := range a.Roles {
		if slices.Contains(r.Attached, arn) {
			attached++
		}
		if r.Boundary == arn {
			boundaries++
		}
	}
	return attached, boundaries
}

// GetPolicy returns a managed policy without its document.
func (s *Service) GetPolicy(ctx context.Context, in *iam.GetPolicyInput, optFns ...func(*iam.Options)) (*iam.GetPolicyOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, a := s.at(ctx, optFns)
	p, err := s.policyOf(id, in.PolicyArn)
	if err != nil {
		return nil, err
	}
	return &iam.GetPolicyOutput{Policy: s.describePolicy(a, p)}, nil
}

// ListPolicies lists managed policies by ARN: the account's own, AWS's, or both.
func (s *Service) ListPolicies(ctx context.Context, in *iam.ListPoliciesInput, optFns ...func(*iam.Options)) (*iam.ListPoliciesOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, a := s.at(ctx, optFns)
	var all []types.Policy
	for _, scoped := range []struct {
		scope    types.PolicyScopeType
		policies map[string]*policy
	}{{types.PolicyScopeTypeLocal, a.Policies}, {types.PolicyScopeTypeAws, s.aws}} {
		if in.Scope != "" && in.Scope != types.PolicyScopeTypeAll && in.Scope != scoped.scope {
			continue
		}
		for _, arn := range slices.Sorted(maps.Keys(scoped.policies)) {
			p := s.describePolicy(a, scoped.policies[arn])
			if strings.HasPrefix(*p.Path, aws.ToString(in.PathPrefix)) && (!in.OnlyAttached || *p.AttachmentCount > 0) {
				p.Tags = nil // lists leave them out
				all = append(all, *p)
			}
		}
	}
	page, truncated, next, err := list(all, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	return &iam.ListPoliciesOutput{Policies: page, IsTruncated: truncated, Marker: next}, nil
}

// DeletePolicy deletes an unused policy with a single version.
func (s *Service) DeletePolicy(ctx context.Context, in *iam.DeletePolicyInput, optFns ...func(*iam.Options)) (*iam.DeletePolicyOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, a := s.at(ctx, optFns)
	p, err := s.own(id, in.PolicyArn)
	if err != nil {
		return nil, err
	}
	attached, boundaries := a.uses(p.ARN)
	switch {
	case attached+boundaries > 0:
		return nil, deleteConflict("Cannot delete a policy attached to entities.")
	case len(p.Versions) > 1:
		return nil, deleteConflict("This policy has more than one version. Before you delete a policy, you must delete the policy's versions. The default version is deleted with the policy.")
	}
	delete(a.Policies, p.ARN)
	return &iam.DeletePolicyOutput{}, nil
}

// CreatePolicyVersion adds a version to a policy, which can have at most five.
func (s *Service) CreatePolicyVersion(ctx context.Context, in *iam.CreatePolicyVersionInput, optFns ...func(*iam.Options)) (*iam.CreatePolicyVersionOutput, error) {
	text, err := s.readManaged(in.PolicyDocument)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id, _ := s.at(ctx, optFns)
	p, err := s.own(id, in.PolicyArn)
	if err != nil {
		return nil, err
	}
	if len(p.Versions) == maxVersions {
		return nil, &types.LimitExceededException{Message: aws.String(fmt.Sprintf("A managed policy can have up to %d versions. Before you create a new version, you must delete an existing version.", maxVersions))}
	}
	v := p.add(text, s.now())
	if in.SetAsDefault {
		p.Default = v.ID
	}
	out := p.describeVersion(v)
	out.Document = nil
	return &iam.CreatePolicyVersionOutput{PolicyVersion: &out}, nil
}

func (p *policy) describeVersion(v policyVersion) types.PolicyVersion {
	return types.PolicyVersion{
		VersionId: aws.String(v.ID), CreateDate: aws.Time(v.Created), Document: encoded(v.Text.raw), IsDefaultVersion: v.ID == p.Default,
	}
}

// GetPolicyVersion returns a version of a policy with its document,
// percent-encoded like IAM.
func (s *Service) GetPolicyVersion(ctx context.Context, in *iam.GetPolicyVersionInput, optFns ...func(*iam.Options)) (*iam.GetPolicyVersionOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, _ := s.at(ctx, optFns)
	p, err := s.policyOf(id, in.PolicyArn)
	if err != nil {
		return nil, err
	}
	v, err := p.version(in.VersionId)
	if err != nil {
		return nil, err
	}
	described := p.describeVersion(v)
	return &iam.GetPolicyVersionOutput{PolicyVersion: &described}, nil
}

// ListPolicyVersions lists a policy's versions, the newest first.
func (s *Service) ListPolicyVersions(ctx context.Context, in *iam.ListPolicyVersionsInput, optFns ...func(*iam.Options)) (*iam.ListPolicyVersionsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, _ := s.at(ctx, optFns)
	p, err := s.policyOf(id, in.PolicyArn)
	if err != nil {
		return nil, err
	}
	var all []types.PolicyVersion
	for _, v := range slices.Backward(p.Versions) {
		described := p.describeVersion(v)
		described.Document = nil
		all = append(all, described)
	}
	page, truncated, next, err := list(all, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	return &iam.ListPolicyVersionsOutput{Versions: page, IsTruncated: truncated, Marker: next}, nil
}

// DeletePolicyVersion deletes a version other than the default one.
func (s *Service) DeletePolicyVersion(ctx context.Context, in *iam.DeletePolicyVersionInput, optFns ...func(*iam.Options)) (*iam.DeletePolicyVersionOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, _ := s.at(ctx, optFns)
	p, err := s.own(id, in.PolicyArn)
	if err != nil {
		return nil, err
	}
	v, err := p.version(in.VersionId)
	if err != nil {
		return nil, err
	}
	if v.ID == p.Default {
		return nil, deleteConflict("Cannot delete the default version of a policy.")
	}
	p.Versions = slices.DeleteFunc(p.Versions, func(have policyVersion) bool { return have.ID == v.ID })
	return &iam.DeletePolicyVersionOutput{}, nil
}

// SetDefaultPolicyVersion sets the version that is in effect.
func (s *Service) SetDefaultPolicyVersion(ctx context.Context, in *iam.SetDefaultPolicyVersionInput, optFns ...func(*iam.Options)) (*iam.SetDefaultPolicyVersionOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, _ := s.at(ctx, optFns)
	p, err := s.own(id, in.PolicyArn)
	if err != nil {
		return nil, err
	}
	v, err := p.version(in.VersionId)
	if err != nil {
		return nil, err
	}
	p.Default, p.Updated = v.ID, s.now()
	return &iam.SetDefaultPolicyVersionOutput{}, nil
}
