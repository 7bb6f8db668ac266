package ec2

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
)

// errClosed ends an instance's life when the Service is closed.
var errClosed = errors.New("the machine is gone")

// life runs one life of an instance in the background, from pending until its
// machine has ended. If trouble is not empty, the launch fails for that reason.
func (s *Service) life(ctx context.Context, i *instance, trouble string) {
	m, err := s.startMachine(ctx, i, trouble)
	var public *forward
	if err == nil && i.Public {
		public = s.openForward(i, m)
	}
	s.mu.Lock()
	if err != nil {
		s.neverRan(i, trouble, err)
		s.unlock()
		return
	}
	i.machine, i.reached = m, false
	wanted := i.State.Name == types.InstanceStateNamePending // otherwise it was terminated in the meantime
	if wanted {
		i.HasRun = true
		if public != nil {
			i.setPublic(public.address())
		}
		s.setInstanceState(i, types.InstanceStateNameRunning)
	}
	s.unlock()
	if !wanted {
		s.kill(i, m)
	}
	ended := s.cfg.Clock.Wait(ctx, m.Done(), 0)
	if ended != nil { // closed
		s.kill(i, m)
		if err := s.cfg.Clock.Wait(context.WithoutCancel(ctx), m.Done(), 0); err != nil {
			s.cfg.Logger.Error("wait for a killed machine", "instance", *i.InstanceId, "error", err)
		}
	}
	if err := public.close(); err != nil {
		s.cfg.Logger.Warn("close an instance's public address", "instance", *i.InstanceId, "error", err)
	}
	s.awaitStop(ctx, i)
	console, err := m.Console()
	if err != nil {
		s.cfg.Logger.Warn("the console of an ended machine cannot be read", "instance", *i.InstanceId, "error", err)
	}
	s.mu.Lock()
	defer s.unlock()
	i.machine, i.reached, i.stopDone = nil, false, nil
	i.setPublic("")
	i.LastConsole = consoleTail(console)
	s.settle(i, ended != nil)
}

// awaitStop waits until a running StopInstances has recorded how the guest
// stopped, before the instance becomes stopped.
func (s *Service) awaitStop(ctx context.Context, i *instance) {
	s.mu.Lock()
	stopDone := i.stopDone
	s.unlock()
	if stopDone == nil {
		return
	}
	if err := s.cfg.Clock.Wait(context.WithoutCancel(ctx), stopDone, 0); err != nil {
		s.cfg.Logger.Error("wait for a stop to finish", "instance", *i.InstanceId, "error", err)
	}
}

// startMachine waits for the pending time and for images that are being made
// from the instance's disk, then boots.
func (s *Service) startMachine(ctx context.Context, i *instance, trouble string) (vm.Machine, error) {
	if err := s.cfg.Clock.Sleep(ctx, s.cfg.Timing.PendingToRunning); err != nil {
		return nil, errClosed
	}
	s.mu.Lock()
	captured, state := i.captured, i.State.Name
	in := s.vmLaunch(i)
	s.unlock()
	if captured != nil {
		if err := s.cfg.Clock.Wait(ctx, captured, 0); err != nil {
			return nil, errClosed
		}
	}
	switch {
	case trouble != "":
		return nil, errors.New(trouble)
	case state != types.InstanceStateNamePending:
		return nil, errors.New("terminated before it was started")
	}
	if _, err := os.Stat(in.ImageDir); err != nil {
		return nil, errors.Join(errors.New("the image's data does not exist any more; build or register the image again"), err)
	}
	if err := os.MkdirAll(in.InstanceDir, 0o700); err != nil {
		return nil, err
	}
	return s.cfg.Driver.Start(ctx, in)
}

