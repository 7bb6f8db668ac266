package localcloud_test

import (
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud"
	"github.com/ami-factory/ami-factory/pkg/localcloud/ec2"
)

// Clients look for images in all regions, and wait for instances: a line for each call
// was noise.
func TestACallThatFindsNothingIsNoticedOnceUntilSomethingChanges(t *testing.T) {
	var mu sync.Mutex
	var lines []string
	said := func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string{}, lines...)
	}
	c := listening(t, func(cfg *localcloud.Config) {
		cfg.Notice = func(line string) {
			mu.Lock()
			defer mu.Unlock()
			lines = append(lines, line)
		}
	})
	look := func() {
		for _, region := range []string{"eu-west-1", "eu-central-1", "us-east-1", "eu-west-1"} {
			_, err := sdkec2.NewFromConfig(c.AWSConfig(region)).DescribeSnapshots(t.Context(), &sdkec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}})
			require.NoError(t, err)
		}
	}
	look()
	require.Len(t, said(), 1)
	assert.Contains(t, said()[0], "DescribeSnapshots of account 111122223333 in eu-west-1 found no snapshots: that account has none in any region")
	_, err := sdkec2.NewFromConfig(c.AWSConfig("")).DescribeInstances(t.Context(), &sdkec2.DescribeInstancesInput{})
	require.NoError(t, err)
	require.Len(t, said(), 2, "another kind of resource")

	dir := t.TempDir() + "/base"
	require.NoError(t, makeImage(dir))
	ids, err := c.EC2.RegisterBase(ec2.BaseImage{Name: "debian-12-amd64", OwnerID: "136693071363", ImageDir: dir})
	require.NoError(t, err)
	_, err = sdkec2.NewFromConfig(c.AWSConfig("eu-central-1")).RunInstances(t.Context(), &sdkec2.RunInstancesInput{ImageId: aws.String(ids["eu-central-1"]), InstanceType: types.InstanceTypeT3Micro, MinCount: aws.Int32(1), MaxCount: aws.Int32(1)})
	require.NoError(t, err)
	for range 3 {
		_, err = sdkec2.NewFromConfig(c.AWSConfig("us-east-1")).DescribeInstances(t.Context(), &sdkec2.DescribeInstancesInput{})
		require.NoError(t, err)
	}
	require.Len(t, said(), 3, "what there is has changed")
	assert.Contains(t, said()[2], "in us-east-1 found no instances: there are 1 of account 111122223333 in eu-central-1")
}
