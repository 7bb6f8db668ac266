package test

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	lambdaapi "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/approval"
	"github.com/ami-factory/ami-factory/pkg/blueprint"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	localec2 "github.com/ami-factory/ami-factory/pkg/localcloud/ec2"
	"github.com/ami-factory/ami-factory/pkg/localcloud/fault"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/rehearsal"
	"github.com/ami-factory/ami-factory/pkg/rehearsal/guests"
	"github.com/ami-factory/ami-factory/pkg/store"
	"github.com/ami-factory/ami-factory/pkg/workflow"
)

const rolePrefix = "arn:aws:iam::111122223333:role/ami-factory-"

// roleNamed is the ARN of a role by its name without what all begin with, or by
// its whole name if it is of the target account.
func roleNamed(name string) string {
	if name == blueprint.TargetReaderName || name == blueprint.TargetWriterName {
		return blueprint.TargetRoleARN("aws", target, name)
	}
	return rolePrefix + name
}

// ledger notes what the roles of factories ask for.
type ledger struct {
	mu        sync.Mutex
	all       []authz.Decision
	factories []*rehearsal.Factory
	clock     clock.Clock // of the newest factory
}

func (l *ledger) note(d authz.Decision) {
	d.Request.Resource = anyKey(d.Request.Resource)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, d)
}

// factory is simFactory with its decisions in the ledger.
func (l *ledger) factory(t *testing.T, change func(*guests.Simulated)) *rehearsal.Factory {
	t.Helper()
	f := simFactory(t, func(o *rehearsal.Options) {
		o.Decisions = l.note
		l.clock = o.Clock
		if change != nil {
			change(&o.Simulated)
		}
	})
	l.factories = append(l.factories, f)
	return f
}

// unused are the permissions of roles that allowed no request in any factory, as
// the embedded IAM has counted them.
func (l *ledger) unused(names []string) []string {
	requests := map[string]int{}
	for _, f := range l.factories {
		for _, name := range names {
			for _, use := range f.Cloud.IAM.Uses(roleNamed(name)) {
				requests[name+": "+use.Action+" on "+anyKey(use.Resource)] += use.Requests
			}
		}
	}
	maps.DeleteFunc(requests, func(_ string, n int) bool { return n > 0 })
	return slices.Sorted(maps.Keys(requests))
}

// family is familyFactory with its decisions in the ledger.
func (l *ledger) family(t *testing.T, change func(*guests.Simulated)) *rehearsal.Factory {
	t.Helper()
	f := familyFactory(t, func(o *rehearsal.Options) {
		o.Decisions = l.note
		if change != nil {
			change(&o.Simulated)
		}
	})
	l.factories = append(l.factories, f)
	return f
}

// shared is targetFactory with its decisions in the ledger, which sends findings to
// Security Hub too.
func (l *ledger) shared(t *testing.T) *rehearsal.Factory {
	t.Helper()
	f := targetFactory(t, func(o *rehearsal.Options) { o.Decisions, o.SecurityHub = l.note, true })
	l.factories = append(l.factories, f)
	return f
}

// requireAllowed reports which call of which role was denied, and why.
func (l *ledger) requireAllowed(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range l.all {
		require.Equal(t, authz.Allowed, d.Verdict, "%s may not %s on %s %s", d.RoleARN, d.Request.Action, d.Request.Resource, d.Verdict.Because(d.Request.Action))
	}
}

func arnOf(f *rehearsal.Factory, execution string) string {
	return strings.Replace(f.StateMachine, ":stateMachine:", ":execution:", 1) + ":" + execution
}

// again runs a stage's function once more with what an execution gave it last,
// as Step Functions does when it has lost the answer.
func again(t *testing.T, f *rehearsal.Factory, execution string, stage workflow.Stage) {
	t.Helper()
	_, err := f.Cloud.Lambda.Invoke(context.Background(), &lambdaapi.InvokeInput{
		FunctionName: aws.String("ami-factory-" + string(stage)), Payload: payloadOf(t, f, execution, stage),
	})
	require.NoError(t, err)
}

// launchOfAnother launches a builder as an execution of another name would, with
// the plan of one that ended, and returns what the function answers.
func launchOfAnother(t *testing.T, f *rehearsal.Factory, execution, name string, started time.Time) string {
	t.Helper()
	var in map[string]any
	require.NoError(t, json.Unmarshal(payloadOf(t, f, execution, workflow.Launch), &in))
	in["execution"] = map[string]any{"id": arnOf(f, name), "name": name, "startTime": started}
	in["stage"], in["role"] = "LaunchBuilder", "builder"
	delete(in, "imageId")
	raw, err := json.Marshal(in)
	require.NoError(t, err)
	out, err := f.Cloud.Lambda.Invoke(context.Background(), &lambdaapi.InvokeInput{FunctionName: aws.String("ami-factory-" + string(workflow.Launch)), Payload: raw})
	require.NoError(t, err)
	return string(out.Payload)
}

// terminate ends an instance that no execution will.
func terminate(t *testing.T, f *rehearsal.Factory, ids ...string) {
	t.Helper()
	_, err := f.Cloud.EC2.TerminateInstances(context.Background(), &ec2.TerminateInstancesInput{InstanceIds: ids})
	require.NoError(t, err)
}

func payloadOf(t *testing.T, f *rehearsal.Factory, execution string, stage workflow.Stage) (payload []byte) {
	t.Helper()
	pages := sfn.NewGetExecutionHistoryPaginator(f.Cloud.States, &sfn.GetExecutionHistoryInput{ExecutionArn: aws.String(arnOf(f, execution)), IncludeExecutionData: aws.Bool(true)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(context.Background())
		require.NoError(t, err)
		for _, e := range page.Events {
			if e.TaskScheduledEventDetails == nil {
				continue
			}
			var task struct {
				FunctionName string
				Payload      json.RawMessage
			}
			require.NoError(t, json.Unmarshal([]byte(aws.ToString(e.TaskScheduledEventDetails.Parameters)), &task))
			if strings.HasSuffix(task.FunctionName, ":ami-factory-"+string(stage)) {
				payload = task.Payload
			}
		}
	}
	require.NotEmpty(t, payload, "the execution has invoked %s", stage)
	return payload
}

func TestAnInstanceIsAdoptedIfThisExecutionLaunchedIt(t *testing.T) {
	t.Parallel()
	clk := clock.NewVirtual(time.Date(2026, 11, 1, 3, 0, 0, 0, time.UTC))
	f := simFactory(t, func(o *rehearsal.Options) { o.Clock = clk })
	s := publish(t, f)
	visible := func() { require.NoError(t, clk.Sleep(t.Context(), time.Minute)) }
	now := time.Now()
	first := launchOfAnother(t, f, s.Execution, "another", now)
	assert.Contains(t, first, `"instanceId":"i-`)
	visible()
	assert.JSONEq(t, first, launchOfAnother(t, f, s.Execution, "another", now), "a second attempt finds the first one's instance")

	answer := launchOfAnother(t, f, s.Execution, "another", now.AddDate(0, 0, -91))
	assert.Contains(t, answer, `"errorType":"InstanceMismatch"`, "the same name, at another time")

	out, err := f.Cloud.EC2.RunInstances(t.Context(), &ec2.RunInstancesInput{
		ImageId: aws.String(s.SourceImage), InstanceType: ec2types.InstanceTypeT3Medium, MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
		TagSpecifications: []ec2types.TagSpecification{{ResourceType: ec2types.ResourceTypeInstance, Tags: []ec2types.Tag{
			{Key: aws.String("ami-factory:execution"), Value: aws.String("victim")}, {Key: aws.String("ami-factory:stage"), Value: aws.String("LaunchBuilder")},
		}}},
	})
	require.NoError(t, err)
	rogue := *out.Instances[0].InstanceId
	visible()
	answer = launchOfAnother(t, f, s.Execution, "victim", now)
	assert.Contains(t, answer, `"errorType":"InstanceMismatch"`)
	assert.Contains(t, answer, rogue)
	described, err := f.Cloud.EC2.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{rogue}})
	require.NoError(t, err)
	assert.NotContains(t, []ec2types.InstanceStateName{"terminated", "shutting-down"}, described.Reservations[0].Instances[0].State.Name, "it is left alone")
}

