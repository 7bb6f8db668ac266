package localcloud

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/localcloud/iam"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/sts"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// Decision is what was decided on a request of a role's session.
type Decision struct {
	RoleARN string
	Request iam.Request
	Verdict iam.Verdict
}

// grantedKey marks the calls of guests that their grants have let in.
type grantedKey struct{}

// permit holds the sessions of roles to their policies. Others are of this
// machine, and may do all.
func (c *Cloud) permit(ctx context.Context, who wire.Caller, service, operation string, input any) error {
	if !c.cfg.EnforceIAM || !strings.HasPrefix(who.AccessKeyID, sts.TemporaryPrefix) || ctx.Value(grantedKey{}) != nil {
		return nil
	}
	session, ok := c.STS.Session(who.AccessKeyID)
	switch {
	case !ok:
		return invalidToken(service)
	case !c.cfg.Clock.Now().Before(session.Expires):
		return expiredToken(service)
	}
	return c.permitRole(ctx, who, principal{session.ARN(), session.RoleARN}, service, operation, input)
}

// permitMachine is permit for what a state machine calls with its role, which is
// the caller of ctx.
func (c *Cloud) permitMachine(ctx context.Context, service, operation string, input any) error {
	if !c.cfg.EnforceIAM {
		return nil
	}
	who := scope.Caller(ctx, wire.Caller{Account: c.cfg.Account, Region: c.cfg.Region})
	session := sts.Session{Account: who.Account, RoleARN: who.ARN, SessionName: "states"}
	return c.permitRole(ctx, who, principal{session.ARN(), who.ARN}, service, operation, input)
}

// principal is a session of a role.
type principal struct{ arn, roleARN string }

func (c *Cloud) permitRole(ctx context.Context, who wire.Caller, p principal, service, operation string, input any) error {
	rule, known := c.rules[service+":"+operation]
	if !known {
		return denial(service, fmt.Sprintf("User: %s is not authorized to perform: %s:%s: the embedded AWS does not know what permissions it takes, so roles may not call it",
			p.arn, service, operation))
	}
	requests, err := rule(asker{c: c, ctx: ctx, who: who}, input)
	if err != nil {
		return denial(service, fmt.Sprintf("User: %s is not authorized to perform: %s:%s: %v", p.arn, service, operation, err))
	}
	for _, r := range requests {
		r.Context = withCaller(r.Context, who, p)
		verdict := c.IAM.Evaluate(p.roleARN, r)
		if c.cfg.Decisions != nil {
			c.cfg.Decisions(Decision{RoleARN: p.roleARN, Request: r, Verdict: verdict})
		}
		if verdict != iam.Allowed {
			return denial(service, fmt.Sprintf("User: %s is not authorized to perform: %s on resource: %s %s", p.arn, r.Action, r.Resource, verdict.Because(r.Action)))
		}
	}
	return nil
}

// withCaller adds the keys that every request has.
func withCaller(pairs map[string][]string, who wire.Caller, p principal) map[string][]string {
	all := iam.Context(map[string][]string{
		"aws:PrincipalAccount": {who.Account}, "aws:PrincipalArn": {p.roleARN}, "aws:RequestedRegion": {who.Region},
	})
	maps.Copy(all, pairs)
	return all
}

// denial is an error as the service words it.
func denial(service, message string) error {
	switch service {
	case "ec2":
		return wire.Errorf("UnauthorizedOperation", "You are not authorized to perform this operation. %s", message)
	case "sns":
		return wire.Errorf("AuthorizationError", "%s", message)
	case "s3", "sts", "cloudformation":
		return wire.Errorf("AccessDenied", "%s", message)
	}
	return wire.Errorf("AccessDeniedException", "%s", message)
}

func invalidToken(service string) error {
	switch service {
	case "ec2":
		return wire.Errorf("AuthFailure", "AWS was not able to validate the provided access credentials")
	case "s3":
		return wire.Errorf("InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.")
	case "sns", "sts", "cloudformation":
		return wire.Errorf("InvalidClientTokenId", "The security token included in the request is invalid.")
	}
	return wire.Errorf("UnrecognizedClientException", "The security token included in the request is invalid.")
}

func expiredToken(service string) error {
	switch service {
	case "ec2":
		return wire.Errorf("RequestExpired", "Request has expired.")
	case "s3", "sns", "sts", "cloudformation":
		return wire.Errorf("ExpiredToken", "The security token included in the request is expired")
	}
	return wire.Errorf("ExpiredTokenException", "The security token included in the request is expired")
}

// machineInvoker calls functions with a state machine's role.
type machineInvoker struct{ c *Cloud }

// Invoke implements states.Invoker.
func (i machineInvoker) Invoke(ctx context.Context, functionARN string, payload []byte) (out []byte, functionError string, err error) {
	if err := i.c.permitMachine(ctx, "lambda", "Invoke", functionARN); err != nil {
		return nil, "", err
	}
	return i.c.Lambda.Invoker().Invoke(ctx, functionARN, payload)
}
