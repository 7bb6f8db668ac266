package localcloud

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	sdksns "github.com/aws/aws-sdk-go-v2/service/sns"
	sdksqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	sdksts "github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/ami-factory/ami-factory/pkg/localcloud/ec2"
	"github.com/ami-factory/ami-factory/pkg/localcloud/events"
	"github.com/ami-factory/ami-factory/pkg/localcloud/s3"
	"github.com/ami-factory/ami-factory/pkg/localcloud/states"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// These functions carry the calls from one service to another, so that the services
// do not import each other.

func (c *Cloud) emit(ctx context.Context, e events.Event) {
	if err := c.Events.Emit(ctx, e); err != nil {
		c.cfg.Logger.Error("event lost", "source", e.Source, "type", e.DetailType, "error", err)
	}
}

func (c *Cloud) ec2Event(ctx context.Context, e ec2.Event) {
	c.emit(ctx, events.Event{
		Source: e.Source, DetailType: e.DetailType, Account: e.Account, Region: e.Region, Time: e.Time, Resources: e.Resources, Detail: e.Detail,
	})
}

func (c *Cloud) s3Event(ctx context.Context, e s3.Event) {
	c.emit(ctx, events.Event{Source: "aws.s3", DetailType: e.DetailType, Account: e.Account, Region: e.Region, Resources: e.Resources, Detail: e.Detail})
}

func (c *Cloud) statesEvent(e states.Event) {
	c.noticeExecution(e)
	c.emit(context.Background(), events.Event{
		Source: e.Source, DetailType: e.DetailType, Account: e.Account, Region: e.Region, Time: e.Time, Resources: e.Resources, Detail: e.Detail,
	})
}

func (c *Cloud) ssmEvent(ctx context.Context, account, region, detailType string, resources []string, detail any) {
	c.emit(ctx, events.Event{Source: "aws.ssm", DetailType: detailType, Account: account, Region: region, Resources: resources, Detail: detail})
}

func (c *Cloud) resolveKey(account, region, ref string) (ec2.Key, error) {
	k, err := c.KMS.Resolve(account, region, ref)
	// EC2 encrypts with symmetric keys only
	// (https://docs.aws.amazon.com/ebs/latest/userguide/ebs-encryption-requirements.html).
	return ec2.Key{ARN: k.ARN, Managed: k.Managed, Enabled: k.Enabled && k.Spec == kmstypes.KeySpecSymmetricDefault}, err
}

// roleCredentials are the credentials that the instance metadata serves for an
// instance's role.
func (c *Cloud) roleCredentials(ctx context.Context, account, region, role, instanceID string) (aws.Credentials, error) {
	ctx = wire.WithCaller(ctx, wire.Caller{Account: account, Region: region, ARN: ec2.Principal(region)})
	out, err := c.STS.AssumeRole(ctx, &sdksts.AssumeRoleInput{RoleArn: aws.String(c.IAM.RoleARN(account, role)), RoleSessionName: aws.String(instanceID)})
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("credentials of %s: %w", instanceID, err)
	}
	k := out.Credentials
	return aws.Credentials{
		AccessKeyID: *k.AccessKeyId, SecretAccessKey: *k.SecretAccessKey, SessionToken: *k.SessionToken, CanExpire: true, Expires: *k.Expiration,
	}, nil
}

// profile resolves an instance profile. Where policies are not
// enforced, every profile exists, with a role of its name.
func (c *Cloud) profile(account, ref string) (ec2.InstanceProfile, error) {
	found, err := c.IAM.Profile(account, ref)
	if err != nil && !c.cfg.EnforceIAM {
		return ec2.AnyProfile(c.cfg.Region, account, ref)
	}
	return ec2.InstanceProfile{ARN: found.ARN, ID: found.ID, Role: found.Role, RoleARN: c.IAM.RoleARN(account, found.Role)}, err
}

func (c *Cloud) instances(ctx context.Context, account, region string) []string {
	ctx = wire.WithCaller(ctx, wire.Caller{Account: account, Region: region})
	var ids []string
	pages := sdkec2.NewDescribeInstancesPaginator(c.EC2, &sdkec2.DescribeInstancesInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			c.cfg.Logger.Warn("listing instances for SSM", "error", err)
			return ids
		}
		for _, r := range page.Reservations {
			for _, i := range r.Instances {
				ids = append(ids, aws.ToString(i.InstanceId))
			}
		}
	}
	return ids
}

