package stage

import (
	"context"
	"slices"

	"github.com/ami-factory/ami-factory/pkg/release"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// RetireEC2 is what Retire needs of EC2, in every region.
type RetireEC2 = release.RetentionAPI

// Retire applies the recipe's retention to its published images.
type Retire struct {
	Store store.Store
	EC2   func(region string) RetireEC2
	// SSM is of an account, or of the factory's own if that is empty.
	SSM func(account, region string) release.ParameterReader
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
		decisions, err := release.Retention{EC2: s.EC2, SSM: s.SSM}.Apply(ctx, p.Recipe, region, in.Now)
		if err != nil {
			return RetireOutput{}, err
		}
		for _, d := range decisions {
			id := d.Region + ":" + d.ImageID
			switch d.Outcome {
			case release.Removed:
				out.Retired = append(out.Retired, id)
			case release.Deprecated:
				out.Deprecated = append(out.Deprecated, id+": "+d.Why)
			case release.Left:
				out.Left = append(out.Left, id+": "+d.Why)
			}
		}
	}
	slices.Sort(out.Retired)
	slices.Sort(out.Deprecated)
	slices.Sort(out.Left)
	return out, nil
}