// untag takes a tag off images and their snapshots, as if EC2 did not show it
// yet.
func untag(t *testing.T, f *rehearsal.Factory, images map[string]string) {
	t.Helper()
	for region, id := range images {
		here := func(o *ec2.Options) { o.Region = region }
		out, err := f.Cloud.EC2.DescribeImages(context.Background(), &ec2.DescribeImagesInput{ImageIds: []string{id}}, here)
		require.NoError(t, err)
		_, err = f.Cloud.EC2.DeleteTags(context.Background(), &ec2.DeleteTagsInput{
			Resources: []string{id, *out.Images[0].BlockDeviceMappings[0].Ebs.SnapshotId}, Tags: []ec2types.Tag{{Key: aws.String("ami-factory:recipe")}},
		}, here)
		require.NoError(t, err)
	}
}

// finishCopyWithoutIMDSv2 has check-distribution finish a copy that does not require
// IMDSv2, in place of the one that an execution made: the copy of an image without
// that attribute, since the embedded EC2 copies it.
func finishCopyWithoutIMDSv2(t *testing.T, f *rehearsal.Factory, s rehearsal.Summary) {
	t.Helper()
	there := func(o *ec2.Options) { o.Region = second }
	tags := []ec2types.Tag{{Key: aws.String(contract.TagExecution), Value: &s.Execution}}
	out, err := f.Cloud.EC2.CopyImage(t.Context(), &ec2.CopyImageInput{
		Name: aws.String("without-imdsv2"), SourceImageId: &s.SourceImage, SourceRegion: aws.String(home), Encrypted: aws.Bool(true),
		TagSpecifications: []ec2types.TagSpecification{{ResourceType: ec2types.ResourceTypeImage, Tags: tags}, {ResourceType: ec2types.ResourceTypeSnapshot, Tags: tags}},
	}, there)
	require.NoError(t, err)
	describe := func() (im ec2types.Image, err error) {
		images, err := f.Cloud.EC2.DescribeImages(t.Context(), &ec2.DescribeImagesInput{ImageIds: []string{*out.ImageId}}, there)
		if err == nil && len(images.Images) == 1 {
			im = images.Images[0]
		}
		return im, err
	}
	var made ec2types.Image
	require.Eventually(t, func() bool { // the copy is not visible at once
		made, err = describe()
		return err == nil && made.State == ec2types.ImageStateAvailable
	}, time.Minute, 10*time.Millisecond)
	require.Empty(t, made.ImdsSupport)
	var in map[string]any
	require.NoError(t, json.Unmarshal(payloadOf(t, f, s.Execution, workflow.CheckDistribution), &in))
	in["region"], in["copyId"] = second, *out.ImageId
	raw, err := json.Marshal(in)
	require.NoError(t, err)
	_, err = invoke(t, f, workflow.CheckDistribution, string(raw))
	require.NoError(t, err)
	made, err = describe()
	require.NoError(t, err)
	require.Equal(t, ec2types.ImdsSupportValuesV20, made.ImdsSupport)
}

// rewind makes the journal of an execution say that it is moving its pointers,
// as if Publish had been killed then.
func rewind(t *testing.T, f *rehearsal.Factory, execution string) {
	t.Helper()
	key := "executions/" + execution + "/pointers.json"
	out, err := f.Cloud.S3.GetObject(context.Background(), &s3.GetObjectInput{Bucket: &f.Bucket, Key: &key})
	require.NoError(t, err)
	var journal map[string]any
	require.NoError(t, json.NewDecoder(out.Body).Decode(&journal))
	require.Equal(t, "committed", journal["state"])
	journal["state"] = "moving"
	raw, err := json.Marshal(journal)
	require.NoError(t, err)
	_, err = f.Cloud.S3.PutObject(context.Background(), &s3.PutObjectInput{Bucket: &f.Bucket, Key: &key, Body: bytes.NewReader(raw)})
	require.NoError(t, err)
	hold, err := json.Marshal(map[string]any{"execution": arnOf(f, execution)})
	require.NoError(t, err)
	_, err = f.Cloud.S3.PutObject(context.Background(), &s3.PutObjectInput{Bucket: &f.Bucket, Key: aws.String(contract.PublishingKey(recipeName)), Body: bytes.NewReader(hold)})
	require.NoError(t, err)
}

// settles awaits that a pointer names an image: SSM validates it first.
func settles(t *testing.T, f *rehearsal.Factory, region, image string) {
	t.Helper()
	require.Eventually(t, func() bool { return pointed(t, f, region) == image }, time.Minute, 10*time.Millisecond, "the pointer in %s", region)
}

// publish bakes an image again.
func publish(t *testing.T, f *rehearsal.Factory) rehearsal.Summary {
	t.Helper()
	s := bake(t, f, contract.ExecutionInput{Force: true})
	require.Equal(t, contract.Published, s.Status, s.Cause)
	return s
}

