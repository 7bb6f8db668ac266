package stage

import (
	"cmp"
	"context"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/localcloud/fault"
	"github.com/ami-factory/ami-factory/pkg/plan"
)

// copyTakes is how long a copy takes, on the embedded EC2.
const copyTakes = 5 * time.Minute

// distribute runs Distribute for an image in the home region.
func (c *cloud) distribute(p plan.BuildPlan, image, region string) (DistributeOutput, error) {
	c.t.Helper()
	d := Distribute{Settings: Settings{Region: home}, Store: c.store(), EC2: func(region string) CopyEC2 { return c.ec2(region) }}
	return d.Run(c.t.Context(), DistributeInput{Job: job(c.t, c, "Copy", p), ImageID: image, Region: region})
}

// finished makes an image in the home region and finishes it.
func (c *cloud) finished() (id string) {
	c.t.Helper()
	made, err := createImage(c, "run", c.builder(true, true))
	require.NoError(c.t, err)
	c.pass(imageTakes)
	_, err = CheckImage{Store: c.store(), EC2: c.ec2(home)}.Run(c.t.Context(), ImageInput{Job: job(c.t, c, "AwaitImage", testPlan()), ImageID: made.ImageID})
	require.NoError(c.t, err)
	c.key(remote, "alias/r")
	return made.ImageID
}

// copied makes an image in the home region and a copy in the other one.
func (c *cloud) copied() (id, copyID string) {
	c.t.Helper()
	id = c.finished()
	out, err := c.distribute(testPlan(), id, remote)
	require.NoError(c.t, err)
	c.pass(copyTakes)
	return id, out.CopyID
}

// permissions are those to launch an image.
func (c *cloud) permissions(region, id string) []types.LaunchPermission {
	c.t.Helper()
	out, err := c.ec2(region).DescribeImageAttribute(c.t.Context(), &ec2.DescribeImageAttributeInput{ImageId: &id, Attribute: types.ImageAttributeNameLaunchPermission})
	require.NoError(c.t, err)
	return out.LaunchPermissions
}

// share lets others launch an image.
func (c *cloud) share(region, id string, with ...types.LaunchPermission) {
	c.t.Helper()
	_, err := c.ec2(region).ModifyImageAttribute(c.t.Context(), &ec2.ModifyImageAttributeInput{ImageId: &id, LaunchPermission: &types.LaunchPermissionModifications{Add: with}})
	require.NoError(c.t, err)
}

// deregister removes an image; its snapshots stay.
func (c *cloud) deregister(region, id string) {
	c.t.Helper()
	_, err := c.ec2(region).DeregisterImage(c.t.Context(), &ec2.DeregisterImageInput{ImageId: &id})
	require.NoError(c.t, err)
	c.pass(time.Minute)
}

func TestDistribute(t *testing.T) {
	c := newCloud(t)
	id := c.finished()
	for name, region := range map[string]string{"a region the recipe does not name": "us-east-1", "no region at all": ""} {
		t.Run(name, func(t *testing.T) {
			_, err := c.distribute(testPlan(), id, region)
			requireCode(t, failure.InvalidInput, err)
		})
	}
	t.Run("in the home region the image is its own copy", func(t *testing.T) {
		out, err := c.distribute(testPlan(), id, home)
		require.NoError(t, err)
		assert.Equal(t, DistributeOutput{Region: home, CopyID: id}, out)
		all, err := ami.ListOwn(t.Context(), c.ec2(home))
		require.NoError(t, err)
		assert.Len(t, all, 1)
	})
	// Elsewhere one copy is started, however often it is asked for.
	out, err := c.distribute(testPlan(), id, remote)
	require.NoError(t, err)
	again, err := c.distribute(testPlan(), id, remote)
	require.NoError(t, err)
	assert.Equal(t, out, again)
	c.pass(copyTakes)
	img := c.image(remote, out.CopyID)
	assert.Equal(t, types.ImageStateAvailable, img.State)
	assert.Equal(t, id, aws.ToString(img.SourceImageId))
	assert.Equal(t, home, aws.ToString(img.SourceImageRegion))
	assert.Equal(t, "run", ami.TagValue(img.Tags, contract.TagExecution))
	snapshots := c.snapshots(remote, ami.Snapshots(img)...)
	require.Len(t, snapshots, 1)
	assert.True(t, aws.ToBool(snapshots[0].Encrypted))
	assert.Equal(t, c.keys["alias/r"], aws.ToString(snapshots[0].KmsKeyId))
	assert.Equal(t, "run", ami.TagValue(snapshots[0].Tags, contract.TagExecution))
	for name, tc := range map[string]struct {
		code string
		want failure.Code
	}{
		"EC2 refuses":                   {"InvalidRequest", failure.CopyFailed},
		"too many copies are under way": {"ResourceLimitExceeded", failure.QuotaExceeded},
		"EC2 throttles":                 {"RequestLimitExceeded", failure.Throttled},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCloud(t)
			c.fail("ec2", "CopyImage", tc.code)
			_, err := c.distribute(testPlan(), c.finished(), remote)
			requireCode(t, tc.want, err)
		})
	}
}

