// Package test rehearses the whole factory: every stage, the state machine and
// the embedded AWS together.
package test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/rehearsal"
	"github.com/ami-factory/ami-factory/pkg/rehearsal/guests"
)

const (
	recipeName = "debian-12-docker"
	pointer    = "/ami-factory/debian-12-docker/latest"
	home       = "eu-west-1"
	second     = "eu-central-1"
)

// simFactory opens a factory with simulated guests, virtual time and stages in
// this process. A stand-in for the check engine will do: nothing runs it.
func simFactory(t testing.TB, change func(*rehearsal.Options)) *rehearsal.Factory {
	t.Helper()
	dir := t.TempDir()
	goss := filepath.Join(dir, "goss")
	require.NoError(t, os.WriteFile(goss, []byte("stand-in"), 0o600))
	opts := rehearsal.Options{
		Guests: vm.Simulated, StateDir: filepath.Join(dir, "state"), CacheDir: filepath.Join(dir, "cache"), GossFile: goss,
		Clock: clock.NewVirtual(time.Date(2026, 11, 1, 3, 0, 0, 0, time.UTC)), Version: "test",
		Simulated: guests.Simulated{Boot: 20 * time.Second, Provision: 4 * time.Minute, Check: 20 * time.Second},
	}
	if change != nil {
		change(&opts)
	}
	return open(t, opts)
}

func open(t testing.TB, opts rehearsal.Options) *rehearsal.Factory {
	t.Helper()
	f, err := rehearsal.Open(context.Background(), opts)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, f.Close(context.Background())) })
	return f
}

func bake(t testing.TB, f *rehearsal.Factory, in contract.ExecutionInput) rehearsal.Summary {
	t.Helper()
	if in.Recipe == "" {
		in.Recipe = recipeName
	}
	s, err := f.Bake(context.Background(), in, nil)
	require.NoError(t, err)
	return s
}

// debianImages are the names of Debian's public images in the home region, sorted.
func debianImages(t testing.TB, f *rehearsal.Factory) []string {
	t.Helper()
	out, err := f.Cloud.EC2.DescribeImages(context.Background(), &ec2.DescribeImagesInput{Owners: []string{"136693071363"}},
		func(o *ec2.Options) { o.Region = home })
	require.NoError(t, err)
	var names []string
	for _, i := range out.Images {
		names = append(names, aws.ToString(i.Name))
	}
	slices.Sort(names)
	return names
}

// inventory is everything an execution could leave, in all regions.
type inventory struct {
	Alive     []string // instances that are not terminated
	Images    []string // own images
	Snapshots []string // own snapshots
}

func take(t testing.TB, f *rehearsal.Factory) inventory {
	t.Helper()
	ctx := context.Background()
	var inv inventory
	regions, err := f.Cloud.EC2.DescribeRegions(ctx, &ec2.DescribeRegionsInput{})
	require.NoError(t, err)
	for _, r := range regions.Regions {
		here := func(o *ec2.Options) { o.Region = aws.ToString(r.RegionName) }
		instances, err := f.Cloud.EC2.DescribeInstances(ctx, &ec2.DescribeInstancesInput{}, here)
		require.NoError(t, err)
		for _, res := range instances.Reservations {
			for _, i := range res.Instances {
				if i.State.Name != ec2types.InstanceStateNameTerminated && i.State.Name != ec2types.InstanceStateNameShuttingDown {
					inv.Alive = append(inv.Alive, aws.ToString(i.InstanceId))
				}
			}
		}
		images, err := f.Cloud.EC2.DescribeImages(ctx, &ec2.DescribeImagesInput{Owners: []string{"self"}}, here)
		require.NoError(t, err)
		for _, i := range images.Images {
			inv.Images = append(inv.Images, aws.ToString(i.ImageId))
		}
		snapshots, err := f.Cloud.EC2.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}}, here)
		require.NoError(t, err)
		for _, s := range snapshots.Snapshots {
			inv.Snapshots = append(inv.Snapshots, aws.ToString(s.SnapshotId))
		}
	}
	return inv
}

// requireNothingLeft is what every execution that publishes nothing must reach.
func requireNothingLeft(t testing.TB, f *rehearsal.Factory) {
	t.Helper()
	require.Equal(t, inventory{}, take(t, f), "instances, images and snapshots left behind")
}

// pointed is the image that the pointer of a region names; empty without one.
func pointed(t testing.TB, f *rehearsal.Factory, region string) string {
	t.Helper()
	out, err := f.Cloud.SSM.GetParameter(context.Background(), &ssm.GetParameterInput{Name: aws.String(pointer)},
		func(o *ssm.Options) { o.Region = region })
	if awserr.IsNotFound(err) {
		return ""
	}
	require.NoError(t, err)
	return aws.ToString(out.Parameter.Value)
}
