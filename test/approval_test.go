package test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/approval"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/localcloud/fault"
	"github.com/ami-factory/ami-factory/pkg/rehearsal"
)

// approving is a factory whose recipe wants approvals, and people who answer.
type approving struct {
	*editable
	mu      sync.Mutex
	answers []string // what people were told
	asked   approval.Request
}

// newApproving makes a factory in which people do something when they are asked.
func newApproving(t *testing.T, mode string, people func(*approving, context.Context), change ...func(*rehearsal.Options)) *approving {
	t.Helper()
	a := &approving{}
	a.editable = newEditable(t, func(o *rehearsal.Options) {
		for _, f := range change {
			f(o)
		}
		o.Requester = "rita"
		o.Asked = func(ctx context.Context, _ *rehearsal.Factory, r approval.Request) {
			a.asked = r
			people(a, ctx)
		}
	})
	a.edit("\ndistribution:\n", "\napproval: {mode: "+mode+", expires: 2d}\ndistribution:\n")
	return a
}

// instances are the ids of the instances that are not terminated.
func (a *approving) instances(ctx context.Context) []string {
	out, err := a.Cloud.EC2.DescribeInstances(ctx, &ec2.DescribeInstancesInput{})
	assert.NoError(a.t, err)
	var ids []string
	for _, r := range out.Reservations {
		for _, i := range r.Instances {
			if i.State.Name != types.InstanceStateNameTerminated && i.State.Name != types.InstanceStateNameShuttingDown {
				ids = append(ids, aws.ToString(i.InstanceId))
			}
		}
	}
	return ids
}

