package localcloud

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	sdksts "github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
	"github.com/ami-factory/ami-factory/pkg/localcloud/states"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

func (c *Cloud) newAuthorizer(caller wire.Caller) *authz.Authorizer {
	return authz.New(authz.Config{
		Enforce: c.cfg.EnforceIAM, Roles: c.IAM, Sessions: c.STS, Default: caller, Organizations: c.cfg.Organizations, Decisions: c.cfg.Decisions, Logger: c.cfg.Logger,
	},
		c.IAM.Permissions(), c.EC2.Permissions(), c.EBS.Permissions(), c.SSM.Permissions(), c.STS.Permissions(), c.S3.Permissions(), c.KMS.Permissions(), c.Secrets.Permissions(),
		c.SNS.Permissions(), c.SQS.Permissions(), c.Events.Permissions(), c.Scheduler.Permissions(), c.Lambda.Permissions(), c.States.Permissions(),
		c.Quotas.Permissions(), c.Inspector.Permissions(), c.SecurityHub.Permissions(), c.AutoScaling.Permissions(), c.ECR.Permissions(), c.CloudFormation.Permissions(),
	)
}

// admitSession and assumable ask the authorizer, which is made after the services
// that ask it.
func (c *Cloud) admitSession(ctx context.Context, who wire.Caller, in *sdksts.AssumeRoleInput) error {
	return c.authz.AdmitSession(ctx, who, in)
}

func (c *Cloud) assumable(service string) func(account, sourceARN, roleARN string) error {
	return func(account, sourceARN, roleARN string) error {
		return c.authz.Assumable(service)(account, sourceARN, roleARN)
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

// instanceTags are the tags of an instance that the caller of ctx sees.
func (c *Cloud) instanceTags(ctx context.Context, instanceID string) map[string]string {
	out, err := c.EC2.DescribeTags(ctx, &sdkec2.DescribeTagsInput{
		Filters: []ec2types.Filter{{Name: aws.String("resource-id"), Values: []string{instanceID}}},
	})
	if err != nil {
		return nil // then no permission that depends on a tag applies
	}
	tags := map[string]string{}
	for _, t := range out.Tags {
		tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return tags
}

// machineInvoker calls functions with a state machine's role.
type machineInvoker struct{ c *Cloud }

// Invoke implements states.Invoker.
func (i machineInvoker) Invoke(ctx context.Context, functionARN string, payload []byte) (out []byte, functionError string, err error) {
	if err := i.c.authz.PermitRole(ctx, states.Principal, "lambda", "Invoke", functionARN); err != nil {
		return nil, "", err
	}
	return i.c.Lambda.Invoker().Invoke(ctx, functionARN, payload)
}