// scenarios are the lives of factories in which every call that a stage can make
// is made: what is published, refused, failed, repeated and given back.
func scenarios() map[string]func(*testing.T, *ledger) {
	return map[string]func(*testing.T, *ledger){
		"triggers fail, and schedules ring": failingTriggers,
		"people approve a release, reject one, and are not asked about one whose requester nobody knows": func(t *testing.T, l *ledger) {
			last := approval.Approve
			a := newApproving(t, "two", func(a *approving, ctx context.Context) {
				a.say(ctx, "anna", approval.Approve, a.asked.BundleDigest)
				a.say(ctx, "bert", last, a.asked.BundleDigest)
			}, func(o *rehearsal.Options) { o.Decisions = l.note })
			l.factories = append(l.factories, a.Factory)
			publish(t, a.Factory)
			last = approval.Reject
			s := bake(t, a.Factory, contract.ExecutionInput{Force: true})
			require.Equal(t, contract.ApprovalRefused, s.Status, s.Cause)
			require.Equal(t, string(failure.RequesterUnknown), aws.ToString(a.startedDirectly().Error))
			last = approval.Approve
			a.edit("approval: {mode: two,", "approval: {mode: whenDiffIsMore,")
			publish(t, a.Factory)
			// Whoever repeats a request to start an execution is who took its name.
			client, err := a.As(t.Context(), "rita")
			require.NoError(t, err)
			for range 2 {
				_, err := client.Build(t.Context(), approval.BuildRequest{ExecutionInput: contract.ExecutionInput{Recipe: recipeName}, Name: "again"})
				require.NoError(t, err)
			}
		},
		"images are published, nothing has changed, and the first is retired after its grace where it is not in use": func(t *testing.T, l *ledger) {
			f := l.factory(t, nil)
			first := publish(t, f)
			s := bake(t, f, contract.ExecutionInput{})
			require.Equal(t, contract.UpToDate, s.Status, s.Cause)
			_, err := f.Cloud.EC2.RunInstances(context.Background(), &ec2.RunInstancesInput{
				ImageId: aws.String(first.Images[home]), InstanceType: ec2types.InstanceTypeT3Medium, MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
			})
			require.NoError(t, err)
			for range 3 {
				publish(t, f)
			}
			fetchAsBuilder(t, f)
			require.Subset(t, take(t, f).Images, slices.Collect(maps.Values(first.Images)))
			require.NoError(t, l.clock.Sleep(context.Background(), 8*24*time.Hour))
			publish(t, f)
			left := take(t, f).Images
			assert.Contains(t, left, first.Images[home])
			assert.NotContains(t, left, first.Images[second])
		},
		"the published image is released again, and a release that fails is undone": func(t *testing.T, l *ledger) {
			e := newEditable(t, func(o *rehearsal.Options) { o.Decisions = l.note })
			l.factories = append(l.factories, e.Factory)
			publish(t, e.Factory)
			e.edit("description: Debian 12 with Docker", "description: Debian 12 and Docker", `accounts: ["210987654321"]`, `accounts: ["`+partner+`"]`)
			s := bake(t, e.Factory, contract.ExecutionInput{})
			require.Equal(t, contract.Published, s.Status, s.Cause)
			require.NotNil(t, s.Again)
			e.edit(`accounts: ["`+partner+`"]`, `accounts: ["210987654321"]`, "docker/latest]", "docker/latest, /ami-factory/debian-12-docker/newest]")
			_, err := e.Cloud.Faults.Add(fault.Rule{Service: "ssm", Operation: "PutParameter", Region: second, Code: "ValidationException", Status: 400, Times: -1})
			require.NoError(t, err)
			s = bake(t, e.Factory, contract.ExecutionInput{})
			require.Equal(t, contract.FailedClean, s.Status, s.Cause)
			assert.Equal(t, []string{partner}, e.sharedWith(home, e.value(home, pointer)))
		},
		"the results of the published image are missing, so a release needs a bake": func(t *testing.T, l *ledger) {
			e := newEditable(t, func(o *rehearsal.Options) { o.Decisions = l.note })
			l.factories = append(l.factories, e.Factory)
			key := contract.ExecutionKey(publish(t, e.Factory).Execution, contract.ComplianceObject)
			_, err := e.Cloud.S3.DeleteObject(context.Background(), &s3.DeleteObjectInput{Bucket: &e.Bucket, Key: &key})
			require.NoError(t, err)
			e.edit("keep: 3", "keep: 4")
			s := bake(t, e.Factory, contract.ExecutionInput{})
			require.Equal(t, contract.Published, s.Status, s.Cause)
			assert.Nil(t, s.Again)
		},
		"events are lost, so that clean-up finds tokens": func(t *testing.T, l *ledger) {
			f := l.factory(t, nil)
			loseEvents(t, f)
			publish(t, f)
		},
		"the gate rejects": func(t *testing.T, l *ledger) {
			s := bake(t, l.factory(t, func(g *guests.Simulated) { g.FailControls = []string{"SSH-03"} }), contract.ExecutionInput{})
			require.Equal(t, contract.Rejected, s.Status, s.Cause)
		},
		"a component fails": func(t *testing.T, l *ledger) {
			s := bake(t, l.factory(t, func(g *guests.Simulated) { g.FailComponent = "docker" }), contract.ExecutionInput{})
			require.Equal(t, contract.FailedClean, s.Status, s.Cause)
			require.Equal(t, "ProvisioningFailed", s.Error)
		},
		"a pointer cannot be moved, and the other is given back": func(t *testing.T, l *ledger) {
			f := l.factory(t, nil)
			_, err := f.Cloud.Faults.Add(fault.Rule{Service: "ssm", Operation: "PutParameter", Region: second, Code: "ValidationException", Status: 400, Times: -1})
			require.NoError(t, err)
			s := bake(t, f, contract.ExecutionInput{})
			require.Equal(t, contract.FailedClean, s.Status, s.Cause)
			assert.Empty(t, pointed(t, f, home))
		},
		"stages are repeated whose answer was lost, and tags are late": func(t *testing.T, l *ledger) {
			f := l.factory(t, nil)
			s := publish(t, f)
			again(t, f, s.Execution, workflow.Resolve)
			var launched [2]struct{ InstanceID string }
			for i, now := 0, time.Now(); i < 2; i++ {
				require.NoError(t, json.Unmarshal([]byte(launchOfAnother(t, f, s.Execution, "another", now)), &launched[i]))
			}
			require.Equal(t, launched[0], launched[1])
			terminate(t, f, launched[0].InstanceID)
			again(t, f, s.Execution, workflow.CreateImage)
			untag(t, f, s.Images)
			again(t, f, s.Execution, workflow.CheckImage)
			untag(t, f, s.Images)
			again(t, f, s.Execution, workflow.CheckDistribution)
			again(t, f, s.Execution, workflow.Sign)
			again(t, f, s.Execution, workflow.Share)
			finishCopyWithoutIMDSv2(t, f, s)
		},
		"the bucket has a data stream and a feed of vulnerabilities": func(t *testing.T, l *ledger) {
			var now time.Time
			e := newEditable(t, func(o *rehearsal.Options) { o.Decisions, now = l.note, o.Clock.Now() })
			l.factories = append(l.factories, e.Factory)
			stream, feed := []byte("<data-stream-collection/>"), []byte(`{"openssl":{"CVE-2026-0001":{"releases":{"bookworm":{"status":"open","urgency":"low"}}}}}`)
			for key, body := range map[string][]byte{contract.StreamsPrefix + "ds.xml": stream, contract.FeedKey(store.Digest(feed)): feed} {
				_, err := e.Cloud.S3.PutObject(context.Background(), &s3.PutObjectInput{Bucket: &e.Bucket, Key: aws.String(key), Body: bytes.NewReader(body)})
				require.NoError(t, err)
			}
			e.edit("  timeout: 15m", "  timeout: 15m\n  engines:\n    openscap: {stream: ds.xml, sha256: "+store.Digest(stream)+", profile: xccdf_org.ssgproject.content_profile_standard, minimumRules: 1, severity: high}",
				"gate:\n  severity: medium", "gate:\n  severity: medium\n  vulnerabilities:\n    severity: critical\n    maximumAge: 3d\n    feeds:\n"+
					"      - {kind: debianTracker, sha256: "+store.Digest(feed)+", published: '"+now.UTC().Format(time.RFC3339)+"'}")
			publish(t, e.Factory)
		},
		"checks that take their time, so that the snapshot is read meanwhile": func(t *testing.T, l *ledger) {
			publish(t, l.factory(t, func(s *guests.Simulated) { s.Check = 3 * time.Second }))
		},
		"a verifier that has uploaded nothing": func(t *testing.T, l *ledger) {
			f := l.factory(t, nil)
			s := publish(t, f)
			_, err := f.Cloud.S3.DeleteObject(context.Background(), &s3.DeleteObjectInput{Bucket: &f.Bucket, Key: aws.String("executions/" + s.Execution + "/results.json.gz")})
			require.NoError(t, err)
			again(t, f, s.Execution, workflow.CheckCompliance)
		},
		"clean-up gives back the pointers of a publication that was killed": func(t *testing.T, l *ledger) {
			f := l.factory(t, nil)
			first := publish(t, f)
			next := publish(t, f)
			// One of the pointers is missing, so it is made again.
			_, err := f.Cloud.SSM.DeleteParameter(context.Background(), &ssm.DeleteParameterInput{Name: aws.String(pointer)})
			require.NoError(t, err)
			rewind(t, f, next.Execution)
			_, err = f.Sweep(context.Background(), arnOf(f, next.Execution))
			require.NoError(t, err)
			for _, region := range []string{home, second} {
				settles(t, f, region, first.Images[region])
			}
			rewind(t, f, first.Execution)
			_, err = f.Sweep(context.Background(), arnOf(f, first.Execution))
			require.NoError(t, err)
			settles(t, f, home, "") // there was none before the first
		},
		"pointers of another account are moved and given back": func(t *testing.T, l *ledger) {
			f := l.shared(t)
			first := publish(t, f)
			next := publish(t, f)
			// One of the pointers is missing, so it is made again.
			_, err := f.Cloud.SSM.DeleteParameter(inTarget(home), &ssm.DeleteParameterInput{Name: aws.String(pointer)})
			require.NoError(t, err)
			rewind(t, f, next.Execution)
			_, err = f.Sweep(context.Background(), arnOf(f, next.Execution))
			require.NoError(t, err)
			for _, region := range []string{home, second} {
				require.Eventually(t, func() bool { return pointedInTarget(t, f, region) == first.Images[region] }, time.Minute, 10*time.Millisecond, region)
			}
			rewind(t, f, first.Execution)
			_, err = f.Sweep(context.Background(), arnOf(f, first.Execution))
			require.NoError(t, err)
			require.Eventually(t, func() bool { return pointedInTarget(t, f, home) == "" }, time.Minute, 10*time.Millisecond)
		},
		"a recipe fails night after night and is paused, while another is built by hand": func(t *testing.T, l *ledger) {
			f := l.family(t, func(g *guests.Simulated) { g.FailComponent = "docker" })
			for n, at := range []string{"2026-11-02T03:00:00Z", "2026-11-03T03:00:00Z", "2026-11-04T03:00:00Z"} {
				_, err := invoke(t, f, blueprint.StartBuilds, nightAt(at))
				require.NoError(t, err)
				settled(t, f, 3*(n+1))
				executions(t, f, 2*(n+1))
			}
			_, err := f.Cloud.States.StartExecution(context.Background(), &sfn.StartExecutionInput{
				StateMachineArn: &f.StateMachine, Input: aws.String(`{"recipe":"` + child + `","delaySeconds":3600}`),
			})
			require.NoError(t, err)
			_, err = invoke(t, f, blueprint.StartBuilds, nightAt("2026-11-05T03:00:00Z"))
			require.NoError(t, err)
			executions(t, f, 7)
		},
		"an image has a vulnerability with a fix": func(t *testing.T, l *ledger) {
			f := l.family(t, nil)
			s := bake(t, f, contract.ExecutionInput{})
			require.Equal(t, contract.Published, s.Status, s.Cause)
			settled(t, f, 2)
			executions(t, f, 2)
			inspects(t, f, finding(s.Images[home], "CVE-2026-0001", "YES"))
			settled(t, f, 5)
			executions(t, f, 4)
		},
		"the source is given, as the parameter or the pointer has it": func(t *testing.T, l *ledger) {
			f := l.factory(t, nil)
			s := publish(t, f)
			s = bake(t, f, contract.ExecutionInput{Source: s.SourceImage, Force: true})
			require.Equal(t, contract.Published, s.Status, s.Cause)
			f = l.family(t, nil)
			s = bake(t, f, contract.ExecutionInput{})
			require.Equal(t, contract.Published, s.Status, s.Cause)
			settled(t, f, 2)
			executions(t, f, 2)
			s = bake(t, f, contract.ExecutionInput{Recipe: child, Source: s.Images[home], Force: true})
			require.Equal(t, contract.Published, s.Status, s.Cause)
		},
		"a source moves": func(t *testing.T, l *ledger) {
			f := l.family(t, nil)
			for _, image := range []string{"ami-0123456789abcdef0", "ami-0123456789abcdef1"} {
				_, err := f.Cloud.SSM.PutParameter(context.Background(), &ssm.PutParameterInput{
					Name: aws.String(pointer), Value: &image, Overwrite: aws.Bool(true), Type: ssmtypes.ParameterTypeString,
				})
				require.NoError(t, err)
				_, err = invoke(t, f, blueprint.WatchSources, "{}")
				require.NoError(t, err)
			}
			settled(t, f, 2) // the event, and the end of what it started
			executions(t, f, 1)
		},
	}
}

