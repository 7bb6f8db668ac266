package release_test

import (
	"context"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/localcloud/fault"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/release"
)

const (
	organization = "arn:aws:organizations::111122223333:organization/o-a1b2c3d4e5"
	unit         = "arn:aws:organizations::111122223333:ou/o-a1b2c3d4e5/ou-ab12-cdefgh34"
)

func TestAudienceOfARecipe(t *testing.T) {
	a := release.AudienceOf(recipe.Distribution{Accounts: []string{"2", "1", "2"}, Organizations: []string{unit, organization}})
	assert.Equal(t, release.Audience{Accounts: []string{"1", "2"}, Organizations: []string{organization}, OrganizationalUnits: []string{unit}}, a)
	assert.Equal(t, []string{"1", "2", organization, unit}, a.Names())
	assert.Equal(t, release.Audience{Accounts: []string{"2"}, Organizations: []string{organization}, OrganizationalUnits: []string{unit}},
		a.Minus(release.Audience{Accounts: []string{"1"}}))
	assert.Equal(t, []string{"everyone (public)"}, release.Audience{Public: true}.Minus(a).Names())
}

func TestShareGrantsWhatIsMissingAndReadsItBack(t *testing.T) {
	w := newWorld(t)
	w.recipe.Distribution.Accounts = nil
	id := w.bake("first").Targets[home].ImageID
	want := release.Audience{Accounts: []string{target}, Organizations: []string{organization}, OrganizationalUnits: []string{unit}}
	has, err := release.Share(t.Context(), w.ec2(home), id, "the image", want, release.Audience{})
	require.NoError(t, err)
	assert.Equal(t, want, has)
	w.fail(fault.Rule{Service: "ec2", Operation: "ModifyImageAttribute", Times: -1, Code: "UnauthorizedOperation", Status: 403})
	_, err = release.Share(t.Context(), w.ec2(home), id, "the image", want, release.Audience{})
	require.NoError(t, err, "what is shared already is not shared again")
}

func TestShareNamesWhomTheRecipeDoesNot(t *testing.T) {
	w := newWorld(t)
	id := w.bake("first").Targets[home].ImageID
	_, err := release.Share(t.Context(), w.ec2(home), id, "the image", release.Audience{Accounts: []string{"444455556666"}}, release.Audience{})
	requireCode(t, failure.ShareFailed, err)
	assert.ErrorContains(t, err, "the image is shared with "+target+", which the recipe does not name")
}

func TestARefusalNamesTheAccount(t *testing.T) {
	w := newWorld(t)
	id := w.bake("first").Targets[home].ImageID
	want := release.Audience{Accounts: []string{target, "444455556666", "555566667777"}}
	w.fail( // the call for both, then the one for the second
		fault.Rule{Service: "ec2", Operation: "ModifyImageAttribute", Code: "InvalidAMIAttributeItemValue", Status: 400},
		fault.Rule{Service: "ec2", Operation: "ModifyImageAttribute", Nth: 2, Code: "InvalidAMIAttributeItemValue", Status: 400},
	)
	_, err := release.Share(t.Context(), w.ec2(home), id, "the image", want, release.Audience{})
	requireCode(t, failure.ShareFailed, err)
	assert.ErrorContains(t, err, "account 555566667777")
	assert.NotContains(t, err.Error(), "444455556666")
	has, err := release.ReadAudience(t.Context(), w.ec2(home), id)
	require.NoError(t, err)
	assert.Equal(t, []string{target, "444455556666"}, has.Accounts)
}

func TestAReleaseWithdrawsWhatAnEarlierOneGrantedAndItsUndoGivesItBack(t *testing.T) {
	const stays, goes, comes, stranger = "444455556666", "555566667777", "666677778888", "777788889999"
	w := newWorld(t)
	id := w.bake("first").Targets[home].ImageID
	api := w.ec2(home)
	audience := func(accounts ...string) release.Audience { return release.Audience{Accounts: accounts} }
	has := func() []string {
		got, err := release.ReadAudience(t.Context(), api, id)
		require.NoError(t, err)
		return got.Accounts
	}
	require.NoError(t, release.ShareAsBefore(t.Context(), api, id, audience(target), audience(stays, goes)))
	assert.Equal(t, []string{stays, goes}, has())

	before, want := audience(stays, goes), audience(stays, comes)
	require.NoError(t, release.Unshare(t.Context(), api, id, "the image", want, before))
	assert.Equal(t, []string{stays}, has())
	_, err := release.Share(t.Context(), api, id, "the image", want, release.Audience{})
	require.NoError(t, err)
	assert.Equal(t, []string{stays, comes}, has())

	require.NoError(t, release.Grant(t.Context(), api, id, audience(stranger)))
	require.NoError(t, release.Unshare(t.Context(), api, id, "the image", want, before))
	assert.Equal(t, []string{stays, comes, stranger}, has(), "what no recipe named is not hidden")
	_, err = release.Share(t.Context(), api, id, "the image", want, release.Audience{})
	requireCode(t, failure.ShareFailed, err)
	assert.ErrorContains(t, err, stranger)

	require.NoError(t, release.ShareAsBefore(t.Context(), api, id, want, before))
	assert.Equal(t, []string{stays, goes, stranger}, has())
}

