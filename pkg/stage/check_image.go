package stage

import (
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/release"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// TagAPI tags EC2 resources.
type TagAPI interface {
	CreateTags(context.Context, *ec2.CreateTagsInput, ...func(*ec2.Options)) (*ec2.CreateTagsOutput, error)
}

// FinishImageEC2 is what it takes to finish an image that has become available.
type FinishImageEC2 interface {
	ec2.DescribeImagesAPIClient
	ec2.DescribeSnapshotsAPIClient
	release.AttributeAPI
	TagAPI
}

// CheckImage awaits the image, requires IMDSv2 of it and verifies it.
type CheckImage struct {
	Store store.Store
	EC2   FinishImageEC2
}

// Run returns the finished image, or ImageNotReady.
func (s CheckImage) Run(ctx context.Context, in ImageInput) (CheckImageOutput, error) {
	p, err := loadPlan(ctx, s.Store, in.Job)
	if err != nil {
		return CheckImageOutput{}, err
	}
	if err := requireInput("imageId", in.ImageID); err != nil {
		return CheckImageOutput{}, err
	}
	f := finisher{s.EC2, imageReader{images: s.EC2, notReady: failure.ImageNotReady, failed: failure.ImageFailed, what: "the image " + in.ImageID}}
	img, err := f.finish(ctx, in.ImageID, labels(in.Job, p, p.ImageName))
	if err != nil {
		return CheckImageOutput{}, err
	}
	out := CheckImageOutput{ImageID: in.ImageID, SnapshotIDs: ami.Snapshots(img), SizeGiB: ami.SizeGiB(img)}
	snapshots, err := ami.DescribeSnapshots(ctx, s.EC2, out.SnapshotIDs)
	if err != nil {
		return CheckImageOutput{}, awserr.Wrap(err, failure.ImageFailed, "read the size of the snapshots of %s", f.what)
	}
	for _, sn := range snapshots {
		out.SnapshotBytes += aws.ToInt64(sn.FullSnapshotSizeInBytes)
	}
	return out, nil
}

// finisher completes a new image, original or copy: what EC2 cannot be told
// when it makes one is set afterwards, and everything is read back.
type finisher struct {
	api FinishImageEC2
	imageReader
}

// imageReader reads an image that may not be available yet.
type imageReader struct {
	images           ec2.DescribeImagesAPIClient
	notReady, failed failure.Code
	what             string // the image in messages
	existed          bool   // an earlier stage has seen the image and its snapshots
}

func (f finisher) finish(ctx context.Context, id string, want ami.Labels) (types.Image, error) {
	img, err := f.describe(ctx, id)
	if err != nil {
		return img, err
	}
	if devices := ami.Unencrypted(img); len(devices) > 0 {
		return img, failure.New(f.failed, "%s is not encrypted: %s", f.what, strings.Join(devices, ", "))
	}
	if err := f.tag(ctx, img, want.Tags()); err != nil {
		return img, err
	}
	if img.ImdsSupport == types.ImdsSupportValuesV20 {
		return img, nil
	}
	if _, err := f.api.ModifyImageAttribute(ctx, &ec2.ModifyImageAttributeInput{
		ImageId:     &id,
		ImdsSupport: &types.AttributeValue{Value: aws.String(string(types.ImdsSupportValuesV20))},
	}); err != nil {
		return img, awserr.Wrap(err, f.failed, "require IMDSv2 of %s", f.what)
	}
	if img, err = f.describe(ctx, id); err != nil {
		return img, err
	}
	if img.ImdsSupport != types.ImdsSupportValuesV20 {
		// No event announces it: it is asked again within seconds.
		return img, failure.New(failure.ServiceUnavailable, "%s was told to require IMDSv2 and does not show it yet", f.what)
	}
	return img, nil
}

// describe returns the image when it is available.
func (f imageReader) describe(ctx context.Context, id string) (types.Image, error) {
	img, err := ami.Describe(ctx, f.images, id)
	if isNoImage(err) && f.existed {
		return img, failure.Wrap(f.failed, err, "%s was available and is gone: somebody has deregistered it while the execution ran", f.what)
	}
	if isNoImage(err) {
		return img, failure.Wrap(f.notReady, err, "%s is not visible yet", f.what)
	}
	if err != nil {
		return img, awserr.Wrap(err, f.failed, "read the state of %s", f.what)
	}
	switch img.State {
	case types.ImageStateAvailable:
		return img, nil
	case types.ImageStatePending, types.ImageStateTransient:
		return img, failure.New(f.notReady, "%s is %s", f.what, img.State)
	default:
		return img, failure.New(f.failed, "%s is %s: %s", f.what, img.State, ami.Reason(img))
	}
}

// tag adds what tags the image or its snapshots lack; those of a snapshot may
// come later than the image.
func (f finisher) tag(ctx context.Context, img types.Image, want []types.Tag) error {
	snapshots, err := ami.DescribeSnapshots(ctx, f.api, ami.Snapshots(img))
	if awserr.IsNotFound(err) && f.existed {
		return failure.Wrap(f.failed, err, "a snapshot of %s is gone: somebody has deleted it while the execution ran", f.what)
	}
	if awserr.IsNotFound(err) {
		return failure.Wrap(f.notReady, err, "a snapshot of %s is not visible yet", f.what)
	}
	if err != nil {
		return awserr.Wrap(err, f.failed, "read the snapshots of %s", f.what)
	}
	var untagged []string
	if len(ami.MissingTags(want, img.Tags)) > 0 {
		untagged = append(untagged, aws.ToString(img.ImageId))
	}
	for _, s := range snapshots {
		id := aws.ToString(s.SnapshotId)
		switch {
		case s.State == types.SnapshotStateError:
			return failure.New(f.failed, "snapshot %s of %s failed: %s", id, f.what, aws.ToString(s.StateMessage))
		case s.State != types.SnapshotStateCompleted:
			return failure.New(f.notReady, "snapshot %s of %s is %s", id, f.what, s.State)
		case !aws.ToBool(s.Encrypted):
			return failure.New(f.failed, "snapshot %s of %s is not encrypted", id, f.what)
		case len(ami.MissingTags(want, s.Tags)) > 0:
			untagged = append(untagged, id)
		}
	}
	if len(untagged) == 0 {
		return nil
	}
	if _, err := f.api.CreateTags(ctx, &ec2.CreateTagsInput{Resources: untagged, Tags: want}); err != nil {
		return awserr.Wrap(err, f.failed, "tag %s", strings.Join(untagged, ", "))
	}
	return nil
}
