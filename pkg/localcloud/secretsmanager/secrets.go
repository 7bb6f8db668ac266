package secretsmanager

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
)

const (
	defaultRecovery  = 30 // days
	shortestRecovery = 7
	longestPage      = 100
)

// DescribeSecret returns everything about a secret except its values, also if it
// is marked for deletion.
func (s *Service) DescribeSecret(ctx context.Context, in *secretsmanager.DescribeSecretInput, optFns ...func(*secretsmanager.Options)) (*secretsmanager.DescribeSecretOutput, error) {
	c := s.caller(ctx, optFns)
	s.mu.Lock()
	defer s.mu.Unlock()
	held, err := s.find(c, "DescribeSecret", aws.ToString(in.SecretId))
	if err != nil {
		return nil, err
	}
	return &secretsmanager.DescribeSecretOutput{
		ARN: aws.String(held.ARN), Name: aws.String(held.Name), Description: scope.Optional(held.Description), KmsKeyId: scope.Optional(held.KMSKeyID),
		CreatedDate: aws.Time(held.Created), LastChangedDate: aws.Time(held.Changed), DeletedDate: optionalTime(held.Deleted),
		Tags: slices.Clone(held.Tags), VersionIdsToStages: held.stages(),
	}, nil
}

// ListSecrets lists secrets by name.
func (s *Service) ListSecrets(ctx context.Context, in *secretsmanager.ListSecretsInput, optFns ...func(*secretsmanager.Options)) (*secretsmanager.ListSecretsOutput, error) {
	limit := longestPage
	if in.MaxResults != nil {
		if limit = int(*in.MaxResults); limit < 1 || limit > longestPage {
			return nil, invalidParameter("MaxResults is %d; 1 to %d are allowed.", limit, longestPage)
		}
	}
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	var entries []types.SecretListEntry
	secrets := s.at(at)
	for _, name := range slices.Sorted(maps.Keys(secrets)) {
		held := secrets[name]
		if !held.Deleted.IsZero() && !aws.ToBool(in.IncludePlannedDeletion) {
			continue
		}
		match, err := held.matches(in.Filters)
		if err != nil {
			return nil, err
		}
		if !match {
			continue
		}
		entries = append(entries, types.SecretListEntry{
			ARN: aws.String(held.ARN), Name: aws.String(name), Description: scope.Optional(held.Description), KmsKeyId: scope.Optional(held.KMSKeyID),
			CreatedDate: aws.Time(held.Created), LastChangedDate: aws.Time(held.Changed), DeletedDate: optionalTime(held.Deleted),
			Tags: slices.Clone(held.Tags), SecretVersionsToStages: held.stages(),
		})
	}
	if in.SortOrder == types.SortOrderTypeDesc {
		slices.Reverse(entries)
	}
	page, next, err := scope.Page(entries, aws.ToString(in.NextToken), limit)
	if err != nil {
		return nil, &types.InvalidNextTokenException{Message: aws.String("The NextToken value is invalid.")}
	}
	return &secretsmanager.ListSecretsOutput{SecretList: page, NextToken: scope.Optional(next)}, nil
}

// matches reports whether a secret passes all filters.
func (t *secret) matches(filters []types.Filter) (bool, error) {
	for _, f := range filters {
		var match bool
		switch f.Key {
		case types.FilterNameStringTypeName:
			match = describes(t.Name, f.Values)
		case types.FilterNameStringTypeDescription:
			match = describes(t.Description, f.Values)
		case types.FilterNameStringTypeTagKey:
			match = slices.ContainsFunc(t.Tags, func(tag types.Tag) bool { return describes(aws.ToString(tag.Key), f.Values) })
		case types.FilterNameStringTypeTagValue:
			match = slices.ContainsFunc(t.Tags, func(tag types.Tag) bool { return describes(aws.ToString(tag.Value), f.Values) })
		default:
			return false, invalidParameter("The embedded Secrets Manager filters by name, description, tag-key and tag-value, not by %q.", f.Key)
		}
		if !match {
			return false, nil
		}
	}
	return true, nil
}

// DeleteSecret marks a secret for deletion in 7 to 30 days, 30 by default, or
// removes it at once.
func (s *Service) DeleteSecret(ctx context.Context, in *secretsmanager.DeleteSecretInput, optFns ...func(*secretsmanager.Options)) (*secretsmanager.DeleteSecretOutput, error) {
	force := aws.ToBool(in.ForceDeleteWithoutRecovery)
	days := int64(defaultRecovery)
	if in.RecoveryWindowInDays != nil {
		if force {
			return nil, invalidParameter("You can't use ForceDeleteWithoutRecovery in conjunction with RecoveryWindowInDays.")
		}
		if days = *in.RecoveryWindowInDays; days < shortestRecovery || days > defaultRecovery {
			return nil, invalidParameter("RecoveryWindowInDays value must be between %d and %d days (inclusive).", shortestRecovery, defaultRecovery)
		}
	}
	c := s.caller(ctx, optFns)
	s.mu.Lock()
	defer s.mu.Unlock()
	find := s.inUse
	if force {
		find = s.find
	}
	held, err := find(c, "DeleteSecret", aws.ToString(in.SecretId))
	if err != nil {
		return nil, err
	}
	removal := s.clock.Now()
	if force {
		delete(s.at(scope.KeyOf(c)), held.Name)
	} else {
		held.Deleted = removal
		removal = removal.Add(time.Duration(days) * 24 * time.Hour)
		held.Removal = removal
	}
	return &secretsmanager.DeleteSecretOutput{ARN: aws.String(held.ARN), Name: aws.String(held.Name), DeletionDate: aws.Time(removal)}, nil
}

func optionalTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
