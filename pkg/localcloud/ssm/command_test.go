package ssm_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	sdk "github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAScriptRunsInTheGuest(t *testing.T) {
	for sentence, tc := range map[string]struct {
		commands   []string
		parameters map[string][]string
		status     types.CommandInvocationStatus
		details    string
		exit       int32
		stdout     string
		stderr     string
	}{
		"both streams are told apart":             {commands: []string{"echo out", "echo err >&2"}, status: "Success", details: "Success", stdout: "out\n", stderr: "err\n"},
		"the exit code of the script is its own":  {commands: []string{"echo before", "exit 3"}, status: "Failed", details: "Failed", exit: 3, stdout: "before\n"},
		"the last command decides":                {commands: []string{"false", "true"}, status: "Success", details: "Success"},
		"set -e ends the script":                  {commands: []string{"set -e", "false", "echo never"}, status: "Failed", details: "Failed", exit: 1},
		"bash is used where the first line asks":  {commands: []string{"#!/bin/bash", "set -o pipefail", "a=(x y)", "echo ${a[1]}"}, status: "Success", details: "Success", stdout: "y\n"},
		"another interpreter is used too":         {commands: []string{"#!/usr/bin/env -S sh -e", "echo $0 | sed 's,.*/,,'"}, status: "Success", details: "Success", stdout: "script\n"},
		"the script cannot eat itself from stdin": {commands: []string{"cat", "echo still here"}, status: "Success", details: "Success", stdout: "still here\n"},
		"it runs in the working directory":        {commands: []string{"pwd"}, parameters: map[string][]string{"workingDirectory": {"/usr"}}, status: "Success", details: "Success", stdout: "/usr\n"},
		"a missing working directory fails it":    {commands: []string{"pwd"}, parameters: map[string][]string{"workingDirectory": {"/absent"}}, status: "Failed", details: "Failed", exit: 1},
		"a script that takes too long is ended":   {commands: []string{"echo begun", "sleep 60"}, parameters: map[string][]string{"executionTimeout": {"1"}}, status: "TimedOut", details: "ExecutionTimedOut", exit: -1, stdout: "begun\n"},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newRig(t)
			id := r.send(t, "", func(in *sdk.SendCommandInput) {
				in.Parameters = map[string][]string{"commands": tc.commands}
				for name, value := range tc.parameters {
					in.Parameters[name] = value
				}
			})
			out := r.result(t, id)
			assert.Equal(t, tc.status, out.Status)
			assert.Equal(t, tc.details, *out.StatusDetails)
			assert.Equal(t, tc.exit, out.ResponseCode)
			assert.Equal(t, tc.stdout, *out.StandardOutputContent)
			if tc.stderr != "" {
				assert.Equal(t, tc.stderr, *out.StandardErrorContent)
			}
		})
	}
}

func TestNoScriptIsLeftInTheGuest(t *testing.T) {
	r := newRig(t)
	dir := t.TempDir()
	id := r.send(t, "#!/usr/bin/env -S sh\nls "+dir+" >&2", func(*sdk.SendCommandInput) { t.Setenv("TMPDIR", dir) })
	out := r.result(t, id)
	assert.Contains(t, *out.StandardErrorContent, "tmp.", "while it runs, the script is a file")
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, left)
	r.result(t, r.send(t, "ls "+dir))
	left, err = os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestOutputIsCutAsOnAWSAndWholeInS3(t *testing.T) {
	r := newRig(t)
	id := r.send(t, "head -c 30000 /dev/zero | tr '\\0' a; head -c 9000 /dev/zero | tr '\\0' b >&2", func(in *sdk.SendCommandInput) {
		in.OutputS3BucketName, in.OutputS3KeyPrefix = aws.String("results"), aws.String("runs")
	})
	out := r.result(t, id)
	assert.Len(t, *out.StandardOutputContent, 24_000)
	assert.True(t, strings.HasSuffix(*out.StandardOutputContent, "a\n---Output truncated---"))
	assert.Len(t, *out.StandardErrorContent, 8_000)
	key := "runs/" + id + "/" + instance + "/awsrunShellScript/0.awsrunShellScript/"
	assert.Len(t, r.bucket.objects["results/"+key+"stdout"], 30_000)
	assert.Len(t, r.bucket.objects["results/"+key+"stderr"], 9_000)
	assert.Equal(t, "https://s3.eu-west-1.amazonaws.com/results/"+key+"stdout", *out.StandardOutputUrl)

	list, err := r.ListCommandInvocations(t.Context(), &sdk.ListCommandInvocationsInput{CommandId: aws.String(id), Details: true})
	require.NoError(t, err)
	require.Len(t, list.CommandInvocations, 1)
	assert.Len(t, *list.CommandInvocations[0].CommandPlugins[0].Output, 2_500)
}