// fetchAsBuilder gets bundles as builders do, which simulated ones do not: by an
// address that the role of launch has signed.
func fetchAsBuilder(t *testing.T, f *rehearsal.Factory) {
	t.Helper()
	listed, err := f.Cloud.S3.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &f.Bucket, Prefix: aws.String("bundles/")})
	require.NoError(t, err)
	require.NotEmpty(t, listed.Contents)
	client := s3.NewFromConfig(f.Cloud.AWSConfigOfRole(home, rolePrefix+"launch", "ami-factory-launch"), func(o *s3.Options) { o.UsePathStyle = true })
	signed, err := s3.NewPresignClient(client).PresignGetObject(t.Context(), &s3.GetObjectInput{Bucket: &f.Bucket, Key: listed.Contents[0].Key})
	require.NoError(t, err)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, signed.URL, nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusOK, response.StatusCode)
}

// unused are permissions that no call here needs, with the reason why they are
// granted all the same.
func unused() map[string]string {
	return map[string]string{
		"launch: ec2:RunInstances on arn:aws:ec2:*::snapshot/*": "EC2 asks for snapshots that a block device mapping names; whether it does for the image's own, its documents do not say",
	}
}

// TestTheFactoryIsGrantedWhatItMustDoAndNothingElse runs every scenario with the
// roles' policies in force, and then asks of each permission, which is an action
// of a statement on one of its resources, whether a call would have been denied
// without it.
func TestTheFactoryIsGrantedWhatItMustDoAndNothingElse(t *testing.T) {
	t.Parallel()
	l := &ledger{}
	for sentence, live := range scenarios() {
		t.Run(sentence, func(t *testing.T) {
			live(t, l)
			l.requireAllowed(t)
		})
	}
	if t.Failed() {
		return
	}
	asked := map[string][]authz.Request{}
	for _, d := range l.all {
		asked[d.RoleARN] = append(asked[d.RoleARN], d.Request)
	}
	f := targetFactory(t, func(o *rehearsal.Options) { o.SecurityHub = true })
	names := []string{"workflow", "builder", "schedules", blueprint.ForwarderRoleName, blueprint.TargetReaderName, blueprint.TargetWriterName}
	for _, fn := range blueprint.Functions() {
		if fn.Name == blueprint.ReleaseAnnounced { // it reads the sources, and stores announcements
			watch, announced := statementsOf(t, f, blueprint.WatchSources), statementsOf(t, f, fn.Name)
			announced = slices.DeleteFunc(announced, func(s string) bool { return strings.Contains(s, contract.AnnouncementKey("*")) })
			assert.Equal(t, watch, announced, "beside its own objects no more than the watcher may, whose permissions are proven below")
			continue
		}
		names = append(names, fn.Name)
	}
	excused := unused()
	assert.Equal(t, slices.Sorted(maps.Keys(excused)), l.unused(names), "permissions that were granted, and allowed no request")
	for _, name := range names {
		document := documentOf(t, f, name)
		for i, s := range document.Statements {
			for _, action := range s.Actions {
				for _, resource := range s.Resources {
					permission := name + ": " + action + " on " + resource
					t.Run("without "+permission, func(t *testing.T) {
						denied := firstDenied(asked[roleNamed(name)], without(document, i, action, resource))
						if _, ok := excused[permission]; ok {
							delete(excused, permission)
							assert.Empty(t, denied, "it is used after all: take it off the list")
							return
						}
						assert.Equal(t, action, denied, "no call needs it: an unused permission")
					})
				}
			}
		}
	}
	assert.Empty(t, excused, "these are not granted at all: take them off the list")
}

