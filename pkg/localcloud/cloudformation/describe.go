package cloudformation

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
)

// pageSize is the number of stacks, events or resources in one answer
// (https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/).
const pageSize = 100

func (st *stack) describe() types.Stack {
	out := types.Stack{
		StackId: aws.String(st.ARN), StackName: aws.String(st.Name), StackStatus: st.Status, StackStatusReason: scope.Optional(st.Reason),
		CreationTime: aws.Time(st.Created), LastUpdatedTime: optionalTime(st.Updated), DeletionTime: optionalTime(st.Deleted),
		Description: scope.Optional(st.Description), Parameters: masked(st.Parameters, st.Hidden), Tags: slices.Clone(st.Tags),
		Capabilities: slices.Clone(st.Capabilities), NotificationARNs: slices.Clone(st.Notifications), RoleARN: scope.Optional(st.RoleARN),
		Outputs: slices.Clone(st.Outputs), EnableTerminationProtection: aws.Bool(st.Protected), DisableRollback: aws.Bool(st.DisableRollback),
		RollbackConfiguration: &types.RollbackConfiguration{},
		DriftInformation:      &types.StackDriftInformation{StackDriftStatus: types.StackDriftStatusNotChecked},
	}
	return out
}

func optionalTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// DescribeStacks returns one stack, or all that are not deleted, newest first.
func (s *Service) DescribeStacks(ctx context.Context, in *cloudformation.DescribeStacksInput, optFns ...func(*cloudformation.Options)) (*cloudformation.DescribeStacksOutput, error) {
	k := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	if in.StackName != nil {
		st, err := s.find(k, *in.StackName)
		if err != nil {
			return nil, err
		}
		return &cloudformation.DescribeStacksOutput{Stacks: []types.Stack{st.describe()}}, nil
	}
	all := []types.Stack{}
	for _, st := range slices.Backward(s.stacks[k]) {
		if st.Status != types.StackStatusDeleteComplete {
			all = append(all, st.describe())
		}
	}
	page, next, err := scope.Page(all, aws.ToString(in.NextToken), pageSize)
	if err != nil {
		return nil, err
	}
	return &cloudformation.DescribeStacksOutput{Stacks: page, NextToken: scope.Optional(next)}, nil
}

// ListStacks lists stacks, including deleted ones, newest first.
func (s *Service) ListStacks(ctx context.Context, in *cloudformation.ListStacksInput, optFns ...func(*cloudformation.Options)) (*cloudformation.ListStacksOutput, error) {
	k := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []types.StackSummary{}
	for _, st := range slices.Backward(s.stacks[k]) {
		if len(in.StackStatusFilter) > 0 && !slices.Contains(in.StackStatusFilter, st.Status) {
			continue
		}
		all = append(all, types.StackSummary{
			StackId: aws.String(st.ARN), StackName: aws.String(st.Name), StackStatus: st.Status, StackStatusReason: scope.Optional(st.Reason),
			CreationTime: aws.Time(st.Created), LastUpdatedTime: optionalTime(st.Updated), DeletionTime: optionalTime(st.Deleted),
			TemplateDescription: scope.Optional(st.Description),
		})
	}
	page, next, err := scope.Page(all, aws.ToString(in.NextToken), pageSize)
	if err != nil {
		return nil, err
	}
	return &cloudformation.ListStacksOutput{StackSummaries: page, NextToken: scope.Optional(next)}, nil
}

// DescribeStackEvents returns the events of a stack, newest first.
func (s *Service) DescribeStackEvents(ctx context.Context, in *cloudformation.DescribeStackEventsInput, optFns ...func(*cloudformation.Options)) (*cloudformation.DescribeStackEventsOutput, error) {
	k := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := s.find(k, aws.ToString(in.StackName))
	if err != nil {
		return nil, invalid("Stack [%s] does not exist", aws.ToString(in.StackName))
	}
	all := slices.Clone(st.Events)
	slices.Reverse(all)
	page, next, err := scope.Page(all, aws.ToString(in.NextToken), pageSize)
	if err != nil {
		return nil, err
	}
	return &cloudformation.DescribeStackEventsOutput{StackEvents: page, NextToken: scope.Optional(next)}, nil
}

