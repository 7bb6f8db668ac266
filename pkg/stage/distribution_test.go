package stage

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plan"
)

func TestDistribute(t *testing.T) {
	for name, c := range map[string]struct {
		region string
		err    error
		want   failure.Code
		copyID string
	}{
		"in the home region the image is its own copy": {region: home, copyID: "ami-new"},
		"elsewhere a copy is started":                  {region: remote, copyID: "ami-copy"},
		"a region the recipe does not name":            {region: "us-east-1", want: failure.InvalidInput},
		"no region at all":                             {want: failure.InvalidInput},
		"EC2 refuses":                                  {region: remote, err: awsErr("InvalidRequest"), want: failure.CopyFailed},
		"too many copies are under way":                {region: remote, err: awsErr("ResourceLimitExceeded"), want: failure.QuotaExceeded},
		"EC2 throttles":                                {region: remote, err: awsErr("RequestLimitExceeded"), want: failure.Throttled},
	} {
		t.Run(name, func(t *testing.T) {
			s, e := newS3(t), newEC2(remote)
			if c.err != nil {
				e.faults["CopyImage"] = []error{c.err}
			}
			asked := ""
			d := Distribute{Settings: Settings{Region: home}, Store: s.store(), EC2: func(r string) CopyEC2 { asked = r; return e }}
			out, err := d.Run(t.Context(), DistributeInput{Job: job(t, s, "Copy", testPlan()), ImageID: "ami-new", Region: c.region})
			if c.want != "" {
				requireCode(t, c.want, err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, DistributeOutput{Region: c.region, CopyID: c.copyID}, out)
			if c.region == home {
				assert.Empty(t, e.copied)
				return
			}
			in := e.copied[0]
			assert.Equal(t, remote, asked)
			assert.True(t, *in.Encrypted)
			assert.Equal(t, "alias/r", *in.KmsKeyId)
			assert.Equal(t, home, *in.SourceRegion)
			assert.LessOrEqual(t, len(*in.ClientToken), 64)
			assert.Len(t, in.TagSpecifications, 2)
		})
	}
}

// partner is the account that testPlan shares the image with.
var partner = types.LaunchPermission{UserId: aws.String("210987654321")}

func TestCheckDistribution(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*fakeEC2)
		want   failure.Code
		tells  []string
	}{
		"a copy is finished and private":       {},
		"one whose tags are late":              {change: func(e *fakeEC2) { e.images[0].Tags = e.images[0].Tags[:1] }},
		"it is pending":                        {change: func(e *fakeEC2) { e.images[0].State = types.ImageStatePending }, want: failure.CopyNotReady, tells: []string{remote}},
		"it does not show yet":                 {change: func(e *fakeEC2) { e.images = nil }, want: failure.CopyNotReady},
		"it failed":                            {change: func(e *fakeEC2) { e.images[0].State = types.ImageStateFailed }, want: failure.CopyFailed, tells: []string{remote, "EC2 gives no reason"}},
		"it is not encrypted":                  {change: func(e *fakeEC2) { e.images[0].BlockDeviceMappings[0].Ebs.Encrypted = aws.Bool(false) }, want: failure.CopyFailed},
		"the permissions cannot be read":       {change: func(e *fakeEC2) { e.faults["DescribeImageAttribute"] = []error{awsErr("InvalidRequest")} }, want: failure.ShareFailed},
		"it is public":                         {change: func(e *fakeEC2) { e.audience["ami-copy"] = []types.LaunchPermission{{Group: types.PermissionGroupAll}} }, want: failure.ShareFailed, tells: []string{"everyone (public)", "before its release"}},
		"someone was given it":                 {change: func(e *fakeEC2) { e.audience["ami-copy"] = []types.LaunchPermission{{UserId: aws.String("666")}} }, want: failure.ShareFailed, tells: []string{"666"}},
		"whom the recipe names has it already": {change: func(e *fakeEC2) { e.audience["ami-copy"] = []types.LaunchPermission{partner} }, want: failure.ShareFailed, tells: []string{"210987654321"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, e := newS3(t), newEC2(remote)
			e.images, e.snapshots = []types.Image{image("ami-copy", "run", false)}, []types.Snapshot{snapshot("snap-ami-copy", "run")}
			if c.change != nil {
				c.change(e)
			}
			had := len(e.audience["ami-copy"])
			d := CheckDistribution{Store: s.store(), EC2: func(string) FinishCopyEC2 { return e }}
			out, err := d.Run(t.Context(), DistributeInput{Job: job(t, s, "AwaitCopy", testPlan()), ImageID: "ami-new", Region: remote, CopyID: "ami-copy"})
			assert.Len(t, e.audience["ami-copy"], had, "no account may launch the copy")
			assert.Empty(t, e.deprecated)
			if c.want != "" {
				requireCode(t, c.want, err)
				for _, text := range c.tells {
					assert.Contains(t, err.Error(), text)
				}
				return
			}
			require.NoError(t, err)
			assert.Equal(t, CheckDistributionOutput{Region: remote, ImageID: "ami-copy", SnapshotIDs: []string{"snap-ami-copy"}}, out)
			assert.Empty(t, ami.MissingTags(tagged("ami-copy", "run", false), e.images[0].Tags))
		})
	}
}

