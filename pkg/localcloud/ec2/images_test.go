package ec2_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/ec2"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
)

const customerKey = "arn:aws:kms:eu-central-1:111122223333:key/11111111-2222-3333-4444-555555555555"

func TestCreateImage(t *testing.T) {
	e := setup(t, options{})
	ctx := t.Context()
	instance := e.stopped(rootVolume(types.EbsBlockDevice{VolumeSize: aws.Int32(8), Encrypted: aws.Bool(true), KmsKeyId: aws.String(customerKey)}))
	in := &sdk.CreateImageInput{InstanceId: aws.String(instance), Name: aws.String("golden-1"), Description: aws.String("a golden image"),
		TagSpecifications: []types.TagSpecification{
			{ResourceType: types.ResourceTypeImage, Tags: []types.Tag{{Key: aws.String("recipe"), Value: aws.String("golden")}}},
			{ResourceType: types.ResourceTypeSnapshot, Tags: []types.Tag{{Key: aws.String("recipe"), Value: aws.String("its snapshot")}}},
		}}
	out, err := e.CreateImage(ctx, in)
	require.NoError(t, err)
	_, err = e.DescribeImages(ctx, &sdk.DescribeImagesInput{ImageIds: []string{*out.ImageId}})
	requireCode(t, err, "InvalidAMIID.NotFound") // eventual consistency
	_, err = e.CreateImage(ctx, in)
	requireCode(t, err, "InvalidAMIName.Duplicate")
	assert.ErrorContains(t, err, "AMI name golden-1 is already in use by AMI "+*out.ImageId)

	e.pass(30 * time.Second)
	assert.Equal(t, types.ImageStatePending, e.image(*out.ImageId).State)
	_, err = e.RunInstances(ctx, launchOf(*out.ImageId))
	requireCode(t, err, "InvalidAMIID.Unavailable")
	e.pass(94*time.Second - time.Nanosecond) // 60 s and 8 s a GiB in all
	assert.Equal(t, types.ImageStatePending, e.image(*out.ImageId).State)
	e.pass(time.Nanosecond)

	im := e.image(*out.ImageId)
	assert.Equal(t, types.ImageStateAvailable, im.State)
	assert.Equal(t, home, *im.OwnerId)
	assert.False(t, *im.Public)
	assert.Equal(t, "golden", *im.Tags[0].Value)
	assert.Equal(t, instance, *im.SourceInstanceId)
	assert.Equal(t, "2026-01-02T03:06:05.000Z", *im.CreationDate)
	sn := e.snapshotOf(*out.ImageId)
	assert.Equal(t, types.SnapshotStateCompleted, sn.State)
	assert.Equal(t, int32(8), *sn.VolumeSize)
	assert.True(t, *sn.Encrypted)
	assert.Equal(t, customerKey, *sn.KmsKeyId)
	assert.Equal(t, "its snapshot", *sn.Tags[0].Value)
	assert.Equal(t, []string{"available"}, e.eventStates("EC2 AMI State Change"))

	dir, info, err := e.ImageData(home, region, *out.ImageId)
	require.NoError(t, err)
	assert.Equal(t, vm.Simulated, info.Kind)
	assert.FileExists(t, filepath.Join(dir, vm.ImageFile))
	_, err = e.RunInstances(ctx, launchOf(*out.ImageId))
	require.NoError(t, err)
}

func TestCreateImageRefuses(t *testing.T) {
	e := setup(t, options{})
	stopped := e.stopped()
	running := *e.run().InstanceId
	e.pass(time.Minute)
	for sentence, c := range map[string]struct{ instance, name, code string }{
		"a name that is too short":          {stopped, "ab", "InvalidAMIName.Malformed"},
		"a name with a character forbidden": {stopped, "golden:1", "InvalidAMIName.Malformed"},
		"no name":                           {stopped, "", "MissingParameter"},
		"a running instance":                {running, "golden", "UnsupportedOperation"},
		"an unknown instance":               {"i-0123456789abcdef0", "golden", "InvalidInstanceID.NotFound"},
		"an invalid id":                     {"golden", "golden", "InvalidInstanceID.Malformed"},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := e.CreateImage(t.Context(), &sdk.CreateImageInput{InstanceId: aws.String(c.instance), Name: aws.String(c.name)})
			requireCode(t, err, c.code)
		})
	}
}

