package stage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/baseline"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/metric"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/release"
	"github.com/ami-factory/ami-factory/pkg/source"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// ResolveEC2 is what Resolve needs of EC2, in every region.
type ResolveEC2 interface {
	ec2.DescribeImagesAPIClient
}

// Resolve reads the recipe, resolves and verifies what it builds on, plans the
// build and looks whether it is published already.
type Resolve struct {
	Settings Settings
	Store    store.Store
	Source   source.Resolver
	EC2      func(region string) ResolveEC2
	SSM      func(region string) release.ParameterReader
	Targets  func(account, region string) release.ParameterReader // of accounts other than the factory's
	UserData fs.FS
	Metrics  io.Writer // see pkg/metric; nil: none are told
}

// Run returns what would be built, or that it is published already. That ends
// the execution without Notify: it is counted here.
func (s Resolve) Run(ctx context.Context, in ResolveInput) (ResolveOutput, error) {
	if err := requireInput("recipe", in.Recipe, "execution.id", in.Execution.ID, "execution.name", in.Execution.Name, "stage", in.Stage); err != nil {
		return ResolveOutput{}, err
	}
	if in.Now.IsZero() || in.Execution.StartTime.IsZero() {
		return ResolveOutput{}, missingInput([]string{"now or execution.startTime"})
	}
	if in.DelaySeconds < 0 || in.DelaySeconds > contract.MaxDelaySeconds {
		return ResolveOutput{}, failure.New(failure.InvalidInput, "delaySeconds is %d (allowed: 0 to %d)", in.DelaySeconds, contract.MaxDelaySeconds)
	}
	p, bundle, err := s.plan(ctx, in)
	if err != nil {
		return ResolveOutput{}, err
	}
	if err := claimName(ctx, s.Store, in.Execution); err != nil {
		return ResolveOutput{}, err
	}
	out := ResolveOutput{
		Recipe: p.Recipe.Name, Fingerprint: p.Fingerprint, ReleaseID: p.ReleaseID, SourceImage: p.Source.ImageID, Regions: regionsOf(*p),
	}
	if out.Plan, err = s.keep(ctx, p, bundle); err != nil {
		return ResolveOutput{}, err
	}
	if !in.Force {
		if out.Published, err = s.published(ctx, *p); err != nil {
			return ResolveOutput{}, err
		}
	}
	out.UpToDate = out.Published != nil
	if out.UpToDate {
		return out, tell(s.Metrics, in.Now, metric.Of(metric.Executions, 1, contract.UpToDate))
	}
	if _, err := s.Settings.engine(p.Recipe.Architecture); err != nil { // known now, and needed after the whole bake
		return out, err
	}
	return out, s.reach(ctx, *p)
}

// reach makes sure that the pointers can be read and name the recipe's own images,
// before anything is made that could not be published.
func (s Resolve) reach(ctx context.Context, p plan.BuildPlan) error {
	errs := map[string]error{}
	for _, region := range regionsOf(p) {
		for _, ptr := range release.PointersIn(p.Recipe, region) {
			if ptr.Account != "" && errs[ptr.Account] != nil {
				continue
			}
			api := s.SSM(region)
			if ptr.Account != "" {
				api = s.Targets(ptr.Account, region)
			}
			id, err := release.ReadPointer(ctx, api, ptr.Parameter)
			if err != nil && ptr.Account != "" {
				errs[ptr.Account] = err
				continue
			}
			if err != nil {
				return awserr.Wrap(err, failure.Internal, "read pointer %s", ptr)
			}
			if _, err := release.PreviousImage(ctx, s.EC2(region), id, p.Recipe.Name); err != nil {
				return failure.Wrap(failure.CodeOf(err), err, "nothing was started: pointer %s", ptr)
			}
		}
	}
	if len(errs) == 0 {
		return nil
	}
	accounts := slices.Sorted(maps.Keys(errs))
	code, all := failure.AccessDenied, []error{}
	for _, account := range accounts {
		if c := awserr.Classify(errs[account], code); c == failure.Throttled || c == failure.ServiceUnavailable {
			code = c // another attempt will tell of the rest
		}
		all = append(all, fmt.Errorf("account %s: %s", account, awserr.Brief(errs[account])))
	}
	return failure.Wrap(code, errors.Join(all...),
		"nothing was started: pointers cannot be kept in account %s; see that the stack of target accounts is deployed there, and that this factory's context names it", strings.Join(accounts, ", "))
}

// plan is what would be built now, with its bundle.
func (s Resolve) plan(ctx context.Context, in ResolveInput) (*plan.BuildPlan, []byte, error) {
	r, err := s.recipe(in)
	if err != nil {
		return nil, nil, err
	}
	from, err := s.Source.Resolve(ctx, source.Request{Source: r.Source, Architecture: r.Architecture, Override: in.Source})
	if err != nil {
		return nil, nil, failure.Wrap(failure.CodeOf(err), err, "recipe %s has no source to build on", in.Recipe)
	}
	if in.Source != "" {
		if err := s.notOlder(ctx, *r, from); err != nil {
			return nil, nil, err
		}
	}
	p, bundle, err := plan.Build(plan.Input{
		Recipe: r, UserData: s.UserData, Parameters: s.Settings.Parameters, Source: from,
		CheckEngine: s.Settings.Engines[r.Architecture].SHA256, FactoryVersion: s.Settings.Version,
		ExecutionName: in.Execution.Name, ExecutionStart: in.Execution.StartTime,
	})
	if err != nil {
		return nil, nil, failure.Wrap(codeOr(err, failure.Internal), err, "plan the build of recipe %s", in.Recipe)
	}
	return p, bundle, nil
}

