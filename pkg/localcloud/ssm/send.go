package ssm

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/google/uuid"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// Time limits of a command, in seconds
// (https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_SendCommand.html
// and the document AWS-RunShellScript).
const (
	defaultDelivery  = 3600
	shortestDelivery = 30
	longestDelivery  = 2_592_000
	defaultExecution = 3600
	longestExecution = 172_800
	mostInstances    = 50
)

// SendCommand runs a document on instances. It returns as soon as the
// command is accepted.
func (s *Service) SendCommand(ctx context.Context, in *ssm.SendCommandInput, optFns ...func(*ssm.Options)) (*ssm.SendCommandOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	c, err := s.newCommand(at, in)
	if err != nil {
		return nil, err
	}
	ids := slices.Compact(slices.Sorted(slices.Values(in.InstanceIds)))
	for _, id := range ids {
		if err := s.checkOnline(ctx, at, id); err != nil {
			return nil, err
		}
		c.Invocations = append(c.Invocations, &invocation{InstanceID: id, Status: types.CommandInvocationStatusPending, Details: "Pending", ExitCode: -1})
	}
	s.mu.Lock()
	c.Announced, _ = c.status()
	s.commands[at] = append(s.commands[at], c)
	out := c.api()
	s.mu.Unlock()
	for _, inv := range c.Invocations {
		s.work.Go(ctx, func(ctx context.Context) { s.run(ctx, at, c, inv) })
	}
	return &ssm.SendCommandOutput{Command: &out}, nil
}

func (s *Service) newCommand(at scope.Key, in *ssm.SendCommandInput) (*command, error) {
	name, version, doc, err := s.document(at, in)
	if err != nil {
		return nil, err
	}
	if len(in.Targets) > 0 {
		return nil, wire.Errorf("ValidationException", "The embedded SSM supports InstanceIds, not Targets.")
	}
	if len(in.InstanceIds) == 0 || len(in.InstanceIds) > mostInstances {
		return nil, wire.Errorf("ValidationException", "%d InstanceIds given; 1 to %d are allowed", len(in.InstanceIds), mostInstances)
	}
	script, err := doc.fill(in.Parameters)
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(script.text) == "" {
		return nil, &types.InvalidParameters{Message: aws.String("The script of the command is empty.")}
	}
	delivery := int32(defaultDelivery)
	if in.TimeoutSeconds != nil {
		delivery = *in.TimeoutSeconds
	}
	if delivery < shortestDelivery || delivery > longestDelivery {
		return nil, wire.Errorf("ValidationException", "TimeoutSeconds is %d; %d to %d are allowed", delivery, shortestDelivery, longestDelivery)
	}
	c := &command{
		ID: uuid.NewString(), Comment: aws.ToString(in.Comment), Parameters: in.Parameters, Requested: s.cfg.Clock.Now(),
		Delivery: time.Duration(delivery) * time.Second, Execution: script.timeout,
		Document: name, Version: version, Step: script.step, script: script.text, dir: script.dir,
		Bucket: aws.ToString(in.OutputS3BucketName), Prefix: strings.TrimSuffix(aws.ToString(in.OutputS3KeyPrefix), "/"),
		BucketRegion: at.Region,
	}
	if in.OutputS3Region != nil && *in.OutputS3Region != "" {
		c.BucketRegion = *in.OutputS3Region
	}
	if c.Bucket != "" && s.cfg.Objects == nil {
		return nil, &types.InvalidOutputFolder{Message: aws.String("No S3 is configured to take the output.")}
	}
	return c, nil
}

// checkOnline refuses an instance that Run Command could not reach.
func (s *Service) checkOnline(ctx context.Context, at scope.Key, id string) error {
	machine, state, ok := s.cfg.Machines.Machine(at.Account, at.Region, id)
	if !ok || machine == nil || state != ec2types.InstanceStateNameRunning {
		return &types.InvalidInstanceId{Message: aws.String(fmt.Sprintf("Instances [[%s]] not in a valid state for account %s", id, at.Account))}
	}
	if err := machine.Ping(ctx); err != nil {
		s.mu.Lock()
		_, registered := s.seen[at][id]
		s.mu.Unlock()
		if registered {
			return nil // it was online before; as on AWS, the command waits for it
		}
		return &types.InvalidInstanceId{Message: aws.String(fmt.Sprintf("Instances [[%s]] not in a valid state for account %s", id, at.Account))}
	}
	s.register(at, id)
	return nil
}

// CancelCommand ends the invocations of a command that have not ended.
func (s *Service) CancelCommand(ctx context.Context, in *ssm.CancelCommandInput, optFns ...func(*ssm.Options)) (*ssm.CancelCommandOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	changes, cancels, err := s.cancel(at, in)
	if err != nil {
		return nil, err
	}
	s.send(ctx, at, changes)
	for _, cancel := range cancels {
		cancel()
	}
	return &ssm.CancelCommandOutput{}, nil
}

// cancel marks the invocations of a command as being cancelled. It returns the events of
// this change and the functions that end running invocations.
func (s *Service) cancel(at scope.Key, in *ssm.CancelCommandInput) (changes []statusChange, cancels []func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.command(at, aws.ToString(in.CommandId))
	if err != nil {
		return nil, nil, err
	}
	for _, inv := range c.Invocations {
		if inv.over() || inv.Status == types.CommandInvocationStatusCancelling || len(in.InstanceIds) > 0 && !slices.Contains(in.InstanceIds, inv.InstanceID) {
			continue
		}
		inv.Status, inv.Details = types.CommandInvocationStatusCancelling, "Cancelling"
		changes = append(changes, changesOf(at, c, inv)...)
		if inv.cancel != nil {
			cancels = append(cancels, inv.cancel)
		}
	}
	return changes, cancels, nil
}

// command returns a command by id. s.mu is held.
func (s *Service) command(at scope.Key, id string) (*command, error) {
	for _, c := range s.commands[at] {
		if c.ID == id {
			return c, nil
		}
	}
	return nil, &types.InvalidCommandId{Message: aws.String(fmt.Sprintf("There is no command %q.", id))}
}
