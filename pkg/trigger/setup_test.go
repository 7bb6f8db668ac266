package trigger

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	eventtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	sdkssm "github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/localcloud"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/ec2"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/simulated"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/planner"
	"github.com/ami-factory/ami-factory/pkg/planner/plannertest"
	"github.com/ami-factory/ami-factory/pkg/release"
	"github.com/ami-factory/ami-factory/pkg/source"
	"github.com/ami-factory/ami-factory/pkg/store"
	"github.com/ami-factory/ami-factory/pkg/trigger/decide"
)

const (
	factory = "111122223333"
	debian  = "136693071363"
	home    = "eu-west-1"
	remote  = "eu-central-1"
	bucket  = "factory"
	pointer = "/ami-factory/sample/latest"

	baseID      = "ami-0123456789abcdef0"
	publishedID = "ami-0aaaaaaaaaaaaaaaa" // in the home region, of publishedWorld
	copiedID    = "ami-0eeeeeeeeeeeeeeee" // in the other region, likewise

	machineARN = "arn:aws:states:eu-west-1:111122223333:stateMachine:ami-factory"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func awsErr(code string) error { return &smithy.GenericAPIError{Code: code, Message: "of a test"} }

// faults are the errors that the next calls of an operation answer with.
type faults map[string][]error

func (f faults) next(operation string) error {
	if len(f[operation]) == 0 {
		return nil
	}
	err := f[operation][0]
	f[operation] = f[operation][1:]
	return err
}

// world is what triggers talk to: EC2, SSM and S3 of the embedded AWS, and here a
// Step Functions whose executions do nothing, a topic and a bus.
type world struct {
	faults
	t          *testing.T
	cloud      *localcloud.Cloud
	dir        string // of the images' content
	fs         fstest.MapFS
	executions []*sfn.DescribeExecutionOutput
	messages   []string
	events     []eventtypes.PutEventsRequestEntry
	reporters  decide.Reporters
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{faults: faults{}, t: t, dir: filepath.Join(t.TempDir(), "base"), fs: plannertest.Files(plannertest.Recipe)}
	var err error
	w.cloud, err = localcloud.New(t.Context(), localcloud.Config{Driver: simulated.New(simulated.Options{}), Clock: clock.NewVirtual(start), Account: factory, Region: home, Regions: []string{home, remote}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.cloud.Close(context.Background())) })
	require.NoError(t, os.Mkdir(w.dir, 0o700))
	require.NoError(t, vm.WriteImage(w.dir, vm.ImageInfo{Kind: vm.Simulated, VolumeGiB: 2, SHA256: "ba5e"}))
	_, err = w.cloud.S3.CreateBucket(t.Context(), &s3.CreateBucketInput{
		Bucket: aws.String(bucket), CreateBucketConfiguration: &s3types.CreateBucketConfiguration{LocationConstraint: home},
	})
	require.NoError(t, err)
	w.sourceIs(baseID)
	return w
}

// in is a context of a call by the factory in a region.
func (w *world) in(ctx context.Context, region string) context.Context {
	return wire.WithCaller(ctx, wire.Caller{Account: factory, Region: region, ARN: "arn:aws:iam::" + factory + ":root"})
}

// sourceIs has the parameter that recipes build on name another image of Debian's.
func (w *world) sourceIs(id string) {
	w.t.Helper()
	w.register(home, id, debian, start)
	w.cloud.SSM.SetPublicParameter(home, "/aws/service/base", id)
}

func (w *world) register(region, id, owner string, created time.Time) {
	w.t.Helper()
	_, err := w.cloud.EC2.RegisterBase(ec2.BaseImage{ImageID: id, Name: id, OwnerID: owner, ImageDir: w.dir, Regions: []string{region}, Created: created})
	require.NoError(w.t, err)
}