func (c *Cloud) imageExists(ctx context.Context, account, region, imageID string) bool {
	ctx = wire.WithCaller(ctx, wire.Caller{Account: account, Region: region})
	out, err := c.EC2.DescribeImages(ctx, &sdkec2.DescribeImagesInput{ImageIds: []string{imageID}})
	return err == nil && len(out.Images) == 1
}

// integrations performs what a state machine asks of other services directly.
type integrations struct{ c *Cloud }

var _ states.Integrations = integrations{}

// Call implements states.Integrations.
func (i integrations) Call(ctx context.Context, service, action string, arguments []byte) ([]byte, error) {
	switch name := service + ":" + strings.ToLower(action[:1]) + action[1:]; name {
	case "sns:publish":
		return call(ctx, i.c.publish, arguments, "Message")
	case "sqs:sendMessage":
		return call(ctx, i.c.sendMessage, arguments, "MessageBody")
	case "events:putEvents":
		return call(ctx, i.c.putEvents, arguments)
	default:
		return nil, wire.Errorf("States.Runtime", "the embedded Step Functions does not call %s: sns:publish, sqs:sendMessage and events:putEvents are served", name)
	}
}

// publish is sns:publish of a state machine.
func (c *Cloud) publish(ctx context.Context, in *sdksns.PublishInput, _ ...func(*sdksns.Options)) (*sdksns.PublishOutput, error) {
	if err := c.authz.PermitRole(ctx, states.Principal, "sns", "Publish", in); err != nil {
		return nil, err
	}
	return c.SNS.Publish(ctx, in)
}

// putEvents takes Detail as an object too, as Step Functions lets one write it.
func (c *Cloud) putEvents(ctx context.Context, in *putEventsArguments, _ ...func(*eventbridge.Options)) (*eventbridge.PutEventsOutput, error) {
	request := &eventbridge.PutEventsInput{}
	for _, entry := range in.Entries {
		request.Entries = append(request.Entries, entry.entry())
	}
	if err := c.authz.PermitRole(ctx, states.Principal, "events", "PutEvents", request); err != nil {
		return nil, err
	}
	return c.Events.PutEvents(ctx, request)
}

// sendMessage is sqs:sendMessage of a state machine.
func (c *Cloud) sendMessage(ctx context.Context, in *sdksqs.SendMessageInput, _ ...func(*sdksqs.Options)) (*sdksqs.SendMessageOutput, error) {
	if err := c.authz.PermitRole(ctx, states.Principal, "sqs", "SendMessage", in); err != nil {
		return nil, err
	}
	return c.SQS.SendMessage(ctx, in)
}

// call decodes arguments for a method with an SDK client's signature. The members named
// by texts may be any JSON value; it is sent as text.
func call[I, O, Opt any](
	ctx context.Context, method func(context.Context, *I, ...func(*Opt)) (*O, error), arguments []byte, texts ...string,
) ([]byte, error) {
	arguments, err := asTexts(arguments, texts)
	if err != nil {
		return nil, err
	}
	in := new(I)
	if err := json.Unmarshal(arguments, in); err != nil {
		return nil, wire.Errorf("States.Runtime", "the arguments do not fit the call: %s", err)
	}
	out, err := method(ctx, in)
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(out)
	if err != nil {
		return nil, err
	}
	var fields map[string]any
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, err
	}
	delete(fields, "ResultMetadata") // the SDK's own
	return json.Marshal(withoutNulls(fields))
}

// asTexts writes members of arguments that are not text as JSON in a string.
func asTexts(arguments []byte, names []string) ([]byte, error) {
	if len(names) == 0 {
		return arguments, nil
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(arguments, &members); err != nil {
		return nil, wire.Errorf("States.Runtime", "the arguments are no object: %s", err)
	}
	for _, name := range names {
		if v := members[name]; len(v) > 0 && v[0] != '"' {
			text, err := json.Marshal(string(v))
			if err != nil {
				return nil, err
			}
			members[name] = text
		}
	}
	return json.Marshal(members)
}

// withoutNulls removes the members that are null.
func withoutNulls(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			if member == nil {
				delete(v, name)
				continue
			}
			v[name] = withoutNulls(member)
		}
	case []any:
		for i := range v {
			v[i] = withoutNulls(v[i])
		}
	}
	return v
}
