// Package iam keeps the roles, policies and instance profiles of the embedded AWS.
package iam

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/persist"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// pageSize is the default number of items in a list.
const pageSize = 100

// Service implements IAM. An account has the same state in all regions. It is
// safe for concurrent use.
type Service struct {
	clock    clock.Clock
	fallback wire.Caller
	// partition is the partition of the default caller's region; all accounts are
	// in it.
	partition partition.Partition
	aws       map[string]*policy // AWS's own, by ARN

	mu       sync.RWMutex
	accounts map[string]*account
}

// account is the state of one account.
type account struct {
	Roles    map[string]*role    // by name
	Policies map[string]*policy  // customer managed policies, by ARN
	Profiles map[string]*profile // by name
}

// New returns a Service whose default caller is fallback.
func New(c clock.Clock, fallback wire.Caller) *Service {
	of := partition.OrDefault(fallback.Region)
	return &Service{clock: c, fallback: fallback, partition: of, aws: awsManaged(of), accounts: map[string]*account{}}
}

func (s *Service) caller(ctx context.Context, optFns []func(*iam.Options)) wire.Caller {
	return scope.CallerIn(ctx, s.fallback, optFns, func(o *iam.Options) *string { return &o.Region })
}

// at returns the account of a call. The caller holds s.mu for writing.
func (s *Service) at(ctx context.Context, optFns []func(*iam.Options)) (id string, a *account) {
	id = s.caller(ctx, optFns).Account
	return id, s.account(id)
}

func (s *Service) account(id string) *account {
	if s.accounts[id] == nil {
		s.accounts[id] = &account{Roles: map[string]*role{}, Policies: map[string]*policy{}, Profiles: map[string]*profile{}}
	}
	return s.accounts[id]
}

// policyText is a document in its original form, and parsed.
type policyText struct {
	raw    string
	parsed authz.Document
}

// MarshalText implements encoding.TextMarshaler.
func (p policyText) MarshalText() ([]byte, error) { return []byte(p.raw), nil }

// UnmarshalText implements encoding.TextUnmarshaler. The required elements of
// statements were checked when the document was stored.
func (p *policyText) UnmarshalText(raw []byte) error {
	parsed, err := authz.Parse(raw)
	if err != nil {
		parsed, err = authz.ParseTrust(raw)
	}
	if err != nil {
		return err
	}
	*p = policyText{raw: string(raw), parsed: parsed}
	return nil
}

// read parses a document. Error: MalformedPolicyDocument.
func read(raw *string, parse func([]byte) (authz.Document, error)) (policyText, error) {
	text := aws.ToString(raw)
	parsed, err := parse([]byte(text))
	if err != nil {
		return policyText{}, malformed("%v", err)
	}
	return policyText{raw: text, parsed: parsed}, nil
}

func malformed(format string, args ...any) error {
	return &types.MalformedPolicyDocumentException{Message: aws.String(fmt.Sprintf(format, args...))}
}

func noSuchEntity(format string, args ...any) error {
	return &types.NoSuchEntityException{Message: aws.String(fmt.Sprintf(format, args...))}
}

func alreadyExists(format string, args ...any) error {
	return &types.EntityAlreadyExistsException{Message: aws.String(fmt.Sprintf(format, args...))}
}

func deleteConflict(format string, args ...any) error {
	return &types.DeleteConflictException{Message: aws.String(fmt.Sprintf(format, args...))}
}

func invalid(format string, args ...any) error {
	return wire.Errorf("ValidationError", format, args...)
}

// encoded returns a document percent-encoded, as in IAM's answers
// (https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetRolePolicy.html).
func encoded(text string) *string {
	return aws.String(strings.ReplaceAll(url.QueryEscape(text), "+", "%20"))
}

var (
	entityName = regexp.MustCompile(`^[\w+=,.@-]+$`)
	entityPath = regexp.MustCompile(`^/([\x21-\x7e]+/)?$`)
)

// checkName checks a name; what is the parameter's name for error messages.
func checkName(what, name string, longest int) error {
	if !entityName.MatchString(name) {
		return invalid("The specified value for %s is invalid. It must contain only alphanumeric characters and/or the following: +=,.@_-", what)
	}
	if len(name) > longest {
		return invalid("1 validation error detected: Value '%s' at '%s' failed to satisfy constraint: Member must have length less than or equal to %d", name, what, longest)
	}
	return nil
}

// checkPath checks a path, and returns / for a missing one.
func checkPath(path *string) (string, error) {
	if path == nil {
		return "/", nil
	}
	if !entityPath.MatchString(*path) || len(*path) > 512 {
		return "", invalid("The specified value for path is invalid. It must begin and end with / and contain only alphanumeric characters and/or / characters.")
	}
	return *path, nil
}

func arnOf(of partition.Partition, account, kind, path, name string) string {
	return of.ARN("iam", "", account, kind+path+name)
}

func (s *Service) arn(account, kind, path, name string) string {
	return arnOf(s.partition, account, kind, path, name)
}

// list returns one page of all.
func list[T any](all []T, token *string, limit *int32) (page []T, truncated bool, next *string, err error) {
	size := pageSize
	if limit != nil {
		size = int(*limit)
	}
	page, more, err := scope.Page(all, aws.ToString(token), size)
	if err != nil {
		return nil, false, nil, invalid("The marker is not valid.")
	}
	if page == nil {
		page = []T{}
	}
	return page, more != "", scope.Optional(more), nil
}

