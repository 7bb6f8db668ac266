// Package planner determines what a build of a recipe would make now, and
// whether consumers already have it. Resolve and the triggers use it.
package planner

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/baseline"
	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/problem"
	"github.com/ami-factory/ami-factory/pkg/program"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/release"
	"github.com/ami-factory/ami-factory/pkg/source"
)

// Planner plans builds of one deployment.
type Planner struct {
	Region     string // the home region
	Version    string // of the factory
	OnEC2      bool   // instances are real EC2 instances: recipes with rehearsalOnly are refused
	Engines    program.Engines
	Parameters component.Deployment // of components, for all recipes
	Files      fs.FS                // userdata: recipes, components, baseline and scripts
	Source     source.Resolver      // in the home region
	EC2        func(region string) ec2.DescribeImagesAPIClient
	SSM        func(region string) release.ParameterReader
}

// Request is the recipe to plan, and the execution.
type Request struct {
	Recipe         string // name
	Source         string // an AMI id to build on instead of the recipe's source, or empty
	ExecutionName  string
	ExecutionStart time.Time
}

// Open reads the catalog against which all recipes are checked. All plans of an
// event share one catalog.
func (p Planner) Open(now time.Time) (*plan.Catalog, error) {
	c, err := plan.Open(p.Files, p.Parameters, now)
	if err != nil {
		return nil, failure.Wrap(failure.Internal, err, "load the recipes")
	}
	return c, nil
}

// Plan returns the plan of a build at this time, and its bundle, which is packed
// once. Errors have the codes RecipeInvalid, BelowBaseline and those of
// source.Resolver.
func (p Planner) Plan(ctx context.Context, c *plan.Catalog, req Request) (*plan.BuildPlan, []byte, error) {
	draft, err := p.draft(c, req.Recipe)
	if err != nil {
		return nil, nil, err
	}
	r := draft.Recipe
	from, err := p.Source.Resolve(ctx, source.Request{Source: r.Source, Architecture: r.Architecture, Override: req.Source})
	if err != nil {
		return nil, nil, failure.Wrap(failure.CodeOf(err), err, "recipe %s has no source to build on", req.Recipe)
	}
	if req.Source != "" {
		if err := p.notOlder(ctx, *r, from); err != nil {
			return nil, nil, err
		}
	}
	built, bundle, err := draft.Build(plan.Input{
		Source: from, CheckEngine: p.Engines[r.Architecture].SHA256, FactoryVersion: p.Version,
		ExecutionName: req.ExecutionName, ExecutionStart: req.ExecutionStart,
	})
	if err != nil {
		return nil, nil, failure.Wrap(failure.CodeOf(err), err, "plan the build of recipe %s", req.Recipe)
	}
	return built, bundle, nil
}

// draft loads and checks the recipe with everything it uses.
func (p Planner) draft(c *plan.Catalog, name string) (plan.Draft, error) {
	d, problems, err := c.Load(name)
	if errors.Is(err, recipe.ErrUnknown) {
		return d, failure.Wrap(failure.RecipeInvalid, err, "nothing was started")
	}
	if err != nil {
		return d, failure.Wrap(failure.Internal, err, "check recipe %s", name)
	}
	problems = append(problems, p.deployment(d.Recipe)...)
	if err := problems.Err(); err != nil && problems.Breaks(baseline.Rule) {
		return d, failure.Wrap(failure.BelowBaseline, err, "recipe %s is below the baseline of this deployment, nothing was started", name)
	}
	if err := problems.Err(); err != nil {
		return d, failure.Wrap(failure.RecipeInvalid, err, "recipe %s cannot be built, nothing was started", name)
	}
	return d, nil
}

// deployment finds the reasons why this deployment cannot build a recipe.
func (p Planner) deployment(r *recipe.Recipe) problem.List {
	var problems problem.List
	if p.OnEC2 {
		problems = append(problems, plan.OnAWS(r)...)
		if r.RehearsalOnly {
			problems = append(problems, r.Problem("rehearsalOnly", "false, and the component "+plan.SSMAgent, "the recipe is for rehearsals only, but this factory runs on AWS"))
		}
	}
	if home := r.Home().Name; home != "" && home != p.Region {
		problems = append(problems, r.Problem("distribution.regions[0].name", p.Region,
			"this factory runs in %s, and an image is built in the first region of its recipe", p.Region))
	}
	return problems
}

// notOlder refuses an override of the source that is older than the source of
// the published image, because consumers would lose patches. Images that were
// published before the factory kept this date are not compared.
func (p Planner) notOlder(ctx context.Context, r recipe.Recipe, from plan.SourceImage) error {
	images, err := ami.ListOwn(ctx, p.EC2(p.Region), ami.ByRecipe(r.Name))
	if err != nil {
		return awserr.Wrap(err, failure.Internal, "list the images of recipe %s in %s", r.Name, p.Region)
	}
	for _, img := range images {
		was := ami.TagValue(img.Tags, contract.TagSourceMade)
		if !ami.IsPublished(img) || was == "" {
			continue
		}
		if ami.Made(from.CreationDate).Before(ami.Made(was)) {
			return failure.New(failure.SourceRefused, "source AMI %s was made at %s, before %s of %s, which the published image %s is built from; nothing was started",
				from.ImageID, from.CreationDate, ami.TagValue(img.Tags, contract.TagSource), was, aws.ToString(img.ImageId))
		}
	}
	return nil
}

// Published returns, by region, the images with the content and release of this
// plan that consumers already get. It returns nil if one region has no such
// image.
func (p Planner) Published(ctx context.Context, b plan.BuildPlan) (map[string]string, error) {
	out := map[string]string{}
	for _, region := range release.Regions(b.Recipe) {
		current, err := release.ReadCurrent(ctx, p.SSM(region), b.Recipe, region)
		if err != nil {
			return nil, err
		}
		id := current.Image()
		if id == "" {
			return nil, nil
		}
		img, err := ami.Describe(ctx, p.EC2(region), id)
		if errors.Is(err, ami.ErrNotFound) {
			return nil, nil // the pointers name an image that no longer exists
		}
		if err != nil {
			return nil, awserr.Wrap(err, failure.Internal, "read the published image %s in %s", id, region)
		}
		if !isOf(img, b) {
			return nil, nil
		}
		out[region] = id
	}
	return out, nil
}

// Newest is the image of a recipe in the home region that was published last, whatever
// its content; nil when there is none.
func (p Planner) Newest(ctx context.Context, recipe string) (*types.Image, error) {
	images, err := ami.ListOwn(ctx, p.EC2(p.Region), ami.ByRecipe(recipe))
	if err != nil {
		return nil, awserr.Wrap(err, failure.Internal, "list the images of recipe %s in %s", recipe, p.Region)
	}
	return ami.NewestPublished(images), nil
}

func isOf(img types.Image, b plan.BuildPlan) bool {
	return img.State == types.ImageStateAvailable && ami.IsPublished(img) &&
		ami.TagValue(img.Tags, contract.TagFingerprint) == b.Fingerprint && ami.TagValue(img.Tags, contract.TagRelease) == b.ReleaseID
}
