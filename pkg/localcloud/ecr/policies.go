package ecr

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
)

// SetRepositoryPolicy sets the policy of a repository.
func (s *Service) SetRepositoryPolicy(ctx context.Context, in *ecr.SetRepositoryPolicyInput, optFns ...func(*ecr.Options)) (*ecr.SetRepositoryPolicyOutput, error) {
	text := aws.ToString(in.PolicyText)
	if _, err := repositoryPolicy(text, ""); err != nil || text == "" || len(text) > maxPolicy {
		return nil, invalid("PolicyText", "Invalid repository policy provided%s", because(err))
	}
	out := &ecr.SetRepositoryPolicyOutput{}
	return out, s.change(s.caller(ctx, optFns), in.RegistryId, in.RepositoryName, func(k scope.Key, r *repository) error {
		r.Policy = text
		out.PolicyText, out.RegistryId, out.RepositoryName = &text, aws.String(k.Account), aws.String(r.Name)
		return nil
	})
}

func because(err error) string {
	if err == nil {
		return ""
	}
	return ": " + err.Error()
}

// GetRepositoryPolicy returns the policy of a repository.
func (s *Service) GetRepositoryPolicy(ctx context.Context, in *ecr.GetRepositoryPolicyInput, optFns ...func(*ecr.Options)) (*ecr.GetRepositoryPolicyOutput, error) {
	out := &ecr.GetRepositoryPolicyOutput{}
	return out, s.change(s.caller(ctx, optFns), in.RegistryId, in.RepositoryName, func(k scope.Key, r *repository) error {
		out.PolicyText, out.RegistryId, out.RepositoryName = aws.String(r.Policy), aws.String(k.Account), aws.String(r.Name)
		return withoutPolicy(k, r)
	})
}

func withoutPolicy(k scope.Key, r *repository) error {
	if r.Policy != "" {
		return nil
	}
	return &types.RepositoryPolicyNotFoundException{Message: aws.String(fmt.Sprintf("Repository policy does not exist for the repository with name '%s' in the registry with id '%s'", r.Name, k.Account))}
}

// DeleteRepositoryPolicy removes the policy of a repository.
func (s *Service) DeleteRepositoryPolicy(ctx context.Context, in *ecr.DeleteRepositoryPolicyInput, optFns ...func(*ecr.Options)) (*ecr.DeleteRepositoryPolicyOutput, error) {
	out := &ecr.DeleteRepositoryPolicyOutput{}
	return out, s.change(s.caller(ctx, optFns), in.RegistryId, in.RepositoryName, func(k scope.Key, r *repository) error {
		if err := withoutPolicy(k, r); err != nil {
			return err
		}
		out.PolicyText, out.RegistryId, out.RepositoryName = aws.String(r.Policy), aws.String(k.Account), aws.String(r.Name)
		r.Policy = ""
		return nil
	})
}

// repositoryPolicy parses the policy of a repository, whose statements have no
// Resource: they are about the repository
// (https://docs.aws.amazon.com/AmazonECR/latest/userguide/repository-policies.html).
func repositoryPolicy(text, repositoryARN string) (authz.Document, error) {
	document, err := authz.ParseTrust([]byte(text))
	if err != nil {
		return authz.Document{}, err
	}
	for i, statement := range document.Statements {
		for _, action := range slices.Concat(statement.Actions, statement.NotActions) {
			if action != "*" && !strings.HasPrefix(strings.ToLower(action), "ecr:") {
				return authz.Document{}, fmt.Errorf("statement %d: %s is not an action of ECR", i+1, action)
			}
		}
		document.Statements[i].Resources = []string{repositoryARN}
	}
	return document, nil
}

// policyOn is the policy that decides on a repository: its own and its registry's.
func (s *Service) policyOn(resource string) (authz.ResourcePolicy, error) {
	k, name, ok := parseARN(resource)
	if !ok {
		return authz.ResourcePolicy{}, nil
	}
	s.mu.Lock()
	held, own := s.registries[k], ""
	registryPolicy := ""
	if held != nil {
		registryPolicy = held.Policy
		if r := held.Repositories[name]; r != nil {
			own = r.Policy
		}
	}
	s.mu.Unlock()
	out := authz.ResourcePolicy{Owner: k.Account}
	if registryPolicy != "" {
		document, err := authz.ParseResource([]byte(registryPolicy))
		if err != nil {
			return out, err
		}
		out.Document = document
	}
	if own != "" {
		document, err := repositoryPolicy(own, resource)
		if err != nil {
			return out, err
		}
		out.Document.Statements = append(out.Document.Statements, document.Statements...)
	}
	return out, nil
}