// rawOf is the one policy of a role.
func rawOf(t *testing.T, f *rehearsal.Factory, name string) string {
	t.Helper()
	role, ok := f.Cloud.IAM.Role(roleNamed(name))
	require.True(t, ok, name)
	require.Len(t, role.Policies, 1)
	for _, raw := range role.Policies {
		return string(raw)
	}
	return ""
}

// statementsOf are those of a role's policy, as JSON.
func statementsOf(t *testing.T, f *rehearsal.Factory, function string) []string {
	t.Helper()
	var document struct{ Statement []json.RawMessage }
	require.NoError(t, json.Unmarshal([]byte(rawOf(t, f, function)), &document))
	var out []string
	for _, s := range document.Statement {
		out = append(out, string(s))
	}
	return out
}

func documentOf(t *testing.T, f *rehearsal.Factory, name string) authz.Document {
	t.Helper()
	document, err := authz.Parse([]byte(anyKey(rawOf(t, f, name))))
	require.NoError(t, err)
	return document
}

var keyID = regexp.MustCompile(`:key/[0-9a-f]{8}-[0-9a-f-]{27}`)

// anyKey gives the keys in a text one id: each factory of these tests has made its own.
func anyKey(text string) string { return keyID.ReplaceAllString(text, ":key/1") }

// without is a document whose statement i does not allow an action on a resource.
func without(d authz.Document, i int, action, resource string) authz.Document {
	s := d.Statements[i]
	out := authz.Document{Statements: slices.Delete(slices.Clone(d.Statements), i, i+1)}
	keep := func(actions, resources []string) {
		if len(actions) > 0 && len(resources) > 0 {
			s.Actions, s.Resources = actions, resources
			out.Statements = append(out.Statements, s)
		}
	}
	actions, resources := s.Actions, s.Resources
	keep(slices.DeleteFunc(slices.Clone(actions), func(a string) bool { return a == action }), resources)
	keep([]string{action}, slices.DeleteFunc(slices.Clone(resources), func(r string) bool { return r == resource }))
	return out
}

// firstDenied is the action of the first request that is denied.
func firstDenied(requests []authz.Request, d authz.Document) string {
	for _, r := range requests {
		if authz.Evaluate(r, []authz.Document{d}, nil) != authz.Allowed {
			return r.Action
		}
	}
	return ""
}

// grantInstead has a role's policies allow another action; all else of the role,
// its trust too, stays.
func grantInstead(t *testing.T, f *rehearsal.Factory, name, action, other string) {
	t.Helper()
	role, ok := f.Cloud.IAM.Role(rolePrefix + name)
	require.True(t, ok)
	require.NotEmpty(t, role.Trust)
	policies := map[string]json.RawMessage{}
	for id, raw := range role.Policies {
		require.Contains(t, string(raw), action)
		policies[id] = bytes.ReplaceAll(raw, []byte(action), []byte(other))
	}
	role.Policies = policies
	require.NoError(t, f.Cloud.IAM.PutRole(role))
}

func TestABuilderThatMayNotTalkToSSMTimesOut(t *testing.T) {
	t.Parallel()
	f := simFactory(t, nil)
	grantInstead(t, f, "builder", "ssmmessages:OpenControlChannel", "ssmmessages:OpenDataChannel")
	s := bake(t, f, contract.ExecutionInput{})
	require.Equal(t, contract.FailedClean, s.Status, s.Cause)
	assert.Equal(t, "InstanceTimedOut", s.Error, s.Cause)
	requireNothingLeft(t, f)
}

