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

// soon is the earliest time that EC2 takes: it refuses one in the past, and rounds
// down to the minute.
func soon(now time.Time) time.Time { return now.Add(time.Minute) }

// ChangeDeprecation is when an image is to be deprecated that should be at a time;
// false when it has that time. A time that has passed, since the recipe's
// deprecateAfter was shortened, means as soon as EC2 allows.
func ChangeDeprecation(img types.Image, at, now time.Time) (time.Time, bool) {
	if earliest := soon(now); at.Before(earliest) {
		at = earliest
	}
	set, err := time.Parse(time.RFC3339, aws.ToString(img.DeprecationTime))
	if err != nil { // it has none
		return at, true
	}
	if !set.After(at) && !at.After(soon(now)) {
		return at, false // it is deprecated, or is within a minute
	}
	return at, !at.UTC().Truncate(time.Minute).Equal(set.UTC())
}

func isDeprecated(img types.Image, now time.Time) bool {
	at, err := time.Parse(time.RFC3339, aws.ToString(img.DeprecationTime))
	return err == nil && !at.After(now)
}
