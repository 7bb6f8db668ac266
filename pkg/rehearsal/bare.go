package rehearsal

import (
	"context"

	"github.com/ami-factory/ami-factory/pkg/contract"
)

// functionEnvironment is what a template cannot tell functions, since on AWS
// there is nothing to tell: what their guests are, and where those find S3.
func (f *Factory) functionEnvironment() map[string]string {
	if !f.opts.Bare {
		return nil
	}
	return map[string]string{contract.EnvGuests: f.Guests, contract.EnvGuestEndpoint: "http://" + guestHost}
}

// provide makes what a deployment finds on AWS: what `cdk bootstrap` made, the
// topics of base images' owners, and the keys and secrets that operators make.
func (f *Factory) provide(ctx context.Context) error {
	if err := f.Cloud.Bootstrap(ctx, "", ""); err != nil {
		return err
	}
	if err := f.provideTopics(ctx); err != nil {
		return err
	}
	if f.opts.Schedules {
		f.Cloud.Scheduler.Start()
	}
	if err := f.deployKeys(ctx); err != nil {
		return err
	}
	return f.deploySecrets(ctx)
}
