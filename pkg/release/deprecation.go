package release

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// DeprecationAPI sets deprecation dates.
type DeprecationAPI interface {
	EnableImageDeprecation(context.Context, *ec2.EnableImageDeprecationInput, ...func(*ec2.Options)) (*ec2.EnableImageDeprecationOutput, error)
}

// Deprecate sets the time from which EC2 hides the image from other accounts.
func Deprecate(ctx context.Context, api DeprecationAPI, imageID string, at time.Time) error {
	// EC2 rounds to the minute.
	_, err := api.EnableImageDeprecation(ctx, &ec2.EnableImageDeprecationInput{ImageId: &imageID, DeprecateAt: aws.Time(at.UTC().Truncate(time.Minute))})
	return err
}

func isDeprecated(img types.Image, now time.Time) bool {
	at, err := time.Parse(time.RFC3339, aws.ToString(img.DeprecationTime))
	return err == nil && !at.After(now)
}
