package localcloud_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	sdkkms "github.com/aws/aws-sdk-go-v2/service/kms"
	sdklambda "github.com/aws/aws-sdk-go-v2/service/lambda"
	sdks3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/servicequotas"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestARoleReadsWhatItsPolicyNames: each call is let in by its own action on its
// own resource; on another, it is denied.
func TestARoleReadsWhatItsPolicyNames(t *testing.T) {
	c := enforcing(t)
	ctx := t.Context()
	key, err := c.KMS.CreateKey(ctx, &sdkkms.CreateKeyInput{})
	require.NoError(t, err)
	secret, err := c.Secrets.CreateSecret(ctx, &secretsmanager.CreateSecretInput{Name: aws.String("agents/x"), SecretString: aws.String("v")})
	require.NoError(t, err)
	vpcs, err := c.EC2.DescribeVpcs(ctx, &sdkec2.DescribeVpcsInput{})
	require.NoError(t, err)
	vpc := vpcs.Vpcs[0].VpcId
	const at = region + ":" + account + ":"
	cfg := c.AWSConfigOfRole("", testRole, "test")
	s3 := sdks3.NewFromConfig(cfg, func(o *sdks3.Options) { o.UsePathStyle = true })
	for statement, call := range map[string]func() error{
		"servicequotas:GetServiceQuota *": func() error {
			_, err := servicequotas.NewFromConfig(cfg).GetServiceQuota(ctx, &servicequotas.GetServiceQuotaInput{ServiceCode: aws.String("ec2"), QuotaCode: aws.String("L-B665C33B")})
			return err
		},
		"kms:DescribeKey " + *key.KeyMetadata.Arn: func() error {
			_, err := sdkkms.NewFromConfig(cfg).DescribeKey(ctx, &sdkkms.DescribeKeyInput{KeyId: key.KeyMetadata.KeyId})
			return err
		},
		"kms:GetKeyPolicy " + *key.KeyMetadata.Arn: func() error {
			_, err := sdkkms.NewFromConfig(cfg).GetKeyPolicy(ctx, &sdkkms.GetKeyPolicyInput{KeyId: key.KeyMetadata.KeyId})
			return err
		},
		"secretsmanager:DescribeSecret " + *secret.ARN: func() error {
			_, err := secretsmanager.NewFromConfig(cfg).DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: aws.String("agents/x")})
			return err
		},
		"states:DescribeStateMachine arn:aws:states:" + at + "stateMachine:m": func() error {
			_, err := sfn.NewFromConfig(cfg).DescribeStateMachine(ctx, &sfn.DescribeStateMachineInput{StateMachineArn: aws.String("arn:aws:states:" + at + "stateMachine:m")})
			return err
		},
		"events:ListTargetsByRule arn:aws:events:" + at + "rule/bus/r": func() error {
			_, err := eventbridge.NewFromConfig(cfg).ListTargetsByRule(ctx, &eventbridge.ListTargetsByRuleInput{EventBusName: aws.String("bus"), Rule: aws.String("r")})
			return err
		},
		"events:ListRules arn:aws:events:" + at + "rule/*": func() error {
			_, err := eventbridge.NewFromConfig(cfg).ListRules(ctx, &eventbridge.ListRulesInput{})
			return err
		},
		"lambda:GetFunctionConfiguration arn:aws:lambda:" + at + "function:f": func() error {
			_, err := sdklambda.NewFromConfig(cfg).GetFunctionConfiguration(ctx, &sdklambda.GetFunctionConfigurationInput{FunctionName: aws.String("f")})
			return err
		},
		"s3:GetBucketVersioning arn:aws:s3:::b": func() error {
			_, err := s3.GetBucketVersioning(ctx, &sdks3.GetBucketVersioningInput{Bucket: aws.String("b")})
			return err
		},
		"s3:GetBucketPublicAccessBlock arn:aws:s3:::b": func() error {
			_, err := s3.GetPublicAccessBlock(ctx, &sdks3.GetPublicAccessBlockInput{Bucket: aws.String("b")})
			return err
		},
		"ec2:DescribeVpcAttribute arn:aws:ec2:" + at + "vpc/" + *vpc: func() error {
			_, err := sdkec2.NewFromConfig(cfg).DescribeVpcAttribute(ctx, &sdkec2.DescribeVpcAttributeInput{VpcId: vpc, Attribute: ec2types.VpcAttributeNameEnableDnsSupport})
			return err
		},
		"ec2:GetAllowedImagesSettings *": func() error {
			_, err := sdkec2.NewFromConfig(cfg).GetAllowedImagesSettings(ctx, &sdkec2.GetAllowedImagesSettingsInput{})
			return err
		},
	} {
		t.Run(statement, func(t *testing.T) {
			allow(t, c, testRole, "sts:GetCallerIdentity *")
			require.True(t, refused(call()), "without the permission")
			allow(t, c, testRole, statement)
			assert.False(t, refused(call()), "with it the call comes through, whatever it finds: %v", call())
		})
	}
}

// refused says whether a call was denied for want of a permission.
func refused(err error) bool {
	var api smithy.APIError
	return errors.As(err, &api) && slices.Contains([]string{"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError"}, api.ErrorCode())
}
