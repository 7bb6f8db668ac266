package ecr

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// Host returns the name of a registry on AWS, under which its images are known:
// 111122223333.dkr.ecr.eu-west-1.amazonaws.com.
func Host(account, region string) string {
	return account + ".dkr.ecr." + region + "." + partition.OrDefault(region).DNSSuffix
}

// address is where a caller finds a registry: on the listener, or under its name on AWS
// if nothing listens. The listener's address is that of the caller's own registry; the
// registry of another account has a name below localhost.
func (s *Service) address(c wire.Caller, k scope.Key) (scheme, host string) {
	u, err := url.Parse(s.cfg.Endpoint())
	switch {
	case err != nil || u.Host == "":
		return "https", Host(k.Account, k.Region)
	case c.Account == k.Account:
		return u.Scheme, u.Host
	}
	return u.Scheme, k.Account + ".dkr.ecr." + k.Region + ".localhost:" + u.Port()
}

func (s *Service) describe(c wire.Caller, k scope.Key, r *repository) *types.Repository {
	_, host := s.address(c, k)
	encryption := r.Encryption
	return &types.Repository{
		CreatedAt: aws.Time(r.Created), EncryptionConfiguration: &encryption,
		ImageScanningConfiguration: &types.ImageScanningConfiguration{ScanOnPush: r.ScanOnPush}, ImageTagMutability: r.Mutability,
		ImageTagMutabilityExclusionFilters: slices.Clone(r.Exclusions), RegistryId: aws.String(k.Account), RepositoryArn: aws.String(arn(k, r.Name)),
		RepositoryName: aws.String(r.Name), RepositoryUri: aws.String(host + "/" + r.Name),
	}
}

// CreateRepository makes a repository.
func (s *Service) CreateRepository(ctx context.Context, in *ecr.CreateRepositoryInput, optFns ...func(*ecr.Options)) (*ecr.CreateRepositoryOutput, error) {
	name, err := checkName(in.RepositoryName)
	if err != nil {
		return nil, err
	}
	if err := checkRegistry(in.RegistryId); err != nil {
		return nil, err
	}
	made := &repository{
		ID: scope.Hex(32), Name: name, Created: s.cfg.Clock.Now(), Mutability: cmp.Or(in.ImageTagMutability, types.ImageTagMutabilityMutable),
		Exclusions: in.ImageTagMutabilityExclusionFilters, Tags: map[string]string{}, Images: map[string]*image{}, ImageTags: map[string]string{},
	}
	if err := checkMutability(made.Mutability, made.Exclusions); err != nil {
		return nil, err
	}
	if in.ImageScanningConfiguration != nil {
		made.ScanOnPush = in.ImageScanningConfiguration.ScanOnPush
	}
	if err := made.tag(in.Tags); err != nil {
		return nil, err
	}
	c := s.caller(ctx, optFns)
	k := keyOf(c, in.RegistryId)
	if made.Encryption, err = s.encryption(k, in.EncryptionConfiguration); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.at(k).Repositories[name]; ok {
		return nil, &types.RepositoryAlreadyExistsException{Message: aws.String(fmt.Sprintf("The repository with name '%s' already exists in the registry with id '%s'", name, k.Account))}
	}
	if err := s.blobs.create(made.ID); err != nil {
		return nil, err
	}
	s.at(k).Repositories[name] = made
	return &ecr.CreateRepositoryOutput{Repository: s.describe(c, k, made)}, nil
}

// encryption checks how a repository is to be encrypted. The default is AES256, and the
// default key of KMS is that of ECR
// (https://docs.aws.amazon.com/AmazonECR/latest/userguide/encryption-at-rest.html).
func (s *Service) encryption(k scope.Key, in *types.EncryptionConfiguration) (types.EncryptionConfiguration, error) {
	if in == nil {
		return types.EncryptionConfiguration{EncryptionType: types.EncryptionTypeAes256}, nil
	}
	switch in.EncryptionType {
	case types.EncryptionTypeAes256:
		if in.KmsKey != nil {
			return types.EncryptionConfiguration{}, invalid("encryptionConfiguration", "kmsKey must be empty if encryptionType is AES256")
		}
		return types.EncryptionConfiguration{EncryptionType: in.EncryptionType}, nil
	case types.EncryptionTypeKms, types.EncryptionTypeKmsDsse:
	default:
		return types.EncryptionConfiguration{}, invalid("encryptionConfiguration.encryptionType", "must satisfy enum value set: [%s]", strings.Join(names(in.EncryptionType.Values()), ", "))
	}
	ref := cmp.Or(aws.ToString(in.KmsKey), "alias/aws/ecr")
	if s.cfg.Key == nil {
		return types.EncryptionConfiguration{}, &types.KmsException{Message: aws.String("KMS key " + ref + " is not found"), KmsError: aws.String("NotFoundException")}
	}
	found, err := s.cfg.Key(k.Account, k.Region, ref)
	if err != nil {
		return types.EncryptionConfiguration{}, &types.KmsException{Message: aws.String(err.Error()), KmsError: aws.String("NotFoundException")}
	}
	return types.EncryptionConfiguration{EncryptionType: in.EncryptionType, KmsKey: &found}, nil
}

