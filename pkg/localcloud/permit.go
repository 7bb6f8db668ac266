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

// Decision is what was decided on a request of a role's session, or of a service.
type Decision struct {
	RoleARN string // empty: of a service
	Request iam.Request
	Verdict iam.Verdict
}

// grantedKey marks the calls of guests that their roles have let in.
type grantedKey struct{}

// permit holds the sessions of roles to their policies, and services to those of
// the resources that they call. Others are of this machine, and may do all.
func (c *Cloud) permit(ctx context.Context, who wire.Caller, service, operation string, input any) error {
	session, isSession := c.STS.Session(who.AccessKeyID)
	switch {
	case ctx.Value(grantedKey{}) != nil:
		return nil
	case session.SourceARN == ec2Principal: // a guest, which is held to its role always
	case !c.cfg.EnforceIAM, !isSession && !isService(who.ARN):
		return nil
	}
	return c.permitPrincipal(ctx, who, c.principalOf(who), service, operation, input)
}

// isService says whether a caller is a service of AWS: nobody can call under
// such a name over HTTP.
func isService(arn string) bool { return strings.HasSuffix(arn, ".amazonaws.com") }

// principalOf is who a caller is to IAM.
func (c *Cloud) principalOf(who wire.Caller) iam.Principal {
	if isService(who.ARN) {
		return iam.Principal{Account: who.Account, Service: who.ARN}
	}
	if session, ok := c.STS.Session(who.AccessKeyID); ok {
		return iam.Principal{Account: session.Account, ARN: session.ARN(), RoleARN: session.RoleARN}
	}
	if who.ARN == "" {
		who.ARN = "arn:aws:iam::" + who.Account + ":root"
	}
	return iam.Principal{Account: who.Account, ARN: who.ARN}
}

// permitMachine is permit for what a state machine calls with its role, which is
// the caller of ctx.
func (c *Cloud) permitMachine(ctx context.Context, service, operation string, input any) error {
	if !c.cfg.EnforceIAM {
		return nil
	}
	who := scope.Caller(ctx, wire.Caller{Account: c.cfg.Account, Region: c.cfg.Region})
	states := wire.Caller{Account: who.Account, Region: who.Region, ARN: statesPrincipal, Source: who.Source}
	if _, err := c.mayAssume(states, who.ARN, nil); err != nil {
		return err
	}
	session := sts.Session{Account: who.Account, RoleARN: who.ARN, SessionName: "states"}
	return c.permitPrincipal(ctx, who, iam.Principal{Account: who.Account, ARN: session.ARN(), RoleARN: who.ARN}, service, operation, input)
}

func (c *Cloud) permitPrincipal(ctx context.Context, who wire.Caller, p iam.Principal, service, operation string, input any) error {
	rule, known := c.rules[service+":"+operation]
	if !known {
		return denial(service, fmt.Sprintf("User: %s is not authorized to perform: %s:%s: the embedded AWS does not know what permissions it takes, so roles may not call it",
			p.Name(), service, operation))
	}
	requests, err := rule(asker{c: c, ctx: ctx, who: who}, input)
	if err != nil {
		return denial(service, fmt.Sprintf("User: %s is not authorized to perform: %s:%s: %v", p.Name(), service, operation, err))
	}
	for _, r := range requests {
		if verdict := c.decide(who, p, r, c.policyOn(p, r.Resource)); verdict != iam.Allowed {
			return denial(service, fmt.Sprintf("User: %s is not authorized to perform: %s on resource: %s %s", p.Name(), r.Action, r.Resource, verdict.Because(r.Action)))
		}
	}
	return nil
}

// decide completes a request with what is known of its caller, and decides.
func (c *Cloud) decide(who wire.Caller, p iam.Principal, r iam.Request, on *iam.ResourcePolicy) iam.Verdict {
	r.Context = c.withCaller(r.Context, who, p)
	verdict := c.IAM.Decide(p, r, on)
	if c.cfg.Decisions != nil {
		c.cfg.Decisions(Decision{RoleARN: p.RoleARN, Request: r, Verdict: verdict})
	}
	return verdict
}

// withCaller adds the keys that every request has, and those of services.
//
// aws:SecureTransport is always true, though what arrives here is plain HTTP. The
// key asks whether anybody on the way could read or change the request. On AWS
// the way is a network; here it is the loopback of one machine, or the network
// between it and its own guests, and TLS would add nothing that the kernel does
// not give. With the key false, the statement that every bucket, topic and queue
// of a deployment has against plain HTTP would deny each call of a rehearsal, and
// tell nothing about calls on AWS, which the SDKs make by HTTPS.
func (c *Cloud) withCaller(pairs map[string][]string, who wire.Caller, p iam.Principal) map[string][]string {
	keys := map[string][]string{"aws:RequestedRegion": {who.Region}, "aws:SecureTransport": {"true"}}
	if p.Service != "" {
		keys["aws:PrincipalServiceName"] = []string{p.Service}
		keys["aws:SourceAccount"] = []string{who.Account}
		if who.Source != "" {
			keys["aws:SourceArn"] = []string{who.Source}
			if account := strings.Split(who.Source+":::::", ":")[4]; account != "" {
				keys["aws:SourceAccount"] = []string{account}
			}
		}
	} else {
		keys["aws:PrincipalAccount"], keys["aws:PrincipalArn"] = []string{p.Account}, []string{p.RoleARN}
		if p.RoleARN == "" {
			keys["aws:PrincipalArn"] = []string{p.ARN}
		}
		if id := c.organization(p.Account); id != "" {
			keys["aws:PrincipalOrgID"] = []string{id}
		}
	}
	all := iam.Context(keys)
	maps.Copy(all, pairs)
	return all
}

// organization is the id of the organisation that an account is in, such as
// o-exampleorgid; empty: in none.
func (c *Cloud) organization(account string) string {
	if c.cfg.Organizations == nil {
		return ""
	}
	for _, arn := range c.cfg.Organizations(account) {
		if _, id, ok := strings.Cut(arn, ":organization/"); ok {
			return id
		}
	}
	return ""
}

// denial is an error as the service words it.
func denial(service, message string) error {
	switch service {
	case "ec2":
		return wire.Errorf("UnauthorizedOperation", "You are not authorized to perform this operation. %s", message)
	case "sns":
		return wire.Errorf("AuthorizationError", "%s", message)
	case "cloudformation", "iam", "s3", "sqs", "sts":
		return wire.Errorf("AccessDenied", "%s", message)
	}
	return wire.Errorf("AccessDeniedException", "%s", message)
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
