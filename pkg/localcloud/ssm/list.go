package ssm

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
)

// GetCommandInvocation returns the result of a command on one instance.
func (s *Service) GetCommandInvocation(ctx context.Context, in *ssm.GetCommandInvocationInput, optFns ...func(*ssm.Options)) (*ssm.GetCommandInvocationOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.command(at, aws.ToString(in.CommandId))
	if err != nil {
		return nil, &types.InvocationDoesNotExist{}
	}
	inv, ok := c.invocation(aws.ToString(in.InstanceId))
	if !ok {
		return nil, &types.InvocationDoesNotExist{}
	}
	if name := aws.ToString(in.PluginName); name != "" && name != c.plugin() {
		return nil, &types.InvalidPluginName{Message: aws.String(fmt.Sprintf("The only step of %s is %s, not %q.", c.Document, c.plugin(), name))}
	}
	out := &ssm.GetCommandInvocationOutput{
		CommandId: in.CommandId, InstanceId: in.InstanceId, Comment: aws.String(c.Comment), DocumentName: aws.String(c.Document),
		DocumentVersion: aws.String(c.Version), PluginName: aws.String(c.plugin()), ResponseCode: inv.ExitCode,
		Status: inv.Status, StatusDetails: aws.String(inv.Details),
		StandardOutputContent: aws.String(inv.Stdout), StandardErrorContent: aws.String(inv.Stderr),
		StandardOutputUrl: aws.String(inv.StdoutURL), StandardErrorUrl: aws.String(inv.StderrURL),
		ExecutionStartDateTime: aws.String(""), ExecutionEndDateTime: aws.String(""), ExecutionElapsedTime: aws.String(""),
	}
	if !inv.Started.IsZero() {
		out.ExecutionStartDateTime = aws.String(inv.Started.Format("2006-01-02T15:04:05.000Z"))
	}
	if !inv.Started.IsZero() && !inv.Ended.IsZero() {
		out.ExecutionEndDateTime = aws.String(inv.Ended.Format("2006-01-02T15:04:05.000Z"))
		out.ExecutionElapsedTime = aws.String(fmt.Sprintf("PT%.3fS", inv.Ended.Sub(inv.Started).Seconds()))
	}
	return out, nil
}

// ListCommands lists commands, newest first.
func (s *Service) ListCommands(ctx context.Context, in *ssm.ListCommandsInput, optFns ...func(*ssm.Options)) (*ssm.ListCommandsOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []types.Command
	for _, c := range slices.Backward(s.commands[at]) {
		if in.CommandId != nil && c.ID != *in.CommandId {
			continue
		}
		if in.InstanceId != nil {
			if _, ok := c.invocation(*in.InstanceId); !ok {
				continue
			}
		}
		status, _ := c.status()
		ok, err := matches(c, string(status), in.Filters)
		if err != nil {
			return nil, err
		}
		if ok {
			found = append(found, c.api())
		}
	}
	page, next, err := scope.Page(found, aws.ToString(in.NextToken), limitOf(in.MaxResults, 50))
	if err != nil {
		return nil, err
	}
	return &ssm.ListCommandsOutput{Commands: page, NextToken: token(next)}, nil
}

// ListCommandInvocations lists commands by instance, newest first.
func (s *Service) ListCommandInvocations(ctx context.Context, in *ssm.ListCommandInvocationsInput, optFns ...func(*ssm.Options)) (*ssm.ListCommandInvocationsOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []types.CommandInvocation
	for _, c := range slices.Backward(s.commands[at]) {
		if in.CommandId != nil && c.ID != *in.CommandId {
			continue
		}
		for _, inv := range c.Invocations {
			if in.InstanceId != nil && inv.InstanceID != *in.InstanceId {
				continue
			}
			ok, err := matches(c, string(inv.Status), in.Filters)
			if err != nil {
				return nil, err
			}
			if ok {
				found = append(found, inv.api(c, in.Details))
			}
		}
	}
	page, next, err := scope.Page(found, aws.ToString(in.NextToken), limitOf(in.MaxResults, 50))
	if err != nil {
		return nil, err
	}
	return &ssm.ListCommandInvocationsOutput{CommandInvocations: page, NextToken: token(next)}, nil
}

func (i *invocation) api(c *command, details bool) types.CommandInvocation {
	out := types.CommandInvocation{
		CommandId: aws.String(c.ID), InstanceId: aws.String(i.InstanceID), Comment: aws.String(c.Comment),
		DocumentName: aws.String(c.Document), DocumentVersion: aws.String(c.Version), RequestedDateTime: aws.Time(c.Requested),
		Status: i.Status, StatusDetails: aws.String(i.Details), CommandPlugins: []types.CommandPlugin{},
		StandardOutputUrl: aws.String(i.StdoutURL), StandardErrorUrl: aws.String(i.StderrURL),
	}
	if !details {
		return out
	}
	status := types.CommandPluginStatus(i.Status)
	switch i.Status {
	case types.CommandInvocationStatusDelayed, types.CommandInvocationStatusCancelling:
		status = types.CommandPluginStatusInProgress
	}
	plugin := types.CommandPlugin{
		Name: aws.String(c.plugin()), Status: status, StatusDetails: aws.String(i.Details), ResponseCode: i.ExitCode,
		Output: aws.String(pluginOutput(i.Stdout, i.Stderr)), OutputS3BucketName: aws.String(c.Bucket), OutputS3KeyPrefix: aws.String(c.Prefix),
		StandardOutputUrl: aws.String(i.StdoutURL), StandardErrorUrl: aws.String(i.StderrURL),
	}
	if !i.Started.IsZero() {
		plugin.ResponseStartDateTime = aws.Time(i.Started)
	}
	if !i.Ended.IsZero() {
		plugin.ResponseFinishDateTime = aws.Time(i.Ended)
	}
	out.CommandPlugins = append(out.CommandPlugins, plugin)
	return out
}

