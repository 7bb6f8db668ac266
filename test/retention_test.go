package test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/rehearsal"
	"github.com/ami-factory/ami-factory/userdata"
)

// keeping is simFactory with a recipe of the given retention, that shares its
// images with nobody, and its clock.
func keeping(t *testing.T, retention string) (*rehearsal.Factory, *clock.Virtual) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, userdata.FS))
	file := filepath.Join(dir, "recipes", recipeName+".yaml")
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	text := string(raw)
	for old, now := range map[string]string{"  keep: 3\n": "  " + retention + "\n", "  accounts: [\"" + target + "\"]\n": ""} {
		require.Contains(t, text, old)
		text = strings.Replace(text, old, now, 1)
	}
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	var virtual *clock.Virtual
	f := simFactory(t, func(o *rehearsal.Options) {
		o.UserDataDir = dir
		virtual = o.Clock.(*clock.Virtual)
	})
	return f, virtual
}

func sleep(t *testing.T, c *clock.Virtual, d time.Duration) {
	t.Helper()
	require.NoError(t, c.Sleep(context.Background(), d))
}

func imageOf(t *testing.T, f *rehearsal.Factory, region, id string) ec2types.Image {
	t.Helper()
	out, err := f.Cloud.EC2.DescribeImages(context.Background(), &ec2.DescribeImagesInput{ImageIds: []string{id}}, inRegion(region))
	require.NoError(t, err)
	require.Len(t, out.Images, 1)
	return out.Images[0]
}

func inRegion(region string) func(*ec2.Options) {
	return func(o *ec2.Options) { o.Region = region }
}

func TestRetentionKeepsTheNewestThree(t *testing.T) {
	t.Parallel()
	f, virtual := keeping(t, "keep: 3")
	var baked []string
	publishNext := func() {
		s := publish(t, f)
		baked = append(baked, s.Images[home], s.Images[second])
	}
	for range 5 {
		publishNext()
	}
	assert.ElementsMatch(t, baked, take(t, f).Images, "older ones have a week's grace")
	sleep(t, virtual, 8*24*time.Hour)
	publishNext()
	assert.ElementsMatch(t, baked[4:], take(t, f).Images, "the one that was superseded just now has its own")
}

func TestAnImageIsDeprecatedBeforeItIsRemoved(t *testing.T) {
	t.Parallel()
	f, virtual := keeping(t, "keep: 1\n  removeAfter: 2d")
	first := publish(t, f)
	publish(t, f)
	sleep(t, virtual, time.Hour)
	for _, region := range []string{home, second} {
		at, err := time.Parse(time.RFC3339, aws.ToString(imageOf(t, f, region, first.Images[region]).DeprecationTime))
		require.NoError(t, err)
		assert.Less(t, at, virtual.Now(), "the first image is deprecated in %s", region)
	}

	sleep(t, virtual, 46*time.Hour) // two days since it was superseded pass during the next bake at the earliest
	launched, err := f.Cloud.EC2.RunInstances(context.Background(), &ec2.RunInstancesInput{
		ImageId: aws.String(first.Images[second]), InstanceType: ec2types.InstanceTypeT3Medium, MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
	}, inRegion(second))
	require.NoError(t, err)
	_, err = f.Cloud.EC2.TerminateInstances(context.Background(), &ec2.TerminateInstancesInput{InstanceIds: []string{aws.ToString(launched.Instances[0].InstanceId)}}, inRegion(second))
	require.NoError(t, err)
	sleep(t, virtual, 2*time.Hour)

	publish(t, f)
	left := take(t, f).Images
	assert.NotContains(t, left, first.Images[home], "nothing has used it for two days")
	assert.Contains(t, left, first.Images[second], "it was launched lately")
	sleep(t, virtual, 3*24*time.Hour) // the grace, and the day that EC2 takes to report a launch
	publish(t, f)
	assert.NotContains(t, take(t, f).Images, first.Images[second], "that launch is long ago")
}

func TestAnImageThatALaunchTemplateNamesStays(t *testing.T) {
	t.Parallel()
	f, virtual := keeping(t, "keep: 1\n  removeAfter: 2d")
	ctx := context.Background()
	first := publish(t, f)
	template, err := f.Cloud.EC2.CreateLaunchTemplate(ctx, &ec2.CreateLaunchTemplateInput{
		LaunchTemplateName: aws.String("web"), LaunchTemplateData: &ec2types.RequestLaunchTemplateData{ImageId: aws.String(first.Images[home])},
	}, inRegion(home))
	require.NoError(t, err)
	next := publish(t, f)
	id := template.LaunchTemplate.LaunchTemplateId
	_, err = f.Cloud.EC2.CreateLaunchTemplateVersion(ctx, &ec2.CreateLaunchTemplateVersionInput{
		LaunchTemplateId: id, LaunchTemplateData: &ec2types.RequestLaunchTemplateData{ImageId: aws.String(next.Images[home])},
	}, inRegion(home))
	require.NoError(t, err)

	const grace = 2*24*time.Hour + time.Hour
	sleep(t, virtual, grace)
	publish(t, f)
	sleep(t, virtual, grace)
	publish(t, f)
	left := take(t, f).Images
	assert.Contains(t, left, first.Images[home], "version 1 is the default")
	assert.Contains(t, left, next.Images[home], "version 2 is the latest")

	_, err = f.Cloud.EC2.DeleteLaunchTemplate(ctx, &ec2.DeleteLaunchTemplateInput{LaunchTemplateId: id}, inRegion(home))
	require.NoError(t, err)
	publish(t, f)
	assert.Contains(t, take(t, f).Images, first.Images[home], "it was in use when retention last looked")
	sleep(t, virtual, grace)
	publish(t, f)
	assert.NotContains(t, take(t, f).Images, first.Images[home])
	assert.NotContains(t, take(t, f).Images, next.Images[home])
}