// notOlder refuses a source, given in place of the recipe's, that was made before
// the one that the published image was built from: consumers would get back what
// was patched since. Images that were published before the factory kept this say
// nothing about it.
func (s Resolve) notOlder(ctx context.Context, r recipe.Recipe, from plan.SourceImage) error {
	region := s.Settings.Region
	images, err := ami.ListOwn(ctx, s.EC2(region), ami.ByRecipe(r.Name))
	if err != nil {
		return awserr.Wrap(err, failure.Internal, "list the images of recipe %s in %s", r.Name, region)
	}
	for _, img := range images {
		was := ami.TagValue(img.Tags, contract.TagSourceMade)
		if !ami.IsPublished(img) || was == "" {
			continue
		}
		if made(from.CreationDate).Before(made(was)) {
			return failure.New(failure.SourceRefused, "source AMI %s was made at %s, before %s of %s, which the published image %s is built from; nothing was started",
				from.ImageID, from.CreationDate, ami.TagValue(img.Tags, contract.TagSource), was, aws.ToString(img.ImageId))
		}
	}
	return nil
}

// recipe loads and checks the recipe with everything it uses.
func (s Resolve) recipe(in ResolveInput) (*recipe.Recipe, error) {
	r, problems, err := recipe.Load(s.UserData, in.Recipe, recipe.Options{Now: in.Now})
	if errors.Is(err, recipe.ErrUnknown) {
		return nil, failure.Wrap(failure.RecipeInvalid, err, "nothing was started")
	}
	if err != nil {
		return nil, failure.Wrap(failure.Internal, err, "load recipe %s", in.Recipe)
	}
	more, err := plan.Check(r, s.UserData, s.Settings.Parameters, in.Now)
	if err != nil {
		return nil, failure.Wrap(failure.Internal, err, "check recipe %s", in.Recipe)
	}
	problems = append(problems, more...)
	if s.Settings.onEC2() {
		problems = append(problems, plan.OnAWS(r)...)
		if r.RehearsalOnly {
			problems = append(problems, r.Problem("rehearsalOnly", "false, and the component "+plan.SSMAgent, "the recipe says that it is never built on AWS, and this factory runs there"))
		}
	}
	if home := r.Home().Name; home != "" && home != s.Settings.Region {
		problems = append(problems, r.Problem("distribution.regions[0].name", s.Settings.Region,
			"the factory that is to build this runs in %s, and the first region is where the image is built", s.Settings.Region))
	}
	if err := problems.Err(); err != nil && problems.Breaks(baseline.Rule) {
		return nil, failure.Wrap(failure.BelowBaseline, err, "recipe %s is below the baseline of this deployment, nothing was started", in.Recipe)
	}
	if err := problems.Err(); err != nil {
		return nil, failure.Wrap(failure.RecipeInvalid, err, "recipe %s cannot be built, nothing was started", in.Recipe)
	}
	return r, nil
}

// keep stores the plan and its bundle under their digests.
func (s Resolve) keep(ctx context.Context, p *plan.BuildPlan, bundle []byte) (store.Object, error) {
	if _, err := s.Store.Put(ctx, contract.BundleKey(p.Bundle.SHA256), "application/gzip", bundle); err != nil {
		return store.Object{}, err
	}
	raw, err := json.Marshal(p)
	if err != nil {
		return store.Object{}, failure.Wrap(failure.Internal, err, "encode the plan")
	}
	return s.Store.Put(ctx, contract.PlanKey(store.Digest(raw)), "application/json", raw)
}

// published finds the images of exactly this plan that consumers already get:
// by region, or nil as soon as one region lacks one.
func (s Resolve) published(ctx context.Context, p plan.BuildPlan) (map[string]string, error) {
	out := map[string]string{}
	for _, region := range regionsOf(p) {
		id, err := s.publishedIn(ctx, region, p)
		if err != nil {
			return nil, err
		}
		if id == "" {
			return nil, nil
		}
		out[region] = id
	}
	return out, nil
}

func (s Resolve) publishedIn(ctx context.Context, region string, p plan.BuildPlan) (string, error) {
	api := s.EC2(region)
	if len(p.Recipe.Pointers.Parameters) == 0 {
		images, err := ami.ListOwn(ctx, api, ami.ByRecipe(p.Recipe.Name), ami.ByFingerprint(p.Fingerprint))
		if err != nil {
			return "", awserr.Wrap(err, failure.Internal, "list the images of recipe %s in %s", p.Recipe.Name, region)
		}
		for _, img := range images {
			if isOf(img, p) {
				return aws.ToString(img.ImageId), nil
			}
		}
		return "", nil
	}
	found := ""
	for _, name := range p.Recipe.Pointers.Parameters {
		id, err := release.ReadPointer(ctx, s.SSM(region), name)
		if err != nil {
			return "", awserr.Wrap(err, failure.Internal, "read pointer %s in %s", name, region)
		}
		if id == "" || (found != "" && id != found) {
			return "", nil
		}
		found = id
	}
	img, err := ami.Describe(ctx, api, found)
	if isNoImage(err) {
		return "", nil // the pointer names what is gone: build
	}
	if err != nil {
		return "", awserr.Wrap(err, failure.Internal, "read the published image %s in %s", found, region)
	}
	if !isOf(img, p) {
		return "", nil
	}
	return found, nil
}

func isOf(img types.Image, p plan.BuildPlan) bool {
	return img.State == types.ImageStateAvailable && ami.IsPublished(img) &&
		ami.TagValue(img.Tags, contract.TagFingerprint) == p.Fingerprint && ami.TagValue(img.Tags, contract.TagRelease) == p.ReleaseID
}
