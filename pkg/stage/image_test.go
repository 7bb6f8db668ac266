package stage

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
)

func TestCreateImage(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		exists []types.Image
		want   failure.Code
		id     string
	}{
		"the image is started":                        {id: "ami-new"},
		"one of an earlier attempt is adopted":        {err: awsErr("InvalidAMIName.Duplicate"), exists: []types.Image{image("ami-first", "run", false)}, id: "ami-first"},
		"one of another execution is not":             {err: awsErr("InvalidAMIName.Duplicate"), exists: []types.Image{image("ami-x", "other", false)}, want: failure.ImageFailed},
		"one that does not show yet is waited for":    {err: awsErr("InvalidAMIName.Duplicate"), want: failure.ServiceUnavailable},
		"a builder that does not show as stopped yet": {err: awsErr("IncorrectInstanceState"), want: failure.ServiceUnavailable},
		"EC2 refuses":                                   {err: awsErr("InvalidParameterValue"), want: failure.ImageFailed},
		"the quota of images is used up":                {err: awsErr("ImageLimitExceeded"), want: failure.QuotaExceeded},
		"EC2 throttles":                                 {err: awsErr("RequestLimitExceeded"), want: failure.Throttled},
		"the role may not, or the key does not let it":  {err: awsErr("UnauthorizedOperation"), want: failure.AccessDenied},
		"credentials expire in the middle of the stage": {err: awsErr("ExpiredToken"), want: failure.ServiceUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			s, e := newS3(t), newEC2(home)
			e.images = c.exists
			if c.err != nil {
				e.faults["CreateImage"] = []error{c.err}
			}
			out, err := CreateImage{Store: s.store(), EC2: e}.Run(t.Context(), InstanceInput{Job: job(t, s, "CreateImage", testPlan()), InstanceID: "i-1"})
			if c.want != "" {
				requireCode(t, c.want, err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, c.id, out.ImageID)
			in := e.created[0]
			assert.Equal(t, "debian-f00d-20260301", *in.Name)
			assert.Equal(t, "i-1", *in.InstanceId)
			require.Len(t, in.TagSpecifications, 2)
			for _, spec := range in.TagSpecifications {
				assert.Equal(t, "run", ami.TagValue(spec.Tags, contract.TagExecution))
			}
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

func TestCheckImage(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*fakeEC2)
		want   failure.Code
		tells  string
	}{
		"a finished image":                   {},
		"one that allowed IMDSv1 is changed": {change: func(e *fakeEC2) { e.images[0].ImdsSupport = "" }},
		"untagged snapshots are tagged":      {change: func(e *fakeEC2) { e.snapshots[0].Tags = nil }},
		"a change that does not show yet":    {change: func(e *fakeEC2) { e.images[0].ImdsSupport, e.imdsLag = "", true }, want: failure.ImageNotReady, tells: "IMDSv2"},
		"EC2 does not know it yet":           {change: func(e *fakeEC2) { e.images = nil }, want: failure.ImageNotReady},
		"it is pending":                      {change: func(e *fakeEC2) { e.images[0].State = types.ImageStatePending }, want: failure.ImageNotReady},
		"its snapshot is pending":            {change: func(e *fakeEC2) { e.snapshots[0].State = types.SnapshotStatePending }, want: failure.ImageNotReady},
		"its snapshot does not show yet":     {change: func(e *fakeEC2) { e.faults["DescribeSnapshots"] = []error{awsErr("InvalidSnapshot.NotFound")} }, want: failure.ImageNotReady},
		"its snapshot failed":                {change: func(e *fakeEC2) { e.snapshots[0].State = types.SnapshotStateError }, want: failure.ImageFailed},
		"its snapshot is not encrypted":      {change: func(e *fakeEC2) { e.snapshots[0].Encrypted = nil }, want: failure.ImageFailed, tells: "not encrypted"},
		"its volume is not encrypted":        {change: func(e *fakeEC2) { e.images[0].BlockDeviceMappings[0].Ebs.Encrypted = nil }, want: failure.ImageFailed, tells: "/dev/xvda"},
		"it failed": {change: func(e *fakeEC2) {
			e.images[0].State = types.ImageStateFailed
			e.images[0].StateReason = &types.StateReason{Message: aws.String("disk on fire")}
		}, want: failure.ImageFailed, tells: "disk on fire"},
		"EC2 refuses the change": {change: func(e *fakeEC2) {
			e.images[0].ImdsSupport = ""
			e.faults["ModifyImageAttribute"] = []error{awsErr("InvalidRequest")}
		}, want: failure.ImageFailed},
		"the role may not tag": {change: func(e *fakeEC2) {
			e.snapshots[0].Tags = nil
			e.faults["CreateTags"] = []error{awsErr("UnauthorizedOperation")}
		}, want: failure.AccessDenied, tells: "snap-ami-new"},
		"EC2 throttles the question":             {change: func(e *fakeEC2) { e.faults["DescribeImages"] = []error{awsErr("RequestLimitExceeded")} }, want: failure.Throttled},
		"EC2 has trouble when asked for results": {change: func(e *fakeEC2) { e.faults["DescribeSnapshots"] = []error{awsErr("InternalError")} }, want: failure.ServiceUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			s, e := newS3(t), newEC2(home)
			e.images, e.snapshots = []types.Image{image("ami-new", "run", false)}, []types.Snapshot{snapshot("snap-ami-new", "run")}
			if c.change != nil {
				c.change(e)
			}
			out, err := CheckImage{Store: s.store(), EC2: e}.Run(t.Context(), ImageInput{Job: job(t, s, "AwaitImage", testPlan()), ImageID: "ami-new"})
			if c.want != "" {
				requireCode(t, c.want, err)
				assert.Contains(t, err.Error(), c.tells)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, CheckImageOutput{ImageID: "ami-new", SnapshotIDs: []string{"snap-ami-new"}, SizeGiB: 8, SnapshotBytes: 3 << 29}, out)
			assert.Equal(t, types.ImdsSupportValuesV20, e.images[0].ImdsSupport)
			assert.Equal(t, "run", ami.TagValue(e.snapshots[0].Tags, contract.TagExecution))
		})
	}
}
