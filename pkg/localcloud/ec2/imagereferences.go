package ec2

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// Limits and defaults of DescribeImageReferences:
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-ami-references.html
const (
	maxReferenced       = 10    // images in a request
	defaultVersionDepth = 10    // versions of a launch template, newest first
	maxVersionDepth     = 10000 // of a launch template
)

// DescribeImageReferences lists the caller's resources in the region that refer
// to images: instances in every described state, launch templates by one of
// their newest versions, and SSM parameters of data type aws:ec2:image by their
// current value. There are no Image Builder resources here.
func (s *Service) DescribeImageReferences(ctx context.Context, in *ec2.DescribeImageReferencesInput, optFns ...func(*ec2.Options)) (*ec2.DescribeImageReferencesOutput, error) {
	c := s.caller(ctx, optFns)
	if n := len(in.ImageIds); n == 0 || n > maxReferenced {
		return nil, wire.Errorf("InvalidParameterValue", "ImageIds must have 1 to %d items, and has %d", maxReferenced, n)
	}
	for _, id := range in.ImageIds {
		if err := amiKind.check(id); err != nil {
			return nil, err
		}
	}
	kinds, err := referenceKinds(in)
	if err != nil {
		return nil, err
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	found := []types.ImageReference{}
	if _, asked := kinds[types.ImageReferenceResourceTypeSsmParameter]; asked && s.cfg.ImageParameters != nil {
		for _, id := range in.ImageIds {
			for _, arn := range s.cfg.ImageParameters(c.Account, c.Region, id) {
				found = append(found, types.ImageReference{Arn: &arn, ImageId: &id, ResourceType: types.ImageReferenceResourceTypeSsmParameter})
			}
		}
	}
	s.mu.Lock()
	defer s.unlock()
	add := func(kind types.ImageReferenceResourceType, image, resource string) {
		arn := partition.ARN("ec2", c.Region, c.Account, resource)
		found = append(found, types.ImageReference{Arn: &arn, ImageId: &image, ResourceType: kind})
	}
	if states, asked := kinds[types.ImageReferenceResourceTypeEc2Instance]; asked {
		for _, i := range s.sortedInstances(c) {
			image := aws.ToString(i.ImageId)
			if slices.Contains(in.ImageIds, image) && (len(states) == 0 || slices.Contains(states, string(i.State.Name))) {
				add(types.ImageReferenceResourceTypeEc2Instance, image, "instance/"+*i.InstanceId)
			}
		}
	}
	if depth, asked := kinds[types.ImageReferenceResourceTypeEc2LaunchTemplate]; asked {
		newest, err := versionDepth(depth)
		if err != nil {
			return nil, err
		}
		for _, t := range s.templates(c) {
			for _, id := range in.ImageIds {
				if t.refersTo(id, newest) {
					add(types.ImageReferenceResourceTypeEc2LaunchTemplate, id, "launch-template/"+*t.LaunchTemplateId)
				}
			}
		}
	}
	found, next, err := page(found, in.NextToken, in.MaxResults, 1)
	if err != nil {
		return nil, err
	}
	return &ec2.DescribeImageReferencesOutput{ImageReferences: found, NextToken: next}, nil
}

// referenceKinds returns the requested kinds of resources, each with the values
// of its option; no values mean the option's default.
func referenceKinds(in *ec2.DescribeImageReferencesInput) (map[types.ImageReferenceResourceType][]string, error) {
	options := map[types.ImageReferenceResourceType]types.ImageReferenceOptionName{
		types.ImageReferenceResourceTypeEc2Instance:                 types.ImageReferenceOptionNameStateName,
		types.ImageReferenceResourceTypeEc2LaunchTemplate:           types.ImageReferenceOptionNameVersionDepth,
		types.ImageReferenceResourceTypeSsmParameter:                "",
		types.ImageReferenceResourceTypeImageBuilderImageRecipe:     "",
		types.ImageReferenceResourceTypeImageBuilderContainerRecipe: "",
	}
	out := map[types.ImageReferenceResourceType][]string{}
	if aws.ToBool(in.IncludeAllResourceTypes) {
		for kind := range options {
			out[kind] = nil
		}
	} else if len(in.ResourceTypes) == 0 {
		return nil, wire.Errorf("MissingParameter", "Either IncludeAllResourceTypes or ResourceTypes must be specified")
	}
	for _, r := range in.ResourceTypes {
		option, ok := options[r.ResourceType]
		if !ok {
			return nil, wire.Errorf("InvalidParameterValue", "Resources of type %q do not refer to images", r.ResourceType)
		}
		out[r.ResourceType] = nil
		for _, o := range r.ResourceTypeOptions {
			if option == "" || o.OptionName != option {
				return nil, wire.Errorf("InvalidParameterValue", "Resource type %s has no option %q", r.ResourceType, o.OptionName)
			}
			out[r.ResourceType] = append(out[r.ResourceType], o.OptionValues...)
		}
	}
	for _, name := range out[types.ImageReferenceResourceTypeEc2Instance] {
		if _, ok := stateCodes[types.InstanceStateName(name)]; !ok {
			return nil, wire.Errorf("InvalidParameterValue", "%q is not a state of an instance", name)
		}
	}
	return out, nil
}

func versionDepth(values []string) (int, error) {
	if len(values) == 0 {
		return defaultVersionDepth, nil
	}
	n, err := strconv.Atoi(values[0])
	if len(values) > 1 || err != nil || n < 1 || n > maxVersionDepth {
		return 0, wire.Errorf("InvalidParameterValue", "version-depth must be one number from 1 to %d, not %s", maxVersionDepth, strings.Join(values, ", "))
	}
	return n, nil
}

// refersTo reports whether one of the newest versions launches an image.
func (t *launchTemplate) refersTo(image string, newest int) bool {
	return slices.ContainsFunc(t.Versions[max(0, len(t.Versions)-newest):], func(v templateVersion) bool {
		return aws.ToString(v.Request.ImageId) == image
	})
}