func TestADisabledImageIsOfNoUse(t *testing.T) {
	e := setup(t, options{})
	ctx := t.Context()
	made, err := e.CreateImage(ctx, &sdk.CreateImageInput{InstanceId: aws.String(e.stopped()), Name: aws.String("golden")})
	require.NoError(t, err)
	e.pass(10 * time.Minute)
	id := *made.ImageId
	_, err = e.ModifyImageAttribute(ctx, &sdk.ModifyImageAttributeInput{ImageId: &id, LaunchPermission: &types.LaunchPermissionModifications{Add: []types.LaunchPermission{{UserId: aws.String(other)}}}})
	require.NoError(t, err)
	_, err = e.DisableImage(ctx, &sdk.DisableImageInput{ImageId: &id})
	require.NoError(t, err)
	_, err = e.DisableImage(ctx, &sdk.DisableImageInput{ImageId: &id})
	requireCode(t, err, "InvalidAMIID.Unavailable")
	_, err = e.RunInstances(ctx, launchOf(id))
	requireCode(t, err, "InvalidAMIID.Unavailable")
	_, err = e.RunInstances(as(ctx, other), launchOf(id))
	requireCode(t, err, "InvalidAMIID.NotFound")
	own := func(disabled bool) int {
		out, err := e.DescribeImages(ctx, &sdk.DescribeImagesInput{Owners: []string{"self"}, IncludeDisabled: aws.Bool(disabled)})
		require.NoError(t, err)
		return len(out.Images)
	}
	assert.Equal(t, []int{0, 1}, []int{own(false), own(true)})
	_, err = e.EnableImage(ctx, &sdk.EnableImageInput{ImageId: &id})
	require.NoError(t, err)
	assert.Equal(t, 1, own(false))
	_, err = e.RunInstances(ctx, launchOf(id))
	require.NoError(t, err)
	assert.Equal(t, []string{"available", "disabled", "available"}, e.eventStates("EC2 AMI State Change"))
}

// brokenCapture is a driver whose disk is full.
type brokenCapture struct{ vm.Driver }

func (brokenCapture) Capture(_ context.Context, _, imageDir string) (vm.ImageInfo, error) {
	if err := makeDir(imageDir); err != nil {
		return vm.ImageInfo{}, err
	}
	return vm.ImageInfo{}, errors.New("flatten disk: no space left on device")
}

func TestAnImageThatCannotBeMadeFails(t *testing.T) {
	e := setup(t, options{config: func(c *ec2.Config) { c.Driver = brokenCapture{c.Driver} }})
	out, err := e.CreateImage(t.Context(), &sdk.CreateImageInput{InstanceId: aws.String(e.stopped()), Name: aws.String("golden")})
	require.NoError(t, err)
	e.pass(10 * time.Minute)
	im := e.image(*out.ImageId)
	assert.Equal(t, types.ImageStateFailed, im.State)
	assert.Equal(t, "Server.InternalError: flatten disk: no space left on device", *im.StateReason.Message)
	assert.Equal(t, types.SnapshotStateError, e.snapshotOf(*out.ImageId).State)
	assert.Equal(t, []string{"failed"}, e.eventStates("EC2 AMI State Change"))
	assert.Empty(t, entries(t, filepath.Join(e.dir, "images")))
}

// sizedCapture is a driver whose images take room.
type sizedCapture struct{ vm.Driver }

func (d sizedCapture) Capture(ctx context.Context, instanceDir, imageDir string) (vm.ImageInfo, error) {
	info, err := d.Driver.Capture(ctx, instanceDir, imageDir)
	info.SizeBytes = 800_000_000
	return info, err
}

func TestASnapshotSaysHowMuchItHolds(t *testing.T) {
	e := setup(t, options{config: func(c *ec2.Config) { c.Driver = sizedCapture{c.Driver} }})
	out, err := e.CreateImage(t.Context(), &sdk.CreateImageInput{InstanceId: aws.String(e.stopped()), Name: aws.String("golden")})
	require.NoError(t, err)
	e.pass(10 * time.Minute)
	assert.Equal(t, int64(800_000_000), aws.ToInt64(e.snapshotOf(*out.ImageId).FullSnapshotSizeInBytes))
}

func TestAnInstanceKeepsItsDiskWhileAnImageIsMadeOfIt(t *testing.T) {
	e := setup(t, options{})
	instance := e.stopped()
	out, err := e.CreateImage(t.Context(), &sdk.CreateImageInput{InstanceId: aws.String(instance), Name: aws.String("golden")})
	require.NoError(t, err)
	_, err = e.TerminateInstances(t.Context(), &sdk.TerminateInstancesInput{InstanceIds: []string{instance}})
	require.NoError(t, err)
	e.pass(20 * time.Second)
	assert.Equal(t, types.InstanceStateNameTerminated, e.state(instance))
	assert.Equal(t, []string{instance}, entries(t, filepath.Join(e.dir, "instances")))
	e.pass(10 * time.Minute)
	assert.Equal(t, types.ImageStateAvailable, e.image(*out.ImageId).State)
	assert.Empty(t, entries(t, filepath.Join(e.dir, "instances")))
}

