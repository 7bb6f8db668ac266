package kms

import (
	"context"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// ownAlias refuses AWS's aliases, and aliases that do not exist. The caller
// holds s.mu.
func (s *Service) ownAlias(at scope.Key, name string) error {
	if strings.HasPrefix(name, "alias/aws/") {
		return wire.Errorf("NotAuthorizedException", "Aliases that begin with alias/aws/ belong to AWS.")
	}
	if _, ok := s.at(at).Aliases[name]; !ok {
		return &types.NotFoundException{Message: aws.String(fmt.Sprintf("Alias %s is not found.", partition.ARN("kms", at.Region, at.Account, name)))}
	}
	return nil
}

// UpdateAlias sets the key of an alias.
func (s *Service) UpdateAlias(ctx context.Context, in *kms.UpdateAliasInput, optFns ...func(*kms.Options)) (*kms.UpdateAliasOutput, error) {
	name, at := aws.ToString(in.AliasName), scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ownAlias(at, name); err != nil {
		return nil, err
	}
	k, where, err := s.find(at, aws.ToString(in.TargetKeyId))
	if err != nil {
		return nil, err
	}
	if where != at {
		return nil, &types.NotFoundException{Message: aws.String("An alias and its key must be in the same account and region.")}
	}
	a := s.at(at).Aliases[name]
	a.KeyID = k.ID
	s.at(at).Aliases[name] = a
	return &kms.UpdateAliasOutput{}, nil
}

// DeleteAlias deletes an alias. Its key stays.
func (s *Service) DeleteAlias(ctx context.Context, in *kms.DeleteAliasInput, optFns ...func(*kms.Options)) (*kms.DeleteAliasOutput, error) {
	name, at := aws.ToString(in.AliasName), scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ownAlias(at, name); err != nil {
		return nil, err
	}
	delete(s.at(at).Aliases, name)
	return &kms.DeleteAliasOutput{}, nil
}
