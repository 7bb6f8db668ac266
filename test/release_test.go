package test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/fault"
	"github.com/ami-factory/ami-factory/pkg/rehearsal"
	"github.com/ami-factory/ami-factory/userdata"
)

const (
	third   = "eu-north-1"
	partner = "444455556666"
	lax     = "DOCK-10" // a control of severity low, which the gate of the recipe lets fail
)

// editable is a factory whose recipe can be changed between executions, and which
// counts the calls that launch instances.
type editable struct {
	*rehearsal.Factory
	t        *testing.T
	file     string
	launches int
}

func newEditable(t *testing.T, change func(*rehearsal.Options)) *editable {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, userdata.FS))
	e := &editable{t: t, file: filepath.Join(dir, "recipes", recipeName+".yaml")}
	e.Factory = simFactory(t, func(o *rehearsal.Options) {
		o.UserDataDir, o.Simulated.FailControls = dir, []string{lax}
		noted := func(authz.Decision) {}
		if change != nil {
			change(o)
			if o.Decisions != nil {
				noted = o.Decisions
			}
		}
		o.Decisions = func(d authz.Decision) {
			if d.Request.Action == "ec2:RunInstances" {
				e.launches++
			}
			noted(d)
		}
	})
	return e
}

// edit replaces texts of the recipe.
func (e *editable) edit(pairs ...string) {
	e.t.Helper()
	text, err := os.ReadFile(e.file)
	require.NoError(e.t, err)
	for i := 0; i < len(pairs); i += 2 {
		require.Contains(e.t, string(text), pairs[i])
	}
	require.NoError(e.t, os.WriteFile(e.file, []byte(strings.NewReplacer(pairs...).Replace(string(text))), 0o600))
}

func (e *editable) in(region string) func(*ec2.Options) {
	return func(o *ec2.Options) { o.Region = region }
}

// object is an object of the factory's bucket.
func (e *editable) object(key string) string {
	e.t.Helper()
	out, err := e.Cloud.S3.GetObject(context.Background(), &s3.GetObjectInput{Bucket: &e.Bucket, Key: &key})
	require.NoError(e.t, err)
	body, err := io.ReadAll(out.Body)
	require.NoError(e.t, err)
	return string(body)
}

func (e *editable) image(region, id string) ec2types.Image {
	e.t.Helper()
	out, err := e.Cloud.EC2.DescribeImages(context.Background(), &ec2.DescribeImagesInput{ImageIds: []string{id}}, e.in(region))
	require.NoError(e.t, err)
	require.Len(e.t, out.Images, 1)
	return out.Images[0]
}

// sharedWith are the accounts that may launch an image.
func (e *editable) sharedWith(region, id string) []string {
	e.t.Helper()
	out, err := e.Cloud.EC2.DescribeImageAttribute(context.Background(), &ec2.DescribeImageAttributeInput{
		ImageId: &id, Attribute: ec2types.ImageAttributeNameLaunchPermission,
	}, e.in(region))
	require.NoError(e.t, err)
	accounts := []string{}
	for _, p := range out.LaunchPermissions {
		accounts = append(accounts, aws.ToString(p.UserId))
	}
	return accounts
}

func (e *editable) value(region, parameter string) string {
	e.t.Helper()
	out, err := e.Cloud.SSM.GetParameter(context.Background(), &ssm.GetParameterInput{Name: &parameter}, func(o *ssm.Options) { o.Region = region })
	require.NoError(e.t, err)
	return aws.ToString(out.Parameter.Value)
}

