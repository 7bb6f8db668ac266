package ami

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/awserr"
)

// ListSnapshots returns the account's own snapshots that match all filters, by id.
func ListSnapshots(ctx context.Context, api ec2.DescribeSnapshotsAPIClient, filters ...types.Filter) ([]types.Snapshot, error) {
	var all []types.Snapshot
	pages := ec2.NewDescribeSnapshotsPaginator(api, &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}, Filters: filters})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Snapshots...)
	}
	sortSnapshots(all)
	return all, nil
}

// DescribeSnapshots reads snapshots by id.
func DescribeSnapshots(ctx context.Context, api ec2.DescribeSnapshotsAPIClient, ids []string) ([]types.Snapshot, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	out, err := api.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: ids})
	if err != nil {
		return nil, err
	}
	sortSnapshots(out.Snapshots)
	return out.Snapshots, nil
}

func sortSnapshots(all []types.Snapshot) {
	slices.SortFunc(all, func(a, b types.Snapshot) int {
		return strings.Compare(aws.ToString(a.SnapshotId), aws.ToString(b.SnapshotId))
	})
}

// Remover deregisters images and deletes snapshots.
type Remover interface {
	DeregisterImage(context.Context, *ec2.DeregisterImageInput, ...func(*ec2.Options)) (*ec2.DeregisterImageOutput, error)
	DeleteSnapshot(context.Context, *ec2.DeleteSnapshotInput, ...func(*ec2.Options)) (*ec2.DeleteSnapshotOutput, error)
}

// Remove deregisters an image and deletes its snapshots. What no longer exists
// counts as removed. It returns the ids of everything removed; the error joins
// all errors, and each names its resource.
func Remove(ctx context.Context, api Remover, img types.Image) (removed []string, err error) {
	id := aws.ToString(img.ImageId)
	if _, err := api.DeregisterImage(ctx, &ec2.DeregisterImageInput{ImageId: &id}); err != nil && !awserr.IsNotFound(err) {
		return nil, fmt.Errorf("deregister image %s: %w", id, err)
	}
	removed = append(removed, id)
	var errs []error
	for _, s := range Snapshots(img) {
		if err := DeleteSnapshot(ctx, api, s); err != nil {
			errs = append(errs, err)
			continue
		}
		removed = append(removed, s)
	}
	return removed, errors.Join(errs...)
}

// DeleteSnapshot deletes one snapshot. It is no error if the snapshot does not
// exist.
func DeleteSnapshot(ctx context.Context, api interface {
	DeleteSnapshot(context.Context, *ec2.DeleteSnapshotInput, ...func(*ec2.Options)) (*ec2.DeleteSnapshotOutput, error)
}, id string) error {
	_, err := api.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: &id})
	if err != nil && !awserr.IsNotFound(err) {
		return fmt.Errorf("delete snapshot %s: %w", id, err)
	}
	return nil
}