func TestABuilderWhoseUploadsAreRefusedIsAskedOverSSM(t *testing.T) {
	t.Parallel()
	asked := func(refused bool) []string {
		f := simFactory(t, func(o *rehearsal.Options) { o.Simulated.Provision = time.Minute })
		if refused {
			grantInstead(t, f, "launch", "s3:PutObject", "s3:PutObjectTagging")
		}
		s := publish(t, f)
		out, err := f.Cloud.SSM.ListCommands(t.Context(), &ssm.ListCommandsInput{})
		require.NoError(t, err)
		var comments []string
		for _, c := range out.Commands {
			comments = append(comments, strings.TrimPrefix(aws.ToString(c.Comment), "ami-factory:"+s.Execution+":"))
		}
		return comments
	}
	comments := asked(false)
	assert.NotContains(t, comments, "builder-boot", "its report is enough")
	assert.Contains(t, comments, "seal")
	comments = asked(true)
	assert.Contains(t, comments, "builder-boot")
}

func TestACallThatIsNotGrantedEndsTheExecutionAndIsNamed(t *testing.T) {
	t.Parallel()
	f := simFactory(t, nil)
	grantInstead(t, f, "launch", "iam:PassRole", "iam:GetRole")
	s := bake(t, f, contract.ExecutionInput{})
	require.Equal(t, contract.FailedClean, s.Status, s.Cause)
	assert.Equal(t, "AccessDenied", s.Error)
	assert.Contains(t, s.Cause, "iam:PassRole on resource: arn:aws:iam::111122223333:role/ami-factory-builder because no identity-based policy allows the iam:PassRole action")
	requireNothingLeft(t, f)
}

// objectsOf are the objects of each kind, and the stages that read and write them.
// It is the table of the threat model.
func objectsOf() map[string]struct{ read, write []workflow.Stage } {
	type rw = struct{ read, write []workflow.Stage }
	later := []workflow.Stage{
		workflow.Launch, workflow.CheckInstance, workflow.Seal, workflow.CreateImage, workflow.CheckImage, workflow.RunCompliance, workflow.CheckCompliance,
		workflow.Distribute, workflow.CheckDistribution, workflow.Share, workflow.Publish, workflow.Retire, workflow.Cleanup, workflow.Notify, workflow.Sign, workflow.RequestApproval,
	}
	of := func(s ...workflow.Stage) []workflow.Stage { return s }
	watchers := of(blueprint.WatchSources, blueprint.ReleaseAnnounced)
	return map[string]rw{
		contract.ExecutionKey("x", contract.ClaimObject):                             {of(workflow.Resolve, workflow.CheckCompliance), of(workflow.Resolve)},
		contract.PlanKey("ab"):                                                       {append(of(workflow.Resolve), later...), of(workflow.Resolve)},
		contract.BundleKey("ab"):                                                     {of(workflow.Launch), of(workflow.Resolve)},
		contract.ChecksKey("ab"):                                                     {of(workflow.RunCompliance), of(workflow.RunCompliance)},
		contract.ExecutionKey("x", contract.RawResultsObject):                        {of(workflow.Resolve, workflow.CheckCompliance), of(workflow.RunCompliance)},
		contract.ExecutionKey("x", contract.ComplianceObject):                        {of(workflow.Resolve, workflow.CheckCompliance, workflow.Publish, workflow.Notify, workflow.Sign, workflow.RequestApproval), of(workflow.CheckCompliance)},
		contract.ExecutionKey("x", contract.SnapshotObject):                          {of(workflow.CheckCompliance), of(workflow.CheckCompliance)},
		contract.ExecutionKey("x", contract.RawInventoryObject):                      {of(workflow.CheckCompliance), of(workflow.RunCompliance)},
		contract.ExecutionKey("x", contract.InventoryObject):                         {of(workflow.Resolve, workflow.CheckCompliance, workflow.Sign), of(workflow.CheckCompliance)},
		contract.ExecutionKey("x", contract.VulnerabilitiesObject):                   {of(workflow.Resolve, workflow.CheckCompliance, workflow.Sign, workflow.RequestApproval, workflow.Notify), of(workflow.CheckCompliance)},
		contract.FeedKey("ab"):                                                       {of(workflow.CheckCompliance), nil},
		contract.ExecutionKey("x", contract.ConsoleObject("builder")):                {of(workflow.Notify), of(workflow.CheckInstance)},
		contract.ExecutionKey("x", contract.ConsoleObject("verifier")):               {of(workflow.Notify), of(workflow.CheckInstance)},
		contract.ExecutionKey("x", contract.ProvisionedObject):                       {of(workflow.CheckInstance), of(workflow.Launch)},
		contract.ExecutionKey("x", contract.StepsObject):                             {nil, of(workflow.Launch)},
		contract.PublishingKey("x"):                                                  {of(workflow.Publish, workflow.Cleanup), of(workflow.Publish, workflow.Cleanup)},
		contract.ExecutionKey("x", contract.RetentionObject):                         {of(workflow.Retire, workflow.Notify), of(workflow.Retire)},
		contract.ExecutionKey("x", contract.JournalObject):                           {of(workflow.Resolve, workflow.Publish, workflow.Cleanup, workflow.Notify), of(workflow.Publish, workflow.Cleanup)},
		contract.ExecutionKey("x", contract.ReportObject):                            {nil, of(workflow.Notify)},
		contract.ExecutionKey("x", contract.PageObject):                              {nil, of(workflow.Notify)},
		contract.ExecutionKey("x", contract.EngineResultsObject("script")):           {of(workflow.Resolve, workflow.CheckCompliance), of(workflow.RunCompliance)},
		contract.StreamsPrefix + "x.xml":                                             {of(workflow.RunCompliance), nil},
		contract.ExecutionKey("x", contract.ManifestObject):                          {of(workflow.Sign, workflow.RequestApproval, workflow.Share, workflow.Publish, workflow.Notify, blueprint.Approve), of(workflow.Sign)},
		contract.ExecutionKey("x", contract.DiffObject):                              {of(workflow.Sign, workflow.Notify, workflow.RequestApproval, workflow.Share, workflow.Publish), of(workflow.Sign)},
		contract.ExecutionKey("x", contract.SummaryAttestation):                      {of(workflow.Sign), of(workflow.Sign)},
		contract.ExecutionKey("x", contract.SigstoreOf(contract.SummaryAttestation)): {nil, of(workflow.Sign)},
		contract.ExecutionKey("x", contract.EvidenceObject):                          {of(workflow.Sign, workflow.Share, workflow.Publish), of(workflow.Sign)},
		contract.SitePage:                        {of(workflow.Notify, workflow.RequestApproval), of(workflow.Notify, workflow.RequestApproval)},
		contract.SummaryKey("x"):                 {of(workflow.Notify, workflow.Sign, workflow.RequestApproval), of(workflow.Notify, workflow.RequestApproval)},
		contract.SecurityHubKey("x"):             {}, // unless the deployment sends findings there
		contract.SourcesKey:                      {watchers, watchers},
		contract.AnnouncementKey("x"):            {of(blueprint.ReleaseAnnounced), of(blueprint.ReleaseAnnounced)},
		contract.RecordKey("x"):                  {append(of(blueprint.StartBuilds), watchers...), of(blueprint.StartBuilds)},
		contract.StartedKey("x"):                 {of(blueprint.StartBuilds, workflow.RequestApproval), of(blueprint.StartBuilds)},
		contract.ApprovalRequestKey("ab"):        {of(workflow.Sign, workflow.RequestApproval, workflow.Share, workflow.Publish, blueprint.Approve), of(workflow.RequestApproval)},
		contract.ApprovalAnswerKey("ab", "anna"): {of(workflow.Sign, workflow.Share, workflow.Publish, workflow.Notify, blueprint.Approve), of(blueprint.Approve)},
		contract.RequesterKey("x"):               {of(workflow.RequestApproval, workflow.Notify, blueprint.Approve), of(blueprint.Approve)},
		contract.ApprovingKey("x"):               {of(blueprint.StartBuilds), of(workflow.RequestApproval)},
		contract.FindingKey("ami-1", "x"):        {of(blueprint.StartBuilds), of(blueprint.StartBuilds)},
		contract.WaitToken{Execution: "x", State: "Seal", ID: "0a", Resource: "instance/i-1"}.Key():      {of(workflow.Wake), of(workflow.Wake)},
		contract.WaitToken{Execution: "x", State: "Seal", ID: "0a", Resource: "instance/i-1"}.IndexKey(): {nil, of(workflow.Wake)},
		contract.WaitMarkKey("instance/i-1", time.Unix(0, 0), "e"):                                       {nil, of(workflow.Wake)},
		"anything-else":              {},
		"executions/x/anything-else": {},
	}
}