func TestShare(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*fakeEC2)
		input  func(*ShareInput)
		want   failure.Code
		tells  []string
	}{
		"a copy is shared":                    {},
		"one that an earlier attempt shared":  {change: func(e *fakeEC2) { e.audience["ami-copy"] = []types.LaunchPermission{partner} }},
		"it is gone":                          {change: func(e *fakeEC2) { e.images = nil }, want: failure.CopyFailed, tells: []string{"was available and is gone"}},
		"it was disabled":                     {change: func(e *fakeEC2) { e.images[0].State = types.ImageStateDisabled }, want: failure.CopyFailed, tells: []string{remote}},
		"its snapshot is another":             {input: func(in *ShareInput) { in.SnapshotIDs = []string{"snap-other"} }, want: failure.CopyNotReady, tells: []string{"snap-ami-copy", "snap-other"}},
		"its snapshots are not given":         {input: func(in *ShareInput) { in.SnapshotIDs = nil }, want: failure.InvalidInput, tells: []string{"snapshotIds"}},
		"a region the recipe does not name":   {input: func(in *ShareInput) { in.Region = "us-east-1" }, want: failure.InvalidInput, tells: []string{"us-east-1"}},
		"sharing is refused":                  {change: func(e *fakeEC2) { e.faults["ModifyImageAttribute"] = []error{awsErr("InvalidAMIAttributeItemValue")} }, want: failure.ShareFailed, tells: []string{remote, "account 210987654321"}},
		"the permissions cannot be read":      {change: func(e *fakeEC2) { e.faults["DescribeImageAttribute"] = []error{awsErr("InvalidRequest")} }, want: failure.ShareFailed},
		"it is public":                        {change: func(e *fakeEC2) { e.audience["ami-copy"] = []types.LaunchPermission{{Group: types.PermissionGroupAll}} }, want: failure.ShareFailed, tells: []string{"everyone (public)"}},
		"someone else was given it":           {change: func(e *fakeEC2) { e.audience["ami-copy"] = []types.LaunchPermission{{UserId: aws.String("666")}} }, want: failure.ShareFailed, tells: []string{"666"}},
		"its deprecation date is not allowed": {change: func(e *fakeEC2) { e.faults["EnableImageDeprecation"] = []error{awsErr("InvalidParameter")} }, want: failure.CopyFailed},
		"the role may not share":              {change: func(e *fakeEC2) { e.faults["ModifyImageAttribute"] = []error{awsErr("UnauthorizedOperation")} }, want: failure.AccessDenied, tells: []string{"account 210987654321"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, e := newS3(t), newEC2(remote)
			e.images, e.snapshots = []types.Image{image("ami-copy", "run", false)}, []types.Snapshot{snapshot("snap-ami-copy", "run")}
			if c.change != nil {
				c.change(e)
			}
			in := ShareInput{Job: job(t, s, "ShareImage", testPlan()), Region: remote, ImageID: "ami-copy", SnapshotIDs: []string{"snap-ami-copy"}}
			if c.input != nil {
				c.input(&in)
			}
			out, err := Share{Store: s.store(), EC2: func(string) ShareEC2 { return e }}.Run(t.Context(), in)
			if c.want != "" {
				requireCode(t, c.want, err)
				for _, text := range c.tells {
					assert.Contains(t, err.Error(), text)
				}
				return
			}
			require.NoError(t, err)
			assert.Equal(t, ShareOutput{Region: remote, ImageID: "ami-copy", SnapshotIDs: []string{"snap-ami-copy"}}, out)
			assert.Equal(t, []types.LaunchPermission{partner}, e.audience["ami-copy"])
			assert.Equal(t, start.Add(90*24*time.Hour), e.deprecated["ami-copy"])
		})
	}
}

