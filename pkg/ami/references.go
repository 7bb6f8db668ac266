package ami

import (
	"context"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// Limits of one call of DescribeImageReferences:
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeImageReferences.html
const (
	maxReferenced   = 10      // images
	allVersions     = "10000" // the most versions that a launch template can have
	templateARNPart = ":launch-template/"
)

// LaunchConfigurations lists the launch configurations of EC2 Auto Scaling in
// the caller's account and region, by the id of the image that they launch,
// sorted: "launch configuration NAME". DescribeImageReferences does not cover
// them
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-ami-references.html).
func LaunchConfigurations(ctx context.Context, api autoscaling.DescribeLaunchConfigurationsAPIClient, images []string) (map[string][]string, error) {
	out := map[string][]string{}
	pages := autoscaling.NewDescribeLaunchConfigurationsPaginator(api, &autoscaling.DescribeLaunchConfigurationsInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, l := range page.LaunchConfigurations {
			if id := aws.ToString(l.ImageId); slices.Contains(images, id) {
				out[id] = append(out[id], "launch configuration "+aws.ToString(l.LaunchConfigurationName))
			}
		}
	}
	for id := range out {
		slices.Sort(out[id])
	}
	return out, nil
}

// References lists what uses images in the caller's account and region, by image
// id, sorted: "instance i-..." for instances that are not terminated or shutting
// down, and "launch template lt-..." for templates with a version that launches
// the image, because an Auto Scaling group can name any version.
func References(ctx context.Context, api ec2.DescribeImageReferencesAPIClient, images []string) (map[string][]string, error) {
	kinds := []types.ResourceTypeRequest{
		{ResourceType: types.ImageReferenceResourceTypeEc2Instance, ResourceTypeOptions: []types.ResourceTypeOption{
			{OptionName: types.ImageReferenceOptionNameStateName, OptionValues: []string{"pending", "running", "stopping", "stopped"}},
		}},
		{ResourceType: types.ImageReferenceResourceTypeEc2LaunchTemplate, ResourceTypeOptions: []types.ResourceTypeOption{
			{OptionName: types.ImageReferenceOptionNameVersionDepth, OptionValues: []string{allVersions}},
		}},
	}
	out := map[string][]string{}
	for ids := range slices.Chunk(images, maxReferenced) {
		pages := ec2.NewDescribeImageReferencesPaginator(api, &ec2.DescribeImageReferencesInput{ImageIds: ids, ResourceTypes: kinds})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return nil, err
			}
			for _, r := range page.ImageReferences {
				arn, word := aws.ToString(r.Arn), "instance "
				if strings.Contains(arn, templateARNPart) {
					word = "launch template "
				}
				out[aws.ToString(r.ImageId)] = append(out[aws.ToString(r.ImageId)], word+arn[strings.LastIndex(arn, "/")+1:])
			}
		}
	}
	for id := range out {
		slices.Sort(out[id])
		out[id] = slices.Compact(out[id])
	}
	return out, nil
}
