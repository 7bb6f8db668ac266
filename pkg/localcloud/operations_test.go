package localcloud_test

import (
	"context"
	"io"
	"net/http"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	scalingtypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	sdkec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	eventtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	sdks3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	secretstypes "github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/aws-sdk-go-v2/service/servicequotas"
	quotatypes "github.com/aws/aws-sdk-go-v2/service/servicequotas/types"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	snstypes "github.com/aws/aws-sdk-go-v2/service/sns/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// recorder notes which operations the SDK's clients have called.
type recorder struct {
	mu    sync.Mutex
	names map[string]bool
}

func (r *recorder) record(stack *middleware.Stack) error {
	return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("record", func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
		r.mu.Lock()
		r.names[awsmiddleware.GetOperationName(ctx)] = true
		r.mu.Unlock()
		return next.HandleInitialize(ctx, in)
	}), middleware.After)
}

// missing are the operations served that were not called.
func (r *recorder) missing(s wire.Service) []string {
	var out []string
	for name := range s.Operations {
		if !r.names[name] {
			out = append(out, name)
		}
	}
	sort.Strings(out)
	return out
}

// recorded is a configuration of the SDK's clients that notes their calls.
func recorded(c *localcloud.Cloud) (aws.Config, *recorder) {
	r := &recorder{names: map[string]bool{}}
	cfg := c.AWSConfig("")
	cfg.APIOptions = append(cfg.APIOptions, r.record)
	return cfg, r
}

// must fails the test on an error of a call.
func must[T any](t *testing.T) func(T, error) T {
	t.Helper()
	return func(out T, err error) T {
		t.Helper()
		require.NoError(t, err)
		return out
	}
}

