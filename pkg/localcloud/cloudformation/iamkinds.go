package cloudformation

import (
	"context"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
)

type inlinePolicy struct {
	PolicyName     string
	PolicyDocument document
}

type roleProperties struct {
	RoleName                 string
	Path                     string
	Description              string
	AssumeRolePolicyDocument document
	ManagedPolicyArns        []string
	Policies                 []inlinePolicy
	PermissionsBoundary      string
	MaxSessionDuration       *int32
	Tags                     []tag
}

type policyProperties struct {
	PolicyName     string
	PolicyDocument document
	Roles          []string
}

type managedPolicyProperties struct {
	ManagedPolicyName string
	Path              string
	Description       string
	PolicyDocument    document
	Roles             []string
}

type profileProperties struct {
	InstanceProfileName string
	Path                string
	Roles               []string
}

func iamKinds(api IAM) map[string]kind {
	p := iamProvider{api}
	return map[string]kind{
		"AWS::IAM::Role": of(changer[roleProperties]{
			create: p.createRole, update: p.updateRole, remove: p.deleteRole, replace: []string{"RoleName", "Path"},
		}),
		"AWS::IAM::Policy": of(changer[policyProperties]{
			create: p.createPolicy, update: p.updatePolicy, remove: p.deletePolicy, replace: []string{"PolicyName"},
		}),
		"AWS::IAM::ManagedPolicy": of(changer[managedPolicyProperties]{
			create: p.createManaged, update: p.updateManaged, remove: p.deleteManaged, replace: []string{"ManagedPolicyName", "Path", "Description"},
		}),
		"AWS::IAM::InstanceProfile": of(changer[profileProperties]{
			create: p.createProfile, update: p.updateProfile, remove: p.deleteProfile, replace: []string{"InstanceProfileName", "Path"},
		}),
	}
}

type iamProvider struct{ api IAM }

func iamTags(tags map[string]string) []types.Tag {
	var out []types.Tag
	for _, key := range sortedKeys(tags) {
		out = append(out, types.Tag{Key: aws.String(key), Value: aws.String(tags[key])})
	}
	return out
}

func (i iamProvider) createRole(ctx context.Context, t *target, p roleProperties) error {
	name := p.RoleName
	if name == "" {
		name = t.physicalName(64)
	}
	out, err := i.api.CreateRole(ctx, &iam.CreateRoleInput{
		RoleName: aws.String(name), Path: scope.Optional(p.Path), Description: scope.Optional(p.Description),
		AssumeRolePolicyDocument: aws.String(string(p.AssumeRolePolicyDocument)), MaxSessionDuration: p.MaxSessionDuration,
		PermissionsBoundary: scope.Optional(p.PermissionsBoundary), Tags: iamTags(t.tags(p.Tags)),
	})
	if err != nil {
		return err
	}
	t.PhysicalID = name
	t.set("Arn", aws.ToString(out.Role.Arn))
	t.set("RoleId", aws.ToString(out.Role.RoleId))
	return i.setPolicies(ctx, name, roleProperties{}, p)
}

// setPolicies sets the policies of a role to those of p.
func (i iamProvider) setPolicies(ctx context.Context, name string, old, p roleProperties) error {
	for _, policy := range p.Policies {
		if slices.Contains(old.Policies, policy) {
			continue
		}
		if _, err := i.api.PutRolePolicy(ctx, &iam.PutRolePolicyInput{
			RoleName: aws.String(name), PolicyName: aws.String(policy.PolicyName), PolicyDocument: aws.String(string(policy.PolicyDocument)),
		}); err != nil {
			return err
		}
	}
	for _, policy := range old.Policies {
		if slices.ContainsFunc(p.Policies, func(o inlinePolicy) bool { return o.PolicyName == policy.PolicyName }) {
			continue
		}
		if _, err := i.api.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: aws.String(name), PolicyName: aws.String(policy.PolicyName)}); err != nil {
			return err
		}
	}
	return i.setAttached(ctx, name, old.ManagedPolicyArns, p.ManagedPolicyArns)
}

