package cli

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/spf13/cobra"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/planner"
	"github.com/ami-factory/ami-factory/pkg/program"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/rehearsal"
	"github.com/ami-factory/ami-factory/pkg/release"
	"github.com/ami-factory/ami-factory/pkg/source"
	"github.com/ami-factory/ami-factory/pkg/stage"
	"github.com/ami-factory/ami-factory/pkg/store"
)

func (a *app) plan() *cobra.Command {
	var l local
	var override, bucket string
	c := &cobra.Command{
		Use:   "plan RECIPE",
		Short: "Show what would be built from what, and where it would go",
		Long: `Show on stdout what an execution would build: source image, fingerprint, components,
controls, targets. Nothing is started and nothing is written. The row "next" says
whether an execution would bake, release the published image without a bake, or do
nothing, and why; "unknown" if no factory could be asked.

If the environment names an AWS endpoint (AWS_ENDPOINT_URL), a profile or
credentials, the source is resolved there. Otherwise, or with --state or --guests, it
is resolved in the embedded AWS of the state folder. If nothing was baked there yet,
the plan uses a stand-in source and says so.

Of the components' parameters, those that differ from their defaults are shown;
--output json has all.`,
		Example: `  ami-factory plan debian-12-docker
  ami-factory plan debian-12-docker --output json | jq -r .fingerprint`,
		Args: takes("one RECIPE"),
		RunE: func(c *cobra.Command, given []string) error {
			l.local = c.Flags().Changed("state") || c.Flags().Changed("guests")
			return a.runPlan(c.Context(), l, given[0], override, bucket)
		},
	}
	c.ValidArgsFunction = once(a.recipes)
	l.registerState(c)
	l.registerGoss(c)
	l.given.register(c)
	a.registerUserData(c)
	c.Flags().StringVar(&override, "source", "", "AMI id to build on instead of the recipe's source")
	c.Flags().StringVar(&bucket, "bucket", "", "`name` of the deployed factory's bucket, to learn what changed (default: $"+contract.EnvBucket+")")
	return c
}

func (a *app) runPlan(ctx context.Context, l local, name, override, bucket string) (err error) {
	if err := checkInput(contract.ExecutionInput{Recipe: name, Source: override}); err != nil {
		return err
	}
	fsys, err := a.userdataFS()
	if err != nil {
		return err
	}
	now := time.Now()
	catalog, err := plan.Open(fsys, l.given.values, now)
	if err != nil {
		return err
	}
	draft, problems, err := catalog.Load(name)
	if err != nil {
		return err
	}
	if err := problems.Err(); err != nil {
		return err
	}
	from, asked, err := a.resolve(ctx, l, draft.Recipe, override, bucket)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, asked.close(ctx)) }()
	engine, err := a.engine(l, draft.Recipe)
	if err != nil {
		return err
	}
	p, _, err := draft.Build(plan.Input{Source: from, CheckEngine: engine, FactoryVersion: version(), ExecutionName: "plan", ExecutionStart: now})
	if err != nil {
		return err
	}
	return a.printPlan(fsys, p, asked.next(ctx, *p, engine))
}

