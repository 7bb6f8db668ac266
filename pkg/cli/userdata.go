package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/pkg/problem"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/userdata/multipart"
	"github.com/ami-factory/ami-factory/pkg/userdata/provision"
	"github.com/ami-factory/ami-factory/pkg/userdata/spec"
)

// userData is the group of commands about provisioners' user data.
func (a *app) userData() *cobra.Command {
	var format string
	var encoded bool
	var rendered, checked onImage
	render := &cobra.Command{
		Use:   "render SPEC.yaml",
		Short: "Print the user data of a spec, as RunInstances takes it",
		Long: `Print the user data of a spec on stdout: a MIME archive for cloud-init, compressed if
it does not fit into 16 KiB otherwise, or Bottlerocket's TOML. The API of
RunInstances and launch templates take it with --base64; the aws command line
encodes it itself. --output json adds its size and the steps that the first boot
reports in ` + provision.Result + `.`,
		Example: `  ami-factory userdata render userdata/examples/web-service.yaml > user-data
  aws ec2 run-instances --user-data fileb://user-data ...
  ami-factory userdata render userdata/examples/web-service.yaml --base64
  ami-factory userdata render userdata/examples/bottlerocket-eks.yaml --output json`,
		Args: takes("one SPEC.yaml"),
		RunE: func(_ *cobra.Command, given []string) error {
			if format != "" && format != spec.CloudInit && format != spec.BottlerocketFmt {
				return usage("--format is %q (allowed: %s, %s)", format, spec.CloudInit, spec.BottlerocketFmt)
			}
			return a.renderUserData(given[0], rendered, format, encoded)
		},
	}
	render.Flags().StringVar(&format, "format", "", "cloud-init or bottlerocket (default: the spec's target)")
	render.Flags().BoolVar(&encoded, "base64", false, "print it in base64")
	check := &cobra.Command{
		Use:   "check SPEC.yaml ...",
		Short: "Check specs of user data, and what they are rendered to",
		Long: `Check specs against their schema and against what the golden image forbids, such as
passwords and settings that undo its hardening. Every problem is printed on stderr,
with file, line, column and what is allowed; "no errors" goes to stdout. A spec
without errors is also rendered, to check its size and its cloud-config: by a
built-in check, and by cloud-init's own schema if cloud-init is installed. With
--image, specs are checked for the image of one recipe: its family, its components
with their parameters, and the variant of its hardening. Without --image, what only
some images allow is a warning. The exit code is 1 if there is an error.`,
		Example: `  ami-factory userdata check userdata/examples/web-service.yaml
  ami-factory userdata check userdata/examples/web-service.yaml --image debian-12-full
  ami-factory userdata check userdata/examples/*.yaml --output json`,
		Args: func(c *cobra.Command, given []string) error {
			if len(given) == 0 {
				return takes("at least one SPEC.yaml")(c, given)
			}
			return nil
		},
		RunE: func(c *cobra.Command, given []string) error { return a.checkUserData(c.Context(), given, checked) },
	}
	for c, image := range map[*cobra.Command]*onImage{render: &rendered, check: &checked} {
		a.registerUserData(c)
		image.given.register(c)
		c.Flags().StringVar(&image.recipe, "image", "", "`recipe` whose image the spec is for (default: any image of the family)")
		_ = c.RegisterFlagCompletionFunc("image", once(a.recipes)) // the flag exists
	}
	return group(&cobra.Command{
		Use:   "userdata",
		Short: "Check, render and try provisioners' user data",
		Long: `Check, render and try specs of user data (kind: UserData), which describe the first
boot of an instance of a golden image. userdata/examples/README.md has all fields.`,
		Example: `  ami-factory userdata check userdata/examples/web-service.yaml
  ami-factory userdata render userdata/examples/web-service.yaml --base64`,
	}, render, check, a.try())
}

// onImage is the image that specs are for, by its recipe and the deployment's
// parameters.
type onImage struct {
	recipe string
	given  parameters
}

// read finds what the image is made of; nil when no recipe is given.
func (i onImage) read(fsys fs.FS) (*spec.Image, error) {
	if i.recipe == "" {
		return nil, nil
	}
	r, problems, err := recipe.Load(fsys, i.recipe, recipe.Options{Now: time.Now()})
	if err != nil {
		return nil, err
	}
	selected, more, err := component.Select(fsys, r, i.given.values)
	if err != nil {
		return nil, err
	}
	if err := append(problems, more...).Err(); err != nil {
		return nil, err
	}
	return &spec.Image{Recipe: r.Name, Family: r.Family, Components: selected}, nil
}

