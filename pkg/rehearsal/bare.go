package rehearsal

import (
	"context"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"

	"github.com/ami-factory/ami-factory/pkg/lambdaentry"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/workflow"
)

// functionEnvironment is what a template cannot tell functions, since on AWS
// there is nothing to tell: what their guests are, and where those find S3.
func (f *Factory) functionEnvironment() map[string]string {
	if !f.opts.Bare {
		return nil
	}
	return map[string]string{lambdaentry.EnvGuests: f.Guests, lambdaentry.EnvGuestEndpoint: "http://" + guestHost}
}

// provide makes what a deployment finds on AWS: what `cdk bootstrap` made, the
// topics of base images' owners, and the keys and secrets that operators make.
func (f *Factory) provide(ctx context.Context) error {
	if err := f.Cloud.Bootstrap(ctx, "", ""); err != nil {
		return err
	}
	for _, arn := range workflow.AnnouncementTopics() {
		parts := strings.Split(arn, ":")
		owner := wire.WithCaller(ctx, wire.Caller{Account: parts[4], Region: parts[3]})
		if _, err := f.Cloud.SNS.CreateTopic(owner, &sns.CreateTopicInput{Name: aws.String(parts[5])}); err != nil {
			return fmt.Errorf("topic %s: %w", arn, err)
		}
	}
	if err := f.deployKeys(ctx); err != nil {
		return err
	}
	return f.deploySecrets(ctx)
}