// narrow returns an error for a registry policy that needs version 2 of the scope.
// Version 1 is about replication only
// (https://docs.aws.amazon.com/AmazonECR/latest/userguide/registry-permissions.html).
func narrow(document authz.Document) error {
	allowed := []string{"ecr:ReplicateImage", "ecr:BatchImportUpstreamImage", "ecr:CreateRepository"}
	for _, statement := range document.Statements {
		for _, action := range statement.Actions {
			if !slices.Contains(allowed, action) {
				return invalid("PolicyText", "Invalid registry policy provided: %s is not among %s, unless the account setting %s is V2", action, strings.Join(allowed, ", "), policyScope)
			}
		}
		if len(statement.NotActions) > 0 {
			return invalid("PolicyText", "Invalid registry policy provided: NotAction needs the account setting %s V2", policyScope)
		}
	}
	return nil
}

// PutRegistryPolicy sets the policy of a registry.
func (s *Service) PutRegistryPolicy(ctx context.Context, in *ecr.PutRegistryPolicyInput, optFns ...func(*ecr.Options)) (*ecr.PutRegistryPolicyOutput, error) {
	text := aws.ToString(in.PolicyText)
	document, err := authz.ParseResource([]byte(text))
	if err != nil || len(text) > maxPolicy {
		return nil, invalid("PolicyText", "Invalid registry policy provided%s", because(err))
	}
	k := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at(k).setting(policyScope) == "V1" {
		if err := narrow(document); err != nil {
			return nil, err
		}
	}
	s.at(k).Policy = text
	return &ecr.PutRegistryPolicyOutput{PolicyText: &text, RegistryId: aws.String(k.Account)}, nil
}

// GetRegistryPolicy returns the policy of the caller's registry.
func (s *Service) GetRegistryPolicy(ctx context.Context, _ *ecr.GetRegistryPolicyInput, optFns ...func(*ecr.Options)) (*ecr.GetRegistryPolicyOutput, error) {
	k := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	text, err := s.registryPolicy(k)
	if err != nil {
		return nil, err
	}
	return &ecr.GetRegistryPolicyOutput{PolicyText: &text, RegistryId: aws.String(k.Account)}, nil
}

// DeleteRegistryPolicy removes the policy of the caller's registry.
func (s *Service) DeleteRegistryPolicy(ctx context.Context, _ *ecr.DeleteRegistryPolicyInput, optFns ...func(*ecr.Options)) (*ecr.DeleteRegistryPolicyOutput, error) {
	k := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	text, err := s.registryPolicy(k)
	if err != nil {
		return nil, err
	}
	s.at(k).Policy = ""
	return &ecr.DeleteRegistryPolicyOutput{PolicyText: &text, RegistryId: aws.String(k.Account)}, nil
}

// registryPolicy requires s.mu.
func (s *Service) registryPolicy(k scope.Key) (string, error) {
	if text := s.at(k).Policy; text != "" {
		return text, nil
	}
	return "", &types.RegistryPolicyNotFoundException{Message: aws.String(fmt.Sprintf("Registry policy does not exist in the registry with id '%s'", k.Account))}
}

// The account settings that have an effect here
// (https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_PutAccountSetting.html).
const (
	policyScope  = "REGISTRY_POLICY_SCOPE"
	blobMounting = "BLOB_MOUNTING"
)

// settings are the values that account settings can have. The first is the default.
func settings() map[string][]string {
	return map[string][]string{policyScope: {"V2", "V1"}, blobMounting: {"DISABLED", "ENABLED"}}
}

// setting requires s.mu.
func (r *registry) setting(name string) string {
	if value, ok := r.Settings[name]; ok {
		return value
	}
	return settings()[name][0]
}

func checkSetting(name *string) (string, error) {
	if _, ok := settings()[aws.ToString(name)]; !ok {
		return "", invalid("name", "must satisfy enum value set: [%s]", strings.Join(slices.Sorted(maps.Keys(settings())), ", "))
	}
	return *name, nil
}

// PutAccountSetting changes a setting of the caller's registry.
func (s *Service) PutAccountSetting(ctx context.Context, in *ecr.PutAccountSettingInput, optFns ...func(*ecr.Options)) (*ecr.PutAccountSettingOutput, error) {
	name, err := checkSetting(in.Name)
	if err != nil {
		return nil, err
	}
	value := aws.ToString(in.Value)
	if !slices.Contains(settings()[name], value) {
		return nil, invalid("value", "must satisfy enum value set: [%s]", strings.Join(settings()[name], ", "))
	}
	k := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.at(k)
	if name == policyScope && value == "V1" && r.Policy != "" {
		document, err := authz.ParseResource([]byte(r.Policy))
		if err == nil {
			err = narrow(document)
		}
		if err != nil {
			return nil, err
		}
	}
	if r.Settings == nil {
		r.Settings = map[string]string{}
	}
	r.Settings[name] = value
	return &ecr.PutAccountSettingOutput{Name: &name, Value: &value}, nil
}

// GetAccountSetting returns a setting of the caller's registry.
func (s *Service) GetAccountSetting(ctx context.Context, in *ecr.GetAccountSettingInput, optFns ...func(*ecr.Options)) (*ecr.GetAccountSettingOutput, error) {
	name, err := checkSetting(in.Name)
	if err != nil {
		return nil, err
	}
	k := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	return &ecr.GetAccountSettingOutput{Name: &name, Value: aws.String(s.at(k).setting(name))}, nil
}
