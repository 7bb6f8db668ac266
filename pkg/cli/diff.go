package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/evidence/diff"
)

func (a *app) diff() *cobra.Command {
	var from evidencePlace
	var key keyFlag
	c := &cobra.Command{
		Use:   "diff [BEFORE] IMAGE",
		Short: "Show what differs between two released images of a recipe",
		Long: `Show what differs between two releases, from their signed evidence: the recipe, the source
image, packages, vulnerabilities, controls, waivers, kernel, users, setuid files, listening
sockets, units, kernel parameters, repositories and their keys, container images, volumes.

An image is named by its id or its name, by the execution that released it, as ` + latest + `, or by
a FILE: evidence.tar.gz, or a folder with what was in it. With one image, the diff is the
signed one of its evidence, from the image that was published before. With two, BEFORE is
compared with IMAGE. All evidence is verified first; what is not verified is not compared.

A FILE needs --key and no network. All else is read from a deployed factory or a state
folder, chosen as for "report", and so is the key unless --key is given. --output json has
the whole diff, and whether it holds only upgrades of packages.

Exit codes: 0 compared, also if nothing differs or if no image was published before,
1 evidence is missing or not verified, 2 wrong usage.`,
		Example: `  ami-factory diff ami-0123456789abcdef0
  ami-factory diff ami-0fedcba9876543210 ami-0123456789abcdef0 --output json
  ami-factory diff before/evidence.tar.gz after/evidence.tar.gz --key key.pem`,
		Args: func(c *cobra.Command, given []string) error {
			if len(given) == 1 || len(given) == 2 {
				return nil
			}
			return usage("%s takes one or two of IMAGE, EXECUTION, %s or FILE, and %d were given\nUsage: %s\nSee '%s --help'", c.CommandPath(), latest, len(given), c.UseLine(), c.CommandPath())
		},
		RunE: func(c *cobra.Command, given []string) error {
			return a.withBundles(c, from, key, given, a.runDiff)
		},
	}
	c.ValidArgsFunction = once(func(*cobra.Command) ([]string, error) { return []string{latest}, nil })
	from.register(c)
	key.register(c)
	return c
}

// differences is the data of "diff".
type differences struct {
	OnlyPackageUpgrades bool      `json:"onlyPackageUpgrades"`
	Diff                diff.Diff `json:"diff"`
}

func (a *app) runDiff(of []loaded) error {
	d, err := diffOf(of)
	if err != nil {
		return err
	}
	if a.format == "json" {
		return a.json(differences{d.OnlyPackageUpgrades(), d})
	}
	return writeDiff(a.out, d)
}

// diffOf is the signed diff of one bundle, or that of two bundles. All of them are
// verified.
func diffOf(of []loaded) (diff.Diff, error) {
	var records []diff.Record
	for _, l := range of {
		v, err := l.verify()
		if err != nil {
			return diff.Diff{}, fmt.Errorf("not verified: %s\n%w", l.where, err)
		}
		if len(of) == 1 {
			raw, ok := l.files[contract.DiffObject]
			if !ok {
				return diff.Diff{}, fmt.Errorf("%s has no %s: an earlier version of the factory released it; name the image to compare with as well", l.where, contract.DiffObject)
			}
			d, err := diff.Decode(raw)
			if err != nil {
				err = fmt.Errorf("%s: %w", l.where, err)
			}
			return d, err
		}
		r, err := diff.Read(v.Manifest, l.files)
		if err != nil {
			return diff.Diff{}, fmt.Errorf("%s: %w", l.where, err)
		}
		records = append(records, r)
	}
	if len(records) != 2 {
		return diff.Diff{}, errors.New("two releases are compared")
	}
	if was, is := records[0].Manifest.Recipe, records[1].Manifest.Recipe; was != is {
		return diff.Diff{}, fmt.Errorf("%s is of recipe %s and %s of recipe %s: releases of one recipe are compared", records[0].ImageID, was, records[1].ImageID, is)
	}
	return diff.Of(&records[0], records[1], ""), nil
}

func writeDiff(w io.Writer, d diff.Diff) error {
	var b strings.Builder
	if d.After.Simulated || d.Before != nil && d.Before.Simulated {
		b.WriteString(simulatedNotice)
	}
	row := rows(&b)
	row("recipe", "%s", d.Recipe)
	side := func(label string, s diff.Side) {
		row(label, "%s %s, released by %s", s.ImageID, s.ImageName, s.Execution)
	}
	if d.Before == nil {
		row("before", "%s", d.NotCompared)
	} else {
		side("before", *d.Before)
	}
	side("after", d.After)
	if d.Before != nil {
		v := d.Vulnerabilities
		row("verdict", "%s", verdictOn(d))
		row("findings", "%d vulnerabilities fixed, %d new, %d remaining", v.Fixed, v.New, v.Remaining)
		for _, s := range []diff.Side{*d.Before, d.After} {
			for _, what := range s.Incomplete {
				row("incomplete", "the inventory of %s: %s", s.ImageID, what)
			}
		}
	}
	for _, s := range d.Sections {
		fmt.Fprintf(&b, "\n%s (%d)\n", s.Kind.Title(), s.Total())
		for _, c := range s.Changes {
			mark := "!"
			if d.Ordinary(s.Kind, c) {
				mark = " "
			}
			fmt.Fprintf(&b, "%s %-10s %s%s\n", mark, c.What, c.Name, values(c))
		}
		if s.More > 0 {
			fmt.Fprintf(&b, "  and %d more that are not listed\n", s.More)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func verdictOn(d diff.Diff) string {
	switch {
	case d.OnlyPackageUpgrades() && d.Empty():
		return "nothing differs"
	case d.OnlyPackageUpgrades():
		return "only packages were upgraded"
	case d.Empty():
		return "nothing that is known differs"
	}
	return "more than upgrades of packages differs, marked with !"
}

func values(c diff.Change) string {
	switch {
	case c.Before != "" && c.After != "":
		return ": " + c.Before + " -> " + c.After
	case c.Before+c.After != "":
		return ": " + c.Before + c.After
	}
	return ""
}

// released is the execution that released an image, which is named by its id or name, or
// the execution itself.
func (e evidenceOf) released(ctx context.Context, which, region string) (string, error) {
	if which == latest || strings.HasPrefix(which, "ami-") {
		return e.execution(ctx, which, region)
	}
	keys, err := e.keys.Keys(ctx, contract.ExecutionKey(which, ""))
	if err != nil || len(keys) > 0 {
		return which, err
	}
	found, err := ownImages(ctx, e.images, region)
	if err != nil {
		return "", err
	}
	for _, i := range found {
		if i.Name == which {
			return e.execution(ctx, i.ImageID, region)
		}
	}
	return which, nil // whoever reads its evidence says that there is none
}