func TestAnInstanceStartsOnlyWhenItsDiskIsCaptured(t *testing.T) {
	e := setup(t, options{})
	instance := e.stopped()
	_, err := e.CreateImage(t.Context(), &sdk.CreateImageInput{InstanceId: aws.String(instance), Name: aws.String("golden")})
	require.NoError(t, err)
	_, err = e.StartInstances(t.Context(), &sdk.StartInstancesInput{InstanceIds: []string{instance}})
	require.NoError(t, err)
	e.pass(60 * time.Second)
	assert.Equal(t, types.InstanceStateNamePending, e.state(instance))
	e.pass(60 * time.Second)
	assert.Equal(t, types.InstanceStateNameRunning, e.state(instance))
}

func TestCopyImage(t *testing.T) {
	e := setup(t, options{})
	ctx := t.Context()
	source := e.made("golden", rootVolume(types.EbsBlockDevice{Encrypted: aws.Bool(true), KmsKeyId: aws.String(customerKey)}))
	_, err := e.CreateTags(ctx, &sdk.CreateTagsInput{Resources: []string{source}, Tags: []types.Tag{
		{Key: aws.String("recipe"), Value: aws.String("golden")}, {Key: aws.String("stage"), Value: aws.String("create")}}})
	require.NoError(t, err)
	in := &sdk.CopyImageInput{Name: aws.String("golden"), SourceImageId: aws.String(source), SourceRegion: aws.String(region), CopyImageTags: aws.Bool(true),
		ClientToken: aws.String("execution-1-copy"), Encrypted: aws.Bool(true), KmsKeyId: aws.String("alias/images"),
		TagSpecifications: []types.TagSpecification{{ResourceType: types.ResourceTypeImage, Tags: []types.Tag{{Key: aws.String("stage"), Value: aws.String("distribute")}}}}}
	out, err := e.CopyImage(ctx, in, inRegion(region2))
	require.NoError(t, err)
	again, err := e.CopyImage(ctx, in, inRegion(region2))
	require.NoError(t, err)
	assert.Equal(t, out.ImageId, again.ImageId)
	changed := *in
	changed.Description = aws.String("another")
	_, err = e.CopyImage(ctx, &changed, inRegion(region2))
	requireCode(t, err, "IdempotentParameterMismatch")

	e.pass(time.Minute)
	assert.Equal(t, types.ImageStatePending, e.image(*out.ImageId, inRegion(region2)).State)
	_, err = e.DescribeImages(ctx, &sdk.DescribeImagesInput{ImageIds: []string{*out.ImageId}})
	requireCode(t, err, "InvalidAMIID.NotFound") // it is not in the home region
	e.pass(time.Minute)
	im := e.image(*out.ImageId, inRegion(region2))
	assert.Equal(t, types.ImageStateAvailable, im.State)
	assert.Equal(t, source, *im.SourceImageId)
	assert.Equal(t, region, *im.SourceImageRegion)
	require.Len(t, im.Tags, 2)
	assert.Equal(t, "golden", *im.Tags[0].Value)
	assert.Equal(t, "distribute", *im.Tags[1].Value, "the call's tags win")
	assert.Equal(t, "arn:aws:kms:us-west-2:111122223333:alias/images", *e.snapshotOf(*out.ImageId, inRegion(region2)).KmsKeyId)

	_, err = e.RunInstances(ctx, launchOf(*out.ImageId), inRegion(region2))
	require.NoError(t, err)
}

