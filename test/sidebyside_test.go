package test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/evidence"
	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
	localec2 "github.com/ami-factory/ami-factory/pkg/localcloud/ec2"
	"github.com/ami-factory/ami-factory/pkg/localcloud/fault"
	"github.com/ami-factory/ami-factory/pkg/rehearsal"
	"github.com/ami-factory/ami-factory/pkg/rehearsal/guests"
)

// likeEC2 are durations of the order that a small image takes on AWS. A copy takes
// longer than the verification.
func likeEC2(o *rehearsal.Options) {
	o.Timing = localec2.Timing{PendingToRunning: 20 * time.Second, Stop: 20 * time.Second, ImageBase: 180 * time.Second, CopyBase: 360 * time.Second}
	o.Simulated = guests.Simulated{Boot: 40 * time.Second, Provision: 90 * time.Second, Check: 40 * time.Second}
}

// sideBySide is a factory with durations like those of EC2, whose recipe can be changed.
func sideBySide(t *testing.T, change func(*rehearsal.Options)) *editable {
	t.Helper()
	return newEditable(t, func(o *rehearsal.Options) {
		likeEC2(o)
		o.Simulated.FailControls = []string{lax}
		if change != nil {
			change(o)
		}
	})
}

// criticalPath is what EC2 and the guests take of a bake with the durations of
// likeEC2: the least that it can take, with copies before the gate and after it.
func criticalPath(o rehearsal.Options) (before, after time.Duration) {
	launched := o.Timing.PendingToRunning + o.Simulated.Boot
	build, verify := launched+o.Simulated.Provision+o.Timing.Stop+o.Timing.ImageBase, launched+o.Simulated.Check
	return build + max(o.Timing.CopyBase, verify), build + verify + o.Timing.CopyBase
}

// maxOwn is how long a bake may take beyond its critical path: 2 % of one with the
// durations of likeEC2.
const maxOwn = 14 * time.Second

func TestAlmostAllOfABakeIsOnTheCriticalPath(t *testing.T) {
	t.Parallel()
	for sentence, tc := range map[string]struct {
		copies string
		copy   time.Duration
	}{
		"copies take longer than the verification": {contract.CopiesBeforeGate, 360 * time.Second},
		"copies take less time":                    {contract.CopiesBeforeGate, 30 * time.Second},
		"copies after the gate":                    {contract.CopiesAfterGate, 360 * time.Second},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			var opts rehearsal.Options
			e := sideBySide(t, func(o *rehearsal.Options) {
				o.Timing.CopyBase = tc.copy
				opts = *o
			})
			least, after := criticalPath(opts)
			if tc.copies == contract.CopiesAfterGate {
				e.edit("  accounts:", afterGate)
				least = after
			}
			s := bake(t, e.Factory, contract.ExecutionInput{})
			require.Equal(t, contract.Published, s.Status, s.Cause)
			own := s.Seconds - least.Seconds()
			t.Logf("%.1f s, of which the critical path %v and the factory's own %.1f s (%.2f %%)", s.Seconds, least, own, 100*own/s.Seconds)
			assert.GreaterOrEqual(t, own, 0.0, "nothing on the critical path is left out")
			assert.LessOrEqual(t, own, maxOwn.Seconds())
		})
	}
}

// BenchmarkCriticalPath prints how long a bake takes on the virtual clock, with
// durations like those of EC2, beside the least that it can take.
func BenchmarkCriticalPath(b *testing.B) {
	var opts rehearsal.Options
	f := simFactory(b, func(o *rehearsal.Options) {
		likeEC2(o)
		opts = *o
	})
	before, _ := criticalPath(opts)
	least := before.Seconds()
	for b.Loop() {
		s := bake(b, f, contract.ExecutionInput{Force: true})
		require.Equal(b, contract.Published, s.Status, s.Cause)
		for _, state := range s.States {
			b.ReportMetric(state.Seconds, state.State+"-s")
		}
		b.ReportMetric(s.Seconds, "total-s")
		b.ReportMetric(least, "least-s")
		b.ReportMetric(100*(s.Seconds-least)/s.Seconds, "own-%")
	}
}

const afterGate = "  copies: afterGate\n  accounts:"

