// Package guest runs shell scripts in instances over SSM Run Command: it sends
// a step once, finds it again on every later call, and reads its result when
// there is one. It never waits.
package guest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plaintext"
)

const (
	maxComment = 100         // SendCommand's limit
	delivery   = time.Minute // how long SSM may try to reach an agent that is online
)

// API lists the calls of SSM that the package makes.
type API interface {
	ssm.ListCommandsAPIClient
	SendCommand(context.Context, *ssm.SendCommandInput, ...func(*ssm.Options)) (*ssm.SendCommandOutput, error)
	GetCommandInvocation(context.Context, *ssm.GetCommandInvocationInput, ...func(*ssm.Options)) (*ssm.GetCommandInvocationOutput, error)
}

// Step is a script that an execution runs once in an instance.
type Step struct {
	InstanceID string
	Execution  string // name
	Name       string // of the step, unique in the execution
	Script     string // run by sh, as root
	Timeout    time.Duration
}

// Result is the result of a command. Done is false until the command has ended.
type Result struct {
	CommandID string
	Done      bool
	Status    string // SSM's: Success, Failed, TimedOut, Cancelled, Undeliverable, …
	ExitCode  int
	// Stdout and Stderr are the output that SSM keeps, at most 24,000 characters,
	// cleaned by plaintext.Clean. Strings in JSON output may still contain escaped
	// control characters.
	Stdout, Stderr string
}

// OK reports whether the command ended with exit code 0.
func (r Result) OK() bool { return r.Done && r.Status == string(types.CommandInvocationStatusSuccess) }

// Online reports whether the instance's SSM agent answers.
func Online(ctx context.Context, api ssm.DescribeInstanceInformationAPIClient, instanceID string) (bool, error) {
	pages := ssm.NewDescribeInstanceInformationPaginator(api, &ssm.DescribeInstanceInformationInput{
		Filters: []types.InstanceInformationStringFilter{{Key: aws.String("InstanceIds"), Values: []string{instanceID}}},
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if awserr.Is(err, "InvalidInstanceId", "InvalidInstanceInformationFilterValue") {
			return false, nil // SSM does not know the instance yet
		}
		if err != nil {
			return false, err
		}
		for _, i := range page.InstanceInformationList {
			if aws.ToString(i.InstanceId) == instanceID && i.PingStatus == types.PingStatusOnline {
				return true, nil
			}
		}
	}
	return false, nil
}

// Do sends the step unless it was sent before, and returns its current result.
func Do(ctx context.Context, api API, s Step) (Result, error) {
	id, err := Find(ctx, api, s)
	if err != nil {
		return Result{}, err
	}
	if id == "" {
		id, err = Send(ctx, api, s)
		return Result{CommandID: id}, err
	}
	return Poll(ctx, api, s.InstanceID, id)
}

// Find returns the id of the step's command, or "" if it was never sent. If a
// race sent two commands, it returns the first.
func Find(ctx context.Context, api API, s Step) (string, error) {
	want := Comment(s.Execution, s.Name)
	var found *types.Command
	pages := ssm.NewListCommandsPaginator(api, &ssm.ListCommandsInput{InstanceId: &s.InstanceID})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if awserr.Is(err, "InvalidInstanceId") {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		for _, c := range page.Commands {
			older := found == nil || aws.ToTime(c.RequestedDateTime).Before(aws.ToTime(found.RequestedDateTime))
			if aws.ToString(c.Comment) == want && slices.Contains(c.InstanceIds, s.InstanceID) && older {
				found = &c
			}
		}
	}
	if found == nil {
		return "", nil
	}
	return aws.ToString(found.CommandId), nil
}

// Send starts the step's script and returns the command's id. Systems Manager refuses the
// command if the default version of the document has another content than this program's;
// the error is then failure.DocumentChanged.
func Send(ctx context.Context, api API, s Step) (string, error) {
	out, err := api.SendCommand(ctx, &ssm.SendCommandInput{
		DocumentName:     aws.String(contract.ScriptDocument),
		DocumentVersion:  aws.String("$DEFAULT"), // which CloudFormation moves to the version that it adds
		DocumentHash:     aws.String(DocumentHash()),
		DocumentHashType: types.DocumentHashTypeSha256,
		InstanceIds:      []string{s.InstanceID},
		Comment:          aws.String(Comment(s.Execution, s.Name)),
		TimeoutSeconds:   aws.Int32(int32(delivery.Seconds())),
		Parameters: map[string][]string{
			"commands":         {s.Script},
			"executionTimeout": {strconv.Itoa(int(max(s.Timeout, delivery).Seconds()))},
		},
	})
	if awserr.Is(err, "InvalidDocument", "InvalidDocumentVersion") {
		return "", failure.Wrap(failure.DocumentChanged, err, "nothing was run: the document %s is missing, or its default version is not the one of this version of the factory, which has the SHA-256 %s",
			contract.ScriptDocument, DocumentHash())
	}
	if err != nil {
		return "", err
	}
	if out.Command == nil {
		return "", fmt.Errorf("SSM accepted the command and returned no id")
	}
	return aws.ToString(out.Command.CommandId), nil
}

// Poll returns the current result of a command in an instance.
func Poll(ctx context.Context, api API, instanceID, commandID string) (Result, error) {
	out, err := api.GetCommandInvocation(ctx, &ssm.GetCommandInvocationInput{
		CommandId: &commandID, InstanceId: &instanceID,
	})
	if awserr.Is(err, "InvocationDoesNotExist") {
		return Result{CommandID: commandID}, nil // sent, not yet delivered
	}
	if err != nil {
		return Result{}, err
	}
	r := Result{
		CommandID: commandID,
		Status:    string(out.Status),
		ExitCode:  int(out.ResponseCode),
		Stdout:    plaintext.Clean(aws.ToString(out.StandardOutputContent)),
		Stderr:    plaintext.Clean(aws.ToString(out.StandardErrorContent)),
	}
	switch out.Status {
	case types.CommandInvocationStatusPending, types.CommandInvocationStatusInProgress,
		types.CommandInvocationStatusDelayed, types.CommandInvocationStatusCancelling:
	default:
		r.Done = true
	}
	return r, nil
}

// Comment identifies a step's command. To stay within SSM's limit of 100
// characters, a digest replaces the end of a long execution name.
func Comment(execution, step string) string {
	const prefix = "ami-factory:"
	c := prefix + execution + ":" + step
	if len(c) <= maxComment {
		return c
	}
	sum := sha256.Sum256([]byte(execution))
	digest := hex.EncodeToString(sum[:8])
	keep := max(0, maxComment-len(prefix)-len(digest)-len(step)-2)
	return prefix + execution[:min(keep, len(execution))] + "-" + digest + ":" + step
}