func TestCopyImageRefuses(t *testing.T) {
	e := setup(t, options{})
	source := e.made("golden", rootVolume(types.EbsBlockDevice{Encrypted: aws.Bool(true)}))
	for sentence, c := range map[string]struct {
		code   string
		change func(*sdk.CopyImageInput)
	}{
		"an unknown region":          {"InvalidRegion", func(in *sdk.CopyImageInput) { in.SourceRegion = aws.String("mars-1") }},
		"an image of another region": {"InvalidAMIID.NotFound", func(in *sdk.CopyImageInput) { in.SourceRegion = aws.String("us-east-1") }},
		"a key without encryption":   {"InvalidParameterDependency", func(in *sdk.CopyImageInput) { in.KmsKeyId = aws.String("alias/x") }},
		"to decrypt":                 {"InvalidParameterValue", func(in *sdk.CopyImageInput) { in.Encrypted = aws.Bool(false) }},
		"no source region":           {"MissingParameter", func(in *sdk.CopyImageInput) { in.SourceRegion = nil }},
		"tags of what is not made": {"InvalidParameterValue", func(in *sdk.CopyImageInput) {
			in.TagSpecifications = []types.TagSpecification{{ResourceType: "instance"}}
		}},
		"a dry run, with its own error": {"DryRunOperation", func(in *sdk.CopyImageInput) { in.DryRun = aws.Bool(true) }},
		"a malformed name":              {"InvalidAMIName.Malformed", func(in *sdk.CopyImageInput) { in.Name = aws.String("a*") }},
	} {
		t.Run(sentence, func(t *testing.T) {
			in := &sdk.CopyImageInput{Name: aws.String("copy"), SourceImageId: aws.String(source), SourceRegion: aws.String(region)}
			c.change(in)
			_, err := e.CopyImage(t.Context(), in, inRegion(region2))
			requireCode(t, err, c.code)
		})
	}
}

func TestACopyUnderAKeyThatIsGoneFails(t *testing.T) {
	e := setup(t, options{config: func(c *ec2.Config) {
		c.ResolveKey = func(_, _, ref string) (ec2.Key, error) { return ec2.Key{}, errors.New("no such key") }
	}})
	source := e.made("golden")
	out, err := e.CopyImage(t.Context(), &sdk.CopyImageInput{Name: aws.String("copy"), SourceImageId: aws.String(source), SourceRegion: aws.String(region),
		Encrypted: aws.Bool(true), KmsKeyId: aws.String("alias/gone")}, inRegion(region2))
	require.NoError(t, err)
	e.pass(10 * time.Minute)
	im := e.image(*out.ImageId, inRegion(region2))
	assert.Equal(t, types.ImageStateFailed, im.State)
	assert.Contains(t, *im.StateReason.Message, "Given key ID alias/gone is not accessible: no such key")
}

func TestLaunchPermissionIsRespected(t *testing.T) {
	organization := "arn:aws:organizations::999988887777:organization/o-abcdefghij"
	unit := "arn:aws:organizations::999988887777:ou/o-abcdefghij/ou-ab12-11111111"
	share := func(add ...types.LaunchPermission) *sdk.ModifyImageAttributeInput {
		return &sdk.ModifyImageAttributeInput{LaunchPermission: &types.LaunchPermissionModifications{Add: add}}
	}
	for sentence, c := range map[string]struct {
		in      *sdk.ModifyImageAttributeInput
		visible bool
	}{
		"not shared":                     {nil, false},
		"shared with the account":        {share(types.LaunchPermission{UserId: aws.String(other)}), true},
		"shared with another account":    {share(types.LaunchPermission{UserId: aws.String("777766665555")}), false},
		"shared with its organisation":   {share(types.LaunchPermission{OrganizationArn: aws.String(organization)}), true},
		"shared with its unit":           {share(types.LaunchPermission{OrganizationalUnitArn: aws.String(unit)}), true},
		"shared in the older parameters": {&sdk.ModifyImageAttributeInput{OperationType: types.OperationTypeAdd, UserIds: []string{other}}, true},
	} {
		t.Run(sentence, func(t *testing.T) {
			e := setup(t, options{config: func(cfg *ec2.Config) {
				cfg.Organizations = func(account string) []string {
					if account == other {
						return []string{organization, unit}
					}
					return nil
				}
			}})
			id := e.made("golden")
			if c.in != nil {
				c.in.ImageId = aws.String(id)
				_, err := e.ModifyImageAttribute(t.Context(), c.in)
				require.NoError(t, err)
			}
			theirs := as(t.Context(), other)
			listed, err := e.DescribeImages(theirs, &sdk.DescribeImagesInput{Owners: []string{home}})
			require.NoError(t, err)
			_, launchErr := e.RunInstances(theirs, launchOf(id))
			if !c.visible {
				assert.Empty(t, listed.Images)
				requireCode(t, launchErr, "InvalidAMIID.NotFound")
				return
			}
			require.Len(t, listed.Images, 1)
			assert.Empty(t, listed.Images[0].Tags, "tags are the owner's")
			require.NoError(t, launchErr)
			_, err = e.DeregisterImage(theirs, &sdk.DeregisterImageInput{ImageId: aws.String(id)})
			requireCode(t, err, "AuthFailure")

			remove := *c.in
			if remove.LaunchPermission != nil {
				remove.LaunchPermission = &types.LaunchPermissionModifications{Remove: c.in.LaunchPermission.Add}
			} else {
				remove.OperationType = types.OperationTypeRemove
			}
			_, err = e.ModifyImageAttribute(t.Context(), &remove)
			require.NoError(t, err)
			_, err = e.RunInstances(theirs, launchOf(id))
			requireCode(t, err, "InvalidAMIID.NotFound")
		})
	}
}