func TestAccountsAreNamedOneByOne(t *testing.T) {
	s, e := newS3(t), newEC2(remote)
	e.images, e.snapshots = []types.Image{image("ami-copy", "run", false)}, []types.Snapshot{snapshot("snap-ami-copy", "run")}
	p := testPlan()
	p.Recipe.Distribution.Accounts = []string{"111111111111", "222222222222"}
	p.Recipe.Distribution.Organizations = []string{"arn:aws:organizations::1:organization/o-a", "arn:aws:organizations::1:ou/o-a/ou-b"}
	// All together fail, then the second account alone.
	e.faults["ModifyImageAttribute"] = []error{awsErr("InvalidAMIAttributeItemValue"), nil, awsErr("InvalidAMIAttributeItemValue"), nil}
	share := Share{Store: s.store(), EC2: func(string) ShareEC2 { return e }}
	_, err := share.Run(t.Context(), ShareInput{Job: job(t, s, "ShareImage", p), Region: remote, ImageID: "ami-copy", SnapshotIDs: []string{"snap-ami-copy"}})
	requireCode(t, failure.ShareFailed, err)
	assert.Contains(t, err.Error(), "account 222222222222")
	assert.NotContains(t, err.Error(), "111111111111")
	assert.Len(t, e.audience["ami-copy"], 3)
}

// reusedPlan releases ami-copy again, which an execution of a hundred days ago made.
func reusedPlan() plan.BuildPlan {
	p := testPlan()
	p.Reuse = &plan.Reuse{Images: map[string]plan.ReusedImage{
		home:   {ImageID: "ami-new", Execution: "run", Started: start.AddDate(0, 0, -100), Accounts: []string{"210987654321"}},
		remote: {ImageID: "ami-copy", Execution: "run", Started: start.AddDate(0, 0, -100), Accounts: []string{"210987654321"}},
	}}
	return p
}

// TestAnImageThatExistedIsNotAwaited: an image that was available and is not found any
// more will never come, where a new one may only be invisible yet.
func TestAnImageThatExistedIsNotAwaited(t *testing.T) {
	for sentence, c := range map[string]struct {
		plan   plan.BuildPlan
		in     DistributeInput
		change func(*fakeEC2)
		says   string
	}{
		"a copy that is released again was deregistered": {
			reusedPlan(), DistributeInput{ImageID: "ami-new", Region: remote, CopyID: "ami-copy"}, func(e *fakeEC2) { e.images = nil }, "the image ami-copy in " + remote + " was available and is gone",
		},
		"its snapshot was deleted": {
			reusedPlan(), DistributeInput{ImageID: "ami-new", Region: remote, CopyID: "ami-copy"}, func(e *fakeEC2) { e.faults["DescribeSnapshots"] = []error{awsErr("InvalidSnapshot.NotFound")} }, "a snapshot of the image ami-copy in " + remote + " is gone",
		},
		"the image of the home region was deregistered": {
			testPlan(), DistributeInput{ImageID: "ami-copy", Region: home, CopyID: "ami-copy"}, func(e *fakeEC2) { e.images = nil }, "was available and is gone",
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			s, e := newS3(t), newEC2(c.in.Region)
			e.images, e.snapshots = []types.Image{image("ami-copy", "run", false)}, []types.Snapshot{snapshot("snap-ami-copy", "run")}
			c.change(e)
			c.in.Job = job(t, s, "AwaitCopy", c.plan)
			_, err := CheckDistribution{Store: s.store(), EC2: func(string) FinishCopyEC2 { return e }}.Run(t.Context(), c.in)
			requireCode(t, failure.CopyFailed, err)
			assert.ErrorContains(t, err, c.says)
		})
	}
}

func TestAReleaseThatDeprecatesInThePastDeprecatesNow(t *testing.T) {
	s, e := newS3(t), newEC2(remote)
	img := image("ami-copy", "run", false)
	img.DeprecationTime = aws.String(start.AddDate(0, 0, 265).Format(time.RFC3339)) // the recipe said 365 days before
	e.images, e.snapshots = []types.Image{img}, []types.Snapshot{snapshot("snap-ami-copy", "run")}
	e.audience["ami-copy"] = []types.LaunchPermission{{UserId: aws.String("210987654321")}}
	in := ShareInput{Job: job(t, s, "ShareImage", reusedPlan()), Region: remote, ImageID: "ami-copy", SnapshotIDs: []string{"snap-ami-copy"}}
	_, err := Share{Store: s.store(), EC2: func(string) ShareEC2 { return e }}.Run(t.Context(), in)
	require.NoError(t, err)
	assert.Equal(t, in.Now.Add(time.Minute).Truncate(time.Minute), e.deprecated["ami-copy"])
}
