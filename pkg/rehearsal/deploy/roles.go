package deploy

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
	"github.com/ami-factory/ami-factory/pkg/program"
	"github.com/ami-factory/ami-factory/pkg/recipe"
)

const (
	// builderProfile is the instance profile of builders and verifiers, and the name
	// of its role, which reads no secret: there is none to be baked.
	builderProfile = prefix + blueprint.BuilderRoleName
	// instanceProfile is that of instances which `userdata try` boots with agents:
	// on AWS it is whatever the image's user makes.
	instanceProfile = "ami-factory-instance"
)

// roleARN is the role of a function, of the state machine, or of schedules.
func (d *Deployment) roleARN(name string) string {
	return d.arn("iam", "", "role/"+prefix+name)
}

// deployRoles gives each role the trust and the policies that infra gives it on
// AWS.
func (d *Deployment) deployRoles(ctx context.Context, engine program.Engine, topicARN string) error {
	here := d.partition()
	site := blueprint.Site{
		Partition: here.ID, Account: d.cloud.Account(), Region: d.cloud.Region(), URLSuffix: here.DNSSuffix,
		Bucket: here.ARN("s3", "", "", d.Bucket), CheckEngines: []string{here.ARN("s3", "", "", engine.Bucket+"/"+engine.Key)},
		BuilderRole: d.roleARN(blueprint.BuilderRoleName), Topic: topicARN, SigningKey: d.SigningKey, DeadLetters: d.deadLettersARN(), InspectorScan: d.opts.InspectorScan, SecurityHub: d.opts.SecurityHub,
		TargetAccounts: d.targetAccounts(), SourceOwners: d.accounts(func(r *recipe.Recipe) []string { return []string{r.Source.Owner} }),
	}
	roles := []blueprint.Role{blueprint.MachineRole(d.FunctionARN), blueprint.SchedulesRole(site, d.FunctionARN)}
	for _, fn := range blueprint.Functions() {
		roles = append(roles, fn.Role(site))
	}
	for _, role := range roles {
		if err := d.putRole(role); err != nil {
			return err
		}
	}
	if err := d.deployTargets(); err != nil {
		return err
	}
	return d.deployProfiles(ctx)
}

// externalID is what the roles of target accounts ask for.
const externalID = "ami-factory-rehearsal"

// deployTargets makes what infra's stack of target accounts makes in them.
func (d *Deployment) deployTargets() error {
	for _, role := range blueprint.TargetRoles() {
		var callers []string
		for _, s := range role.Callers {
			callers = append(callers, d.roleARN(s))
		}
		trust, err := role.TrustPolicy(d.partition().ID, d.cloud.Account(), externalID, callers)
		if err != nil {
			return err
		}
		for _, account := range d.targetAccounts() {
			policy, err := json.Marshal(role.Policy(d.partition().ID, account))
			if err != nil {
				return err
			}
			made := iam.Role{ARN: blueprint.TargetRoleARN(d.partition().ID, account, role.Name), Trust: trust, Policies: map[string]json.RawMessage{"pointers": policy}}
			if err := d.cloud.IAM.PutRole(made); err != nil {
				return fmt.Errorf("role of target account %s: %w", account, err)
			}
		}
	}
	return nil
}

func (d *Deployment) putRole(role blueprint.Role) error {
	trust, err := role.TrustPolicy()
	if err != nil {
		return fmt.Errorf("trust policy of role %s: %w", role.Name, err)
	}
	policy, err := json.Marshal(role.Policy)
	if err != nil {
		return fmt.Errorf("policy of role %s: %w", role.Name, err)
	}
	return d.cloud.IAM.PutRole(iam.Role{ARN: d.roleARN(role.Name), Trust: trust, Policies: map[string]json.RawMessage{"calls": policy}})
}

// deployProfiles makes the roles and instance profiles of instances.
func (d *Deployment) deployProfiles(ctx context.Context) error {
	// An instance with agents also reads what they start with. How it fares is asked
	// over SSM, as of a builder.
	instance := blueprint.BuilderRole()
	instance.Name = strings.TrimPrefix(instanceProfile, prefix)
	instance.Policy = append(instance.Policy, blueprint.Statement{
		Actions:   []string{"secretsmanager:GetSecretValue", "ssm:GetParameter", "ssm:GetParameters"},
		Resources: []string{d.agents("secretsmanager", "secret:"), d.agents("ssm", "parameter/")},
	})
	for _, role := range []blueprint.Role{blueprint.BuilderRole(), instance} {
		if err := d.putRole(role); err != nil {
			return err
		}
		name := prefix + role.Name
		_, err := d.cloud.IAM.CreateInstanceProfile(ctx, &iamapi.CreateInstanceProfileInput{InstanceProfileName: aws.String(name)})
		if awserr.Is(err, "EntityAlreadyExists") {
			continue
		}
		if err != nil {
			return fmt.Errorf("instance profile %s: %w", name, err)
		}
		_, err = d.cloud.IAM.AddRoleToInstanceProfile(ctx, &iamapi.AddRoleToInstanceProfileInput{InstanceProfileName: aws.String(name), RoleName: aws.String(name)})
		if err != nil {
			return fmt.Errorf("instance profile %s: %w", name, err)
		}
	}
	return nil
}

// agents are the ARNs of what agents start with.
func (d *Deployment) agents(service, kind string) string {
	return d.arn(service, "*", kind+"ami-factory/agents/*")
}
