package localcloud_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/ec2"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/simulated"
)

const (
	account = localcloud.DefaultAccount
	region  = localcloud.DefaultRegion
)

// newCloud makes an embedded AWS with simulated guests that answer every
// script with its own text.
func newCloud(t *testing.T, change ...func(*localcloud.Config)) *localcloud.Cloud {
	t.Helper()
	cfg := localcloud.Config{Driver: echoing(clock.NewReal())}
	for _, f := range change {
		f(&cfg)
	}
	c, err := localcloud.New(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(t, c.Close(ctx))
	})
	return c
}

func echoing(c clock.Clock) vm.Driver {
	return simulated.New(simulated.Options{Clock: c, Respond: func(_ context.Context, _ vm.Launch, cmd vm.Command) vm.Result {
		return vm.Result{Stdout: []byte(strings.ToUpper(string(cmd.Stdin)))}
	}})
}

// listening is newCloud that serves.
func listening(t *testing.T, change ...func(*localcloud.Config)) *localcloud.Cloud {
	t.Helper()
	c := newCloud(t, change...)
	_, err := c.Listen(t.Context(), "127.0.0.1:0")
	require.NoError(t, err)
	return c
}

// baseImage registers a base image of Debian's and returns its id.
func baseImage(t *testing.T, c *localcloud.Cloud) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "base")
	require.NoError(t, makeImage(dir))
	ids, err := c.EC2.RegisterBase(ec2.BaseImage{Name: "debian-12-amd64", OwnerID: "136693071363", ImageDir: dir})
	require.NoError(t, err)
	return ids[region]
}

// running launches an instance and waits until it runs.
func running(t *testing.T, c *localcloud.Cloud) string {
	t.Helper()
	out, err := c.EC2.RunInstances(t.Context(), &sdkec2.RunInstancesInput{
		ImageId: aws.String(baseImage(t, c)), InstanceType: ec2types.InstanceTypeT3Medium, MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
	})
	require.NoError(t, err)
	id := *out.Instances[0].InstanceId
	waiter := sdkec2.NewInstanceRunningWaiter(c.EC2, func(o *sdkec2.InstanceRunningWaiterOptions) {
		o.MinDelay, o.MaxDelay = 5*time.Millisecond, 50*time.Millisecond
	})
	require.NoError(t, waiter.Wait(t.Context(), &sdkec2.DescribeInstancesInput{InstanceIds: []string{id}}, time.Minute))
	return id
}
