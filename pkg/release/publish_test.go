package release_test

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/localcloud/fault"
	"github.com/ami-factory/ami-factory/pkg/release"
)

func TestThePointersOfAllRegionsMove(t *testing.T) {
	w := newWorld(t)
	first, p := w.publish("first"), w.bake("second")
	records := &memory{}
	_, err := w.publisher(records).Publish(t.Context(), p)
	requireCode(t, failure.PublishNotReady, err)
	assert.Equal(t, first, w.pointers(), "SSM validates image ids after it has answered")

	moved := w.settle(w.publisher(records), p)
	second := map[string]string{home: p.Targets[home].ImageID, remote: p.Targets[remote].ImageID}
	assert.Equal(t, second, w.pointers())
	assert.Equal(t, []release.Pointer{
		{Region: remote, Parameter: latest, ImageID: second[remote], Previous: first[remote], Written: true},
		{Region: home, Parameter: latest, ImageID: second[home], Previous: first[home], Written: true},
	}, moved)
	for region, target := range p.Targets {
		img := w.image(region, target.ImageID)
		assert.True(t, ami.IsPublished(img), region)
		assert.Equal(t, w.base, ami.TagValue(img.Tags, contract.TagSource))
	}

	assert.Equal(t, moved, w.settle(w.publisher(records), p), "a repeated call finds everything done")
}

func TestPublishMovesNothingUnlessEveryCopyIsAsVerified(t *testing.T) {
	for sentence, c := range map[string]struct {
		change func(*world, release.Publication)
		says   string
	}{
		"a copy is gone": {func(w *world, p release.Publication) {
			_, err := w.ec2(remote).DeregisterImage(t.Context(), &sdkec2.DeregisterImageInput{ImageId: aws.String(p.Targets[remote].ImageID)})
			require.NoError(t, err)
		}, "is gone"},
		"a copy was made public": {func(w *world, p release.Publication) {
			_, err := w.ec2(remote).ModifyImageAttribute(t.Context(), &sdkec2.ModifyImageAttributeInput{
				ImageId: aws.String(p.Targets[remote].ImageID), LaunchPermission: &types.LaunchPermissionModifications{Add: []types.LaunchPermission{{UserId: aws.String("999988887777")}}},
			})
			require.NoError(t, err)
		}, "it is shared with 999988887777, which the recipe does not name"},
		"the image's recipe tag was changed": {func(w *world, p release.Publication) {
			_, err := w.ec2(home).CreateTags(t.Context(), &sdkec2.CreateTagsInput{
				Resources: []string{p.Targets[home].ImageID}, Tags: []types.Tag{{Key: aws.String(contract.TagFingerprint), Value: aws.String("bad")}},
			})
			require.NoError(t, err)
		}, `its tag ami-factory:fingerprint is "bad", not "f00d"`},
		"other snapshots were verified": {func(_ *world, p release.Publication) {
			p.Targets[home] = release.Target{ImageID: p.Targets[home].ImageID, SnapshotIDs: []string{"snap-0"}}
		}, "verified were [snap-0]"},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := newWorld(t)
			first, p := w.publish("first"), w.bake("second")
			c.change(w, p)
			records := &memory{}
			_, err := w.publisher(records).Publish(t.Context(), p)
			requireCode(t, failure.PublishFailed, err)
			assert.ErrorContains(t, err, "no pointer was moved")
			assert.ErrorContains(t, err, c.says)
			assert.Equal(t, first, w.pointers())
			assert.Nil(t, records.raw)
		})
	}
}

func TestAPointerToAForeignImageIsNotMoved(t *testing.T) {
	w := newWorld(t)
	p := w.bake("first")
	w.setByHand(home, w.base)
	_, err := w.publisher(&memory{}).Publish(t.Context(), p)
	requireCode(t, failure.PointerConflict, err)
	assert.ErrorContains(t, err, "is no image of this factory (its owner is "+debian+")")
	assert.Equal(t, map[string]string{home: w.base, remote: ""}, w.pointers())
}

