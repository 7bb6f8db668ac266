package localcloud

import (
	"context"
	"net/http"
	"path/filepath"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/ecr"
	"github.com/ami-factory/ami-factory/pkg/localcloud/events"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

func (c *Cloud) newECR(caller wire.Caller) (*ecr.Service, error) {
	return ecr.New(ecr.Config{
		Clock: c.cfg.Clock, Default: caller, Dir: filepath.Join(c.store.dir, "ecr"), Secret: c.secret, Endpoint: c.URL, Logger: c.cfg.Logger,
		Known: func(accessKeyID string) bool {
			_, ok := c.STS.Key(accessKeyID)
			return ok
		},
		Permit: c.permitRegistry, Replicates: c.replicates, Events: c.ecrEvent,
		Key: func(account, region, ref string) (string, error) {
			k, err := c.KMS.Resolve(account, region, ref)
			return k.ARN, err
		},
	})
}

// serveRegistry serves a request to the OCI registry.
func (c *Cloud) serveRegistry(w http.ResponseWriter, r *http.Request) {
	if err := ecr.FromElsewhere(r); err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	// Virtual time stands still while a client is being served.
	defer clock.HoldFor(r.Context(), c.cfg.Clock)()
	c.ECR.ServeHTTP(w, r)
}

func (c *Cloud) ecrEvent(ctx context.Context, e ecr.Event) {
	c.emit(ctx, events.Event{Source: "aws.ecr", DetailType: e.DetailType, Account: e.Account, Region: e.Region, Time: e.Time, Resources: e.Resources, Detail: e.Detail})
}

// permitRegistry decides on a request to the registry as on the operation of the JSON
// API that it corresponds to.
func (c *Cloud) permitRegistry(ctx context.Context, who wire.Caller, operation string, input any) error {
	if err := c.before(ctx, who, "ecr", operation); err != nil {
		return err
	}
	return c.authz.Permit(ctx, who, "ecr", operation, input)
}

// replicates decides whether the registry of another account may do an action on a
// repository: the policy of the destination's registry must allow it.
func (c *Cloud) replicates(source wire.Caller, action, repositoryARN string) error {
	if !c.cfg.EnforceIAM {
		return nil
	}
	p := authz.Principal{Account: source.Account, ARN: source.ARN}
	if verdict := c.authz.Decide(source, p, authz.Request{Action: action, Resource: repositoryARN}); verdict != authz.Allowed {
		return wire.Errorf("AccessDeniedException", "%s is not authorized to perform: %s on resource: %s %s", source.ARN, action, repositoryARN, verdict.Because(action))
	}
	return nil
}
