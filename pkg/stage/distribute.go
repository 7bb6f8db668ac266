package stage

import (
	"context"
	"slices"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/release"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// CopyEC2 is what Distribute needs of EC2, in the target region.
type CopyEC2 = release.CopyAPI

// Distribute starts the private copy to one region.
type Distribute struct {
	Settings Settings
	Store    store.Store
	EC2      func(region string) CopyEC2
}

// Run starts the copy; in the home region the image is its own copy, and a
// copy that is released again exists. By the client
// token, repeated calls make one copy.
func (s Distribute) Run(ctx context.Context, in DistributeInput) (DistributeOutput, error) {
	p, err := loadPlan(ctx, s.Store, in.Job)
	if err != nil {
		return DistributeOutput{}, err
	}
	target, err := targetRegion(p, in.ImageID, in.Region)
	if err != nil {
		return DistributeOutput{}, err
	}
	if again, ok := p.Reused(target.Name); ok {
		return DistributeOutput{Region: target.Name, CopyID: again.ImageID}, nil
	}
	if target.Name == s.Settings.Region {
		return DistributeOutput{Region: target.Name, CopyID: in.ImageID}, nil
	}
	id, err := release.Copy{
		Token:       ami.ClientToken(in.Execution.ID, in.Execution.Name, in.State, target.Name),
		Description: clip(p.Recipe.Description, maxDescription),
		ImageID:     in.ImageID,
		From:        s.Settings.Region,
		To:          target.Name,
		KMSKey:      target.KMSKey,
		Labels:      labels(in.Job, p, p.ImageName),
	}.Start(ctx, s.EC2(target.Name))
	if err != nil {
		return DistributeOutput{}, err
	}
	return DistributeOutput{Region: target.Name, CopyID: id}, nil
}

// targetRegion is the recipe's region of a name.
func targetRegion(p plan.BuildPlan, imageID, region string) (recipe.Region, error) {
	if err := requireInput("imageId", imageID, "region", region); err != nil {
		return recipe.Region{}, err
	}
	regions := p.Recipe.Distribution.Regions
	i := slices.IndexFunc(regions, func(r recipe.Region) bool { return r.Name == region })
	if i < 0 {
		return recipe.Region{}, failure.New(failure.InvalidInput, "region %q is not one of the recipe's: %v", region, regionsOf(p))
	}
	return regions[i], nil
}
