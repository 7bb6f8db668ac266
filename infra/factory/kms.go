package factory

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

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
