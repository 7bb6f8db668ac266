package scheduler

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"
	"github.com/aws/aws-sdk-go-v2/service/scheduler/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// DefaultGroup is the group of schedules without an explicit group. It always
// exists.
const DefaultGroup = "default"

func orDefault(name *string) string {
	if aws.ToString(name) == "" {
		return DefaultGroup
	}
	return *name
}

func noGroup(name string) error {
	return &types.ResourceNotFoundException{Message: aws.String("Schedule group " + name + " does not exist.")}
}

// group finds a group. The caller holds s.mu.
func (s *Service) group(at scope.Key, name string) (*group, error) {
	if s.groups[at] == nil {
		s.groups[at] = map[string]*group{}
	}
	if g, ok := s.groups[at][name]; ok {
		return g, nil
	}
	if name != DefaultGroup {
		return nil, noGroup(name)
	}
	s.groups[at][name] = s.newGroup(at, name)
	return s.groups[at][name], nil
}

func (s *Service) newGroup(at scope.Key, name string) *group {
	now := s.cfg.Clock.Now()
	return &group{
		Name: name, ARN: partition.ARN("scheduler", at.Region, at.Account, "schedule-group/"+name), Created: now, Modified: now,
		Tags: map[string]string{}, Schedules: map[string]*schedule{},
	}
}

// CreateScheduleGroup makes a group.
func (s *Service) CreateScheduleGroup(ctx context.Context, in *scheduler.CreateScheduleGroupInput, optFns ...func(*scheduler.Options)) (*scheduler.CreateScheduleGroupOutput, error) {
	name := aws.ToString(in.Name)
	if !resourceName.MatchString(name) {
		return nil, invalid("%q is not a name for a schedule group: 1 to 64 of letters, digits, - _ . are allowed", name)
	}
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	if have, err := s.group(at, name); err == nil {
		if token := aws.ToString(in.ClientToken); token != "" && token == have.Token {
			return &scheduler.CreateScheduleGroupOutput{ScheduleGroupArn: aws.String(have.ARN)}, nil
		}
		return nil, &types.ConflictException{Message: aws.String("Schedule group " + name + " already exists.")}
	}
	g := s.newGroup(at, name)
	g.Token = aws.ToString(in.ClientToken)
	addTags(g, in.Tags)
	s.groups[at][name] = g
	return &scheduler.CreateScheduleGroupOutput{ScheduleGroupArn: aws.String(g.ARN)}, nil
}

// GetScheduleGroup returns one group.
func (s *Service) GetScheduleGroup(ctx context.Context, in *scheduler.GetScheduleGroupInput, optFns ...func(*scheduler.Options)) (*scheduler.GetScheduleGroupOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.group(at, aws.ToString(in.Name))
	if err != nil {
		return nil, err
	}
	return &scheduler.GetScheduleGroupOutput{
		Name: aws.String(g.Name), Arn: aws.String(g.ARN), State: types.ScheduleGroupStateActive, CreationDate: aws.Time(g.Created), LastModificationDate: aws.Time(g.Modified),
	}, nil
}

// DeleteScheduleGroup deletes a group with its schedules, at once; on AWS this
// takes a while.
func (s *Service) DeleteScheduleGroup(ctx context.Context, in *scheduler.DeleteScheduleGroupInput, optFns ...func(*scheduler.Options)) (*scheduler.DeleteScheduleGroupOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	name := aws.ToString(in.Name)
	if name == DefaultGroup {
		return nil, invalid("The default schedule group cannot be deleted.")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.group(at, name); err != nil {
		return nil, err
	}
	delete(s.groups[at], name)
	s.arm()
	return &scheduler.DeleteScheduleGroupOutput{}, nil
}

// ListScheduleGroups lists groups by name.
func (s *Service) ListScheduleGroups(ctx context.Context, in *scheduler.ListScheduleGroupsInput, optFns ...func(*scheduler.Options)) (*scheduler.ListScheduleGroupsOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.group(at, DefaultGroup); err != nil {
		return nil, err
	}
	all := []types.ScheduleGroupSummary{}
	for _, name := range slices.Sorted(maps.Keys(s.groups[at])) {
		g := s.groups[at][name]
		if strings.HasPrefix(name, aws.ToString(in.NamePrefix)) {
			all = append(all, types.ScheduleGroupSummary{
				Name: aws.String(name), Arn: aws.String(g.ARN), State: types.ScheduleGroupStateActive, CreationDate: aws.Time(g.Created), LastModificationDate: aws.Time(g.Modified),
			})
		}
	}
	page, next, err := scope.Page(all, aws.ToString(in.NextToken), pageLimit(in.MaxResults))
	if err != nil {
		return nil, invalid("the NextToken is not valid")
	}
	return &scheduler.ListScheduleGroupsOutput{ScheduleGroups: page, NextToken: scope.Optional(next)}, nil
}

// tagged returns the group of an ARN. Only groups have tags. The caller holds
// s.mu.
func (s *Service) tagged(at scope.Key, arn *string) (*group, error) {
	_, name, ok := strings.Cut(aws.ToString(arn), ":schedule-group/")
	if !ok {
		return nil, invalid("%q is not the ARN of a schedule group", aws.ToString(arn))
	}
	return s.group(at, name)
}

func addTags(g *group, tags []types.Tag) {
	for _, t := range tags {
		g.Tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
}

// ListTagsForResource returns the tags of a group.
func (s *Service) ListTagsForResource(ctx context.Context, in *scheduler.ListTagsForResourceInput, optFns ...func(*scheduler.Options)) (*scheduler.ListTagsForResourceOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.tagged(at, in.ResourceArn)
	if err != nil {
		return nil, err
	}
	tags := []types.Tag{}
	for _, key := range slices.Sorted(maps.Keys(g.Tags)) {
		tags = append(tags, types.Tag{Key: aws.String(key), Value: aws.String(g.Tags[key])})
	}
	return &scheduler.ListTagsForResourceOutput{Tags: tags}, nil
}

// TagResource adds tags to a group.
func (s *Service) TagResource(ctx context.Context, in *scheduler.TagResourceInput, optFns ...func(*scheduler.Options)) (*scheduler.TagResourceOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.tagged(at, in.ResourceArn)
	if err != nil {
		return nil, err
	}
	addTags(g, in.Tags)
	return &scheduler.TagResourceOutput{}, nil
}

// UntagResource removes tags from a group.
func (s *Service) UntagResource(ctx context.Context, in *scheduler.UntagResourceInput, optFns ...func(*scheduler.Options)) (*scheduler.UntagResourceOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.tagged(at, in.ResourceArn)
	if err != nil {
		return nil, err
	}
	for _, key := range in.TagKeys {
		delete(g.Tags, key)
	}
	return &scheduler.UntagResourceOutput{}, nil
}