// partner is the account that testPlan shares the image with; stranger is another one.
var (
	partner  = types.LaunchPermission{UserId: aws.String("210987654321")}
	stranger = types.LaunchPermission{UserId: aws.String("666666666666")}
	everyone = types.LaunchPermission{Group: types.PermissionGroupAll}
)

func TestCheckDistribution(t *testing.T) {
	for name, tc := range map[string]struct {
		early  time.Duration // after the start of the copy; 0: when it is available
		change func(c *cloud, e *odd, id string)
		want   failure.Code
		tells  []string
	}{
		"a copy is finished and private": {},
		"one whose tags are late": {change: func(c *cloud, _ *odd, id string) {
			_, err := c.ec2(remote).DeleteTags(c.t.Context(), &ec2.DeleteTagsInput{Resources: []string{id}})
			require.NoError(c.t, err)
		}},
		"it is pending":                        {early: 30 * time.Second, want: failure.CopyNotReady, tells: []string{remote}},
		"it does not show yet":                 {early: time.Second, want: failure.CopyNotReady},
		"it failed":                            {change: func(_ *cloud, e *odd, _ string) { e.image = func(i *types.Image) { i.State = types.ImageStateFailed } }, want: failure.CopyFailed, tells: []string{remote, "EC2 gives no reason"}},
		"it is not encrypted":                  {change: func(_ *cloud, e *odd, _ string) { e.image = plainVolumes }, want: failure.CopyFailed},
		"the permissions cannot be read":       {change: func(c *cloud, _ *odd, _ string) { c.fail("ec2", "DescribeImageAttribute", "InvalidRequest") }, want: failure.ShareFailed},
		"it is public":                         {change: func(_ *cloud, e *odd, _ string) { e.shared = everyone }, want: failure.ShareFailed, tells: []string{"everyone (public)", "before its release"}},
		"someone was given it":                 {change: func(c *cloud, _ *odd, id string) { c.share(remote, id, stranger) }, want: failure.ShareFailed, tells: []string{"666666666666"}},
		"whom the recipe names has it already": {change: func(c *cloud, _ *odd, id string) { c.share(remote, id, partner) }, want: failure.ShareFailed, tells: []string{"210987654321"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCloud(t)
			id := c.finished()
			started, err := c.distribute(testPlan(), id, remote)
			require.NoError(t, err)
			copyID := started.CopyID
			c.pass(cmp.Or(tc.early, copyTakes))
			e := &odd{Client: c.ec2(remote)}
			if tc.change != nil {
				tc.change(c, e, copyID)
			}
			d := CheckDistribution{Store: c.store(), EC2: func(string) FinishCopyEC2 { return e }}
			out, err := d.Run(t.Context(), DistributeInput{Job: job(t, c, "AwaitCopy", testPlan()), ImageID: id, Region: remote, CopyID: copyID})
			if tc.want != "" {
				requireCode(t, tc.want, err)
				for _, text := range tc.tells {
					assert.Contains(t, err.Error(), text)
				}
				return
			}
			require.NoError(t, err)
			img := c.image(remote, copyID)
			assert.Equal(t, CheckDistributionOutput{Region: remote, ImageID: copyID, SnapshotIDs: ami.Snapshots(img)}, out)
			assert.Empty(t, ami.MissingTags(tagged(aws.ToString(img.Name), "run", false), img.Tags))
			assert.Empty(t, c.permissions(remote, copyID), "no account may launch the copy")
			assert.Nil(t, img.DeprecationTime)
		})
	}
}

func plainVolumes(i *types.Image) {
	for _, m := range i.BlockDeviceMappings {
		m.Ebs.Encrypted = aws.Bool(false)
	}
}