// staleDoor still shows who might launch an image before the last change.
type staleDoor struct {
	release.ShareAPI
	shows *sdkec2.DescribeImageAttributeOutput
}

func (s staleDoor) DescribeImageAttribute(context.Context, *sdkec2.DescribeImageAttributeInput, ...func(*sdkec2.Options)) (*sdkec2.DescribeImageAttributeOutput, error) {
	return s.shows, nil
}

func TestAShareThatEC2DoesNotShowYetIsTakenBack(t *testing.T) {
	w := newWorld(t)
	id := w.bake("first").Targets[home].ImageID
	api := w.ec2(home)
	const comes = "666677778888"
	before, want := release.Audience{Accounts: []string{target}}, release.Audience{Accounts: []string{target, comes}}
	stale, err := api.DescribeImageAttribute(t.Context(), &sdkec2.DescribeImageAttributeInput{ImageId: &id, Attribute: types.ImageAttributeNameLaunchPermission})
	require.NoError(t, err)
	require.NoError(t, release.Grant(t.Context(), api, id, want))
	require.NoError(t, release.ShareAsBefore(t.Context(), staleDoor{api, stale}, id, want, before))
	got, err := release.ReadAudience(t.Context(), api, id)
	require.NoError(t, err)
	assert.Equal(t, []string{target}, got.Accounts)
}

func TestAPublicImageIsReadBackAsPublic(t *testing.T) {
	w := newWorld(t)
	has, err := release.ReadAudience(t.Context(), ownerDoor{w}, w.base)
	require.NoError(t, err)
	assert.True(t, has.Public)
}

// ownerDoor reads attributes as the owner of the base image.
type ownerDoor struct{ w *world }

func (o ownerDoor) DescribeImageAttribute(ctx context.Context, in *sdkec2.DescribeImageAttributeInput, _ ...func(*sdkec2.Options)) (*sdkec2.DescribeImageAttributeOutput, error) {
	return through(ctx, o.w.door(debian, home), "ec2", "DescribeImageAttribute", o.w.cloud.EC2.DescribeImageAttribute, in)
}

func TestACopyIsEncryptedAndTaggedAndMadeOnce(t *testing.T) {
	w := newWorld(t)
	p := w.bake("first")
	img := w.image(remote, p.Targets[remote].ImageID)
	assert.Equal(t, "debian-first", aws.ToString(img.Name))
	assert.Empty(t, release.Expectation{Labels: p.Targets[remote].Labels, SnapshotIDs: p.Targets[remote].SnapshotIDs, Audience: release.AudienceOf(w.recipe.Distribution)}.
		Deviations(img, release.AudienceOf(w.recipe.Distribution)))
	again, err := release.Copy{Token: "first" + remote, ImageID: p.Targets[home].ImageID, From: home, To: remote, KMSKey: w.keys[remote], Labels: p.Targets[home].Labels}.Start(t.Context(), w.ec2(remote))
	require.NoError(t, err)
	assert.Equal(t, p.Targets[remote].ImageID, again)
}

func TestACopyThatEC2Refuses(t *testing.T) {
	for code, want := range map[string]failure.Code{
		"InvalidRequest": failure.CopyFailed, "ResourceLimitExceeded": failure.QuotaExceeded, "RequestLimitExceeded": failure.Throttled,
	} {
		w := newWorld(t)
		w.fail(fault.Rule{Service: "ec2", Operation: "CopyImage", Code: code, Status: 400})
		_, err := release.Copy{Token: "t", ImageID: w.base, From: home, To: remote}.Start(t.Context(), w.ec2(remote))
		requireCode(t, want, err)
		assert.ErrorContains(t, err, "copy "+w.base+" from "+home+" to "+remote)
	}
}

func TestDeviationsAreSentences(t *testing.T) {
	w := newWorld(t)
	p := w.bake("first")
	img := w.image(home, p.Targets[home].ImageID)
	img.State, img.ImdsSupport = types.ImageStateDisabled, ""
	img.BlockDeviceMappings[0].Ebs.Encrypted = aws.Bool(false)
	assert.Equal(t, []string{
		"it is disabled, not available", "it does not require IMDSv2", aws.ToString(img.RootDeviceName) + " is not encrypted",
		"it is not shared with " + target,
	}, release.Expectation{Labels: p.Targets[home].Labels, Audience: release.Audience{Accounts: []string{target}}}.Deviations(img, release.Audience{}))
}