func TestModifyImageAttributeRefuses(t *testing.T) {
	e := setup(t, options{})
	plain := e.made("plain")
	managed := e.made("managed", rootVolume(types.EbsBlockDevice{Encrypted: aws.Bool(true)}))
	add := func(p types.LaunchPermission) *types.LaunchPermissionModifications {
		return &types.LaunchPermissionModifications{Add: []types.LaunchPermission{p}}
	}
	account := types.LaunchPermission{UserId: aws.String(other)}
	for sentence, c := range map[string]struct {
		code string
		in   sdk.ModifyImageAttributeInput
	}{
		"two attributes in one call":   {"InvalidParameterCombination", sdk.ModifyImageAttributeInput{ImageId: &plain, LaunchPermission: add(account), ImdsSupport: &types.AttributeValue{Value: aws.String("v2.0")}}},
		"no attribute":                 {"MissingParameter", sdk.ModifyImageAttributeInput{ImageId: &plain}},
		"another account's image":      {"AuthFailure", sdk.ModifyImageAttributeInput{ImageId: &e.base, LaunchPermission: add(account)}},
		"the public, which is blocked": {"OperationNotPermitted", sdk.ModifyImageAttributeInput{ImageId: &plain, LaunchPermission: add(types.LaunchPermission{Group: types.PermissionGroupAll})}},
		"an image under AWS's key":     {"InvalidParameter", sdk.ModifyImageAttributeInput{ImageId: &managed, LaunchPermission: add(account)}},
		"an invalid account":           {"InvalidAMIAttributeItemValue", sdk.ModifyImageAttributeInput{ImageId: &plain, LaunchPermission: add(types.LaunchPermission{UserId: aws.String("bob")})}},
		"an older metadata version":    {"InvalidParameterValue", sdk.ModifyImageAttributeInput{ImageId: &plain, Attribute: aws.String("imdsSupport"), Value: aws.String("v1.0")}},
		"an operation not named":       {"MissingParameter", sdk.ModifyImageAttributeInput{ImageId: &plain, UserIds: []string{other}}},
		"an unknown image":             {"InvalidAMIID.NotFound", sdk.ModifyImageAttributeInput{ImageId: aws.String("ami-0123456789abcdef0"), UserIds: []string{other}}},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := e.ModifyImageAttribute(t.Context(), &c.in)
			requireCode(t, err, c.code)
		})
	}
}

func TestBlockPublicAccessCanBeLifted(t *testing.T) {
	e := setup(t, options{})
	ctx := t.Context()
	id := e.made("golden")
	public := &sdk.ModifyImageAttributeInput{ImageId: aws.String(id), OperationType: types.OperationTypeAdd, UserGroups: []string{"all"}}
	state, err := e.GetImageBlockPublicAccessState(ctx, &sdk.GetImageBlockPublicAccessStateInput{})
	require.NoError(t, err)
	assert.Equal(t, "block-new-sharing", *state.ImageBlockPublicAccessState)
	_, err = e.DisableImageBlockPublicAccess(ctx, &sdk.DisableImageBlockPublicAccessInput{})
	require.NoError(t, err)
	_, err = e.ModifyImageAttribute(ctx, public)
	require.NoError(t, err)
	assert.True(t, *e.image(id).Public)
	_, err = e.EnableImageBlockPublicAccess(ctx, &sdk.EnableImageBlockPublicAccessInput{ImageBlockPublicAccessState: types.ImageBlockPublicAccessEnabledStateBlockNewSharing})
	require.NoError(t, err)
	_, err = e.ModifyImageAttribute(ctx, public)
	requireCode(t, err, "OperationNotPermitted")
	state, err = e.GetImageBlockPublicAccessState(ctx, &sdk.GetImageBlockPublicAccessStateInput{}, inRegion(region2))
	require.NoError(t, err)
	assert.Equal(t, "block-new-sharing", *state.ImageBlockPublicAccessState, "regions are apart")
}