func TestEachRoleTouchesItsOwnObjectsOnly(t *testing.T) {
	t.Parallel()
	f := simFactory(t, nil)
	for _, fn := range blueprint.Functions() {
		role := s3.NewFromConfig(f.Cloud.AWSConfigOfRole(home, rolePrefix+fn.Name, "ami-factory-"+fn.Name), func(o *s3.Options) { o.UsePathStyle = true })
		for key, may := range objectsOf() {
			t.Run(fn.Name+" and "+key, func(t *testing.T) {
				_, err := f.Cloud.S3.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &f.Bucket, Key: &key, Body: strings.NewReader("{}")})
				require.NoError(t, err)
				held := func(allowed bool, err error, action string) {
					if allowed {
						assert.NoError(t, err)
						return
					}
					assert.ErrorContains(t, err, "is not authorized to perform: s3:"+action+" on resource: arn:aws:s3:::"+f.Bucket+"/"+key)
				}
				_, err = role.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &f.Bucket, Key: &key})
				held(slices.Contains(may.read, workflow.Stage(fn.Name)), err, "GetObject")
				_, err = role.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &f.Bucket, Key: &key, Body: strings.NewReader("{}")})
				held(slices.Contains(may.write, workflow.Stage(fn.Name)), err, "PutObject")
			})
		}
	}
}

func TestRolesDoNoMoreThanTheirStageWithWhatTheyMayTouch(t *testing.T) {
	t.Parallel()
	f := simFactory(t, nil)
	s := publish(t, f)
	image := s.Images[home]
	role := func(name string) *ec2.Client {
		return ec2.NewFromConfig(f.Cloud.AWSConfigOfRole(home, rolePrefix+name, "ami-factory-"+name))
	}
	share := func(name, id string) error {
		_, err := role(name).ModifyImageAttribute(t.Context(), &ec2.ModifyImageAttributeInput{
			ImageId: &image, Attribute: aws.String("launchPermission"),
			LaunchPermission: &ec2types.LaunchPermissionModifications{Add: []ec2types.LaunchPermission{{UserId: &id}}},
		})
		return err
	}
	launch := func(change func(*ec2.RunInstancesInput)) error {
		in := &ec2.RunInstancesInput{
			ImageId: &image, InstanceType: ec2types.InstanceTypeT3Medium, MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
			MetadataOptions:   &ec2types.InstanceMetadataOptionsRequest{HttpTokens: ec2types.HttpTokensStateRequired, HttpPutResponseHopLimit: aws.Int32(1)},
			NetworkInterfaces: []ec2types.InstanceNetworkInterfaceSpecification{{DeviceIndex: aws.Int32(0), AssociatePublicIpAddress: aws.Bool(false)}},
		}
		for _, kind := range []ec2types.ResourceType{ec2types.ResourceTypeInstance, ec2types.ResourceTypeVolume} {
			in.TagSpecifications = append(in.TagSpecifications, ec2types.TagSpecification{ResourceType: kind, Tags: []ec2types.Tag{{Key: aws.String("ami-factory:execution"), Value: aws.String("x")}}})
		}
		change(in)
		_, err := role("launch").RunInstances(t.Context(), in)
		return err
	}
	tag := func(name string, keys ...string) error {
		in := &ec2.CreateTagsInput{Resources: []string{image}}
		for _, key := range keys {
			in.Tags = append(in.Tags, ec2types.Tag{Key: &key, Value: aws.String("x")})
		}
		_, err := role(name).CreateTags(t.Context(), in)
		return err
	}
	born := func(key string) error {
		return launch(func(in *ec2.RunInstancesInput) {
			in.TagSpecifications[0].Tags = append(in.TagSpecifications[0].Tags, ec2types.Tag{Key: &key, Value: aws.String("x")})
		})
	}
	for sentence, c := range map[string]struct {
		err    error
		denied string
	}{
		"check-image says that an image is published":        {tag("check-image", contract.TagPublished), "ec2:CreateTags"},
		"check-image says so among labels":                   {tag("check-image", contract.TagRecipe, contract.TagPublished), "ec2:CreateTags"},
		"check-distribution says that an image is published": {tag("check-distribution", contract.TagPublished), "ec2:CreateTags"},
		"check-image sets any other tag":                     {tag("check-image", "cost-center"), "ec2:CreateTags"},
		"launch makes something that is published":           {born(contract.TagPublished), "ec2:CreateTags"},
		"publish takes an image from its execution":          {tag("publish", contract.TagPublished, contract.TagExecution), "ec2:CreateTags"},
		"check-image labels an image":                        {tag("check-image", contract.LabelTags()...), ""},
		"publish says that an image is published":            {tag("publish", contract.PublishedTags()...), ""},
		"check-image shares an image":                        {share("check-image", "444455556666"), "ec2:ModifyImageAttribute"},
		"distribute shares an image":                         {share("distribute", "444455556666"), "ec2:ModifyImageAttribute"},
		"check-distribution shares an image":                 {share("check-distribution", "444455556666"), "ec2:ModifyImageAttribute"},
		"check-compliance shares an image":                   {share("check-compliance", "444455556666"), "ec2:ModifyImageAttribute"},
		"share shares an image":                              {share("share", "444455556666"), ""},
		"share requires IMDSv2": {func() error {
			_, err := role("share").ModifyImageAttribute(t.Context(), &ec2.ModifyImageAttributeInput{ImageId: &image, ImdsSupport: &ec2types.AttributeValue{Value: aws.String("v2.0")}})
			return err
		}(), "ec2:ModifyImageAttribute"},
		"share says that an image is published": {tag("share", contract.TagPublished), "ec2:CreateTags"},
		"check-image makes an image public": {func() error {
			_, err := role("check-image").ModifyImageAttribute(t.Context(), &ec2.ModifyImageAttributeInput{
				ImageId: &image, Attribute: aws.String("launchPermission"), OperationType: ec2types.OperationTypeAdd, UserGroups: []string{"all"},
			})
			return err
		}(), "ec2:ModifyImageAttribute"},
		"check-image describes an image": {func() error {
			_, err := role("check-image").ModifyImageAttribute(t.Context(), &ec2.ModifyImageAttributeInput{ImageId: &image, Description: &ec2types.AttributeValue{Value: aws.String("x")}})
			return err
		}(), "ec2:ModifyImageAttribute"},
		"check-image requires IMDSv2": {func() error {
			_, err := role("check-image").ModifyImageAttribute(t.Context(), &ec2.ModifyImageAttributeInput{ImageId: &image, ImdsSupport: &ec2types.AttributeValue{Value: aws.String("v2.0")}})
			return err
		}(), ""},
		"cleanup describes an image": {func() error { // share may: a release sets the description
			_, err := role("cleanup").ModifyImageAttribute(t.Context(), &ec2.ModifyImageAttributeInput{ImageId: &image, Description: &ec2types.AttributeValue{Value: aws.String("x")}})
			return err
		}(), "ec2:ModifyImageAttribute"},
		"launch with IMDSv1":               {launch(func(in *ec2.RunInstancesInput) { in.MetadataOptions.HttpTokens = ec2types.HttpTokensStateOptional }), "ec2:RunInstances"},
		"launch that says nothing of it":   {launch(func(in *ec2.RunInstancesInput) { in.MetadataOptions = nil }), "ec2:RunInstances"},
		"launch with a hop more":           {launch(func(in *ec2.RunInstancesInput) { in.MetadataOptions.HttpPutResponseHopLimit = aws.Int32(2) }), "ec2:RunInstances"},
		"launch with a public address":     {launch(func(in *ec2.RunInstancesInput) { in.NetworkInterfaces[0].AssociatePublicIpAddress = aws.Bool(true) }), "ec2:RunInstances"},
		"launch without the factory's tag": {launch(func(in *ec2.RunInstancesInput) { in.TagSpecifications = nil }), "ec2:RunInstances"},
		"launch as it should be":           {launch(func(*ec2.RunInstancesInput) {}), ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			if c.denied == "" {
				require.NoError(t, c.err)
				return
			}
			assert.ErrorContains(t, c.err, "is not authorized to perform: "+c.denied)
		})
	}
}

