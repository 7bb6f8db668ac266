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
)

// profile is one instance profile.
type profile struct {
	Name, Path, ARN, ID string
	Created             time.Time
	Role                string // name, or empty
	Tags                map[string]string
}

func (a *account) profileNamed(name *string) (*profile, error) {
	p, ok := a.Profiles[aws.ToString(name)]
	if !ok {
		return nil, noSuchEntity("Instance Profile %s cannot be found.", aws.ToString(name))
	}
	return p, nil
}

// profilesOf returns the instance profiles with a role, by name.
func (a *account) profilesOf(role string) []*profile {
	var out []*profile
	for _, name := range slices.Sorted(maps.Keys(a.Profiles)) {
		if a.Profiles[name].Role == role {
			out = append(out, a.Profiles[name])
		}
	}
	return out
}

func (a *account) describeProfile(p *profile) *types.InstanceProfile {
	out := &types.InstanceProfile{
		Arn: aws.String(p.ARN), InstanceProfileId: aws.String(p.ID), InstanceProfileName: aws.String(p.Name), Path: aws.String(p.Path),
		CreateDate: aws.Time(p.Created), Roles: []types.Role{}, Tags: tagList(p.Tags),
	}
	if r := a.Roles[p.Role]; r != nil {
		out.Roles = append(out.Roles, *r.describe())
	}
	return out
}

// CreateInstanceProfile makes an instance profile without a role.
func (s *Service) CreateInstanceProfile(ctx context.Context, in *iam.CreateInstanceProfileInput, optFns ...func(*iam.Options)) (*iam.CreateInstanceProfileOutput, error) {
	name := aws.ToString(in.InstanceProfileName)
	if err := checkName("instanceProfileName", name, 128); err != nil {
		return nil, err
	}
	path, err := checkPath(in.Path)
	if err != nil {
		return nil, err
	}
	p := &profile{Name: name, Path: path, Created: s.now(), Tags: map[string]string{}}
	if err := addTags(p.Tags, in.Tags); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id, a := s.at(ctx, optFns)
	if a.Profiles[name] != nil {
		return nil, alreadyExists("Instance Profile %s already exists.", name)
	}
	p.ARN = s.arn(id, "instance-profile", path, name)
	p.ID = scope.UniqueID("AIPA", p.ARN)
	a.Profiles[name] = p
	return &iam.CreateInstanceProfileOutput{InstanceProfile: a.describeProfile(p)}, nil
}

// GetInstanceProfile returns an instance profile with its role.
func (s *Service) GetInstanceProfile(ctx context.Context, in *iam.GetInstanceProfileInput, optFns ...func(*iam.Options)) (*iam.GetInstanceProfileOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, a := s.at(ctx, optFns)
	p, err := a.profileNamed(in.InstanceProfileName)
	if err != nil {
		return nil, err
	}
	return &iam.GetInstanceProfileOutput{InstanceProfile: a.describeProfile(p)}, nil
}

// DeleteInstanceProfile deletes an instance profile without a role.
func (s *Service) DeleteInstanceProfile(ctx context.Context, in *iam.DeleteInstanceProfileInput, optFns ...func(*iam.Options)) (*iam.DeleteInstanceProfileOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, a := s.at(ctx, optFns)
	p, err := a.profileNamed(in.InstanceProfileName)
	if err != nil {
		return nil, err
	}
	if p.Role != "" {
		return nil, deleteConflict("Cannot delete entity, must remove roles from instance profile first.")
	}
	delete(a.Profiles, p.Name)
	return &iam.DeleteInstanceProfileOutput{}, nil
}

// AddRoleToInstanceProfile sets the only role of an instance profile.
func (s *Service) AddRoleToInstanceProfile(ctx context.Context, in *iam.AddRoleToInstanceProfileInput, optFns ...func(*iam.Options)) (*iam.AddRoleToInstanceProfileOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, a := s.at(ctx, optFns)
	p, err := a.profileNamed(in.InstanceProfileName)
	if err != nil {
		return nil, err
	}
	r, err := a.roleNamed(in.RoleName)
	if err != nil {
		return nil, err
	}
	if p.Role != "" {
		return nil, &types.LimitExceededException{Message: aws.String("Cannot exceed quota for InstanceSessionsPerInstanceProfile: 1")}
	}
	p.Role = r.Name
	return &iam.AddRoleToInstanceProfileOutput{}, nil
}

