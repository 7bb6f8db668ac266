package states

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"strings"

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
	c := s.tokens[aws.ToString(token)]
	e := s.executions[executionOf(aws.ToString(token))]
	s.mu.Unlock()
	switch {
	case c != nil && send(c):
		return nil
	case e == nil:
		return &types.InvalidToken{Message: aws.String("Invalid Token: 'Invalid token'")}
	}
	return &types.TaskTimedOut{Message: aws.String("Task Timed Out: 'Provided task does not exist anymore'")}
}

// A token holds the ARN of its execution and random bytes, in base64. So the token of a
// task that has ended can be distinguished from one that was never issued, also after a
// restart.
const (
	tokenPrefix = "AQ"
	tokenRandom = 64 // bytes
)

// newToken makes the token of a task of an execution. AWS limits tokens to 2,048
// characters, and an ARN here is far shorter.
func newToken(executionARN string) string {
	raw := make([]byte, tokenRandom, tokenRandom+len(executionARN))
	_, _ = rand.Read(raw) // never fails: see crypto/rand
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(append(raw, executionARN...))
}

// executionOf is the ARN of the execution that a token is of; empty for what is no
// token.
func executionOf(token string) string {
	rest, ok := strings.CutPrefix(token, tokenPrefix)
	raw, err := base64.RawURLEncoding.DecodeString(rest)
	if !ok || err != nil || len(raw) <= tokenRandom {
		return ""
	}
	return string(raw[tokenRandom:])
}

// machineOf is the ARN of the state machine that a token is of.
func (s *Service) machineOf(token *string) (arn string, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.executions[executionOf(aws.ToString(token))]; e != nil {
		return e.MachineARN, true
	}
	return "", false
}
