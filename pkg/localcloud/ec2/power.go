package ec2

import (
	"context"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// StartInstances boots stopped instances again, with their disk.
func (s *Service) StartInstances(ctx context.Context, in *ec2.StartInstancesInput, optFns ...func(*ec2.Options)) (*ec2.StartInstancesOutput, error) {
	c := s.caller(ctx, optFns)
	s.mu.Lock()
	defer s.unlock()
	list, err := s.instancesNamed(c, in.InstanceIds)
	if err != nil {
		return nil, err
	}
	for _, i := range list {
		switch i.State.Name {
		case types.InstanceStateNameStopped:
			if err := s.capacity(c, string(i.InstanceType), aws.ToString(i.Placement.AvailabilityZone)); err != nil {
				return nil, err
			}
		case types.InstanceStateNamePending, types.InstanceStateNameRunning:
		default:
			return nil, wire.Errorf("IncorrectInstanceState", "The instance '%s' is not in a state from which it can be started.", *i.InstanceId)
		}
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	out := &ec2.StartInstancesOutput{}
	for _, i := range list {
		before := *i.State
		if before.Name == types.InstanceStateNameStopped {
			i.StateReason, i.StateTransitionReason = nil, aws.String("")
			i.LaunchTime = aws.Time(s.cfg.Clock.Now())
			s.setInstanceState(i, types.InstanceStateNamePending)
			s.background(func(ctx context.Context) { s.life(ctx, i, "") })
		}
		out.StartingInstances = append(out.StartingInstances, change(i, before))
	}
	return out, nil
}

// StopInstances asks guests to power off, and forces them after the grace time;
// with Force, at once.
func (s *Service) StopInstances(ctx context.Context, in *ec2.StopInstancesInput, optFns ...func(*ec2.Options)) (*ec2.StopInstancesOutput, error) {
	c := s.caller(ctx, optFns)
	if aws.ToBool(in.Hibernate) {
		return nil, wire.Errorf("UnsupportedHibernationConfiguration", "Hibernation is not enabled for the specified instances.")
	}
	s.mu.Lock()
	defer s.unlock()
	list, err := s.instancesNamed(c, in.InstanceIds)
	if err != nil {
		return nil, err
	}
	stoppable := []types.InstanceStateName{types.InstanceStateNameRunning, types.InstanceStateNameStopping, types.InstanceStateNameStopped}
	for _, i := range list {
		switch {
		case !slices.Contains(stoppable, i.State.Name):
			return nil, wire.Errorf("IncorrectInstanceState", "The instance '%s' is not in a state from which it can be stopped.", *i.InstanceId)
		case i.StopLocked:
			return nil, wire.Errorf("OperationNotPermitted", "The instance '%s' may not be stopped. Modify its 'disableApiStop' instance attribute and try again.", *i.InstanceId)
		}
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	out := &ec2.StopInstancesOutput{}
	for _, i := range list {
		before := *i.State
		s.stop(i, aws.ToBool(in.Force))
		out.StoppingInstances = append(out.StoppingInstances, change(i, before))
	}
	return out, nil
}

func (s *Service) stop(i *instance, force bool) {
	if i.State.Name == types.InstanceStateNameStopping && force && i.machine != nil {
		s.kill(i, i.machine)
		return
	}
	if i.State.Name != types.InstanceStateNameRunning {
		return
	}
	s.userInitiated(i)
	grace := s.cfg.Timing.stopGrace()
	if force {
		grace = time.Millisecond
	}
	m := i.machine
	i.stopDone = make(chan struct{})
	s.setInstanceState(i, types.InstanceStateNameStopping)
	s.background(func(ctx context.Context) { s.stopMachine(ctx, i, m, grace) })
}

// TerminateInstances ends instances and removes their disks.
func (s *Service) TerminateInstances(ctx context.Context, in *ec2.TerminateInstancesInput, optFns ...func(*ec2.Options)) (*ec2.TerminateInstancesOutput, error) {
	c := s.caller(ctx, optFns)
	s.mu.Lock()
	defer s.unlock()
	list, err := s.instancesNamed(c, in.InstanceIds)
	if err != nil {
		return nil, err
	}
	for _, i := range list {
		if i.TerminationLocked && i.live() {
			return nil, wire.Errorf("OperationNotPermitted", "The instance '%s' may not be terminated. Modify its 'disableApiTermination' instance attribute and try again.", *i.InstanceId)
		}
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	out := &ec2.TerminateInstancesOutput{}
	for _, i := range list {
		before := *i.State
		s.terminate(i)
		out.TerminatingInstances = append(out.TerminatingInstances, change(i, before))
	}
	return out, nil
}

func (s *Service) terminate(i *instance) {
	before := i.State.Name
	if before == types.InstanceStateNameShuttingDown || before == types.InstanceStateNameTerminated {
		return
	}
	s.userInitiated(i)
	s.setInstanceState(i, types.InstanceStateNameShuttingDown)
	if before == types.InstanceStateNamePending {
		return // its life notices before the boot, or kills the machine
	}
	m := i.machine
	s.background(func(ctx context.Context) { s.endMachine(ctx, i, m) })
}

func (s *Service) userInitiated(i *instance) {
	i.StateReason = &types.StateReason{Code: aws.String("Client.UserInitiatedShutdown"), Message: aws.String("Client.UserInitiatedShutdown: User initiated shutdown")}
	i.StateTransitionReason = aws.String("User initiated (" + s.cfg.Clock.Now().Format("2006-01-02 15:04:05 GMT") + ")")
}
