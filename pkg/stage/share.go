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

// ShareEC2 is what Share needs of EC2, in the target region.
type ShareEC2 interface {
	ec2.DescribeImagesAPIClient
	release.ShareAPI
	release.DeprecationAPI
}

// Share gives the image of one region to those whom the recipe names, when the
// gate has let it pass, and verifies that it is what the recipe asks for.
type Share struct {
	Store     store.Store
	Evidence  Evidence
	Approvals Approvals
	EC2       func(region string) ShareEC2
}

// Run returns the shared and verified image, or CopyNotReady while EC2 does not
// show all of what was set.
func (s Share) Run(ctx context.Context, in ShareInput) (ShareOutput, error) {
	p, err := loadPlan(ctx, s.Store, in.Job)
	if err != nil {
		return ShareOutput{}, err
	}
	target, err := targetRegion(p, in.ImageID, in.Region)
	if err != nil {
		return ShareOutput{}, err
	}
	if len(in.SnapshotIDs) == 0 {
		return ShareOutput{}, missingInput([]string{"snapshotIds"})
	}
	api, what := s.EC2(target.Name), imageIn(target.Name, in.ImageID)
	f := imageReader{images: api, notReady: failure.CopyNotReady, failed: failure.CopyFailed, what: what, existed: true}
	img, err := f.describe(ctx, in.ImageID)
	if err != nil {
		return ShareOutput{}, err
	}

	audience := release.AudienceOf(p.Recipe.Distribution)
	var before release.Audience
	again, reused := p.Reused(target.Name)
	if reused {
		before = sharedBefore(p, target.Name)
		if again.ImageID != in.ImageID {
			return ShareOutput{}, failure.New(failure.InvalidInput, "%s is not %s, which is released again there", what, again.ImageID)
		}
	}
	if err := s.Approvals.Check(ctx, in.Job, p); err != nil {
		return ShareOutput{}, err
	}
	of := EvidenceOf{Job: in.Job, Plan: p, Evidence: in.Evidence, Images: map[string]string{target.Name: in.ImageID}, Before: before}
	if err := s.Evidence.Check(ctx, of); err != nil {
		return ShareOutput{}, failure.Wrap(failure.CodeOf(err), err, "nothing is shared that is not what was signed")
	}
	if reused {
		if err := release.Unshare(ctx, api, in.ImageID, what, audience, before); err != nil {
			return ShareOutput{}, err
		}
		if err := describeAgain(ctx, api, img, p.Recipe.Description, what); err != nil {
			return ShareOutput{}, err
		}
	}
	has, err := release.Share(ctx, api, in.ImageID, what, audience, before)
	if err != nil {
		return ShareOutput{}, err
	}
	if at, ok := deprecation(in, p, img); ok {
		if err := release.Deprecate(ctx, api, in.ImageID, at); err != nil {
			return ShareOutput{}, awserr.Wrap(err, failure.CopyFailed, "set the deprecation date of %s", what)
		}
	}

	if img, err = f.describe(ctx, in.ImageID); err != nil {
		return ShareOutput{}, err
	}
	expect := release.Expectation{Labels: labelsIn(in.Job, p, target.Name), SnapshotIDs: in.SnapshotIDs, Audience: audience}
	if wrong := expect.Deviations(img, has); len(wrong) > 0 {
		// All of it is set by now: what is not visible yet may be later.
		return ShareOutput{}, failure.New(failure.CopyNotReady, "%s: %s", what, strings.Join(wrong, "; "))
	}
	return ShareOutput{Region: target.Name, ImageID: in.ImageID, SnapshotIDs: ami.Snapshots(img)}, nil
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
func deprecation(in ShareInput, p plan.BuildPlan, img types.Image) (time.Time, bool) {
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