// shareWith runs Share for the copy in the other region.
func shareWith(c *cloud, api ShareEC2, p plan.BuildPlan, id string, change func(*ShareInput)) (ShareOutput, error) {
	c.t.Helper()
	in := ShareInput{Job: job(c.t, c, "ShareImage", p), Region: remote, ImageID: id, SnapshotIDs: ami.Snapshots(c.image(remote, id))}
	if change != nil {
		change(&in)
	}
	return Share{Store: c.store(), Evidence: genuine{}, EC2: func(string) ShareEC2 { return api }}.Run(c.t.Context(), in)
}

func TestShare(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(c *cloud, e *odd, id string)
		input  func(*ShareInput)
		want   failure.Code
		tells  []string
	}{
		"a copy is shared":                   {},
		"one that an earlier attempt shared": {change: func(c *cloud, _ *odd, id string) { c.share(remote, id, partner) }},
		"it was disabled": {change: func(_ *cloud, e *odd, _ string) {
			e.image = func(i *types.Image) { i.State = types.ImageStateDisabled }
		}, want: failure.CopyFailed, tells: []string{remote}},
		"its snapshot is another":           {input: func(in *ShareInput) { in.SnapshotIDs = []string{"snap-other"} }, want: failure.CopyNotReady, tells: []string{"snap-other"}},
		"its snapshots are not given":       {input: func(in *ShareInput) { in.SnapshotIDs = nil }, want: failure.InvalidInput, tells: []string{"snapshotIds"}},
		"a region the recipe does not name": {input: func(in *ShareInput) { in.Region = "us-east-1" }, want: failure.InvalidInput, tells: []string{"us-east-1"}},
		"sharing is refused": {change: func(c *cloud, _ *odd, _ string) {
			c.fail("ec2", "ModifyImageAttribute", "InvalidAMIAttributeItemValue")
		}, want: failure.ShareFailed, tells: []string{remote, "account 210987654321"}},
		"the permissions cannot be read":      {change: func(c *cloud, _ *odd, _ string) { c.fail("ec2", "DescribeImageAttribute", "InvalidRequest") }, want: failure.ShareFailed},
		"it is public":                        {change: func(_ *cloud, e *odd, _ string) { e.shared = everyone }, want: failure.ShareFailed, tells: []string{"everyone (public)"}},
		"someone else was given it":           {change: func(c *cloud, _ *odd, id string) { c.share(remote, id, stranger) }, want: failure.ShareFailed, tells: []string{"666666666666"}},
		"its deprecation date is not allowed": {change: func(c *cloud, _ *odd, _ string) { c.fail("ec2", "EnableImageDeprecation", "InvalidParameter") }, want: failure.CopyFailed},
		"the role may not share":              {change: func(c *cloud, _ *odd, _ string) { c.fail("ec2", "ModifyImageAttribute", "UnauthorizedOperation") }, want: failure.AccessDenied, tells: []string{"account 210987654321"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCloud(t)
			_, id := c.copied()
			e := &odd{Client: c.ec2(remote)}
			if tc.change != nil {
				tc.change(c, e, id)
			}
			out, err := shareWith(c, e, testPlan(), id, tc.input)
			if tc.want != "" {
				requireCode(t, tc.want, err)
				for _, text := range tc.tells {
					assert.Contains(t, err.Error(), text)
				}
				return
			}
			require.NoError(t, err)
			img := c.image(remote, id)
			assert.Equal(t, ShareOutput{Region: remote, ImageID: id, SnapshotIDs: ami.Snapshots(img)}, out)
			assert.Equal(t, []types.LaunchPermission{partner}, c.permissions(remote, id))
			assert.Equal(t, start.Add(90*24*time.Hour), deprecatedAt(t, img))
		})
	}
	t.Run("it is gone", func(t *testing.T) {
		c := newCloud(t)
		_, id := c.copied()
		snapshots := ami.Snapshots(c.image(remote, id))
		c.deregister(remote, id)
		in := ShareInput{Job: job(t, c, "ShareImage", testPlan()), Region: remote, ImageID: id, SnapshotIDs: snapshots}
		_, err := Share{Store: c.store(), Evidence: genuine{}, EC2: func(string) ShareEC2 { return c.ec2(remote) }}.Run(t.Context(), in)
		requireCode(t, failure.CopyFailed, err)
		assert.ErrorContains(t, err, "was available and is gone")
	})
}

func deprecatedAt(t *testing.T, img types.Image) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, aws.ToString(img.DeprecationTime))
	require.NoError(t, err)
	return at.UTC()
}