// Image descriptions with a dash that is not ASCII fail on EC2 in CreateImage and
// ModifyImageAttribute; tags take any text.
func TestDescriptionsAreASCII(t *testing.T) {
	e := setup(t, options{})
	c := over(t, e)
	ctx := t.Context()
	stopped := e.stopped()
	source := e.made("source")
	for sentence, text := range map[string]string{"a dash": "golden \u2014 image", "an accent": "caf\u00e9", "an emoji": "\U0001F680"} {
		t.Run(sentence, func(t *testing.T) {
			for operation, call := range map[string]func(text *string) error{
				"CreateImage": func(text *string) error {
					_, err := c.CreateImage(ctx, &sdk.CreateImageInput{InstanceId: &stopped, Name: aws.String("golden-ascii"), Description: text})
					return err
				},
				"CopyImage": func(text *string) error {
					_, err := c.CopyImage(ctx, &sdk.CopyImageInput{SourceImageId: &source, SourceRegion: aws.String(region), Name: aws.String("copy"), Description: text})
					return err
				},
				"ModifyImageAttribute": func(text *string) error {
					_, err := c.ModifyImageAttribute(ctx, &sdk.ModifyImageAttributeInput{ImageId: &source, Description: &types.AttributeValue{Value: text}})
					return err
				},
				"CreateSecurityGroup, its description": func(text *string) error {
					_, err := c.CreateSecurityGroup(ctx, &sdk.CreateSecurityGroupInput{GroupName: aws.String("ascii"), Description: text})
					return err
				},
				"CreateSecurityGroup, its name": func(text *string) error {
					_, err := c.CreateSecurityGroup(ctx, &sdk.CreateSecurityGroupInput{GroupName: text, Description: aws.String("ascii")})
					return err
				},
			} {
				err := call(&text)
				requireCode(t, err, "InvalidParameterValue")
				assert.ErrorContains(t, err, "Value ("+text+") for parameter ", operation)
				assert.ErrorContains(t, err, "Character sets beyond ASCII are not supported.", operation)
			}
			_, err := c.CreateTags(ctx, &sdk.CreateTagsInput{Resources: []string{source}, Tags: []types.Tag{{Key: aws.String("note"), Value: &text}}})
			assert.NoError(t, err)
		})
	}
	long := strings.Repeat("x", 256)
	_, err := c.CreateImage(ctx, &sdk.CreateImageInput{InstanceId: &stopped, Name: aws.String("golden-long"), Description: &long})
	requireCode(t, err, "InvalidParameterValue")
}

func TestImageAttributesAreShown(t *testing.T) {
	e := setup(t, options{})
	ctx := t.Context()
	id := e.made("golden")
	for _, in := range []sdk.ModifyImageAttributeInput{
		{Description: &types.AttributeValue{Value: aws.String("new words")}},
		{ImdsSupport: &types.AttributeValue{Value: aws.String("v2.0")}},
		{OperationType: types.OperationTypeAdd, UserIds: []string{other, "777766665555"}},
		{OperationType: types.OperationTypeAdd, UserIds: []string{other}},
	} {
		in.ImageId = aws.String(id)
		_, err := e.ModifyImageAttribute(ctx, &in)
		require.NoError(t, err)
	}
	show := func(name types.ImageAttributeName) *sdk.DescribeImageAttributeOutput {
		out, err := e.DescribeImageAttribute(ctx, &sdk.DescribeImageAttributeInput{ImageId: aws.String(id), Attribute: name})
		require.NoError(t, err)
		return out
	}
	assert.Equal(t, "new words", *show(types.ImageAttributeNameDescription).Description.Value)
	assert.Equal(t, "v2.0", *show(types.ImageAttributeNameImdsSupport).ImdsSupport.Value)
	assert.Equal(t, types.ImdsSupportValuesV20, e.image(id).ImdsSupport)
	permissions := show(types.ImageAttributeNameLaunchPermission).LaunchPermissions
	require.Len(t, permissions, 2, "an account is listed once")
	assert.Equal(t, other, *permissions[0].UserId)

	out, err := e.RunInstances(ctx, launchOf(id))
	require.NoError(t, err)
	assert.Equal(t, types.HttpTokensStateRequired, out.Instances[0].MetadataOptions.HttpTokens, "an image that supports version 2 only asks for tokens")
	assert.NotNil(t, show(types.ImageAttributeNameLastLaunchedTime).LastLaunchedTime)
	_, err = e.DescribeImageAttribute(as(ctx, other), &sdk.DescribeImageAttributeInput{ImageId: aws.String(id), Attribute: types.ImageAttributeNameDescription})
	requireCode(t, err, "AuthFailure")
}

