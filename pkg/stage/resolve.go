package stage

import (
	"context"
	"io/fs"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/distribution"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/source"
)

// ResolveEC2 is what Resolve needs of EC2, in every region.
type ResolveEC2 interface {
	ec2.DescribeImagesAPIClient
}

// Resolve reads the recipe, resolves and verifies what it builds on, plans the
// build and looks whether it is published already.
type Resolve struct {
	Settings Settings
	Store    Store
	Source   source.Resolver
	EC2      func(region string) ResolveEC2
	SSM      func(region string) distribution.ParameterReader
	UserData fs.FS
}

// published finds the images of exactly this plan that consumers already get:
// by region, or nil as soon as one region lacks one.
func (s Resolve) published(ctx context.Context, p plan.BuildPlan) (map[string]string, error) {
	out := map[string]string{}
	for _, region := range regionsOf(p) {
		id, err := s.publishedIn(ctx, region, p)
		if err != nil {
			return nil, err
		}
		if id == "" {
			return nil, nil
		}
		out[region] = id
	}
	return out, nil
}

func (s Resolve) publishedIn(ctx context.Context, region string, p plan.BuildPlan) (string, error) {
	api := s.EC2(region)
	if len(p.Recipe.Pointers.Parameters) == 0 {
		images, err := ami.ListOwn(ctx, api, ami.ByRecipe(p.Recipe.Name), ami.ByFingerprint(p.Fingerprint))
		if err != nil {
			return "", awserr.Wrap(err, failure.Internal, "list the images of recipe %s in %s", p.Recipe.Name, region)
		}
		for _, img := range images {
			if isOf(img, p) {
				return aws.ToString(img.ImageId), nil
			}
		}
		return "", nil
	}
	found := ""
	for _, name := range p.Recipe.Pointers.Parameters {
		id, err := distribution.ReadPointer(ctx, s.SSM(region), name)
		if err != nil {
			return "", awserr.Wrap(err, failure.Internal, "read pointer %s in %s", name, region)
		}
		if id == "" || (found != "" && id != found) {
			return "", nil
		}
		found = id
	}
	img, err := ami.Describe(ctx, api, found)
	if isNoImage(err) {
		return "", nil // the pointer names what is gone: build
	}
	if err != nil {
		return "", awserr.Wrap(err, failure.Internal, "read the published image %s in %s", found, region)
	}
	if !isOf(img, p) {
		return "", nil
	}
	return found, nil
}

func isOf(img types.Image, p plan.BuildPlan) bool {
	return img.State == types.ImageStateAvailable && ami.IsPublished(img) &&
		ami.TagValue(img.Tags, ami.TagFingerprint) == p.Fingerprint
}
