package guest_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/guest"
)

// fake is an SSM with at most two commands on each page.
type fake struct {
	ssm.DescribeInstanceInformationAPIClient
	commands   []types.Command
	sent       []*ssm.SendCommandInput
	invocation *ssm.GetCommandInvocationOutput
	err        error
}

func (f *fake) ListCommands(_ context.Context, in *ssm.ListCommandsInput, _ ...func(*ssm.Options)) (*ssm.ListCommandsOutput, error) {
	if f.err != nil {
		return nil, f.err
	}
	from := 0
	if in.NextToken != nil {
		from = len(*in.NextToken)
	}
	to := min(from+2, len(f.commands))
	out := &ssm.ListCommandsOutput{Commands: f.commands[from:to]}
	if to < len(f.commands) {
		out.NextToken = aws.String(strings.Repeat("x", to))
	}
	return out, nil
}

func (f *fake) SendCommand(_ context.Context, in *ssm.SendCommandInput, _ ...func(*ssm.Options)) (*ssm.SendCommandOutput, error) {
	f.sent = append(f.sent, in)
	c := types.Command{CommandId: aws.String("c-new"), Comment: in.Comment, InstanceIds: in.InstanceIds}
	f.commands = append(f.commands, c)
	return &ssm.SendCommandOutput{Command: &c}, nil
}

func (f *fake) GetCommandInvocation(context.Context, *ssm.GetCommandInvocationInput, ...func(*ssm.Options)) (*ssm.GetCommandInvocationOutput, error) {
	if f.invocation == nil {
		return nil, &types.InvocationDoesNotExist{}
	}
	return f.invocation, nil
}

func step() guest.Step {
	return guest.Step{InstanceID: "i-1", Execution: "run", Name: "seal", Script: "true", Timeout: 10 * time.Minute}
}

func command(id, comment string, at int64) types.Command {
	return types.Command{CommandId: &id, Comment: &comment, InstanceIds: []string{"i-1"}, RequestedDateTime: aws.Time(time.Unix(at, 0))}
}

func TestStepIsSentOnceAndFoundAgain(t *testing.T) {
	f := &fake{}
	r, err := guest.Do(t.Context(), f, step())
	require.NoError(t, err)
	assert.Equal(t, guest.Result{CommandID: "c-new"}, r)

	f.invocation = &ssm.GetCommandInvocationOutput{Status: types.CommandInvocationStatusFailed, ResponseCode: 3, StandardErrorContent: aws.String("no")}
	r, err = guest.Do(t.Context(), f, step())
	require.NoError(t, err)
	assert.Equal(t, guest.Result{CommandID: "c-new", Done: true, Status: "Failed", ExitCode: 3, Stderr: "no"}, r)
	assert.False(t, r.OK())

	require.Len(t, f.sent, 1)
	assert.Equal(t, "ami-factory:run:seal", *f.sent[0].Comment)
	assert.Equal(t, map[string][]string{"commands": {"true"}, "executionTimeout": {"600"}}, f.sent[0].Parameters)
}

func TestFirstCommandOfARaceWins(t *testing.T) {
	f := &fake{commands: []types.Command{
		command("c-3", "ami-factory:run:seal", 30), command("c-other", "ami-factory:other:seal", 5),
		command("c-boot", "ami-factory:run:boot", 1), command("c-2", "ami-factory:run:seal", 20),
	}}
	id, err := guest.Find(t.Context(), f, step())
	require.NoError(t, err)
	assert.Equal(t, "c-2", id)
}

func TestCommandStates(t *testing.T) {
	for status, done := range map[types.CommandInvocationStatus]bool{
		types.CommandInvocationStatusPending: false, types.CommandInvocationStatusInProgress: false,
		types.CommandInvocationStatusDelayed: false, types.CommandInvocationStatusCancelling: false,
		types.CommandInvocationStatusSuccess: true, types.CommandInvocationStatusFailed: true,
		types.CommandInvocationStatusTimedOut: true, types.CommandInvocationStatusCancelled: true,
	} {
		r, err := guest.Poll(t.Context(), &fake{invocation: &ssm.GetCommandInvocationOutput{Status: status}}, "i-1", "c-1")
		require.NoError(t, err)
		assert.Equal(t, done, r.Done, status)
		assert.Equal(t, status == types.CommandInvocationStatusSuccess, r.OK(), status)
	}
	r, err := guest.Poll(t.Context(), &fake{}, "i-1", "c-1")
	require.NoError(t, err, "a command that has not reached the instance is on its way")
	assert.False(t, r.Done)
}

func TestFindFails(t *testing.T) {
	want := errors.New("x")
	_, err := guest.Do(t.Context(), &fake{err: want}, step())
	assert.ErrorIs(t, err, want)

	id, err := guest.Find(t.Context(), &fake{err: &smithy.GenericAPIError{Code: "InvalidInstanceId"}}, step())
	require.NoError(t, err, "an instance that SSM does not know has no commands")
	assert.Empty(t, id)
}

func TestCommentFitsSSM(t *testing.T) {
	long := strings.Repeat("e", 80)
	a, b := guest.Comment(long, "verifier-boot"), guest.Comment(long[:79]+"f", "verifier-boot")
	assert.LessOrEqual(t, len(a), 100)
	assert.NotEqual(t, a, b)
	assert.True(t, strings.HasSuffix(a, ":verifier-boot"))
	assert.Equal(t, "ami-factory:short:seal", guest.Comment("short", "seal"))
}

type information struct {
	pages []*ssm.DescribeInstanceInformationOutput
	err   error
}

func (i *information) DescribeInstanceInformation(context.Context, *ssm.DescribeInstanceInformationInput, ...func(*ssm.Options)) (*ssm.DescribeInstanceInformationOutput, error) {
	if i.err != nil {
		return nil, i.err
	}
	out := i.pages[0]
	i.pages = i.pages[1:]
	return out, nil
}

func TestOnline(t *testing.T) {
	page := func(status types.PingStatus, next *string) *ssm.DescribeInstanceInformationOutput {
		return &ssm.DescribeInstanceInformationOutput{NextToken: next, InstanceInformationList: []types.InstanceInformation{{InstanceId: aws.String("i-1"), PingStatus: status}}}
	}
	for name, c := range map[string]struct {
		api  *information
		want bool
	}{
		"an agent that answers":         {&information{pages: []*ssm.DescribeInstanceInformationOutput{page(types.PingStatusOnline, nil)}}, true},
		"one that has stopped to":       {&information{pages: []*ssm.DescribeInstanceInformationOutput{page(types.PingStatusConnectionLost, nil)}}, false},
		"one on the second page":        {&information{pages: []*ssm.DescribeInstanceInformationOutput{{NextToken: aws.String("n")}, page(types.PingStatusOnline, nil)}}, true},
		"one that was never registered": {&information{pages: []*ssm.DescribeInstanceInformationOutput{{}}}, false},
		"an instance unknown to SSM":    {&information{err: &types.InvalidInstanceId{}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := guest.Online(t.Context(), c.api, "i-1")
			require.NoError(t, err)
			assert.Equal(t, c.want, got)
		})
	}
	_, err := guest.Online(t.Context(), &information{err: errors.New("x")}, "i-1")
	assert.Error(t, err)
}