// publish has consumers get an image of the recipe sample in a region, made at a time
// from what the recipe is now.
func (w *world) publish(region, id string, created time.Time) {
	w.t.Helper()
	p := w.planner()
	catalog, err := p.Open(start)
	require.NoError(w.t, err)
	built, _, err := p.Plan(w.t.Context(), catalog, planner.Request{Recipe: "sample", ExecutionName: "earlier", ExecutionStart: start})
	require.NoError(w.t, err)
	w.register(region, id, factory, created)
	var tags []types.Tag
	for key, value := range map[string]string{
		contract.TagRecipe: "sample", contract.TagExecution: "earlier", contract.TagFingerprint: built.Fingerprint, contract.TagRelease: built.ReleaseID,
		contract.TagPublished: created.Format(time.RFC3339),
	} {
		tags = append(tags, types.Tag{Key: &key, Value: &value})
	}
	_, err = w.cloud.EC2.CreateTags(w.in(w.t.Context(), region), &sdkec2.CreateTagsInput{Resources: []string{id}, Tags: tags})
	require.NoError(w.t, err)
	w.point(region, id)
}

// point has the recipe's pointer in a region name an image.
func (w *world) point(region, id string) {
	w.t.Helper()
	_, err := w.cloud.SSM.PutParameter(w.in(w.t.Context(), region), &sdkssm.PutParameterInput{
		Name: aws.String(pointer), Value: &id, Type: ssmtypes.ParameterTypeString, Overwrite: aws.Bool(true),
	})
	require.NoError(w.t, err)
}

// publishedWorld has an up-to-date image of the recipe in both regions.
func publishedWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.publish(home, publishedID, start)
	w.publish(remote, copiedID, start)
	return w
}

// untag takes a tag off the image that publishedWorld has published in the home region.
func (w *world) untag(key string) {
	w.t.Helper()
	_, err := w.cloud.EC2.DeleteTags(w.in(w.t.Context(), home), &sdkec2.DeleteTagsInput{Resources: []string{publishedID}, Tags: []types.Tag{{Key: &key}}})
	require.NoError(w.t, err)
}

func (w *world) store() store.Store { return store.Store{Bucket: bucket, API: w.cloud.S3} }

// keep writes an object into the bucket, read reads one.
func (w *world) keep(key, body string) {
	w.t.Helper()
	_, err := w.store().Put(w.t.Context(), key, "application/json", []byte(body))
	require.NoError(w.t, err)
}

func (w *world) read(key string) string {
	w.t.Helper()
	body, err := w.store().Read(w.t.Context(), key)
	require.NoError(w.t, err)
	return string(body)
}

// regional is the embedded EC2 and SSM as the factory sees them in a region.
type regional struct {
	*world
	region string
}

func (r regional) DescribeImages(ctx context.Context, in *sdkec2.DescribeImagesInput, _ ...func(*sdkec2.Options)) (*sdkec2.DescribeImagesOutput, error) {
	return r.cloud.EC2.DescribeImages(r.in(ctx, r.region), in)
}

func (r regional) GetParameter(ctx context.Context, in *sdkssm.GetParameterInput, _ ...func(*sdkssm.Options)) (*sdkssm.GetParameterOutput, error) {
	return r.cloud.SSM.GetParameter(r.in(ctx, r.region), in)
}

func (w *world) planner() planner.Planner {
	return planner.Planner{
		Region: home, Version: "1.0.0", Files: w.fs,
		Source: source.Resolver{Images: regional{w, home}, Parameters: w.cloud.SSM},
		EC2:    func(region string) sdkec2.DescribeImagesAPIClient { return regional{w, region} },
		SSM:    func(region string) release.ParameterReader { return regional{w, region} },
	}
}

func limits() decide.Limits {
	return decide.Limits{MaxRunning: 2, MaxFailures: 2, MaxAge: 40 * 24 * time.Hour, Stagger: 5 * time.Minute, FindingLimit: 24 * time.Hour}
}

func (w *world) StartExecution(_ context.Context, in *sfn.StartExecutionInput, _ ...func(*sfn.Options)) (*sfn.StartExecutionOutput, error) {
	if err := w.next("StartExecution"); err != nil {
		return nil, err
	}
	for _, e := range w.executions {
		if *e.Name == *in.Name {
			if e.Status == sfntypes.ExecutionStatusRunning && *e.Input == *in.Input {
				return &sfn.StartExecutionOutput{ExecutionArn: e.ExecutionArn}, nil
			}
			return nil, awsErr("ExecutionAlreadyExists")
		}
	}
	arn := aws.String(executionARN(machineARN, *in.Name))
	w.executions = append(w.executions, &sfn.DescribeExecutionOutput{
		Name: in.Name, ExecutionArn: arn, StartDate: aws.Time(start), Input: in.Input, Status: sfntypes.ExecutionStatusRunning,
	})
	return &sfn.StartExecutionOutput{ExecutionArn: arn}, nil
}