// maxTags is the maximum number of an entity's tags.
const maxTags = 50

// addTags adds tags to existing ones.
func addTags(to map[string]string, tags []types.Tag) error {
	for _, t := range tags {
		key := aws.ToString(t.Key)
		if key == "" || strings.HasPrefix(strings.ToLower(key), "aws:") {
			return &types.InvalidInputException{Message: aws.String(fmt.Sprintf("The tag key %q is not allowed.", key))}
		}
		to[key] = aws.ToString(t.Value)
	}
	if len(to) > maxTags {
		return &types.LimitExceededException{Message: aws.String(fmt.Sprintf("The number of tags has reached the maximum limit of %d.", maxTags))}
	}
	return nil
}

func tagList(tags map[string]string) []types.Tag {
	var out []types.Tag
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		out = append(out, types.Tag{Key: aws.String(key), Value: aws.String(tags[key])})
	}
	return out
}

func (s *Service) now() time.Time { return s.clock.Now().UTC().Truncate(time.Second) }

// Wire describes the service to the HTTP front end.
func (s *Service) Wire() wire.Service {
	return wire.Service{
		ID: "iam", Name: "IAM", Protocol: wire.AWSQuery, Version: "2010-05-08",
		Operations: map[string]wire.Operation{
			"AddRoleToInstanceProfile":      wire.Op(s.AddRoleToInstanceProfile),
			"AttachRolePolicy":              wire.Op(s.AttachRolePolicy),
			"CreateInstanceProfile":         wire.Op(s.CreateInstanceProfile),
			"CreatePolicy":                  wire.Op(s.CreatePolicy),
			"CreatePolicyVersion":           wire.Op(s.CreatePolicyVersion),
			"CreateRole":                    wire.Op(s.CreateRole),
			"DeleteInstanceProfile":         wire.Op(s.DeleteInstanceProfile),
			"DeletePolicy":                  wire.Op(s.DeletePolicy),
			"DeletePolicyVersion":           wire.Op(s.DeletePolicyVersion),
			"DeleteRole":                    wire.Op(s.DeleteRole),
			"DeleteRolePermissionsBoundary": wire.Op(s.DeleteRolePermissionsBoundary),
			"DeleteRolePolicy":              wire.Op(s.DeleteRolePolicy),
			"DetachRolePolicy":              wire.Op(s.DetachRolePolicy),
			"GetInstanceProfile":            wire.Op(s.GetInstanceProfile),
			"GetPolicy":                     wire.Op(s.GetPolicy),
			"GetPolicyVersion":              wire.Op(s.GetPolicyVersion),
			"GetRole":                       wire.Op(s.GetRole),
			"GetRolePolicy":                 wire.Op(s.GetRolePolicy),
			"ListAttachedRolePolicies":      wire.Op(s.ListAttachedRolePolicies),
			"ListInstanceProfiles":          wire.Op(s.ListInstanceProfiles),
			"ListInstanceProfilesForRole":   wire.Op(s.ListInstanceProfilesForRole),
			"ListPolicies":                  wire.Op(s.ListPolicies),
			"ListPolicyVersions":            wire.Op(s.ListPolicyVersions),
			"ListRolePolicies":              wire.Op(s.ListRolePolicies),
			"ListRoleTags":                  wire.Op(s.ListRoleTags),
			"ListRoles":                     wire.Op(s.ListRoles),
			"PutRolePermissionsBoundary":    wire.Op(s.PutRolePermissionsBoundary),
			"PutRolePolicy":                 wire.Op(s.PutRolePolicy),
			"RemoveRoleFromInstanceProfile": wire.Op(s.RemoveRoleFromInstanceProfile),
			"SetDefaultPolicyVersion":       wire.Op(s.SetDefaultPolicyVersion),
			"SimulatePrincipalPolicy":       wire.Op(s.SimulatePrincipalPolicy),
			"TagRole":                       wire.Op(s.TagRole),
			"UntagRole":                     wire.Op(s.UntagRole),
			"UpdateAssumeRolePolicy":        wire.Op(s.UpdateAssumeRolePolicy),
			"UpdateRole":                    wire.Op(s.UpdateRole),
		},
	}
}

// Snapshot implements wire.Stateful.
func (s *Service) Snapshot() (json.RawMessage, error) {
	return persist.Snapshot(s.mu.RLocker(), &s.accounts)
}

// Restore implements wire.Stateful.
func (s *Service) Restore(raw json.RawMessage) error {
	accounts := map[string]*account{}
	// States of old versions are a list of roles without trust policies. They can
	// be dropped, because every start puts these roles again.
	if !bytes.HasPrefix(bytes.TrimSpace(raw), []byte("[")) {
		if err := json.Unmarshal(raw, &accounts); err != nil {
			return fmt.Errorf("restoring IAM: %w", err)
		}
	}
	for id, a := range accounts {
		if a == nil || a.Roles == nil || a.Policies == nil || a.Profiles == nil {
			return fmt.Errorf("restoring IAM: account %s: %w", id, errors.New("its roles, policies or instance profiles are missing"))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accounts = accounts
	return nil
}
