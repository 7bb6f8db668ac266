package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/spf13/cobra"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/evidence"
	"github.com/ami-factory/ami-factory/pkg/evidence/bundle"
	"github.com/ami-factory/ami-factory/pkg/evidence/inventory"
	"github.com/ami-factory/ami-factory/pkg/evidence/sarif"
	"github.com/ami-factory/ami-factory/pkg/evidence/vulnerability"
	"github.com/ami-factory/ami-factory/pkg/execution"
	"github.com/ami-factory/ami-factory/pkg/problem"
	"github.com/ami-factory/ami-factory/pkg/rehearsal"
	"github.com/ami-factory/ami-factory/pkg/stage"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// latest stands for the execution that ended last.
const latest = "latest"

// evidenceOf is a factory whose evidence is read: a deployed one, or what a state folder
// keeps.
type evidenceOf struct {
	store  store.Store
	keys   store.Directory
	images imageAPI
	kms    publicKeyAPI
}

// evidencePlace says which factory is meant.
type evidencePlace struct {
	local  local
	bucket string
	region string
}

func (p *evidencePlace) register(c *cobra.Command) {
	p.local.registerState(c)
	c.Flags().StringVar(&p.bucket, "bucket", "", "`name` of a deployed factory's bucket, the stack's output BucketName (default: $"+contract.EnvBucket+")")
	c.Flags().StringVar(&p.region, "region", "", "where the factory is deployed (default: that of the AWS configuration)")
}

// withEvidence reads a deployed factory if a bucket or an AWS is named, and a state
// folder otherwise, or if --state or --guests are given.
func (a *app) withEvidence(c *cobra.Command, p evidencePlace, do func(context.Context, evidenceOf) error) error {
	ctx := c.Context()
	bucket := p.bucket
	if bucket == "" {
		bucket = os.Getenv(contract.EnvBucket)
	}
	kept := c.Flags().Changed("state") || c.Flags().Changed("guests")
	if kept && p.bucket != "" {
		return usage("--bucket names a deployed factory, and --state and --guests a state folder: give one of them")
	}
	if kept || bucket == "" && namesAWS() == "" {
		p.local.region = p.region
		return a.withState(ctx, p.local, func(f *rehearsal.Factory) error {
			return do(ctx, evidenceOf{store.Store{Bucket: f.Bucket, API: f.Cloud.S3}, store.Directory{Bucket: f.Bucket, API: f.Cloud.S3}, f.Cloud.EC2, f.Cloud.KMS})
		})
	}
	if bucket == "" {
		return usage("the factory's bucket is not known: give --bucket or set %s, or give --state and --guests to read a state folder", contract.EnvBucket)
	}
	cfg, err := awsConfig(ctx, p.region)
	if err != nil {
		return err
	}
	api := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = os.Getenv("AWS_ENDPOINT_URL") != "" })
	return do(ctx, evidenceOf{store.Store{Bucket: bucket, API: api}, store.Directory{Bucket: bucket, API: api}, ec2.NewFromConfig(cfg), kms.NewFromConfig(cfg)})
}

// reportFormat is a form in which a report is written.
type reportFormat struct {
	name, means string
	write       func(context.Context, evidenceOf, string, io.Writer) error // of an execution
}