func TestEveryOperationOfSSMOverTheWire(t *testing.T) {
	c := listening(t)
	cfg, calls := recorded(c)
	client := ssm.NewFromConfig(cfg)
	ctx := t.Context()
	instance := running(t, c)
	must[*sdks3.CreateBucketOutput](t)(sdks3.NewFromConfig(cfg).CreateBucket(ctx, &sdks3.CreateBucketInput{Bucket: aws.String("results")}))

	sent := must[*ssm.SendCommandOutput](t)(client.SendCommand(ctx, &ssm.SendCommandInput{
		DocumentName: aws.String("AWS-RunShellScript"), InstanceIds: []string{instance}, Comment: aws.String("check"), TimeoutSeconds: aws.Int32(60),
		Parameters: map[string][]string{"commands": {"goss validate"}, "executionTimeout": {"60"}}, OutputS3BucketName: aws.String("results"), OutputS3KeyPrefix: aws.String("runs"),
	})).Command
	assert.Equal(t, "check", *sent.Comment)
	assert.WithinDuration(t, time.Now(), *sent.RequestedDateTime, time.Minute)
	waiter := ssm.NewCommandExecutedWaiter(client, func(o *ssm.CommandExecutedWaiterOptions) {
		o.MinDelay, o.MaxDelay = 5*time.Millisecond, 50*time.Millisecond
	})
	result, err := waiter.WaitForOutput(ctx, &ssm.GetCommandInvocationInput{CommandId: sent.CommandId, InstanceId: aws.String(instance)}, time.Minute)
	require.NoError(t, err)
	assert.Equal(t, "GOSS VALIDATE\n", *result.StandardOutputContent)
	stored := must[*sdks3.GetObjectOutput](t)(sdks3.NewFromConfig(cfg).GetObject(ctx, &sdks3.GetObjectInput{
		Bucket: aws.String("results"), Key: aws.String("runs/" + *sent.CommandId + "/" + instance + "/awsrunShellScript/0.awsrunShellScript/stdout"),
	}))
	raw, err := io.ReadAll(stored.Body)
	require.NoError(t, err)
	assert.Equal(t, "GOSS VALIDATE\n", string(raw))
	assert.Len(t, must[*ssm.ListCommandsOutput](t)(client.ListCommands(ctx, &ssm.ListCommandsInput{InstanceId: aws.String(instance)})).Commands, 1)
	details := must[*ssm.ListCommandInvocationsOutput](t)(client.ListCommandInvocations(ctx, &ssm.ListCommandInvocationsInput{Details: true}))
	assert.Equal(t, "GOSS VALIDATE\n", *details.CommandInvocations[0].CommandPlugins[0].Output)
	must[*ssm.CancelCommandOutput](t)(client.CancelCommand(ctx, &ssm.CancelCommandInput{CommandId: sent.CommandId}))
	info := must[*ssm.DescribeInstanceInformationOutput](t)(client.DescribeInstanceInformation(ctx, &ssm.DescribeInstanceInformationInput{}))
	assert.Equal(t, ssmtypes.PingStatusOnline, info.InstanceInformationList[0].PingStatus)
	_, err = client.SendCommand(ctx, &ssm.SendCommandInput{DocumentName: aws.String("AWS-RunShellScript"), InstanceIds: []string{"i-0"}, Parameters: map[string][]string{"commands": {"true"}}})
	var invalid *ssmtypes.InvalidInstanceId
	require.ErrorAs(t, err, &invalid, "the SDK knows the error by its type")

	image := *must[*sdkec2.DescribeInstancesOutput](t)(sdkec2.NewFromConfig(cfg).DescribeInstances(ctx, &sdkec2.DescribeInstancesInput{InstanceIds: []string{instance}})).Reservations[0].Instances[0].ImageId
	must[*ssm.PutParameterOutput](t)(client.PutParameter(ctx, &ssm.PutParameterInput{Name: aws.String("/golden/latest"), Type: ssmtypes.ParameterTypeString, Value: aws.String(image), DataType: aws.String("aws:ec2:image"), Tags: []ssmtypes.Tag{{Key: aws.String("a"), Value: aws.String("b")}}}))
	require.Eventually(t, func() bool {
		out, err := client.GetParameter(ctx, &ssm.GetParameterInput{Name: aws.String("/golden/latest")})
		return err == nil && *out.Parameter.Value == image
	}, time.Minute, 20*time.Millisecond, "the image is looked up in EC2")
	references := must[*sdkec2.DescribeImageReferencesOutput](t)(sdkec2.NewFromConfig(cfg).DescribeImageReferences(ctx, &sdkec2.DescribeImageReferencesInput{
		ImageIds: []string{image}, IncludeAllResourceTypes: aws.Bool(true),
	})).ImageReferences
	require.NotEmpty(t, references)
	assert.True(t, strings.HasSuffix(*references[0].Arn, ":parameter/golden/latest"), "the parameter's value is looked up in SSM: %s", *references[0].Arn)
	assert.Len(t, must[*ssm.GetParametersOutput](t)(client.GetParameters(ctx, &ssm.GetParametersInput{Names: []string{"/golden/latest"}})).Parameters, 1)
	assert.Len(t, must[*ssm.GetParametersByPathOutput](t)(client.GetParametersByPath(ctx, &ssm.GetParametersByPathInput{Path: aws.String("/golden")})).Parameters, 1)
	described := must[*ssm.DescribeParametersOutput](t)(client.DescribeParameters(ctx, &ssm.DescribeParametersInput{ParameterFilters: []ssmtypes.ParameterStringFilter{
		{Key: aws.String("Path"), Values: []string{"/golden"}}, {Key: aws.String("Type"), Values: []string{"String"}}, {Key: aws.String("tag:a"), Values: []string{"b"}},
	}})).Parameters
	if assert.Len(t, described, 1) {
		assert.Equal(t, "/golden/latest", *described[0].Name)
		assert.Equal(t, "aws:ec2:image", *described[0].DataType)
	}
	assert.Empty(t, must[*ssm.DescribeParametersOutput](t)(client.DescribeParameters(ctx, &ssm.DescribeParametersInput{ParameterFilters: []ssmtypes.ParameterStringFilter{
		{Key: aws.String("Name"), Option: aws.String("BeginsWith"), Values: []string{"/silver"}},
	}})).Parameters)
	must[*ssm.LabelParameterVersionOutput](t)(client.LabelParameterVersion(ctx, &ssm.LabelParameterVersionInput{Name: aws.String("/golden/latest"), Labels: []string{"stable"}}))
	assert.Equal(t, []string{"stable"}, must[*ssm.GetParameterHistoryOutput](t)(client.GetParameterHistory(ctx, &ssm.GetParameterHistoryInput{Name: aws.String("/golden/latest")})).Parameters[0].Labels)
	must[*ssm.AddTagsToResourceOutput](t)(client.AddTagsToResource(ctx, &ssm.AddTagsToResourceInput{ResourceType: "Parameter", ResourceId: aws.String("/golden/latest"), Tags: []ssmtypes.Tag{{Key: aws.String("c"), Value: aws.String("d")}}}))
	must[*ssm.RemoveTagsFromResourceOutput](t)(client.RemoveTagsFromResource(ctx, &ssm.RemoveTagsFromResourceInput{ResourceType: "Parameter", ResourceId: aws.String("/golden/latest"), TagKeys: []string{"a"}}))
	assert.Len(t, must[*ssm.ListTagsForResourceOutput](t)(client.ListTagsForResource(ctx, &ssm.ListTagsForResourceInput{ResourceType: "Parameter", ResourceId: aws.String("/golden/latest")})).TagList, 1)
	must[*ssm.DeleteParameterOutput](t)(client.DeleteParameter(ctx, &ssm.DeleteParameterInput{Name: aws.String("/golden/latest")}))
	assert.Len(t, must[*ssm.DeleteParametersOutput](t)(client.DeleteParameters(ctx, &ssm.DeleteParametersInput{Names: []string{"/x"}})).InvalidParameters, 1)
	content := `{"schemaVersion":"2.2","mainSteps":[{"action":"aws:runShellScript","name":"one","inputs":{"runCommand":["goss validate"]}}]}`
	own := must[*ssm.CreateDocumentOutput](t)(client.CreateDocument(ctx, &ssm.CreateDocumentInput{Name: aws.String("checks"), Content: &content, DocumentType: ssmtypes.DocumentTypeCommand})).DocumentDescription
	must[*ssm.SendCommandOutput](t)(client.SendCommand(ctx, &ssm.SendCommandInput{
		DocumentName: own.Name, DocumentHash: own.Hash, DocumentHashType: ssmtypes.DocumentHashTypeSha256, InstanceIds: []string{instance},
	}))
	changed := strings.Replace(content, "goss", "oscap", 1)
	must[*ssm.UpdateDocumentOutput](t)(client.UpdateDocument(ctx, &ssm.UpdateDocumentInput{Name: own.Name, Content: &changed, DocumentVersion: aws.String("$LATEST")}))
	must[*ssm.UpdateDocumentDefaultVersionOutput](t)(client.UpdateDocumentDefaultVersion(ctx, &ssm.UpdateDocumentDefaultVersionInput{Name: own.Name, DocumentVersion: aws.String("2")}))
	assert.NotEqual(t, *own.Hash, *must[*ssm.DescribeDocumentOutput](t)(client.DescribeDocument(ctx, &ssm.DescribeDocumentInput{Name: own.Name})).Document.Hash)
	assert.Equal(t, changed, *must[*ssm.GetDocumentOutput](t)(client.GetDocument(ctx, &ssm.GetDocumentInput{Name: own.Name})).Content)
	_, err = client.SendCommand(ctx, &ssm.SendCommandInput{DocumentName: own.Name, DocumentHash: own.Hash, DocumentHashType: ssmtypes.DocumentHashTypeSha256, InstanceIds: []string{instance}})
	var swapped *ssmtypes.InvalidDocument
	require.ErrorAs(t, err, &swapped)
	must[*ssm.DeleteDocumentOutput](t)(client.DeleteDocument(ctx, &ssm.DeleteDocumentInput{Name: own.Name}))
	assert.Empty(t, calls.missing(c.SSM.Wire()))
}

