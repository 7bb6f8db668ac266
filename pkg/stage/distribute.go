package stage

import (
	"context"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/recipe"
)

// CopyEC2 is what Distribute needs of EC2, in the target region.
type CopyEC2 interface {
	CopyImage(context.Context, *ec2.CopyImageInput, ...func(*ec2.Options)) (*ec2.CopyImageOutput, error)
}

// Distribute starts the copy to one region.
type Distribute struct {
	Settings Settings
	Store    Store
	EC2      func(region string) CopyEC2
}

// Run starts the copy; in the home region the image is its own copy. EC2 itself
// makes repeated calls one, by the client token.
func (s Distribute) Run(ctx context.Context, in DistributeInput) (DistributeOutput, error) {
	p, err := loadPlan(ctx, s.Store, in.Job)
	if err != nil {
		return DistributeOutput{}, err
	}
	target, err := targetRegion(p, in)
	if err != nil {
		return DistributeOutput{}, err
	}
	if target.Name == s.Settings.Region {
		return DistributeOutput{Region: target.Name, CopyID: in.ImageID}, nil
	}
	copyInput := &ec2.CopyImageInput{
		ClientToken:       aws.String(ami.ClientToken(in.Execution.ID, in.Execution.Name, in.Stage, target.Name)),
		Name:              aws.String(p.ImageName),
		Description:       aws.String(clip(p.Recipe.Description, maxDescription)),
		SourceImageId:     &in.ImageID,
		SourceRegion:      aws.String(s.Settings.Region),
		Encrypted:         aws.Bool(true),
		TagSpecifications: labels(in.Job, p, p.ImageName).Specifications(types.ResourceTypeImage, types.ResourceTypeSnapshot),
	}
	if target.KMSKey != "" {
		copyInput.KmsKeyId = aws.String(target.KMSKey)
	}
	out, err := s.EC2(target.Name).CopyImage(ctx, copyInput)
	if err != nil {
		return DistributeOutput{}, awserr.Wrap(err, failure.CopyFailed, "copy %s from %s to %s", in.ImageID, s.Settings.Region, target.Name)
	}
	return DistributeOutput{Region: target.Name, CopyID: aws.ToString(out.ImageId)}, nil
}

func targetRegion(p plan.BuildPlan, in DistributeInput) (recipe.Region, error) {
	if err := requireInput("imageId", in.ImageID, "region", in.Region); err != nil {
		return recipe.Region{}, err
	}
	regions := p.Recipe.Distribution.Regions
	i := slices.IndexFunc(regions, func(r recipe.Region) bool { return r.Name == in.Region })
	if i < 0 {
		return recipe.Region{}, failure.New(failure.InvalidInput, "region %q is not one of the recipe's: %v", in.Region, regionsOf(p))
	}
	return regions[i], nil
}