// formats of reports. Those that the execution itself has written are copied byte by byte,
// so that their digests stay; the others are made of its JSON report.
func reportFormats() []reportFormat {
	made := func(write func(evidence.Report, io.Writer) error) func(context.Context, evidenceOf, string, io.Writer) error {
		return func(ctx context.Context, from evidenceOf, name string, w io.Writer) error {
			raw, err := from.read(ctx, name, contract.ReportObject)
			if err != nil {
				return err
			}
			var r evidence.Report
			if err := json.Unmarshal(raw, &r); err != nil || r.Schema != evidence.Schema {
				return fmt.Errorf("the report of %s is not an %s: %w", name, evidence.Schema, errors.Join(err, fmt.Errorf("its schema is %q", r.Schema)))
			}
			return write(r, w)
		}
	}
	copied := func(object string) func(context.Context, evidenceOf, string, io.Writer) error {
		return func(ctx context.Context, from evidenceOf, name string, w io.Writer) error {
			raw, err := from.read(ctx, name, object)
			if err == nil {
				_, err = w.Write(raw)
			}
			return err
		}
	}
	return []reportFormat{
		{"html", "the page for people", copied(contract.PageObject)},
		{"json", "everything, for programs", copied(contract.ReportObject)},
		{"sarif", "findings for code scanning", made(func(r evidence.Report, w io.Writer) error { return sarif.Write(w, r) })},
		{"junit", "controls as test cases, for CI systems", made(evidence.Report.WriteJUnit)},
		{"asff", "findings of AWS Security Hub", made(writeASFF)},
		{"openvex", "what is affected by which vulnerability, for scanners", writeVEX},
		{"cyclonedx", "the inventory of the image, a CycloneDX SBOM", copied(contract.InventoryObject)},
	}
}

// writeVEX writes what the execution found, about the images that it signed, or about the
// one that it checked if it signed none.
func writeVEX(ctx context.Context, from evidenceOf, name string, w io.Writer) error {
	record := func(object string, into any) ([]byte, error) {
		raw, err := from.read(ctx, name, object)
		if err == nil && into != nil {
			if err = json.Unmarshal(raw, into); err != nil {
				err = fmt.Errorf("%s of %s: %w", object, name, err)
			}
		}
		return raw, err
	}
	var found vulnerability.Report
	if _, err := record(contract.VulnerabilitiesObject, &found); err != nil {
		return err
	}
	if found.Schema != vulnerability.Schema {
		return fmt.Errorf("the vulnerabilities of %s are not an %s: their schema is %q", name, vulnerability.Schema, found.Schema)
	}
	document, err := record(contract.InventoryObject, nil)
	if err != nil {
		return err
	}
	if got := store.Digest(document); got != found.InventorySHA256 {
		return fmt.Errorf("the inventory of %s is not the one in which vulnerabilities were found: its SHA-256 is %s, not %s", name, got, found.InventorySHA256)
	}
	packages, err := inventory.Read(document)
	if err != nil {
		return fmt.Errorf("the inventory of %s: %w", name, err)
	}
	images, err := from.vexProducts(ctx, name, found)
	if err != nil {
		return err
	}
	out, err := vulnerability.VEX(found, packages, images, "ami-factory")
	if err == nil {
		_, err = w.Write(out)
	}
	return err
}

// vexProducts are the ARNs of the images that an execution signed, or of the one that it
// checked.
func (e evidenceOf) vexProducts(ctx context.Context, name string, found vulnerability.Report) ([]string, error) {
	machine, err := arn.Parse(found.Of.Execution)
	if err != nil {
		return nil, fmt.Errorf("the vulnerabilities of %s name the execution %q: %w", name, found.Of.Execution, err)
	}
	image := func(region, id string) string {
		return arn.ARN{Partition: machine.Partition, Service: "ec2", Region: region, Resource: "image/" + id}.String()
	}
	raw, err := e.store.Read(ctx, contract.ExecutionKey(name, contract.ManifestObject))
	if errors.Is(err, store.ErrNone) {
		return []string{image(machine.Region, found.ImageID)}, nil
	}
	if err != nil {
		return nil, err
	}
	manifest, err := bundle.ParseManifest(raw)
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", contract.ManifestObject, name, err)
	}
	var out []string
	for _, i := range manifest.Images {
		out = append(out, image(i.Region, i.ImageID))
	}
	return out, nil
}

func writeASFF(r evidence.Report, w io.Writer) error {
	findings, err := r.ASFF(nil)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(findings)
}

func formatNames() []string {
	var out []string
	for _, f := range reportFormats() {
		out = append(out, f.name)
	}
	return out
}