// copiesIn are the images in the second region that the factory made.
func copiesIn(t *testing.T, f *rehearsal.Factory) []ec2types.Image {
	t.Helper()
	out, err := f.Cloud.EC2.DescribeImages(context.Background(), &ec2.DescribeImagesInput{Owners: []string{"self"}}, func(o *ec2.Options) { o.Region = second })
	require.NoError(t, err)
	return out.Images
}

// begin starts an execution on the clock of this machine whose checks take an hour,
// and returns when it has come to the gate.
func begin(t *testing.T, f *rehearsal.Factory) (arn string) {
	t.Helper()
	started, err := f.Cloud.States.StartExecution(t.Context(), &sfn.StartExecutionInput{StateMachineArn: &f.StateMachine, Input: aws.String(`{"recipe":"` + recipeName + `"}`)})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	history, err := f.Cloud.States.Watch(ctx, aws.ToString(started.ExecutionArn))
	require.NoError(t, err)
	for e := range history {
		if d := e.StateEnteredEventDetails; d != nil && aws.ToString(d.Name) == contract.StateEvaluateGate {
			return aws.ToString(started.ExecutionArn)
		}
	}
	require.Fail(t, "the execution has not come to the gate")
	return ""
}

// atTheGate is a factory on the clock of this machine whose checks take an hour, and
// whose images and copies are there at once.
func atTheGate(t *testing.T, change func(*rehearsal.Options)) *editable {
	t.Helper()
	return newEditable(t, func(o *rehearsal.Options) {
		o.Clock, o.Timing = nil, localec2.Timing{PendingToRunning: time.Millisecond}
		o.Simulated = guests.Simulated{Check: time.Hour}
		if change != nil {
			change(o)
		}
	})
}

// stop ends an execution from outside, and waits until nothing of it is left.
func stop(t *testing.T, f *rehearsal.Factory, arn string) {
	t.Helper()
	_, err := f.Cloud.States.StopExecution(t.Context(), &sfn.StopExecutionInput{ExecutionArn: &arn})
	require.NoError(t, err)
	_, err = f.Sweep(context.Background(), arn)
	require.NoError(t, err)
	requireNothingLeft(t, f)
}

func TestCopiesAreMadeAndPrivateWhileTheImageIsVerified(t *testing.T) {
	t.Parallel()
	e := atTheGate(t, nil)
	arn := begin(t, e.Factory)
	require.Eventually(t, func() bool {
		found := copiesIn(t, e.Factory)
		return len(found) == 1 && found[0].State == ec2types.ImageStateAvailable
	}, time.Minute, 10*time.Millisecond, "the copy is there before the checks end")
	byRegion := map[string]ec2types.Image{second: copiesIn(t, e.Factory)[0]}
	byRegion[home] = e.image(home, aws.ToString(byRegion[second].SourceImageId))
	for region, img := range byRegion {
		id := aws.ToString(img.ImageId)
		assert.Empty(t, e.sharedWith(region, id), "nobody may launch it in %s", region)
		assert.False(t, aws.ToBool(img.Public))
		assert.False(t, ami.IsPublished(img))
		assert.NotEmpty(t, ami.TagValue(img.Tags, contract.TagExpires), "the janitor may remove it")
		assert.Empty(t, pointed(t, e.Factory, region))
		snapshots, err := e.Cloud.EC2.DescribeSnapshots(t.Context(), &ec2.DescribeSnapshotsInput{SnapshotIds: ami.Snapshots(img)}, e.in(region))
		require.NoError(t, err)
		require.Len(t, snapshots.Snapshots, 1)
		sn := snapshots.Snapshots[0]
		assert.True(t, aws.ToBool(sn.Encrypted))
		assert.Contains(t, aws.ToString(sn.KmsKeyId), ":kms:"+region+":", "under a key of its own region")
		attribute, err := e.Cloud.EC2.DescribeSnapshotAttribute(t.Context(), &ec2.DescribeSnapshotAttributeInput{
			SnapshotId: sn.SnapshotId, Attribute: ec2types.SnapshotAttributeNameCreateVolumePermission,
		}, e.in(region))
		require.NoError(t, err)
		assert.Empty(t, attribute.CreateVolumePermissions)
	}
	stop(t, e.Factory, arn)
}

