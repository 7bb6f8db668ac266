package stage

import (
	"context"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/release"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// FinishCopyEC2 is what CheckDistribution needs of EC2, in the target region.
type FinishCopyEC2 interface {
	FinishImageEC2
	release.PermissionReader
}

// CheckDistribution awaits a regional copy, finishes it and verifies that nobody
// else may launch it. It shares nothing: copies are made while the image is still
// being verified. Share follows when the gate has let the image pass.
type CheckDistribution struct {
	Store store.Store
	EC2   func(region string) FinishCopyEC2
}

// Run returns the finished copy, or CopyNotReady.
func (s CheckDistribution) Run(ctx context.Context, in DistributeInput) (CheckDistributionOutput, error) {
	p, err := loadPlan(ctx, s.Store, in.Job)
	if err != nil {
		return CheckDistributionOutput{}, err
	}
	target, err := targetRegion(p, in.ImageID, in.Region)
	if err != nil {
		return CheckDistributionOutput{}, err
	}
	if err := requireInput("copyId", in.CopyID); err != nil {
		return CheckDistributionOutput{}, err
	}
	api := s.EC2(target.Name)
	_, reused := p.Reused(target.Name)
	f := finisher{api, imageReader{
		images: api, notReady: failure.CopyNotReady, failed: failure.CopyFailed, what: imageIn(target.Name, in.CopyID),
		existed: reused || in.CopyID == in.ImageID, // in the home region the image is its own copy
	}}
	img, err := f.finish(ctx, in.CopyID, labelsIn(in.Job, p, target.Name))
	if err != nil {
		return CheckDistributionOutput{}, err
	}
	if !reused { // an image that is released again has an audience already
		if err := release.RequirePrivate(ctx, api, in.CopyID, f.what); err != nil {
			return CheckDistributionOutput{}, err
		}
	}
	return CheckDistributionOutput{Region: target.Name, ImageID: in.CopyID, SnapshotIDs: ami.Snapshots(img)}, nil
}

// imageIn is an image in a region, for messages.
func imageIn(region, id string) string { return "the image " + id + " in " + region }