// DescribeEvents returns why a change set has failed, or the events of a stack,
// newest first.
func (s *Service) DescribeEvents(ctx context.Context, in *cloudformation.DescribeEventsInput, optFns ...func(*cloudformation.Options)) (*cloudformation.DescribeEventsOutput, error) {
	k := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []types.OperationEvent{}
	if in.ChangeSetName != nil {
		c, _, err := s.changeSet(k, in.StackName, in.ChangeSetName)
		if err != nil {
			return nil, err
		}
		all = append(all, c.events()...)
	} else {
		st, err := s.find(k, aws.ToString(in.StackName))
		if err != nil {
			return nil, err
		}
		for _, e := range slices.Backward(st.Events) {
			all = append(all, types.OperationEvent{
				EventId: e.EventId, StackId: e.StackId, EventType: types.EventTypeProgressEvent, LogicalResourceId: e.LogicalResourceId,
				PhysicalResourceId: e.PhysicalResourceId, ResourceType: e.ResourceType, ResourceStatus: e.ResourceStatus,
				ResourceStatusReason: e.ResourceStatusReason, Timestamp: e.Timestamp, ClientRequestToken: e.ClientRequestToken,
			})
		}
	}
	page, next, err := scope.Page(all, aws.ToString(in.NextToken), pageSize)
	if err != nil {
		return nil, err
	}
	return &cloudformation.DescribeEventsOutput{OperationEvents: page, NextToken: scope.Optional(next)}, nil
}

// resources returns the resources of a stack, by logical id. The caller holds
// s.mu.
func (st *stack) resources() []*deployed {
	out := make([]*deployed, 0, len(st.Resources))
	for _, id := range slices.Sorted(maps.Keys(st.Resources)) {
		out = append(out, st.Resources[id])
	}
	return out
}

// DescribeStackResources returns the resources of a stack, at most 100.
func (s *Service) DescribeStackResources(ctx context.Context, in *cloudformation.DescribeStackResourcesInput, optFns ...func(*cloudformation.Options)) (*cloudformation.DescribeStackResourcesOutput, error) {
	k := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	out := &cloudformation.DescribeStackResourcesOutput{StackResources: []types.StackResource{}}
	stacks := s.stacks[k]
	if in.StackName != nil {
		st, err := s.find(k, *in.StackName)
		if err != nil {
			return nil, err
		}
		stacks = []*stack{st}
	}
	for _, st := range stacks {
		for _, r := range st.resources() {
			if in.LogicalResourceId != nil && *in.LogicalResourceId != r.LogicalID || in.PhysicalResourceId != nil && *in.PhysicalResourceId != r.PhysicalID {
				continue
			}
			if len(out.StackResources) == pageSize {
				break
			}
			out.StackResources = append(out.StackResources, types.StackResource{
				StackId: aws.String(st.ARN), StackName: aws.String(st.Name), LogicalResourceId: aws.String(r.LogicalID),
				PhysicalResourceId: scope.Optional(r.PhysicalID), ResourceType: aws.String(r.Type), ResourceStatus: r.Status,
				ResourceStatusReason: scope.Optional(r.Reason), Timestamp: aws.Time(r.Changed),
			})
		}
	}
	if in.PhysicalResourceId != nil && len(out.StackResources) == 0 {
		return nil, invalid("Stack for %s does not exist", *in.PhysicalResourceId)
	}
	return out, nil
}

// DescribeStackResource returns one resource.
func (s *Service) DescribeStackResource(ctx context.Context, in *cloudformation.DescribeStackResourceInput, optFns ...func(*cloudformation.Options)) (*cloudformation.DescribeStackResourceOutput, error) {
	k := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := s.find(k, aws.ToString(in.StackName))
	if err != nil {
		return nil, err
	}
	r, ok := st.Resources[aws.ToString(in.LogicalResourceId)]
	if !ok {
		return nil, invalid("Resource %s does not exist for stack %s", aws.ToString(in.LogicalResourceId), st.Name)
	}
	return &cloudformation.DescribeStackResourceOutput{StackResourceDetail: &types.StackResourceDetail{
		StackId: aws.String(st.ARN), StackName: aws.String(st.Name), LogicalResourceId: aws.String(r.LogicalID),
		PhysicalResourceId: scope.Optional(r.PhysicalID), ResourceType: aws.String(r.Type), ResourceStatus: r.Status,
		ResourceStatusReason: scope.Optional(r.Reason), LastUpdatedTimestamp: aws.Time(r.Changed),
	}}, nil
}

