package ssm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// wrapper runs the script from stdin in directory $1. A shell script is never written to
// the guest's disk, because everything on a builder's disk ends up in the image. A script
// for another interpreter, $2, needs a file while it runs.
const wrapper = `cd -- "$1" || exit 1
if [ -z "$2" ]; then script=$(cat; printf x); exec </dev/null; eval "${script%x}"; exit; fi
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
cat >"$dir/script" || exit 1
$2 "$dir/script" </dev/null`

// guestCommand returns the command that runs a script in a guest.
func guestCommand(script, dir string, timeout time.Duration) vm.Command {
	shell, interpreter := "/bin/sh", ""
	if line, found := strings.CutPrefix(firstLine(script), "#!"); found {
		switch line = strings.TrimSpace(line); {
		case line == "/bin/sh", line == "/usr/bin/env sh":
		case line == "/bin/bash", line == "/usr/bin/bash", line == "/usr/bin/env bash":
			shell = "/bin/bash"
		default:
			interpreter = line
		}
	}
	if dir == "" {
		dir = "/"
	}
	return vm.Command{
		Argv:  []string{shell, "-c", wrapper, "ssm-run-command", dir, interpreter},
		Stdin: []byte(script), Timeout: timeout,
	}
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// run takes an invocation from Pending to its end.
func (s *Service) run(ctx context.Context, at scope.Key, c *command, inv *invocation) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.mu.Lock()
	if inv.over() || inv.Status == types.CommandInvocationStatusCancelling {
		s.mu.Unlock()
		s.finish(ctx, at, c, inv, outcome{status: types.CommandInvocationStatusCancelled, details: "Cancelled", exit: -1})
		return
	}
	inv.cancel = cancel
	s.mu.Unlock()
	s.finish(context.WithoutCancel(ctx), at, c, inv, s.execute(ctx, at, c, inv))
}

// outcome is how an invocation ended.
type outcome struct {
	status         types.CommandInvocationStatus
	details        string
	exit           int32
	stdout, stderr []byte
}

func (s *Service) execute(ctx context.Context, at scope.Key, c *command, inv *invocation) outcome {
	machine, err := s.deliver(ctx, at, c, inv.InstanceID)
	switch {
	case ctx.Err() != nil:
		return outcome{status: types.CommandInvocationStatusCancelled, details: "Cancelled", exit: -1}
	case errors.Is(err, context.DeadlineExceeded):
		return outcome{status: types.CommandInvocationStatusTimedOut, details: detailsDelivery, exit: -1}
	case err != nil:
		return outcome{status: types.CommandInvocationStatusFailed, details: detailsUndeliverable, exit: -1, stderr: []byte(err.Error())}
	}
	s.mu.Lock()
	inv.Status, inv.Details, inv.Started = types.CommandInvocationStatusInProgress, "InProgress", s.cfg.Clock.Now()
	s.mu.Unlock()
	s.announce(ctx, at, c, inv)

	result, err := machine.Exec(ctx, guestCommand(c.script, c.dir, c.Execution))
	out := outcome{exit: int32(result.ExitCode), stdout: result.Stdout, stderr: result.Stderr} // exit codes have eight bits
	switch {
	case ctx.Err() != nil:
		out.status, out.details, out.exit = types.CommandInvocationStatusCancelled, "Cancelled", -1
	case result.TimedOut, errors.Is(err, context.DeadlineExceeded):
		out.status, out.details, out.exit = types.CommandInvocationStatusTimedOut, detailsExecution, -1
	case err != nil:
		// It is not retried, because the guest may have done a part of it.
		out.status, out.details, out.exit = types.CommandInvocationStatusFailed, detailsUndeliverable, -1
		out.stderr = fmt.Appendf(out.stderr, "the guest was lost while the command was running: %v\n", err)
	case result.ExitCode != 0:
		out.status, out.details = types.CommandInvocationStatusFailed, "Failed"
	default:
		out.status, out.details = types.CommandInvocationStatusSuccess, "Success"
	}
	return out
}

// deliver waits until the guest accepts commands. Its error is context.DeadlineExceeded
// if that takes longer than the command allows.
func (s *Service) deliver(ctx context.Context, at scope.Key, c *command, instanceID string) (vm.Machine, error) {
	for {
		machine, state, ok := s.cfg.Machines.Machine(at.Account, at.Region, instanceID)
		if !ok || state == ec2types.InstanceStateNameTerminated || state == ec2types.InstanceStateNameShuttingDown {
			return nil, fmt.Errorf("instance %s was terminated before the command reached it", instanceID)
		}
		if machine != nil && state == ec2types.InstanceStateNameRunning {
			if err := machine.Ping(ctx); err == nil {
				s.register(at, instanceID)
				return machine, nil
			}
		}
		if s.cfg.Clock.Now().Sub(c.Requested) >= c.Delivery {
			return nil, context.DeadlineExceeded
		}
		if err := s.cfg.Clock.Sleep(ctx, s.cfg.PollInterval); err != nil {
			return nil, err
		}
	}
}