// matches reports whether all CommandFilters match.
func matches(c *command, status string, filters []types.CommandFilter) (bool, error) {
	for _, f := range filters {
		value := aws.ToString(f.Value)
		switch f.Key {
		case types.CommandFilterKeyStatus:
			if value != status {
				return false, nil
			}
		case types.CommandFilterKeyDocumentName:
			if value != c.Document {
				return false, nil
			}
		case types.CommandFilterKeyInvokedAfter, types.CommandFilterKeyInvokedBefore:
			when, err := time.Parse(time.RFC3339, value)
			if err != nil {
				return false, &types.InvalidFilterKey{}
			}
			if after := c.Requested.After(when); after != (f.Key == types.CommandFilterKeyInvokedAfter) {
				return false, nil
			}
		case types.CommandFilterKeyExecutionStage:
			executing := slices.Contains([]string{"Pending", "InProgress", "Cancelling"}, status)
			if executing != (value == "Executing") {
				return false, nil
			}
		default:
			return false, &types.InvalidFilterKey{}
		}
	}
	return true, nil
}

// DescribeInstanceInformation lists the instances whose agent has answered Run Command.
// PingStatus is Online while the agent answers.
func (s *Service) DescribeInstanceInformation(ctx context.Context, in *ssm.DescribeInstanceInformationInput, optFns ...func(*ssm.Options)) (*ssm.DescribeInstanceInformationOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	wanted := map[string][]string{}
	for _, f := range in.Filters {
		wanted[aws.ToString(f.Key)] = f.Values
	}
	for _, f := range in.InstanceInformationFilterList {
		wanted[string(f.Key)] = f.ValueSet
	}
	for name := range wanted {
		if !slices.Contains([]string{"InstanceIds", "PingStatus", "PlatformTypes", "ResourceType"}, name) {
			return nil, &types.InvalidFilterKey{}
		}
	}
	ids, filtered := wanted["InstanceIds"]
	if !filtered {
		ids = s.candidates(ctx, at)
	}
	var found []types.InstanceInformation
	for _, id := range slices.Compact(slices.Sorted(slices.Values(ids))) {
		info, ok := s.information(ctx, at, id)
		if ok && allowed(wanted, "PingStatus", string(info.PingStatus)) &&
			allowed(wanted, "PlatformTypes", string(info.PlatformType)) && allowed(wanted, "ResourceType", string(info.ResourceType)) {
			found = append(found, info)
		}
	}
	page, next, err := scope.Page(found, aws.ToString(in.NextToken), limitOf(in.MaxResults, 50))
	if err != nil {
		return nil, err
	}
	return &ssm.DescribeInstanceInformationOutput{InstanceInformationList: page, NextToken: token(next)}, nil
}

func allowed(wanted map[string][]string, name, value string) bool {
	values, ok := wanted[name]
	return !ok || slices.Contains(values, value)
}

func (s *Service) candidates(ctx context.Context, at scope.Key) []string {
	if s.cfg.Instances != nil {
		return s.cfg.Instances(ctx, at.Account, at.Region)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for id := range s.seen[at] {
		ids = append(ids, id)
	}
	return ids
}

// information returns the registration of an instance's agent. ok is false if the agent
// never registered or the instance no longer exists.
func (s *Service) information(ctx context.Context, at scope.Key, id string) (types.InstanceInformation, bool) {
	machine, state, ok := s.cfg.Machines.Machine(at.Account, at.Region, id)
	if !ok || state == ec2types.InstanceStateNameTerminated {
		return types.InstanceInformation{}, false
	}
	status := types.PingStatusConnectionLost
	var when registration
	if machine != nil && state == ec2types.InstanceStateNameRunning && machine.Ping(ctx) == nil {
		status, when = types.PingStatusOnline, s.register(at, id)
	} else {
		s.mu.Lock()
		when, ok = s.seen[at][id]
		s.mu.Unlock()
		if !ok {
			return types.InstanceInformation{}, false
		}
	}
	return types.InstanceInformation{
		InstanceId: aws.String(id), PingStatus: status, PlatformType: types.PlatformTypeLinux, ResourceType: types.ResourceTypeEc2Instance,
		RegistrationDate: aws.Time(when.First), LastPingDateTime: aws.Time(when.Last),
	}, true
}

func limitOf(limit *int32, otherwise int) int {
	if limit == nil || *limit <= 0 {
		return otherwise
	}
	return int(*limit)
}

func token(next string) *string {
	if next == "" {
		return nil
	}
	return aws.String(next)
}