func (i iamProvider) setAttached(ctx context.Context, name string, before, after []string) error {
	for _, arn := range after {
		if !slices.Contains(before, arn) {
			if _, err := i.api.AttachRolePolicy(ctx, &iam.AttachRolePolicyInput{RoleName: aws.String(name), PolicyArn: aws.String(arn)}); err != nil {
				return err
			}
		}
	}
	for _, arn := range before {
		if !slices.Contains(after, arn) {
			if _, err := i.api.DetachRolePolicy(ctx, &iam.DetachRolePolicyInput{RoleName: aws.String(name), PolicyArn: aws.String(arn)}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (i iamProvider) updateRole(ctx context.Context, t *target, old, p roleProperties) error {
	name := aws.String(t.PhysicalID)
	if old.Description != p.Description || aws.ToInt32(old.MaxSessionDuration) != aws.ToInt32(p.MaxSessionDuration) {
		if _, err := i.api.UpdateRole(ctx, &iam.UpdateRoleInput{RoleName: name, Description: aws.String(p.Description), MaxSessionDuration: p.MaxSessionDuration}); err != nil {
			return err
		}
	}
	if old.AssumeRolePolicyDocument != p.AssumeRolePolicyDocument {
		if _, err := i.api.UpdateAssumeRolePolicy(ctx, &iam.UpdateAssumeRolePolicyInput{RoleName: name, PolicyDocument: aws.String(string(p.AssumeRolePolicyDocument))}); err != nil {
			return err
		}
	}
	if err := i.setBoundary(ctx, name, old.PermissionsBoundary, p.PermissionsBoundary); err != nil {
		return err
	}
	if err := i.setTags(ctx, name, t.tags(old.Tags), t.tags(p.Tags)); err != nil {
		return err
	}
	return i.setPolicies(ctx, t.PhysicalID, old, p)
}

func (i iamProvider) setBoundary(ctx context.Context, name *string, before, after string) error {
	switch {
	case before == after:
		return nil
	case after == "":
		_, err := i.api.DeleteRolePermissionsBoundary(ctx, &iam.DeleteRolePermissionsBoundaryInput{RoleName: name})
		return err
	}
	_, err := i.api.PutRolePermissionsBoundary(ctx, &iam.PutRolePermissionsBoundaryInput{RoleName: name, PermissionsBoundary: aws.String(after)})
	return err
}

func (i iamProvider) setTags(ctx context.Context, name *string, before, after map[string]string) error {
	if gone := without(before, after); len(gone) > 0 {
		if _, err := i.api.UntagRole(ctx, &iam.UntagRoleInput{RoleName: name, TagKeys: gone}); err != nil {
			return err
		}
	}
	if len(after) == 0 {
		return nil
	}
	_, err := i.api.TagRole(ctx, &iam.TagRoleInput{RoleName: name, Tags: iamTags(after)})
	return err
}

func (i iamProvider) deleteRole(ctx context.Context, t *target, p roleProperties) error {
	bare := p
	bare.Policies, bare.ManagedPolicyArns = nil, nil
	if err := i.setPolicies(ctx, t.PhysicalID, p, bare); err != nil && !isMissing(err) {
		return err
	}
	_, err := i.api.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: aws.String(t.PhysicalID)})
	return ignoreMissing(err)
}

// createPolicy adds an inline policy to roles. Ref is a generated name without a
// use.
func (i iamProvider) createPolicy(ctx context.Context, t *target, p policyProperties) error {
	if len(p.Roles) == 0 {
		return invalid("At least one of [Groups,Roles,Users] must be non-empty: the embedded AWS has roles")
	}
	t.PhysicalID = t.physicalName(128)
	return i.put(ctx, p, p.Roles)
}

func (i iamProvider) put(ctx context.Context, p policyProperties, roles []string) error {
	for _, role := range roles {
		if _, err := i.api.PutRolePolicy(ctx, &iam.PutRolePolicyInput{
			RoleName: aws.String(role), PolicyName: aws.String(p.PolicyName), PolicyDocument: aws.String(string(p.PolicyDocument)),
		}); err != nil {
			return err
		}
	}
	return nil
}

func (i iamProvider) take(ctx context.Context, name string, roles []string) error {
	for _, role := range roles {
		_, err := i.api.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: aws.String(role), PolicyName: aws.String(name)})
		if err := ignoreMissing(err); err != nil {
			return err
		}
	}
	return nil
}

func (i iamProvider) updatePolicy(ctx context.Context, _ *target, old, p policyProperties) error {
	if err := i.put(ctx, p, p.Roles); err != nil {
		return err
	}
	return i.take(ctx, p.PolicyName, slices.DeleteFunc(slices.Clone(old.Roles), func(role string) bool { return slices.Contains(p.Roles, role) }))
}

func (i iamProvider) deletePolicy(ctx context.Context, _ *target, p policyProperties) error {
	return i.take(ctx, p.PolicyName, p.Roles)
}

func (i iamProvider) createManaged(ctx context.Context, t *target, p managedPolicyProperties) error {
	name := p.ManagedPolicyName
	if name == "" {
		name = t.physicalName(128)
	}
	out, err := i.api.CreatePolicy(ctx, &iam.CreatePolicyInput{
		PolicyName: aws.String(name), Path: scope.Optional(p.Path), Description: scope.Optional(p.Description), PolicyDocument: aws.String(string(p.PolicyDocument)),
		Tags: iamTags(t.tags(nil)),
	})
	if err != nil {
		return err
	}
	t.PhysicalID = aws.ToString(out.Policy.Arn)
	t.set("PolicyArn", t.PhysicalID)
	t.set("PolicyId", aws.ToString(out.Policy.PolicyId))
	return i.attach(ctx, t.PhysicalID, p.Roles)
}

