package stage

import (
	"cmp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
)

// createImage runs the stage in an execution of a name.
func createImage(c *cloud, execution, instance string) (CreateImageOutput, error) {
	c.t.Helper()
	in := InstanceInput{Job: job(c.t, c, "CreateImage", testPlan()), InstanceID: instance}
	in.Execution.Name = execution
	return CreateImage{Store: c.store(), EC2: c.ec2(home)}.Run(c.t.Context(), in)
}

func TestAnImageIsMadeOfTheBuilder(t *testing.T) {
	c := newCloud(t)
	builder := c.builder(true, true)
	out, err := createImage(c, "run", builder)
	require.NoError(t, err)
	c.pass(5 * time.Minute)
	img := c.image(home, out.ImageID)
	assert.Equal(t, types.ImageStateAvailable, img.State)
	assert.Equal(t, "debian-f00d-20260301", aws.ToString(img.Name))
	assert.Equal(t, "a test", aws.ToString(img.Description))
	assert.Equal(t, builder, aws.ToString(img.SourceInstanceId))
	assert.Equal(t, "run", ami.TagValue(img.Tags, contract.TagExecution))
	snapshots := c.snapshots(home, ami.Snapshots(img)...)
	require.Len(t, snapshots, 1)
	assert.Equal(t, "run", ami.TagValue(snapshots[0].Tags, contract.TagExecution))

	t.Run("a second attempt adopts it", func(t *testing.T) {
		again, err := createImage(c, "run", builder)
		require.NoError(t, err)
		assert.Equal(t, out, again)
	})
	t.Run("another execution does not", func(t *testing.T) {
		_, err := createImage(c, "other", builder)
		requireCode(t, failure.ImageFailed, err)
		assert.ErrorContains(t, err, `made by execution "run"`)
	})
}

func TestAnImageThatIsNotVisibleYetIsWaitedFor(t *testing.T) {
	c := newCloud(t)
	builder := c.builder(true, true)
	_, err := createImage(c, "run", builder)
	require.NoError(t, err)
	_, err = createImage(c, "run", builder)
	requireCode(t, failure.ServiceUnavailable, err)
}

func TestCreateImageFails(t *testing.T) {
	for name, tc := range map[string]struct {
		code string
		want failure.Code
	}{
		"a builder that does not show as stopped yet": {"IncorrectInstanceState", failure.ServiceUnavailable},
		"EC2 refuses":                                   {"InvalidParameterValue", failure.ImageFailed},
		"the quota of images is used up":                {"ImageLimitExceeded", failure.QuotaExceeded},
		"EC2 throttles":                                 {"RequestLimitExceeded", failure.Throttled},
		"the role may not, or the key does not let it":  {"UnauthorizedOperation", failure.AccessDenied},
		"credentials expire in the middle of the stage": {"ExpiredToken", failure.ServiceUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCloud(t)
			c.fail("ec2", "CreateImage", tc.code)
			_, err := createImage(c, "run", "i-0123456789abcdef0")
			requireCode(t, tc.want, err)
		})
	}
}

func TestDescriptionIsCutBetweenCharacters(t *testing.T) {
	got := clip(strings.Repeat("ü", 200), maxDescription)
	assert.LessOrEqual(t, len(got), maxDescription)
	assert.True(t, utf8.ValidString(got))
	assert.Len(t, got, 254)
	assert.Equal(t, "short", clip("short", maxDescription))
}

// imageTakes is how long the image of CheckImage's tests takes, on the embedded EC2.
const imageTakes = 5 * time.Minute