func TestSendCommandRefuses(t *testing.T) {
	r := newRig(t)
	r.fleet.machines["i-stopped"] = &guest{}
	r.fleet.set("i-stopped", ec2types.InstanceStateNameStopped)
	r.fleet.machines["i-booting"] = &guest{down: true}
	r.fleet.set("i-booting", ec2types.InstanceStateNameRunning)
	for sentence, tc := range map[string]struct {
		change func(*sdk.SendCommandInput)
		want   string
	}{
		"an unknown document":           {func(in *sdk.SendCommandInput) { in.DocumentName = aws.String("AWS-RunPatchBaseline") }, "InvalidDocument"},
		"an unknown instance":           {func(in *sdk.SendCommandInput) { in.InstanceIds = []string{"i-unknown"} }, "InvalidInstanceId"},
		"a stopped instance":            {func(in *sdk.SendCommandInput) { in.InstanceIds = []string{"i-stopped"} }, "InvalidInstanceId"},
		"an instance that still boots":  {func(in *sdk.SendCommandInput) { in.InstanceIds = []string{"i-booting"} }, "InvalidInstanceId"},
		"no instance":                   {func(in *sdk.SendCommandInput) { in.InstanceIds = nil }, "1 to 50"},
		"no commands":                   {func(in *sdk.SendCommandInput) { in.Parameters = nil }, "InvalidParameters"},
		"an unknown parameter":          {func(in *sdk.SendCommandInput) { in.Parameters["command"] = nil }, "InvalidParameters"},
		"a delivery time below 30 s":    {func(in *sdk.SendCommandInput) { in.TimeoutSeconds = aws.Int32(29) }, "TimeoutSeconds is 29"},
		"an execution time of no limit": {func(in *sdk.SendCommandInput) { in.Parameters["executionTimeout"] = []string{"0"} }, "executionTimeout"},
	} {
		t.Run(sentence, func(t *testing.T) {
			in := &sdk.SendCommandInput{
				DocumentName: aws.String("AWS-RunShellScript"), InstanceIds: []string{instance}, Parameters: map[string][]string{"commands": {"true"}},
			}
			tc.change(in)
			_, err := r.SendCommand(t.Context(), in)
			assert.ErrorContains(t, err, tc.want)
		})
	}
	_, err := r.GetCommandInvocation(t.Context(), &sdk.GetCommandInvocationInput{CommandId: aws.String("none"), InstanceId: aws.String(instance)})
	assert.ErrorContains(t, err, "InvocationDoesNotExist")
}

func TestAGuestThatFellSilentGetsItsCommandLaterOrNever(t *testing.T) {
	r := newRig(t)
	r.result(t, r.send(t, "true")) // it is registered now
	r.guest.set(true)

	late := r.send(t, "echo late")
	require.NoError(t, r.clock.Sleep(t.Context(), time.Minute))
	r.guest.set(false)
	assert.Equal(t, "late\n", *r.result(t, late).StandardOutputContent)

	r.guest.set(true)
	never := r.result(t, r.send(t, "true", func(in *sdk.SendCommandInput) { in.TimeoutSeconds = aws.Int32(30) }))
	assert.Equal(t, types.CommandInvocationStatusTimedOut, never.Status)
	assert.Equal(t, "DeliveryTimedOut", *never.StatusDetails)

	gone := r.send(t, "true")
	r.fleet.set(instance, ec2types.InstanceStateNameTerminated)
	out := r.result(t, gone)
	assert.Equal(t, types.CommandInvocationStatusFailed, out.Status)
	assert.Equal(t, "Undeliverable", *out.StatusDetails)
	assert.Contains(t, *out.StandardErrorContent, "was terminated")
}

func TestAGuestLostInTheMiddleFailsTheCommandOnce(t *testing.T) {
	r := newRig(t)
	r.guest.lost = true
	out := r.result(t, r.send(t, "reboot"))
	assert.Equal(t, types.CommandInvocationStatusFailed, out.Status)
	assert.Contains(t, *out.StandardErrorContent, "the guest was lost")
}

