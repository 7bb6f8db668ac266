package cli

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/spf13/cobra"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/execution"
	"github.com/ami-factory/ami-factory/pkg/problem"
	"github.com/ami-factory/ami-factory/pkg/store"
	"github.com/ami-factory/ami-factory/pkg/trigger"
	"github.com/ami-factory/ami-factory/pkg/trigger/decide"
)

func (a *app) resume() *cobra.Command {
	var region, bucket string
	c := &cobra.Command{
		Use:   "resume RECIPE",
		Short: "Let nights and changed sources build a paused recipe again",
		Long: `Let nights and changed sources build a recipe again that was paused because it
failed three times in a row. Nothing is built now: the next night builds it, or
"ami-factory build", which also resumes the recipe if it succeeds. Whether the recipe
was paused is printed on stdout.`,
		Example: `  ami-factory resume debian-12-docker --bucket amifactory-bucket-1example`,
		Args:    takes("one RECIPE"),
		RunE: func(c *cobra.Command, given []string) error {
			return a.runResume(c.Context(), region, bucket, given[0])
		},
	}
	c.ValidArgsFunction = once(a.recipes)
	a.registerUserData(c)
	c.Flags().StringVar(&region, "region", "", "where the factory is deployed (default: that of the AWS configuration)")
	c.Flags().StringVar(&bucket, "bucket", "", "`name` of the factory's bucket, the stack's output BucketName (default: $"+contract.EnvBucket+")")
	return c
}

// mustBeKnown refuses a recipe that neither the user data here nor the factory's
// triggers know.
func (a *app) mustBeKnown(ctx context.Context, kept store.Store, name string) error {
	known, err := a.recipes(nil)
	if err != nil || slices.Contains(known, name) {
		return err
	}
	var record decide.Record
	if etag, err := kept.ReadJSON(ctx, contract.RecordKey(name), &record); err != nil || etag != "" {
		return err
	}
	near := ""
	if found := problem.Nearest(name, known); found != "" {
		near = fmt.Sprintf("; did you mean %q?", found)
	}
	return usage("unknown recipe %q%s: the triggers of this factory have never built it, and it is not among the recipes here (%s)", name, near, strings.Join(known, ", "))
}

func (a *app) runResume(ctx context.Context, region, bucket, recipe string) error {
	if err := execution.CheckInput(contract.ExecutionInput{Recipe: recipe}); err != nil {
		return &exitError{exitUsage, err}
	}
	if bucket == "" {
		bucket = os.Getenv(contract.EnvBucket)
	}
	if bucket == "" {
		return usage("the factory's bucket is not known: give --bucket or set %s", contract.EnvBucket)
	}
	cfg, err := awsConfig(ctx, region)
	if err != nil {
		return err
	}
	api := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = os.Getenv("AWS_ENDPOINT_URL") != "" })
	kept := store.Store{Bucket: bucket, API: api}
	was, err := trigger.Resume(ctx, kept, recipe)
	if err != nil {
		return err
	}
	if !was {
		if err := a.mustBeKnown(ctx, kept, recipe); err != nil {
			return err
		}
	}
	if a.format == "json" {
		return a.json(map[string]any{"recipe": recipe, "wasPaused": was})
	}
	text := "recipe %s is resumed\n"
	if !was {
		text = "recipe %s was not paused\n"
	}
	_, err = fmt.Fprintf(a.out, text, recipe)
	return err
}