func TestAChangeOfTheReleaseReleasesThePublishedImageWithoutABake(t *testing.T) {
	e := newEditable(t, nil)
	first := bake(t, e.Factory, contract.ExecutionInput{})
	require.Equal(t, contract.Published, first.Status, first.Cause)
	require.Nil(t, first.Again)
	assert.Contains(t, first.Why, "no image of the recipe is published")
	launched := e.launches
	require.Positive(t, launched)

	e.edit(`accounts: ["210987654321"]`, `accounts: ["`+partner+`"]`)
	s := bake(t, e.Factory, contract.ExecutionInput{})
	require.Equal(t, contract.Published, s.Status, s.Cause)
	assert.Equal(t, first.Images, s.Images)
	assert.Equal(t, first.Fingerprint, s.Fingerprint)
	assert.Equal(t, launched, e.launches, "no instance is launched")
	assert.Less(t, s.Seconds, time.Minute.Seconds())
	require.NotNil(t, s.Again)
	assert.Equal(t, first.Execution, s.Again.Execution)
	assert.Equal(t, []string{"distribution.accounts"}, s.Changed)
	assert.Positive(t, s.Checks.Passed)
	for region, id := range s.Images {
		assert.Equal(t, []string{partner}, e.sharedWith(region, id), "one account came, one went")
		assert.Equal(t, id, pointed(t, e.Factory, region))
	}
	again := bake(t, e.Factory, contract.ExecutionInput{})
	assert.Equal(t, contract.UpToDate, again.Status, again.Cause)

	e.edit("description: Debian 12 with Docker", "description: Debian 12 and Docker",
		"parameters: [/ami-factory/debian-12-docker/latest]", "parameters: [/ami-factory/debian-12-docker/latest, /ami-factory/debian-12-docker/newest]",
		"    - name: eu-central-1\n", "    - name: eu-central-1\n      kmsKey: alias/ami-factory\n    - name: "+third+"\n",
		"deprecateAfter: 90d", "deprecateAfter: 60d")
	s = bake(t, e.Factory, contract.ExecutionInput{})
	require.Equal(t, contract.Published, s.Status, s.Cause)
	assert.Equal(t, launched, e.launches)
	assert.Equal(t, []string{"description", "distribution.regions.kmsKey", "distribution.regions.name", "pointers.parameters", "retention.deprecateAfter"}, s.Changed)
	require.Len(t, s.Images, 3)
	for region, id := range s.Images {
		if region != third {
			assert.Equal(t, first.Images[region], id, "a region that has the image keeps it")
		}
		img := e.image(region, id)
		assert.Contains(t, aws.ToString(img.Description), "Debian 12 and Docker")
		assert.Equal(t, []string{partner}, e.sharedWith(region, id))
		assert.Equal(t, id, e.value(region, "/ami-factory/debian-12-docker/newest"))
		assert.Equal(t, ec2types.ImdsSupportValuesV20, img.ImdsSupport)
		due, err := time.Parse(time.RFC3339, aws.ToString(img.DeprecationTime))
		require.NoError(t, err)
		assert.WithinDuration(t, time.Date(2026, 11, 1, 3, 0, 0, 0, time.UTC).AddDate(0, 0, 60), due, time.Hour)
	}
	left := take(t, e.Factory)
	assert.Empty(t, left.Alive)
	assert.Len(t, left.Images, 3)

	forced := bake(t, e.Factory, contract.ExecutionInput{Force: true})
	require.Equal(t, contract.Published, forced.Status, forced.Cause)
	assert.Nil(t, forced.Again)
	assert.NotEqual(t, s.Images[home], forced.Images[home])
	assert.Greater(t, e.launches, launched)
}

func TestAStricterGateRejectsThePublishedImageOnItsKeptResults(t *testing.T) {
	e := newEditable(t, nil)
	first := bake(t, e.Factory, contract.ExecutionInput{})
	require.Equal(t, contract.Published, first.Status, first.Cause)
	launched, before := e.launches, take(t, e.Factory)

	e.edit("severity: medium", "severity: low", `accounts: ["210987654321"]`, `accounts: ["`+partner+`"]`)
	s := bake(t, e.Factory, contract.ExecutionInput{})
	assert.Equal(t, contract.Rejected, s.Status)
	assert.Equal(t, "ComplianceRejected", s.Error)
	assert.Contains(t, s.Cause, "1 of ")
	assert.Contains(t, s.Cause, lax)
	assert.Equal(t, launched, e.launches)
	assert.Equal(t, before, take(t, e.Factory), "nothing changes for consumers")
	for region, id := range first.Images {
		assert.Equal(t, []string{"210987654321"}, e.sharedWith(region, id))
		assert.Equal(t, id, pointed(t, e.Factory, region))
	}

	// A waiver lets the same results pass.
	e.edit("  timeout: 15m\n", "  timeout: 15m\n  waivers:\n    - {control: "+lax+", reason: accepted for this test, author: web team lead, approver: security, created: 2026-11-01, expires: 2026-11-24}\n")
	s = bake(t, e.Factory, contract.ExecutionInput{})
	require.Equal(t, contract.Published, s.Status, s.Cause)
	assert.Equal(t, first.Images, s.Images)
	assert.Equal(t, launched, e.launches)
	assert.Equal(t, []string{partner}, e.sharedWith(home, s.Images[home]))
	assert.Equal(t, first.Checks.Waived+1, s.Checks.Waived)
}