func (s *Service) finish(ctx context.Context, at scope.Key, c *command, inv *invocation, out outcome) {
	var stdoutURL, stderrURL string
	if c.Bucket != "" {
		stdoutURL = s.upload(ctx, c, inv.InstanceID, "stdout", out.stdout)
		stderrURL = s.upload(ctx, c, inv.InstanceID, "stderr", out.stderr)
	}
	s.mu.Lock()
	inv.Status, inv.Details, inv.ExitCode, inv.Ended = out.status, out.details, out.exit, s.cfg.Clock.Now()
	inv.Stdout = cut(strings.ToValidUTF8(string(out.stdout), "\uFFFD"), stdoutLimit, stdoutCut)
	inv.Stderr = cut(strings.ToValidUTF8(string(out.stderr), "\uFFFD"), stderrLimit, stderrCut)
	inv.StdoutURL, inv.StderrURL, inv.cancel = stdoutURL, stderrURL, nil
	s.mu.Unlock()
	s.announce(ctx, at, c, inv)
}

// upload stores one stream in the command's bucket, under the key that the agent uses,
// and returns its URL. The URL is empty if the stream is empty or the upload failed: as on
// AWS, a failed upload does not fail the command.
func (s *Service) upload(ctx context.Context, c *command, instanceID, stream string, data []byte) string {
	if len(data) == 0 {
		return ""
	}
	key := strings.Join([]string{c.ID, instanceID, "awsrunShellScript", c.Step, stream}, "/")
	if c.Prefix != "" {
		key = c.Prefix + "/" + key
	}
	if err := s.cfg.Objects.Put(ctx, c.Bucket, key, "text/plain", bytes.NewReader(data)); err != nil {
		s.cfg.Logger.Warn("output of a command could not be stored", "command", c.ID, "instance", instanceID, "bucket", c.Bucket, "key", key, "error", err)
		return ""
	}
	return "https://" + partition.Host("s3", c.BucketRegion) + "/" + c.Bucket + "/" + key
}

// announce sends the events of an invocation's new status.
func (s *Service) announce(ctx context.Context, at scope.Key, c *command, inv *invocation) {
	s.mu.Lock()
	changes := changesOf(at, c, inv)
	s.mu.Unlock()
	s.send(ctx, at, changes)
}

func (s *Service) send(ctx context.Context, at scope.Key, changes []statusChange) {
	for _, e := range changes {
		s.emit(ctx, at, e.detailType, e.resources, e.detail)
	}
}

// statusChange is an event of Run Command
// (https://docs.aws.amazon.com/systems-manager/latest/userguide/monitoring-systems-manager-event-examples.html).
type statusChange struct {
	detailType string
	resources  []string
	detail     map[string]any
}

// eventTime is the format of times in the events of Run Command.
const eventTime = "2006-01-02T15:04:05.000Z"

// changesOf returns the events of an invocation's new status: its own event and, if the
// status of the whole command has changed too, that of the command. s.mu is held.
func changesOf(at scope.Key, c *command, inv *invocation) []statusChange {
	arn := func(instanceID string) string {
		return partition.ARN("ec2", at.Region, at.Account, "instance/"+instanceID)
	}
	requested := c.Requested.UTC().Format(eventTime)
	out := []statusChange{{"EC2 Command Invocation Status-change Notification", []string{arn(inv.InstanceID)}, map[string]any{
		"command-id": c.ID, "document-name": c.Document, "requested-date-time": requested, "instance-id": inv.InstanceID, "status": string(inv.Status),
	}}}
	status, _ := c.status()
	if status == c.Announced {
		return out
	}
	c.Announced = status
	var instances []string
	for _, i := range c.Invocations {
		instances = append(instances, arn(i.InstanceID))
	}
	return append(out, statusChange{"EC2 Command Status-change Notification", instances, map[string]any{
		"command-id": c.ID, "document-name": c.Document, "requested-date-time": requested, "expire-after": c.expires().UTC().Format(eventTime),
		"parameters": c.Parameters, "status": string(status),
	}})
}

func (s *Service) register(at scope.Key, instanceID string) registration {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.cfg.Clock.Now()
	if s.seen[at] == nil {
		s.seen[at] = map[string]registration{}
	}
	r, known := s.seen[at][instanceID]
	if !known {
		r.First = now
	}
	r.Last = now
	s.seen[at][instanceID] = r
	return r
}