func TestSnapshotsShareWhatTheyHold(t *testing.T) {
	e := setup(t, options{})
	ctx := t.Context()
	images := filepath.Join(e.dir, "images")
	source := e.made("golden")
	sourceSnapshot := *e.snapshotOf(source).SnapshotId
	out, err := e.CopyImage(ctx, &sdk.CopyImageInput{Name: aws.String("copy"), SourceImageId: aws.String(source), SourceRegion: aws.String(region)}, inRegion(region2))
	require.NoError(t, err)
	e.pass(10 * time.Minute)
	assert.Equal(t, []string{sourceSnapshot}, entries(t, images))

	_, err = e.DeleteSnapshot(ctx, &sdk.DeleteSnapshotInput{SnapshotId: aws.String(sourceSnapshot)})
	requireCode(t, err, "InvalidSnapshot.InUse")
	assert.ErrorContains(t, err, source)
	gone, err := e.DeregisterImage(ctx, &sdk.DeregisterImageInput{ImageId: aws.String(source), DeleteAssociatedSnapshots: aws.Bool(true)})
	require.NoError(t, err)
	assert.Equal(t, types.SnapshotReturnCodesSuccess, gone.DeleteSnapshotResults[0].ReturnCode)
	_, err = e.DescribeSnapshots(ctx, &sdk.DescribeSnapshotsInput{SnapshotIds: []string{sourceSnapshot}})
	requireCode(t, err, "InvalidSnapshot.NotFound")
	assert.Equal(t, []string{sourceSnapshot}, entries(t, images), "the copy still needs it")

	launched, err := e.RunInstances(ctx, launchOf(*out.ImageId), inRegion(region2))
	require.NoError(t, err)
	e.pass(time.Minute)
	copySnapshot := *e.snapshotOf(*out.ImageId, inRegion(region2)).SnapshotId
	_, err = e.DeregisterImage(ctx, &sdk.DeregisterImageInput{ImageId: out.ImageId}, inRegion(region2))
	require.NoError(t, err)
	_, err = e.DeleteSnapshot(ctx, &sdk.DeleteSnapshotInput{SnapshotId: aws.String(copySnapshot)}, inRegion(region2))
	require.NoError(t, err)
	assert.Equal(t, []string{sourceSnapshot}, entries(t, images), "an instance's disk still lies over it")
	_, err = e.TerminateInstances(ctx, &sdk.TerminateInstancesInput{InstanceIds: []string{*launched.Instances[0].InstanceId}}, inRegion(region2))
	require.NoError(t, err)
	e.pass(time.Minute)
	assert.Empty(t, entries(t, images))
	assert.Equal(t, []string{"available", "available", "deregistered", "deregistered"}, e.eventStates("EC2 AMI State Change"))
}

func TestAPendingImageCanBeDeregistered(t *testing.T) {
	e := setup(t, options{})
	out, err := e.CreateImage(t.Context(), &sdk.CreateImageInput{InstanceId: aws.String(e.stopped()), Name: aws.String("golden")})
	require.NoError(t, err)
	_, err = e.DeregisterImage(t.Context(), &sdk.DeregisterImageInput{ImageId: out.ImageId, DeleteAssociatedSnapshots: aws.Bool(true)})
	require.NoError(t, err)
	e.pass(10 * time.Minute)
	assert.Empty(t, entries(t, filepath.Join(e.dir, "images")))
	assert.Equal(t, []string{"deregistered"}, e.eventStates("EC2 AMI State Change"))
}

func TestSnapshotPermissions(t *testing.T) {
	e := setup(t, options{})
	ctx := t.Context()
	id := e.snapshotOf(e.made("golden")).SnapshotId
	theirs := as(ctx, other)
	_, err := e.DescribeSnapshots(theirs, &sdk.DescribeSnapshotsInput{SnapshotIds: []string{*id}})
	requireCode(t, err, "InvalidSnapshot.NotFound")
	_, err = e.ModifySnapshotAttribute(ctx, &sdk.ModifySnapshotAttributeInput{SnapshotId: id, OperationType: types.OperationTypeAdd, UserIds: []string{other}})
	require.NoError(t, err)
	shared, err := e.DescribeSnapshotAttribute(ctx, &sdk.DescribeSnapshotAttributeInput{SnapshotId: id, Attribute: types.SnapshotAttributeNameCreateVolumePermission})
	require.NoError(t, err)
	assert.Equal(t, []types.CreateVolumePermission{{UserId: aws.String(other)}}, shared.CreateVolumePermissions)
	_, err = e.DescribeSnapshots(theirs, &sdk.DescribeSnapshotsInput{SnapshotIds: []string{*id}})
	require.NoError(t, err)
	_, err = e.DeleteSnapshot(theirs, &sdk.DeleteSnapshotInput{SnapshotId: id})
	requireCode(t, err, "InvalidSnapshot.NotFound")
	_, err = e.ModifySnapshotAttribute(ctx, &sdk.ModifySnapshotAttributeInput{SnapshotId: id, CreateVolumePermission: &types.CreateVolumePermissionModifications{
		Remove: []types.CreateVolumePermission{{UserId: aws.String(other)}}}})
	require.NoError(t, err)
	_, err = e.DescribeSnapshots(theirs, &sdk.DescribeSnapshotsInput{SnapshotIds: []string{*id}})
	requireCode(t, err, "InvalidSnapshot.NotFound")
}