func TestAnImageWithoutTrustedResultsIsBakedAndNotReleasedAgain(t *testing.T) {
	for sentence, tc := range map[string]struct {
		object string
		change func(string) string // nil: the object is deleted
		says   string
	}{
		"the results are missing":          {contract.ComplianceObject, nil, "compliance.json is missing"},
		"the results are of another image": {contract.ComplianceObject, func(s string) string { return strings.ReplaceAll(s, `"image_id": "ami-`, `"image_id": "ami-0`) }, "it is of image"},
	} {
		t.Run(sentence, func(t *testing.T) {
			e := newEditable(t, nil)
			first := bake(t, e.Factory, contract.ExecutionInput{})
			require.Equal(t, contract.Published, first.Status, first.Cause)
			key := contract.ExecutionKey(first.Execution, tc.object)
			if tc.change == nil {
				_, err := e.Cloud.S3.DeleteObject(context.Background(), &s3.DeleteObjectInput{Bucket: &e.Bucket, Key: &key})
				require.NoError(t, err)
			} else {
				was := e.object(key)
				now := tc.change(was)
				require.NotEqual(t, was, now)
				_, err := e.Cloud.S3.PutObject(context.Background(), &s3.PutObjectInput{Bucket: &e.Bucket, Key: &key, Body: strings.NewReader(now)})
				require.NoError(t, err)
			}
			launched := e.launches
			e.edit(`accounts: ["210987654321"]`, `accounts: ["`+partner+`"]`)
			s := bake(t, e.Factory, contract.ExecutionInput{})
			require.Equal(t, contract.Published, s.Status, s.Cause)
			assert.Nil(t, s.Again)
			assert.Contains(t, s.Why, "cannot be released again")
			assert.Contains(t, s.Why, tc.says)
			assert.Greater(t, e.launches, launched)
			assert.NotEqual(t, first.Images[home], s.Images[home])
		})
	}
}

func TestAnotherImageThatBearsTheTagsIsNotReleased(t *testing.T) {
	clk := clock.NewVirtual(time.Date(2026, 11, 1, 3, 0, 0, 0, time.UTC))
	e := newEditable(t, func(o *rehearsal.Options) { o.Clock = clk })
	first := bake(t, e.Factory, contract.ExecutionInput{})
	require.Equal(t, contract.Published, first.Status, first.Cause)
	// Who may tag images makes one look as if it were the newest published.
	made, err := e.Cloud.EC2.CopyImage(context.Background(), &ec2.CopyImageInput{
		Name: aws.String("forged"), SourceImageId: aws.String(first.Images[home]), SourceRegion: aws.String(home), Encrypted: aws.Bool(true),
	}, e.in(home))
	require.NoError(t, err)
	tags := e.image(home, first.Images[home]).Tags
	for i := range tags {
		if aws.ToString(tags[i].Key) == contract.TagPublished {
			tags[i].Value = aws.String("2026-11-01T23:00:00Z")
		}
	}
	_, err = e.Cloud.EC2.CreateTags(context.Background(), &ec2.CreateTagsInput{Resources: []string{*made.ImageId}, Tags: tags}, e.in(home))
	require.NoError(t, err)
	require.NoError(t, clk.Sleep(t.Context(), time.Hour)) // the copy ends
	e.edit(`accounts: ["210987654321"]`, `accounts: ["`+partner+`"]`)
	s := bake(t, e.Factory, contract.ExecutionInput{})
	require.Equal(t, contract.Published, s.Status, s.Cause)
	assert.NotEqual(t, *made.ImageId, s.Images[home])
	assert.Nil(t, s.Again)
	assert.Empty(t, e.sharedWith(home, *made.ImageId))
}

