package authz

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdksts "github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// longestChained is the longest duration, in seconds, of a session that is requested by
// a session of another role
// (https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html).
const longestChained = 3600

// AdmitSession returns an error if the trust policy of a role does not allow the caller
// to assume it. Callers are sessions, services, and programs on this machine, which act
// as the root of their account.
func (a *Authorizer) AdmitSession(_ context.Context, who wire.Caller, in *sdksts.AssumeRoleInput) error {
	if !a.cfg.Enforce {
		return nil
	}
	pairs := map[string][]string{"sts:RoleSessionName": {aws.ToString(in.RoleSessionName)}}
	if in.ExternalId != nil {
		pairs["sts:ExternalId"] = []string{*in.ExternalId}
	}
	longest, err := a.mayAssume(who, aws.ToString(in.RoleArn), pairs)
	if err != nil {
		return err
	}
	seconds := aws.ToInt32(in.DurationSeconds)
	switch p := a.principalOf(who); {
	case p.Service != "": // services choose the duration themselves
	case p.RoleARN != "" && seconds > longestChained:
		return wire.Errorf("ValidationError", "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.")
	case seconds > longest:
		return wire.Errorf("ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	}
	return nil
}

// mayAssume returns the longest duration of a caller's session of a role, in seconds, or
// AWS's error if the caller may not assume the role.
func (a *Authorizer) mayAssume(who wire.Caller, roleARN string, pairs map[string][]string) (longest int32, err error) {
	p := a.principalOf(who)
	trust, longest, ok := a.cfg.Roles.Trust(roleARN)
	request := Request{Action: "sts:AssumeRole", Resource: roleARN, Context: Context(pairs)}
	// A missing role also answers AccessDenied.
	if !ok || a.decide(who, p, request, &trust) != Allowed {
		return 0, wire.Errorf("AccessDenied", "User: %s is not authorized to perform: sts:AssumeRole on resource: %s", p.Name(), roleARN)
	}
	return longest, nil
}

// Assumable reports whether the trust policy of a role allows a service to assume it on
// behalf of a resource of an account. A service asks this before it stores a role.
func (a *Authorizer) Assumable(service string) func(account, sourceARN, roleARN string) error {
	return func(account, sourceARN, roleARN string) error {
		if !a.cfg.Enforce {
			return nil
		}
		_, err := a.mayAssume(wire.Caller{Account: account, Region: a.cfg.Default.Region, ARN: service, Source: sourceARN}, roleARN, nil)
		return err
	}
}