func TestEveryOperationOfSTSOverTheWire(t *testing.T) {
	c := listening(t)
	cfg, calls := recorded(c)
	client := sts.NewFromConfig(cfg)
	ctx := t.Context()
	me := must[*sts.GetCallerIdentityOutput](t)(client.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{}))
	assert.Equal(t, account, *me.Account)
	assumed := must[*sts.AssumeRoleOutput](t)(client.AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: aws.String("arn:aws:iam::444455556666:role/share"), RoleSessionName: aws.String("bake")}))
	k := assumed.Credentials
	assert.WithinDuration(t, time.Now().Add(time.Hour), *k.Expiration, time.Minute)
	assert.Equal(t, "444455556666", *must[*sts.GetAccessKeyInfoOutput](t)(client.GetAccessKeyInfo(ctx, &sts.GetAccessKeyInfoInput{AccessKeyId: k.AccessKeyId})).Account)
	assert.Empty(t, calls.missing(c.STS.Wire()))

	switched := cfg.Copy()
	switched.Credentials = credentials.NewStaticCredentialsProvider(*k.AccessKeyId, *k.SecretAccessKey, *k.SessionToken)
	me = must[*sts.GetCallerIdentityOutput](t)(sts.NewFromConfig(switched).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{}))
	assert.Equal(t, "arn:aws:sts::444455556666:assumed-role/share/bake", *me.Arn)
	must[*ssm.PutParameterOutput](t)(ssm.NewFromConfig(switched).PutParameter(ctx, &ssm.PutParameterInput{Name: aws.String("/theirs"), Type: "String", Value: aws.String("v")}))
	_, err := ssm.NewFromConfig(cfg).GetParameter(ctx, &ssm.GetParameterInput{Name: aws.String("/theirs")})
	var notFound *ssmtypes.ParameterNotFound
	require.ErrorAs(t, err, &notFound, "AssumeRole switches the account")
	must[*ssm.GetParameterOutput](t)(ssm.NewFromConfig(c.AWSConfigFor("444455556666", "")).GetParameter(ctx, &ssm.GetParameterInput{Name: aws.String("/theirs")}))

	bucket := aws.String("theirs")
	must[*sdks3.CreateBucketOutput](t)(sdks3.NewFromConfig(switched).CreateBucket(ctx, &sdks3.CreateBucketInput{Bucket: bucket}))
	must[*sdks3.PutObjectOutput](t)(sdks3.NewFromConfig(switched).PutObject(ctx, &sdks3.PutObjectInput{Bucket: bucket, Key: aws.String("k"), Body: strings.NewReader("v")}))
	signed, err := sdks3.NewPresignClient(sdks3.NewFromConfig(switched)).PresignHeadObject(ctx, &sdks3.HeadObjectInput{Bucket: bucket, Key: aws.String("k")})
	require.NoError(t, err)
	request, err := http.NewRequestWithContext(ctx, signed.Method, signed.URL, nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	assert.Equal(t, 200, response.StatusCode, "what a minted key has signed is verified with its secret")
}