// say answers as a person, and notes what they are told.
func (a *approving) say(ctx context.Context, person string, d approval.Decision, digest string) {
	client, err := a.As(ctx, person)
	if err == nil {
		var s approval.Standing
		s, err = client.Answer(ctx, approval.AnswerRequest{Digest: digest, Decision: d, Reason: "read the report"})
		if err == nil {
			err = fmt.Errorf("%s", s.Status)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answers = append(a.answers, person+": "+err.Error())
}

// startedDirectly is how an execution ended that no person and no trigger started.
func (a *approving) startedDirectly() *sfn.DescribeExecutionOutput {
	a.t.Helper()
	started, err := a.Cloud.States.StartExecution(a.t.Context(), &sfn.StartExecutionInput{
		StateMachineArn: &a.StateMachine, Name: aws.String("by-hand"), Input: aws.String(`{"recipe":"` + recipeName + `","force":true}`),
	})
	require.NoError(a.t, err)
	history, err := a.Cloud.States.Watch(a.t.Context(), aws.ToString(started.ExecutionArn))
	require.NoError(a.t, err)
	for range history { // until it ends
	}
	end, err := a.Cloud.States.DescribeExecution(a.t.Context(), &sfn.DescribeExecutionInput{ExecutionArn: started.ExecutionArn})
	require.NoError(a.t, err)
	return end
}

// requireNothingReleased requires that nothing is left of an execution, and nothing
// was published.
func (a *approving) requireNothingReleased(s rehearsal.Summary) {
	a.t.Helper()
	assert.Empty(a.t, s.Images)
	requireNothingLeft(a.t, a.Factory)
	assert.Empty(a.t, pointed(a.t, a.Factory, home))
	assert.Empty(a.t, pointed(a.t, a.Factory, second))
}

func TestTwoPeopleApproveAReleaseAndTheEvidenceNamesThem(t *testing.T) {
	a := newApproving(t, "two", func(a *approving, ctx context.Context) {
		assert.Empty(a.t, a.instances(ctx), "people may take days: nothing runs meanwhile")
		page := a.object(contract.SitePage)
		assert.Contains(a.t, page, `data-waiting="`+a.asked.Execution+`"`)
		assert.Contains(a.t, page, "none has ended", "the first execution of the recipe")
		a.say(ctx, "rita", approval.Approve, a.asked.BundleDigest)
		a.say(ctx, "anna", approval.Approve, strings.Repeat("0", 64))
		a.say(ctx, "anna", approval.Approve, a.asked.BundleDigest)
		a.say(ctx, "ANNA", approval.Approve, a.asked.BundleDigest)
		a.say(ctx, "bert", approval.Approve, a.asked.BundleDigest)
	})
	s := bake(t, a.Factory, contract.ExecutionInput{})
	require.Equal(t, contract.Published, s.Status, s.Cause)
	require.Len(t, a.answers, 5)
	assert.Contains(t, a.answers[0], "rita started the execution")
	assert.Contains(t, a.answers[1], "nothing with the digest")
	assert.Equal(t, "anna: waiting", a.answers[2])
	assert.Equal(t, "ANNA: waiting", a.answers[3], "the same person counts once")
	assert.Equal(t, "bert: approved", a.answers[4])
	assert.NotContains(t, a.object(contract.SitePage), "data-waiting", "it waits no longer")
	report := a.object(contract.ExecutionKey(s.Execution, contract.ReportObject))
	for _, says := range []string{`"requester": "rita"`, `"person": "bert",
        "role": "ami-factory-approver",
        "decision": "approved",
        "reason": "read the report"`, `"sha256": "` + a.asked.BundleDigest} {
		assert.Contains(t, report, says)
	}
	page := a.object(contract.ExecutionKey(s.Execution, contract.PageObject))
	for _, says := range []string{"2 approvals, by different people, are needed; requested by rita.", "sha256 " + a.asked.BundleDigest, "read the report"} {
		assert.Contains(t, page, says)
	}
	statement := a.object(contract.ExecutionKey(s.Execution, contract.ApprovalsAttestation))
	assert.Contains(t, statement, "payload")
	assert.Equal(t, s.Images[home], pointed(t, a.Factory, home))
}

func TestARejectedReleaseEndsAndLeavesNothing(t *testing.T) {
	a := newApproving(t, "two", func(a *approving, ctx context.Context) {
		a.say(ctx, "anna", approval.Approve, a.asked.BundleDigest)
		a.say(ctx, "bert", approval.Reject, a.asked.BundleDigest)
	})
	s := bake(t, a.Factory, contract.ExecutionInput{})
	assert.Equal(t, contract.ApprovalRefused, s.Status, s.Cause)
	assert.Equal(t, string(failure.ApprovalRefused), s.Error)
	assert.Contains(t, s.Cause, "bert rejected the release: read the report")
	assert.Contains(t, a.object(contract.ExecutionKey(s.Execution, contract.ReportObject)), `"decision": "rejected"`)
	a.requireNothingReleased(s)
}

func TestAReleaseThatTooFewApproveInTimeEndsAndLeavesNothing(t *testing.T) {
	a := newApproving(t, "two", func(a *approving, ctx context.Context) {
		a.say(ctx, "anna", approval.Approve, a.asked.BundleDigest)
	})
	s := bake(t, a.Factory, contract.ExecutionInput{})
	assert.Equal(t, contract.ApprovalTimedOut, s.Status, s.Cause)
	assert.Equal(t, string(failure.ApprovalTimedOut), s.Error)
	assert.Equal(t, []string{"anna: waiting"}, a.answers)
	assert.GreaterOrEqual(t, s.Seconds, (48 * time.Hour).Seconds())
	a.requireNothingReleased(s)
}

func TestAManifestThatChangesVoidsItsApproval(t *testing.T) {
	changed := func(a *approving, ctx context.Context) {
		key := contract.ExecutionKey(a.asked.Execution, contract.ManifestObject)
		_, err := a.Cloud.S3.PutObject(ctx, &s3.PutObjectInput{Bucket: &a.Bucket, Key: &key, Body: strings.NewReader("{}"), ContentLength: aws.Int64(2)})
		assert.NoError(a.t, err)
	}
	t.Run("before it is given: the answer is refused, and the time runs out", func(t *testing.T) {
		a := newApproving(t, "one", func(a *approving, ctx context.Context) {
			changed(a, ctx)
			a.say(ctx, "anna", approval.Approve, a.asked.BundleDigest)
		})
		s := bake(t, a.Factory, contract.ExecutionInput{})
		assert.Equal(t, contract.ApprovalTimedOut, s.Status, s.Cause)
		require.Len(t, a.answers, 1)
		assert.Contains(t, a.answers[0], "the evidence has changed since the request")
		a.requireNothingReleased(s)
	})
	t.Run("between the answers of two people", func(t *testing.T) {
		a := newApproving(t, "two", func(a *approving, ctx context.Context) {
			a.say(ctx, "anna", approval.Approve, a.asked.BundleDigest)
			changed(a, ctx)
			a.say(ctx, "bert", approval.Approve, a.asked.BundleDigest)
		})
		s := bake(t, a.Factory, contract.ExecutionInput{})
		assert.Equal(t, contract.ApprovalTimedOut, s.Status, s.Cause)
		require.Len(t, a.answers, 2)
		assert.Equal(t, "anna: waiting", a.answers[0])
		assert.Contains(t, a.answers[1], "the evidence has changed since the request")
		a.requireNothingReleased(s)
	})
}

// Whoever may call SendTaskSuccess ends the wait for people, with any output.
func TestASuccessThatNobodyApprovedReleasesNothing(t *testing.T) {
	forge := func(a *approving, ctx context.Context) {
		_, err := a.Cloud.States.SendTaskSuccess(ctx, &sfn.SendTaskSuccessInput{
			TaskToken: &a.asked.Token, Output: aws.String(`{"digest":"` + a.asked.BundleDigest + `","approvals":2}`),
		})
		assert.NoError(a.t, err)
	}
	t.Run("what signs approvals reads them from the store", func(t *testing.T) {
		a := newApproving(t, "two", forge)
		s := bake(t, a.Factory, contract.ExecutionInput{})
		assert.Equal(t, contract.FailedClean, s.Status, s.Cause)
		assert.Equal(t, string(failure.ApprovalMissing), s.Error)
		assert.Contains(t, s.Cause, "needs 2 approvals and has 0 that count")
		a.requireNothingReleased(s)
	})
	t.Run("Share refuses too, where the state machine was changed to skip that", func(t *testing.T) {
		a := newApproving(t, "two", forge)
		machine, err := a.Cloud.States.DescribeStateMachine(t.Context(), &sfn.DescribeStateMachineInput{StateMachineArn: &a.StateMachine})
		require.NoError(t, err)
		definition := strings.Replace(aws.ToString(machine.Definition), `"Next": "SignApproval"`, `"Next": "Share"`, 1)
		require.NotEqual(t, aws.ToString(machine.Definition), definition)
		from, to := strings.Index(definition, `"SignApproval": {`), strings.Index(definition, `"Share": {`)
		require.Greater(t, to, from)
		definition = definition[:from] + definition[to:]
		_, err = a.Cloud.States.UpdateStateMachine(t.Context(), &sfn.UpdateStateMachineInput{StateMachineArn: &a.StateMachine, Definition: &definition})
		require.NoError(t, err)
		s := bake(t, a.Factory, contract.ExecutionInput{})
		assert.Equal(t, contract.FailedClean, s.Status, s.Cause)
		assert.Equal(t, string(failure.ApprovalMissing), s.Error)
		assert.Contains(t, s.Cause, "needs 2 approvals and has 0 that count")
		a.requireNothingReleased(s)
	})
}

func TestAnUpgradeOfPackagesIsReleasedWithoutAPerson(t *testing.T) {
	asked := 0
	a := newApproving(t, "whenDiffIsMore", func(a *approving, ctx context.Context) {
		asked++
		a.say(ctx, "anna", approval.Approve, a.asked.BundleDigest)
	})
	s := bake(t, a.Factory, contract.ExecutionInput{})
	require.Equal(t, contract.Published, s.Status, s.Cause)
	assert.Equal(t, 1, asked, "nothing is known of the first release's difference")
	s = bake(t, a.Factory, contract.ExecutionInput{Force: true})
	require.Equal(t, contract.Published, s.Status, s.Cause)
	assert.Equal(t, 1, asked, "the same again is no more than an upgrade")
	a.edit("description: Debian 12 with Docker", "description: Debian 12 and Docker")
	s = bake(t, a.Factory, contract.ExecutionInput{})
	require.Equal(t, contract.Published, s.Status, s.Cause)
	assert.Equal(t, 2, asked, "a field of the recipe differs")
}

func TestNobodyIsAskedWhileInstancesRun(t *testing.T) {
	a := newApproving(t, "one", func(*approving, context.Context) { t.Error("a person was asked while instances run") })
	// Two instances, in each attempt of TerminateInstances; then Cleanup may terminate them.
	_, err := a.Cloud.Faults.Add(fault.Rule{Service: "ec2", Operation: "TerminateInstances", Code: "UnauthorizedOperation", Status: 403, Times: 2 * 6})
	require.NoError(t, err)
	s := bake(t, a.Factory, contract.ExecutionInput{})
	assert.Equal(t, contract.FailedClean, s.Status, s.Cause)
	assert.Equal(t, string(failure.CleanupIncomplete), s.Error)
	assert.Contains(t, s.Cause, "the instances of the execution could not be terminated")
	a.requireNothingReleased(s)
}

func TestNobodyApprovesAReleaseWhoseRequesterIsNotKnown(t *testing.T) {
	a := newApproving(t, "one", func(*approving, context.Context) { t.Error("a person was asked, although the requester is not known") })
	end := a.startedDirectly()
	assert.Equal(t, string(failure.RequesterUnknown), aws.ToString(end.Error))
	assert.Contains(t, aws.ToString(end.Cause), "ami-factory build")
	requireNothingLeft(t, a.Factory)
}
