package factory

import (
	"slices"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/ami-factory/ami-factory/pkg/blueprint"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// keyAlias is the name of the stack's own key, in its region.
const keyAlias = "alias/ami-factory-data"

// newKey is the customer key of what is at rest; nil for AWS's own keys. The
// policy of a key that exists is its owner's to write: README.md says what it
// has to allow.
func newKey(scope constructs.Construct, encryptionKey string) awskms.IKey {
	switch encryptionKey {
	case None:
		return nil
	case New:
	default:
		return awskms.Key_FromKeyArn(scope, jsii.String("Key"), &encryptionKey)
	}
	key := awskms.NewKey(scope, jsii.String("Key"), &awskms.KeyProps{
		Alias:             jsii.String(keyAlias),
		Description:       jsii.String("AMI factory: bucket, topics, queue and logs"),
		EnableKeyRotation: jsii.Bool(true),
		// Without it nobody could read the reports, which outlive the stack.
		RemovalPolicy: awscdk.RemovalPolicy_RETAIN,
	})
	for _, s := range keyUsers(awscdk.Stack_Of(scope)) {
		key.AddToResourcePolicy(s, nil)
	}
	return key
}

// keyUsers are the services that use the key on nobody's behalf.
func keyUsers(stack awscdk.Stack) []awsiam.PolicyStatement {
	users := func(conditions map[string]any, actions []string, services ...string) awsiam.PolicyStatement {
		var principals []awsiam.IPrincipal
		for _, s := range services {
			principals = append(principals, awsiam.NewServicePrincipal(jsii.String(s), nil))
		}
		return awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
			Principals: &principals, Actions: jsii.Strings(actions...), Resources: jsii.Strings("*"), Conditions: &conditions,
		})
	}
	return []awsiam.PolicyStatement{
		// "Encrypt log data in CloudWatch Logs" of the CloudWatch Logs User Guide.
		users(map[string]any{"ArnLike": map[string]any{"kms:EncryptionContext:aws:logs:arn": stack.FormatArn(&awscdk.ArnComponents{
			Service: jsii.String("logs"), Resource: jsii.String("log-group"), ArnFormat: awscdk.ArnFormat_COLON_RESOURCE_NAME, ResourceName: jsii.String("*"),
		})}}, []string{"kms:Encrypt*", "kms:Decrypt*", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:Describe*"}, "logs."+*stack.Region()+"."+urlSuffix(stack)),
		// Alarms publish to the encrypted topic, rules send to the encrypted queue.
		users(map[string]any{"StringEquals": map[string]any{"aws:SourceAccount": stack.Account()}},
			[]string{"kms:Decrypt", "kms:GenerateDataKey*"}, "cloudwatch.amazonaws.com", "events.amazonaws.com"),
	}
}

// urlSuffix ends the host names of the stack's partition. CDK leaves it to
// CloudFormation even where the region is known.
func urlSuffix(stack awscdk.Stack) string {
	if of, ok := partition.Of(*stack.Region()); ok {
		return of.DNSSuffix
	}
	return *stack.UrlSuffix()
}

// dataKeyUse is what a role needs of the key to do its actions on what the key
// encrypts; nil for none. Each service asks KMS in the caller's name.
func dataKeyUse(keyARN, urlSuffix string, actions []string) blueprint.Policy {
	uses := map[string][]string{
		"s3:GetObject":    {"kms:Decrypt"},
		"s3:PutObject":    {"kms:GenerateDataKey"},
		"sns:Publish":     {"kms:Decrypt", "kms:GenerateDataKey"},
		"sqs:SendMessage": {"kms:Decrypt", "kms:GenerateDataKey"},
	}
	var out, by []string
	for _, a := range actions {
		if use, ok := uses[a]; ok {
			out, by = append(out, use...), append(by, a[:3])
		}
	}
	if len(out) == 0 {
		return nil
	}
	var via []string
	for service, name := range map[string]string{"s3:": "s3", "sns": "sns", "sqs": "sqs"} {
		if slices.Contains(by, service) {
			via = append(via, name+".*."+urlSuffix)
		}
	}
	slices.Sort(via)
	slices.Sort(out)
	return blueprint.Policy{{
		Actions: slices.Compact(out), Resources: []string{keyARN}, Conditions: blueprint.Conditions{"StringLike": {"kms:ViaService": via}},
	}}
}
