package authz

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// Roles provides the policies of roles, from IAM.
type Roles interface {
	// Decide evaluates the policies of the principal's role.
	Decide(who Principal, r Request, on *ResourcePolicy) Verdict
	// Trust returns a role's trust policy and the longest duration of its sessions,
	// in seconds.
	Trust(roleARN string) (trust ResourcePolicy, longest int32, ok bool)
}

// Sessions provides the sessions of temporary access keys, from STS.
type Sessions interface {
	// Principal returns the session of a key and the caller that assumed its role.
	Principal(accessKeyID string) (session Principal, assumedBy string, ok bool)
}

// Decision is the result for one request of a role's session or of a service.
type Decision struct {
	RoleARN string // empty for a request of a service
	Request Request
	Verdict Verdict
}

// Config configures an Authorizer. Roles, Sessions, Default and Logger are required.
type Config struct {
	// Enforce turns on the evaluation of policies: of the role and of the resource for
	// the sessions of roles, of the resource for services, and of the trust policy for
	// AssumeRole. If it is false, only guests are restricted.
	Enforce  bool
	Roles    Roles
	Sessions Sessions
	Default  wire.Caller // the caller if the context names none
	// Organizations returns the ARNs of the organisation and organisational units of
	// an account. Nil means that accounts are in none.
	Organizations func(account string) []string
	Decisions     func(Decision) // receives each decision; may be nil
	Logger        *slog.Logger
}

// Authorizer decides whether calls are allowed.
type Authorizer struct {
	cfg      Config
	services map[string]Permissions // by signing name
}

// New returns an Authorizer for calls to services.
func New(cfg Config, services ...Permissions) *Authorizer {
	a := &Authorizer{cfg: cfg, services: map[string]Permissions{}}
	for _, s := range services {
		a.services[s.Service] = s
	}
	return a
}

// grantedKey marks the contexts of calls that have been allowed already.
type grantedKey struct{}

// WithGrant returns a context for a call that has been allowed already: Permit does
// not evaluate it again.
func WithGrant(ctx context.Context) context.Context {
	return context.WithValue(ctx, grantedKey{}, true)
}

// Permit returns an error if the policies do not allow a call. It evaluates the calls
// of roles' sessions and of services. Other callers are programs on this machine and
// may do everything. The error has the code that the called service uses.
func (a *Authorizer) Permit(ctx context.Context, who wire.Caller, service, operation string, input any) error {
	session, assumedBy, isSession := a.cfg.Sessions.Principal(who.AccessKeyID)
	switch {
	case ctx.Value(grantedKey{}) != nil:
		return nil
	case isSession && IsEC2(assumedBy): // a guest, which is always restricted to its role
	case !a.cfg.Enforce, !isSession && !IsService(who.ARN):
		return nil
	}
	if !isSession {
		session = a.principalOf(who)
	}
	return a.permit(ctx, who, session, service, operation, input)
}

// PermitAnyone is Permit for a call that is not signed, such as to a function URL with
// AuthType NONE. The policy of the resource must allow everybody, even if policies are
// not enforced otherwise.
func (a *Authorizer) PermitAnyone(ctx context.Context, region, service, operation string, input any) error {
	return a.permit(ctx, wire.Caller{Region: region}, Principal{ARN: "anonymous"}, service, operation, input)
}

// PermitRole is Permit for a call that a service makes with a role, such as the role
// of a state machine. The role is the caller of ctx, and its trust policy must allow
// the service to assume it.
func (a *Authorizer) PermitRole(ctx context.Context, principal, service, operation string, input any) error {
	if !a.cfg.Enforce {
		return nil
	}
	who := scope.Caller(ctx, a.cfg.Default)
	if _, err := a.mayAssume(wire.Caller{Account: who.Account, Region: who.Region, ARN: principal, Source: who.Source}, who.ARN, nil); err != nil {
		return err
	}
	name, _, _ := strings.Cut(principal, ".")
	return a.permit(ctx, who, RoleSession(who.ARN, name), service, operation, input)
}

func (a *Authorizer) permit(ctx context.Context, who wire.Caller, p Principal, service, operation string, input any) error {
	of := a.services[service]
	rule, known := of.Rules[operation]
	if !known {
		return of.denied("User: %s is not authorized to perform: %s:%s: the embedded AWS does not know what permissions it takes, so roles may not call it", p.Name(), service, operation)
	}
	requests, err := rule(Call{Context: wire.WithCaller(ctx, who), Caller: who}, input)
	if err != nil {
		return of.denied("User: %s is not authorized to perform: %s:%s: %v", p.Name(), service, operation, err)
	}
	for _, r := range requests {
		if verdict := a.Decide(who, p, r); verdict != Allowed {
			return of.denied("User: %s is not authorized to perform: %s on resource: %s %s", p.Name(), r.Action, r.Resource, verdict.Because(r.Action))
		}
	}
	return nil
}

