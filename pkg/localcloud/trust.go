package localcloud

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdksts "github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/ami-factory/ami-factory/pkg/localcloud/iam"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// The services that assume roles, beside EventBridge and its Scheduler.
const (
	lambdaPrincipal = "lambda.amazonaws.com"
	statesPrincipal = "states.amazonaws.com"
)

// chained is how long a session may last, in seconds, that another role's session
// asks for (https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html).
const chained = 3600

// admit holds whoever assumes a role to the role's trust policy: programs of this
// machine, which act as the root of their account, as much as sessions and services.
func (c *Cloud) admit(_ context.Context, who wire.Caller, in *sdksts.AssumeRoleInput) error {
	if !c.cfg.EnforceIAM {
		return nil
	}
	longest, err := c.mayAssume(who, aws.ToString(in.RoleArn), map[string][]string{
		"sts:RoleSessionName": {aws.ToString(in.RoleSessionName)}, "sts:ExternalId": given(in.ExternalId),
	})
	if err != nil {
		return err
	}
	seconds := aws.ToInt32(in.DurationSeconds)
	switch p := c.principalOf(who); {
	case p.Service != "": // which choose for themselves
	case p.RoleARN != "" && seconds > chained:
		return wire.Errorf("ValidationError", "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.")
	case seconds > longest:
		return wire.Errorf("ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	}
	return nil
}

// given is a key's value; nil: the key is not there.
func given(value *string) []string {
	if value == nil {
		return nil
	}
	return []string{*value}
}

// mayAssume says why a caller may not assume a role, in AWS's words, or for how
// many seconds he may.
func (c *Cloud) mayAssume(who wire.Caller, roleARN string, pairs map[string][]string) (longest int32, err error) {
	for key, values := range pairs {
		if values == nil {
			delete(pairs, key)
		}
	}
	p := c.principalOf(who)
	trust, longest, ok := c.IAM.Trust(roleARN)
	request := iam.Request{Action: "sts:AssumeRole", Resource: roleARN, Context: iam.Context(pairs)}
	// Of a role that is not there nobody is told more than that he may not.
	if !ok || c.decide(who, p, request, &trust) != iam.Allowed {
		return 0, wire.Errorf("AccessDenied", "User: %s is not authorized to perform: sts:AssumeRole on resource: %s", p.Name(), roleARN)
	}
	return longest, nil
}

// assumable is what a service asks before it takes a role: whether the role's
// trust policy lets it in.
func (c *Cloud) assumable(service string) func(account, sourceARN, roleARN string) error {
	return func(account, sourceARN, roleARN string) error {
		if !c.cfg.EnforceIAM {
			return nil
		}
		_, err := c.mayAssume(wire.Caller{Account: account, Region: c.cfg.Region, ARN: service, Source: sourceARN}, roleARN, nil)
		return err
	}
}

// sessionOf is a context for calls in a session of a role that a service assumes
// for one of its resources.
func (c *Cloud) sessionOf(ctx context.Context, service wire.Caller, roleARN, session string) (context.Context, error) {
	out, err := c.STS.AssumeRole(wire.WithCaller(ctx, service), &sdksts.AssumeRoleInput{RoleArn: aws.String(roleARN), RoleSessionName: aws.String(session)})
	if err != nil {
		return nil, fmt.Errorf("%s assumes %s: %w", service.ARN, roleARN, err)
	}
	id := aws.ToString(out.Credentials.AccessKeyId)
	known, _ := c.STS.Session(id)
	return wire.WithCaller(ctx, wire.Caller{Account: known.Account, Region: service.Region, AccessKeyID: id, ARN: known.ARN()}), nil
}
