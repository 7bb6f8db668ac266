package localcloud_test

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdkcfn "github.com/aws/aws-sdk-go-v2/service/cloudformation"
	cfntypes "github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	sdks3 "github.com/aws/aws-sdk-go-v2/service/s3"
	sdkssm "github.com/aws/aws-sdk-go-v2/service/ssm"
	sdksts "github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const topicTemplate = "Resources: {T: {Type: AWS::SNS::Topic, Properties: {TopicName: news}}}\nOutputs: {Arn: {Value: !Ref T, Export: {Name: news}}}"

func TestEveryOperationOfCloudFormationOverTheWire(t *testing.T) {
	c := listening(t)
	cfg, calls := recorded(c)
	client := sdkcfn.NewFromConfig(cfg)
	ctx := t.Context()
	name, body := aws.String("stack"), aws.String(topicTemplate)
	must[*sdkcfn.ValidateTemplateOutput](t)(client.ValidateTemplate(ctx, &sdkcfn.ValidateTemplateInput{TemplateBody: body}))
	change := must[*sdkcfn.CreateChangeSetOutput](t)(client.CreateChangeSet(ctx, &sdkcfn.CreateChangeSetInput{
		StackName: name, ChangeSetName: aws.String("first"), ChangeSetType: cfntypes.ChangeSetTypeCreate, TemplateBody: body,
		Tags: []cfntypes.Tag{{Key: aws.String("team"), Value: aws.String("x")}},
	}))
	described := must[*sdkcfn.DescribeChangeSetOutput](t)(client.DescribeChangeSet(ctx, &sdkcfn.DescribeChangeSetInput{ChangeSetName: change.Id}))
	assert.Equal(t, "x", *described.Tags[0].Value)
	assert.Len(t, must[*sdkcfn.ListChangeSetsOutput](t)(client.ListChangeSets(ctx, &sdkcfn.ListChangeSetsInput{StackName: name})).Summaries, 1)
	must[*sdkcfn.ExecuteChangeSetOutput](t)(client.ExecuteChangeSet(ctx, &sdkcfn.ExecuteChangeSetInput{ChangeSetName: change.Id}))
	created := sdkcfn.NewStackCreateCompleteWaiter(client, func(o *sdkcfn.StackCreateCompleteWaiterOptions) {
		o.MinDelay, o.MaxDelay = 5*time.Millisecond, 50*time.Millisecond
	})
	require.NoError(t, created.Wait(ctx, &sdkcfn.DescribeStacksInput{StackName: name}, time.Minute))
	must[*sdkcfn.DeleteChangeSetOutput](t)(client.DeleteChangeSet(ctx, &sdkcfn.DeleteChangeSetInput{StackName: name, ChangeSetName: aws.String("first")}))
	assert.Equal(t, topicTemplate, *must[*sdkcfn.GetTemplateOutput](t)(client.GetTemplate(ctx, &sdkcfn.GetTemplateInput{StackName: name})).TemplateBody)
	assert.Equal(t, []string{"AWS::SNS::Topic"}, must[*sdkcfn.GetTemplateSummaryOutput](t)(client.GetTemplateSummary(ctx, &sdkcfn.GetTemplateSummaryInput{StackName: name})).ResourceTypes)
	assert.Len(t, must[*sdkcfn.ListExportsOutput](t)(client.ListExports(ctx, &sdkcfn.ListExportsInput{})).Exports, 1)
	assert.Len(t, must[*sdkcfn.ListStackResourcesOutput](t)(client.ListStackResources(ctx, &sdkcfn.ListStackResourcesInput{StackName: name})).StackResourceSummaries, 1)
	assert.Len(t, must[*sdkcfn.DescribeStackResourcesOutput](t)(client.DescribeStackResources(ctx, &sdkcfn.DescribeStackResourcesInput{StackName: name})).StackResources, 1)
	must[*sdkcfn.DescribeStackResourceOutput](t)(client.DescribeStackResource(ctx, &sdkcfn.DescribeStackResourceInput{StackName: name, LogicalResourceId: aws.String("T")}))
	assert.Len(t, must[*sdkcfn.DescribeStackEventsOutput](t)(client.DescribeStackEvents(ctx, &sdkcfn.DescribeStackEventsInput{StackName: name})).StackEvents, 6)
	assert.Len(t, must[*sdkcfn.DescribeEventsOutput](t)(client.DescribeEvents(ctx, &sdkcfn.DescribeEventsInput{StackName: name})).OperationEvents, 6)
	must[*sdkcfn.UpdateTerminationProtectionOutput](t)(client.UpdateTerminationProtection(ctx, &sdkcfn.UpdateTerminationProtectionInput{StackName: name, EnableTerminationProtection: aws.Bool(true)}))
	_, err := client.DeleteStack(ctx, &sdkcfn.DeleteStackInput{StackName: name})
	assert.ErrorContains(t, err, "TerminationProtection is enabled")
	must[*sdkcfn.UpdateTerminationProtectionOutput](t)(client.UpdateTerminationProtection(ctx, &sdkcfn.UpdateTerminationProtectionInput{StackName: name, EnableTerminationProtection: aws.Bool(false)}))
	must[*sdkcfn.UpdateStackOutput](t)(client.UpdateStack(ctx, &sdkcfn.UpdateStackInput{StackName: name, TemplateBody: aws.String(strings.Replace(topicTemplate, "news}}", "news, DisplayName: News}}", 1))}))
	updated := sdkcfn.NewStackUpdateCompleteWaiter(client, func(o *sdkcfn.StackUpdateCompleteWaiterOptions) {
		o.MinDelay, o.MaxDelay = 5*time.Millisecond, 50*time.Millisecond
	})
	require.NoError(t, updated.Wait(ctx, &sdkcfn.DescribeStacksInput{StackName: name}, time.Minute))
	must[*sdkcfn.DeleteStackOutput](t)(client.DeleteStack(ctx, &sdkcfn.DeleteStackInput{StackName: name}))
	deleted := sdkcfn.NewStackDeleteCompleteWaiter(client, func(o *sdkcfn.StackDeleteCompleteWaiterOptions) {
		o.MinDelay, o.MaxDelay = 5*time.Millisecond, 50*time.Millisecond
	})
	require.NoError(t, deleted.Wait(ctx, &sdkcfn.DescribeStacksInput{StackName: name}, time.Minute))
	must[*sdkcfn.CreateStackOutput](t)(client.CreateStack(ctx, &sdkcfn.CreateStackInput{StackName: name, TemplateBody: body}))
	require.NoError(t, created.Wait(ctx, &sdkcfn.DescribeStacksInput{StackName: name}, time.Minute))
	assert.Len(t, must[*sdkcfn.ListStacksOutput](t)(client.ListStacks(ctx, &sdkcfn.ListStacksInput{})).StackSummaries, 2, "the deleted one too")
	assert.Empty(t, calls.missing(c.CloudFormation.Wire()))
}

