package stage

import (
	"context"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/release"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// ShareEC2 is what CheckDistribution needs of EC2, in the target region.
type ShareEC2 interface {
	FinishImageEC2
	release.PermissionReader
	release.DeprecationAPI
}

// CheckDistribution awaits a regional copy, finishes and shares it, and
// verifies that it is what the recipe asks for.
type CheckDistribution struct {
	Store store.Store
	EC2   func(region string) ShareEC2
}

// Run returns the verified copy, or CopyNotReady.
func (s CheckDistribution) Run(ctx context.Context, in DistributeInput) (CheckDistributionOutput, error) {
	p, err := loadPlan(ctx, s.Store, in.Job)
	if err != nil {
		return CheckDistributionOutput{}, err
	}
	target, err := targetRegion(p, in)
	if err != nil {
		return CheckDistributionOutput{}, err
	}
	if err := requireInput("copyId", in.CopyID); err != nil {
		return CheckDistributionOutput{}, err
	}
	api := s.EC2(target.Name)
	what := "the image " + in.CopyID + " in " + target.Name
	want := labelsIn(in.Job, p, target.Name)
	again, reused := p.Reused(target.Name)
	f := finisher{
		api: api, notReady: failure.CopyNotReady, failed: failure.CopyFailed, what: what,
		existed: reused || in.CopyID == in.ImageID, // in the home region the image is its own copy
	}
	img, err := f.finish(ctx, in.CopyID, want)
	if err != nil {
		return CheckDistributionOutput{}, err
	}

	audience := release.AudienceOf(p.Recipe.Distribution)
	var before release.Audience
	if reused {
		before = sharedBefore(p, target.Name)
		if again.ImageID != in.CopyID {
			return CheckDistributionOutput{}, failure.New(failure.InvalidInput, "%s is not %s, which is released again there", what, again.ImageID)
		}
		if err := release.Unshare(ctx, api, in.CopyID, what, audience, before); err != nil {
			return CheckDistributionOutput{}, err
		}
		if err := describeAgain(ctx, api, img, p.Recipe.Description, what); err != nil {
			return CheckDistributionOutput{}, err
		}
	}
	has, err := release.Share(ctx, api, in.CopyID, what, audience, before)
	if err != nil {
		return CheckDistributionOutput{}, err
	}
	if at, ok := deprecation(in, p, img); ok {
		if err := release.Deprecate(ctx, api, in.CopyID, at); err != nil {
			return CheckDistributionOutput{}, awserr.Wrap(err, failure.CopyFailed, "set the deprecation date of %s", what)
		}
	}

	if img, err = f.describe(ctx, in.CopyID); err != nil {
		return CheckDistributionOutput{}, err
	}
	expect := release.Expectation{Labels: want, Audience: audience}
	if wrong := expect.Deviations(img, has); len(wrong) > 0 {
		// All of it is set by now: what is not visible yet may be later.
		return CheckDistributionOutput{}, failure.New(failure.CopyNotReady, "%s: %s", what, strings.Join(wrong, "; "))
	}
	return CheckDistributionOutput{Region: target.Name, ImageID: in.CopyID, SnapshotIDs: ami.Snapshots(img)}, nil
}

// describeAgain gives an image that exists the description of its recipe.
func describeAgain(ctx context.Context, api ShareEC2, img types.Image, description, what string) error {
	text := clip(description, maxDescription)
	if aws.ToString(img.Description) == text {
		return nil
	}
	_, err := api.ModifyImageAttribute(ctx, &ec2.ModifyImageAttributeInput{ImageId: img.ImageId, Description: &types.AttributeValue{Value: &text}})
	if err != nil {
		return awserr.Wrap(err, failure.ShareFailed, "describe %s", what)
	}
	return nil
}

// deprecation is when the image in a region is to be deprecated; false when
// nothing is to be set. The time of an image that exists counts from the execution
// that made it.
func deprecation(in DistributeInput, p plan.BuildPlan, img types.Image) (time.Time, bool) {
	again, reused := p.Reused(in.Region)
	if !reused {
		at, ok := release.DeprecateAt(p.Recipe, in.Execution.StartTime)
		return at, ok && img.DeprecationTime == nil
	}
	at, ok := release.DeprecateAt(p.Recipe, again.Started)
	if !ok {
		return at, false
	}
	return release.ChangeDeprecation(img, at, in.Now)
}