func TestCheckImage(t *testing.T) {
	snapshotOf := func(c *cloud, id string) string { return ami.Snapshots(c.image(home, id))[0] }
	for name, tc := range map[string]struct {
		plain  bool          // the builder's volume is not encrypted
		early  time.Duration // after the start of the image; 0: when it is available
		change func(c *cloud, e *odd, id string)
		want   failure.Code
		tells  string
	}{
		"a new image allows IMDSv1, and is changed": {},
		"a finished image": {change: func(c *cloud, _ *odd, id string) {
			_, err := c.ec2(home).ModifyImageAttribute(c.t.Context(), &ec2.ModifyImageAttributeInput{ImageId: &id, ImdsSupport: &types.AttributeValue{Value: aws.String("v2.0")}})
			require.NoError(c.t, err)
			c.fail("ec2", "ModifyImageAttribute", "UnauthorizedOperation") // it need not be
		}},
		"untagged snapshots are tagged": {change: func(c *cloud, _ *odd, id string) {
			_, err := c.ec2(home).DeleteTags(c.t.Context(), &ec2.DeleteTagsInput{Resources: []string{snapshotOf(c, id)}})
			require.NoError(c.t, err)
		}},
		"a change that does not show yet": {change: func(_ *cloud, e *odd, _ string) { e.deaf = true }, want: failure.ServiceUnavailable, tells: "IMDSv2"},
		"EC2 does not know it yet":        {early: time.Second, want: failure.ImageNotReady},
		"it is pending":                   {early: 30 * time.Second, want: failure.ImageNotReady, tells: "pending"},
		"its snapshot is pending": {change: func(_ *cloud, e *odd, _ string) {
			e.snapshot = func(s *types.Snapshot) { s.State = types.SnapshotStatePending }
		}, want: failure.ImageNotReady},
		"its snapshot does not show yet": {change: func(c *cloud, _ *odd, _ string) { c.fail("ec2", "DescribeSnapshots", "InvalidSnapshot.NotFound") }, want: failure.ImageNotReady},
		"its snapshot failed": {change: func(_ *cloud, e *odd, _ string) {
			e.snapshot = func(s *types.Snapshot) { s.State = types.SnapshotStateError }
		}, want: failure.ImageFailed},
		"its snapshot is not encrypted": {change: func(_ *cloud, e *odd, _ string) { e.snapshot = func(s *types.Snapshot) { s.Encrypted = nil } }, want: failure.ImageFailed, tells: "not encrypted"},
		"its volume is not encrypted":   {plain: true, want: failure.ImageFailed, tells: "/dev/xvda"},
		"it failed": {change: func(_ *cloud, e *odd, _ string) {
			e.image = func(i *types.Image) {
				i.State, i.StateReason = types.ImageStateFailed, &types.StateReason{Message: aws.String("disk on fire")}
			}
		}, want: failure.ImageFailed, tells: "disk on fire"},
		"EC2 refuses the change": {change: func(c *cloud, _ *odd, _ string) { c.fail("ec2", "ModifyImageAttribute", "InvalidRequest") }, want: failure.ImageFailed},
		"the role may not tag": {change: func(c *cloud, _ *odd, id string) {
			_, err := c.ec2(home).DeleteTags(c.t.Context(), &ec2.DeleteTagsInput{Resources: []string{snapshotOf(c, id)}})
			require.NoError(c.t, err)
			c.fail("ec2", "CreateTags", "UnauthorizedOperation")
		}, want: failure.AccessDenied, tells: "tag snap-"},
		"EC2 throttles the question":             {change: func(c *cloud, _ *odd, _ string) { c.fail("ec2", "DescribeImages", "RequestLimitExceeded") }, want: failure.Throttled},
		"EC2 has trouble when asked for results": {change: func(c *cloud, _ *odd, _ string) { c.fail("ec2", "DescribeSnapshots", "InternalError") }, want: failure.ServiceUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCloud(t)
			made, err := createImage(c, "run", c.builder(!tc.plain, true))
			require.NoError(t, err)
			c.pass(cmp.Or(tc.early, imageTakes))
			e := &odd{Client: c.ec2(home)}
			if tc.change != nil {
				tc.change(c, e, made.ImageID)
			}
			out, err := CheckImage{Store: c.store(), EC2: e}.Run(t.Context(), ImageInput{Job: job(t, c, "AwaitImage", testPlan()), ImageID: made.ImageID})
			if tc.want != "" {
				requireCode(t, tc.want, err)
				assert.Contains(t, err.Error(), tc.tells)
				return
			}
			require.NoError(t, err)
			img := c.image(home, made.ImageID)
			snapshots := c.snapshots(home, ami.Snapshots(img)...)
			require.Len(t, snapshots, 1)
			assert.Equal(t, CheckImageOutput{
				ImageID: made.ImageID, SnapshotIDs: ami.Snapshots(img), SizeGiB: 2, SnapshotBytes: aws.ToInt64(snapshots[0].FullSnapshotSizeInBytes),
			}, out)
			assert.Equal(t, types.ImdsSupportValuesV20, img.ImdsSupport)
			assert.Equal(t, "run", ami.TagValue(snapshots[0].Tags, contract.TagExecution))
		})
	}
}
