package localcloud_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	eventtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	sdkkms "github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	sdklambda "github.com/aws/aws-sdk-go-v2/service/lambda"
	sdks3 "github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	sdksns "github.com/aws/aws-sdk-go-v2/service/sns"
	sdksqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud"
	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
	"github.com/ami-factory/ami-factory/pkg/localcloud/lambda"
)

// said is the policy of a resource, of one statement: "Allow principal action
// resource" and a condition that may be left out.
func said(statement string) *string {
	f := strings.SplitN(statement, " ", 5)
	condition := ""
	if len(f) > 4 {
		condition = `,"Condition":` + f[4]
	}
	return aws.String(fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":%q,"Principal":%s,"Action":%q,"Resource":["%s","%[4]s/*"]%s}]}`, f[0], f[1], f[2], f[3], condition))
}

func TestAccessToABucketIsDecidedOnBothSides(t *testing.T) {
	const read, mine = "s3:GetObject arn:aws:s3:::plans/*", "arn:aws:s3:::plans"
	for sentence, tc := range map[string]struct {
		role    string // testRole or otherRole
		needs   string // what the role's own policy says
		policy  string // as said takes it; empty: none
		because string // empty: allowed
	}{
		"the own account's by its own policy":        {testRole, read, "", ""},
		"or by the bucket's":                         {testRole, "ec2:X *", `Allow {"AWS":"` + testRole + `"} s3:GetObject ` + mine, ""},
		"not because the bucket trusts the account":  {testRole, "ec2:X *", `Allow {"AWS":"` + account + `"} s3:GetObject ` + mine, "no identity-based policy allows"},
		"a deny of the bucket wins":                  {testRole, read, `Deny "*" s3:* ` + mine, "explicit deny in a resource-based policy"},
		"a deny of the role wins":                    {testRole, "!s3:GetObject *", `Allow "*" s3:* ` + mine, "explicit deny in an identity-based policy"},
		"what denies plain HTTP denies no call here": {testRole, read, `Deny {"AWS":"*"} s3:* ` + mine + ` {"Bool":{"aws:SecureTransport":"false"}}`, ""},
		"but the key is there":                       {testRole, read, `Deny {"AWS":"*"} s3:* ` + mine + ` {"Bool":{"aws:SecureTransport":"true"}}`, "explicit deny"},
		"another account's with both":                {otherRole, read, `Allow {"AWS":"` + other + `"} s3:GetObject ` + mine, ""},
		"not with the bucket's alone":                {otherRole, "ec2:X *", `Allow {"AWS":"` + otherRole + `"} s3:GetObject ` + mine, "no identity-based policy allows"},
		"not with the role's alone":                  {otherRole, read, "", "no resource-based policy allows"},
		"not what the bucket lets in something else": {otherRole, read, `Allow {"AWS":"` + other + `"} s3:PutObject ` + mine, "no resource-based policy allows"},
		"of the organisation":                        {otherRole, read, `Allow "*" s3:GetObject ` + mine + ` {"StringEquals":{"aws:PrincipalOrgID":"o-factory"}}`, ""},
		"not of another":                             {otherRole, read, `Allow "*" s3:GetObject ` + mine + ` {"StringEquals":{"aws:PrincipalOrgID":"o-x"}}`, "no resource-based policy allows"},
	} {
		t.Run(sentence, func(t *testing.T) {
			c := listening(t, func(cfg *localcloud.Config) {
				cfg.EnforceIAM = true
				cfg.Organizations = func(string) []string { return []string{"arn:aws:organizations::111122223333:organization/o-factory"} }
			})
			root := sdks3.NewFromConfig(c.AWSConfig(""), func(o *sdks3.Options) { o.UsePathStyle = true })
			_, err := root.CreateBucket(t.Context(), &sdks3.CreateBucketInput{Bucket: aws.String("plans"), CreateBucketConfiguration: &s3types.CreateBucketConfiguration{LocationConstraint: region}})
			require.NoError(t, err)
			_, err = root.PutObject(t.Context(), &sdks3.PutObjectInput{Bucket: aws.String("plans"), Key: aws.String("a"), Body: strings.NewReader("v")})
			require.NoError(t, err)
			if tc.policy != "" {
				_, err = root.PutBucketPolicy(t.Context(), &sdks3.PutBucketPolicyInput{Bucket: aws.String("plans"), Policy: said(tc.policy)})
				require.NoError(t, err)
			}
			allow(t, c, tc.role, tc.needs)
			_, err = sdks3.NewFromConfig(sessionIn(t, c, tc.role), func(o *sdks3.Options) { o.UsePathStyle = true }).
				GetObject(t.Context(), &sdks3.GetObjectInput{Bucket: aws.String("plans"), Key: aws.String("a")})
			requireDenied(t, err, tc.because, "s3:GetObject")
		})
	}
}

// requireDenied wants a denial that says why, or none.
func requireDenied(t *testing.T, err error, because, action string) {
	t.Helper()
	if because == "" {
		require.NoError(t, err)
		return
	}
	require.ErrorContains(t, err, "is not authorized to perform: "+action+" on resource: ")
	require.ErrorContains(t, err, because)
}

func TestTheMethodsForABucketsPolicyServeWhatTheWireServes(t *testing.T) {
	c := enforcing(t)
	ctx, name := t.Context(), aws.String("plans")
	_, err := c.S3.CreateBucket(ctx, &sdks3.CreateBucketInput{Bucket: name})
	require.NoError(t, err)
	_, err = c.S3.GetBucketPolicy(ctx, &sdks3.GetBucketPolicyInput{Bucket: name})
	require.ErrorContains(t, err, "NoSuchBucketPolicy")
	_, err = c.S3.PutBucketPolicy(ctx, &sdks3.PutBucketPolicyInput{Bucket: name, Policy: said(`Deny "*" s3:* arn:aws:s3:::others`)})
	require.ErrorContains(t, err, "Policy has invalid resource")
	_, err = c.S3.PutBucketPolicy(ctx, &sdks3.PutBucketPolicyInput{Bucket: name, Policy: said(`Deny "*" s3:* arn:aws:s3:::plans {"NumericEquals":{"s3:max-keys":"1"}}`)})
	require.ErrorContains(t, err, "MalformedPolicy")
	want := said(`Deny "*" s3:* arn:aws:s3:::plans`)
	_, err = c.S3.PutBucketPolicy(ctx, &sdks3.PutBucketPolicyInput{Bucket: name, Policy: want})
	require.NoError(t, err)
	client := sdks3.NewFromConfig(c.AWSConfig(""), func(o *sdks3.Options) { o.UsePathStyle = true })
	got := must[*sdks3.GetBucketPolicyOutput](t)(client.GetBucketPolicy(ctx, &sdks3.GetBucketPolicyInput{Bucket: name}))
	assert.Equal(t, *want, *got.Policy)
	allow(t, c, testRole, "s3:DeleteBucketPolicy arn:aws:s3:::plans")
	cfg := sdks3.NewFromConfig(once(c), func(o *sdks3.Options) { o.UsePathStyle = true })
	_, err = cfg.DeleteBucketPolicy(ctx, &sdks3.DeleteBucketPolicyInput{Bucket: name})
	require.ErrorContains(t, err, "explicit deny in a resource-based policy")
	_, err = c.S3.DeleteBucketPolicy(ctx, &sdks3.DeleteBucketPolicyInput{Bucket: name})
	require.NoError(t, err)
	_, err = cfg.DeleteBucketPolicy(ctx, &sdks3.DeleteBucketPolicyInput{Bucket: name})
	require.NoError(t, err)
}

func TestTopicsAndQueuesLetInWhomTheirPoliciesName(t *testing.T) {
	for sentence, tc := range map[string]struct{ policy, because string }{
		"no policy":                     {"", "no resource-based policy allows"},
		"one that names the account":    {`Allow {"AWS":"` + other + `"} ACTION RESOURCE`, ""},
		"one that names another":        {`Allow {"AWS":"777788889999"} ACTION RESOURCE`, "no resource-based policy allows"},
		"one that denies plain HTTP":    {`Deny "*" ACTION RESOURCE {"Bool":{"aws:SecureTransport":"false"}}`, "no resource-based policy allows"},
		"one that denies the principal": {`Deny {"AWS":"` + otherRole + `"} ACTION RESOURCE`, "explicit deny in a resource-based policy"},
	} {
		t.Run(sentence, func(t *testing.T) {
			c := enforcing(t)
			allow(t, c, otherRole, "sns:Publish *", "sqs:SendMessage *")
			policy := func(action, arn string) map[string]string {
				if tc.policy == "" {
					return nil
				}
				return map[string]string{"Policy": *said(strings.NewReplacer("ACTION", action, "RESOURCE", arn).Replace(tc.policy))}
			}
			cfg := sessionIn(t, c, otherRole)
			topic := "arn:aws:sns:" + region + ":" + account + ":news"
			must[*sdksns.CreateTopicOutput](t)(c.SNS.CreateTopic(t.Context(), &sdksns.CreateTopicInput{Name: aws.String("news"), Attributes: policy("sns:Publish", topic)}))
			_, err := sdksns.NewFromConfig(cfg).Publish(t.Context(), &sdksns.PublishInput{TopicArn: &topic, Message: aws.String("m")})
			requireDenied(t, err, tc.because, "sns:Publish")

			queue := "arn:aws:sqs:" + region + ":" + account + ":jobs"
			made := must[*sdksqs.CreateQueueOutput](t)(c.SQS.CreateQueue(t.Context(), &sdksqs.CreateQueueInput{QueueName: aws.String("jobs"), Attributes: policy("sqs:SendMessage", queue)}))
			_, err = sdksqs.NewFromConfig(cfg).SendMessage(t.Context(), &sdksqs.SendMessageInput{QueueUrl: made.QueueUrl, MessageBody: aws.String("m")})
			requireDenied(t, err, tc.because, "sqs:SendMessage")
		})
	}
}

func TestServicesInvokeFunctionsThatLetThem(t *testing.T) {
	const function = "arn:aws:lambda:" + region + ":" + account + ":function:f"
	const rule, topic = "arn:aws:events:" + region + ":" + account + ":rule/r", "arn:aws:sns:" + region + ":" + account + ":news"
	for sentence, tc := range map[string]struct {
		service, source string
		sourceAccount   *string
		send            func(*testing.T, *localcloud.Cloud)
	}{
		"a rule of EventBridge": {"events.amazonaws.com", rule, aws.String(account), func(t *testing.T, c *localcloud.Cloud) {
			_, err := c.Events.PutEvents(t.Context(), &eventbridge.PutEventsInput{Entries: []eventtypes.PutEventsRequestEntry{{Source: aws.String("s"), DetailType: aws.String("d"), Detail: aws.String("{}")}}})
			require.NoError(t, err)
		}},
		"a topic of SNS": {"sns.amazonaws.com", topic, nil, func(t *testing.T, c *localcloud.Cloud) {
			_, err := c.SNS.Publish(t.Context(), &sdksns.PublishInput{TopicArn: aws.String(topic), Message: aws.String("m")})
			require.NoError(t, err)
		}},
	} {
		t.Run(sentence, func(t *testing.T) {
			decisions := make(chan authz.Decision, 16)
			c := listening(t, func(cfg *localcloud.Config) {
				cfg.EnforceIAM, cfg.Decisions = true, func(d authz.Decision) { decisions <- d }
			})
			invoked := make(chan bool, 16)
			require.NoError(t, c.Lambda.Deploy(lambda.Function{
				Name: "f", Timeout: time.Minute, MemoryMiB: 128, Handler: func(context.Context, []byte) ([]byte, error) { invoked <- true; return []byte(`{}`), nil },
			}))
			must[*eventbridge.PutRuleOutput](t)(c.Events.PutRule(t.Context(), &eventbridge.PutRuleInput{Name: aws.String("r"), EventPattern: aws.String(`{"source":["s"]}`)}))
			must[*eventbridge.PutTargetsOutput](t)(c.Events.PutTargets(t.Context(), &eventbridge.PutTargetsInput{Rule: aws.String("r"), Targets: []eventtypes.Target{{Id: aws.String("t"), Arn: aws.String(function)}}}))
			must[*sdksns.CreateTopicOutput](t)(c.SNS.CreateTopic(t.Context(), &sdksns.CreateTopicInput{Name: aws.String("news")}))
			must[*sdksns.SubscribeOutput](t)(c.SNS.Subscribe(t.Context(), &sdksns.SubscribeInput{TopicArn: aws.String(topic), Protocol: aws.String("lambda"), Endpoint: aws.String(function)}))
			permit := func(id, service, source string, of *string) {
				must[*sdklambda.AddPermissionOutput](t)(sdklambda.NewFromConfig(c.AWSConfig("")).AddPermission(t.Context(), &sdklambda.AddPermissionInput{
					FunctionName: aws.String("f"), StatementId: &id, Action: aws.String("lambda:InvokeFunction"), Principal: &service, SourceArn: &source, SourceAccount: of,
				}))
			}
			denied := func(why string) {
				t.Helper()
				tc.send(t, c)
				d := <-decisions
				assert.Equal(t, "lambda:InvokeFunction", d.Request.Action)
				assert.Contains(t, d.Verdict.Because("x"), "no resource-based policy", why)
			}
			denied("nothing lets it in")
			permit("another", tc.service, tc.source+"x", nil)
			denied("another source is let in")
			permit("elsewhere", tc.service, tc.source, aws.String(other))
			denied("another account is let in")
			assert.Empty(t, invoked)
			permit("this", tc.service, tc.source, tc.sourceAccount)
			tc.send(t, c)
			<-invoked
		})
	}
}

func TestAnotherAccountInvokesAFunctionThatLetsIt(t *testing.T) {
	c := enforcing(t)
	require.NoError(t, c.Lambda.Deploy(lambda.Function{
		Name: "f", Timeout: time.Minute, MemoryMiB: 128, Handler: func(context.Context, []byte) ([]byte, error) { return []byte(`{}`), nil },
	}))
	const function = "arn:aws:lambda:" + region + ":" + account + ":function:f"
	allow(t, c, otherRole, "lambda:InvokeFunction "+function)
	client := sdklambda.NewFromConfig(sessionIn(t, c, otherRole))
	invoke := func() error {
		_, err := client.Invoke(t.Context(), &sdklambda.InvokeInput{FunctionName: aws.String(function)})
		return err
	}
	require.ErrorContains(t, invoke(), "because no resource-based policy allows the lambda:InvokeFunction action")
	must[*sdklambda.AddPermissionOutput](t)(c.Lambda.AddPermission(t.Context(), &sdklambda.AddPermissionInput{
		FunctionName: aws.String("f"), StatementId: aws.String("x"), Action: aws.String("lambda:InvokeFunction"), Principal: aws.String(other),
	}))
	require.NoError(t, invoke())
}

func TestAKeyIsUsedByThoseWhomItsPolicyOrAGrantNames(t *testing.T) {
	const delegating = `Allow {"AWS":"` + account + `"} kms:* *`
	for sentence, tc := range map[string]struct {
		role, needs, policy, grantee, because string
	}{
		"the own account's role, which the key leaves to its policies": {testRole, "kms:Encrypt *", delegating, "", ""},
		"not if the key leaves nothing to them":                        {testRole, "kms:Encrypt *", `Allow {"AWS":"` + account + `"} kms:DescribeKey *`, "", "no resource-based policy allows"},
		"by the key's policy alone":                                    {testRole, "ec2:X *", `Allow {"AWS":"` + testRole + `"} kms:Encrypt *`, "", ""},
		"by a grant alone":                                             {testRole, "ec2:X *", delegating, testRole, ""},
		"another account's role with both":                             {otherRole, "kms:Encrypt *", `Allow {"AWS":"` + other + `"} kms:Encrypt *`, "", ""},
		"with a grant to it, and its own policy":                       {otherRole, "kms:Encrypt *", delegating, otherRole, ""},
		"not with its own policy alone":                                {otherRole, "kms:Encrypt *", delegating, "", "no resource-based policy allows"},
		"not with the key's alone":                                     {otherRole, "ec2:X *", `Allow {"AWS":"` + otherRole + `"} kms:Encrypt *`, "", "no identity-based policy allows"},
	} {
		t.Run(sentence, func(t *testing.T) {
			c := enforcing(t)
			policy := strings.ReplaceAll(*said(tc.policy), `["*","*/*"]`, `"*"`)
			key := must[*sdkkms.CreateKeyOutput](t)(c.KMS.CreateKey(t.Context(), &sdkkms.CreateKeyInput{Policy: &policy})).KeyMetadata
			if tc.grantee != "" {
				must[*sdkkms.CreateGrantOutput](t)(c.KMS.CreateGrant(t.Context(), &sdkkms.CreateGrantInput{KeyId: key.KeyId, GranteePrincipal: &tc.grantee, Operations: []kmstypes.GrantOperation{"Encrypt"}}))
			}
			allow(t, c, tc.role, tc.needs)
			_, err := sdkkms.NewFromConfig(sessionIn(t, c, tc.role)).Encrypt(t.Context(), &sdkkms.EncryptInput{KeyId: key.Arn, Plaintext: []byte("x")})
			requireDenied(t, err, tc.because, "kms:Encrypt")
		})
	}
}

