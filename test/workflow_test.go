package test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/execution"
	"github.com/ami-factory/ami-factory/pkg/guest"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	localec2 "github.com/ami-factory/ami-factory/pkg/localcloud/ec2"
	"github.com/ami-factory/ami-factory/pkg/localcloud/fault"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/simulated"
	"github.com/ami-factory/ami-factory/pkg/rehearsal"
	"github.com/ami-factory/ami-factory/pkg/rehearsal/guests"
)

func TestABakePublishesToBothRegionsAndLeavesNothingElse(t *testing.T) {
	t.Parallel()
	f := simFactory(t, nil)
	s := bake(t, f, contract.ExecutionInput{})
	require.Equal(t, contract.Published, s.Status, s.Cause)
	require.Len(t, s.Images, 2)
	for _, region := range []string{home, second} {
		assert.Equal(t, s.Images[region], pointed(t, f, region))
		out, err := f.Cloud.EC2.DescribeImages(context.Background(), &ec2.DescribeImagesInput{ImageIds: []string{s.Images[region]}},
			func(o *ec2.Options) { o.Region = region })
		require.NoError(t, err)
		image := out.Images[0]
		assert.Equal(t, ec2types.ImdsSupportValuesV20, image.ImdsSupport, region)
		assert.True(t, aws.ToBool(image.BlockDeviceMappings[0].Ebs.Encrypted), region)
		shared, err := f.Cloud.EC2.DescribeImageAttribute(context.Background(), &ec2.DescribeImageAttributeInput{
			ImageId: image.ImageId, Attribute: ec2types.ImageAttributeNameLaunchPermission,
		}, func(o *ec2.Options) { o.Region = region })
		require.NoError(t, err)
		require.Len(t, shared.LaunchPermissions, 1, region)
		assert.Equal(t, "210987654321", aws.ToString(shared.LaunchPermissions[0].UserId))
	}
	left := take(t, f)
	assert.Empty(t, left.Alive)
	assert.ElementsMatch(t, []string{s.Images[home], s.Images[second]}, left.Images)
	assert.Len(t, left.Snapshots, 2)
	assert.Equal(t, vm.Simulated, s.Guests)
	assert.Positive(t, s.Checks.Passed)
	page, err := os.ReadFile(s.Report)
	require.NoError(t, err)
	assert.Contains(t, string(page), "imulated", "the report says that nothing was proved")
}

func TestNothingChangedEndsUpToDateAndForceBakesAgain(t *testing.T) {
	t.Parallel()
	f := simFactory(t, nil)
	first := bake(t, f, contract.ExecutionInput{})
	again := bake(t, f, contract.ExecutionInput{})
	require.Equal(t, contract.UpToDate, again.Status, again.Cause)
	assert.Equal(t, first.Images, again.Images)
	assert.Equal(t, first.Fingerprint, again.Fingerprint)
	forced := bake(t, f, contract.ExecutionInput{Force: true})
	require.Equal(t, contract.Published, forced.Status, forced.Cause)
	assert.Equal(t, first.Fingerprint, forced.Fingerprint)
	assert.NotEqual(t, first.Images, forced.Images)
	assert.Equal(t, forced.Images[second], pointed(t, f, second))
}

