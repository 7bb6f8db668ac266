package rehearsal

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	iamapi "github.com/aws/aws-sdk-go-v2/service/iam"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/blueprint"
	"github.com/ami-factory/ami-factory/pkg/localcloud/iam"
	"github.com/ami-factory/ami-factory/pkg/localcloud/scheduler"
	"github.com/ami-factory/ami-factory/pkg/partition"
	"github.com/ami-factory/ami-factory/pkg/program"
	"github.com/ami-factory/ami-factory/pkg/recipe"
)

const (
	// machineRole is the state machine's, as roleARN takes it.
	machineRole = "workflow"
	// schedulesRole is that of the schedules, as roleARN takes it.
	schedulesRole = "schedules"
	// builderProfile is the instance profile of builders and verifiers, and the name
	// of its role, which reads no secret: there is none to be baked.
	builderProfile = "ami-factory-builder"
	// instanceProfile is that of instances which `userdata try` boots with agents:
	// on AWS it is whatever the image's user makes.
	instanceProfile = "ami-factory-instance"
)

// roleARN is the role of a function, of the state machine, or of schedules.
func (f *Factory) roleARN(name string) string {
	return fmt.Sprintf("arn:aws:iam::%s:role/%s%s", f.Cloud.Account(), prefix, name)
}

// trust lets a service assume a role, as infra writes it.
func trust(service string) json.RawMessage {
	return fmt.Appendf(nil, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":%q},"Action":"sts:AssumeRole"}]}`, service)
}

// deployRoles gives each role the trust and the policies that infra gives it on
// AWS.
func (f *Factory) deployRoles(ctx context.Context, engine program.Engine, topicARN string) error {
	here := partition.OrDefault(f.Cloud.Region())
	site := blueprint.Site{
		Partition: here.ID, Account: f.Cloud.Account(), Region: f.Cloud.Region(), URLSuffix: here.DNSSuffix,
		Bucket: "arn:aws:s3:::" + f.Bucket, CheckEngines: []string{"arn:aws:s3:::" + engine.Bucket + "/" + engine.Key},
		BuilderRole: f.roleARN(strings.TrimPrefix(builderProfile, prefix)), Topic: topicARN,
		TargetAccounts: f.targetAccounts(), SourceOwners: f.accounts(func(r *recipe.Recipe) []string { return []string{r.Source.Owner} }),
	}
	if err := f.putRole(machineRole, "states.amazonaws.com", blueprint.MachinePolicy(f.functionARN)); err != nil {
		return err
	}
	if err := f.putRole(schedulesRole, scheduler.Principal, blueprint.SchedulesPolicy(f.functionARN, f.deadLettersARN())); err != nil {
		return err
	}
	for _, fn := range blueprint.Functions() {
		policy := fn.Policy(site)
		if fn.Trigger {
			policy = append(policy, blueprint.DeadLettersStatement(f.deadLettersARN()))
		}
		if err := f.putRole(fn.Name, "lambda.amazonaws.com", policy); err != nil {
			return err
		}
	}
	if err := f.deployTargets(); err != nil {
		return err
	}
	return f.deployProfiles(ctx)
}

// externalID is what the roles of target accounts ask for.
const externalID = "ami-factory-rehearsal"

// deployTargets makes what infra's stack of target accounts makes in them.
func (f *Factory) deployTargets() error {
	for _, role := range blueprint.TargetRoles() {
		var callers []string
		for _, s := range role.Callers {
			callers = append(callers, f.roleARN(s))
		}
		trust, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": []any{map[string]any{
			"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": map[string]any{"AWS": "arn:aws:iam::" + f.Cloud.Account() + ":root"},
			"Condition": map[string]any{"StringEquals": map[string]any{"sts:ExternalId": externalID}, "ArnEquals": map[string]any{"aws:PrincipalArn": callers}},
		}}})
		if err != nil {
			return err
		}
		for _, account := range f.targetAccounts() {
			policy, err := json.Marshal(role.Policy("aws", account))
			if err != nil {
				return err
			}
			made := iam.Role{ARN: blueprint.TargetRoleARN("aws", account, role.Name), Trust: trust, Policies: map[string]json.RawMessage{"pointers": policy}}
			if err := f.Cloud.IAM.PutRole(made); err != nil {
				return fmt.Errorf("role of target account %s: %w", account, err)
			}
		}
	}
	return nil
}

func (f *Factory) putRole(name, service string, policy blueprint.Policy) error {
	raw, err := json.Marshal(policy)
	if err != nil {
		return fmt.Errorf("policy of role %s: %w", name, err)
	}
	return f.Cloud.IAM.PutRole(iam.Role{ARN: f.roleARN(name), Trust: trust(service), Policies: map[string]json.RawMessage{"calls": raw}})
}

// deployProfiles makes the roles and instance profiles of instances.
func (f *Factory) deployProfiles(ctx context.Context) error {
	for name, policy := range map[string]blueprint.Policy{
		builderProfile: blueprint.BuilderPolicy(),
		// What it tells is asked over SSM, as a builder is.
		instanceProfile: append(blueprint.BuilderPolicy(), blueprint.Statement{
			Actions:   []string{"secretsmanager:GetSecretValue", "ssm:GetParameter", "ssm:GetParameters"},
			Resources: []string{f.agents("secretsmanager", "secret:"), f.agents("ssm", "parameter/")},
		}),
	} {
		if err := f.putRole(strings.TrimPrefix(name, prefix), "ec2.amazonaws.com", policy); err != nil {
			return err
		}
		_, err := f.Cloud.IAM.CreateInstanceProfile(ctx, &iamapi.CreateInstanceProfileInput{InstanceProfileName: aws.String(name)})
		if awserr.Is(err, "EntityAlreadyExists") {
			continue
		}
		if err != nil {
			return fmt.Errorf("instance profile %s: %w", name, err)
		}
		_, err = f.Cloud.IAM.AddRoleToInstanceProfile(ctx, &iamapi.AddRoleToInstanceProfileInput{InstanceProfileName: aws.String(name), RoleName: aws.String(name)})
		if err != nil {
			return fmt.Errorf("instance profile %s: %w", name, err)
		}
	}
	return nil
}

// agents are the ARNs of what agents start with.
func (f *Factory) agents(service, kind string) string {
	return fmt.Sprintf("arn:aws:%s:*:%s:%sami-factory/agents/*", service, f.Cloud.Account(), kind)
}