func (a *app) report() *cobra.Command {
	var from evidencePlace
	var format, out string
	var means strings.Builder
	for _, f := range reportFormats() {
		fmt.Fprintf(&means, "  %-10s %s\n", f.name, f.means)
	}
	c := &cobra.Command{
		Use:   "report EXECUTION|IMAGE|latest",
		Short: "Write the report of an execution, in a format of your choice",
		Long: `Write the report of an execution to stdout, or to the file of --out. The execution is
named, or is the one that made an image, or the one that ended last.

` + means.String() + `
The factory is the deployed one whose bucket --bucket or ` + contract.EnvBucket + ` names. Without
a bucket, and if the environment names no AWS, it is what "bake" and "local up" keep in
the folder of --state. An execution that checked nothing has no sarif and no asff: a file
without findings would close those that are open. An image without known vulnerabilities
has no openvex: the format has no document without statements.`,
		Example: `  ami-factory report latest --out report.html
  ami-factory report ami-0123456789abcdef0 --format json
  ami-factory report debian-12-docker-20261130T162957Z-1c541523 --format sarif --out ami.sarif --bucket amifactory-bucket-1example
  ami-factory report latest --guests container --format junit`,
		Args: takes("one EXECUTION, IMAGE or " + latest),
		RunE: func(c *cobra.Command, given []string) error {
			return a.runReport(c, from, given[0], format, out)
		},
	}
	c.ValidArgsFunction = once(func(*cobra.Command) ([]string, error) { return []string{latest}, nil })
	from.register(c)
	c.Flags().StringVar(&format, "format", "html", "one of "+strings.Join(formatNames(), ", "))
	_ = c.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(formatNames(), cobra.ShellCompDirectiveNoFileComp)) // the flag exists
	c.Flags().StringVar(&out, "out", "", "`file` to write instead of stdout")
	return c
}

func (a *app) runReport(c *cobra.Command, from evidencePlace, which, format, out string) error {
	at := slices.IndexFunc(reportFormats(), func(f reportFormat) bool { return f.name == format })
	if at < 0 {
		near := ""
		if found := problem.Nearest(format, formatNames()); found != "" {
			near = "; did you mean " + found + "?"
		}
		return usage("--format is %q (allowed: %s)%s", format, strings.Join(formatNames(), ", "), near)
	}
	if err := checkWhich(which); err != nil {
		return err
	}
	return a.withEvidence(c, from, func(ctx context.Context, of evidenceOf) error {
		name, err := of.execution(ctx, which, from.region)
		if err != nil {
			return err
		}
		var b bytes.Buffer
		if err := reportFormats()[at].write(ctx, of, name, &b); err != nil {
			return fmt.Errorf("report of %s as %s: %w", name, format, err)
		}
		if out == "" {
			a.printed = true // whatever the format is, it is the data
			_, err := a.out.Write(b.Bytes())
			return err
		}
		if err := os.WriteFile(out, b.Bytes(), 0o644); err != nil { // it holds nothing that its reader may not share
			return err
		}
		if a.format == "json" {
			return a.json(map[string]any{"execution": name, "format": format, "file": out, "bytes": b.Len()})
		}
		_, err = fmt.Fprintln(a.out, out)
		return err
	})
}

// checkWhich refuses what can name no execution.
func checkWhich(which string) error {
	if strings.HasPrefix(which, "ami-") {
		return checkImageID(which)
	}
	if err := execution.CheckName(which); err != nil {
		return usage("%q names no execution, no image and is not %q: %w", which, latest, err)
	}
	return nil
}

// execution is the name of the execution that is meant.
func (e evidenceOf) execution(ctx context.Context, which, region string) (string, error) {
	switch {
	case which == latest:
		return e.last(ctx)
	case strings.HasPrefix(which, "ami-"):
		_, found, err := find(ctx, []imageAPI{e.images}, region, which)
		if err != nil {
			return "", err
		}
		if name := found.Tags[contract.TagExecution]; name != "" {
			return name, nil
		}
		return "", fmt.Errorf("%s has no tag %s, so no execution of the factory made it", which, contract.TagExecution)
	}
	return which, nil
}