func TestEveryOperationOfKMSOverTheWire(t *testing.T) {
	c := listening(t)
	cfg, calls := recorded(c)
	client := kms.NewFromConfig(cfg)
	ctx := t.Context()
	key := must[*kms.CreateKeyOutput](t)(client.CreateKey(ctx, &kms.CreateKeyInput{Description: aws.String("images")})).KeyMetadata
	must[*kms.CreateAliasOutput](t)(client.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String("alias/images"), TargetKeyId: key.KeyId}))
	assert.Equal(t, *key.Arn, *must[*kms.DescribeKeyOutput](t)(client.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String("alias/images")})).KeyMetadata.Arn)
	assert.Len(t, must[*kms.ListAliasesOutput](t)(client.ListAliases(ctx, &kms.ListAliasesInput{})).Aliases, 4)
	other := must[*kms.CreateKeyOutput](t)(client.CreateKey(ctx, &kms.CreateKeyInput{})).KeyMetadata
	must[*kms.UpdateAliasOutput](t)(client.UpdateAlias(ctx, &kms.UpdateAliasInput{AliasName: aws.String("alias/images"), TargetKeyId: other.KeyId}))
	assert.Equal(t, *other.Arn, *must[*kms.DescribeKeyOutput](t)(client.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String("alias/images")})).KeyMetadata.Arn)
	must[*kms.DeleteAliasOutput](t)(client.DeleteAlias(ctx, &kms.DeleteAliasInput{AliasName: aws.String("alias/images")}))
	assert.Len(t, must[*kms.ListAliasesOutput](t)(client.ListAliases(ctx, &kms.ListAliasesInput{})).Aliases, 3)
	assert.Len(t, must[*kms.ListKeysOutput](t)(client.ListKeys(ctx, &kms.ListKeysInput{})).Keys, 5)
	policy := must[*kms.GetKeyPolicyOutput](t)(client.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: key.KeyId}))
	must[*kms.PutKeyPolicyOutput](t)(client.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: key.KeyId, Policy: policy.Policy}))
	grant := must[*kms.CreateGrantOutput](t)(client.CreateGrant(ctx, &kms.CreateGrantInput{KeyId: key.KeyId, GranteePrincipal: aws.String("arn:aws:iam::444455556666:root"), Operations: []kmstypes.GrantOperation{"Decrypt"}}))
	assert.Len(t, must[*kms.ListGrantsOutput](t)(client.ListGrants(ctx, &kms.ListGrantsInput{KeyId: key.KeyId})).Grants, 1)
	must[*kms.RetireGrantOutput](t)(client.RetireGrant(ctx, &kms.RetireGrantInput{KeyId: key.KeyId, GrantId: grant.GrantId}))
	data := must[*kms.GenerateDataKeyOutput](t)(client.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: key.KeyId, KeySpec: kmstypes.DataKeySpecAes256}))
	assert.Equal(t, data.Plaintext, must[*kms.DecryptOutput](t)(client.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: data.CiphertextBlob})).Plaintext)
	sealed := must[*kms.EncryptOutput](t)(client.Encrypt(ctx, &kms.EncryptInput{KeyId: key.KeyId, Plaintext: []byte{0, 1, 255}}))
	assert.Equal(t, []byte{0, 1, 255}, must[*kms.DecryptOutput](t)(client.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})).Plaintext)
	must[*kms.DisableKeyOutput](t)(client.DisableKey(ctx, &kms.DisableKeyInput{KeyId: key.KeyId}))
	_, err := client.Encrypt(ctx, &kms.EncryptInput{KeyId: key.KeyId, Plaintext: []byte{1}})
	var disabled *kmstypes.DisabledException
	require.ErrorAs(t, err, &disabled)
	must[*kms.EnableKeyOutput](t)(client.EnableKey(ctx, &kms.EnableKeyInput{KeyId: key.KeyId}))
	must[*kms.EncryptOutput](t)(client.Encrypt(ctx, &kms.EncryptInput{KeyId: key.KeyId, Plaintext: []byte{1}}))
	must[*kms.ScheduleKeyDeletionOutput](t)(client.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: key.KeyId}))
	signing := must[*kms.CreateKeyOutput](t)(client.CreateKey(ctx, &kms.CreateKeyInput{KeySpec: kmstypes.KeySpecEccNistP256, KeyUsage: kmstypes.KeyUsageTypeSignVerify})).KeyMetadata
	assert.Equal(t, []kmstypes.SigningAlgorithmSpec{kmstypes.SigningAlgorithmSpecEcdsaSha256}, signing.SigningAlgorithms)
	message := []byte("what is signed")
	signature := must[*kms.SignOutput](t)(client.Sign(ctx, &kms.SignInput{KeyId: signing.KeyId, Message: message, SigningAlgorithm: kmstypes.SigningAlgorithmSpecEcdsaSha256})).Signature
	assert.True(t, must[*kms.VerifyOutput](t)(client.Verify(ctx, &kms.VerifyInput{KeyId: signing.KeyId, Message: message, Signature: signature, SigningAlgorithm: kmstypes.SigningAlgorithmSpecEcdsaSha256})).SignatureValid)
	_, err = client.Verify(ctx, &kms.VerifyInput{KeyId: signing.KeyId, Message: message[1:], Signature: signature, SigningAlgorithm: kmstypes.SigningAlgorithmSpecEcdsaSha256})
	var forged *kmstypes.KMSInvalidSignatureException
	require.ErrorAs(t, err, &forged)
	assert.Equal(t, kmstypes.KeySpecEccNistP256, must[*kms.GetPublicKeyOutput](t)(client.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: signing.Arn})).KeySpec)
	_, err = client.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String("alias/none")})
	var notFound *kmstypes.NotFoundException
	require.ErrorAs(t, err, &notFound)
	assert.Empty(t, calls.missing(c.KMS.Wire()))
}