// byHand starts an execution that no trigger started.
func (w *world) byHand(name, input string) *sfn.DescribeExecutionOutput {
	e := &sfn.DescribeExecutionOutput{
		Name: &name, ExecutionArn: aws.String(executionARN(machineARN, name)), Input: &input, Status: sfntypes.ExecutionStatusRunning, StartDate: aws.Time(start),
	}
	w.executions = append(w.executions, e)
	return e
}

// byTrigger is the same of one that a trigger has started.
func (w *world) byTrigger(name, input string) *sfn.DescribeExecutionOutput {
	raw, _ := json.Marshal(startedExecution{Inputs: []string{input}})
	w.keep(startedKey(name), string(raw))
	return w.byHand(name, input)
}

func (w *world) DescribeExecution(_ context.Context, in *sfn.DescribeExecutionInput, _ ...func(*sfn.Options)) (*sfn.DescribeExecutionOutput, error) {
	for _, e := range w.executions {
		if *e.ExecutionArn == *in.ExecutionArn {
			return e, nil
		}
	}
	return nil, awsErr("ExecutionDoesNotExist")
}

func (w *world) ListExecutions(context.Context, *sfn.ListExecutionsInput, ...func(*sfn.Options)) (*sfn.ListExecutionsOutput, error) {
	out := &sfn.ListExecutionsOutput{}
	for _, e := range w.executions {
		out.Executions = append(out.Executions, sfntypes.ExecutionListItem{ExecutionArn: e.ExecutionArn, Name: e.Name})
	}
	return out, w.next("ListExecutions")
}

func (w *world) Publish(_ context.Context, in *sns.PublishInput, _ ...func(*sns.Options)) (*sns.PublishOutput, error) {
	w.messages = append(w.messages, *in.Subject)
	return &sns.PublishOutput{}, w.next("Publish")
}

func (w *world) PutEvents(_ context.Context, in *eventbridge.PutEventsInput, _ ...func(*eventbridge.Options)) (*eventbridge.PutEventsOutput, error) {
	if err := w.next("PutEvents"); err != nil {
		return nil, err
	}
	w.events = append(w.events, in.Entries...)
	return &eventbridge.PutEventsOutput{}, nil
}

func (w *world) send(t *testing.T, kind, detail string) (StartBuildsOutput, error) {
	t.Helper()
	return w.sendAt(t, start, kind, detail)
}

func (w *world) sendAt(t *testing.T, at time.Time, kind, detail string) (StartBuildsOutput, error) {
	t.Helper()
	return w.sendFrom(t, at, sources()[kind], kind, detail)
}

// sources are those that AWS sends events about vulnerabilities from.
func sources() map[string]string {
	return map[string]string{
		contract.InspectorEvent: "aws.inspector2", contract.OnDemandEvent: "inspector2.ami.ondemand",
		contract.SecurityHubEvent: "aws.securityhub", contract.SecurityHubV2Event: "aws.securityhub",
	}
}

func (w *world) starter() StartBuilds {
	return StartBuilds{
		Settings: Settings{StateMachineARN: machineARN, Reporters: w.reporters}, TopicARN: "arn:topic", Store: w.store(), Planner: w.planner(),
		Executions: w, SNS: w, Limits: limits(),
	}
}

func (w *world) sendFrom(t *testing.T, at time.Time, from, kind, detail string) (StartBuildsOutput, error) {
	t.Helper()
	return w.starter().Run(t.Context(), EventInput{Source: from, DetailType: kind, Time: at, Region: home, Detail: json.RawMessage(detail)})
}

func (w *world) watcher() WatchSources {
	return WatchSources{Settings: Settings{EventBus: "bus"}, Region: home, Store: w.store(), SSM: w.cloud.SSM, Events: w, Files: w.fs, Limits: limits()}
}

// night lets one pass, and returns the metrics that it wrote.
func (w *world) night(t *testing.T) string {
	t.Helper()
	var lines bytes.Buffer
	s := w.starter()
	s.Limits, s.Metrics = decide.DefaultLimits(), &lines
	_, err := s.Run(t.Context(), EventInput{DetailType: contract.NightlyEvent, Time: start})
	require.NoError(t, err)
	return lines.String()
}