// Tags of what another account shares are one's own, so that a snapshot of somebody
// else can bear the factory's tags.
func TestWhatBearsTheFactorysTagsAndBelongsToAnotherAccountIsLeftAlone(t *testing.T) {
	f := simFactory(t, nil)
	for _, asked := range []struct{ role, action, kind string }{
		{"cleanup", "ec2:DeleteSnapshot", "snapshot/snap-1"}, {"cleanup", "ec2:DeregisterImage", "image/ami-1"}, {"retire", "ec2:DeleteSnapshot", "snapshot/snap-1"},
		{"distribute", "ec2:CopyImage", "image/ami-1"}, {"check-image", "ec2:CreateTags", "snapshot/snap-1"}, {"publish", "ec2:CreateTags", "image/ami-1"},
		{"share", "ec2:ModifyImageAttribute", "image/ami-1"},
	} {
		t.Run(asked.role+" "+asked.action, func(t *testing.T) {
			of := func(owner ...string) string {
				return firstDenied([]authz.Request{{Action: asked.action, Resource: "arn:aws:ec2:" + home + "::" + asked.kind, Context: authz.Context(map[string][]string{
					"aws:ResourceTag/" + contract.TagExecution: {"x"}, "ec2:Owner": owner, "aws:TagKeys": {contract.TagExpires},
				})}}, documentOf(t, f, asked.role))
			}
			assert.Equal(t, asked.action, of("444455556666"))
			assert.Empty(t, of(f.Cloud.Account()))
		})
	}
}

// Whoever can start executions could name any image that is public; the role that
// launches builders takes those of the recipes' owners only.
func TestNoBuilderIsLaunchedFromTheImageOfAnybodyElse(t *testing.T) {
	t.Parallel()
	f := simFactory(t, nil)
	launch := ec2.NewFromConfig(f.Cloud.AWSConfigOfRole(home, rolePrefix+"launch", "ami-factory-launch"))
	from := func(owner, alias string) error {
		dir := t.TempDir()
		require.NoError(t, vm.WriteImage(dir, vm.ImageInfo{Kind: vm.Simulated, VolumeGiB: 2, SHA256: strings.Repeat("ab", 32)}))
		ids, err := f.Cloud.EC2.RegisterBase(localec2.BaseImage{Name: "debian-12-amd64-20991231", OwnerID: owner, OwnerAlias: alias, ImageDir: dir})
		require.NoError(t, err)
		var specifications []ec2types.TagSpecification
		for _, kind := range []ec2types.ResourceType{ec2types.ResourceTypeInstance, ec2types.ResourceTypeVolume} {
			specifications = append(specifications, ec2types.TagSpecification{ResourceType: kind, Tags: []ec2types.Tag{{Key: aws.String("ami-factory:execution"), Value: aws.String("x")}}})
		}
		_, err = launch.RunInstances(t.Context(), &ec2.RunInstancesInput{
			ImageId: aws.String(ids[home]), InstanceType: ec2types.InstanceTypeT3Medium, MinCount: aws.Int32(1), MaxCount: aws.Int32(1), TagSpecifications: specifications,
			MetadataOptions:   &ec2types.InstanceMetadataOptionsRequest{HttpTokens: ec2types.HttpTokensStateRequired, HttpPutResponseHopLimit: aws.Int32(1)},
			NetworkInterfaces: []ec2types.InstanceNetworkInterfaceSpecification{{DeviceIndex: aws.Int32(0), AssociatePublicIpAddress: aws.Bool(false)}},
		})
		return err
	}
	require.ErrorContains(t, from("999988887777", ""), "not authorized to perform: ec2:RunInstances on resource: arn:aws:ec2:"+home+"::image/")
	require.NoError(t, from("136693071363", ""), "of a recipe's source")
	require.NoError(t, from("137112412989", "amazon"))
}