func TestEveryOperationOfServiceQuotasOverTheWire(t *testing.T) {
	c := listening(t)
	cfg, calls := recorded(c)
	client := servicequotas.NewFromConfig(cfg)
	ctx := t.Context()
	amis := &servicequotas.GetServiceQuotaInput{ServiceCode: aws.String("ec2"), QuotaCode: aws.String("L-B665C33B")}
	assert.Equal(t, 50000.0, *must[*servicequotas.GetServiceQuotaOutput](t)(client.GetServiceQuota(ctx, amis)).Quota.Value)
	require.NoError(t, c.Quotas.Set(account, region, "ec2", "L-B665C33B", 7))
	require.Error(t, c.Quotas.Set(account, region, "ec2", "L-0", 7))
	raw, err := c.Quotas.Snapshot()
	require.NoError(t, err)
	require.NoError(t, c.Quotas.Restore(raw))
	assert.Equal(t, 7.0, *must[*servicequotas.GetServiceQuotaOutput](t)(client.GetServiceQuota(ctx, amis)).Quota.Value, "what was set is kept")
	abroad := servicequotas.NewFromConfig(c.AWSConfig("us-east-1"))
	assert.Equal(t, 50000.0, *must[*servicequotas.GetServiceQuotaOutput](t)(abroad.GetServiceQuota(ctx, amis)).Quota.Value, "regions are separate")
	assert.Equal(t, 50000.0, *must[*servicequotas.GetAWSDefaultServiceQuotaOutput](t)(client.GetAWSDefaultServiceQuota(ctx, &servicequotas.GetAWSDefaultServiceQuotaInput{
		ServiceCode: amis.ServiceCode, QuotaCode: amis.QuotaCode,
	})).Quota.Value)
	pages := servicequotas.NewListServiceQuotasPaginator(client, &servicequotas.ListServiceQuotasInput{ServiceCode: aws.String("ec2"), MaxResults: aws.Int32(1)})
	var codes []string
	for pages.HasMorePages() {
		for _, q := range must[*servicequotas.ListServiceQuotasOutput](t)(pages.NextPage(ctx)).Quotas {
			codes = append(codes, *q.QuotaCode)
		}
	}
	assert.Equal(t, []string{"L-1216C47A", "L-B665C33B"}, codes)
	_, err = client.GetServiceQuota(ctx, &servicequotas.GetServiceQuotaInput{ServiceCode: aws.String("ec2"), QuotaCode: aws.String("L-0")})
	var unknown *quotatypes.NoSuchResourceException
	require.ErrorAs(t, err, &unknown)
	assert.Empty(t, calls.missing(c.Quotas.Wire()))
}

