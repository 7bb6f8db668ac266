package ssm

import (
	"sort"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// The supported document of AWS, and the only supported action of steps.
const (
	shellDocument = "AWS-RunShellScript"
	pluginName    = "aws:runShellScript"
)

// Limits of the output that the API returns, in characters. The whole output is in S3
// (https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetCommandInvocation.html,
// https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_CommandPlugin.html).
const (
	stdoutLimit = 24_000
	stderrLimit = 8_000
	pluginLimit = 2_500

	// text with which the agent replaces the rest
	stdoutCut = "\n---Output truncated---"
	stderrCut = "\n---Error truncated----"
)

// Values of StatusDetails
// (https://docs.aws.amazon.com/systems-manager/latest/userguide/monitor-commands.html).
const (
	detailsDelivery      = "DeliveryTimedOut"
	detailsExecution     = "ExecutionTimedOut"
	detailsUndeliverable = "Undeliverable"
)

// command is one call of SendCommand.
type command struct {
	ID           string
	Comment      string
	Document     string // name
	Version      string // such as $DEFAULT
	Step         string // name of its only step
	Parameters   map[string][]string
	Requested    time.Time
	Delivery     time.Duration // TimeoutSeconds
	Execution    time.Duration // executionTimeout
	Bucket       string
	Prefix       string
	BucketRegion string
	Invocations  []*invocation // by instance id
	// Announced is the status in the last event about the command.
	Announced types.CommandStatus `json:",omitempty"`

	script, dir string // of the step; not saved, since no command outlives the process
}

// invocation is a command on one instance.
type invocation struct {
	InstanceID string
	Status     types.CommandInvocationStatus
	Details    string
	Started    time.Time
	Ended      time.Time
	ExitCode   int32
	Stdout     string // cut to stdoutLimit
	Stderr     string // cut to stderrLimit
	StdoutURL  string
	StderrURL  string

	cancel func()
}

func (i *invocation) over() bool {
	switch i.Status {
	case types.CommandInvocationStatusPending, types.CommandInvocationStatusInProgress,
		types.CommandInvocationStatusDelayed, types.CommandInvocationStatusCancelling:
		return false
	}
	return true
}

// lose ends an invocation whose guest ended with the process.
func (i *invocation) lose(now time.Time) {
	if i.over() {
		return
	}
	i.Status, i.Details, i.ExitCode, i.Ended = types.CommandInvocationStatusFailed, detailsUndeliverable, -1, now
	i.Stderr = "the embedded AWS was stopped while the command was running; the guest is gone"
}

// plugin returns the name of the step in answers about the command. In a document of
// schema version 1.2 this is the name of its action.
func (c *command) plugin() string {
	if c.Document == shellDocument {
		return pluginName
	}
	return c.Step
}

// expires returns the time at which a command that no agent has fetched times out
// (https://docs.aws.amazon.com/systems-manager/latest/userguide/monitor-commands.html#monitor-about-status-timeouts).
func (c *command) expires() time.Time { return c.Requested.Add(c.Delivery + c.Execution) }

// status returns the status of the whole command, from those of its invocations.
func (c *command) status() (types.CommandStatus, string) {
	worst, details, rank := types.CommandStatusSuccess, "Success", 0
	for _, i := range c.Invocations {
		r := map[types.CommandInvocationStatus]int{
			types.CommandInvocationStatusCancelled:  1,
			types.CommandInvocationStatusFailed:     2,
			types.CommandInvocationStatusTimedOut:   3,
			types.CommandInvocationStatusPending:    4,
			types.CommandInvocationStatusInProgress: 5,
			types.CommandInvocationStatusDelayed:    5,
			types.CommandInvocationStatusCancelling: 6,
		}[i.Status]
		if r > rank {
			worst, details, rank = types.CommandStatus(i.Status), i.Details, r
		}
	}
	if worst == types.CommandStatus(types.CommandInvocationStatusDelayed) {
		worst = types.CommandStatusInProgress
	}
	return worst, details
}

func (c *command) api() types.Command {
	status, details := c.status()
	out := types.Command{
		CommandId: aws.String(c.ID), Comment: aws.String(c.Comment), DocumentName: aws.String(c.Document),
		DocumentVersion: aws.String(c.Version), Parameters: c.Parameters, RequestedDateTime: aws.Time(c.Requested),
		ExpiresAfter: aws.Time(c.expires()), Status: status, StatusDetails: aws.String(details),
		MaxConcurrency: aws.String("50"), MaxErrors: aws.String("0"), TargetCount: int32(len(c.Invocations)),
		OutputS3BucketName: aws.String(c.Bucket), OutputS3KeyPrefix: aws.String(c.Prefix),
		TimeoutSeconds: aws.Int32(int32(c.Delivery.Seconds())), Targets: []types.Target{},
	}
	if c.Bucket != "" {
		out.OutputS3Region = aws.String(c.BucketRegion)
	}
	for _, i := range c.Invocations {
		out.InstanceIds = append(out.InstanceIds, i.InstanceID)
		if !i.over() {
			continue
		}
		out.CompletedCount++
		switch {
		case i.Details == detailsDelivery:
			out.DeliveryTimedOutCount++
		case i.Status != types.CommandInvocationStatusSuccess:
			out.ErrorCount++
		}
	}
	return out
}

func (c *command) invocation(instanceID string) (*invocation, bool) {
	n := sort.Search(len(c.Invocations), func(i int) bool { return c.Invocations[i].InstanceID >= instanceID })
	if n == len(c.Invocations) || c.Invocations[n].InstanceID != instanceID {
		return nil, false
	}
	return c.Invocations[n], true
}

// cut shortens s to limit characters, including the mark.
func cut(s string, limit int, mark string) string {
	if utf8.RuneCountInString(s) <= limit {
		return s
	}
	return string([]rune(s)[:limit-utf8.RuneCountInString(mark)]) + mark
}

// pluginOutput joins both streams as CommandPlugin.Output does.
func pluginOutput(stdout, stderr string) string {
	out := stdout
	if stderr != "" {
		out += "\n----------ERROR-------\n" + stderr
	}
	return cut(out, pluginLimit, stdoutCut)
}
