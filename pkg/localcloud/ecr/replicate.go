package ecr

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// The limits of a replication configuration
// (https://docs.aws.amazon.com/AmazonECR/latest/userguide/replication.html).
const (
	maxRules        = 10
	maxDestinations = 25
	maxRuleFilters  = 100
)

// PutReplicationConfiguration sets where later pushes are copied to.
func (s *Service) PutReplicationConfiguration(ctx context.Context, in *ecr.PutReplicationConfigurationInput, optFns ...func(*ecr.Options)) (*ecr.PutReplicationConfigurationOutput, error) {
	if in.ReplicationConfiguration == nil {
		return nil, invalid("replicationConfiguration", "must not be null")
	}
	c := s.caller(ctx, optFns)
	rules := in.ReplicationConfiguration.Rules
	if len(rules) > maxRules {
		return nil, invalid("replicationConfiguration.rules", "must have a length between 0 and %d", maxRules)
	}
	for _, r := range rules {
		if err := checkRule(c, r); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at(scope.KeyOf(c)).Replication = rules
	return &ecr.PutReplicationConfigurationOutput{ReplicationConfiguration: &types.ReplicationConfiguration{Rules: slices.Clone(rules)}}, nil
}

func checkRule(c wire.Caller, r types.ReplicationRule) error {
	if len(r.Destinations) < 1 || len(r.Destinations) > maxDestinations {
		return invalid("replicationConfiguration.rules.destinations", "must have a length between 1 and %d", maxDestinations)
	}
	for _, d := range r.Destinations {
		region, id := aws.ToString(d.Region), aws.ToString(d.RegistryId)
		switch {
		case !partition.Known(region):
			_, message, _ := partition.Check(region)
			return invalid("replicationConfiguration.rules.destinations.region", "%s", message)
		case !accountID.MatchString(id):
			return invalid("replicationConfiguration.rules.destinations.registryId", "must satisfy regular expression '[0-9]{12}'")
		case region == c.Region && id == c.Account:
			return invalid("replicationConfiguration.rules.destinations", "must not be the source registry itself")
		}
	}
	if len(r.RepositoryFilters) > maxRuleFilters {
		return invalid("replicationConfiguration.rules.repositoryFilters", "must have a length between 0 and %d", maxRuleFilters)
	}
	for _, f := range r.RepositoryFilters {
		if f.FilterType != types.RepositoryFilterTypePrefixMatch || len(aws.ToString(f.Filter)) < 2 {
			return invalid("replicationConfiguration.rules.repositoryFilters", "must have the filterType PREFIX_MATCH and a prefix of 2 characters or more")
		}
	}
	return nil
}

// DescribeRegistry returns the id and the replication of the caller's registry.
func (s *Service) DescribeRegistry(ctx context.Context, _ *ecr.DescribeRegistryInput, optFns ...func(*ecr.Options)) (*ecr.DescribeRegistryOutput, error) {
	k := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	rules := append([]types.ReplicationRule{}, s.at(k).Replication...)
	return &ecr.DescribeRegistryOutput{RegistryId: aws.String(k.Account), ReplicationConfiguration: &types.ReplicationConfiguration{Rules: rules}}, nil
}

// destinations are where a push to a repository is copied to. The caller holds s.mu.
func (r *registry) destinations(name string) []scope.Key {
	var out []scope.Key
	for _, rule := range r.Replication {
		matches := len(rule.RepositoryFilters) == 0 || slices.ContainsFunc(rule.RepositoryFilters, func(f types.RepositoryFilter) bool {
			return strings.HasPrefix(name, aws.ToString(f.Filter))
		})
		for _, d := range rule.Destinations {
			k := scope.Key{Account: aws.ToString(d.RegistryId), Region: aws.ToString(d.Region)}
			if matches && !slices.Contains(out, k) {
				out = append(out, k)
			}
		}
	}
	return out
}

// replicationAction is the detail of the event in the destination
// (https://docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-eventbridge.html).
type replicationAction struct {
	Result         string `json:"result"`
	RepositoryName string `json:"repository-name"`
	ImageDigest    string `json:"image-digest"`
	SourceAccount  string `json:"source-account"`
	ActionType     string `json:"action-type"`
	SourceRegion   string `json:"source-region"`
	ImageTag       string `json:"image-tag"`
}

// replicate copies a pushed image to the destinations of its registry. An image is not
// copied on from there. The caller does not hold s.mu.
func (s *Service) replicate(ctx context.Context, from scope.Key, name, digest, tag string) {
	s.mu.Lock()
	to := s.at(from).destinations(name)
	s.mu.Unlock()
	for _, k := range to {
		err := s.replicateTo(from, k, name, digest, tag)
		result := "SUCCESS"
		if err != nil {
			result = "FAILED"
			s.cfg.Logger.Warn("replication of an image", "repository", name, "image", digest, "from", from, "to", k, "error", err)
		}
		s.emit(ctx, k, "ECR Replication Action", []string{arn(k, name)}, replicationAction{
			Result: result, RepositoryName: name, ImageDigest: digest, SourceAccount: from.Account, ActionType: "REPLICATE", SourceRegion: from.Region, ImageTag: tag,
		})
	}
}

func (s *Service) replicateTo(from, to scope.Key, name, digest, tag string) error {
	s.mu.Lock()
	_, exists := s.at(to).Repositories[name]
	s.mu.Unlock()
	actions := []string{"ecr:ReplicateImage"}
	if !exists {
		actions = append(actions, "ecr:CreateRepository")
	}
	if from.Account != to.Account && s.cfg.Replicates != nil {
		source := wire.Caller{Account: from.Account, Region: to.Region, ARN: wire.RootARN(from.Account, from.Region)}
		for _, action := range actions {
			if err := s.cfg.Replicates(source, action, arn(to, name)); err != nil {
				return err
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	source, err := s.find(from, name)
	if err != nil {
		return err
	}
	destination, ok := s.at(to).Repositories[name]
	if !ok {
		// A repository that replication makes has default settings, as there are no
		// creation templates.
		destination = &repository{
			ID: scope.Hex(32), Name: name, Created: s.cfg.Clock.Now(), Mutability: types.ImageTagMutabilityMutable,
			Encryption: types.EncryptionConfiguration{EncryptionType: types.EncryptionTypeAes256}, Tags: map[string]string{}, Images: map[string]*image{}, ImageTags: map[string]string{},
		}
		if err := s.blobs.create(destination.ID); err != nil {
			return err
		}
		s.at(to).Repositories[name] = destination
	}
	return s.copyImage(source, destination, to, digest, tag)
}

// copyImage copies an image, and what an index lists, with their layers. The caller
// holds s.mu.
func (s *Service) copyImage(from, to *repository, k scope.Key, digest, tag string) error {
	held, ok := from.Images[digest]
	if !ok {
		return errors.New("the image was deleted")
	}
	for _, member := range from.members(held) {
		named := ""
		if member == held {
			named = tag
		}
		if err := s.copyOne(from, to, k, member, named); err != nil {
			return err
		}
	}
	return nil
}

// copyOne copies an image with its layers.
func (s *Service) copyOne(from, to *repository, k scope.Key, held *image, tag string) error {
	for _, layer := range slices.Sorted(maps.Keys(held.Layers)) {
		if err := s.blobs.link(from.ID, to.ID, layer); err != nil {
			return err
		}
	}
	raw, err := os.ReadFile(s.blobs.manifest(from.ID, held.Digest))
	if err != nil {
		return fmt.Errorf("reading a manifest: %w", err)
	}
	made := *held
	made.Pulled, made.Scan = time.Time{}, nil // those of the copy
	_, err = s.store(k, to, &made, tag, raw)
	return err
}