func TestARecipeMayWantItsCopiesAfterTheGate(t *testing.T) {
	t.Parallel()
	t.Run("there is none at the gate", func(t *testing.T) {
		t.Parallel()
		e := atTheGate(t, nil)
		e.edit("  accounts:", afterGate)
		arn := begin(t, e.Factory)
		assert.Empty(t, copiesIn(t, e.Factory))
		stop(t, e.Factory, arn)
	})
	t.Run("they follow it", func(t *testing.T) {
		t.Parallel()
		e := sideBySide(t, nil)
		e.edit("  accounts:", afterGate)
		s := bake(t, e.Factory, contract.ExecutionInput{})
		require.Equal(t, contract.Published, s.Status, s.Cause)
		var names []string
		for _, state := range s.States {
			names = append(names, state.State)
		}
		assert.Equal(t, []string{
			contract.StateEvaluateGate, contract.StateCopyAfterGate, contract.StateAwaitCopy, contract.StateSign, contract.StateShareImage,
		}, names[slices.Index(names, contract.StateEvaluateGate):][:5])
		assert.NotContains(t, names, contract.StateCopy)
		requireMetricsAgree(t, e.Factory, s)
	})
	t.Run("a rejected image is not copied", func(t *testing.T) {
		t.Parallel()
		var copies calls
		e := sideBySide(t, func(o *rehearsal.Options) {
			o.Simulated.FailControls, o.Decisions = []string{"SSH-03"}, copies.note("ec2:CopyImage")
		})
		e.edit("  accounts:", afterGate)
		s := bake(t, e.Factory, contract.ExecutionInput{})
		require.Equal(t, contract.Rejected, s.Status, s.Cause)
		assert.Empty(t, copies.all())
		requireMetricsAgree(t, e.Factory, s)
		requireNothingLeft(t, e.Factory)
	})
}

// calls notes which roles call some actions.
type calls struct {
	mu    sync.Mutex
	roles []string
}

func (c *calls) note(actions ...string) func(authz.Decision) {
	return func(d authz.Decision) {
		if !slices.Contains(actions, d.Request.Action) {
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		_, role, _ := strings.Cut(d.RoleARN, ":role/ami-factory-")
		if n := len(c.roles); n == 0 || c.roles[n-1] != role {
			c.roles = append(c.roles, role)
		}
	}
}

// all are the roles in the order of their calls, those in a row once.
func (c *calls) all() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.roles)
}

func TestConsumersAreInformedBeforeRetentionAndTheReport(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var order []string
	f := simFactory(t, func(o *rehearsal.Options) {
		o.Decisions = func(d authz.Decision) {
			_, role, _ := strings.Cut(d.RoleARN, ":role/ami-factory-")
			call := role + " " + d.Request.Action
			if !slices.Contains([]string{"publish ssm:PutParameter", "notify sns:Publish", "notify events:PutEvents", "retire ec2:DescribeImages", "cleanup ec2:DescribeInstances", "notify s3:PutObject"}, call) {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if n := len(order); n == 0 || order[n-1] != call {
				order = append(order, call)
			}
		}
	})
	publish(t, f)
	mu.Lock()
	defer mu.Unlock()
	assert.Equal(t, []string{
		"publish ssm:PutParameter", "notify events:PutEvents", "notify sns:Publish", "retire ec2:DescribeImages", "cleanup ec2:DescribeInstances",
		"notify s3:PutObject", "notify events:PutEvents",
	}, order)
}

func TestConsumersAreInformedAtTheEndIfTheyCouldNotBeBefore(t *testing.T) {
	t.Parallel()
	f := simFactory(t, nil)
	_, err := f.Cloud.Faults.Add(fault.Rule{Service: "sns", Operation: "Publish", Code: "AuthorizationError", Status: 403, Times: 1})
	require.NoError(t, err)
	s := publish(t, f)
	names := []string{}
	for _, state := range s.States {
		names = append(names, state.State)
	}
	assert.Subset(t, names, []string{contract.StateAnnounce, contract.StateRetire, contract.StateCleanup, contract.StateNotify})
	requireMetricsAgree(t, f, s)
}

func TestNobodyIsGivenAnImageThatTheGateRefuses(t *testing.T) {
	t.Parallel()
	var permitted calls
	e := sideBySide(t, func(o *rehearsal.Options) {
		o.Simulated.FailControls = []string{"SSH-03"}
		o.Decisions = permitted.note("ec2:ModifyImageAttribute", "ec2:ModifySnapshotAttribute")
	})
	s := bake(t, e.Factory, contract.ExecutionInput{})
	require.Equal(t, contract.Rejected, s.Status, s.Cause)
	assert.Equal(t, []string{"check-image"}, permitted.all(), "which requires IMDSv2 and may do nothing else")
}

func TestARejectionRemovesCopiesInEveryRegion(t *testing.T) {
	t.Parallel()
	for sentence, copies := range map[string]time.Duration{"that are pending": time.Hour, "that are finished": time.Second} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			e := sideBySide(t, func(o *rehearsal.Options) {
				o.Timing.CopyBase, o.Simulated.FailControls = copies, []string{"SSH-03"}
			})
			e.edit("    - name: eu-central-1", "    - name: "+third+"\n      kmsKey: alias/ami-factory\n    - name: eu-central-1")
			s := bake(t, e.Factory, contract.ExecutionInput{})
			require.Equal(t, contract.Rejected, s.Status, s.Cause)
			assert.Equal(t, "ComplianceRejected", s.Error)
			removed := map[string]int{}
			for _, id := range reportOf(t, e, s).Removed {
				if region, rest, ok := strings.Cut(id, ":"); ok && strings.HasPrefix(rest, "ami-") {
					removed[region]++
				}
			}
			assert.Equal(t, map[string]int{home: 1, second: 1, third: 1}, removed)
			requireNothingLeft(t, e.Factory)
			requireMetricsAgree(t, e.Factory, s)
			for _, region := range []string{home, second, third} {
				assert.Empty(t, pointed(t, e.Factory, region))
			}
		})
	}
}