func TestEveryOperationOfAutoScalingOverTheWire(t *testing.T) {
	c := listening(t)
	cfg, calls := recorded(c)
	client := autoscaling.NewFromConfig(cfg)
	ctx := t.Context()
	image := baseImage(t, c)
	for _, name := range []string{"web", "batch"} {
		must[*autoscaling.CreateLaunchConfigurationOutput](t)(client.CreateLaunchConfiguration(ctx, &autoscaling.CreateLaunchConfigurationInput{
			LaunchConfigurationName: &name, ImageId: &image, InstanceType: aws.String("t3.micro"), SecurityGroups: []string{"sg-1"},
			BlockDeviceMappings: []scalingtypes.BlockDeviceMapping{{DeviceName: aws.String("/dev/xvda"), Ebs: &scalingtypes.Ebs{VolumeSize: aws.Int32(9), Encrypted: aws.Bool(true)}}},
		}))
	}
	_, err := client.CreateLaunchConfiguration(ctx, &autoscaling.CreateLaunchConfigurationInput{
		LaunchConfigurationName: aws.String("web"), ImageId: &image, InstanceType: aws.String("t3.micro"),
	})
	var exists *scalingtypes.AlreadyExistsFault
	require.ErrorAs(t, err, &exists)
	for sentence, in := range map[string]*autoscaling.CreateLaunchConfigurationInput{
		"an image that is not there": {LaunchConfigurationName: aws.String("x"), ImageId: aws.String("ami-0123456789abcdef0"), InstanceType: aws.String("t3.micro")},
		"no instance type":           {LaunchConfigurationName: aws.String("x"), ImageId: &image},
		"an instance as the model":   {LaunchConfigurationName: aws.String("x"), InstanceId: aws.String("i-1")},
		"a colon in the name":        {LaunchConfigurationName: aws.String("x:y"), ImageId: &image, InstanceType: aws.String("t3.micro")},
	} {
		_, err := client.CreateLaunchConfiguration(ctx, in)
		var api smithy.APIError
		require.ErrorAs(t, err, &api, sentence)
		assert.Equal(t, "ValidationError", api.ErrorCode(), sentence)
	}
	raw, err := c.AutoScaling.Snapshot()
	require.NoError(t, err)
	require.NoError(t, c.AutoScaling.Restore(raw))
	var found []string
	pages := autoscaling.NewDescribeLaunchConfigurationsPaginator(client, &autoscaling.DescribeLaunchConfigurationsInput{MaxRecords: aws.Int32(1)})
	for pages.HasMorePages() {
		for _, l := range must[*autoscaling.DescribeLaunchConfigurationsOutput](t)(pages.NextPage(ctx)).LaunchConfigurations {
			found = append(found, *l.LaunchConfigurationName+" "+*l.ImageId)
			assert.Equal(t, []string{"sg-1"}, l.SecurityGroups)
			assert.Equal(t, int32(9), *l.BlockDeviceMappings[0].Ebs.VolumeSize)
			assert.False(t, l.CreatedTime.IsZero())
		}
	}
	assert.Equal(t, []string{"batch " + image, "web " + image}, found)
	abroad := autoscaling.NewFromConfig(c.AWSConfig("us-east-1"))
	assert.Empty(t, must[*autoscaling.DescribeLaunchConfigurationsOutput](t)(abroad.DescribeLaunchConfigurations(ctx, &autoscaling.DescribeLaunchConfigurationsInput{})).LaunchConfigurations, "regions are separate")
	must[*autoscaling.DeleteLaunchConfigurationOutput](t)(client.DeleteLaunchConfiguration(ctx, &autoscaling.DeleteLaunchConfigurationInput{LaunchConfigurationName: aws.String("web")}))
	_, err = client.DeleteLaunchConfiguration(ctx, &autoscaling.DeleteLaunchConfigurationInput{LaunchConfigurationName: aws.String("web")})
	require.ErrorContains(t, err, "not found")
	assert.Empty(t, calls.missing(c.AutoScaling.Wire()))
}

func TestEveryOperationOfSecretsManagerOverTheWire(t *testing.T) {
	c := listening(t)
	cfg, calls := recorded(c)
	client := secretsmanager.NewFromConfig(cfg)
	ctx := t.Context()
	name := aws.String("ami-factory/agents/newrelic")
	made := must[*secretsmanager.CreateSecretOutput](t)(client.CreateSecret(ctx, &secretsmanager.CreateSecretInput{
		Name: name, SecretString: aws.String("first"), Tags: []secretstypes.Tag{{Key: aws.String("a"), Value: aws.String("b")}},
	}))
	must[*secretsmanager.PutSecretValueOutput](t)(client.PutSecretValue(ctx, &secretsmanager.PutSecretValueInput{SecretId: made.ARN, SecretBinary: []byte{0, 1, 255}}))
	got := must[*secretsmanager.GetSecretValueOutput](t)(client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: name}))
	assert.Equal(t, []byte{0, 1, 255}, got.SecretBinary)
	assert.Nil(t, got.SecretString)
	assert.WithinDuration(t, time.Now(), *got.CreatedDate, time.Minute)
	old := must[*secretsmanager.GetSecretValueOutput](t)(client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: name, VersionStage: aws.String("AWSPREVIOUS")}))
	assert.Equal(t, "first", *old.SecretString)
	described := must[*secretsmanager.DescribeSecretOutput](t)(client.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: name}))
	assert.Equal(t, map[string][]string{*got.VersionId: {"AWSCURRENT"}, *old.VersionId: {"AWSPREVIOUS"}}, described.VersionIdsToStages)
	assert.Equal(t, "b", *described.Tags[0].Value)
	assert.Equal(t, *made.ARN, *must[*secretsmanager.ListSecretsOutput](t)(client.ListSecrets(ctx, &secretsmanager.ListSecretsInput{})).SecretList[0].ARN)
	must[*secretsmanager.DeleteSecretOutput](t)(client.DeleteSecret(ctx, &secretsmanager.DeleteSecretInput{SecretId: name, ForceDeleteWithoutRecovery: aws.Bool(true)}))
	_, err := client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: name})
	var notFound *secretstypes.ResourceNotFoundException
	require.ErrorAs(t, err, &notFound)
	assert.Empty(t, calls.missing(c.Secrets.Wire()))
}

