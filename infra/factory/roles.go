package factory

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/ami-factory/ami-factory/pkg/blueprint"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/userdata"
)

// builderRole is what builders and verifiers run as: reachable by SSM, and
// nothing else. Components and checks reach them by presigned addresses.
type builderRole struct {
	role    awsiam.Role
	profile awsiam.CfnInstanceProfile
}

func newBuilderRole(scope constructs.Construct) builderRole {
	role := newRole(scope, "BuilderRole", blueprint.BuilderRole())
	exceptPolicy(role, exception{"AwsSolutions-IAM5", []string{`Resource::\*`}, "IAM knows no resource for the channel of the SSM agent and its heartbeat."})
	profile := awsiam.NewCfnInstanceProfile(scope, jsii.String("BuilderProfile"), &awsiam.CfnInstanceProfileProps{
		Roles: &[]any{role.RoleName()},
	})
	return builderRole{role: role, profile: profile}
}

// RoleProps are of all roles of a deployment.
type RoleProps struct {
	Boundary   string // name or ARN of a policy; empty: none
	Path       string // begins and ends with a slash
	NamePrefix string // empty: CloudFormation makes names up
}

// applyTo sets what all roles below a construct have in common, whoever made them.
func (p RoleProps) applyTo(scope constructs.Construct) {
	boundary := p.Boundary
	if boundary != "" && !strings.HasPrefix(boundary, "arn:") {
		stack := awscdk.Stack_Of(scope)
		boundary = "arn:" + *stack.Partition() + ":iam::" + *stack.Account() + ":policy/" + boundary
	}
	for _, node := range *scope.Node().FindAll(constructs.ConstructOrder_PREORDER) {
		if profile, ok := node.(awsiam.CfnInstanceProfile); ok && p.Path != "/" {
			profile.SetPath(&p.Path)
		}
		role, ok := node.(awsiam.CfnRole)
		if !ok {
			continue
		}
		if boundary != "" {
			role.SetPermissionsBoundary(&boundary)
		}
		if p.Path != "/" {
			role.SetPath(&p.Path)
		}
		if p.NamePrefix != "" {
			role.SetRoleName(jsii.String(p.NamePrefix + nameBelow(scope, role)))
		}
	}
}

// nameBelow is a resource's path below a construct as one word, such as
// CheckInstanceRole.
func nameBelow(scope, resource constructs.IConstruct) string {
	below := strings.TrimPrefix(*resource.Node().Path(), *scope.Node().Path())
	return strings.ReplaceAll(strings.TrimSuffix(below, "/Resource"), "/", "")
}

// newRole makes a role of the blueprint.
func newRole(scope constructs.Construct, id string, of blueprint.Role) awsiam.Role {
	var trust *awsiam.ServicePrincipalOpts
	if of.Trust != nil {
		trust = &awsiam.ServicePrincipalOpts{Conditions: conditions(of.Trust)}
	}
	role := awsiam.NewRole(scope, &id, &awsiam.RoleProps{
		AssumedBy:   awsiam.NewServicePrincipal(&of.Service, trust),
		Description: &of.Does,
	})
	allow(role, of.Policy)
	return role
}

// conditions are some as the CDK takes them.
func conditions(of blueprint.Conditions) *map[string]any {
	out := map[string]any{}
	for operator, keys := range of {
		out[operator] = keys
	}
	return &out
}

// allow adds a policy to a role.
func allow(role awsiam.IRole, policy blueprint.Policy) {
	for _, s := range policy {
		props := &awsiam.PolicyStatementProps{Actions: jsii.Strings(s.Actions...), Resources: jsii.Strings(s.Resources...)}
		if s.Conditions != nil {
			props.Conditions = conditions(s.Conditions)
		}
		role.AddToPrincipalPolicy(awsiam.NewPolicyStatement(props))
	}
}

// siteOf is what the stages' policies name of this stack.
func siteOf(scope constructs.Construct, sh shared, props *Props) blueprint.Site {
	stack := awscdk.Stack_Of(scope)
	out := blueprint.Site{
		Partition: *stack.Partition(), Account: *stack.Account(), Region: *stack.Region(), URLSuffix: urlSuffix(stack),
		Bucket: *sh.bucket.BucketArn(), CheckEngines: sh.engineARNs(),
		BuilderRole: *sh.builder.role.RoleArn(), Topic: *sh.topic.TopicArn(), Keys: props.KeyARNs, TargetAccounts: props.Targets.Accounts,
		SourceOwners: sourceOwners(props.SourceOwners), DeadLetters: *sh.dead.QueueArn(), InspectorScan: props.InspectorScan, SecurityHub: props.SecurityHub,
		SigningKey: *sh.signing.KeyArn(),
	}
	if sh.key != nil {
		out.DataKey = *sh.key.KeyArn()
	}
	return out
}

// sourceOwners are those of the recipes that the functions carry, and those that
// the operator adds.
func sourceOwners(further []string) []string {
	out := slices.Clone(further)
	for _, r := range carriedRecipes() {
		out = append(out, r.Source.Owner)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// carriedRecipes are those that the functions carry.
func carriedRecipes() []*recipe.Recipe {
	names, err := recipe.Names(userdata.FS)
	if err != nil {
		panic(err) // it is part of the program
	}
	var out []*recipe.Recipe
	for _, name := range names {
		r, _, err := recipe.Load(userdata.FS, name, recipe.Options{Now: time.Now()})
		if err != nil {
			panic(fmt.Sprintf("recipe %s: %v", name, err))
		}
		out = append(out, r)
	}
	return out
}

// fileSHA256 is the digest of a file that validate has seen; hex.
func fileSHA256(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		panic(err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