func TestAFailedBakeSaysWhyAndLeavesNothing(t *testing.T) {
	t.Parallel()
	always := func(r fault.Rule) func(*rehearsal.Factory) {
		r.Times = -1
		return func(f *rehearsal.Factory) {
			_, err := f.Cloud.Faults.Add(r)
			if err != nil {
				panic(err)
			}
		}
	}
	for sentence, tc := range map[string]struct {
		input  contract.ExecutionInput
		guest  func(*guests.Simulated)
		faults func(*rehearsal.Factory)
		status string
		err    string
		cause  []string
	}{
		"an unknown recipe": {
			input: contract.ExecutionInput{Recipe: "debian-99"}, status: contract.FailedClean, err: "RecipeInvalid",
			cause: []string{"debian-99", recipeName},
		},
		"a source of a malformed id": {
			input: contract.ExecutionInput{Source: "ami-xyz"}, status: contract.FailedClean, err: "InvalidInput", cause: []string{"ami-xyz"},
		},
		"a component whose install fails": {
			guest:  func(g *guests.Simulated) { g.FailComponent = "docker" },
			status: contract.FailedClean, err: "ProvisioningFailed", cause: []string{"component docker", "simulated failure of docker"},
		},
		"a builder that prints what takes six bytes a character, and what acts on a terminal": {
			guest: func(g *guests.Simulated) {
				g.FailComponent = "docker" + strings.Repeat("<", 1500) + "\x1b[2J\u202e"
			},
			status: contract.FailedClean, err: "ProvisioningFailed", cause: []string{"component docker<<<", "bytes left out", "<U+001B>[2J<U+202E>"},
		},
		"a control that does not hold": {
			guest:  func(g *guests.Simulated) { g.FailControls = []string{"SSH-03"} },
			status: contract.Rejected, err: "ComplianceRejected", cause: []string{"SSH-03", "simulated: something else"},
		},
		"a guest that never boots": {
			guest: func(g *guests.Simulated) {
				g.Faults = func(vm.Launch) simulated.Faults { return simulated.Faults{NeverBoots: true} }
			},
			status: contract.FailedClean, err: "InstanceTimedOut", cause: []string{"45m", "console"},
		},
		"a machine that cannot start": {
			guest: func(g *guests.Simulated) {
				g.Faults = func(vm.Launch) simulated.Faults {
					return simulated.Faults{Start: errors.New("no space left on device")}
				}
			},
			status: contract.FailedClean, err: "InstanceFailed", cause: []string{"no space left on device"},
		},
		"a machine that dies while it is provisioned": {
			guest: func(g *guests.Simulated) {
				g.Faults = func(vm.Launch) simulated.Faults { return simulated.Faults{DiesAfter: time.Minute} }
			},
			status: contract.FailedClean, err: "InstanceFailed",
		},
		"no capacity anywhere": {
			faults: always(fault.Rule{Service: "ec2", Operation: "RunInstances", Code: "InsufficientInstanceCapacity"}),
			status: contract.FailedClean, err: "CapacityUnavailable", cause: []string{"t3.medium", "t3a.medium", "m6i.large"},
		},
		"launching denied": {
			faults: always(fault.Rule{Service: "ec2", Operation: "RunInstances", Code: "UnauthorizedOperation", Status: 403}),
			status: contract.FailedClean, err: "AccessDenied",
		},
		"imaging denied": {
			faults: always(fault.Rule{Service: "ec2", Operation: "CreateImage", Code: "UnauthorizedOperation", Status: 403}),
			status: contract.FailedClean, err: "AccessDenied",
		},
		"commands denied": {
			faults: always(fault.Rule{Service: "ssm", Operation: "SendCommand", Code: "AccessDeniedException", Status: 400}),
			status: contract.FailedClean, err: "AccessDenied",
		},
		"somebody has changed the document that runs scripts": {
			faults: func(f *rehearsal.Factory) {
				changed := strings.Replace(contract.ScriptDocumentContent, "{{ commands }}", "id; {{ commands }}", 1)
				client, name := ssm.NewFromConfig(f.Cloud.AWSConfig("")), aws.String(contract.ScriptDocument)
				_, err := client.UpdateDocument(t.Context(), &ssm.UpdateDocumentInput{Name: name, Content: &changed, DocumentVersion: aws.String("$LATEST")})
				if err == nil {
					_, err = client.UpdateDocumentDefaultVersion(t.Context(), &ssm.UpdateDocumentDefaultVersionInput{Name: name, DocumentVersion: aws.String("2")})
				}
				if err != nil {
					panic(err)
				}
			},
			status: contract.FailedClean, err: "DocumentChanged", cause: []string{contract.ScriptDocument, guest.DocumentHash()},
		},
		"copying denied in the second region": {
			faults: always(fault.Rule{Service: "ec2", Operation: "CopyImage", Region: second, Code: "UnauthorizedOperation", Status: 403}),
			status: contract.FailedClean, err: "AccessDenied",
		},
		"sharing denied in the second region": {
			faults: always(fault.Rule{Service: "ec2", Operation: "ModifyImageAttribute", Region: second, Code: "UnauthorizedOperation", Status: 403}),
			status: contract.FailedClean, err: "AccessDenied",
		},
		"a pointer that cannot be moved in the second region": {
			faults: always(fault.Rule{Service: "ssm", Operation: "PutParameter", Region: second, Code: "AccessDeniedException", Status: 400}),
			status: contract.FailedClean, cause: []string{second},
		},
		"instances that cannot be terminated": {
			faults: always(fault.Rule{Service: "ec2", Operation: "TerminateInstances", Code: "UnauthorizedOperation", Status: 403}),
			guest:  func(g *guests.Simulated) { g.FailComponent = "docker" },
			status: contract.FailedDirty, err: "ProvisioningFailed", cause: []string{"component docker", "Left behind", "i-"},
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			f := simFactory(t, func(o *rehearsal.Options) {
				if tc.guest != nil {
					tc.guest(&o.Simulated)
				}
			})
			if tc.faults != nil {
				tc.faults(f)
			}
			s := bake(t, f, tc.input)
			require.Equal(t, tc.status, s.Status, s.Cause)
			if tc.err != "" {
				assert.Equal(t, tc.err, s.Error, s.Cause)
			}
			for _, text := range tc.cause {
				assert.Contains(t, s.Cause, text)
			}
			assert.Empty(t, pointed(t, f, home), "no pointer was moved")
			assert.Empty(t, pointed(t, f, second), "no pointer was moved")
			if tc.status == contract.FailedDirty {
				assert.NotEmpty(t, take(t, f).Alive)
				return
			}
			requireNothingLeft(t, f)
		})
	}
}