// RemoveRoleFromInstanceProfile removes the role from an instance profile.
func (s *Service) RemoveRoleFromInstanceProfile(ctx context.Context, in *iam.RemoveRoleFromInstanceProfileInput, optFns ...func(*iam.Options)) (*iam.RemoveRoleFromInstanceProfileOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, a := s.at(ctx, optFns)
	p, err := a.profileNamed(in.InstanceProfileName)
	if err != nil {
		return nil, err
	}
	if name := aws.ToString(in.RoleName); p.Role == "" || p.Role != name {
		return nil, noSuchEntity("The role with name %s cannot be found in instance profile %s.", name, p.Name)
	}
	p.Role = ""
	return &iam.RemoveRoleFromInstanceProfileOutput{}, nil
}

// ListInstanceProfiles lists the account's instance profiles below a path, by name.
func (s *Service) ListInstanceProfiles(ctx context.Context, in *iam.ListInstanceProfilesInput, optFns ...func(*iam.Options)) (*iam.ListInstanceProfilesOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, a := s.at(ctx, optFns)
	var all []types.InstanceProfile
	for _, name := range slices.Sorted(maps.Keys(a.Profiles)) {
		if p := a.Profiles[name]; strings.HasPrefix(p.Path, aws.ToString(in.PathPrefix)) {
			all = append(all, *a.describeProfile(p))
		}
	}
	out := &iam.ListInstanceProfilesOutput{}
	var err error
	out.InstanceProfiles, out.IsTruncated, out.Marker, err = list(all, in.Marker, in.MaxItems)
	return out, err
}

// ListInstanceProfilesForRole lists the instance profiles with a role.
func (s *Service) ListInstanceProfilesForRole(ctx context.Context, in *iam.ListInstanceProfilesForRoleInput, optFns ...func(*iam.Options)) (*iam.ListInstanceProfilesForRoleOutput, error) {
	out := &iam.ListInstanceProfilesForRoleOutput{}
	return out, s.change(ctx, optFns, in.RoleName, func(_ string, a *account, r *role) (err error) {
		var all []types.InstanceProfile
		for _, p := range a.profilesOf(r.Name) {
			all = append(all, *a.describeProfile(p))
		}
		out.InstanceProfiles, out.IsTruncated, out.Marker, err = list(all, in.Marker, in.MaxItems)
		return err
	})
}

// Profile is an instance profile in the form that EC2 needs.
type Profile struct {
	ARN, ID string
	Role    string // name
}

// RoleARN returns the ARN of an account's role with a name. If the role does not
// exist, it returns the ARN that it would have without a path.
func (s *Service) RoleARN(account, name string) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if a := s.accounts[account]; a != nil && a.Roles[name] != nil {
		return a.Roles[name].ARN
	}
	return s.arn(account, "role", "/", name)
}

// Trust returns the trust policy of a role, and the maximum length of its
// sessions in seconds. ok is false if the role does not exist.
func (s *Service) Trust(roleARN string) (trust authz.ResourcePolicy, longest int32, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	r := s.find(roleARN)
	if r == nil {
		return authz.ResourcePolicy{}, 0, false
	}
	return authz.ResourcePolicy{Document: r.Trust.parsed, Owner: authz.AccountOf(roleARN), MustDelegate: true}, r.MaxSession, true
}

// Profile finds an instance profile by its name or ARN. It is an error if the
// profile does not exist or has no role.
func (s *Service) Profile(account, ref string) (Profile, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if a := s.accounts[account]; a != nil {
		for _, p := range a.Profiles {
			switch {
			case p.Name != ref && p.ARN != ref:
			case p.Role == "":
				return Profile{}, fmt.Errorf("the instance profile %s has no role", p.ARN)
			default:
				return Profile{ARN: p.ARN, ID: p.ID, Role: p.Role}, nil
			}
		}
	}
	if strings.HasPrefix(ref, "arn:") {
		return Profile{}, fmt.Errorf("%s does not exist in account %s", ref, account)
	}
	return Profile{}, fmt.Errorf("the instance profile does not exist in account %s", account)
}
