package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3assets"
	"github.com/aws/jsii-runtime-go"

	"github.com/ami-factory/ami-factory/pkg/workflow"
)

const (
	executionTag  = "ami-factory:execution"
	pointerPrefix = "ami-factory"
)

// builderRole is what builders and verifiers run as: reachable by SSM, and
// nothing else. Components and checks reach them by presigned addresses.
type builderRole struct {
	role    awsiam.Role
	profile awsiam.CfnInstanceProfile
}

func newBuilderRole(stack awscdk.Stack) builderRole {
	role := awsiam.NewRole(stack, jsii.String("BuilderRole"), &awsiam.RoleProps{
		AssumedBy:   awsiam.NewServicePrincipal(jsii.String("ec2.amazonaws.com"), nil),
		Description: jsii.String("AMI factory builder and verifier instances"),
		ManagedPolicies: &[]awsiam.IManagedPolicy{
			awsiam.ManagedPolicy_FromAwsManagedPolicyName(jsii.String("AmazonSSMManagedInstanceCore")),
		},
	})
	profile := awsiam.NewCfnInstanceProfile(stack, jsii.String("BuilderProfile"), &awsiam.CfnInstanceProfileProps{
		Roles: &[]any{role.RoleName()},
	})
	return builderRole{role: role, profile: profile}
}

// grantStage gives the role exactly the stage's actions, each on the narrowest
// resources and conditions that IAM knows for it.
func grantStage(stack awscdk.Stack, role awsiam.Role, spec workflow.Spec, sh shared, props *FactoryStackProps, goss awss3assets.Asset) {
	byResource := map[workflow.Resource][]*string{}
	var order []workflow.Resource
	for _, a := range spec.Actions {
		if _, ok := byResource[a.On]; !ok {
			order = append(order, a.On)
		}
		byResource[a.On] = append(byResource[a.On], jsii.String(a.Name))
	}
	for _, r := range order {
		for _, s := range statements(stack, r, byResource[r], sh, props, goss) {
			role.AddToPolicy(s)
		}
	}
}

func statements(stack awscdk.Stack, r workflow.Resource, actions []*string, sh shared, props *FactoryStackProps, goss awss3assets.Asset) []awsiam.PolicyStatement {
	arn := func(service, region, account, rest string) *string {
		return jsii.String(fmt.Sprintf("arn:%s:%s:%s:%s:%s", *stack.Partition(), service, region, account, rest))
	}
	own := *stack.Account()
	allow := func(conditions map[string]any, resources ...*string) awsiam.PolicyStatement {
		p := &awsiam.PolicyStatementProps{Actions: &actions, Resources: &resources}
		if conditions != nil {
			p.Conditions = &conditions
		}
		return awsiam.NewPolicyStatement(p)
	}
	tagged := func(key string) map[string]any {
		return map[string]any{"StringLike": map[string]any{key + "/" + executionTag: "*"}}
	}
	ec2Own := func(kind string) *string { return arn("ec2", "*", own, kind+"/*") }
	// Images and snapshots have no account in their ARNs.
	images, snapshots := arn("ec2", "*", "", "image/*"), arn("ec2", "*", "", "snapshot/*")

	one := func(s awsiam.PolicyStatement) []awsiam.PolicyStatement { return []awsiam.PolicyStatement{s} }
	switch r {
	case workflow.AnyResource:
		return one(allow(nil, jsii.String("*")))
	case workflow.Bucket:
		return one(allow(nil, sh.bucket.BucketArn()))
	case workflow.BucketObjects:
		return one(allow(nil, sh.bucket.ArnForObjects(jsii.String("*"))))
	case workflow.CheckEngine:
		return one(allow(nil, goss.Bucket().ArnForObjects(goss.S3ObjectKey())))
	case workflow.SourceParameters:
		return one(allow(nil, arn("ssm", "*", "", "parameter/aws/service/*")))
	case workflow.PointerParameters:
		return one(allow(nil, arn("ssm", "*", own, "parameter/"+pointerPrefix+"/*")))
	case workflow.FactoryResources:
		return one(allow(tagged("aws:ResourceTag"), ec2Own("instance"), ec2Own("volume"), images, snapshots))
	case workflow.LaunchTargets:
		return []awsiam.PolicyStatement{
			allow(nil, images, snapshots, ec2Own("subnet"), ec2Own("security-group"), ec2Own("network-interface")),
			allow(tagged("aws:RequestTag"), ec2Own("instance"), ec2Own("volume")),
		}
	case workflow.NewResources:
		return newResources(actions, []*string{images, snapshots},
			[]*string{ec2Own("instance"), ec2Own("volume"), ec2Own("network-interface"), images, snapshots})
	case workflow.ShellDocument:
		return []awsiam.PolicyStatement{
			allow(nil, arn("ssm", "*", "", "document/AWS-RunShellScript")),
			allow(tagged("ssm:resourceTag"), ec2Own("instance")),
		}
	case workflow.BuilderRole:
		return one(allow(map[string]any{"StringEquals": map[string]any{"iam:PassedToService": "ec2.amazonaws.com"}}, sh.builder.role.RoleArn()))
	case workflow.Topic:
		return one(allow(nil, sh.topic.TopicArn()))
	case workflow.EventBus:
		return one(allow(map[string]any{"StringEquals": map[string]any{"events:source": "ami-factory"}}, arn("events", *stack.Region(), own, "event-bus/default")))
	case workflow.FactoryBus:
		return one(allow(map[string]any{"StringEquals": map[string]any{"events:source": "ami-factory"}}, arn("events", *stack.Region(), own, "event-bus/"+workflow.FactoryBusName)))
	case workflow.StateMachine:
		return one(allow(nil, jsii.String(machineARN(stack))))
	case workflow.Executions:
		return one(allow(nil, arn("states", *stack.Region(), own, "execution:"+workflow.MachineName+":*")))
	case workflow.Keys:
		keys := []*string{arn("kms", "*", own, "key/*")}
		if len(props.KeyARNs) > 0 {
			keys = *jsii.Strings(props.KeyARNs...)
		}
		return one(allow(map[string]any{"StringLike": map[string]any{"kms:ViaService": "ec2.*.amazonaws.com"}}, keys...))
	}
	panic(fmt.Sprintf("no policy is written for resource kind %q", r))
}

// newResources allows calls that make images, and tags in the request that makes
// a resource. Tags of what exists already are not for the taking: they decide
// what the factory may change and remove.
func newResources(actions []*string, made, taggable []*string) []awsiam.PolicyStatement {
	const createTags = "ec2:CreateTags"
	requested := func() map[string]any {
		return map[string]any{"StringLike": map[string]any{"aws:RequestTag/" + executionTag: "*"}}
	}
	var making []*string
	var out []awsiam.PolicyStatement
	for _, a := range actions {
		if *a != createTags {
			making = append(making, a)
			continue
		}
		conditions := requested()
		conditions["StringEquals"] = map[string]any{"ec2:CreateAction": []string{"RunInstances", "CreateImage", "CopyImage"}}
		out = append(out, awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
			Actions: &[]*string{a}, Resources: &taggable, Conditions: &conditions,
		}))
	}
	if len(making) > 0 {
		conditions := requested()
		out = append(out, awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
			Actions: &making, Resources: &made, Conditions: &conditions,
		}))
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
