package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/spf13/cobra"

	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/program"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/rehearsal"
	"github.com/ami-factory/ami-factory/pkg/source"
)

func (a *app) plan() *cobra.Command {
	var l local
	var override string
	c := &cobra.Command{
		Use:   "plan RECIPE",
		Short: "Show what would be built from what, and where it would go",
		Long: `Show on stdout what an execution would build: source image, fingerprint, components,
controls, targets. Nothing is started and nothing is written.

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
			return a.runPlan(c.Context(), l, given[0], override)
		},
	}
	c.ValidArgsFunction = once(a.recipes)
	l.registerState(c)
	l.registerGoss(c)
	l.given.register(c)
	a.registerUserData(c)
	c.Flags().StringVar(&override, "source", "", "AMI id to build on instead of the recipe's source")
	return c
}

func (a *app) runPlan(ctx context.Context, l local, name, override string) error {
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
	from, err := a.resolve(ctx, l, draft.Recipe, override)
	if err != nil {
		return err
	}
	engine, err := a.engine(l, draft.Recipe)
	if err != nil {
		return err
	}
	p, _, err := draft.Build(plan.Input{Source: from, CheckEngine: engine, FactoryVersion: version(), ExecutionName: "plan", ExecutionStart: now})
	if err != nil {
		return err
	}
	return a.printPlan(fsys, p)
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

func (a *app) printPlan(fsys fs.FS, p *plan.BuildPlan) error {
	if a.format == "json" {
		a.printed = true
		return p.Preview().WriteJSON(a.out)
	}
	preview := p.Preview()
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
func (a *app) resolve(ctx context.Context, l local, r *recipe.Recipe, override string) (from plan.SourceImage, err error) {
	request := source.Request{Source: r.Source, Architecture: r.Architecture, Override: override}
	if named := namesAWS(); named != "" && !l.local {
		cfg, err := awsConfig(ctx, r.Home().Name)
		if err != nil {
			return from, err
		}
		_, _ = fmt.Fprintf(a.err, "the source is resolved in %s, as %s says; --state FOLDER asks an embedded AWS\n", r.Home().Name, named)
		return source.Resolver{Images: ec2.NewFromConfig(cfg), Parameters: ssm.NewFromConfig(cfg)}.Resolve(ctx, request)
	}
	opts, err := a.options(l)
	if err != nil {
		return from, err
	}
	f, err := rehearsal.Inspect(ctx, opts)
	if errors.Is(err, rehearsal.ErrNoState) {
		_, _ = fmt.Fprintln(a.err, "nothing was baked here yet: the source below is a stand-in, and so is the fingerprint")
		return plan.SourceImage{
			ImageID: "ami-00000000000000000", Name: "not resolved", OwnerID: r.Source.Owner, Architecture: r.Architecture, RootDevice: "/dev/xvda",
		}, nil
	}
	if err != nil {
		return from, err
	}
	defer func() { err = errors.Join(err, f.Close(ctx)) }()
	return source.Resolver{Images: f.Cloud.EC2, Parameters: f.Cloud.SSM}.Resolve(ctx, request)
}
