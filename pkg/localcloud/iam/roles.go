package iam

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// Limits of a role's sessions, in seconds
// (https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateRole.html).
const (
	shortestMaxSession = 3600
	longestMaxSession  = 43200
)

// role is one role.
type role struct {
	Name, Path, ARN, ID string
	Description         string
	Created             time.Time
	MaxSession          int32 // seconds
	Trust               policyText
	Inline              map[string]policyText // by name
	Attached            []string              // ARNs of managed policies, in the order of their attachment
	Boundary            string                // ARN of a managed policy, or empty
	OwnBoundary         *policyText           `json:",omitempty"` // of PutRole, instead of Boundary
	Tags                map[string]string

	used map[Permission]int
}

// roleNamed finds a role. The caller holds s.mu.
func (a *account) roleNamed(name *string) (*role, error) {
	r, ok := a.Roles[aws.ToString(name)]
	if !ok {
		return nil, noSuchEntity("The role with name %s cannot be found.", aws.ToString(name))
	}
	return r, nil
}

// change edits a role of the caller's account.
func (s *Service) change(ctx context.Context, optFns []func(*iam.Options), name *string, edit func(id string, a *account, r *role) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, a := s.at(ctx, optFns)
	r, err := a.roleNamed(name)
	if err != nil {
		return err
	}
	return edit(id, a, r)
}

// CreateRole makes a role. Errors: EntityAlreadyExists, MalformedPolicyDocument,
// NoSuchEntity for a boundary that does not exist, ValidationError.
func (s *Service) CreateRole(ctx context.Context, in *iam.CreateRoleInput, optFns ...func(*iam.Options)) (*iam.CreateRoleOutput, error) {
	name := aws.ToString(in.RoleName)
	if err := checkName("roleName", name, 64); err != nil {
		return nil, err
	}
	path, err := checkPath(in.Path)
	if err != nil {
		return nil, err
	}
	trust, err := readTrust(in.AssumeRolePolicyDocument)
	if err != nil {
		return nil, err
	}
	r := &role{
		Name: name, Path: path, Description: aws.ToString(in.Description), Created: s.now(), MaxSession: shortestMaxSession, Trust: trust,
		Inline: map[string]policyText{}, Tags: map[string]string{},
	}
	if err := r.setMaxSession(in.MaxSessionDuration); err != nil {
		return nil, err
	}
	if err := addTags(r.Tags, in.Tags); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id, a := s.at(ctx, optFns)
	if a.Roles[name] != nil {
		return nil, alreadyExists("Role with name %s already exists.", name)
	}
	r.ARN = s.arn(id, "role", path, name)
	r.ID = scope.UniqueID("AROA", r.ARN)
	if in.PermissionsBoundary != nil {
		if err := s.setBoundary(id, r, in.PermissionsBoundary); err != nil {
			return nil, err
		}
	}
	a.Roles[name] = r
	return &iam.CreateRoleOutput{Role: r.describe()}, nil
}

// readTrust parses a trust policy.
func readTrust(raw *string) (policyText, error) {
	text, err := read(raw, authz.ParseTrust)
	if err != nil {
		return policyText{}, err
	}
	for _, statement := range text.parsed.Statements {
		for _, action := range append(statement.Actions, statement.NotActions...) {
			if !strings.HasPrefix(strings.ToLower(action), "sts:") {
				return policyText{}, malformed("AssumeRole policy may only specify STS AssumeRole actions.")
			}
		}
	}
	return text, nil
}

func (r *role) setMaxSession(seconds *int32) error {
	if seconds == nil {
		return nil
	}
	if *seconds < shortestMaxSession || *seconds > longestMaxSession {
		return invalid("1 validation error detected: Value '%d' at 'maxSessionDuration' failed to satisfy constraint: it must be from %d to %d", *seconds, shortestMaxSession, longestMaxSession)
	}
	r.MaxSession = *seconds
	return nil
}

// describe returns the role in the API's form.
func (r *role) describe() *types.Role {
	out := &types.Role{
		Arn: aws.String(r.ARN), CreateDate: aws.Time(r.Created), Path: aws.String(r.Path), RoleId: aws.String(r.ID), RoleName: aws.String(r.Name),
		AssumeRolePolicyDocument: encoded(r.Trust.raw), Description: scope.Optional(r.Description), MaxSessionDuration: aws.Int32(r.MaxSession),
		Tags: tagList(r.Tags),
	}
	if r.Boundary != "" {
		out.PermissionsBoundary = &types.AttachedPermissionsBoundary{
			PermissionsBoundaryArn: aws.String(r.Boundary), PermissionsBoundaryType: types.PermissionsBoundaryAttachmentTypePolicy,
		}
	}
	return out
}

