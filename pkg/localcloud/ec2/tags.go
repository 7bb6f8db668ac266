package ec2

import (
	"context"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// Limits of "Tag restrictions" in the EC2 user guide.
const (
	maxTags     = 50
	maxTagKey   = 128
	maxTagValue = 256
)

// CreateTags adds tags to resources of the caller, or overwrites them.
func (s *Service) CreateTags(ctx context.Context, in *ec2.CreateTagsInput, optFns ...func(*ec2.Options)) (*ec2.CreateTagsOutput, error) {
	c := s.caller(ctx, optFns)
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.unlock()
	targets, err := s.taggable(c, in.Resources)
	if err != nil {
		return nil, err
	}
	merged := make([][]types.Tag, len(targets))
	for n, target := range targets {
		merged[n] = mergeTags(*target, in.Tags)
		if len(merged[n]) > maxTags {
			return nil, wire.Errorf("TagLimitExceeded", "The maximum number of tags for a resource has been reached: %d", maxTags)
		}
	}
	for n, target := range targets {
		*target = merged[n]
	}
	return &ec2.CreateTagsOutput{}, nil
}

// DeleteTags removes tags. Without a value it removes the tag with the key
// whatever its value; without tags it removes all tags of the resource.
func (s *Service) DeleteTags(ctx context.Context, in *ec2.DeleteTagsInput, optFns ...func(*ec2.Options)) (*ec2.DeleteTagsOutput, error) {
	c := s.caller(ctx, optFns)
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.unlock()
	targets, err := s.taggable(c, in.Resources)
	if err != nil {
		return nil, err
	}
	for _, target := range targets {
		*target = slices.DeleteFunc(slices.Clone(*target), func(t types.Tag) bool {
			return len(in.Tags) == 0 || slices.ContainsFunc(in.Tags, func(d types.Tag) bool {
				return aws.ToString(d.Key) == aws.ToString(t.Key) && (d.Value == nil || *d.Value == aws.ToString(t.Value))
			})
		})
	}
	return &ec2.DeleteTagsOutput{}, nil
}

// DescribeTags lists the tags of the caller's resources.
func (s *Service) DescribeTags(ctx context.Context, in *ec2.DescribeTagsInput, optFns ...func(*ec2.Options)) (*ec2.DescribeTagsOutput, error) {
	c := s.caller(ctx, optFns)
	s.mu.Lock()
	defer s.unlock()
	var all []types.TagDescription
	add := func(id *string, kind types.ResourceType, tags []types.Tag) {
		for _, t := range tags {
			all = append(all, types.TagDescription{ResourceId: id, ResourceType: kind, Key: t.Key, Value: t.Value})
		}
	}
	for _, i := range s.st.Instances {
		if i.realm() == scope.KeyOf(c) {
			add(i.InstanceId, types.ResourceTypeInstance, i.Tags)
		}
	}
	for key, im := range s.st.Images {
		if key.Region == c.Region && aws.ToString(im.OwnerId) == c.Account {
			add(im.ImageId, types.ResourceTypeImage, im.Tags)
		}
	}
	for _, sn := range s.st.Snapshots {
		if sn.Region == c.Region && aws.ToString(sn.OwnerId) == c.Account {
			add(sn.SnapshotId, types.ResourceTypeSnapshot, sn.Tags)
		}
	}
	for _, v := range s.st.Volumes {
		if v.Region == c.Region && v.Account == c.Account {
			add(v.VolumeId, types.ResourceTypeVolume, v.Tags)
		}
	}
	slices.SortFunc(all, func(a, b types.TagDescription) int {
		return strings.Compare(aws.ToString(a.ResourceId)+"\x00"+aws.ToString(a.Key), aws.ToString(b.ResourceId)+"\x00"+aws.ToString(b.Key))
	})
	all, err := tagFilters().apply(all, in.Filters, func(t types.TagDescription) []types.Tag { return []types.Tag{{Key: t.Key, Value: t.Value}} })
	if err != nil {
		return nil, err
	}
	tags, next, err := page(all, in.NextToken, in.MaxResults, 5)
	if err != nil {
		return nil, err
	}
	return &ec2.DescribeTagsOutput{Tags: tags, NextToken: next}, nil
}

func tagFilters() filterTable[types.TagDescription] {
	return filterTable[types.TagDescription]{
		"resource-id":   func(t types.TagDescription) []string { return one(t.ResourceId) },
		"resource-type": func(t types.TagDescription) []string { return []string{string(t.ResourceType)} },
		"key":           func(t types.TagDescription) []string { return one(t.Key) },
		"value":         func(t types.TagDescription) []string { return one(t.Value) },
	}
}

// taggable returns the tags of resources that the caller owns.
func (s *Service) taggable(c wire.Caller, ids []string) ([]*[]types.Tag, error) {
	if len(ids) == 0 {
		return nil, wire.Errorf("MissingParameter", "The request must contain the parameter resourceIdSet")
	}
	targets := make([]*[]types.Tag, 0, len(ids))
	for _, id := range ids {
		target, err := s.tagsOf(c, id)
		if err != nil {
			return nil, err
		}
		targets = append(targets, target)
	}
	return targets, nil
}

func (s *Service) tagsOf(c wire.Caller, id string) (*[]types.Tag, error) {
	switch {
	case strings.HasPrefix(id, amiKind.prefix):
		im, err := s.ownImage(c, id)
		if err != nil {
			return nil, err
		}
		return &im.Tags, nil
	case strings.HasPrefix(id, instanceKind.prefix):
		i, err := s.instance(c, id)
		if err != nil {
			return nil, err
		}
		return &i.Tags, nil
	case strings.HasPrefix(id, snapshotKind.prefix):
		sn, err := s.ownSnapshot(c, id)
		if err != nil {
			return nil, err
		}
		return &sn.Tags, nil
	case strings.HasPrefix(id, volumeKind.prefix):
		v, ok := s.st.Volumes[id]
		if !ok || v.Account != c.Account || v.Region != c.Region {
			return nil, volumeKind.notFound(id)
		}
		return &v.Tags, nil
	}
	return nil, wire.Errorf("InvalidID", "The ID '%s' is not valid", id)
}

// specifiedTags returns the tags of one resource type in a call's
// specifications; allowed lists the types that the operation creates.
func specifiedTags(specs []types.TagSpecification, want types.ResourceType, allowed ...types.ResourceType) ([]types.Tag, error) {
	var tags []types.Tag
	for _, spec := range specs {
		if !slices.Contains(allowed, spec.ResourceType) {
			return nil, wire.Errorf("InvalidParameterValue", "'%s' is not a valid taggable resource type for this operation.", spec.ResourceType)
		}
		if err := checkTags(spec.Tags); err != nil {
			return nil, err
		}
		if spec.ResourceType == want {
			tags = append(tags, spec.Tags...)
		}
	}
	if err := checkTags(tags); err != nil {
		return nil, err
	}
	return mergeTags(nil, tags), nil
}

func checkTags(tags []types.Tag) error {
	if len(tags) > maxTags {
		return wire.Errorf("TagLimitExceeded", "The maximum number of tags for a resource has been reached: %d", maxTags)
	}
	seen := make(map[string]bool, len(tags))
	for _, t := range tags {
		key, value := aws.ToString(t.Key), aws.ToString(t.Value)
		switch {
		case key == "":
			return wire.Errorf("InvalidParameterValue", "Tag keys must not be empty.")
		case strings.HasPrefix(strings.ToLower(key), "aws:"):
			return wire.Errorf("InvalidParameterValue", "Value ( %s ) for parameter key is invalid. Tag keys starting with 'aws:' are reserved for internal use", key)
		case utf8.RuneCountInString(key) > maxTagKey:
			return wire.Errorf("InvalidParameterValue", "Tag key exceeds the maximum length of %d characters", maxTagKey)
		case utf8.RuneCountInString(value) > maxTagValue:
			return wire.Errorf("InvalidParameterValue", "Tag value of key '%s' exceeds the maximum length of %d characters", key, maxTagValue)
		case seen[key]:
			return wire.Errorf("InvalidParameterValue", "Duplicate tag key '%s' specified.", key)
		}
		seen[key] = true
	}
	return nil
}

// mergeTags returns the tags of old, overridden by added, sorted by key.
func mergeTags(old, added []types.Tag) []types.Tag {
	byKey := make(map[string]string, len(old)+len(added))
	for _, t := range slices.Concat(old, added) {
		byKey[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	merged := make([]types.Tag, 0, len(byKey))
	for key, value := range byKey {
		merged = append(merged, types.Tag{Key: aws.String(key), Value: aws.String(value)})
	}
	slices.SortFunc(merged, func(a, b types.Tag) int { return strings.Compare(*a.Key, *b.Key) })
	return merged
}