// ListStackResources lists the resources of a stack by logical id.
func (s *Service) ListStackResources(ctx context.Context, in *cloudformation.ListStackResourcesInput, optFns ...func(*cloudformation.Options)) (*cloudformation.ListStackResourcesOutput, error) {
	k := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := s.find(k, aws.ToString(in.StackName))
	if err != nil {
		return nil, err
	}
	page, next, err := scope.Page(st.resources(), aws.ToString(in.NextToken), pageSize)
	if err != nil {
		return nil, err
	}
	out := &cloudformation.ListStackResourcesOutput{StackResourceSummaries: []types.StackResourceSummary{}, NextToken: scope.Optional(next)}
	for _, r := range page {
		out.StackResourceSummaries = append(out.StackResourceSummaries, types.StackResourceSummary{
			LogicalResourceId: aws.String(r.LogicalID), PhysicalResourceId: scope.Optional(r.PhysicalID), ResourceType: aws.String(r.Type),
			ResourceStatus: r.Status, ResourceStatusReason: scope.Optional(r.Reason), LastUpdatedTimestamp: aws.Time(r.Changed),
		})
	}
	return out, nil
}

// ListExports lists the exports of all stacks by name.
func (s *Service) ListExports(ctx context.Context, in *cloudformation.ListExportsInput, optFns ...func(*cloudformation.Options)) (*cloudformation.ListExportsOutput, error) {
	k := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	found := map[string]types.Export{}
	for _, st := range s.stacks[k] {
		for _, o := range st.Outputs {
			if o.ExportName != nil {
				found[*o.ExportName] = types.Export{ExportingStackId: aws.String(st.ARN), Name: o.ExportName, Value: o.OutputValue}
			}
		}
	}
	page, next, err := scope.Page(sortedKeys(found), aws.ToString(in.NextToken), pageSize)
	if err != nil {
		return nil, err
	}
	out := &cloudformation.ListExportsOutput{Exports: []types.Export{}, NextToken: scope.Optional(next)}
	for _, name := range page {
		out.Exports = append(out.Exports, found[name])
	}
	return out, nil
}

// GetTemplate returns the template of a stack or change set in its original
// form.
func (s *Service) GetTemplate(ctx context.Context, in *cloudformation.GetTemplateInput, optFns ...func(*cloudformation.Options)) (*cloudformation.GetTemplateOutput, error) {
	k := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	stages := []types.TemplateStage{types.TemplateStageOriginal, types.TemplateStageProcessed}
	if in.ChangeSetName != nil {
		c, _, err := s.changeSet(k, in.StackName, in.ChangeSetName)
		if err != nil {
			return nil, err
		}
		return &cloudformation.GetTemplateOutput{TemplateBody: aws.String(c.Revision.Body), StagesAvailable: stages}, nil
	}
	st, err := s.find(k, aws.ToString(in.StackName))
	if err != nil {
		return nil, err
	}
	return &cloudformation.GetTemplateOutput{TemplateBody: aws.String(st.Body), StagesAvailable: stages}, nil
}

// GetTemplateSummary returns the parameters, resource types and capabilities of
// a template.
func (s *Service) GetTemplateSummary(ctx context.Context, in *cloudformation.GetTemplateSummaryInput, optFns ...func(*cloudformation.Options)) (*cloudformation.GetTemplateSummaryOutput, error) {
	k := scope.KeyOf(s.caller(ctx, optFns))
	var t *template
	var err error
	if in.StackName != nil {
		s.mu.Lock()
		st, findErr := s.find(k, *in.StackName)
		body := ""
		if findErr == nil {
			body = st.Body
		}
		s.mu.Unlock()
		if findErr != nil {
			return nil, findErr
		}
		t, err = parseTemplate(body)
	} else {
		t, err = s.read(ctx, in.TemplateBody, in.TemplateURL)
	}
	if err != nil {
		return nil, err
	}
	out := &cloudformation.GetTemplateSummaryOutput{Description: scope.Optional(t.Description), Parameters: []types.ParameterDeclaration{}}
	out.Capabilities, out.CapabilitiesReason = t.capabilities()
	for _, name := range sortedKeys(t.Parameters) {
		p := t.Parameters[name]
		shown := types.ParameterDeclaration{ParameterKey: aws.String(name), ParameterType: aws.String(p.Type), Description: scope.Optional(p.Description)}
		if text, err := textOf(p.Default, ""); err == nil {
			shown.DefaultValue = aws.String(text)
		}
		out.Parameters = append(out.Parameters, shown)
	}
	for _, id := range sortedKeys(t.Resources) {
		if !slices.Contains(out.ResourceTypes, t.Resources[id].Type) {
			out.ResourceTypes = append(out.ResourceTypes, t.Resources[id].Type)
		}
		out.ResourceIdentifierSummaries = append(out.ResourceIdentifierSummaries, types.ResourceIdentifierSummary{
			ResourceType: aws.String(t.Resources[id].Type), LogicalResourceIds: []string{id},
		})
	}
	return out, nil
}