// GetRole returns a role, or NoSuchEntity.
func (s *Service) GetRole(ctx context.Context, in *iam.GetRoleInput, optFns ...func(*iam.Options)) (*iam.GetRoleOutput, error) {
	out := &iam.GetRoleOutput{}
	return out, s.change(ctx, optFns, in.RoleName, func(_ string, _ *account, r *role) error {
		out.Role = r.describe()
		return nil
	})
}

// ListRoles lists the account's roles, optionally below a path, by name.
func (s *Service) ListRoles(ctx context.Context, in *iam.ListRolesInput, optFns ...func(*iam.Options)) (*iam.ListRolesOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, a := s.at(ctx, optFns)
	var all []types.Role
	for _, name := range slices.Sorted(maps.Keys(a.Roles)) {
		if r := a.Roles[name]; strings.HasPrefix(r.Path, aws.ToString(in.PathPrefix)) {
			described := *r.describe()
			// Lists leave these out, as in IAM.
			described.Tags, described.PermissionsBoundary = nil, nil
			all = append(all, described)
		}
	}
	page, truncated, next, err := list(all, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	return &iam.ListRolesOutput{Roles: page, IsTruncated: truncated, Marker: next}, nil
}

// UpdateRole changes a role's description and the maximum length of its
// sessions.
func (s *Service) UpdateRole(ctx context.Context, in *iam.UpdateRoleInput, optFns ...func(*iam.Options)) (*iam.UpdateRoleOutput, error) {
	return &iam.UpdateRoleOutput{}, s.change(ctx, optFns, in.RoleName, func(_ string, _ *account, r *role) error {
		if err := r.setMaxSession(in.MaxSessionDuration); err != nil {
			return err
		}
		if in.Description != nil {
			r.Description = *in.Description
		}
		return nil
	})
}

// UpdateAssumeRolePolicy replaces a role's trust policy.
func (s *Service) UpdateAssumeRolePolicy(ctx context.Context, in *iam.UpdateAssumeRolePolicyInput, optFns ...func(*iam.Options)) (*iam.UpdateAssumeRolePolicyOutput, error) {
	trust, err := readTrust(in.PolicyDocument)
	if err != nil {
		return nil, err
	}
	return &iam.UpdateAssumeRolePolicyOutput{}, s.change(ctx, optFns, in.RoleName, func(_ string, _ *account, r *role) error {
		r.Trust = trust
		return nil
	})
}

// DeleteRole deletes a role without policies and instance profiles. For any
// other role it returns DeleteConflict.
func (s *Service) DeleteRole(ctx context.Context, in *iam.DeleteRoleInput, optFns ...func(*iam.Options)) (*iam.DeleteRoleOutput, error) {
	return &iam.DeleteRoleOutput{}, s.change(ctx, optFns, in.RoleName, func(_ string, a *account, r *role) error {
		switch {
		case len(a.profilesOf(r.Name)) > 0:
			return deleteConflict("Cannot delete entity, must remove roles from instance profile first.")
		case len(r.Attached) > 0:
			return deleteConflict("Cannot delete entity, must detach all policies first.")
		case len(r.Inline) > 0:
			return deleteConflict("Cannot delete entity, must delete policies first.")
		}
		delete(a.Roles, r.Name)
		return nil
	})
}

// TagRole adds tags to a role.
func (s *Service) TagRole(ctx context.Context, in *iam.TagRoleInput, optFns ...func(*iam.Options)) (*iam.TagRoleOutput, error) {
	return &iam.TagRoleOutput{}, s.change(ctx, optFns, in.RoleName, func(_ string, _ *account, r *role) error {
		return addTags(r.Tags, in.Tags)
	})
}

// UntagRole removes tags from a role.
func (s *Service) UntagRole(ctx context.Context, in *iam.UntagRoleInput, optFns ...func(*iam.Options)) (*iam.UntagRoleOutput, error) {
	return &iam.UntagRoleOutput{}, s.change(ctx, optFns, in.RoleName, func(_ string, _ *account, r *role) error {
		for _, key := range in.TagKeys {
			delete(r.Tags, key)
		}
		return nil
	})
}

// ListRoleTags lists a role's tags by key.
func (s *Service) ListRoleTags(ctx context.Context, in *iam.ListRoleTagsInput, optFns ...func(*iam.Options)) (*iam.ListRoleTagsOutput, error) {
	out := &iam.ListRoleTagsOutput{}
	return out, s.change(ctx, optFns, in.RoleName, func(_ string, _ *account, r *role) (err error) {
		out.Tags, out.IsTruncated, out.Marker, err = list(tagList(r.Tags), in.Marker, in.MaxItems)
		return err
	})
}

// find returns the role with an ARN, or nil. The caller holds s.mu.
func (s *Service) find(arn string) *role {
	a := s.accounts[authz.AccountOf(arn)]
	if a == nil {
		return nil
	}
	if r := a.Roles[arn[strings.LastIndex(arn, "/")+1:]]; r != nil && r.ARN == arn {
		return r
	}
	return nil
}

// Role is a role with its inline policies, for PutRole.
type Role struct {
	ARN string
	// Trust is the trust policy. If it is nil, the principals of the role's account
	// and all services can assume the role.
	Trust    json.RawMessage
	Policies map[string]json.RawMessage // inline policies, by name
	Attached []string                   // ARNs of managed policies
	Boundary json.RawMessage            // nil: none
}

// roleARN matches a role's ARN.
var roleARN = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$`)

// PutRole makes a role or replaces its policies, for callers in this process.
func (s *Service) PutRole(in Role) error {
	fail := func(what string, err error) error { return fmt.Errorf("role %s: %s: %w", in.ARN, what, err) }
	head, rest, ok := strings.Cut(in.ARN, ":role/")
	if !ok || !roleARN.MatchString(in.ARN) {
		return fmt.Errorf("%q is not the ARN of a role: arn:<partition>:iam::<account>:role/<name> is expected", in.ARN)
	}
	account := head[strings.LastIndex(head, ":")+1:]
	if in.Trust == nil {
		in.Trust = fmt.Appendf(nil, openTrust, account, partition.Principal("ec2", s.fallback.Region))
	}
	r := &role{Path: "/", Name: rest, ARN: in.ARN, ID: scope.UniqueID("AROA", in.ARN), Created: s.now(), MaxSession: longestMaxSession, Inline: map[string]policyText{}, Tags: map[string]string{}}
	if i := strings.LastIndex(rest, "/"); i >= 0 {
		r.Path, r.Name = "/"+rest[:i+1], rest[i+1:]
	}
	var err error
	if r.Trust, err = readTrust(aws.String(string(in.Trust))); err != nil {
		return fail("trust policy", err)
	}
	for _, name := range slices.Sorted(maps.Keys(in.Policies)) {
		if r.Inline[name], err = read(aws.String(string(in.Policies[name])), authz.Parse); err != nil {
			return fail("policy "+name, err)
		}
	}
	if in.Boundary != nil {
		boundary, err := read(aws.String(string(in.Boundary)), authz.Parse)
		if err != nil {
			return fail("permissions boundary", err)
		}
		r.OwnBoundary = &boundary
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, arn := range in.Attached {
		if _, ok := s.managed(account, arn); !ok {
			return fail("policy "+arn, errors.New("the policy does not exist"))
		}
	}
	r.Attached = slices.Clone(in.Attached)
	s.account(account).Roles[r.Name] = r
	return nil
}

// openTrust is the trust policy of PutRole's roles without one.
const openTrust = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"%s"},"Action":"sts:AssumeRole"},` +
	`{"Effect":"Allow","Principal":{"Service":[%q,"events.amazonaws.com","lambda.amazonaws.com","scheduler.amazonaws.com","states.amazonaws.com","cloudformation.amazonaws.com"]},"Action":"sts:AssumeRole"}]}`

// Role returns a role in the form of PutRole.
func (s *Service) Role(arn string) (Role, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	r := s.find(arn)
	if r == nil {
		return Role{}, false
	}
	out := Role{ARN: arn, Trust: []byte(r.Trust.raw), Attached: slices.Clone(r.Attached), Policies: map[string]json.RawMessage{}}
	for name, p := range r.Inline {
		out.Policies[name] = []byte(p.raw)
	}
	if r.OwnBoundary != nil {
		out.Boundary = []byte(r.OwnBoundary.raw)
	}
	return out, true
}