func TestACommandCanBeCancelled(t *testing.T) {
	r := newRig(t)
	r.result(t, r.send(t, "true"))
	r.guest.set(true)
	id := r.send(t, "echo never")
	_, err := r.CancelCommand(t.Context(), &sdk.CancelCommandInput{CommandId: aws.String(id)})
	require.NoError(t, err)
	out := r.result(t, id)
	assert.Equal(t, types.CommandInvocationStatusCancelled, out.Status)
	_, err = r.CancelCommand(t.Context(), &sdk.CancelCommandInput{CommandId: aws.String("none")})
	assert.ErrorContains(t, err, "InvalidCommandId")
}

func TestCommandsAreListedNewestFirstAndFiltered(t *testing.T) {
	r := newRig(t)
	good := r.send(t, "true")
	r.result(t, good)
	require.NoError(t, r.clock.Sleep(t.Context(), time.Hour))
	bad := r.send(t, "false")
	r.result(t, bad)
	for sentence, tc := range map[string]struct {
		in   sdk.ListCommandsInput
		want []string
	}{
		"all":                   {sdk.ListCommandsInput{}, []string{bad, good}},
		"one":                   {sdk.ListCommandsInput{CommandId: aws.String(good)}, []string{good}},
		"of an instance":        {sdk.ListCommandsInput{InstanceId: aws.String("i-other")}, nil},
		"by status":             {sdk.ListCommandsInput{Filters: []types.CommandFilter{{Key: "Status", Value: aws.String("Failed")}}}, []string{bad}},
		"after a moment":        {sdk.ListCommandsInput{Filters: []types.CommandFilter{{Key: "InvokedAfter", Value: aws.String("2026-01-01T00:30:00Z")}}}, []string{bad}},
		"before a moment":       {sdk.ListCommandsInput{Filters: []types.CommandFilter{{Key: "InvokedBefore", Value: aws.String("2026-01-01T00:30:00Z")}}}, []string{good}},
		"none is executing now": {sdk.ListCommandsInput{Filters: []types.CommandFilter{{Key: "ExecutionStage", Value: aws.String("Executing")}}}, nil},
	} {
		t.Run(sentence, func(t *testing.T) {
			out, err := r.ListCommands(t.Context(), &tc.in)
			require.NoError(t, err)
			var got []string
			for _, c := range out.Commands {
				got = append(got, *c.CommandId)
			}
			assert.Equal(t, tc.want, got)
		})
	}
	pages := sdk.NewListCommandsPaginator(r, &sdk.ListCommandsInput{MaxResults: aws.Int32(1)})
	n := 0
	for pages.HasMorePages() {
		_, err := pages.NextPage(t.Context())
		require.NoError(t, err)
		n++
	}
	assert.Equal(t, 2, n)
	var statuses []any
	for _, d := range r.seen("EC2 Command Invocation Status-change Notification") {
		statuses = append(statuses, d["status"])
	}
	assert.Equal(t, []any{"InProgress", "Success", "InProgress", "Failed"}, statuses)
}