func TestACopyThatFailsDuringVerificationEndsTheExecutionAndIsNamed(t *testing.T) {
	t.Parallel()
	for sentence, tc := range map[string]struct {
		hurt  func(*testing.T, *editable)
		state string // in which the failure shows
		cause []string
	}{
		"EC2 refuses it": {func(t *testing.T, e *editable) {
			t.Helper()
			_, err := e.Cloud.Faults.Add(fault.Rule{Service: "ec2", Operation: "CopyImage", Region: second, Code: "InvalidRequest", Status: 400, Times: -1})
			require.NoError(t, err)
		}, contract.StateStartCopies, []string{second, "InvalidRequest"}},
		"its key cannot be used, which EC2 finds out later": {func(t *testing.T, e *editable) {
			t.Helper()
			keys := kms.NewFromConfig(e.Cloud.AWSConfig(second))
			key, err := keys.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: aws.String("alias/ami-factory")})
			require.NoError(t, err)
			_, err = keys.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: key.KeyMetadata.KeyId})
			require.NoError(t, err)
		}, contract.StateDistribute, []string{second, "it is disabled or pending deletion"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			e := sideBySide(t, nil)
			tc.hurt(t, e)
			s := bake(t, e.Factory, contract.ExecutionInput{})
			require.Equal(t, contract.FailedClean, s.Status, s.Cause)
			assert.Equal(t, "CopyFailed", s.Error)
			for _, text := range tc.cause {
				assert.Contains(t, s.Cause, text)
			}
			r := reportOf(t, e, s)
			require.NotNil(t, r.Failure)
			assert.Equal(t, tc.state, r.Failure.State)
			requireNothingLeft(t, e.Factory)
		})
	}
}

// reportOf is what Notify wrote of an execution.
func reportOf(t *testing.T, e *editable, s rehearsal.Summary) evidence.Report {
	t.Helper()
	var r evidence.Report
	require.NoError(t, json.Unmarshal([]byte(e.object(contract.ExecutionKey(s.Execution, contract.ReportObject))), &r))
	return r
}

func TestAStopFromOutsideWhileAnImageIsVerifiedAndCopiedLeavesNothing(t *testing.T) {
	t.Parallel()
	e := atTheGate(t, func(o *rehearsal.Options) { o.Timing.CopyBase = time.Hour })
	arn := begin(t, e.Factory)
	pending := copiesIn(t, e.Factory)
	require.Len(t, pending, 1)
	require.Equal(t, ec2types.ImageStatePending, pending[0].State)
	require.NotEmpty(t, take(t, e.Factory).Alive, "the verifier")
	stop(t, e.Factory, arn)
}
