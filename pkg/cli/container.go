package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/container"
	"github.com/ami-factory/ami-factory/pkg/plaintext"
)

// container is the group of commands about container images.
func (a *app) container() *cobra.Command {
	return group(&cobra.Command{
		Use:   "container",
		Short: "Check container images, and show the contract between an image and what runs it",
		Long: `Check container images against their contract, and write the contract for what runs the
image. The contract says how a service is started, who it runs as, where it answers, how
it is stopped and where it may write. infra/docs/containers.md describes it.`,
		Example: `  ami-factory container check REGISTRY/demo:1.2.3 --approved-base bases.yaml
  ami-factory container contract contract.yaml --format labels`,
	}, a.containerCheck(), a.containerContract())
}

const takesImage = "an image is a folder with an OCI layout, an archive of docker save, or a reference in a registry"

// containerCheck holds the flags of "container check".
type containerCheck struct {
	contract  string
	bases     []string
	reference bool
	gate      string
}

func (a *app) containerCheck() *cobra.Command {
	var f containerCheck
	c := &cobra.Command{
		Use:   "check IMAGE",
		Short: "Check an image: contract, user, program, secrets, base, layers",
		Long: `Check an image without running it, against its contract and against the rules for all
images. IMAGE is a folder with an OCI layout, an archive of docker save, or a reference in
a registry, where docker's credentials are used. Of an index, the image of each platform is
checked.

The contract is that of the image's label ` + container.LabelContract + `. With --contract it is
that of a file, and the label must say the same. --approved-base names approved bases, by
digest or by a file with the digests and layers of several; without it, any base is accepted
and a warning says so. --reference is for images that were made from packages and have no
base.

Results go to stdout. Exit codes: 0 passed, 1 the image could not be read, 2 wrong usage,
3 rejected by the gate.`,
		Example: `  ami-factory container check REGISTRY/demo:1.2.3 --approved-base bases.yaml
  ami-factory container check build/demo-layout --contract contract.yaml --approved-base sha256:DIGEST
  ami-factory container check demo.tar --gate low --output json`,
		Args: takes("one IMAGE"),
		RunE: func(c *cobra.Command, given []string) error {
			return a.checkContainer(c.Context(), given[0], f, time.Now())
		},
	}
	c.Flags().StringVar(&f.contract, "contract", "", "`file` with the contract (default: the image's label)")
	c.Flags().StringArrayVar(&f.bases, "approved-base", nil, "`digest` of an approved base, or a file with several; may be given more than once")
	c.Flags().BoolVar(&f.reference, "reference", false, "the image was made from packages and has no base")
	c.Flags().StringVar(&f.gate, "gate", "medium", "lowest `severity` whose failure rejects the image: "+strings.Join(compliance.Severities(), ", "))
	_ = c.MarkFlagFilename("contract", "yaml") // the flag exists
	_ = c.RegisterFlagCompletionFunc("gate", cobra.FixedCompletions(compliance.Severities(), cobra.ShellCompDirectiveNoFileComp))
	return c
}

// containerView is a checked image as "container check" prints it in JSON.
type containerView struct {
	Image    string            `json:"image"` // as it was named
	Digest   string            `json:"digest"`
	Platform string            `json:"platform"`
	Layers   []string          `json:"layers"` // unpacked; a list of approved bases has them
	Report   compliance.Report `json:"report"`
}

