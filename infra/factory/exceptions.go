package factory

import (
	"fmt"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
)

// exception is a finding of the security linter (cdk-nag's AwsSolutions) that
// stands, and why. It is written next to the construct and carried by the
// template, where the linter and whoever reviews the template find it.
type exception struct {
	rule     string
	findings []string // regular expressions of what the rule says; none: all of it
	reason   string
}

// except writes exceptions down on a resource, or on the one that a construct is
// made of. A resource has one such list: a second call replaces it.
func except(on constructs.IConstruct, exceptions ...exception) {
	resource, ok := on.(awscdk.CfnResource)
	if !ok {
		resource, ok = on.Node().DefaultChild().(awscdk.CfnResource)
	}
	if !ok {
		panic(fmt.Sprintf("%s is made of no single resource to write an exception on", *on.Node().Path()))
	}
	var rules []any
	for _, e := range exceptions {
		rule := map[string]any{"id": e.rule, "reason": e.reason}
		if len(e.findings) > 0 {
			var only []any
			for _, f := range e.findings {
				only = append(only, map[string]any{"regex": "/^" + f + "$/"})
			}
			rule["applies_to"] = only
		}
		rules = append(rules, rule)
	}
	resource.AddMetadata(jsii.String("cdk_nag"), map[string]any{"rules_to_suppress": rules})
}

// exceptPolicy writes exceptions down on the policy that constructs have attached
// to a role, if they have.
func exceptPolicy(role constructs.IConstruct, exceptions ...exception) {
	if policy := role.Node().TryFindChild(jsii.String("DefaultPolicy")); policy != nil {
		except(policy, exceptions...)
	}
}

// wildcards are what policies of functions cannot say more narrowly, and why.
func wildcards() []exception {
	const rule = "AwsSolutions-IAM5"
	return []exception{
		{rule, []string{`Resource::\*`}, "IAM knows no resource for the Describe and List calls of EC2 and SSM, nor for those that send traces."},
		{rule, []string{`Resource::<Bucket[A-Z0-9]+\.Arn>/[a-z]+/[a-z/]*\*.*`}, "Names of objects come from executions and digests; each role is given its own kinds of objects, by their prefix and suffix."},
		{rule, []string{`Resource::arn:[^:]+:ec2:\*:[^:]*:[a-z-]+/\*`}, "Ids of what an execution makes are not known before, and copies go to any region: conditions on the factory's tags narrow it."},
		{rule, []string{`Resource::arn:[^:]+:ssm:\*:[^:]*:parameter/(aws/service|ami-factory)/\*`}, "Public parameters of base images, and pointers of whichever recipes and regions there are."},
		{rule, []string{`Resource::arn:[^:]+:ssm:\*::document/AWS-RunShellScript`}, "One document of AWS's own, in whichever region the factory is."},
		{rule, []string{`Resource::arn:[^:]+:kms:\*:[^:]*:key/\*`}, "Recipes name their keys, and only by way of EC2; the context keyArns narrows it to some."},
		{rule, []string{`Resource::arn:[^:]+:states:[^:]*:[^:]*:execution:ami-factory:\*`}, "Executions of the factory's one state machine."},
	}
}