func TestAKeySignsForThoseWhomPoliciesAllowUnderTheirConditions(t *testing.T) {
	const alias = "alias/evidence"
	for sentence, tc := range map[string]struct {
		needs   string
		key     string // by which the call names the key; empty: its ARN
		because string // empty: allowed
	}{
		"by its own policy":                      {"kms:Sign *", "", ""},
		"another action does not sign":           {"kms:Verify *", "", "no identity-based policy allows"},
		"with the algorithm":                     {`kms:Sign * {"StringEquals":{"kms:SigningAlgorithm":"ECDSA_SHA_256"}}`, "", ""},
		"not with another one":                   {`kms:Sign * {"StringEquals":{"kms:SigningAlgorithm":"RSASSA_PSS_SHA_256"}}`, "", "no identity-based policy allows"},
		"with the message type, which is RAW":    {`kms:Sign * {"StringEquals":{"kms:MessageType":"RAW"}}`, "", ""},
		"not where only digests are signed":      {`kms:Sign * {"StringEquals":{"kms:MessageType":"DIGEST"}}`, "", "no identity-based policy allows"},
		"with the kind of key":                   {`kms:Sign * {"StringEquals":{"kms:KeySpec":"ECC_NIST_P256","kms:KeyUsage":"SIGN_VERIFY"}}`, "", ""},
		"through the alias":                      {`kms:Sign * {"StringEquals":{"kms:RequestAlias":"alias/evidence"}}`, alias, ""},
		"not by the ARN where an alias is asked": {`kms:Sign * {"StringEquals":{"kms:RequestAlias":"alias/evidence"}}`, "", "no identity-based policy allows"},
		"where the key has the alias":            {`kms:Sign * {"ForAnyValue:StringEquals":{"kms:ResourceAliases":"alias/evidence"}}`, "", ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			c := enforcing(t)
			key := must[*sdkkms.CreateKeyOutput](t)(c.KMS.CreateKey(t.Context(), &sdkkms.CreateKeyInput{KeySpec: kmstypes.KeySpecEccNistP256, KeyUsage: kmstypes.KeyUsageTypeSignVerify})).KeyMetadata
			must[*sdkkms.CreateAliasOutput](t)(c.KMS.CreateAlias(t.Context(), &sdkkms.CreateAliasInput{AliasName: aws.String(alias), TargetKeyId: key.KeyId}))
			allow(t, c, testRole, tc.needs)
			named := key.Arn
			if tc.key != "" {
				named = &tc.key
			}
			_, err := sdkkms.NewFromConfig(sessionIn(t, c, testRole)).Sign(t.Context(), &sdkkms.SignInput{KeyId: named, Message: []byte("x"), SigningAlgorithm: kmstypes.SigningAlgorithmSpecEcdsaSha256})
			requireDenied(t, err, tc.because, "kms:Sign")
		})
	}
}