// last is the execution that ended last.
func (e evidenceOf) last(ctx context.Context) (string, error) {
	site, err := stage.ReadSite(ctx, e.store, e.keys, time.Now())
	if err != nil {
		return "", err
	}
	var newest evidence.LastExecution
	for _, s := range site.Summaries {
		if s.Last.Execution != "" && s.Last.Ended.After(newest.Ended) {
			newest = s.Last
		}
	}
	if newest.Execution == "" {
		return "", fmt.Errorf("no execution has ended in the factory of s3://%s; give the name of one", e.store.Bucket)
	}
	return newest.Execution, nil
}

// read is an object of an execution.
func (e evidenceOf) read(ctx context.Context, name, object string) ([]byte, error) {
	key := contract.ExecutionKey(name, object)
	raw, err := e.store.Read(ctx, key)
	if !errors.Is(err, store.ErrNone) {
		return raw, err
	}
	if keys, listed := e.keys.Keys(ctx, contract.ExecutionKey(name, "")); listed == nil && len(keys) == 0 {
		return nil, fmt.Errorf("there is no execution %s in the factory of s3://%s, or what it wrote has expired", name, e.store.Bucket)
	}
	return nil, fmt.Errorf("it has no %s: it has not ended yet, or ended before it had any (s3://%s/%s)", object, e.store.Bucket, key)
}

func (a *app) site() *cobra.Command {
	var from evidencePlace
	var out string
	c := &cobra.Command{
		Use:   "site --out DIR",
		Short: "Write a page of all recipes and their published images, with their reports",
		Long: `Write index.html, a page of all recipes: what is published where, how old it is, what
its checks said, which waivers end soon, and how the last execution ended. The reports
that it links to are written below executions/. The files need no server and nothing
from elsewhere.

The factory keeps the same page as site/index.html in its bucket and writes it after each
execution. Which factory is meant is said as for "report".`,
		Example: `  ami-factory site --out site
  ami-factory site --out site --bucket amifactory-bucket-1example`,
		Args: takes(),
		RunE: func(c *cobra.Command, _ []string) error {
			if out == "" {
				return usage("give --out, the folder to write to")
			}
			return a.withEvidence(c, from, func(ctx context.Context, of evidenceOf) error { return a.runSite(ctx, of, out) })
		},
	}
	from.register(c)
	c.Flags().StringVar(&out, "out", "", "`folder` to write to, which is made if it is missing")
	_ = c.MarkFlagDirname("out") // the flag exists
	return c
}

func (a *app) runSite(ctx context.Context, of evidenceOf, dir string) error {
	site, err := stage.ReadSite(ctx, of.store, of.keys, time.Now().UTC())
	if err != nil {
		return err
	}
	var page bytes.Buffer
	if err := site.WriteHTML(&page); err != nil {
		return err
	}
	missing := []string{}
	for _, name := range site.Executions() {
		raw, err := of.store.Read(ctx, contract.ExecutionKey(name, contract.PageObject))
		if errors.Is(err, store.ErrNone) {
			missing = append(missing, name)
			continue
		}
		if err == nil {
			err = writeBelow(dir, contract.ExecutionKey(name, contract.PageObject), raw)
		}
		if err != nil {
			return err
		}
	}
	if err := writeBelow(dir, "index.html", page.Bytes()); err != nil {
		return err
	}
	index := filepath.Join(dir, "index.html")
	for _, name := range missing {
		_, _ = fmt.Fprintf(a.err, "the report of %s has expired: its link leads nowhere\n", name)
	}
	if a.format == "json" {
		return a.json(map[string]any{"index": index, "recipes": len(site.Summaries), "missingReports": missing})
	}
	_, err = fmt.Fprintln(a.out, index)
	return err
}

// writeBelow writes a file below a folder, and nowhere else whatever the name is: names
// come from a bucket.
func writeBelow(dir, name string, content []byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	err = root.MkdirAll(filepath.Dir(filepath.FromSlash(name)), 0o755)
	if err == nil {
		err = root.WriteFile(filepath.FromSlash(name), content, 0o644)
	}
	return errors.Join(err, root.Close())
}