func TestPassingTroubleOfAWSIsRiddenOut(t *testing.T) {
	t.Parallel()
	for sentence, rules := range map[string][]fault.Rule{
		"throttling everywhere": {
			{Service: "ec2", Code: "RequestLimitExceeded", Status: 503, Times: 8},
			{Service: "ssm", Code: "ThrottlingException", Status: 400, Times: 8},
			{Service: "s3", Code: "SlowDown", Status: 503, Times: 4},
		},
		"no capacity for the first two instance types": {
			{Service: "ec2", InstanceType: "t3.medium", Times: -1}, {Service: "ec2", InstanceType: "t3a.medium", Times: -1},
		},
		"an internal error of every stage's first call": {
			{Service: "ec2", Operation: "RunInstances", Code: "InternalError", Status: 500},
			{Service: "ec2", Operation: "CreateImage", Code: "InternalError", Status: 500},
			{Service: "ec2", Operation: "CopyImage", Code: "InternalError", Status: 500},
			{Service: "ssm", Operation: "SendCommand", Code: "InternalServerError", Status: 500},
			{Service: "ssm", Operation: "PutParameter", Code: "InternalServerError", Status: 500},
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			f := simFactory(t, nil)
			_, err := f.Cloud.Faults.Add(rules...)
			require.NoError(t, err)
			s := bake(t, f, contract.ExecutionInput{})
			require.Equal(t, contract.Published, s.Status, s.Cause)
			left := take(t, f)
			assert.Empty(t, left.Alive)
			assert.Len(t, left.Images, 2)
			assert.Len(t, left.Snapshots, 2)
		})
	}
}

func TestAFailureAfterAnEarlierSuccessKeepsWhatIsPublished(t *testing.T) {
	t.Parallel()
	f := simFactory(t, nil)
	first := bake(t, f, contract.ExecutionInput{})
	_, err := f.Cloud.Faults.Add(fault.Rule{Service: "ssm", Operation: "PutParameter", Region: second, Code: "AccessDeniedException", Status: 400, Times: -1})
	require.NoError(t, err)
	s := bake(t, f, contract.ExecutionInput{Force: true})
	require.Equal(t, contract.FailedClean, s.Status, s.Cause)
	assert.Equal(t, first.Images[home], pointed(t, f, home), "the pointer is back")
	assert.Equal(t, first.Images[second], pointed(t, f, second))
	assert.ElementsMatch(t, []string{first.Images[home], first.Images[second]}, take(t, f).Images)
}

func TestAnInterruptedBakeLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, state := range []string{"LaunchBuilder", "AwaitProvisioned", "CreateImage", "AwaitImage", "Copy", "EvaluateGate", "AwaitCopy", "ShareImage"} {
		t.Run("during "+state, func(t *testing.T) {
			f := simFactory(t, nil)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			s, err := f.Bake(ctx, contract.ExecutionInput{Recipe: recipeName}, func(e execution.Event) {
				if e.State == state {
					cancel()
				}
			})
			if err == nil { // virtual time was faster than the interruption
				require.Equal(t, contract.Published, s.Status, s.Cause)
				assert.Empty(t, take(t, f).Alive)
				return
			}
			require.ErrorIs(t, err, rehearsal.ErrInterrupted)
			requireNothingLeft(t, f)
		})
	}
}

func TestWhatAKilledRunLeftIsRemovedByTheNext(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	goss := filepath.Join(dir, "goss")
	require.NoError(t, os.WriteFile(goss, []byte("stand-in"), 0o600))
	opts := rehearsal.Options{
		Guests: vm.Simulated, StateDir: filepath.Join(dir, "state"), CacheDir: filepath.Join(dir, "cache"), GossFile: goss, Version: "test",
		Timing:    localec2.Timing{PendingToRunning: time.Millisecond},
		Simulated: guests.Simulated{Check: time.Hour},
	}
	first, err := rehearsal.Open(context.Background(), opts)
	require.NoError(t, err)
	started, err := first.Cloud.States.StartExecution(t.Context(), &sfn.StartExecutionInput{
		StateMachineArn: &first.StateMachine, Input: aws.String(`{"recipe":"` + recipeName + `"}`),
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	history, err := first.Cloud.States.Watch(ctx, aws.ToString(started.ExecutionArn))
	require.NoError(t, err)
	for e := range history {
		if d := e.StateEnteredEventDetails; d != nil && aws.ToString(d.Name) == "EvaluateGate" {
			break
		}
	}
	cancel()
	require.NotEmpty(t, take(t, first).Alive)
	// As a killed process leaves it: state on disk, the execution under way.
	require.NoError(t, first.Close(context.Background()))

	next := open(t, opts)
	assert.NotEmpty(t, next.Recovered)
	requireNothingLeft(t, next)
}

func TestTwoExecutionsOfOneRecipeAtOnceBothPublish(t *testing.T) {
	var passes clock.Clock
	f := simFactory(t, func(o *rehearsal.Options) { passes = o.Clock })
	publish(t, f)
	var arns []string
	hold := passes.Hold() // both start in the same moment
	for _, name := range []string{"one", "two"} {
		started, err := f.Cloud.States.StartExecution(t.Context(), &sfn.StartExecutionInput{
			StateMachineArn: &f.StateMachine, Name: &name, Input: aws.String(`{"recipe":"` + recipeName + `","force":true}`),
		})
		require.NoError(t, err)
		arns = append(arns, aws.ToString(started.ExecutionArn))
	}
	hold()
	waited := 0
	var published []string
	for _, arn := range arns {
		history, err := f.Cloud.States.Watch(t.Context(), arn)
		require.NoError(t, err)
		var publishing []time.Time
		for e := range history {
			if d := e.StateEnteredEventDetails; d != nil && aws.ToString(d.Name) == contract.StatePublish {
				publishing = append(publishing, aws.ToTime(e.Timestamp))
			}
			if d := e.StateExitedEventDetails; d != nil && aws.ToString(d.Name) == contract.StatePublish {
				publishing = append(publishing, aws.ToTime(e.Timestamp))
			}
			if d := e.TaskFailedEventDetails; d != nil && strings.Contains(aws.ToString(d.Cause), "has been publishing recipe "+recipeName) {
				waited++
				assert.Equal(t, "PublishNotReady", aws.ToString(d.Error))
				assert.True(t, strings.Contains(*d.Cause, arns[0]) || strings.Contains(*d.Cause, arns[1]), "the cause names the other execution: %s", *d.Cause)
			}
		}
		require.Len(t, publishing, 2)
		assert.Less(t, publishing[1].Sub(publishing[0]), time.Minute)
		end, err := f.Cloud.States.DescribeExecution(t.Context(), &sfn.DescribeExecutionInput{ExecutionArn: &arn})
		require.NoError(t, err)
		var out struct {
			Status string
			Images map[string]string
		}
		require.NoError(t, json.Unmarshal([]byte(aws.ToString(end.Output)), &out))
		assert.Equal(t, contract.Published, out.Status)
		published = append(published, out.Images[home])
	}
	assert.Positive(t, waited, "the second has waited")
	assert.Contains(t, published, pointed(t, f, home))
}

// A process that is killed loses what it wrote to the bucket's index last; the
// versions before it must still be there.
func TestTheBucketKeepsVersionsAsOnAWS(t *testing.T) {
	t.Parallel()
	f := simFactory(t, nil)
	client := s3.NewFromConfig(f.Cloud.AWSConfig(""), func(o *s3.Options) { o.UsePathStyle = true })
	out, err := client.GetBucketVersioning(context.Background(), &s3.GetBucketVersioningInput{Bucket: &f.Bucket})
	require.NoError(t, err)
	assert.Equal(t, s3types.BucketVersioningStatusEnabled, out.Status)
}

func TestTwoRunsDoNotShareAState(t *testing.T) {
	t.Parallel()
	f := simFactory(t, nil)
	dir := filepath.Dir(f.StateDir)
	goss := filepath.Join(t.TempDir(), "goss")
	require.NoError(t, os.WriteFile(goss, []byte("stand-in"), 0o600))
	_, err := rehearsal.Open(context.Background(), rehearsal.Options{
		Guests: vm.Simulated, StateDir: dir, CacheDir: t.TempDir(), GossFile: goss,
	})
	require.ErrorContains(t, err, "in use")
}

func TestABusyPortIsSaidSo(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = listener.Close() }()
	goss := filepath.Join(t.TempDir(), "goss")
	require.NoError(t, os.WriteFile(goss, []byte("stand-in"), 0o600))
	_, err = rehearsal.Open(context.Background(), rehearsal.Options{
		Guests: vm.Simulated, CacheDir: t.TempDir(), GossFile: goss, Listen: listener.Addr().String(),
	})
	require.ErrorContains(t, err, "in use")
	require.ErrorContains(t, err, "--listen")
}

func TestTheStagesRunInTheirOrder(t *testing.T) {
	t.Parallel()
	s := bake(t, simFactory(t, nil), contract.ExecutionInput{})
	var names []string
	for _, state := range s.States {
		names = append(names, state.State)
	}
	assert.Equal(t, []string{
		"Resolve", "LaunchBuilder", "AwaitProvisioned", "Seal", "CreateImage", "AwaitImage", "Copy", "LaunchVerifier", "AwaitBoot",
		"RunCompliance", "EvaluateGate", "AwaitCopy", "Sign", "ShareImage", "Publish", "Announce", "Retire", "Cleanup", "Notify",
	}, names)
	assert.False(t, slices.ContainsFunc(s.States, func(x execution.StateSeconds) bool { return x.Seconds < 0 }))
}

func TestEveryShippedRecipeIsBakedOnTheBaseOfItsFamilyAndArchitecture(t *testing.T) {
	t.Parallel()
	f := simFactory(t, nil)
	want := map[string]string{
		"al2023-docker":       "al2023-ami-kernel-default-x86_64-simulated",
		"debian-12-docker":    "debian-12-amd64-20260101-5085-simulated",
		"debian-13-docker":    "debian-13-amd64-20260101-3448-simulated",
		"ubuntu-24.04-docker": "ubuntu-noble-24.04-amd64-server-simulated",

		"ubuntu-24.04-arm64-docker": "ubuntu-noble-24.04-arm64-server-simulated",
	}
	sources := map[string]string{}
	for name := range want {
		s := bake(t, f, contract.ExecutionInput{Recipe: name})
		require.Equal(t, contract.Published, s.Status, "%s: %s", name, s.Cause)
		out, err := f.Cloud.EC2.DescribeImages(context.Background(), &ec2.DescribeImagesInput{ImageIds: []string{s.SourceImage}},
			func(o *ec2.Options) { o.Region = home })
		require.NoError(t, err)
		sources[name] = aws.ToString(out.Images[0].Name)
	}
	assert.Equal(t, want, sources)
}