// engine is the SHA-256 of the check engine, which is part of the fingerprint: of
// the file that a bake deploys here, or, for AWS, of the one that the CDK app
// deploys.
func (a *app) engine(l local, r *recipe.Recipe) (string, error) {
	file := l.goss
	if namesAWS() != "" && !l.local {
		if file == defaultGoss(runtime.GOARCH) {
			file = defaultGoss(program.GOARCH(r.Architecture))
		}
	} else {
		opts, err := a.options(l)
		if err != nil {
			return "", err
		}
		file = opts.GossFile
	}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		_, _ = fmt.Fprintf(a.err, "the check engine %s is not built: the fingerprint below is without it; build it with \"make goss\", or name it with --goss\n", file)
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the check engine: %w", err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

func (a *app) printPlan(fsys fs.FS, p *plan.BuildPlan, next plan.Next) error {
	preview := p.Preview()
	preview.Next = next
	if a.format == "json" {
		a.printed = true
		return preview.WriteJSON(a.out)
	}
	var err error
	if preview.Defaults, err = defaults(fsys, preview.Components); err != nil {
		return err
	}
	return preview.WriteText(a.out)
}

// defaults are the default values of the components' parameters.
func defaults(fsys fs.FS, components []plan.Component) (map[string]map[string]string, error) {
	out := map[string]map[string]string{}
	for _, c := range components {
		loaded, _, err := component.Load(fsys, c.Name) // what is wrong with it was reported before
		if err != nil {
			return nil, err
		}
		out[c.Name] = map[string]string{}
		for name, p := range loaded.Parameters {
			if p.Default != nil {
				out[c.Name][name] = string(*p.Default)
			}
		}
	}
	return out, nil
}

// resolve finds the source image where an execution would.
func (a *app) resolve(ctx context.Context, l local, r *recipe.Recipe, override, bucket string) (from plan.SourceImage, asked asked, err error) {
	request := source.Request{Source: r.Source, Architecture: r.Architecture, Override: override}
	if named := namesAWS(); named != "" && !l.local {
		cfg, err := awsConfig(ctx, r.Home().Name)
		if err != nil {
			return from, asked, err
		}
		_, _ = fmt.Fprintf(a.err, "the source is resolved in %s of %s, because of %s; --state FOLDER asks a state folder\n", r.Home().Name, whichAWS(), named)
		asked = askAWS(cfg, r.Home().Name, bucket)
		from, err = source.Resolver{Images: ec2.NewFromConfig(cfg), Parameters: ssm.NewFromConfig(cfg)}.Resolve(ctx, request)
		return from, asked, err
	}
	l.recipes = []string{r.Name}
	opts, err := a.options(l)
	if err != nil {
		return from, asked, err
	}
	f, err := rehearsal.Inspect(ctx, opts)
	if errors.Is(err, rehearsal.ErrNoState) {
		_, _ = fmt.Fprintln(a.err, "nothing was baked here yet: the source below is a stand-in, and so is the fingerprint")
		return plan.SourceImage{
			ImageID: "ami-00000000000000000", Name: "not resolved", OwnerID: r.Source.Owner, Architecture: r.Architecture, RootDevice: "/dev/xvda",
		}, asked, nil
	}
	if err != nil {
		return from, asked, err
	}
	asked = askFactory(f)
	from, err = source.Resolver{Images: f.Cloud.EC2, Parameters: f.Cloud.SSM}.Resolve(ctx, request)
	return from, asked, err
}

// asked is the factory that a plan is compared with; the zero value is none.
type asked struct {
	resolve *stage.Resolve
	factory *rehearsal.Factory // to close; nil: none
}

// regional is EC2 or SSM of the embedded AWS in a region.
type regional struct {
	f      *rehearsal.Factory
	region string
}

func (r regional) DescribeImages(ctx context.Context, in *ec2.DescribeImagesInput, _ ...func(*ec2.Options)) (*ec2.DescribeImagesOutput, error) {
	return r.f.Cloud.EC2.DescribeImages(ctx, in, inRegion(r.region))
}

func (r regional) GetParameter(ctx context.Context, in *ssm.GetParameterInput, _ ...func(*ssm.Options)) (*ssm.GetParameterOutput, error) {
	return r.f.Cloud.SSM.GetParameter(ctx, in, func(o *ssm.Options) { o.Region = r.region })
}

func askFactory(f *rehearsal.Factory) asked {
	home := f.Cloud.Region()
	return asked{factory: f, resolve: &stage.Resolve{
		Settings: stage.Settings{Region: home}, Store: store.Store{Bucket: f.Bucket, API: f.Cloud.S3},
		Planner: planner.Planner{
			Region: home,
			EC2:    func(region string) ec2.DescribeImagesAPIClient { return regional{f, region} },
			SSM:    func(region string) release.ParameterReader { return regional{f, region} },
		},
	}}
}

// askAWS asks the factory in a region whose bucket is given, or that of the
// environment. Without a bucket only tags and pointers are known.
func askAWS(cfg aws.Config, home, bucket string) asked {
	in := func(region string) aws.Config {
		c := cfg.Copy()
		c.Region = region
		return c
	}
	r := &stage.Resolve{Settings: stage.Settings{Region: home}, Planner: planner.Planner{
		Region: home,
		EC2:    func(region string) ec2.DescribeImagesAPIClient { return ec2.NewFromConfig(in(region)) },
		SSM:    func(region string) release.ParameterReader { return ssm.NewFromConfig(in(region)) },
	}}
	if bucket = cmp.Or(bucket, os.Getenv(contract.EnvBucket)); bucket != "" {
		api := s3.NewFromConfig(in(home), func(o *s3.Options) { o.UsePathStyle = os.Getenv("AWS_ENDPOINT_URL") != "" })
		r.Store = store.Store{Bucket: bucket, API: api}
	}
	return asked{resolve: r}
}

func (a asked) close(ctx context.Context) error {
	if a.factory == nil {
		return nil
	}
	return a.factory.Close(ctx)
}

// next is what an execution of a plan would do. What cannot be read makes it unknown,
// and is no reason not to print the plan.
func (a asked) next(ctx context.Context, p plan.BuildPlan, engine string) plan.Next {
	unknown := func(format string, args ...any) plan.Next {
		return plan.Next{Action: plan.NextUnknown, Why: fmt.Sprintf(format, args...), Changed: []string{}}
	}
	switch {
	case a.resolve == nil:
		return unknown("no factory was asked")
	case engine == "":
		return unknown("the check engine is not built, and it is part of the fingerprint")
	case a.resolve.Store.API == nil:
		return a.byTags(ctx, p, unknown)
	}
	next, err := a.resolve.Next(ctx, p)
	if err != nil {
		return unknown("%s", awserr.Brief(err))
	}
	if next.Action == "" {
		next.Action, next.Why = plan.NextNone, "content and release of the published image are those of the recipe"
	}
	return plan.Next{Action: next.Action, Why: next.Why, Changed: append([]string{}, next.Changed...)}
}

// byTags is next for a factory whose bucket is not known.
func (a asked) byTags(ctx context.Context, p plan.BuildPlan, unknown func(string, ...any) plan.Next) plan.Next {
	const give = "; give --bucket to learn which fields changed"
	published, err := a.resolve.Planner.Published(ctx, p)
	if err != nil {
		return unknown("%s", awserr.Brief(err))
	}
	if published != nil {
		return plan.Next{Action: plan.NextNone, Why: "content and release of the published image are those of the recipe", Changed: []string{}}
	}
	newest, err := a.resolve.Planner.Newest(ctx, p.Recipe.Name)
	switch {
	case err != nil:
		return unknown("%s", awserr.Brief(err))
	case newest == nil:
		return plan.Next{Action: contract.ActionBake, Why: "no image of the recipe is published", Changed: []string{}}
	case ami.TagValue(newest.Tags, contract.TagFingerprint) != p.Fingerprint:
		return plan.Next{Action: contract.ActionBake, Why: "the content differs from that of the published image " + aws.ToString(newest.ImageId) + give, Changed: []string{}}
	}
	return plan.Next{Action: contract.ActionRelease, Why: "the content is that of the published image " + aws.ToString(newest.ImageId) + ", and its release differs" + give, Changed: []string{}}
}