// TestAnUnpublishedImageIsNeverGivenBack: an execution that was stopped while it
// published leaves pointers to its image, which nobody has released.
func TestAnUnpublishedImageIsNeverGivenBack(t *testing.T) {
	w := newWorld(t)
	before := w.publish("before")
	stopped, next := w.bake("stopped"), publication{w.bake("next")}
	err := w.attempt(&memory{}, &stopped)
	requireCode(t, failure.PublishNotReady, err)
	w.pass(release.HoldTime)
	require.NotEqual(t, before, w.pointers())

	w.fail(fault.Rule{Service: "ssm", Operation: "PutParameter", Region: home, Code: "ParameterLimitExceeded", Status: 400})
	records := &memory{}
	requireCode(t, failure.PublishFailed, w.attempt(records, &next.Publication))
	w.pass(10 * time.Second)
	assert.Equal(t, before[remote], w.pointer("", remote))
	w.settle(w.publisher(&memory{}), next.Publication)
	assert.Equal(t, next.images(), w.pointers())
}

func TestAPointerThatCannotBeMovedGivesAllBack(t *testing.T) {
	refused := fault.Rule{Service: "ssm", Operation: "PutParameter", Region: home, Code: "ParameterLimitExceeded", Status: 400}
	throttled := fault.Rule{Service: "ssm", Operation: "PutParameter", Region: home, Times: 2, Code: "ThrottlingException", Status: 400}
	for sentence, c := range map[string]struct {
		rule fault.Rule
		code failure.Code  // of the first attempt
		then time.Duration // until the second
	}{
		"SSM refuses one for good":                {refused, failure.PublishFailed, 0},
		"SSM throttles for longer than a moment":  {throttled, failure.Throttled, 2 * time.Minute},
		"the image cannot be marked as published": {fault.Rule{Service: "ec2", Operation: "CreateTags", Times: -1, Code: "UnauthorizedOperation", Status: 403}, failure.PublishNotReady, 10 * time.Second},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := newWorld(t)
			first, p := w.publish("first"), w.bake("second")
			w.fail(c.rule)
			records := &memory{}
			_, err := w.publisher(records).Publish(t.Context(), p)
			requireCode(t, c.code, err)
			if c.code != failure.PublishFailed {
				w.pass(c.then)
				p.Now = w.clock.Now()
				_, err = w.publisher(records).Publish(t.Context(), p)
				requireCode(t, failure.PublishFailed, err)
			}
			w.pass(10 * time.Second)
			assert.Equal(t, first, w.pointers())
			assert.Contains(t, string(records.raw), `"state": "restored"`)
			_, err = w.publisher(records).Publish(t.Context(), p)
			requireCode(t, failure.PublishFailed, err)
			assert.ErrorContains(t, err, "given back by an earlier attempt")
			assert.Equal(t, first, w.pointers())
		})
	}
}

func TestPointersOfAnotherAccountMoveFirst(t *testing.T) {
	w := newWorld(t)
	w.recipe.Pointers.Accounts = []string{target}
	p := w.bake("first")
	w.fail(fault.Rule{Service: "ssm", Operation: "PutParameter", Account: target, Region: remote, Code: "AccessDeniedException", Status: 400})
	_, err := w.publisher(&memory{}).Publish(t.Context(), p)
	requireCode(t, failure.PublishFailed, err)
	assert.ErrorContains(t, err, target+":"+remote+":"+latest)
	w.pass(10 * time.Second)
	assert.Equal(t, map[string]string{home: "", remote: ""}, w.pointers(), "no consumer of the factory's own has followed")

	moved := w.settle(w.publisher(&memory{}), p)
	var order []string
	for _, ptr := range moved {
		order = append(order, ptr.String())
	}
	assert.Equal(t, []string{target + ":" + remote + ":" + latest, target + ":" + home + ":" + latest, remote + ":" + latest, home + ":" + latest}, order)
	assert.Equal(t, p.Targets[home].ImageID, w.pointer(target, home))
}