// DescribeRepositories lists repositories, sorted by name.
func (s *Service) DescribeRepositories(ctx context.Context, in *ecr.DescribeRepositoriesInput, optFns ...func(*ecr.Options)) (*ecr.DescribeRepositoriesOutput, error) {
	if err := checkRegistry(in.RegistryId); err != nil {
		return nil, err
	}
	if len(in.RepositoryNames) > 0 && (in.MaxResults != nil || in.NextToken != nil) {
		return nil, invalid("repositoryNames", "must be empty if maxResults or nextToken is given")
	}
	if len(in.RepositoryNames) > maxBatch {
		return nil, invalid("repositoryNames", "must have a length between 1 and %d", maxBatch)
	}
	size, err := limit(in.MaxResults, page, maxPage)
	if err != nil {
		return nil, err
	}
	c := s.caller(ctx, optFns)
	k := keyOf(c, in.RegistryId)
	s.mu.Lock()
	defer s.mu.Unlock()
	wanted := in.RepositoryNames
	if len(wanted) == 0 {
		wanted = slices.Sorted(maps.Keys(s.at(k).Repositories))
	} else {
		size = len(wanted)
	}
	all := make([]types.Repository, 0, len(wanted))
	for _, name := range wanted {
		found, err := s.find(k, name)
		if err != nil {
			return nil, err
		}
		all = append(all, *s.describe(c, k, found))
	}
	out, next, err := pageOf(all, in.NextToken, size)
	if err != nil {
		return nil, err
	}
	return &ecr.DescribeRepositoriesOutput{Repositories: out, NextToken: next}, nil
}

// DeleteRepository deletes a repository; Force also one with images.
func (s *Service) DeleteRepository(ctx context.Context, in *ecr.DeleteRepositoryInput, optFns ...func(*ecr.Options)) (*ecr.DeleteRepositoryOutput, error) {
	c := s.caller(ctx, optFns)
	out := &ecr.DeleteRepositoryOutput{}
	var gone []removed
	var key scope.Key
	err := s.change(c, in.RegistryId, in.RepositoryName, func(k scope.Key, r *repository) error {
		if len(r.Images) > 0 && !in.Force {
			return &types.RepositoryNotEmptyException{Message: aws.String(fmt.Sprintf("The repository with name '%s' in registry with id '%s' cannot be deleted because it still contains images", r.Name, k.Account))}
		}
		out.Repository, key = s.describe(c, k, r), k
		gone = r.all()
		delete(s.at(k).Repositories, r.Name)
		return os.RemoveAll(s.blobs.folder(r.ID))
	})
	if err != nil {
		return nil, err
	}
	s.emitDeleted(ctx, key, aws.ToString(in.RepositoryName), gone)
	return out, nil
}

// change calls f with a repository, while it holds s.mu.
func (s *Service) change(c wire.Caller, registryID, repositoryName *string, f func(scope.Key, *repository) error) error {
	name, err := checkName(repositoryName)
	if err != nil {
		return err
	}
	if err := checkRegistry(registryID); err != nil {
		return err
	}
	k := keyOf(c, registryID)
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.find(k, name)
	if err != nil {
		return err
	}
	return f(k, r)
}

// PutImageTagMutability changes which tags can be moved.
func (s *Service) PutImageTagMutability(ctx context.Context, in *ecr.PutImageTagMutabilityInput, optFns ...func(*ecr.Options)) (*ecr.PutImageTagMutabilityOutput, error) {
	if err := checkMutability(in.ImageTagMutability, in.ImageTagMutabilityExclusionFilters); err != nil {
		return nil, err
	}
	out := &ecr.PutImageTagMutabilityOutput{}
	return out, s.change(s.caller(ctx, optFns), in.RegistryId, in.RepositoryName, func(k scope.Key, r *repository) error {
		r.Mutability, r.Exclusions = in.ImageTagMutability, in.ImageTagMutabilityExclusionFilters
		out.ImageTagMutability, out.ImageTagMutabilityExclusionFilters = r.Mutability, slices.Clone(r.Exclusions)
		out.RegistryId, out.RepositoryName = aws.String(k.Account), aws.String(r.Name)
		return nil
	})
}

