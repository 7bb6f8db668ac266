package ami

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/contract"
)

// ErrNoInstance is returned for an instance that the region does not know: it
// was terminated an hour ago, or it is so new that some endpoints of EC2 do not
// know it yet.
var ErrNoInstance = errors.New("instance not found")

// DescribeInstance reads one instance.
func DescribeInstance(ctx context.Context, api ec2.DescribeInstancesAPIClient, id string) (types.Instance, error) {
	out, err := api.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
	if awserr.IsNotFound(err) {
		return types.Instance{}, fmt.Errorf("%w: %s", ErrNoInstance, id)
	}
	if err != nil {
		return types.Instance{}, err
	}
	for _, r := range out.Reservations {
		for _, i := range r.Instances {
			if aws.ToString(i.InstanceId) == id {
				return i, nil
			}
		}
	}
	return types.Instance{}, fmt.Errorf("%w: %s", ErrNoInstance, id)
}

// ListInstances returns the instances that match all filters, oldest first,
// without those that are terminated or shutting down.
func ListInstances(ctx context.Context, api ec2.DescribeInstancesAPIClient, filters ...types.Filter) ([]types.Instance, error) {
	filters = append(slices.Clone(filters), filter("instance-state-name", "pending", "running", "stopping", "stopped"))
	var all []types.Instance
	pages := ec2.NewDescribeInstancesPaginator(api, &ec2.DescribeInstancesInput{Filters: filters})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, r := range page.Reservations {
			all = append(all, r.Instances...)
		}
	}
	slices.SortFunc(all, func(a, b types.Instance) int {
		return cmp.Or(
			aws.ToTime(a.LaunchTime).Compare(aws.ToTime(b.LaunchTime)),
			strings.Compare(aws.ToString(a.InstanceId), aws.ToString(b.InstanceId)),
		)
	})
	return all, nil
}

// ByClientToken filters for instances that one RunInstances call made, including
// its repetitions.
func ByClientToken(token string) types.Filter { return filter("client-token", token) }

// ByStage filters for resources that one stage of an execution made.
func ByStage(name string) types.Filter { return filter("tag:"+contract.TagStage, name) }

// ByImage filters for instances of an image.
func ByImage(id string) types.Filter { return filter("image-id", id) }
