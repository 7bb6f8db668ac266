package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/spf13/cobra"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/rehearsal"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// pinned is a feed as "feeds pin" prints it in JSON.
type pinned struct {
	File      string `json:"file"`
	Kind      string `json:"kind"`
	SHA256    string `json:"sha256"`
	Published string `json:"published"`
	Records   int    `json:"records"`
	Uploaded  string `json:"uploaded,omitempty"` // where
}

func (a *app) feeds() *cobra.Command {
	return group(&cobra.Command{
		Use:   "feeds",
		Short: "Pin feeds of vulnerabilities in recipes",
		Long: `Pin feeds of vulnerabilities in recipes, at gate.vulnerabilities.feeds: Debian's security
tracker, OSV, updateinfo.xml of Amazon Linux 2023, CISA's catalogue of exploited
vulnerabilities.`,
		Example: "  ami-factory feeds pin tracker.json.gz",
	}, a.feedsPin())
}

func (a *app) feedsPin() *cobra.Command {
	var published, bucket, region string
	c := &cobra.Command{
		Use:   "pin FILE...",
		Short: "Check files of feeds, and print what a recipe must say of them",
		Long: `Check files of feeds, and print on stdout what a recipe must say of them: kind, SHA-256
and time of publication, as YAML to paste. All of a file is read: one that the gate could
not read is refused.

A feed that does not say when it was published gets the time at which the file was last
modified, unless --published is given. With --upload the files are put into the bucket of
a deployed factory, below their digests. "bake --feed FILE" needs no upload.`,
		Example: `  ami-factory feeds pin tracker.json.gz known_exploited_vulnerabilities.json
  ami-factory feeds pin all.zip --published 2026-11-30T06:00:00Z --upload amifactory-bucket-1example`,
		Args: func(c *cobra.Command, files []string) error {
			if len(files) > 0 {
				return nil
			}
			return usage("%s takes one FILE or more, and none was given\nUsage: %s\nSee '%s --help'", c.CommandPath(), c.UseLine(), c.CommandPath())
		},
		RunE: func(c *cobra.Command, files []string) error {
			return a.pinFeeds(c.Context(), files, published, bucket, region)
		},
	}
	c.Flags().StringVar(&published, "published", "", "when files that do not say so were published, such as 2026-11-30T06:00:00Z (default: when they were modified)")
	c.Flags().StringVar(&bucket, "upload", "", "`name` of the bucket of a deployed factory to put the files into")
	c.Flags().StringVar(&region, "region", "", "where the factory is deployed (default: that of the AWS configuration)")
	return c
}

func (a *app) pinFeeds(ctx context.Context, files []string, published, bucket, region string) error {
	now := time.Now()
	var given time.Time
	if published != "" {
		var err error
		if given, err = time.Parse(time.RFC3339, published); err != nil {
			return usage("--published is %q (allowed: a time such as 2026-11-30T06:00:00Z)", published)
		}
		if given.After(now) {
			return usage("--published is %s, which is in the future", published)
		}
	}
	out := []pinned{}
	for _, file := range files {
		d, modified, err := rehearsal.DescribeFeed(file)
		if err != nil {
			return err
		}
		at := modified
		switch {
		case !d.Published.IsZero():
			at = d.Published
		case !given.IsZero():
			at = given
		}
		out = append(out, pinned{File: file, Kind: d.Kind, SHA256: d.SHA256, Published: at.UTC().Truncate(time.Second).Format(time.RFC3339), Records: d.Records})
	}
	if bucket != "" {
		if err := upload(ctx, out, bucket, region); err != nil {
			return err
		}
	}
	if a.format == "json" {
		return a.json(out)
	}
	var b strings.Builder
	b.WriteString("gate:\n  vulnerabilities:\n    severity: high\n    feeds:\n")
	for _, p := range out {
		fmt.Fprintf(&b, "      - kind: %s # %s, %d records\n        sha256: %s\n        published: '%s'\n", p.Kind, p.File, p.Records, p.SHA256, p.Published)
	}
	_, err := fmt.Fprint(a.out, b.String())
	return err
}

// upload puts files where the gate of a deployed factory reads them.
func upload(ctx context.Context, list []pinned, bucket, region string) error {
	cfg, err := awsConfig(ctx, region)
	if err != nil {
		return err
	}
	api := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = os.Getenv("AWS_ENDPOINT_URL") != "" })
	for i := range list {
		raw, err := os.ReadFile(list[i].File)
		if err != nil {
			return err
		}
		if store.Digest(raw) != list[i].SHA256 {
			return fmt.Errorf("%s changed while it was read", list[i].File)
		}
		key := contract.FeedKey(list[i].SHA256)
		if _, err := api.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(raw)}); err != nil {
			return fmt.Errorf("put %s into the factory's bucket: %w", list[i].File, err)
		}
		list[i].Uploaded = "s3://" + bucket + "/" + key
	}
	return nil
}
