package release

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/failure"
)

// CopyAPI copies images into its region.
type CopyAPI interface {
	CopyImage(context.Context, *ec2.CopyImageInput, ...func(*ec2.Options)) (*ec2.CopyImageOutput, error)
}

// Copy is an encrypted, tagged copy of an image in another region.
type Copy struct {
	Token       string // the client token: calls with the same token make one copy
	Description string
	ImageID     string // what is copied
	From, To    string // regions
	KMSKey      string // of the target region; empty: its default key for EBS
	Labels      ami.Labels
}

// Start asks EC2 of the target region for the copy and returns its id. The copy is
// pending then.
func (c Copy) Start(ctx context.Context, api CopyAPI) (string, error) {
	in := &ec2.CopyImageInput{
		ClientToken:       &c.Token,
		Name:              &c.Labels.Name,
		Description:       &c.Description,
		SourceImageId:     &c.ImageID,
		SourceRegion:      &c.From,
		Encrypted:         aws.Bool(true),
		TagSpecifications: c.Labels.Specifications(types.ResourceTypeImage, types.ResourceTypeSnapshot),
	}
	if c.KMSKey != "" {
		in.KmsKeyId = &c.KMSKey
	}
	out, err := api.CopyImage(ctx, in)
	if err != nil {
		return "", awserr.Wrap(err, failure.CopyFailed, "copy %s from %s to %s", c.ImageID, c.From, c.To)
	}
	return aws.ToString(out.ImageId), nil
}
