package ec2_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/ec2"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/simulated"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// The Service is as good as a client for the SDK's paginators and waiters.
var (
	_ sdk.DescribeInstancesAPIClient      = (*ec2.Service)(nil)
	_ sdk.DescribeInstanceStatusAPIClient = (*ec2.Service)(nil)
	_ sdk.DescribeImagesAPIClient         = (*ec2.Service)(nil)
	_ sdk.DescribeSnapshotsAPIClient      = (*ec2.Service)(nil)
	_ sdk.DescribeVolumesAPIClient        = (*ec2.Service)(nil)
	_ sdk.DescribeTagsAPIClient           = (*ec2.Service)(nil)
	_ sdk.DescribeSubnetsAPIClient        = (*ec2.Service)(nil)
	_ sdk.DescribeVpcsAPIClient           = (*ec2.Service)(nil)
)

const (
	home    = "111122223333"
	other   = "444455556666"
	debian  = "136693071363"
	region  = "eu-central-1"
	region2 = "us-west-2"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// env is a Service on a virtual clock that the test holds: time passes only in
// env.pass.
type env struct {
	*ec2.Service
	t     *testing.T
	clock *clock.Virtual
	dir   string
	base  string // id of the base image in the home region

	mu     sync.Mutex
	events []ec2.Event
}

type options struct {
	machines simulated.Options
	config   func(*ec2.Config)
}

func setup(t *testing.T, o options) *env {
	t.Helper()
	e := &env{t: t, clock: clock.NewVirtual(start), dir: t.TempDir()}
	t.Cleanup(e.clock.Hold())
	o.machines.Clock = e.clock
	cfg := ec2.Config{
		Clock: e.clock, Driver: simulated.New(o.machines), Dir: e.dir, Default: wire.Caller{Account: home, Region: region},
		Regions: []string{region, region2, "us-east-1"}, Timing: ec2.AWSLike(), Logger: slog.New(slog.DiscardHandler),
		Events: func(_ context.Context, event ec2.Event) {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.events = append(e.events, event)
		},
	}
	if o.config != nil {
		o.config(&cfg)
	}
	var err error
	e.Service, err = ec2.New(cfg)
	require.NoError(t, err)
	service := e.Service
	t.Cleanup(func() { require.NoError(t, service.Close(context.Background())) })
	e.base = e.register(e.Service)[region]
	return e
}

// register makes a simulated base image of Debian's.
func (e *env) register(s *ec2.Service) map[string]string {
	e.t.Helper()
	dir := filepath.Join(e.t.TempDir(), "base")
	require.NoError(e.t, makeDir(dir))
	require.NoError(e.t, vm.WriteImage(dir, vm.ImageInfo{Kind: vm.Simulated, VolumeGiB: 2, SHA256: "ba5e"}))
	ids, err := s.RegisterBase(ec2.BaseImage{Name: "debian-12-amd64-20260101-1", OwnerID: debian, ImageDir: dir})
	require.NoError(e.t, err)
	return ids
}

// pass lets time pass.
func (e *env) pass(d time.Duration) {
	e.t.Helper()
	require.NoError(e.t, e.clock.Sleep(e.t.Context(), d))
}

func (e *env) run(change ...func(*sdk.RunInstancesInput)) types.Instance {
	e.t.Helper()
	in := launchOf(e.base)
	for _, f := range change {
		f(in)
	}
	out, err := e.RunInstances(e.t.Context(), in)
	require.NoError(e.t, err)
	require.Len(e.t, out.Instances, 1)
	return out.Instances[0]
}

func launchOf(imageID string) *sdk.RunInstancesInput {
	return &sdk.RunInstancesInput{ImageId: aws.String(imageID), InstanceType: types.InstanceTypeT3Medium, MinCount: aws.Int32(1), MaxCount: aws.Int32(1)}
}

func (e *env) describe(id string) types.Instance {
	e.t.Helper()
	out, err := e.DescribeInstances(e.t.Context(), &sdk.DescribeInstancesInput{InstanceIds: []string{id}})
	require.NoError(e.t, err)
	return out.Reservations[0].Instances[0]
}

func (e *env) state(id string) types.InstanceStateName {
	e.t.Helper()
	return e.describe(id).State.Name
}

// stopped launches an instance and stops it.
func (e *env) stopped(change ...func(*sdk.RunInstancesInput)) string {
	e.t.Helper()
	id := *e.run(change...).InstanceId
	e.pass(time.Minute)
	_, err := e.StopInstances(e.t.Context(), &sdk.StopInstancesInput{InstanceIds: []string{id}})
	require.NoError(e.t, err)
	e.pass(time.Minute)
	require.Equal(e.t, types.InstanceStateNameStopped, e.state(id))
	return id
}

// made makes an available image of a fresh instance, which it terminates.
func (e *env) made(name string, change ...func(*sdk.RunInstancesInput)) string {
	e.t.Helper()
	ctx := e.t.Context()
	instance := e.stopped(change...)
	out, err := e.CreateImage(ctx, &sdk.CreateImageInput{InstanceId: aws.String(instance), Name: aws.String(name)})
	require.NoError(e.t, err)
	e.pass(10 * time.Minute)
	_, err = e.TerminateInstances(ctx, &sdk.TerminateInstancesInput{InstanceIds: []string{instance}})
	require.NoError(e.t, err)
	e.pass(time.Minute)
	require.Equal(e.t, types.ImageStateAvailable, e.image(*out.ImageId).State)
	return *out.ImageId
}

func (e *env) image(id string, optFns ...func(*sdk.Options)) types.Image {
	e.t.Helper()
	out, err := e.DescribeImages(e.t.Context(), &sdk.DescribeImagesInput{ImageIds: []string{id}}, optFns...)
	require.NoError(e.t, err)
	return out.Images[0]
}

func (e *env) snapshotOf(imageID string, optFns ...func(*sdk.Options)) types.Snapshot {
	e.t.Helper()
	id := *e.image(imageID, optFns...).BlockDeviceMappings[0].Ebs.SnapshotId
	out, err := e.DescribeSnapshots(e.t.Context(), &sdk.DescribeSnapshotsInput{SnapshotIds: []string{id}}, optFns...)
	require.NoError(e.t, err)
	return out.Snapshots[0]
}

// eventStates lists the states of a resource that events reported.
func (e *env) eventStates(detailType string) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var states []string
	for _, event := range e.events {
		if event.DetailType != detailType {
			continue
		}
		detail := map[string]string{}
		require.NoError(e.t, json.Unmarshal(event.Detail, &detail))
		states = append(states, detail["state"]+detail["State"])
	}
	return states
}

func inRegion(name string) func(*sdk.Options) { return func(o *sdk.Options) { o.Region = name } }

func as(ctx context.Context, account string) context.Context {
	return wire.WithCaller(ctx, wire.Caller{Account: account, Region: region})
}

func requireCode(t *testing.T, err error, code string) {
	t.Helper()
	var api smithy.APIError
	require.Error(t, err)
	require.True(t, errors.As(err, &api), "not an API error: %v", err)
	assert.Equal(t, code, api.ErrorCode(), err.Error())
}

func entries(t *testing.T, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	for i := range list {
		list[i] = filepath.Base(list[i])
	}
	return list
}
