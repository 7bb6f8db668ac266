package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/container"
	"github.com/ami-factory/ami-factory/pkg/evidence/inventory"
	"github.com/ami-factory/ami-factory/pkg/oss"
	"github.com/ami-factory/ami-factory/pkg/plaintext"
)

func (a *app) oss() *cobra.Command {
	var inventoryFile, rootfs, gate string
	check := &cobra.Command{
		Use:   "check [IMAGE]",
		Short: "Judge installed packages by the list of allowed ones",
		Long: `Judge packages by the files in the folder oss of the user data: each must be approved, by its
source package, and its licenses must be allowed. What nobody approved is refused, also if
it came as a dependency.

The packages are those of a container image, named as for "container check", of a folder
with a root file system, or of an inventory that a factory keeps (inventory.cdx.json). Images
and folders have the packages' copyright files, which say under which licenses they are; for
an inventory each approval must state them. Only packages of Debian are read from images and
folders.

Results go to stdout. Exit codes: 0 passed, 1 the packages or the list could not be read,
2 wrong usage, 3 rejected by the gate.`,
		Example: `  ami-factory oss check REGISTRY/base:1
  ami-factory oss check --rootfs /srv/rootfs --output json
  ami-factory oss check --inventory inventory.cdx.json`,
		Args: func(c *cobra.Command, given []string) error {
			if len(given) > 1 {
				return takes("one IMAGE")(c, given)
			}
			return nil
		},
		RunE: func(c *cobra.Command, given []string) error {
			sources := len(given)
			for _, f := range []string{inventoryFile, rootfs} {
				if f != "" {
					sources++
				}
			}
			if sources != 1 {
				return usage("%s takes one of IMAGE, --rootfs and --inventory, and %d were given\nSee '%s --help'", c.CommandPath(), sources, c.CommandPath())
			}
			if !slices.Contains(compliance.Severities(), gate) {
				return usage("--gate is %q (allowed: %s)", gate, strings.Join(compliance.Severities(), ", "))
			}
			return a.checkOSS(c.Context(), strings.Join(given, ""), rootfs, inventoryFile, gate, time.Now())
		},
	}
	check.Flags().StringVar(&inventoryFile, "inventory", "", "`file` with an inventory, inventory.cdx.json")
	check.Flags().StringVar(&rootfs, "rootfs", "", "`folder` with a root file system")
	check.Flags().StringVar(&gate, "gate", "high", "lowest `severity` whose failure rejects: "+strings.Join(compliance.Severities(), ", "))
	_ = check.MarkFlagFilename("inventory", "json") // the flag exists
	_ = check.MarkFlagDirname("rootfs")             // the flag exists
	_ = check.RegisterFlagCompletionFunc("gate", cobra.FixedCompletions(compliance.Severities(), cobra.ShellCompDirectiveNoFileComp))
	a.registerUserData(check)
	return group(&cobra.Command{
		Use:   "oss",
		Short: "Judge open-source packages by the list of allowed ones",
		Long: `Judge open-source packages by the list that security keeps in the folder oss of the user
data. userdata/oss/README.md describes it; "ami-factory lint" checks it.`,
		Example: "  ami-factory oss check REGISTRY/base:1",
	}, check)
}

func (a *app) checkOSS(ctx context.Context, image, rootfs, inventoryFile, gate string, now time.Time) error {
	fsys, err := a.userdataFS()
	if err != nil {
		return err
	}
	list, problems, err := oss.Load(fsys, now)
	if err != nil {
		return err
	}
	if err := problems.Err(); err != nil {
		return err
	}
	if list.Len() == 0 {
		return fmt.Errorf("the folder %s of the user data approves no package, so that all would be refused; see userdata/oss/README.md", oss.Dir)
	}
	var subjects []oss.Subject
	switch {
	case rootfs != "":
		subjects, err = ofRoot(rootfs)
	case inventoryFile != "":
		subjects, err = ofInventory(inventoryFile)
	default:
		subjects, err = ofImages(ctx, image)
	}
	if err != nil {
		return err
	}
	reports, rejected := []compliance.Report{}, false
	for _, s := range subjects {
		report, err := list.Check(s, oss.Options{Gate: gate, Now: now, RunID: "oss check"})
		if err != nil {
			return err
		}
		rejected = rejected || report.Verdict != compliance.VerdictPassed
		reports = append(reports, report)
	}
	if a.format == "json" {
		err = a.json(reports)
	} else {
		err = writeOSS(a.out, subjects, reports)
	}
	if err != nil {
		return err
	}
	if rejected {
		return &exitError{code: exitRejected, err: errors.New("rejected: packages are not as the allow-list says")}
	}
	return nil
}

func ofRoot(dir string) (subjects []oss.Subject, err error) {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return nil, usage("--rootfs %s is no folder", dir)
	}
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir) // links cannot lead out of it
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	subject, err := ofFiles(dir, root.FS())
	return []oss.Subject{subject}, err
}

// ofFiles reads the packages of a file system.
func ofFiles(id string, root fs.FS) (oss.Subject, error) {
	packages, evidence, err := oss.Debian(root)
	if err != nil {
		return oss.Subject{}, fmt.Errorf("%s: %w", id, err)
	}
	others, err := oss.Unread(root)
	if err != nil {
		return oss.Subject{}, fmt.Errorf("%s: %w", id, err)
	}
	return oss.Subject{ID: id, Packages: packages, Evidence: evidence, Incomplete: others}, nil
}

func ofInventory(file string) ([]oss.Subject, error) {
	data, err := readArgument(file, "--inventory takes the path of inventory.cdx.json")
	if err != nil {
		return nil, err
	}
	v, err := inventory.Read(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return []oss.Subject{{ID: file, Packages: v.Packages, Incomplete: v.Incomplete}}, nil
}

func ofImages(ctx context.Context, argument string) ([]oss.Subject, error) {
	images, err := openContainer(ctx, argument)
	if err != nil {
		return nil, err
	}
	var out []oss.Subject
	for _, i := range images {
		files, err := container.ReadFiles(i, container.PackageFiles)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", argument, err)
		}
		subject, err := ofFiles(i.ID, files)
		if err != nil {
			return nil, err
		}
		out = append(out, subject)
	}
	return out, nil
}

// writeNotPassed writes the results that did not pass, and the warnings.
func writeNotPassed(b *strings.Builder, report compliance.Report) {
	for _, r := range report.Results {
		if r.Status == compliance.StatusPass {
			continue
		}
		effect := "below the gate"
		if r.Rejecting {
			effect = "rejects"
		}
		fmt.Fprintf(b, "%-5s     %s %s, %s: %s\n", r.Status, r.ControlID, r.Severity, effect, r.Title)
		for _, p := range r.Properties {
			fmt.Fprintf(b, "          found: %s\n", strings.Join(strings.Fields(p.Actual), " "))
		}
		fmt.Fprintf(b, "          fix: %s\n", r.Fix)
	}
	for _, w := range report.Warnings {
		fmt.Fprintf(b, "warning   %s\n", plaintext.Clean(w))
	}
}

func writeOSS(out io.Writer, subjects []oss.Subject, reports []compliance.Report) error {
	var b strings.Builder
	for i, report := range reports {
		fmt.Fprintf(&b, "packages  %d of %s\n", len(subjects[i].Packages), subjects[i].ID)
		writeNotPassed(&b, report)
		fmt.Fprintf(&b, "verdict   %s\n", report.Verdict)
	}
	_, err := io.WriteString(out, b.String())
	return err
}