func TestDeprecationHidesFromOthers(t *testing.T) {
	e := setup(t, options{})
	ctx := t.Context()
	id := e.made("golden")
	_, err := e.ModifyImageAttribute(ctx, &sdk.ModifyImageAttributeInput{ImageId: aws.String(id), OperationType: types.OperationTypeAdd, UserIds: []string{other}})
	require.NoError(t, err)
	_, err = e.EnableImageDeprecation(ctx, &sdk.EnableImageDeprecationInput{ImageId: aws.String(id), DeprecateAt: aws.Time(start)})
	requireCode(t, err, "InvalidParameterValue")
	_, err = e.EnableImageDeprecation(ctx, &sdk.EnableImageDeprecationInput{ImageId: aws.String(id), DeprecateAt: aws.Time(e.clock.Now().Add(24 * time.Hour))})
	require.NoError(t, err)
	count := func(account string, all bool) int {
		out, err := e.DescribeImages(as(ctx, account), &sdk.DescribeImagesInput{Owners: []string{home}, IncludeDeprecated: aws.Bool(all)})
		require.NoError(t, err)
		return len(out.Images)
	}
	assert.Equal(t, 1, count(other, false))
	e.pass(25 * time.Hour)
	assert.Equal(t, 0, count(other, false))
	assert.Equal(t, 1, count(other, true))
	assert.Equal(t, 1, count(home, false), "the owner sees it still")
	_, err = e.DisableImageDeprecation(ctx, &sdk.DisableImageDeprecationInput{ImageId: aws.String(id)})
	require.NoError(t, err)
	assert.Equal(t, 1, count(other, false))
}

func TestDeregistrationProtection(t *testing.T) {
	e := setup(t, options{})
	ctx := t.Context()
	id := aws.String(e.made("golden"))
	_, err := e.EnableImageDeregistrationProtection(ctx, &sdk.EnableImageDeregistrationProtectionInput{ImageId: id, WithCooldown: aws.Bool(true)})
	require.NoError(t, err)
	assert.Equal(t, "enabled-with-cooldown", *e.image(*id).DeregistrationProtection)
	_, err = e.DeregisterImage(ctx, &sdk.DeregisterImageInput{ImageId: id})
	requireCode(t, err, "OperationNotPermitted")
	_, err = e.DisableImageDeregistrationProtection(ctx, &sdk.DisableImageDeregistrationProtectionInput{ImageId: id})
	require.NoError(t, err)
	_, err = e.DeregisterImage(ctx, &sdk.DeregisterImageInput{ImageId: id})
	requireCode(t, err, "OperationNotPermitted")
	e.pass(24 * time.Hour)
	_, err = e.DeregisterImage(ctx, &sdk.DeregisterImageInput{ImageId: id})
	require.NoError(t, err)
}

func TestBaseImages(t *testing.T) {
	e := setup(t, options{})
	ctx := t.Context()
	find := func(region string, filters ...types.Filter) []types.Image {
		out, err := e.DescribeImages(ctx, &sdk.DescribeImagesInput{Owners: []string{debian}, Filters: filters}, inRegion(region))
		require.NoError(t, err)
		return out.Images
	}
	here := find(region, types.Filter{Name: aws.String("name"), Values: []string{"debian-12-amd64-*"}}, types.Filter{Name: aws.String("state"), Values: []string{"available"}})
	require.Len(t, here, 1)
	assert.Equal(t, debian, *here[0].OwnerId)
	assert.True(t, *here[0].Public)
	assert.Equal(t, e.base, *here[0].ImageId)
	there := find(region2)
	require.Len(t, there, 1)
	assert.NotEqual(t, here[0].ImageId, there[0].ImageId, "each region has its own id")
	assert.Equal(t, e.base, e.register(e.Service)[region], "the id follows from what the image is")
	assert.Empty(t, find(region, types.Filter{Name: aws.String("architecture"), Values: []string{"arm64"}}))
}
