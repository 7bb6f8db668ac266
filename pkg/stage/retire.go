package stage

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/distribution"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plan"
)

// RetireEC2 is what Retire needs of EC2, in every region.
type RetireEC2 interface {
	ec2.DescribeImagesAPIClient
	ec2.DescribeInstancesAPIClient
	distribution.DeprecationAPI
	ami.Remover
}

// Retire removes published images beyond the recipe's retention that nothing
// is known to use, and deprecates those that something still uses.
type Retire struct {
	Store Store
	EC2   func(region string) RetireEC2
	// SSM is of an account, or of the factory's own if that is empty.
	SSM func(account, region string) distribution.ParameterReader
}

// Run works through all regions. An image that cannot be retired is listed and
// is no error: the new one is published whatever becomes of the old.
func (s Retire) Run(ctx context.Context, in RetireInput) (RetireOutput, error) {
	p, err := loadPlan(ctx, s.Store, in.Job)
	if err != nil {
		return RetireOutput{}, err
	}
	out := RetireOutput{Retired: []string{}, Deprecated: []string{}, Left: []string{}}
	for _, region := range regionsOf(p) {
		if err := s.region(ctx, in, p, region, &out); err != nil {
			return RetireOutput{}, err
		}
	}
	slices.Sort(out.Retired)
	slices.Sort(out.Deprecated)
	slices.Sort(out.Left)
	return out, nil
}

func (s Retire) region(ctx context.Context, in RetireInput, p plan.BuildPlan, region string, out *RetireOutput) error {
	api := s.EC2(region)
	images, err := ami.ListOwn(ctx, api, ami.ByRecipe(p.Recipe.Name))
	if err != nil {
		return awserr.Wrap(err, failure.Internal, "list the images of recipe %s in %s", p.Recipe.Name, region)
	}
	var named []string
	for _, ptr := range pointersIn(p, region) {
		id, err := distribution.ReadPointer(ctx, s.SSM(ptr.Account, region), ptr.Parameter)
		if err != nil {
			return awserr.Wrap(err, failure.Internal, "read pointer %s", ptr)
		}
		named = append(named, id)
	}
	for _, img := range distribution.Surplus(images, p.Recipe.Retention.Keep, named) {
		id := region + ":" + aws.ToString(img.ImageId)
		use, err := inUse(ctx, api, img, p, in.Now)
		if err != nil {
			return awserr.Wrap(err, failure.Internal, "find out who uses image %s", id)
		}
		if use == "" {
			_, err := ami.Remove(ctx, api, img)
			if err != nil {
				out.Left = append(out.Left, id+": "+err.Error())
				continue
			}
			out.Retired = append(out.Retired, id)
			continue
		}
		if !isDeprecated(img, in.Now) {
			if err := distribution.Deprecate(ctx, api, aws.ToString(img.ImageId), in.Now.Add(time.Minute)); err != nil {
				out.Left = append(out.Left, id+": "+err.Error())
				continue
			}
		}
		out.Deprecated = append(out.Deprecated, id+": "+use)
	}
	return nil
}

// inUse says what is known to use an image; empty when nothing is.
func inUse(ctx context.Context, api ec2.DescribeInstancesAPIClient, img types.Image, p plan.BuildPlan, now time.Time) (string, error) {
	instances, err := ami.ListInstances(ctx, api, ami.ByImage(aws.ToString(img.ImageId)))
	if err != nil {
		return "", err
	}
	if len(instances) > 0 {
		return fmt.Sprintf("%d instances of this account run it, %s among them", len(instances), aws.ToString(instances[0].InstanceId)), nil
	}
	// Other accounts' instances are not to be seen; a recent launch of a shared
	// image by anyone is.
	if len(distribution.AudienceOf(p.Recipe.Distribution).Names()) == 0 || img.LastLaunchedTime == nil {
		return "", nil
	}
	at, err := time.Parse(time.RFC3339, *img.LastLaunchedTime)
	if err != nil {
		return fmt.Sprintf("EC2 says it was last launched %q", *img.LastLaunchedTime), nil
	}
	// The factory's own verifier launched it too, before it was published.
	published, err := time.Parse(time.RFC3339, ami.TagValue(img.Tags, ami.TagPublished))
	if err == nil && !at.After(published) {
		return "", nil
	}
	if grace := time.Duration(p.Recipe.Retention.DeprecateAfter); now.Sub(at) < grace {
		return "it is shared and was last launched " + at.UTC().Format(time.DateOnly), nil
	}
	return "", nil
}

func isDeprecated(img types.Image, now time.Time) bool {
	at, err := time.Parse(time.RFC3339, aws.ToString(img.DeprecationTime))
	return err == nil && !at.After(now)
}
