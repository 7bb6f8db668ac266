package ec2_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/ec2"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/simulated"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

func TestStateOutlivesTheProcess(t *testing.T) {
	e := setup(t, options{})
	ctx := t.Context()
	available := e.made("available")
	_, err := e.ModifyImageAttribute(ctx, &sdk.ModifyImageAttributeInput{ImageId: aws.String(available), OperationType: types.OperationTypeAdd, UserIds: []string{other}})
	require.NoError(t, err)
	token := func(in *sdk.RunInstancesInput) { in.ClientToken = aws.String("once") }
	running := *e.run(token).InstanceId
	stopped := e.stopped()
	pending, err := e.CreateImage(ctx, &sdk.CreateImageInput{InstanceId: aws.String(stopped), Name: aws.String("pending")})
	require.NoError(t, err)
	before := e.image(available)
	raw, err := e.Snapshot()
	require.NoError(t, err)
	// What a killed process leaves: directories that the state does not know.
	require.NoError(t, makeDir(filepath.Join(e.dir, "images", "snap-left")))
	require.NoError(t, makeDir(filepath.Join(e.dir, "instances", "i-left")))

	later := clock.NewVirtual(e.clock.Now().Add(time.Minute))
	t.Cleanup(later.Hold())
	restored, err := ec2.New(ec2.Config{Clock: later, Driver: simulated.New(simulated.Options{Clock: later}), Dir: e.dir, Regions: []string{region, region2, "us-east-1"},
		Default: wire.Caller{Account: home, Region: region}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, restored.Close(context.Background())) })
	require.NoError(t, restored.Restore(raw))
	e.Service = restored

	assert.Equal(t, before, e.image(available))
	_, err = restored.DescribeImages(as(ctx, other), &sdk.DescribeImagesInput{ImageIds: []string{available}})
	require.NoError(t, err, "it is still shared")
	lost := e.describe(running)
	assert.Equal(t, types.InstanceStateNameTerminated, lost.State.Name)
	assert.Equal(t, "Server.InternalError: the machine is gone", *lost.StateReason.Message)
	assert.Equal(t, types.InstanceStateNameStopped, e.state(stopped), "its disk is still there")
	assert.Equal(t, types.ImageStateFailed, e.image(*pending.ImageId).State)
	assert.Len(t, entries(t, filepath.Join(e.dir, "images")), 1)
	assert.Equal(t, []string{stopped}, entries(t, filepath.Join(e.dir, "instances")))

	out, err := restored.RunInstances(ctx, func() *sdk.RunInstancesInput { in := launchOf(e.base); token(in); return in }())
	require.NoError(t, err)
	assert.Equal(t, running, *out.Instances[0].InstanceId, "client tokens are remembered")
	fresh, err := restored.RunInstances(ctx, launchOf(available))
	require.NoError(t, err)
	require.NoError(t, later.Sleep(ctx, time.Minute))
	assert.Equal(t, types.InstanceStateNameRunning, e.state(*fresh.Instances[0].InstanceId), "an image of before launches")
}

func TestBrokenStateIsRefused(t *testing.T) {
	e := setup(t, options{})
	require.ErrorContains(t, e.Restore([]byte(`{"images": 1}`)), "ec2: decode state")
}

func TestCloseEndsMachines(t *testing.T) {
	e := setup(t, options{})
	running := *e.run().InstanceId
	e.pass(time.Minute)
	m, _, _ := e.Machine(home, region, running)
	pending := *e.run().InstanceId
	require.NoError(t, e.Close(t.Context()))
	select {
	case <-m.Done():
	default:
		t.Error("the machine is still there")
	}
	e.pass(2 * time.Second)
	assert.Equal(t, types.InstanceStateNameTerminated, e.state(running))
	assert.Equal(t, types.InstanceStateNameTerminated, e.state(pending))
}
