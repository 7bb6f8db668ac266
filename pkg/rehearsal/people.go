package rehearsal

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/ami-factory/ami-factory/pkg/approval"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/execution"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// Requester is the person who starts the executions of a rehearsal, unless Options name
// another.
const Requester = "rehearsal"

// lookForRequests is how often Bake looks whether people are asked.
const lookForRequests = 2 * time.Second

// As is a client of the function URL of approvals in the session of a person.
func (f *Factory) As(ctx context.Context, person string) (approval.Client, error) {
	cfg := f.Cloud.AWSConfigInProcess("", "")
	out, err := sts.NewFromConfig(cfg).AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: &f.Approver, RoleSessionName: &person})
	if err != nil {
		return approval.Client{}, fmt.Errorf("a session for %s: %w", person, err)
	}
	k := out.Credentials
	cfg.Credentials = credentials.NewStaticCredentialsProvider(aws.ToString(k.AccessKeyId), aws.ToString(k.SecretAccessKey), aws.ToString(k.SessionToken))
	client, ok := cfg.HTTPClient.(interface {
		Do(*http.Request) (*http.Response, error)
	})
	if !ok {
		return approval.Client{}, fmt.Errorf("there is no client of HTTP for %s", person)
	}
	return approval.Client{URL: f.ApprovalURL, AWS: cfg, HTTP: client}, nil
}

// start starts an execution: through the function URL of approvals where people must
// approve the release, because it must be known then who asked for it.
func (f *Factory) start(ctx context.Context, in contract.ExecutionInput) (arn string, err error) {
	name := execution.NameByHand(in.Recipe, f.opts.Clock.Now())
	r, _, err := recipe.Load(f.opts.userData(), in.Recipe, recipe.Options{Now: f.opts.Clock.Now()})
	if err != nil || !r.Approval.MayAsk() { // an unknown recipe ends the execution
		return execution.Start(ctx, f.Cloud.States, f.StateMachine, name, in)
	}
	requester := f.opts.Requester
	if requester == "" {
		requester = Requester
	}
	person, err := f.As(ctx, requester)
	if err != nil {
		return "", err
	}
	out, err := person.Build(ctx, approval.BuildRequest{ExecutionInput: in, Name: name})
	return out.ExecutionARN, err
}

// whenAsked plays the people who are asked to approve the release of an execution,
// until ctx ends.
func (f *Factory) whenAsked(ctx context.Context, name string) {
	desk := approval.Desk{Store: f.bucket(), Keys: store.Directory{Bucket: f.Bucket, API: f.Cloud.S3}}
	f.opts.Clock.Go(func() {
		for f.opts.Clock.Sleep(ctx, lookForRequests) == nil {
			all, err := desk.All(ctx)
			if err != nil {
				continue // it looks again
			}
			if i := slices.IndexFunc(all, func(r approval.Request) bool { return r.Execution == name }); i >= 0 {
				f.opts.Asked(ctx, f, all[i])
				return
			}
		}
	})
}