func (a *app) checkContainer(ctx context.Context, argument string, f containerCheck, now time.Time) error {
	if !slices.Contains(compliance.Severities(), f.gate) {
		return usage("--gate is %q (allowed: %s)", f.gate, strings.Join(compliance.Severities(), ", "))
	}
	if f.reference && len(f.bases) > 0 {
		return usage("--reference says that the image has no base, and --approved-base which it may have: give one of them")
	}
	options := container.Options{Reference: f.reference, Gate: f.gate, Now: now, RunID: "container check"}
	if f.contract != "" {
		c, err := readContract(f.contract)
		if err != nil {
			return err
		}
		options.Contract = &c
	}
	var err error
	if options.Bases, err = readBases(f.bases); err != nil {
		return err
	}
	images, err := openContainer(ctx, argument)
	if err != nil {
		return err
	}
	views, rejected := []containerView{}, 0
	for _, i := range images {
		config, err := i.ConfigFile()
		if err != nil {
			return fmt.Errorf("%s: read the configuration of %s: %w", argument, i.ID, err)
		}
		report, err := container.CheckImage(i, options)
		if err != nil {
			return fmt.Errorf("%s: %w", argument, err)
		}
		v := containerView{Image: argument, Digest: i.ID, Platform: config.OS + "/" + config.Architecture, Layers: []string{}, Report: report}
		for _, id := range config.RootFS.DiffIDs {
			v.Layers = append(v.Layers, id.String())
		}
		if report.Verdict != compliance.VerdictPassed {
			rejected++
		}
		views = append(views, v)
	}
	if a.format == "json" {
		err = a.json(views)
	} else {
		err = writeContainers(a.out, views)
	}
	if err != nil {
		return err
	}
	if rejected > 0 {
		return &exitError{code: exitRejected, err: fmt.Errorf("%s is rejected: what fails is at or above severity %s", argument, f.gate)}
	}
	return nil
}

func writeContainers(out io.Writer, views []containerView) error {
	var b strings.Builder
	for _, v := range views {
		fmt.Fprintf(&b, "image     %s\ndigest    %s\nplatform  %s\n", v.Image, v.Digest, plaintext.Clean(v.Platform))
		writeNotPassed(&b, v.Report)
		fmt.Fprintf(&b, "checks    %d passed, %d failed, %d waived\nverdict   %s\n", v.Report.Counts.Passed, v.Report.Counts.Failed, v.Report.Counts.Waived, v.Report.Verdict)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func openContainer(ctx context.Context, argument string) ([]container.Image, error) {
	images, err := container.Open(ctx, argument)
	if errors.Is(err, container.ErrNoImage) {
		return nil, usage("%w; %s", err, takesImage)
	}
	if err == nil && len(images) == 0 {
		err = fmt.Errorf("%s has no image of a platform", argument)
	}
	return images, err
}

func readContract(file string) (container.Contract, error) {
	data, err := readArgument(file, "a contract is a YAML file with the key contract")
	if err != nil {
		return container.Contract{}, err
	}
	c, problems := container.Parse(file, data)
	return c, problems.Err()
}

var digestForm = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// readBases reads what --approved-base names; nil if it was not given.
func readBases(given []string) (*container.Bases, error) {
	if len(given) == 0 {
		return nil, nil
	}
	var out container.Bases
	for _, one := range given {
		if strings.HasPrefix(one, "sha256:") {
			if !digestForm.MatchString(one) {
				return nil, usage("--approved-base %s is no digest: sha256: and 64 hexadecimal digits", one)
			}
			out.Bases = append(out.Bases, container.Base{Digest: one})
			continue
		}
		data, err := readArgument(one, "--approved-base takes a digest or a YAML file with the key bases")
		if err != nil {
			return nil, err
		}
		b, problems := container.ParseBases(one, data)
		if err := problems.Err(); err != nil {
			return nil, err
		}
		out.Bases = append(out.Bases, b.Bases...)
	}
	return &out, nil
}

// serviceName is what names of services of all formats allow.
var serviceName = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)

func (a *app) containerContract() *cobra.Command {
	var format, service, image string
	c := &cobra.Command{
		Use:   "contract IMAGE|FILE",
		Short: "Write the contract of an image or a file for what runs the image",
		Long: `Write the contract of an image, or of a YAML file, on stdout: as service.env of the unit
service@NAME on hosts of the factory (env), as a part of an ECS task definition (ecs), as a
part of a pod (kubernetes), or as the label that carries it (labels). What a format cannot
express is an error, or a note on stderr. IMAGE is named as for "container check".`,
		Example: `  ami-factory container contract contract.yaml --format labels
  ami-factory container contract REGISTRY/demo:1.2.3 --format ecs > task.json
  ami-factory container contract build/demo-layout --format env --image REGISTRY/demo@sha256:DIGEST`,
		Args: takes("one IMAGE or FILE"),
		RunE: func(c *cobra.Command, given []string) error {
			if !slices.Contains(container.Formats(), format) {
				return usage("--format is %q (allowed: %s)", format, strings.Join(container.Formats(), ", "))
			}
			if service != "" && (len(service) > 40 || !serviceName.MatchString(service)) {
				return usage("--name is %q (allowed: lower-case letters, digits and single hyphens, beginning with a letter, at most 40)", service)
			}
			return a.writeContract(c.Context(), given[0], format, service, image)
		},
	}
	c.Flags().StringVar(&format, "format", "", "what to write: "+strings.Join(container.Formats(), ", "))
	c.Flags().StringVar(&service, "name", "", "`name` of the service (default: that of the repository, or app)")
	c.Flags().StringVar(&image, "image", "", "`reference` of the image by digest (default: what IMAGE is in its registry)")
	_ = c.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(container.Formats(), cobra.ShellCompDirectiveNoFileComp))
	return c
}