// as is a configuration with a session of a role.
func as(t *testing.T, cfg aws.Config, role string) aws.Config {
	t.Helper()
	out, err := sdksts.NewFromConfig(cfg).AssumeRole(t.Context(), &sdksts.AssumeRoleInput{RoleArn: &role, RoleSessionName: aws.String("deployment")})
	require.NoError(t, err)
	k := out.Credentials
	cfg = cfg.Copy()
	cfg.Credentials = credentials.NewStaticCredentialsProvider(*k.AccessKeyId, *k.SecretAccessKey, *k.SessionToken)
	return cfg
}

func TestABootstrappedAccountLetsItsRolesDeployAndNothingElse(t *testing.T) {
	c := enforcing(t)
	ctx := t.Context()
	require.NoError(t, c.Bootstrap(ctx, "", ""))
	require.NoError(t, c.Bootstrap(ctx, "", ""), "again changes nothing")
	role := func(name string) string {
		return "arn:aws:iam::" + account + ":role/cdk-hnb659fds-" + name + "-" + account + "-" + region
	}
	bucket := aws.String("cdk-hnb659fds-assets-" + account + "-" + region)

	publisher := sdks3.NewFromConfig(as(t, c.AWSConfig(""), role("file-publishing-role")), func(o *sdks3.Options) { o.UsePathStyle = true })
	_, err := publisher.GetBucketEncryption(ctx, &sdks3.GetBucketEncryptionInput{Bucket: bucket})
	require.NoError(t, err)
	_, err = publisher.PutObject(ctx, &sdks3.PutObjectInput{Bucket: bucket, Key: aws.String("template.yaml"), Body: strings.NewReader(topicTemplate)})
	require.NoError(t, err)

	deployer := as(t, c.AWSConfig(""), role("deploy-role"))
	_, err = sdkssm.NewFromConfig(deployer).GetParameter(ctx, &sdkssm.GetParameterInput{Name: aws.String("/cdk-bootstrap/hnb659fds/version")})
	require.NoError(t, err)
	client := sdkcfn.NewFromConfig(deployer)
	in := &sdkcfn.CreateStackInput{
		StackName: aws.String("deployed"), TemplateURL: aws.String("https://s3." + region + ".amazonaws.com/" + *bucket + "/template.yaml"), RoleARN: aws.String(role("cfn-exec-role")),
	}
	must[*sdkcfn.CreateStackOutput](t)(client.CreateStack(ctx, in))
	created := sdkcfn.NewStackCreateCompleteWaiter(client, func(o *sdkcfn.StackCreateCompleteWaiterOptions) {
		o.MinDelay, o.MaxDelay = 5*time.Millisecond, 50*time.Millisecond
	})
	require.NoError(t, created.Wait(ctx, &sdkcfn.DescribeStacksInput{StackName: in.StackName}, time.Minute))

	// Another role cannot be handed over, and the publisher deploys nothing.
	in.StackName, in.RoleARN = aws.String("other"), aws.String(role("lookup-role"))
	_, err = client.CreateStack(ctx, in)
	assert.ErrorContains(t, err, "is not authorized to perform: iam:PassRole")
	in.RoleARN = nil
	_, err = sdkcfn.NewFromConfig(as(t, c.AWSConfig(""), role("file-publishing-role"))).CreateStack(ctx, in)
	assert.ErrorContains(t, err, "is not authorized to perform: cloudformation:CreateStack on resource: arn:aws:cloudformation:"+region+":"+account+":stack/other/*")
	_, err = sdkcfn.NewFromConfig(as(t, c.AWSConfig(""), role("lookup-role"))).DeleteStack(ctx, &sdkcfn.DeleteStackInput{StackName: aws.String("deployed")})
	assert.ErrorContains(t, err, "cloudformation:DeleteStack")
}
