package sqs

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
)

// pageSize is the number of queues in a list
// (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ListQueues.html).
const pageSize = 1000

var queueName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,80}$`)

// CreateQueue makes a queue, or returns the existing one with that name if its
// attributes are the requested ones.
func (s *Service) CreateQueue(ctx context.Context, in *sqs.CreateQueueInput, optFns ...func(*sqs.Options)) (*sqs.CreateQueueOutput, error) {
	name := aws.ToString(in.QueueName)
	if !queueName.MatchString(name) {
		return nil, invalidValue("Queue name %q: 1 to 80 of letters, digits, - _ are allowed (the embedded SQS has no FIFO queues).", name)
	}
	if err := checkAttributes(in.Attributes); err != nil {
		return nil, err
	}
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	out := &sqs.CreateQueueOutput{QueueUrl: aws.String(s.urlOf(at, name))}
	if q, ok := s.queues[at][name]; ok {
		for key, value := range in.Attributes {
			if have := q.attribute(key); have != value {
				return nil, &types.QueueNameExists{Message: aws.String(fmt.Sprintf(
					"A queue already exists with the same name and a different value for attribute %s", key))}
			}
		}
		return out, nil
	}
	if s.queues[at] == nil {
		s.queues[at] = map[string]*queue{}
	}
	now := s.cfg.Clock.Now()
	q := &queue{
		Name: name, ARN: arnOf(at, name), Attributes: map[string]string{}, Tags: map[string]string{}, Created: now, Modified: now,
		arrived: make(chan struct{}),
	}
	maps.Copy(q.Attributes, in.Attributes)
	maps.Copy(q.Tags, in.Tags)
	s.queues[at][name] = q
	return out, nil
}

// GetQueueUrl returns the URL of a queue.
func (s *Service) GetQueueUrl(ctx context.Context, in *sqs.GetQueueUrlInput, optFns ...func(*sqs.Options)) (*sqs.GetQueueUrlOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	if owner := aws.ToString(in.QueueOwnerAWSAccountId); owner != "" {
		at.Account = owner
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.queues[at][aws.ToString(in.QueueName)]; !ok {
		return nil, noQueue()
	}
	return &sqs.GetQueueUrlOutput{QueueUrl: aws.String(s.urlOf(at, *in.QueueName))}, nil
}

// ListQueues lists the URLs of the caller's queues, by name.
func (s *Service) ListQueues(ctx context.Context, in *sqs.ListQueuesInput, optFns ...func(*sqs.Options)) (*sqs.ListQueuesOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for _, name := range slices.Sorted(maps.Keys(s.queues[at])) {
		if strings.HasPrefix(name, aws.ToString(in.QueueNamePrefix)) {
			names = append(names, name)
		}
	}
	limit := pageSize
	if in.MaxResults != nil {
		limit = int(*in.MaxResults)
	}
	page, next, err := scope.Page(names, aws.ToString(in.NextToken), limit)
	if err != nil {
		return nil, err
	}
	out := &sqs.ListQueuesOutput{NextToken: scope.Optional(next)}
	for _, name := range page {
		out.QueueUrls = append(out.QueueUrls, s.urlOf(at, name))
	}
	return out, nil
}

// DeleteQueue deletes a queue with its messages. Its name can be used again at
// once; on AWS one must wait a minute.
func (s *Service) DeleteQueue(ctx context.Context, in *sqs.DeleteQueueInput, optFns ...func(*sqs.Options)) (*sqs.DeleteQueueOutput, error) {
	region := s.caller(ctx, optFns).Region
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.find(in.QueueUrl, region)
	if err != nil {
		return nil, err
	}
	parts := strings.Split(q.ARN, ":")
	delete(s.queues[scope.Key{Account: parts[4], Region: parts[3]}], q.Name)
	q.wake()
	return &sqs.DeleteQueueOutput{}, nil
}

// GetQueueAttributes returns the requested attributes.
func (s *Service) GetQueueAttributes(ctx context.Context, in *sqs.GetQueueAttributesInput, optFns ...func(*sqs.Options)) (*sqs.GetQueueAttributesOutput, error) {
	region := s.caller(ctx, optFns).Region
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.find(in.QueueUrl, region)
	if err != nil {
		return nil, err
	}
	all := q.all(s.cfg.Clock.Now())
	if slices.Contains(in.AttributeNames, types.QueueAttributeNameAll) {
		return &sqs.GetQueueAttributesOutput{Attributes: all}, nil
	}
	out := map[string]string{}
	for _, name := range in.AttributeNames {
		if !slices.Contains(name.Values(), name) {
			return nil, &types.InvalidAttributeName{Message: aws.String("Unknown Attribute " + string(name) + ".")}
		}
		if value, ok := all[string(name)]; ok {
			out[string(name)] = value
		}
	}
	return &sqs.GetQueueAttributesOutput{Attributes: out}, nil
}

// SetQueueAttributes changes attributes. An empty text removes one.
func (s *Service) SetQueueAttributes(ctx context.Context, in *sqs.SetQueueAttributesInput, optFns ...func(*sqs.Options)) (*sqs.SetQueueAttributesOutput, error) {
	region := s.caller(ctx, optFns).Region
	if err := checkAttributes(in.Attributes); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.find(in.QueueUrl, region)
	if err != nil {
		return nil, err
	}
	for name, value := range in.Attributes {
		if value == "" {
			delete(q.Attributes, name)
			continue
		}
		q.Attributes[name] = value
	}
	q.Modified = s.cfg.Clock.Now()
	return &sqs.SetQueueAttributesOutput{}, nil
}

// TagQueue adds tags.
func (s *Service) TagQueue(ctx context.Context, in *sqs.TagQueueInput, optFns ...func(*sqs.Options)) (*sqs.TagQueueOutput, error) {
	region := s.caller(ctx, optFns).Region
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.find(in.QueueUrl, region)
	if err != nil {
		return nil, err
	}
	maps.Copy(q.Tags, in.Tags)
	return &sqs.TagQueueOutput{}, nil
}

// UntagQueue removes tags.
func (s *Service) UntagQueue(ctx context.Context, in *sqs.UntagQueueInput, optFns ...func(*sqs.Options)) (*sqs.UntagQueueOutput, error) {
	region := s.caller(ctx, optFns).Region
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.find(in.QueueUrl, region)
	if err != nil {
		return nil, err
	}
	for _, key := range in.TagKeys {
		delete(q.Tags, key)
	}
	return &sqs.UntagQueueOutput{}, nil
}

// ListQueueTags returns the tags.
func (s *Service) ListQueueTags(ctx context.Context, in *sqs.ListQueueTagsInput, optFns ...func(*sqs.Options)) (*sqs.ListQueueTagsOutput, error) {
	region := s.caller(ctx, optFns).Region
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.find(in.QueueUrl, region)
	if err != nil {
		return nil, err
	}
	return &sqs.ListQueueTagsOutput{Tags: maps.Clone(q.Tags)}, nil
}
