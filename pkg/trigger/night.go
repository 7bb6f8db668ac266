package trigger

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/metric"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/release"
	"github.com/ami-factory/ami-factory/pkg/trigger/decide"
)

// measure writes the nightly metrics: the age of each recipe's published image and the
// number of paused recipes.
func (s StartBuilds) measure(ctx context.Context, recipes []*recipe.Recipe, now time.Time) error {
	var values []metric.Value
	paused := 0
	for _, r := range recipes {
		made, err := s.newest(ctx, r)
		if err != nil {
			return err
		}
		if !made.IsZero() {
			values = append(values, metric.Of(metric.NewestImageAge, now.Sub(made).Seconds(), r.Name))
		}
		var record decide.Record
		if _, err := s.Store.ReadJSON(ctx, contract.RecordKey(r.Name), &record); err != nil {
			return err
		}
		if record.Paused {
			paused++
		}
	}
	return metric.Emit(s.Metrics, now, append(values, metric.Of(metric.RecipesPaused, float64(paused)))...)
}

// newest returns when the image was made that consumers get in the home region, with any
// fingerprint, or the zero time if they get none.
func (s StartBuilds) newest(ctx context.Context, r *recipe.Recipe) (time.Time, error) {
	region := s.Planner.Region
	current, err := release.ReadCurrent(ctx, s.Planner.SSM(region), *r, region)
	if err != nil {
		return time.Time{}, err
	}
	for _, id := range current {
		if id == "" {
			continue
		}
		image, err := ami.Describe(ctx, s.Planner.EC2(region), id)
		if errors.Is(err, ami.ErrNotFound) {
			continue // the pointer names an image that no longer exists
		}
		if err != nil {
			return time.Time{}, awserr.Wrap(err, failure.Internal, "read the published image %s", id)
		}
		made, err := time.Parse(time.RFC3339, aws.ToString(image.CreationDate))
		if err != nil {
			return time.Time{}, failure.Wrap(failure.Internal, err, "the age of image %s", id)
		}
		return made, nil
	}
	return time.Time{}, nil
}
