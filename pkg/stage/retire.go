package stage

import (
	"context"
	"errors"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/autoscaling"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/release"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// RetireEC2 is what Retire needs of EC2, in every region.
type RetireEC2 = release.RetentionAPI

// Retire applies the recipe's retention to its published images.
type Retire struct {
	Store       store.Store
	EC2         func(region string) RetireEC2
	AutoScaling func(region string) autoscaling.DescribeLaunchConfigurationsAPIClient
	// SSM is of an account, or of the factory's own if that is empty.
	SSM func(account, region string) release.HistoryAPI
}

// retention is the record of what Retire did, for the report.
type retention struct {
	Of     compliance.Binding `json:"of"`
	Images []release.Decision `json:"images"`
}

const theRetention = "the record of retention"

func retentionKey(e Execution) string { return executionKey(e, contract.RetentionObject) }

// Run works through all regions and stores what became of each image, also when
// it ends with an error. An image that cannot be removed is no error: the new one
// is published whatever happens to the old.
func (s Retire) Run(ctx context.Context, in RetireInput) (RetireOutput, error) {
	p, err := loadPlan(ctx, s.Store, in.Job)
	if err != nil {
		return RetireOutput{}, err
	}
	earlier, err := readRetention(ctx, s.Store, in.Job, p)
	if err != nil {
		return RetireOutput{}, err
	}
	all := removedBy(earlier)
	for _, region := range regionsOf(p) {
		var decisions []release.Decision
		decisions, err = release.Retention{EC2: s.EC2, AutoScaling: s.AutoScaling, SSM: s.SSM}.Apply(ctx, p.Recipe, region, in.Now)
		if err != nil {
			break
		}
		all = append(all, decisions...)
	}
	stored, putErr := s.Store.PutJSON(ctx, retentionKey(in.Execution), retention{Of: bindingOf(in.Job, p), Images: all})
	if err = errors.Join(err, putErr); err != nil {
		return RetireOutput{}, failure.Wrap(failure.CodeOf(err), err, "the image is published; retention is not done")
	}
	out := RetireOutput{Retention: stored}
	for _, d := range all {
		switch d.Outcome {
		case release.Kept:
			out.Kept++
		case release.Deprecated:
			out.Deprecated++
		case release.Removed:
			out.Removed++
		case release.Left:
			out.Left++
		}
	}
	return out, nil
}

// removedBy are the images that an earlier attempt has removed, which this one
// does not find.
func removedBy(earlier []release.Decision) []release.Decision {
	return slices.DeleteFunc(slices.Clone(earlier), func(d release.Decision) bool { return d.Outcome != release.Removed })
}

// readRetention is what this execution's Retire has stored, if it has.
func readRetention(ctx context.Context, s store.Store, in Job, p plan.BuildPlan) ([]release.Decision, error) {
	key := retentionKey(in.Execution)
	raw, err := s.Read(ctx, key)
	if errors.Is(err, store.ErrNone) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var r retention
	if err := decodeRecord(theRetention, s, key, raw, &r); err != nil {
		return nil, err
	}
	return r.Images, mismatch(theRetention, s, key, r.Of.Deviations(bindingOf(in, p)))
}