// The shapes are those of
// https://docs.aws.amazon.com/systems-manager/latest/userguide/monitoring-systems-manager-event-examples.html.
func TestEachChangeOfACommandIsAnEvent(t *testing.T) {
	const second = "i-0fedcba9876543210"
	for sentence, tc := range map[string]struct {
		script string
		change func(*sdk.SendCommandInput)
		during func(t *testing.T, r *rig, id string)
		want   []string // the statuses of the command (c), and of its invocations by instance (1, 2)
	}{
		"one that succeeds":       {"true", nil, nil, []string{"1 InProgress", "c InProgress", "1 Success", "c Success"}},
		"one that fails":          {"exit 3", nil, nil, []string{"1 InProgress", "c InProgress", "1 Failed", "c Failed"}},
		"one that takes too long": {"sleep 60", func(in *sdk.SendCommandInput) { in.Parameters["executionTimeout"] = []string{"1"} }, nil, []string{"1 InProgress", "c InProgress", "1 TimedOut", "c TimedOut"}},
		"one that no agent takes": {"true", func(in *sdk.SendCommandInput) { in.TimeoutSeconds = aws.Int32(30) }, func(t *testing.T, r *rig, _ string) { require.NoError(t, r.clock.Sleep(t.Context(), time.Minute)) }, []string{"1 TimedOut", "c TimedOut"}},
		"one that is cancelled": {"true", nil, func(t *testing.T, r *rig, id string) {
			for range 2 {
				_, err := r.CancelCommand(t.Context(), &sdk.CancelCommandInput{CommandId: aws.String(id)})
				require.NoError(t, err)
			}
		}, []string{"1 Cancelling", "c Cancelling", "1 Cancelled", "c Cancelled"}},
		"one for an instance that goes": {"true", nil, func(_ *testing.T, r *rig, _ string) { r.fleet.set(instance, ec2types.InstanceStateNameTerminated) }, []string{"1 Failed", "c Failed"}},
		"one on two instances":          {"true", func(in *sdk.SendCommandInput) { in.InstanceIds = append(in.InstanceIds, second) }, nil, []string{"1 InProgress", "c InProgress", "1 Success", "2 InProgress", "2 Success", "c Success"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newRig(t)
			r.fleet.machines[second] = &guest{}
			r.fleet.set(second, ec2types.InstanceStateNameRunning)
			r.result(t, r.send(t, "true")) // it is registered now
			r.mu.Lock()
			r.events = nil
			r.mu.Unlock()
			r.guest.set(tc.during != nil)
			var change []func(*sdk.SendCommandInput)
			if tc.change != nil {
				change = append(change, tc.change)
			}
			requested := r.clock.Now()
			id := r.send(t, tc.script, change...)
			if tc.during != nil {
				tc.during(t, r, id)
			}
			r.result(t, id)
			require.NoError(t, r.clock.Sleep(t.Context(), time.Minute))
			out, err := r.ListCommands(t.Context(), &sdk.ListCommandsInput{CommandId: &id})
			require.NoError(t, err)
			const at = "2006-01-02T15:04:05.000Z"
			var got []string
			r.mu.Lock()
			defer r.mu.Unlock()
			for _, e := range r.events {
				want := map[string]any{"command-id": id, "document-name": "AWS-RunShellScript", "requested-date-time": requested.UTC().Format(at), "status": e.detail["status"]}
				who := "c"
				if e.detailType == "EC2 Command Invocation Status-change Notification" {
					want["instance-id"], who = e.detail["instance-id"], map[any]string{instance: "1", second: "2"}[e.detail["instance-id"]]
				} else {
					require.Equal(t, "EC2 Command Status-change Notification", e.detailType)
					want["expire-after"], want["parameters"] = out.Commands[0].ExpiresAfter.UTC().Format(at), out.Commands[0].Parameters
				}
				assert.Equal(t, want, e.detail)
				got = append(got, who+" "+e.detail["status"].(string))
			}
			if len(out.Commands[0].InstanceIds) > 1 { // the two run at the same time
				assert.ElementsMatch(t, tc.want, got)
				return
			}
			assert.Equal(t, tc.want, got)
		})
	}
}

func TestInstancesAreOnlineWhileTheirGuestAnswers(t *testing.T) {
	r := newRig(t)
	describe := func() []types.InstanceInformation {
		out, err := r.DescribeInstanceInformation(t.Context(), &sdk.DescribeInstanceInformationInput{
			Filters: []types.InstanceInformationStringFilter{{Key: aws.String("InstanceIds"), Values: []string{instance}}},
		})
		require.NoError(t, err)
		return out.InstanceInformationList
	}
	r.guest.set(true)
	assert.Empty(t, describe(), "it never answered")
	r.guest.set(false)
	require.Len(t, describe(), 1)
	assert.Equal(t, types.PingStatusOnline, describe()[0].PingStatus)
	r.guest.set(true)
	assert.Equal(t, types.PingStatusConnectionLost, describe()[0].PingStatus)
	all, err := r.DescribeInstanceInformation(t.Context(), &sdk.DescribeInstanceInformationInput{})
	require.NoError(t, err)
	assert.Len(t, all.InstanceInformationList, 1)
}

func TestARunningCommandIsLostInARestore(t *testing.T) {
	r := newRig(t)
	r.result(t, r.send(t, "true"))
	r.guest.set(true)
	id := r.send(t, "true")
	raw, err := r.Snapshot()
	require.NoError(t, err)
	again := newRig(t)
	require.NoError(t, again.Restore(raw))
	out := again.result(t, id)
	assert.Equal(t, types.CommandInvocationStatusFailed, out.Status)
	assert.Contains(t, *out.StandardErrorContent, "was stopped while the command was running")
}
