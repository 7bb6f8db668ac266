package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/network"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/rehearsal"
	"github.com/ami-factory/ami-factory/pkg/rehearsal/try"
	"github.com/ami-factory/ami-factory/pkg/userdata/provision"
	"github.com/ami-factory/ami-factory/pkg/userdata/spec"
)

// tryFlags are the flags of `userdata try`.
type tryFlags struct {
	image, region, profile, console string
	timeout                         time.Duration
}

func (a *app) try() *cobra.Command {
	var l local
	var f tryFlags
	c := &cobra.Command{
		Use:   "try SPEC.yaml --image IMAGE",
		Short: "Boot a spec on a baked image in the embedded AWS, and report what happened",
		Long: `Boot a spec on an image that was baked here: launch an instance of it in the
embedded AWS with the spec's user data, wait until its first boot has finished, and
print on stdout what happened: cloud-init's stages, every step of the spec, the
image's services and agents, and units that failed. The instance is terminated
afterwards, also after Ctrl-C.

IMAGE is the id of an AMI, or the name of a recipe for its newest image. The spec is
first checked for that image, as "userdata check --image" does.

Exit codes: 0 all is well, 1 something failed, 2 wrong usage, 130 interrupted.`,
		Example: `  ami-factory userdata try userdata/examples/web-service.yaml --image debian-12-full
  ami-factory userdata try userdata/examples/web-service.yaml --image ami-0123456789abcdef0 --guests container --output json`,
		Args: takes("one SPEC.yaml"),
		RunE: func(c *cobra.Command, given []string) error {
			if f.image == "" {
				return usage("--image is required: an AMI id or the name of a recipe\nSee '%s --help'", c.CommandPath())
			}
			if strings.HasPrefix(f.image, "ami-") {
				if err := checkImageID(f.image); err != nil {
					return err
				}
			}
			if f.region != "" {
				if err := checkRegion("--region", f.region); err != nil {
					return err
				}
			}
			if _, err := readArgument(given[0], takesSpec); err != nil {
				return err
			}
			return a.runTry(c.Context(), l, f, given[0])
		},
	}
	l.register(c)
	l.registerDeployment(c)
	a.registerUserData(c)
	c.Flags().StringVar(&f.image, "image", "", "AMI id, or a recipe's name for its newest `image`")
	_ = c.RegisterFlagCompletionFunc("image", always(a.recipes)) // the flag exists
	c.Flags().StringVar(&f.region, "region", "", "the image's region (default: the home region)")
	c.Flags().StringVar(&f.profile, "instance-profile", "", "instance profile to launch with (default: ami-factory-instance if the spec has agents, which read their secrets by its role)")
	c.Flags().DurationVar(&f.timeout, "timeout", 20*time.Minute, "how long the boot may take")
	c.Flags().StringVar(&f.console, "console", "", "write the text of the serial console to this `file`")
	return c
}

func (a *app) runTry(ctx context.Context, l local, flags tryFlags, file string) (err error) {
	if l.guests == string(vm.Simulated) {
		return usage("--guests simulated boots nothing, so nothing can be tried on it (allowed: vm, container)")
	}
	image, home, err := a.tryImage(ctx, l, flags)
	if err != nil {
		return err
	}
	l.region = home
	opts, err := a.options(l)
	if err != nil {
		return err
	}
	data, profile, err := a.tryUserData(file, image, opts)
	if err != nil {
		return err
	}
	if flags.profile != "" {
		profile = flags.profile
	}
	show := newDisplay(a.err)
	opts.Progress = show.note
	show.note("starting the embedded AWS (guests: " + l.guests + ")")
	defer show.end()
	factory, err := rehearsal.Open(ctx, opts)
	if err != nil {
		return openError(ctx, err)
	}
	defer func() { err = errors.Join(err, factory.Close(ctx)) }()
	show.note("booting " + image.ImageID + " with " + file)
	result, err := factory.Try(ctx, try.Input{
		ImageID: image.ImageID, Region: image.Region, UserData: data, Profile: profile, Timeout: flags.timeout,
	})
	if flags.console != "" && result.Console != "" {
		err = errors.Join(err, os.WriteFile(flags.console, []byte(result.Console), 0o600))
	}
	if ctx.Err() != nil {
		return &exitError{exitInterrupted, errors.New("interrupted; the instance is terminated")}
	}
	if err != nil {
		if result.Instance == "" {
			return err
		}
		result.Problems = append(result.Problems, err.Error())
		result.OK = false
	}
	if a.format == "json" {
		err = a.json(result)
	} else {
		err = writeTry(a.out, result)
	}
	if err == nil && !result.OK {
		return &exitError{code: exitFailed}
	}
	return err
}

// instanceProfile is what instances with agents are launched with; its role may
// read what is below ami-factory/agents/.
const instanceProfile = "ami-factory-instance"

// tryUserData checks a spec for the image that it is tried on, as `userdata check
// --image` does, renders it for the embedded AWS, and says which instance profile it
// needs.
func (a *app) tryUserData(file string, on image, opts rehearsal.Options) (data []byte, profile string, err error) {
	fsys, err := a.userdataFS()
	if err != nil {
		return nil, "", err
	}
	model, err := a.modelOf(fsys, on, opts)
	if err != nil {
		return nil, "", err
	}
	s, problems, err := a.readSpec(fsys, file, model)
	if err != nil {
		return nil, "", err
	}
	if err := problems.Err(); err != nil {
		return nil, "", err
	}
	if err := problems.Print(a.coloured(a.err)); err != nil { // warnings
		return nil, "", err
	}
	if s.Target != spec.CloudInit {
		return nil, "", fmt.Errorf("%s is for %s, which has no image here to boot; only %s can be tried", file, s.Target, spec.CloudInit)
	}
	for _, parameters := range s.Agents.ByName() {
		parameters["AWS_ENDPOINT_URL"] = "http://" + network.LocalHost
		profile = instanceProfile
	}
	out, err := provision.Render(s, s.Target)
	if err != nil {
		return nil, "", inFile(file, err)
	}
	return out.Data, profile, nil
}