func TestEveryOperationOfSNSOverTheWire(t *testing.T) {
	c := listening(t)
	cfg, calls := recorded(c)
	client := sns.NewFromConfig(cfg)
	ctx := t.Context()
	topic := must[*sns.CreateTopicOutput](t)(client.CreateTopic(ctx, &sns.CreateTopicInput{Name: aws.String("news")})).TopicArn
	subscription := must[*sns.SubscribeOutput](t)(client.Subscribe(ctx, &sns.SubscribeInput{TopicArn: topic, Protocol: aws.String("http"), Endpoint: aws.String("http://127.0.0.1:9/")})).SubscriptionArn
	assert.Equal(t, "1", must[*sns.GetTopicAttributesOutput](t)(client.GetTopicAttributes(ctx, &sns.GetTopicAttributesInput{TopicArn: topic})).Attributes["SubscriptionsConfirmed"])
	assert.Equal(t, *subscription, *must[*sns.ListSubscriptionsOutput](t)(client.ListSubscriptions(ctx, &sns.ListSubscriptionsInput{})).Subscriptions[0].SubscriptionArn)
	assert.Len(t, must[*sns.ListSubscriptionsByTopicOutput](t)(client.ListSubscriptionsByTopic(ctx, &sns.ListSubscriptionsByTopicInput{TopicArn: topic})).Subscriptions, 1)
	for _, name := range []string{"RawMessageDelivery", "FilterPolicyScope"} {
		value := map[string]string{"RawMessageDelivery": "true", "FilterPolicyScope": "MessageBody"}[name]
		must[*sns.SetSubscriptionAttributesOutput](t)(client.SetSubscriptionAttributes(ctx, &sns.SetSubscriptionAttributesInput{SubscriptionArn: subscription, AttributeName: &name, AttributeValue: &value}))
		assert.Equal(t, value, must[*sns.GetSubscriptionAttributesOutput](t)(client.GetSubscriptionAttributes(ctx, &sns.GetSubscriptionAttributesInput{SubscriptionArn: subscription})).Attributes[name])
	}
	must[*sns.SetTopicAttributesOutput](t)(client.SetTopicAttributes(ctx, &sns.SetTopicAttributesInput{TopicArn: topic, AttributeName: aws.String("DisplayName"), AttributeValue: aws.String("News")}))
	must[*sns.TagResourceOutput](t)(client.TagResource(ctx, &sns.TagResourceInput{ResourceArn: topic, Tags: []snstypes.Tag{{Key: aws.String("a"), Value: aws.String("b")}, {Key: aws.String("c"), Value: aws.String("d")}}}))
	must[*sns.UntagResourceOutput](t)(client.UntagResource(ctx, &sns.UntagResourceInput{ResourceArn: topic, TagKeys: []string{"a"}}))
	assert.Equal(t, "d", *must[*sns.ListTagsForResourceOutput](t)(client.ListTagsForResource(ctx, &sns.ListTagsForResourceInput{ResourceArn: topic})).Tags[0].Value)
	must[*sns.UnsubscribeOutput](t)(client.Unsubscribe(ctx, &sns.UnsubscribeInput{SubscriptionArn: subscription}))
	must[*sns.PublishOutput](t)(client.Publish(ctx, &sns.PublishInput{TopicArn: topic, Subject: aws.String("s"), Message: aws.String("<m> & more")}))
	assert.Equal(t, "<m> & more", c.SNS.Messages(*topic)[0].Body)
	assert.Len(t, must[*sns.ListTopicsOutput](t)(client.ListTopics(ctx, &sns.ListTopicsInput{})).Topics, 1)
	must[*sns.DeleteTopicOutput](t)(client.DeleteTopic(ctx, &sns.DeleteTopicInput{TopicArn: topic}))
	assert.Empty(t, calls.missing(c.SNS.Wire()))
}

