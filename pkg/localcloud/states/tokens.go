package states

import (
	"context"
	"encoding/json"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/states/asl"
)

// SendTaskSuccess implements sfn.Client's.
func (s *Service) SendTaskSuccess(_ context.Context, in *sfn.SendTaskSuccessInput, _ ...func(*sfn.Options)) (*sfn.SendTaskSuccessOutput, error) {
	output := []byte(aws.ToString(in.Output))
	if !json.Valid(output) || len(output) > asl.MaxPayload {
		return nil, &types.InvalidOutput{Message: aws.String("Invalid Output: it must be JSON of at most 262144 bytes")}
	}
	if err := s.signal(in.TaskToken, func(c *asl.Callback) bool { return c.Succeed(output) }); err != nil {
		return nil, err
	}
	return &sfn.SendTaskSuccessOutput{}, nil
}

// SendTaskFailure implements sfn.Client's.
func (s *Service) SendTaskFailure(_ context.Context, in *sfn.SendTaskFailureInput, _ ...func(*sfn.Options)) (*sfn.SendTaskFailureOutput, error) {
	failed := &asl.Error{Name: aws.ToString(in.Error), Cause: aws.ToString(in.Cause), Causeless: in.Cause == nil}
	if err := s.signal(in.TaskToken, func(c *asl.Callback) bool { return c.Fail(failed) }); err != nil {
		return nil, err
	}
	return &sfn.SendTaskFailureOutput{}, nil
}

// SendTaskHeartbeat implements sfn.Client's.
func (s *Service) SendTaskHeartbeat(_ context.Context, in *sfn.SendTaskHeartbeatInput, _ ...func(*sfn.Options)) (*sfn.SendTaskHeartbeatOutput, error) {
	if err := s.signal(in.TaskToken, (*asl.Callback).Heartbeat); err != nil {
		return nil, err
	}
	return &sfn.SendTaskHeartbeatOutput{}, nil
}

// signal reaches the task that waits for a token.
func (s *Service) signal(token *string, send func(*asl.Callback) bool) error {
	s.mu.Lock()
	c, known := s.tokens[aws.ToString(token)]
	s.mu.Unlock()
	switch {
	case !known:
		return &types.InvalidToken{Message: aws.String("Invalid Token: 'no task waits for it'")}
	case c == nil || !send(c):
		return &types.TaskTimedOut{Message: aws.String("Task Timed Out: 'the task has ended, timed out or been stopped'")}
	}
	return nil
}