func TestANewPointerIsGivenBackThoughSSMStillValidatesIt(t *testing.T) {
	w := newWorld(t)
	p, records := w.bake("first"), &memory{}
	w.fail(fault.Rule{Service: "ssm", Operation: "PutParameter", Region: home, Code: "ParameterLimitExceeded", Status: 400})
	_, err := w.publisher(records).Publish(t.Context(), p)
	requireCode(t, failure.PublishFailed, err)
	assert.ErrorContains(t, err, "SSM may still be validating the first value of "+latest)

	u, err := w.undo(records).Run(t.Context(), p)
	require.NoError(t, err)
	require.Len(t, u.Refused, 1)
	assert.Equal(t, failure.ServiceUnavailable, failure.CodeOf(u.Refused[0].Err), "Cleanup is run again for that")
	w.pass(10 * time.Second)
	require.Equal(t, p.Targets[remote].ImageID, w.pointer("", remote), "now SSM shows it")
	u, err = w.undo(records).Run(t.Context(), p)
	require.NoError(t, err)
	assert.True(t, u.Restored)
	assert.Equal(t, map[string]string{home: "", remote: ""}, w.pointers())
}

func TestANewPointerThatSSMNeverShowsIsGivenBackInTheEnd(t *testing.T) {
	w := newWorld(t)
	ps := []release.Pointer{{Region: home, Parameter: latest, ImageID: "ami-0123456789abcdef0", Written: true}}
	api := func(account, region string) release.ParameterAPI { return w.ssm(account, region) }
	require.NoError(t, release.Move(t.Context(), w.ssm("", home), ps[0], "debian"), "SSM answers before it looks for the image")
	w.pass(10 * time.Second)
	assert.Equal(t, failure.ServiceUnavailable, failure.CodeOf(release.Restore(t.Context(), api, ps, "debian", false)[ps[0]]))
	assert.Empty(t, release.Restore(t.Context(), api, ps, "debian", true), "SSM has had its time")
}

func TestAReleaseOfAnImageThatIsPublishedKeepsWhenItWasPublishedFirst(t *testing.T) {
	w := newWorld(t)
	p := w.bake("first")
	w.settle(w.publisher(&memory{}), p)
	first := w.image(remote, p.Targets[remote].ImageID)
	assert.Equal(t, "id-of-first", ami.TagValue(first.Tags, contract.TagRelease))

	w.pass(day)
	p.Of.Execution, p.Of.Started, p.Of.PlanSHA256, p.ID, p.Now = "arn:second", w.clock.Now(), "p1a9-2", "id-of-second", w.clock.Now()
	p.Recipe.Pointers.Parameters = []string{latest, latest + "-too"}
	for region, target := range p.Targets {
		target.Again = true
		p.Targets[region] = target
	}
	moved := w.settle(w.publisher(&memory{}), p)
	assert.Len(t, moved, 4)
	for region, target := range p.Targets {
		img := w.image(region, target.ImageID)
		assert.Equal(t, "id-of-second", ami.TagValue(img.Tags, contract.TagRelease))
		assert.Equal(t, "p1a9-2", ami.TagValue(img.Tags, contract.TagPlan))
		assert.Equal(t, "first", ami.TagValue(img.Tags, contract.TagExecution))
		assert.Equal(t, ami.TagValue(first.Tags, contract.TagPublished), ami.TagValue(img.Tags, contract.TagPublished))
		assert.Equal(t, ami.TagValue(first.Tags, contract.TagExpires), ami.TagValue(img.Tags, contract.TagExpires))
	}
}

func TestAnImageIsNotReleasedAgainOverANewerOne(t *testing.T) {
	w := newWorld(t)
	old := w.bake("first")
	w.settle(w.publisher(&memory{}), old)
	w.pass(day)
	newer := w.publish("second")

	old.Of.Execution, old.Of.Started, old.Of.PlanSHA256, old.ID, old.Now = "arn:third", w.clock.Now(), "p1a9-3", "id-of-third", w.clock.Now()
	for region, target := range old.Targets {
		target.Again = true
		old.Targets[region] = target
	}
	_, err := w.publisher(&memory{}).Publish(t.Context(), old)
	requireCode(t, failure.PublishFailed, err)
	assert.ErrorContains(t, err, newer[home]+" was published while")
	assert.Equal(t, newer, w.pointers())
}