func TestAReleaseThatFailsIsUndone(t *testing.T) {
	e := newEditable(t, nil)
	first := bake(t, e.Factory, contract.ExecutionInput{})
	require.Equal(t, contract.Published, first.Status, first.Cause)
	e.edit(`accounts: ["210987654321"]`, `accounts: ["`+partner+`"]`, "    - name: eu-central-1\n", "    - name: eu-central-1\n      kmsKey: alias/ami-factory\n    - name: "+third+"\n",
		"parameters: [/ami-factory/debian-12-docker/latest]", "parameters: [/ami-factory/debian-12-docker/latest, /ami-factory/debian-12-docker/newest]")
	_, err := e.Cloud.Faults.Add(fault.Rule{Service: "ssm", Operation: "PutParameter", Region: second, Code: "ParameterLimitExceeded", Status: 400, Times: -1})
	require.NoError(t, err)
	s := bake(t, e.Factory, contract.ExecutionInput{})
	require.Equal(t, contract.FailedClean, s.Status, s.Cause)
	assert.Equal(t, "PublishFailed", s.Error)
	for region, id := range first.Images {
		assert.Equal(t, []string{"210987654321"}, e.sharedWith(region, id))
		assert.Equal(t, id, pointed(t, e.Factory, region))
	}
	assert.ElementsMatch(t, []string{first.Images[home], first.Images[second]}, take(t, e.Factory).Images)
}

// A release sets the tags last. If that fails, the next execution releases the image
// again and withdraws it only from accounts that the recipe no longer names.
func TestAReleaseWhoseTagsFailIsReleasedAgain(t *testing.T) {
	e := newEditable(t, nil)
	first := bake(t, e.Factory, contract.ExecutionInput{})
	require.Equal(t, contract.Published, first.Status, first.Cause)
	e.edit(`accounts: ["210987654321"]`, `accounts: ["`+partner+`"]`)
	_, err := e.Cloud.Faults.Add(fault.Rule{Service: "ec2", Operation: "CreateTags", Region: second, Code: "UnauthorizedOperation", Status: 403, Times: 1})
	require.NoError(t, err)
	s := bake(t, e.Factory, contract.ExecutionInput{})
	require.NotEqual(t, contract.Published, s.Status)
	assert.Contains(t, s.Cause, "is not marked with its release")

	s = bake(t, e.Factory, contract.ExecutionInput{})
	require.Equal(t, contract.Published, s.Status, s.Cause)
	assert.Equal(t, first.Images, s.Images, "nothing was baked")
	for region, id := range first.Images {
		assert.Equal(t, []string{partner}, e.sharedWith(region, id))
	}
	assert.Equal(t, contract.UpToDate, bake(t, e.Factory, contract.ExecutionInput{}).Status)
}

func TestThePlanOfAnotherRecipeOnAnImageSharesItWithNobody(t *testing.T) {
	e := newEditable(t, nil)
	first := bake(t, e.Factory, contract.ExecutionInput{})
	require.Equal(t, contract.Published, first.Status, first.Cause)
	// A release of other content, which names another account.
	e.edit(`accounts: ["210987654321"]`, `accounts: ["`+partner+`"]`, "sizeGiB: 8", "sizeGiB: 9")
	other := bake(t, e.Factory, contract.ExecutionInput{})
	require.Equal(t, contract.Published, other.Status, other.Cause)
	e.edit("description: Debian 12 with Docker", "description: Debian 12 and Docker")
	found, err := e.Cloud.EC2.DescribeImages(t.Context(), &ec2.DescribeImagesInput{ImageIds: []string{first.Images[home]}}, e.in(home))
	require.NoError(t, err)
	_, err = e.Cloud.EC2.CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: []string{other.Images[home]}, Tags: []ec2types.Tag{
		{Key: aws.String(contract.TagPlan), Value: aws.String(ami.TagValue(found.Images[0].Tags, contract.TagPlan))},
		{Key: aws.String(contract.TagRelease), Value: aws.String(ami.TagValue(found.Images[0].Tags, contract.TagRelease))},
	}}, e.in(home))
	require.NoError(t, err)
	s := bake(t, e.Factory, contract.ExecutionInput{})
	require.Equal(t, contract.Published, s.Status, s.Cause)
	assert.NotEqual(t, other.Images[home], s.Images[home], "the image is not released on a plan of other content")
	assert.Equal(t, []string{partner}, e.sharedWith(home, other.Images[home]))
}
