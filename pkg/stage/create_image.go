package stage

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// maxDescription is EC2's limit for an image's description.
const maxDescription = 255

// CreateImageEC2 is what CreateImage needs of EC2.
type CreateImageEC2 interface {
	ec2.DescribeImagesAPIClient
	CreateImage(context.Context, *ec2.CreateImageInput, ...func(*ec2.Options)) (*ec2.CreateImageOutput, error)
}

// CreateImage starts the image of the stopped builder.
type CreateImage struct {
	Store store.Store
	EC2   CreateImageEC2
}

// Run starts the image, or finds it started by an earlier attempt: the name is
// the plan's and EC2 keeps names unique, which serves as the client token that
// the call does not have.
func (s CreateImage) Run(ctx context.Context, in InstanceInput) (CreateImageOutput, error) {
	p, err := loadPlan(ctx, s.Store, in.Job)
	if err != nil {
		return CreateImageOutput{}, err
	}
	if err := requireInput("instanceId", in.InstanceID); err != nil {
		return CreateImageOutput{}, err
	}
	out, err := s.EC2.CreateImage(ctx, &ec2.CreateImageInput{
		InstanceId:        &in.InstanceID,
		Name:              aws.String(p.ImageName),
		Description:       aws.String(clip(p.Recipe.Description, maxDescription)),
		TagSpecifications: labels(in.Job, p, p.ImageName).Specifications(types.ResourceTypeImage, types.ResourceTypeSnapshot),
	})
	switch {
	case awserr.Is(err, "InvalidAMIName.Duplicate"):
		return s.adopt(ctx, in, p.ImageName, err)
	case awserr.Is(err, "IncorrectInstanceState", "IncorrectState"):
		// DescribeInstances said stopped a moment ago: not every endpoint knows.
		return CreateImageOutput{}, failure.Wrap(failure.ServiceUnavailable, err, "create an image of %s", in.InstanceID)
	case err != nil:
		return CreateImageOutput{}, awserr.Wrap(err, failure.ImageFailed, "create an image of %s", in.InstanceID)
	}
	return CreateImageOutput{ImageID: aws.ToString(out.ImageId)}, nil
}

func (s CreateImage) adopt(ctx context.Context, in InstanceInput, name string, duplicate error) (CreateImageOutput, error) {
	images, err := ami.ListOwn(ctx, s.EC2, types.Filter{Name: aws.String("name"), Values: []string{name}})
	if err != nil {
		return CreateImageOutput{}, awserr.Wrap(err, failure.ImageFailed, "look for the image %q", name)
	}
	if len(images) == 0 {
		return CreateImageOutput{}, failure.Wrap(failure.ServiceUnavailable, duplicate, "the image %q exists but is not visible yet", name)
	}
	if owner := ami.TagValue(images[0].Tags, contract.TagExecution); owner != in.Execution.Name {
		return CreateImageOutput{}, failure.Wrap(failure.ImageFailed, duplicate,
			"an image named %q exists already (%s, made by execution %q)", name, aws.ToString(images[0].ImageId), owner)
	}
	return CreateImageOutput{ImageID: aws.ToString(images[0].ImageId)}, nil
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	cut := 0
	for i := range s { // i is the start of a character
		if i > n {
			break
		}
		cut = i
	}
	return s[:cut]
}
