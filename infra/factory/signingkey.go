package factory

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/ami-factory/ami-factory/pkg/blueprint"
)

// newSigningKey is the key that signs evidence. It stays when the stack is deleted:
// evidence outlives the factory, and another key would verify none of it. Nobody can use
// it before allowSigning.
func newSigningKey(scope constructs.Construct) awskms.Key {
	return awskms.NewKey(scope, jsii.String("SigningKey"), &awskms.KeyProps{
		Alias:         jsii.String(blueprint.SigningKeyAlias),
		Description:   jsii.String(blueprint.SigningKeyDoes),
		KeySpec:       awskms.KeySpec_ECC_NIST_P256,
		KeyUsage:      awskms.KeyUsage_SIGN_VERIFY,
		Policy:        awsiam.NewPolicyDocument(nil), // instead of one that lets the whole account sign
		RemovalPolicy: awscdk.RemovalPolicy_RETAIN,
	})
}

// allowSigning writes the policy of the key. It comes after the functions, whose roles it
// names.
func allowSigning(key awskms.Key, functions Functions) {
	for _, s := range blueprint.SigningKeyPolicy(*functions[blueprint.Signer].Role.RoleArn()) {
		props := &awsiam.PolicyStatementProps{
			Sid: jsii.String(s.Sid), Actions: jsii.Strings(s.Actions...), Resources: jsii.Strings("*"),
			Principals: &[]awsiam.IPrincipal{awsiam.NewAccountRootPrincipal()},
		}
		if s.Conditions != nil {
			props.Conditions = conditions(s.Conditions)
		}
		key.AddToResourcePolicy(awsiam.NewPolicyStatement(props), nil)
	}
}