// neverRan sets the state of an instance whose machine could not be started: a
// new instance is terminated, a stopped one stays stopped.
func (s *Service) neverRan(i *instance, trouble string, err error) {
	if i.State.Name == types.InstanceStateNameShuttingDown {
		s.terminated(i)
		return
	}
	s.cfg.Logger.Error("an instance could not be started", "instance", *i.InstanceId, "image", aws.ToString(i.ImageId), "error", err)
	i.StateReason = serverFault(err.Error())
	if trouble != "" {
		i.StateReason = &types.StateReason{Code: aws.String("Client.InternalError"), Message: aws.String("Client.InternalError: Client error on launch: " + trouble)}
	}
	i.StateTransitionReason = i.StateReason.Code
	if i.HasRun && !errors.Is(err, errClosed) {
		s.setInstanceState(i, types.InstanceStateNameStopped)
		return
	}
	s.terminated(i)
}

// settle sets the state of an instance whose machine has ended. The caller holds
// s.mu.
func (s *Service) settle(i *instance, closed bool) {
	switch {
	case i.spared: // terminated before
		i.spared = false
		i.captures--
		s.releaseInstanceDir(i)
	case closed:
		i.StateReason = serverFault(errClosed.Error())
		s.terminated(i)
	case i.State.Name == types.InstanceStateNameStopping:
		s.setInstanceState(i, types.InstanceStateNameStopped)
	case i.State.Name == types.InstanceStateNameShuttingDown:
		s.terminated(i)
	default: // the guest powered itself off
		i.StateReason = &types.StateReason{Code: aws.String("Client.InstanceInitiatedShutdown"),
			Message: aws.String("Client.InstanceInitiatedShutdown: Instance initiated shutdown")}
		i.StateTransitionReason = aws.String("")
		if i.Shutdown == types.ShutdownBehaviorTerminate {
			s.setInstanceState(i, types.InstanceStateNameShuttingDown)
			s.terminated(i)
			return
		}
		s.setInstanceState(i, types.InstanceStateNameStopping)
		s.setInstanceState(i, types.InstanceStateNameStopped)
	}
}

// terminated removes the disk of a terminated instance. Its record stays for an
// hour.
func (s *Service) terminated(i *instance) {
	s.setInstanceState(i, types.InstanceStateNameTerminated)
	i.Terminated = s.cfg.Clock.Now()
	s.releaseVolumes(i)
	i.BlockDeviceMappings, i.NetworkInterfaces = nil, nil
	s.releaseInstanceDir(i)
}

func (s *Service) kill(i *instance, m vm.Machine) {
	if err := m.Kill(); err != nil {
		s.cfg.Logger.Error("a machine could not be killed", "instance", *i.InstanceId, "error", err)
	}
}

// stopMachine asks a guest to power off, and forces it after the grace time.
func (s *Service) stopMachine(ctx context.Context, i *instance, m vm.Machine, grace time.Duration) {
	defer close(i.stopDone)
	if err := s.cfg.Clock.Sleep(ctx, s.cfg.Timing.Stop); err != nil {
		return // closing the Service kills it
	}
	forced, err := m.Shutdown(ctx, grace)
	if err != nil {
		s.cfg.Logger.Warn("a guest could not be asked to power off; it is killed", "instance", *i.InstanceId, "error", err)
		s.kill(i, m)
	}
	if forced || err != nil {
		s.mu.Lock()
		defer s.unlock()
		// EC2 does not report this, but a guest that was forced off may not have
		// finished its shutdown, such as the seal.
		i.StateReason = &types.StateReason{Code: aws.String("Client.UserInitiatedShutdown"),
			Message: aws.String("Client.UserInitiatedShutdown: User initiated shutdown; the guest did not power off within " + grace.String() + " and was forced")}
	}
}

// endMachine kills a guest after the termination time, or ends an instance
// without a guest.
func (s *Service) endMachine(ctx context.Context, i *instance, m vm.Machine) {
	slept := s.cfg.Clock.Sleep(ctx, s.cfg.Timing.Terminate)
	switch {
	case m == nil:
		s.mu.Lock()
		defer s.unlock()
		s.terminated(i)
	case slept != nil: // closing the Service kills it
	case s.cfg.Spare != nil && s.cfg.Spare(*i.InstanceId, m):
		s.mu.Lock()
		defer s.unlock()
		if i.machine != nil { // otherwise it ended in the meantime
			i.spared = true
			i.captures++
			s.terminated(i)
		}
	default:
		s.kill(i, m)
	}
}
