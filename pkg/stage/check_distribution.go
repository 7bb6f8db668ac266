package stage

import (
	"context"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/failure"
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
	want := labels(in.Job, p, p.ImageName)
	f := finisher{api: api, notReady: failure.CopyNotReady, failed: failure.CopyFailed, what: what}
	img, err := f.finish(ctx, in.CopyID, want)
	if err != nil {
		return CheckDistributionOutput{}, err
	}

	audience := release.AudienceOf(p.Recipe.Distribution)
	has, err := release.Share(ctx, api, in.CopyID, what, audience)
	if err != nil {
		return CheckDistributionOutput{}, err
	}
	if at, ok := release.DeprecateAt(p.Recipe, in.Execution.StartTime); ok && img.DeprecationTime == nil {
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