func TestAccountsAreNamedOneByOne(t *testing.T) {
	c := newCloud(t)
	_, id := c.copied()
	p := testPlan()
	p.Recipe.Distribution.Accounts = []string{"111111111111", "222222222222"}
	p.Recipe.Distribution.Organizations = []string{"arn:aws:organizations::111111111111:organization/o-abcdefghij", "arn:aws:organizations::111111111111:ou/o-abcdefghij/ou-abcd-abcdefgh"}
	// All together fail, then the second account alone.
	for _, nth := range []int{1, 2} { // the second rule does not see the call that the first one takes
		_, err := c.Faults.Add(fault.Rule{Service: "ec2", Operation: "ModifyImageAttribute", Code: "InvalidAMIAttributeItemValue", Nth: nth})
		require.NoError(t, err)
	}
	_, err := shareWith(c, c.ec2(remote), p, id, nil)
	requireCode(t, failure.ShareFailed, err)
	assert.Contains(t, err.Error(), "account 222222222222")
	assert.NotContains(t, err.Error(), "111111111111 ")
	assert.Len(t, c.permissions(remote, id), 3)
}

// reusedPlan releases an image and its copy again, which an execution of a hundred
// days ago made.
func reusedPlan(id, copyID string) plan.BuildPlan {
	p := testPlan()
	p.Reuse = &plan.Reuse{Images: map[string]plan.ReusedImage{
		home:   {ImageID: id, Execution: "run", Started: start.AddDate(0, 0, -100), Accounts: []string{"210987654321"}},
		remote: {ImageID: copyID, Execution: "run", Started: start.AddDate(0, 0, -100), Accounts: []string{"210987654321"}},
	}}
	return p
}

// An image that was available and is not found any more never comes back, while a new
// one may only not be visible yet.
func TestAnImageThatExistedIsNotAwaited(t *testing.T) {
	for sentence, tc := range map[string]struct {
		region string
		again  bool // the plan releases an image that exists
		change func(c *cloud, region, id string)
		says   string
	}{
		"a copy that is released again was deregistered": {remote, true, (*cloud).deregister, "was available and is gone"},
		"its snapshot was deleted":                       {remote, true, func(c *cloud, _, _ string) { c.fail("ec2", "DescribeSnapshots", "InvalidSnapshot.NotFound") }, "in " + remote + " is gone"},
		"the image of the home region was deregistered":  {home, false, (*cloud).deregister, "was available and is gone"},
	} {
		t.Run(sentence, func(t *testing.T) {
			c := newCloud(t)
			id, copyID := c.copied()
			p, of := testPlan(), map[string]string{home: id, remote: copyID}[tc.region]
			if tc.again {
				p = reusedPlan(id, copyID)
			}
			tc.change(c, tc.region, of)
			d := CheckDistribution{Store: c.store(), EC2: func(region string) FinishCopyEC2 { return c.ec2(region) }}
			_, err := d.Run(t.Context(), DistributeInput{Job: job(t, c, "AwaitCopy", p), ImageID: id, Region: tc.region, CopyID: of})
			requireCode(t, failure.CopyFailed, err)
			assert.ErrorContains(t, err, tc.says)
			assert.ErrorContains(t, err, "the image "+of)
		})
	}
}

func TestAReleaseThatDeprecatesInThePastDeprecatesNow(t *testing.T) {
	c := newCloud(t)
	id, copyID := c.copied()
	c.share(remote, copyID, partner)
	_, err := c.ec2(remote).EnableImageDeprecation(t.Context(), &ec2.EnableImageDeprecationInput{
		ImageId: &copyID, DeprecateAt: aws.Time(start.AddDate(0, 0, 265)), // the recipe said 365 days before
	})
	require.NoError(t, err)
	now := c.clock.Now()
	_, err = shareWith(c, c.ec2(remote), reusedPlan(id, copyID), copyID, func(in *ShareInput) { in.Now = now })
	require.NoError(t, err)
	assert.Equal(t, now.Add(time.Minute).Truncate(time.Minute), deprecatedAt(t, c.image(remote, copyID)))
}

// DescribeImageAttribute adds who is said to share the image.
func (o odd) DescribeImageAttribute(ctx context.Context, in *ec2.DescribeImageAttributeInput, opts ...func(*ec2.Options)) (*ec2.DescribeImageAttributeOutput, error) {
	out, err := o.Client.DescribeImageAttribute(ctx, in, opts...)
	if err == nil && o.shared != (types.LaunchPermission{}) {
		out.LaunchPermissions = append(out.LaunchPermissions, o.shared)
	}
	return out, err
}
