package ec2

import (
	"context"
	"encoding/base64"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

const (
	maxConsole  = 64 << 10        // GetConsoleOutput returns the last 64 KiB
	pingTimeout = 2 * time.Second // for the answer of a guest
)

// DescribeInstanceStatus returns for running instances whether their guests
// answer: initializing until the first answer, then ok.
func (s *Service) DescribeInstanceStatus(ctx context.Context, in *ec2.DescribeInstanceStatusInput, optFns ...func(*ec2.Options)) (*ec2.DescribeInstanceStatusOutput, error) {
	c := s.caller(ctx, optFns)
	if len(in.InstanceIds) > 0 && in.MaxResults != nil {
		return nil, wire.Errorf("InvalidParameterCombination", "The parameter instancesSet cannot be used with the parameter maxResults")
	}
	statuses, silent, err := s.statuses(c, in)
	if err != nil {
		return nil, err
	}
	// Ask the guests without the lock, so that a guest that hangs does not block
	// EC2.
	for n, m := range silent {
		if m != nil && s.answers(ctx, *statuses[n].InstanceId, m) {
			statuses[n].InstanceStatus = summary(types.SummaryStatusOk)
			statuses[n].SystemStatus = summary(types.SummaryStatusOk)
		}
	}
	statuses, err = statusFilters().apply(statuses, in.Filters, nil)
	if err != nil {
		return nil, err
	}
	statuses, next, err := page(statuses, in.NextToken, in.MaxResults, 5)
	if err != nil {
		return nil, err
	}
	return &ec2.DescribeInstanceStatusOutput{InstanceStatuses: statuses, NextToken: next}, nil
}

// statuses returns the known statuses, and for each the machine that has not
// answered yet, or nil.
func (s *Service) statuses(c wire.Caller, in *ec2.DescribeInstanceStatusInput) (statuses []types.InstanceStatus, silent []vm.Machine, err error) {
	s.mu.Lock()
	defer s.unlock()
	list, err := s.selectInstances(c, in.InstanceIds, nil)
	if err != nil {
		return nil, nil, err
	}
	statuses = []types.InstanceStatus{}
	for _, i := range list {
		running := i.State.Name == types.InstanceStateNameRunning
		if !running && !aws.ToBool(in.IncludeAllInstances) {
			continue
		}
		state := *i.State
		health := types.SummaryStatusNotApplicable
		var ask vm.Machine
		switch {
		case running && i.reached:
			health = types.SummaryStatusOk
		case running:
			health, ask = types.SummaryStatusInitializing, i.machine
		}
		statuses = append(statuses, types.InstanceStatus{InstanceId: i.InstanceId, AvailabilityZone: i.Placement.AvailabilityZone,
			InstanceState: &state, InstanceStatus: summary(health), SystemStatus: summary(health)})
		silent = append(silent, ask)
	}
	return statuses, silent, nil
}

func (s *Service) answers(ctx context.Context, id string, m vm.Machine) bool {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	if m.Ping(ctx) != nil {
		return false
	}
	s.mu.Lock()
	defer s.unlock()
	if i, ok := s.st.Instances[id]; ok && i.machine == m {
		i.reached = true
	}
	return true
}

func summary(status types.SummaryStatus) *types.InstanceStatusSummary {
	detail := types.InstanceStatusDetails{Name: types.StatusNameReachability, Status: types.StatusTypeInitializing}
	switch status {
	case types.SummaryStatusOk:
		detail.Status = types.StatusTypePassed
	case types.SummaryStatusNotApplicable:
		return &types.InstanceStatusSummary{Status: status}
	}
	return &types.InstanceStatusSummary{Status: status, Details: []types.InstanceStatusDetails{detail}}
}

func statusFilters() filterTable[types.InstanceStatus] {
	return filterTable[types.InstanceStatus]{
		"availability-zone":      func(i types.InstanceStatus) []string { return one(i.AvailabilityZone) },
		"instance-state-name":    func(i types.InstanceStatus) []string { return []string{string(i.InstanceState.Name)} },
		"instance-status.status": func(i types.InstanceStatus) []string { return []string{string(i.InstanceStatus.Status)} },
		"system-status.status":   func(i types.InstanceStatus) []string { return []string{string(i.SystemStatus.Status)} },
	}
}

// GetConsoleOutput returns the last 64 KiB of the guest's serial console, also
// of an instance that has stopped or was terminated within the hour.
func (s *Service) GetConsoleOutput(ctx context.Context, in *ec2.GetConsoleOutputInput, optFns ...func(*ec2.Options)) (*ec2.GetConsoleOutputOutput, error) {
	c := s.caller(ctx, optFns)
	s.mu.Lock()
	i, err := s.instanceNamed(c, in.InstanceId)
	if err != nil {
		s.unlock()
		return nil, err
	}
	m, text := i.machine, i.LastConsole
	s.unlock()
	if m != nil {
		if text, err = m.Console(); err != nil {
			return nil, err
		}
	}
	out := &ec2.GetConsoleOutputOutput{InstanceId: in.InstanceId, Timestamp: aws.Time(s.cfg.Clock.Now())}
	if len(text) > 0 {
		out.Output = aws.String(base64.StdEncoding.EncodeToString(consoleTail(text)))
	}
	return out, nil
}

func consoleTail(text []byte) []byte {
	return slices.Clone(text[max(0, len(text)-maxConsole):])
}