// modelOf is what an image is made of, by its recipe as it is now and the parameters
// of the command. It is nil for an image without such a recipe: then the spec is
// checked for any image of its family, and stderr says so.
func (a *app) modelOf(fsys fs.FS, on image, opts rehearsal.Options) (*spec.Image, error) {
	given := opts.Parameters
	if opts.StandIns != nil {
		var err error
		if given, err = opts.StandIns.Parameters(fsys, given); err != nil {
			return nil, err
		}
	}
	if on.Recipe == "" {
		_, _ = fmt.Fprintf(a.err, "%s was not made from a recipe here: the spec is checked for any image of its family\n", on.ImageID)
		return nil, nil
	}
	model, err := onImage{recipe: on.Recipe, given: parameters{values: given}}.read(fsys)
	if errors.Is(err, recipe.ErrUnknown) {
		_, _ = fmt.Fprintf(a.err, "%s was made from the recipe %s, which is not among the recipes any more: the spec is checked for any image of its family\n", on.ImageID, on.Recipe)
		return nil, nil
	}
	return model, err
}

// tryImage finds the image that --image means, its recipe, and the home region of the
// factory that made it, before anything is started. An AMI that the factory did not
// make, such as a base image, has no recipe; its home is --region, if there is one.
func (a *app) tryImage(ctx context.Context, l local, flags tryFlags) (found image, home string, err error) {
	isID := strings.HasPrefix(flags.image, "ami-")
	if !isID {
		l.recipes = []string{flags.image}
	}
	opts, err := a.options(l)
	if err != nil {
		return image{}, "", err
	}
	err = a.withStates(ctx, l, func(states []*rehearsal.Factory) error {
		if isID {
			var of int
			if of, found, err = find(ctx, imagesOf(states), flags.region, flags.image); err == nil {
				home = states[of].Cloud.Region()
			}
			return err
		}
		home = opts.Region
		at := slices.IndexFunc(states, func(f *rehearsal.Factory) bool { return f.Cloud.Region() == home })
		if at < 0 {
			return fmt.Errorf("there is no image of recipe %q in %s; bake it first, with the same --guests and --state", flags.image, home)
		}
		found, err = newest(ctx, states[at], flags)
		return err
	})
	if isID && (errors.Is(err, errNoImage) || errors.Is(err, rehearsal.ErrNoState)) {
		if slices.Contains(rehearsal.Homes(l.state, opts.Guests), flags.region) {
			return image{ImageID: flags.image, Region: flags.region}, flags.region, nil
		}
		return image{ImageID: flags.image, Region: flags.region}, opts.Region, nil
	}
	return found, home, err
}

// newest is a recipe's newest image.
func newest(ctx context.Context, f *rehearsal.Factory, flags tryFlags) (image, error) {
	region := cmp.Or(flags.region, f.Cloud.Region())
	found, err := ownImages(ctx, f.Cloud.EC2, region)
	if err != nil {
		return image{}, err
	}
	var recipes []string
	var last image
	for _, i := range found {
		if i.Recipe != "" && !slices.Contains(recipes, i.Recipe) {
			recipes = append(recipes, i.Recipe)
		}
		if i.Recipe == flags.image && i.Created >= last.Created {
			last = i
		}
	}
	if last.ImageID == "" {
		slices.Sort(recipes)
		there := "none"
		if len(recipes) > 0 {
			there = strings.Join(recipes, ", ")
		}
		return image{}, fmt.Errorf("there is no image of recipe %q in %s (there are images of: %s); bake it first, with the same --guests and --state", flags.image, region, there)
	}
	return last, nil
}

func writeTry(w io.Writer, r try.Result) error {
	var b strings.Builder
	verdict := "all is well"
	if !r.OK {
		verdict = fmt.Sprintf("%d problems", len(r.Problems))
	}
	row := rows(&b)
	row("boot", "%s after %s", verdict, seconds(r.Seconds))
	row("image", "%s (instance %s, terminated)", r.Image, r.Instance)
	row("guests", "%s (%s)", r.Guests, r.Description)
	if r.Startup != "" {
		row("startup", "%s", r.Startup)
	}
	kind := ""
	for _, s := range r.Steps {
		label := ""
		if s.Kind != kind {
			label, kind = s.Kind, s.Kind
		}
		row(label, "%-12s %8s  %s", s.Status, seconds(s.Seconds), s.Name)
	}
	if r.Boot != nil {
		for i, s := range r.Boot.Services {
			state := "ok"
			if !s.Healthy {
				state = "failed"
			}
			row(first(i, "services"), "%-12s %8s  %s, %s", state, seconds(s.Seconds), s.Unit, s.State)
		}
	}
	for i, name := range slices.Sorted(maps.Keys(r.Agents)) {
		row(first(i, "agents"), "%-22s %s", r.Agents[name].State, name)
	}
	for i, p := range r.Problems {
		row(first(i, "problems"), "%s", strings.ReplaceAll(p, "\n", "\n              "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
