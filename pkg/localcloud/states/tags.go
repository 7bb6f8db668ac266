package states

import (
	"context"
	"maps"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

const maxTags = 50

func tagMap(tags []types.Tag) map[string]string {
	m := make(map[string]string, len(tags))
	for _, t := range tags {
		m[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return m
}

// tagged returns the tags of a state machine of the caller's. s.mu is held.
func (s *Service) tagged(arn *string, c wire.Caller) (map[string]string, error) {
	m, err := s.find(arn, c)
	if err != nil {
		if checkARN(arn, "stateMachine") != nil {
			return nil, err
		}
		return nil, &types.ResourceNotFound{Message: aws.String("Resource not found: '" + *arn + "'"), ResourceName: arn}
	}
	return m.Tags, nil
}

// TagResource implements sfn.Client's, for state machines.
func (s *Service) TagResource(ctx context.Context, in *sfn.TagResourceInput, optFns ...func(*sfn.Options)) (*sfn.TagResourceOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tags, err := s.tagged(in.ResourceArn, s.caller(ctx, optFns))
	if err != nil {
		return nil, err
	}
	after := maps.Clone(tags)
	maps.Copy(after, tagMap(in.Tags))
	if len(after) > maxTags {
		return nil, &types.TooManyTags{Message: aws.String("a resource has at most 50 tags"), ResourceName: in.ResourceArn}
	}
	maps.Copy(tags, after)
	return &sfn.TagResourceOutput{}, nil
}

// UntagResource implements sfn.Client's, for state machines.
func (s *Service) UntagResource(ctx context.Context, in *sfn.UntagResourceInput, optFns ...func(*sfn.Options)) (*sfn.UntagResourceOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tags, err := s.tagged(in.ResourceArn, s.caller(ctx, optFns))
	if err != nil {
		return nil, err
	}
	for _, key := range in.TagKeys {
		delete(tags, key)
	}
	return &sfn.UntagResourceOutput{}, nil
}

// ListTagsForResource implements sfn.Client's, for state machines.
func (s *Service) ListTagsForResource(ctx context.Context, in *sfn.ListTagsForResourceInput, optFns ...func(*sfn.Options)) (*sfn.ListTagsForResourceOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tags, err := s.tagged(in.ResourceArn, s.caller(ctx, optFns))
	if err != nil {
		return nil, err
	}
	out := &sfn.ListTagsForResourceOutput{Tags: []types.Tag{}}
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		out.Tags = append(out.Tags, types.Tag{Key: aws.String(key), Value: aws.String(tags[key])})
	}
	return out, nil
}