func TestASharedImageIsLaunchedWhereItsKeyMayBeUsed(t *testing.T) {
	c := enforcing(t)
	ctx := t.Context()
	key := must[*sdkkms.CreateKeyOutput](t)(c.KMS.CreateKey(ctx, &sdkkms.CreateKeyInput{})).KeyMetadata
	image := *must[*sdkec2.CopyImageOutput](t)(c.EC2.CopyImage(ctx, &sdkec2.CopyImageInput{
		Name: aws.String("golden"), SourceImageId: aws.String(baseImage(t, c)), SourceRegion: aws.String(region), Encrypted: aws.Bool(true), KmsKeyId: key.Arn,
	})).ImageId
	require.NoError(t, sdkec2.NewImageAvailableWaiter(c.EC2, func(o *sdkec2.ImageAvailableWaiterOptions) {
		o.MinDelay, o.MaxDelay = 5*time.Millisecond, 50*time.Millisecond
	}).Wait(ctx, &sdkec2.DescribeImagesInput{ImageIds: []string{image}}, time.Minute))
	must[*sdkec2.ModifyImageAttributeOutput](t)(c.EC2.ModifyImageAttribute(ctx, &sdkec2.ModifyImageAttributeInput{
		ImageId: &image, LaunchPermission: &ec2types.LaunchPermissionModifications{Add: []ec2types.LaunchPermission{{UserId: aws.String(other)}}},
	}))
	allow(t, c, otherRole, "ec2:* *", "kms:* *")
	launch := func() error {
		_, err := sdkec2.NewFromConfig(sessionIn(t, c, otherRole)).RunInstances(ctx, &sdkec2.RunInstancesInput{
			ImageId: &image, InstanceType: ec2types.InstanceTypeT3Medium, MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
		})
		return err
	}
	require.ErrorContains(t, launch(), "kms:CreateGrant on resource: "+*key.Arn+" because no resource-based policy allows the kms:CreateGrant action")
	must[*sdkkms.PutKeyPolicyOutput](t)(c.KMS.PutKeyPolicy(ctx, &sdkkms.PutKeyPolicyInput{KeyId: key.KeyId, Policy: aws.String(`{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Principal":{"AWS":"` + account + `"},"Action":"kms:*","Resource":"*"},
		{"Effect":"Allow","Principal":{"AWS":"` + other + `"},"Action":["kms:Decrypt","kms:DescribeKey","kms:GenerateDataKeyWithoutPlaintext","kms:ReEncrypt*"],"Resource":"*"},
		{"Effect":"Allow","Principal":{"AWS":"` + other + `"},"Action":"kms:CreateGrant","Resource":"*","Condition":{"Bool":{"kms:GrantIsForAWSResource":"true"}}}]}`)}))
	require.NoError(t, launch())
}