func (a *app) writeContract(ctx context.Context, argument, format, service, image string) error {
	c, found, err := findContract(ctx, argument)
	if err != nil {
		return err
	}
	repository := found.repository
	if image == "" {
		image = container.Unknown
		if repository != "" {
			image = repository + "@" + found.digest
		} else if format != container.FormatLabels {
			_, _ = fmt.Fprintln(a.err, "note: the image's place in a registry is not known: give --image, or replace "+container.Unknown)
		}
	} else {
		repository, _, _ = strings.Cut(image, "@")
	}
	if service == "" {
		service = "app"
		if base := path.Base(repository); repository != "" && serviceName.MatchString(base) && len(base) <= 40 {
			service = base
		}
	}
	out, err := c.Render(format, service, image)
	if err != nil {
		return fmt.Errorf("%s: %w", argument, err)
	}
	for _, n := range out.Notes {
		_, _ = fmt.Fprintln(a.err, "note: "+n)
	}
	if a.format == "json" {
		return a.json(struct {
			Format   string             `json:"format"`
			Text     string             `json:"text"`
			Notes    []string           `json:"notes"`
			Contract container.Contract `json:"contract"`
		}{format, out.Text, append([]string{}, out.Notes...), c})
	}
	_, err = io.WriteString(a.out, out.Text)
	return err
}

// place is where an image is in a registry; empty if it is not from one.
type place struct{ repository, digest string }

// findContract reads the contract of a YAML file or of an image's label. The images of an
// index must have the same.
func findContract(ctx context.Context, argument string) (container.Contract, place, error) {
	if ext := filepath.Ext(argument); ext == ".yaml" || ext == ".yml" {
		if _, err := os.Stat(argument); err == nil || strings.HasPrefix(argument, ".") || strings.HasPrefix(argument, "/") {
			c, err := readContract(argument)
			return c, place{}, err
		}
	}
	images, err := openContainer(ctx, argument)
	if err != nil {
		return container.Contract{}, place{}, err
	}
	var first container.Contract
	label := ""
	for n, i := range images {
		config, err := i.ConfigFile()
		if err != nil {
			return first, place{}, fmt.Errorf("%s: read the configuration of %s: %w", argument, i.ID, err)
		}
		c, err := container.FromLabels(config.Config.Labels)
		if err != nil {
			return first, place{}, fmt.Errorf("%s: %w", argument, err)
		}
		if n > 0 && config.Config.Labels[container.LabelContract] != label {
			return first, place{}, fmt.Errorf("%s: the images of its platforms have different contracts", argument)
		}
		first, label = c, config.Config.Labels[container.LabelContract]
	}
	at := place{repository: images[0].Repository, digest: images[0].ID}
	if images[0].Index != "" {
		at.digest = images[0].Index
	}
	return first, at, nil
}