const takesSpec = "the argument is the path of a spec, such as userdata/examples/web-service.yaml"

// readSpec parses a file; image may be nil.
func (a *app) readSpec(fsys fs.FS, file string, image *spec.Image) (*spec.Spec, problem.List, error) {
	data, err := readArgument(file, takesSpec)
	if err != nil {
		return nil, nil, err
	}
	return spec.Parse(file, data, fsys, image)
}

func (a *app) renderUserData(file string, on onImage, format string, encoded bool) error {
	fsys, err := a.userdataFS()
	if err != nil {
		return err
	}
	image, err := on.read(fsys)
	if err != nil {
		return err
	}
	s, problems, err := a.readSpec(fsys, file, image)
	if err != nil {
		return err
	}
	if err := problems.Err(); err != nil {
		return err
	}
	// Warnings.
	if err := problems.Print(a.err); err != nil {
		return err
	}
	if format == "" {
		format = s.Target
	}
	out, err := provision.Render(s, format)
	if err != nil {
		return inFile(file, err)
	}
	switch {
	case a.format == "json":
		return a.json(struct {
			Name     string           `json:"name"`
			Format   string           `json:"format"`
			Bytes    int              `json:"bytes"`
			MaxBytes int              `json:"maxBytes"`
			UserData string           `json:"userData"` // base64
			Steps    []provision.Step `json:"steps"`
		}{s.Name, out.Format, len(out.Data), multipart.MaxSize, out.Base64(), out.Steps})
	case encoded:
		_, err = fmt.Fprintln(a.out, out.Base64())
	case !utf8.Valid(out.Data) && isTerminal(a.out): // compressed, since it is long
		return usage("the user data is compressed, and standard output is a terminal: write it to a file with > user-data, or print it with --base64")
	default:
		_, err = a.out.Write(out.Data)
	}
	return err
}

// inFile puts the file's name before an error that is about the whole of it.
func inFile(file string, err error) error {
	var invalid *problem.InvalidError
	if errors.As(err, &invalid) {
		return err
	}
	return fmt.Errorf("%s: %w", file, err)
}

func (a *app) checkUserData(ctx context.Context, files []string, on onImage) error {
	fsys, err := a.userdataFS()
	if err != nil {
		return err
	}
	image, err := on.read(fsys)
	if err != nil {
		return err
	}
	var problems problem.List
	configs := 0 // specs that became a cloud-config
	for _, file := range files {
		found, isConfig, err := a.checkSpec(ctx, fsys, file, image)
		if err != nil {
			return err
		}
		if isConfig {
			configs++
		}
		problems = append(problems, found...)
	}
	if _, err := exec.LookPath("cloud-init"); err != nil && configs > 0 {
		_, _ = fmt.Fprintln(a.err, "cloud-init is not installed here: cloud-configs are checked by the built-in check only")
	}
	return a.judge(problems.Sort())
}

// checkSpec checks a spec and what it renders to. isConfig: that has a cloud-config.
func (a *app) checkSpec(ctx context.Context, fsys fs.FS, file string, image *spec.Image) (problems problem.List, isConfig bool, err error) {
	s, problems, err := a.readSpec(fsys, file, image)
	if err != nil || problems.HasErrors() {
		return problems, false, err
	}
	whole := func(err error) problem.List {
		return append(problems, problem.Problem{Severity: problem.Error, File: file, Message: err.Error()})
	}
	out, err := provision.Render(s, s.Target)
	if err != nil {
		return whole(err), false, nil
	}
	if out.CloudConfig == "" {
		return problems, false, nil
	}
	if err := provision.CheckCloudConfig(out.CloudConfig); err != nil {
		return whole(fmt.Errorf("its cloud-config: %w", err)), true, nil
	}
	if cloudInit, err := exec.LookPath("cloud-init"); err == nil {
		if err := schemaOfCloudInit(ctx, cloudInit, out.CloudConfig); err != nil {
			return whole(err), true, nil
		}
	}
	return problems, true, nil
}

// schemaOfCloudInit has cloud-init itself look at a cloud-config.
func schemaOfCloudInit(ctx context.Context, program, config string) (err error) {
	dir, err := os.MkdirTemp("", "ami-factory-userdata-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	file := filepath.Join(dir, "cloud-config.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	said, err := exec.CommandContext(ctx, program, "schema", "--config-file", file).CombinedOutput()
	if err != nil {
		return fmt.Errorf("cloud-init refuses its cloud-config: %s", strings.TrimSpace(string(said)))
	}
	return nil
}