func TestEveryOperationOfEventBridgeOverTheWire(t *testing.T) {
	c := listening(t)
	cfg, calls := recorded(c)
	client := eventbridge.NewFromConfig(cfg)
	ctx := t.Context()
	topic := must[*sns.CreateTopicOutput](t)(sns.NewFromConfig(cfg).CreateTopic(ctx, &sns.CreateTopicInput{Name: aws.String("news")})).TopicArn
	heard := make(chan string, 4)
	defer listen(c, *topic, heard)()

	must[*eventbridge.CreateEventBusOutput](t)(client.CreateEventBus(ctx, &eventbridge.CreateEventBusInput{Name: aws.String("audit")}))
	assert.Equal(t, "audit", *must[*eventbridge.DescribeEventBusOutput](t)(client.DescribeEventBus(ctx, &eventbridge.DescribeEventBusInput{Name: aws.String("audit")})).Name)
	assert.Len(t, must[*eventbridge.ListEventBusesOutput](t)(client.ListEventBuses(ctx, &eventbridge.ListEventBusesInput{})).EventBuses, 2)
	must[*eventbridge.DeleteEventBusOutput](t)(client.DeleteEventBus(ctx, &eventbridge.DeleteEventBusInput{Name: aws.String("audit")}))
	name := aws.String("all")
	must[*eventbridge.PutRuleOutput](t)(client.PutRule(ctx, &eventbridge.PutRuleInput{Name: name, EventPattern: aws.String(`{"source":["factory"]}`)}))
	must[*eventbridge.PutTargetsOutput](t)(client.PutTargets(ctx, &eventbridge.PutTargetsInput{Rule: name, Targets: []eventtypes.Target{{Id: aws.String("t"), Arn: topic, InputTransformer: &eventtypes.InputTransformer{
		InputPathsMap: map[string]string{"n": "$.detail.n"}, InputTemplate: aws.String(`"number <n>"`),
	}}}}))
	must[*eventbridge.DisableRuleOutput](t)(client.DisableRule(ctx, &eventbridge.DisableRuleInput{Name: name}))
	assert.Equal(t, eventtypes.RuleStateDisabled, must[*eventbridge.DescribeRuleOutput](t)(client.DescribeRule(ctx, &eventbridge.DescribeRuleInput{Name: name})).State)
	must[*eventbridge.EnableRuleOutput](t)(client.EnableRule(ctx, &eventbridge.EnableRuleInput{Name: name}))
	assert.Len(t, must[*eventbridge.ListRulesOutput](t)(client.ListRules(ctx, &eventbridge.ListRulesInput{})).Rules, 1)
	targets := must[*eventbridge.ListTargetsByRuleOutput](t)(client.ListTargetsByRule(ctx, &eventbridge.ListTargetsByRuleInput{Rule: name})).Targets
	assert.Equal(t, map[string]string{"n": "$.detail.n"}, targets[0].InputTransformer.InputPathsMap)
	put := must[*eventbridge.PutEventsOutput](t)(client.PutEvents(ctx, &eventbridge.PutEventsInput{Entries: []eventtypes.PutEventsRequestEntry{{Source: aws.String("factory"), DetailType: aws.String("x"), Detail: aws.String(`{"n":7}`), Time: aws.Time(time.Now())}}}))
	assert.Zero(t, put.FailedEntryCount)
	assert.Equal(t, `"number 7"`, <-heard)
	assert.True(t, must[*eventbridge.TestEventPatternOutput](t)(client.TestEventPattern(ctx, &eventbridge.TestEventPatternInput{EventPattern: aws.String(`{"a":[1]}`), Event: aws.String(`{"a":1}`)})).Result)
	must[*eventbridge.RemoveTargetsOutput](t)(client.RemoveTargets(ctx, &eventbridge.RemoveTargetsInput{Rule: name, Ids: []string{"t"}}))
	must[*eventbridge.DeleteRuleOutput](t)(client.DeleteRule(ctx, &eventbridge.DeleteRuleInput{Name: name}))
	must[*eventbridge.PutPermissionOutput](t)(client.PutPermission(ctx, &eventbridge.PutPermissionInput{StatementId: aws.String("in"), Action: aws.String("events:PutEvents"), Principal: aws.String("444455556666")}))
	must[*eventbridge.RemovePermissionOutput](t)(client.RemovePermission(ctx, &eventbridge.RemovePermissionInput{StatementId: aws.String("in")}))
	assert.Empty(t, calls.missing(c.Events.Wire()))
}

func TestTheOtherServicesAnswerOverTheWire(t *testing.T) {
	c := listening(t)
	cfg := c.AWSConfig("us-east-1")
	ctx := t.Context()
	assert.NotEmpty(t, must[*sdkec2.DescribeRegionsOutput](t)(sdkec2.NewFromConfig(cfg).DescribeRegions(ctx, &sdkec2.DescribeRegionsInput{})).Regions)
	assert.Empty(t, must[*sfn.ListStateMachinesOutput](t)(sfn.NewFromConfig(cfg).ListStateMachines(ctx, &sfn.ListStateMachinesInput{})).StateMachines)
	assert.Empty(t, must[*lambda.ListFunctionsOutput](t)(lambda.NewFromConfig(cfg).ListFunctions(ctx, &lambda.ListFunctionsInput{})).Functions)
	assert.Empty(t, must[*sdks3.ListBucketsOutput](t)(sdks3.NewFromConfig(cfg).ListBuckets(ctx, &sdks3.ListBucketsInput{})).Buckets)
	_, err := ssm.NewFromConfig(cfg).DescribePatchBaselines(ctx, &ssm.DescribePatchBaselinesInput{})
	assert.ErrorContains(t, err, "does not serve the operation DescribePatchBaselines of SSM")
}
