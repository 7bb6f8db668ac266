package factory

import (
	"fmt"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
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
		{rule, []string{`Resource::arn:[^:]+:kms:\*:[^:]*:key/\*`}, "Recipes name their keys, and only by way of EC2; the context keyArns narrows it to some."},
		{rule, []string{`Resource::arn:[^:]+:states:[^:]*:[^:]*:execution:ami-factory:\*`}, "Executions of the factory's one state machine."},
	}
}

// answer is a rule of checkov, or of AWS Control Tower's proactive controls, that a
// kind of resource does not meet in every deployment, and why that stands. The
// template carries it where checkov reads it (https://www.checkov.io/2.Basics/Suppressing%20and%20Skipping%20Policies.html).
type answer struct {
	kind    string // CloudFormation's type
	rule    string // checkov's id
	asks    string // what the rule, and the Control Tower control of the same demand, asks
	comment string
	holds   func(*Props) bool // nil: in no deployment; else where the rule is met instead
}

// answers is the table of the rules, for templates and documentation.
func answers() []answer {
	ownKey := func(p *Props) bool { return p.EncryptionKey != None }
	return []answer{
		{"AWS::Lambda::Function", "CKV_AWS_115", "a concurrency limit of its own for each function", "Stages reserve nothing: the executions that triggers start bound how many run, and a stage that waits for concurrency would hold up an execution. Triggers reserve one (context reserveConcurrency).", nil},
		{"AWS::Lambda::Function", "CKV_AWS_116", "a dead-letter queue for each function", "Stages are invoked by Step Functions only, which keeps what failed in the execution. Triggers have the queue TriggersDeadLetters as the destination of their failures, which replaces a function's own dead-letter queue.", nil},
		{"AWS::Lambda::Function", "CKV_AWS_117", "each function inside a VPC", "Functions call public endpoints of AWS only and reach no private address; in a VPC they would need an endpoint for each of ten services, and have no other way out than now.", nil},
		{"AWS::Lambda::Function", "CKV_AWS_173", "a customer key for each function's environment", "The environment holds names, ARNs and digests, and no secret. Lambda encrypts it with its own key.", nil},
		{"AWS::Logs::LogGroup", "CKV_AWS_158", "a customer key for each log group", "CloudWatch encrypts with its own key; context encryptionKey takes a customer key.", ownKey},
		{"AWS::SNS::Topic", "CKV_AWS_26", "encryption at rest by a key for each topic", "Messages are not stored beyond their delivery; context encryptionKey takes a customer key.", ownKey},
		{"AWS::SQS::Queue", "CKV_AWS_27", "encryption at rest by a key for each queue", "SQS encrypts with its own key; context encryptionKey takes a customer key.", ownKey},
		{"AWS::S3::Bucket", "CKV_AWS_18", "access logs for each bucket", "Access logs are the operator's choice (context accessLogs): CloudTrail's data events have the same. A bucket of access logs cannot log into itself.", nil},
		{"AWS::IAM::Policy", "CKV_AWS_111", "resources on every permission that writes", "IAM knows no resource for the SSM agent's heartbeat and control channel, which are all that a builder may write.", nil},
	}
}

// answerRules writes the answers on the resources that they are about.
func answerRules(scope constructs.Construct, p *Props) {
	for _, node := range *scope.Node().FindAll(constructs.ConstructOrder_PREORDER) {
		resource, ok := node.(awscdk.CfnResource)
		if !ok {
			continue
		}
		var skip []any
		for _, a := range answers() {
			if a.kind == *resource.CfnResourceType() && (a.holds == nil || !a.holds(p)) {
				skip = append(skip, map[string]any{"id": a.rule, "comment": a.comment})
			}
		}
		if len(skip) > 0 {
			resource.AddMetadata(jsii.String("checkov"), map[string]any{"skip": skip})
		}
	}
}

// onlyPolicy has a resource wait for the policy of its role and no more: the role
// itself is referred to already, and cfn-lint reports the second reason (W3005).
func onlyPolicy(of constructs.IConstruct, role awsiam.IRole) {
	resource, isResource := of.Node().DefaultChild().(awscdk.CfnResource)
	policy := role.Node().TryFindChild(jsii.String("DefaultPolicy"))
	if !isResource || policy == nil {
		return
	}
	if p, ok := policy.Node().DefaultChild().(awscdk.CfnResource); ok {
		resource.AddOverride(jsii.String("DependsOn"), []any{p.LogicalId()})
	}
}
