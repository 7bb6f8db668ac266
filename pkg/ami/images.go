package ami

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/contract"
)

// ErrNotFound is returned for an image that the region does not know: it is
// deregistered, or so new that some endpoints of EC2 do not know it yet.
var ErrNotFound = errors.New("image not found")

// Describe reads one image of any owner.
func Describe(ctx context.Context, api ec2.DescribeImagesAPIClient, id string) (types.Image, error) {
	out, err := api.DescribeImages(ctx, &ec2.DescribeImagesInput{ImageIds: []string{id}, IncludeDeprecated: aws.Bool(true)})
	if awserr.IsNotFound(err) {
		return types.Image{}, fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	if err != nil {
		return types.Image{}, err
	}
	for _, img := range out.Images {
		if aws.ToString(img.ImageId) == id {
			return img, nil
		}
	}
	return types.Image{}, fmt.Errorf("%w: %s", ErrNotFound, id)
}

// ListOwn returns the account's own images that match all filters, newest first;
// images of the same second are sorted by id.
func ListOwn(ctx context.Context, api ec2.DescribeImagesAPIClient, filters ...types.Filter) ([]types.Image, error) {
	return List(ctx, api, &ec2.DescribeImagesInput{Owners: []string{"self"}, Filters: filters})
}

// List returns all pages of a query, newest first.
func List(ctx context.Context, api ec2.DescribeImagesAPIClient, in *ec2.DescribeImagesInput) ([]types.Image, error) {
	var all []types.Image
	pages := ec2.NewDescribeImagesPaginator(api, in)
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Images...)
	}
	slices.SortFunc(all, func(a, b types.Image) int {
		return cmp.Or(
			strings.Compare(aws.ToString(b.CreationDate), aws.ToString(a.CreationDate)),
			strings.Compare(aws.ToString(a.ImageId), aws.ToString(b.ImageId)),
		)
	})
	return all, nil
}

// Snapshots returns the ids of an image's snapshots, sorted.
func Snapshots(img types.Image) []string {
	var ids []string
	for _, d := range img.BlockDeviceMappings {
		if d.Ebs != nil && aws.ToString(d.Ebs.SnapshotId) != "" {
			ids = append(ids, *d.Ebs.SnapshotId)
		}
	}
	return SortedIDs(ids)
}

// SizeGiB is the total size of all volumes of an image.
func SizeGiB(img types.Image) int32 {
	var sum int32
	for _, d := range img.BlockDeviceMappings {
		if d.Ebs != nil {
			sum += aws.ToInt32(d.Ebs.VolumeSize)
		}
	}
	return sum
}

// Unencrypted returns the device names of volumes that are not encrypted.
func Unencrypted(img types.Image) []string {
	var devices []string
	for _, d := range img.BlockDeviceMappings {
		if d.Ebs != nil && !aws.ToBool(d.Ebs.Encrypted) {
			devices = append(devices, aws.ToString(d.DeviceName))
		}
	}
	slices.Sort(devices)
	return devices
}

// Reason returns EC2's message about why an image is in its state.
func Reason(img types.Image) string {
	if r := img.StateReason; r != nil {
		return strings.TrimSpace(aws.ToString(r.Code) + " " + aws.ToString(r.Message))
	}
	return "EC2 gives no reason"
}

// NewestPublished returns the image that the factory published last and that can
// be launched, or nil.
func NewestPublished(images []types.Image) *types.Image {
	var out *types.Image
	var newest time.Time
	for _, img := range images {
		at, err := time.Parse(time.RFC3339, TagValue(img.Tags, contract.TagPublished))
		if err == nil && img.State == types.ImageStateAvailable && (out == nil || at.After(newest)) {
			out, newest = &img, at
		}
	}
	return out
}

// IsPublished reports whether the factory has moved pointers to an image.
func IsPublished(img types.Image) bool { return TagValue(img.Tags, contract.TagPublished) != "" }

// Made parses EC2's creation date of an image. For an invalid date it returns a
// time later than any other, so that the image never counts as older than
// another.
func Made(date string) time.Time {
	at, err := time.Parse(time.RFC3339, date)
	if err != nil {
		return time.Unix(1<<40, 0)
	}
	return at
}