func (p Permissions) denied(format string, args ...any) error {
	message := fmt.Sprintf(format, args...)
	if p.Denied != nil {
		return p.Denied(message)
	}
	return wire.Errorf("AccessDeniedException", "%s", message)
}

// AccessDenied is the Permissions.Denied of services that use the error code AccessDenied.
func AccessDenied(message string) error { return wire.Errorf("AccessDenied", "%s", message) }

// IsService reports whether a caller is a service of AWS. Every caller over HTTP has
// an ARN; services have none.
func IsService(name string) bool { return name != "" && !strings.HasPrefix(name, "arn:") }

// IsEC2 reports whether a caller is EC2, which assumes the roles of instances. The name
// of its principal depends on the partition.
func IsEC2(name string) bool { return IsService(name) && strings.HasPrefix(name, "ec2.") }

// principalOf returns the IAM principal of a caller.
func (a *Authorizer) principalOf(who wire.Caller) Principal {
	if IsService(who.ARN) {
		return Principal{Account: who.Account, Service: who.ARN}
	}
	if session, _, ok := a.cfg.Sessions.Principal(who.AccessKeyID); ok {
		return session
	}
	if who.ARN == "" {
		who.ARN = partition.OrDefault(who.Region).ARN("iam", "", who.Account, "root")
	}
	return Principal{Account: who.Account, ARN: who.ARN}
}

// Decide adds the condition keys of the caller to a request and evaluates it with the
// policy of the resource.
func (a *Authorizer) Decide(who wire.Caller, p Principal, r Request) Verdict {
	return a.decide(who, p, r, a.policyOn(p, r.Resource))
}

func (a *Authorizer) decide(who wire.Caller, p Principal, r Request, on *ResourcePolicy) Verdict {
	r.Context = a.withCaller(r.Context, who, p)
	verdict := a.cfg.Roles.Decide(p, r, on)
	if a.cfg.Decisions != nil {
		a.cfg.Decisions(Decision{RoleARN: p.RoleARN, Request: r, Verdict: verdict})
	}
	return verdict
}

// withCaller adds the condition keys that every request has, and those of services.
//
// aws:SecureTransport is always true, although requests arrive here by plain HTTP.
// The key tells whether a third party on the network could read or change the request.
// Here the network is the loopback of one machine, or the bridge to its own guests, and
// TLS would not add protection. If the key were false, the statement against plain HTTP
// that every bucket, topic and queue of a deployment has would deny each call of a
// rehearsal. It would prove nothing about calls on AWS, which the SDKs make by HTTPS.
func (a *Authorizer) withCaller(pairs map[string][]string, who wire.Caller, p Principal) map[string][]string {
	keys := map[string][]string{"aws:RequestedRegion": {who.Region}, "aws:SecureTransport": {"true"}}
	if p.Service != "" {
		keys["aws:PrincipalServiceName"] = []string{p.Service}
		keys["aws:SourceAccount"] = []string{who.Account}
		if who.Source != "" {
			keys["aws:SourceArn"] = []string{who.Source}
			if account := AccountOf(who.Source); account != "" {
				keys["aws:SourceAccount"] = []string{account}
			}
		}
	} else if p.Account != "" { // one that is not anonymous
		keys["aws:PrincipalAccount"], keys["aws:PrincipalArn"] = []string{p.Account}, []string{p.RoleARN}
		if p.RoleARN == "" {
			keys["aws:PrincipalArn"] = []string{p.ARN}
		}
		if id := a.Organization(p.Account); id != "" {
			keys["aws:PrincipalOrgID"] = []string{id}
		}
	}
	all := Context(keys)
	maps.Copy(all, pairs)
	return all
}

// Organization returns the id of an account's organisation, such as o-exampleorgid, or
// an empty string if the account is in none.
func (a *Authorizer) Organization(account string) string {
	if a.cfg.Organizations == nil {
		return ""
	}
	for _, arn := range a.cfg.Organizations(account) {
		if _, id, ok := strings.Cut(arn, ":organization/"); ok {
			return id
		}
	}
	return ""
}