// PutImageScanningConfiguration changes whether images are scanned when they are pushed.
func (s *Service) PutImageScanningConfiguration(ctx context.Context, in *ecr.PutImageScanningConfigurationInput, optFns ...func(*ecr.Options)) (*ecr.PutImageScanningConfigurationOutput, error) {
	if in.ImageScanningConfiguration == nil {
		return nil, invalid("imageScanningConfiguration", "must not be null")
	}
	out := &ecr.PutImageScanningConfigurationOutput{}
	return out, s.change(s.caller(ctx, optFns), in.RegistryId, in.RepositoryName, func(k scope.Key, r *repository) error {
		r.ScanOnPush = in.ImageScanningConfiguration.ScanOnPush
		out.ImageScanningConfiguration = &types.ImageScanningConfiguration{ScanOnPush: r.ScanOnPush}
		out.RegistryId, out.RepositoryName = aws.String(k.Account), aws.String(r.Name)
		return nil
	})
}

// tag adds tags.
func (r *repository) tag(tags []types.Tag) error {
	next := maps.Clone(r.Tags)
	for _, t := range tags {
		key, value := aws.ToString(t.Key), aws.ToString(t.Value)
		switch {
		case key == "" || len(key) > 128 || len(value) > 256:
			return &types.InvalidTagParameterException{Message: aws.String("Invalid tag: a key has 1 to 128 characters, a value at most 256")}
		case strings.HasPrefix(strings.ToLower(key), "aws:"):
			return &types.InvalidTagParameterException{Message: aws.String("Invalid tag: keys that begin with aws: are reserved")}
		}
		next[key] = value
	}
	if len(next) > maxTags {
		return &types.TooManyTagsException{Message: aws.String(fmt.Sprintf("Too many tags: a repository has at most %d", maxTags))}
	}
	r.Tags = next
	return nil
}

// byARN calls f with the repository of an ARN, while it holds s.mu.
func (s *Service) byARN(c wire.Caller, resource *string, f func(*repository) error) error {
	k, name, ok := parseARN(aws.ToString(resource))
	if !ok || k.Region != c.Region {
		return invalid("resourceArn", "must be the ARN of a repository in %s", c.Region)
	}
	return s.change(c, &k.Account, &name, func(_ scope.Key, r *repository) error { return f(r) })
}

// parseARN returns the registry and the name of a repository by its ARN.
func parseARN(text string) (scope.Key, string, bool) {
	parts := strings.SplitN(text, ":", 6)
	if len(parts) != 6 || parts[0] != "arn" || parts[2] != "ecr" {
		return scope.Key{}, "", false
	}
	name, ok := strings.CutPrefix(parts[5], "repository/")
	return scope.Key{Account: parts[4], Region: parts[3]}, name, ok
}

// TagResource adds tags to a repository.
func (s *Service) TagResource(ctx context.Context, in *ecr.TagResourceInput, optFns ...func(*ecr.Options)) (*ecr.TagResourceOutput, error) {
	return &ecr.TagResourceOutput{}, s.byARN(s.caller(ctx, optFns), in.ResourceArn, func(r *repository) error { return r.tag(in.Tags) })
}

// UntagResource removes tags from a repository.
func (s *Service) UntagResource(ctx context.Context, in *ecr.UntagResourceInput, optFns ...func(*ecr.Options)) (*ecr.UntagResourceOutput, error) {
	return &ecr.UntagResourceOutput{}, s.byARN(s.caller(ctx, optFns), in.ResourceArn, func(r *repository) error {
		for _, key := range in.TagKeys {
			delete(r.Tags, key)
		}
		return nil
	})
}

// ListTagsForResource lists the tags of a repository.
func (s *Service) ListTagsForResource(ctx context.Context, in *ecr.ListTagsForResourceInput, optFns ...func(*ecr.Options)) (*ecr.ListTagsForResourceOutput, error) {
	out := &ecr.ListTagsForResourceOutput{Tags: []types.Tag{}}
	return out, s.byARN(s.caller(ctx, optFns), in.ResourceArn, func(r *repository) error {
		for _, key := range slices.Sorted(maps.Keys(r.Tags)) {
			out.Tags = append(out.Tags, types.Tag{Key: aws.String(key), Value: aws.String(r.Tags[key])})
		}
		return nil
	})
}