func (i iamProvider) attach(ctx context.Context, arn string, roles []string) error {
	for _, role := range roles {
		if _, err := i.api.AttachRolePolicy(ctx, &iam.AttachRolePolicyInput{RoleName: aws.String(role), PolicyArn: aws.String(arn)}); err != nil {
			return err
		}
	}
	return nil
}

func (i iamProvider) detach(ctx context.Context, arn string, roles []string) error {
	for _, role := range roles {
		_, err := i.api.DetachRolePolicy(ctx, &iam.DetachRolePolicyInput{RoleName: aws.String(role), PolicyArn: aws.String(arn)})
		if err := ignoreMissing(err); err != nil {
			return err
		}
	}
	return nil
}

// updateManaged makes a new version of the policy and removes the earlier ones,
// because a policy has at most five.
func (i iamProvider) updateManaged(ctx context.Context, t *target, old, p managedPolicyProperties) error {
	arn := aws.String(t.PhysicalID)
	if old.PolicyDocument != p.PolicyDocument {
		if err := i.pruneVersions(ctx, arn); err != nil {
			return err
		}
		if _, err := i.api.CreatePolicyVersion(ctx, &iam.CreatePolicyVersionInput{PolicyArn: arn, PolicyDocument: aws.String(string(p.PolicyDocument)), SetAsDefault: true}); err != nil {
			return err
		}
	}
	added := slices.DeleteFunc(slices.Clone(p.Roles), func(role string) bool { return slices.Contains(old.Roles, role) })
	removed := slices.DeleteFunc(slices.Clone(old.Roles), func(role string) bool { return slices.Contains(p.Roles, role) })
	if err := i.attach(ctx, t.PhysicalID, added); err != nil {
		return err
	}
	return i.detach(ctx, t.PhysicalID, removed)
}

func (i iamProvider) pruneVersions(ctx context.Context, arn *string) error {
	versions, err := i.api.ListPolicyVersions(ctx, &iam.ListPolicyVersionsInput{PolicyArn: arn})
	if err != nil {
		return err
	}
	for _, v := range versions.Versions {
		if v.IsDefaultVersion {
			continue
		}
		if _, err := i.api.DeletePolicyVersion(ctx, &iam.DeletePolicyVersionInput{PolicyArn: arn, VersionId: v.VersionId}); err != nil {
			return err
		}
	}
	return nil
}

func (i iamProvider) deleteManaged(ctx context.Context, t *target, p managedPolicyProperties) error {
	arn := aws.String(t.PhysicalID)
	if err := i.detach(ctx, t.PhysicalID, p.Roles); err != nil {
		return err
	}
	if err := i.pruneVersions(ctx, arn); err != nil {
		return ignoreMissing(err)
	}
	_, err := i.api.DeletePolicy(ctx, &iam.DeletePolicyInput{PolicyArn: arn})
	return ignoreMissing(err)
}

func (i iamProvider) createProfile(ctx context.Context, t *target, p profileProperties) error {
	name := p.InstanceProfileName
	if name == "" {
		name = t.physicalName(128)
	}
	out, err := i.api.CreateInstanceProfile(ctx, &iam.CreateInstanceProfileInput{InstanceProfileName: aws.String(name), Path: scope.Optional(p.Path)})
	if err != nil {
		return err
	}
	t.PhysicalID = name
	t.set("Arn", aws.ToString(out.InstanceProfile.Arn))
	return i.addRoles(ctx, name, p.Roles)
}

func (i iamProvider) addRoles(ctx context.Context, name string, roles []string) error {
	for _, role := range roles {
		if _, err := i.api.AddRoleToInstanceProfile(ctx, &iam.AddRoleToInstanceProfileInput{InstanceProfileName: aws.String(name), RoleName: aws.String(role)}); err != nil {
			return err
		}
	}
	return nil
}

func (i iamProvider) removeRoles(ctx context.Context, name string, roles []string) error {
	for _, role := range roles {
		_, err := i.api.RemoveRoleFromInstanceProfile(ctx, &iam.RemoveRoleFromInstanceProfileInput{InstanceProfileName: aws.String(name), RoleName: aws.String(role)})
		if err := ignoreMissing(err); err != nil {
			return err
		}
	}
	return nil
}

func (i iamProvider) updateProfile(ctx context.Context, t *target, old, p profileProperties) error {
	if err := i.removeRoles(ctx, t.PhysicalID, old.Roles); err != nil {
		return err
	}
	return i.addRoles(ctx, t.PhysicalID, p.Roles)
}

func (i iamProvider) deleteProfile(ctx context.Context, t *target, p profileProperties) error {
	if err := i.removeRoles(ctx, t.PhysicalID, p.Roles); err != nil {
		return err
	}
	_, err := i.api.DeleteInstanceProfile(ctx, &iam.DeleteInstanceProfileInput{InstanceProfileName: aws.String(t.PhysicalID)})
	return ignoreMissing(err)
}
