package cloudformation_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	sdklambda "github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	localec2 "github.com/ami-factory/ami-factory/pkg/localcloud/ec2"
	"github.com/ami-factory/ami-factory/pkg/localcloud/lambda"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/simulated"
)

// rig is an embedded AWS over HTTP with clients of the SDK.
type rig struct {
	*testing.T
	cloud  *localcloud.Cloud
	cfg    aws.Config
	client *sdk.Client
}

func newRig(t *testing.T, dir string) *rig {
	t.Helper()
	c, err := localcloud.New(t.Context(), localcloud.Config{
		Driver: simulated.New(simulated.Options{Clock: clock.NewReal()}), StateDir: dir, EnforceIAM: true,
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(t, c.Close(ctx))
	})
	_, err = c.Listen(t.Context(), "127.0.0.1:0")
	require.NoError(t, err)
	cfg := c.AWSConfig("")
	return &rig{T: t, cloud: c, cfg: cfg, client: sdk.NewFromConfig(cfg)}
}

var iamToo = []types.Capability{types.CapabilityCapabilityNamedIam}

func (r *rig) create(name, body string, parameters ...types.Parameter) {
	r.Helper()
	_, err := r.client.CreateStack(r.Context(), &sdk.CreateStackInput{StackName: &name, TemplateBody: &body, Capabilities: iamToo, Parameters: parameters})
	require.NoError(r, err)
}

func (r *rig) update(name, body string) {
	r.Helper()
	_, err := r.client.UpdateStack(r.Context(), &sdk.UpdateStackInput{StackName: &name, TemplateBody: &body, Capabilities: iamToo})
	require.NoError(r, err)
}

// settled waits for the end of an operation.
func (r *rig) settled(name string, want types.StackStatus) types.Stack {
	r.Helper()
	var st types.Stack
	require.Eventually(r, func() bool {
		out, err := r.client.DescribeStacks(r.Context(), &sdk.DescribeStacksInput{StackName: &name})
		require.NoError(r, err)
		st = out.Stacks[0]
		return !strings.HasSuffix(string(st.StackStatus), "_IN_PROGRESS")
	}, time.Minute, 5*time.Millisecond)
	require.Equal(r, want, st.StackStatus, "%s: %s", aws.ToString(st.StackStatusReason), strings.Join(r.failures(name), "; "))
	return st
}

// failures are the reasons of events, newest first.
func (r *rig) failures(name string) []string {
	var out []string
	for _, e := range r.events(name) {
		if strings.HasSuffix(string(e.ResourceStatus), "_FAILED") {
			out = append(out, *e.LogicalResourceId+": "+aws.ToString(e.ResourceStatusReason))
		}
	}
	return out
}

func (r *rig) events(name string) []types.StackEvent {
	r.Helper()
	var out []types.StackEvent
	pages := sdk.NewDescribeStackEventsPaginator(r.client, &sdk.DescribeStackEventsInput{StackName: &name})
	for pages.HasMorePages() {
		page, err := pages.NextPage(r.Context())
		require.NoError(r, err)
		out = append(out, page.StackEvents...)
	}
	return out
}

// happened are the statuses of a resource, or of the stack, oldest first.
func (r *rig) happened(name, id string) []string {
	var out []string
	for _, e := range slices.Backward(r.events(name)) {
		if *e.LogicalResourceId == id {
			out = append(out, string(e.ResourceStatus))
		}
	}
	return out
}

func (r *rig) physical(name, id string) string {
	r.Helper()
	out, err := r.client.DescribeStackResource(r.Context(), &sdk.DescribeStackResourceInput{StackName: &name, LogicalResourceId: &id})
	require.NoError(r, err)
	return aws.ToString(out.StackResourceDetail.PhysicalResourceId)
}

func outputs(st types.Stack) map[string]string {
	out := map[string]string{}
	for _, o := range st.Outputs {
		out[*o.OutputKey] = *o.OutputValue
	}
	return out
}

func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

const factory = `
Description: a small factory
Parameters:
  Word: {Type: String, Default: one}
  Version: {Type: 'AWS::SSM::Parameter::Value<String>', Default: /cdk-bootstrap/hnb659fds/version}
Conditions:
  Spoken: !Not [!Equals [!Ref Word, none]]
Resources:
  Role:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument: {Version: '2012-10-17', Statement: [{Effect: Allow, Principal: {Service: lambda.amazonaws.com}, Action: 'sts:AssumeRole'}]}
      ManagedPolicyArns: ['arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore']
  Policy:
    Type: AWS::IAM::Policy
    Properties:
      PolicyName: calls
      Roles: [!Ref Role]
      PolicyDocument: {Version: '2012-10-17', Statement: [{Effect: Allow, Action: 'sqs:SendMessage', Resource: !GetAtt Queue.Arn}]}
  Queue:
    Type: AWS::SQS::Queue
    Properties: {VisibilityTimeout: 45}
  Topic:
    Type: AWS::SNS::Topic
    Properties: {DisplayName: !Sub 'says ${Word}'}
  Parameter:
    Type: AWS::SSM::Parameter
    Condition: Spoken
    Properties: {Type: String, Value: !Ref Word, Name: /word}
  Alarm:
    Type: AWS::CloudWatch::Alarm
    Properties: {AlarmName: loud, ComparisonOperator: GreaterThanThreshold, EvaluationPeriods: 1, AlarmActions: [!Ref Topic]}
Outputs:
  TopicArn: {Value: !Ref Topic, Export: {Name: topic}}
  QueueArn: {Value: !GetAtt Queue.Arn}
  Alarm: {Value: !GetAtt Alarm.Arn}
  Bootstrap: {Value: !Ref Version}
`

func TestAStackIsMadeUpdatedAndDeleted(t *testing.T) {
	r := newRig(t, "")
	ctx := t.Context()
	require.NoError(t, r.cloud.Bootstrap(ctx, "", ""))
	r.create("factory", factory)
	st := r.settled("factory", types.StackStatusCreateComplete)
	assert.Equal(t, "a small factory", *st.Description)
	assert.Equal(t, []string{"CREATE_IN_PROGRESS", "CREATE_COMPLETE"}, r.happened("factory", "factory"))
	assert.Equal(t, []string{"CREATE_IN_PROGRESS", "CREATE_IN_PROGRESS", "CREATE_COMPLETE"}, r.happened("factory", "Queue"))
	out := outputs(st)
	assert.Regexp(t, `^arn:aws:sns:eu-west-1:111122223333:factory-Topic-[A-Z2-7]{12}$`, out["TopicArn"])
	assert.Equal(t, "arn:aws:cloudwatch:eu-west-1:111122223333:alarm:loud", out["Alarm"], "a record has the right attributes")
	assert.Equal(t, "30", out["Bootstrap"], "the value of a parameter of SSM")

	// What the services say.
	role := r.physical("factory", "Role")
	policy, err := iam.NewFromConfig(r.cfg).GetRolePolicy(ctx, &iam.GetRolePolicyInput{RoleName: &role, PolicyName: aws.String("calls")})
	require.NoError(t, err)
	assert.Contains(t, *policy.PolicyDocument, "sqs%3ASendMessage")
	queue := r.physical("factory", "Queue")
	attributes, err := sqs.NewFromConfig(r.cfg).GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: &queue, AttributeNames: []sqstypes.QueueAttributeName{"All"}})
	require.NoError(t, err)
	assert.Equal(t, "45", attributes.Attributes["VisibilityTimeout"])
	assert.Equal(t, out["QueueArn"], attributes.Attributes["QueueArn"])

	// In place: the queue and the topic stay the same.
	changed := strings.ReplaceAll(strings.ReplaceAll(factory, "VisibilityTimeout: 45", "VisibilityTimeout: 50"), "Default: one", "Default: two")
	r.update("factory", changed)
	r.settled("factory", types.StackStatusUpdateComplete)
	assert.Equal(t, queue, r.physical("factory", "Queue"))
	attributes, err = sqs.NewFromConfig(r.cfg).GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: &queue, AttributeNames: []sqstypes.QueueAttributeName{"All"}})
	require.NoError(t, err)
	assert.Equal(t, "50", attributes.Attributes["VisibilityTimeout"])
	topic, err := sns.NewFromConfig(r.cfg).GetTopicAttributes(ctx, &sns.GetTopicAttributesInput{TopicArn: aws.String(out["TopicArn"])})
	require.NoError(t, err)
	assert.Equal(t, "says two", topic.Attributes["DisplayName"])
	assert.Equal(t, []string{"CREATE_IN_PROGRESS", "CREATE_IN_PROGRESS", "CREATE_COMPLETE"}, r.happened("factory", "Role"), "what is not changed is not touched")

	_, err = r.client.UpdateStack(ctx, &sdk.UpdateStackInput{StackName: aws.String("factory"), TemplateBody: &changed, Capabilities: iamToo})
	assert.ErrorContains(t, err, "No updates are to be performed.")

	// A name that changes makes another, and removes the old one afterwards.
	r.update("factory", strings.ReplaceAll(changed, "Name: /word", "Name: /other"))
	r.settled("factory", types.StackStatusUpdateComplete)
	_, err = ssm.NewFromConfig(r.cfg).GetParameter(ctx, &ssm.GetParameterInput{Name: aws.String("/word")})
	assert.Equal(t, "ParameterNotFound", code(err))
	parameter, err := ssm.NewFromConfig(r.cfg).GetParameter(ctx, &ssm.GetParameterInput{Name: aws.String("/other")})
	require.NoError(t, err)
	assert.Equal(t, "two", *parameter.Parameter.Value)

	_, err = r.client.DeleteStack(ctx, &sdk.DeleteStackInput{StackName: st.StackId})
	require.NoError(t, err)
	r.settled(*st.StackId, types.StackStatusDeleteComplete)
	_, err = r.client.DescribeStacks(ctx, &sdk.DescribeStacksInput{StackName: aws.String("factory")})
	assert.ErrorContains(t, err, "Stack with id factory does not exist")
	_, err = iam.NewFromConfig(r.cfg).GetRole(ctx, &iam.GetRoleInput{RoleName: &role})
	assert.Equal(t, "NoSuchEntity", code(err))
	_, err = sns.NewFromConfig(r.cfg).GetTopicAttributes(ctx, &sns.GetTopicAttributesInput{TopicArn: aws.String(out["TopicArn"])})
	assert.Equal(t, "NotFound", code(err))
}

func TestWhatFailsIsRolledBack(t *testing.T) {
	r := newRig(t, "")
	ctx := t.Context()
	taken := "Resources: {P: {Type: AWS::SSM::Parameter, Properties: {Type: String, Name: /taken, Value: mine}}}"
	r.create("first", taken)
	r.settled("first", types.StackStatusCreateComplete)

	broken := `
Resources:
  Kept: {Type: AWS::SNS::Topic, DeletionPolicy: RetainExceptOnCreate, Properties: {TopicName: kept}}
  Value: {Type: AWS::SSM::Parameter, DependsOn: Kept, Properties: {Type: String, Name: /value, Value: x}}
  Clash: {Type: AWS::SSM::Parameter, DependsOn: Value, Properties: {Type: String, Name: /taken, Value: other}}
`
	r.create("second", broken)
	r.settled("second", types.StackStatusRollbackComplete)
	assert.Equal(t, []string{"CREATE_IN_PROGRESS", "ROLLBACK_IN_PROGRESS", "ROLLBACK_COMPLETE"}, r.happened("second", "second"))
	assert.Equal(t, []string{"CREATE_IN_PROGRESS", "CREATE_IN_PROGRESS", "CREATE_COMPLETE", "DELETE_IN_PROGRESS", "DELETE_COMPLETE"}, r.happened("second", "Value"))
	assert.Contains(t, r.failures("second")[0], "Clash: ")
	assert.Contains(t, r.failures("second")[0], "ParameterAlreadyExists")
	topics, err := sns.NewFromConfig(r.cfg).ListTopics(ctx, &sns.ListTopicsInput{})
	require.NoError(t, err)
	assert.Empty(t, topics.Topics)
	_, err = r.client.UpdateStack(ctx, &sdk.UpdateStackInput{StackName: aws.String("second"), TemplateBody: &taken})
	assert.ErrorContains(t, err, "is in ROLLBACK_COMPLETE state and can not be updated")

	// An update that fails leaves everything as it was.
	before := `
Resources:
  Gone: {Type: AWS::SNS::Topic, Properties: {TopicName: gone}}
  Value: {Type: AWS::SSM::Parameter, Properties: {Type: String, Name: /v, Value: before}}
`
	r.create("third", before)
	r.settled("third", types.StackStatusCreateComplete)
	r.update("third", `
Resources:
  Value: {Type: AWS::SSM::Parameter, Properties: {Type: String, Name: /v, Value: after}}
  New: {Type: AWS::SNS::Topic, DependsOn: Value, Properties: {TopicName: new}}
  Clash: {Type: AWS::SSM::Parameter, DependsOn: New, Properties: {Type: String, Name: /taken, Value: other}}
`)
	r.settled("third", types.StackStatusUpdateRollbackComplete)
	assert.Equal(t, []string{
		"CREATE_IN_PROGRESS", "CREATE_COMPLETE", "UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE",
	}, r.happened("third", "third"))
	value, err := ssm.NewFromConfig(r.cfg).GetParameter(ctx, &ssm.GetParameterInput{Name: aws.String("/v")})
	require.NoError(t, err)
	assert.Equal(t, "before", *value.Parameter.Value)
	topics, err = sns.NewFromConfig(r.cfg).ListTopics(ctx, &sns.ListTopicsInput{})
	require.NoError(t, err)
	require.Len(t, topics.Topics, 1)
	assert.Equal(t, "arn:aws:sns:eu-west-1:111122223333:gone", *topics.Topics[0].TopicArn)
	got, err := r.client.GetTemplate(ctx, &sdk.GetTemplateInput{StackName: aws.String("third")})
	require.NoError(t, err)
	assert.Equal(t, before, *got.TemplateBody, "the template too")
}

func TestWhatIsRetainedStays(t *testing.T) {
	r := newRig(t, "")
	ctx := t.Context()
	r.create("store", `
Resources:
  Kept: {Type: AWS::S3::Bucket, DeletionPolicy: Retain, UpdateReplacePolicy: Retain, Properties: {BucketName: kept, VersioningConfiguration: {Status: Enabled}}}
  Gone: {Type: AWS::S3::Bucket}
  Policy: {Type: AWS::S3::BucketPolicy, Properties: {Bucket: !Ref Kept, PolicyDocument: {Version: '2012-10-17', Statement: [{Effect: Deny, Principal: '*', Action: 's3:*', Resource: !GetAtt Kept.Arn, Condition: {Bool: {'aws:SecureTransport': 'false'}}}]}}}
`)
	r.settled("store", types.StackStatusCreateComplete)
	gone := r.physical("store", "Gone")
	assert.Regexp(t, `^store-gone-[a-z2-7]{12}$`, gone)
	client := s3.NewFromConfig(r.cfg, func(o *s3.Options) { o.UsePathStyle = true })
	versioning, err := client.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: aws.String("kept")})
	require.NoError(t, err)
	assert.Equal(t, "Enabled", string(versioning.Status))

	// A bucket that is not empty is not deleted, as on AWS.
	_, err = client.PutObject(ctx, &s3.PutObjectInput{Bucket: &gone, Key: aws.String("k"), Body: strings.NewReader("x")})
	require.NoError(t, err)
	id := r.settled("store", types.StackStatusCreateComplete).StackId
	_, err = r.client.DeleteStack(ctx, &sdk.DeleteStackInput{StackName: id})
	require.NoError(t, err)
	r.settled(*id, types.StackStatusDeleteFailed)
	assert.Contains(t, strings.Join(r.failures(*id), "\n"), "Gone: ")
	_, err = client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &gone, Key: aws.String("k")})
	require.NoError(t, err)
	_, err = r.client.DeleteStack(ctx, &sdk.DeleteStackInput{StackName: id})
	require.NoError(t, err)
	r.settled(*id, types.StackStatusDeleteComplete)
	assert.Contains(t, r.happened(*id, "Kept"), "DELETE_SKIPPED")
	buckets, err := client.ListBuckets(ctx, &s3.ListBucketsInput{})
	require.NoError(t, err)
	require.Len(t, buckets.Buckets, 1)
	assert.Equal(t, "kept", *buckets.Buckets[0].Name)
}

func TestABucketOfAStackNotifiesEventBridge(t *testing.T) {
	r := newRig(t, "")
	client := s3.NewFromConfig(r.cfg, func(o *s3.Options) { o.UsePathStyle = true })
	notifies := func() bool {
		out, err := client.GetBucketNotificationConfiguration(t.Context(), &s3.GetBucketNotificationConfigurationInput{Bucket: aws.String("b-1")})
		require.NoError(t, err)
		return out.EventBridgeConfiguration != nil
	}
	body := func(notification string) string {
		return `{"Resources":{"B":{"Type":"AWS::S3::Bucket","Properties":{"BucketName":"b-1"` + notification + `}}}}`
	}
	r.create("store", body(`,"NotificationConfiguration":{"EventBridgeConfiguration":{"EventBridgeEnabled":true}}`))
	r.settled("store", types.StackStatusCreateComplete)
	assert.True(t, notifies())
	for sentence, tc := range map[string]struct {
		notification string
		want         bool
	}{
		"off":        {`,"NotificationConfiguration":{"EventBridgeConfiguration":{"EventBridgeEnabled":false}}`, false},
		"on in text": {`,"NotificationConfiguration":{"EventBridgeConfiguration":{"EventBridgeEnabled":"true"}}`, true},
		"left out":   {"", false},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := client.PutBucketNotificationConfiguration(t.Context(), &s3.PutBucketNotificationConfigurationInput{
				Bucket: aws.String("b-1"), NotificationConfiguration: &s3types.NotificationConfiguration{EventBridgeConfiguration: &s3types.EventBridgeConfiguration{}},
			})
			require.NoError(t, err)
			r.update("store", body(`,"NotificationConfiguration":{"EventBridgeConfiguration":{"EventBridgeEnabled":true}},"Tags":[{"Key":"of","Value":"`+strings.ReplaceAll(sentence, " ", "-")+`"}]`))
			r.settled("store", types.StackStatusUpdateComplete)
			r.update("store", body(tc.notification))
			r.settled("store", types.StackStatusUpdateComplete)
			assert.Equal(t, tc.want, notifies())
		})
	}
	r.update("store", body(`,"NotificationConfiguration":{"EventBridgeConfiguration":{}}`))
	r.settled("store", types.StackStatusUpdateRollbackComplete)
	assert.Contains(t, strings.Join(r.failures("store"), "\n"), "NotificationConfiguration.EventBridgeConfiguration: EventBridgeEnabled is required: true or false")
	for name, refused := range map[string]string{
		"LambdaConfigurations": `[{"Event":"s3:ObjectCreated:*","Function":"arn:aws:lambda:eu-west-1:111122223333:function:f"}]`,
		"QueueConfigurations":  `[{"Event":"s3:ObjectCreated:*","Queue":"arn:aws:sqs:eu-west-1:111122223333:q"}]`,
		"TopicConfigurations":  `[{"Event":"s3:ObjectCreated:*","Topic":"arn:aws:sns:eu-west-1:111122223333:t"}]`,
	} {
		_, err := r.client.UpdateStack(t.Context(), &sdk.UpdateStackInput{StackName: aws.String("store"), TemplateBody: aws.String(body(`,"NotificationConfiguration":{"` + name + `":` + refused + `}`))})
		assert.ErrorContains(t, err, "the property NotificationConfiguration."+name+" is not served by the embedded AWS")
	}
}

func TestAStackForwardsEventsToABusElsewhere(t *testing.T) {
	r := newRig(t, "")
	ctx := t.Context()
	client := eventbridge.NewFromConfig(r.cfg)
	policy := func(bus string) string {
		out, err := client.DescribeEventBus(ctx, &eventbridge.DescribeEventBusInput{Name: &bus})
		require.NoError(t, err)
		return aws.ToString(out.Policy)
	}
	body := func(role, statement, own string) string {
		return `{"Resources":{
		"Role":{"Type":"AWS::IAM::Role","Properties":{"RoleName":"forward","AssumeRolePolicyDocument":{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"events.amazonaws.com"},"Action":"sts:AssumeRole"}]}}},
		"Rule":{"Type":"AWS::Events::Rule","Properties":{"Name":"forward","EventPattern":{"source":["aws.ec2"]},"Targets":[{"Id":"home","Arn":"arn:aws:events:us-east-1:111122223333:event-bus/default"` + role + `}]}},
		"In":{"Type":"AWS::Events::EventBusPolicy","Properties":{"StatementId":"in"` + statement + `}},
		"Audit":{"Type":"AWS::Events::EventBus","Properties":{"Name":"audit"` + own + `}}}}`
	}
	const whole = `,"Statement":{"Effect":"Allow","Principal":"*","Action":"events:PutEvents","Resource":"arn:aws:events:eu-west-1:111122223333:event-bus/default"}`
	withRole := `,"RoleArn":{"Fn::GetAtt":["Role","Arn"]}`
	r.create("forward", body(withRole, `,"Principal":"444455556666"`, `,"Policy":{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"events:PutEvents","Resource":"*"}]}`))
	r.settled("forward", types.StackStatusCreateComplete)
	targets, err := client.ListTargetsByRule(ctx, &eventbridge.ListTargetsByRuleInput{Rule: aws.String("forward")})
	require.NoError(t, err)
	assert.Equal(t, "arn:aws:iam::111122223333:role/forward", aws.ToString(targets.Targets[0].RoleArn))
	assert.Equal(t, "default|in", r.physical("forward", "In"))
	assert.JSONEq(t, `{"Version":"2012-10-17","Statement":[{"Sid":"in","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::444455556666:root"},"Action":"events:PutEvents","Resource":"arn:aws:events:eu-west-1:111122223333:event-bus/default"}]}`, policy("default"))
	assert.Contains(t, policy("audit"), "events:PutEvents")
	r.update("forward", body(withRole, whole, ""))
	r.settled("forward", types.StackStatusUpdateComplete)
	assert.JSONEq(t, `{"Version":"2012-10-17","Statement":[{"Sid":"in","Effect":"Allow","Principal":"*","Action":"events:PutEvents","Resource":"arn:aws:events:eu-west-1:111122223333:event-bus/default"}]}`, policy("default"))
	assert.Empty(t, policy("audit"))
	r.update("forward", body("", whole, ""))
	r.settled("forward", types.StackStatusUpdateRollbackComplete)
	assert.Contains(t, strings.Join(r.failures("forward"), "\n"), "RoleArn is required for target arn:aws:events:us-east-1:111122223333:event-bus/default.")
	_, err = r.client.DeleteStack(ctx, &sdk.DeleteStackInput{StackName: aws.String("forward")})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return policy("default") == "" }, time.Minute, 5*time.Millisecond)
}

func (r *rig) changeSet(stack, body string, kind types.ChangeSetType) *sdk.DescribeChangeSetOutput {
	r.Helper()
	made, err := r.client.CreateChangeSet(r.Context(), &sdk.CreateChangeSetInput{
		StackName: &stack, ChangeSetName: aws.String("change"), ChangeSetType: kind, TemplateBody: &body, Capabilities: iamToo,
	})
	require.NoError(r, err)
	out, err := r.client.DescribeChangeSet(r.Context(), &sdk.DescribeChangeSetInput{ChangeSetName: made.Id, IncludePropertyValues: aws.Bool(true)})
	require.NoError(r, err)
	return out
}

func TestAStackMakesAKeyThatSigns(t *testing.T) {
	r := newRig(t, "")
	r.create("evidence", `{"Resources":{
		"Key":{"Type":"AWS::KMS::Key","Properties":{"KeySpec":"ECC_NIST_P256","KeyUsage":"SIGN_VERIFY","KeyPolicy":{"Version":"2012-10-17","Statement":[
			{"Effect":"Allow","Principal":{"AWS":{"Fn::Sub":"arn:aws:iam::${AWS::AccountId}:root"}},"Action":"kms:*","Resource":"*"}]}}},
		"Alias":{"Type":"AWS::KMS::Alias","Properties":{"AliasName":"alias/evidence","TargetKeyId":{"Ref":"Key"}}}}}`)
	r.settled("evidence", types.StackStatusCreateComplete)
	client := kms.NewFromConfig(r.cfg)
	const algorithm = kmstypes.SigningAlgorithmSpecEcdsaSha256
	signed, err := client.Sign(t.Context(), &kms.SignInput{KeyId: aws.String("alias/evidence"), Message: []byte("m"), SigningAlgorithm: algorithm})
	require.NoError(t, err)
	assert.True(t, strings.HasSuffix(*signed.KeyId, r.physical("evidence", "Key")))
	public, err := client.GetPublicKey(t.Context(), &kms.GetPublicKeyInput{KeyId: aws.String("alias/evidence")})
	require.NoError(t, err)
	key, err := x509.ParsePKIXPublicKey(public.PublicKey)
	require.NoError(t, err)
	digest := sha256.Sum256([]byte("m"))
	assert.True(t, ecdsa.VerifyASN1(key.(*ecdsa.PublicKey), digest[:], signed.Signature))
}

func TestAStackMakesAFunctionURLAndWhoMayUseIt(t *testing.T) {
	r := newRig(t, "")
	require.NoError(t, r.cloud.Lambda.Deploy(lambda.Function{Name: "approve", Handler: func(_ context.Context, event []byte) ([]byte, error) { return event, nil }}))
	const body = `{"Resources":{
		"Url":{"Type":"AWS::Lambda::Url","Properties":{"AuthType":"AUTH","TargetFunctionArn":{"Fn::Sub":"arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:function:approve"}}},
		"Use":{"Type":"AWS::Lambda::Permission","Properties":{"Action":"lambda:InvokeFunctionUrl","FunctionName":"approve","Principal":"444455556666","FunctionUrlAuthType":"AWS_IAM"}},
		"Invoke":{"Type":"AWS::Lambda::Permission","Properties":{"Action":"lambda:InvokeFunction","FunctionName":"approve","Principal":"444455556666","InvokedViaFunctionUrl":true}}},
		"Outputs":{"Url":{"Value":{"Fn::GetAtt":["Url","FunctionUrl"]}},"Function":{"Value":{"Ref":"Url"}}}}`
	r.create("approval", strings.Replace(body, "AUTH", "AWS_IAM", 1))
	st := r.settled("approval", types.StackStatusCreateComplete)
	outputs := map[string]string{}
	for _, o := range st.Outputs {
		outputs[*o.OutputKey] = *o.OutputValue
	}
	assert.Regexp(t, "^http://127.0.0.1:[0-9]+/lambda-url/[a-z0-9-]+/[a-z2-7]{32}/$", outputs["Url"])
	assert.Regexp(t, ":function:approve$", outputs["Function"])
	client := sdklambda.NewFromConfig(r.cfg)
	policy, err := client.GetPolicy(t.Context(), &sdklambda.GetPolicyInput{FunctionName: aws.String("approve")})
	require.NoError(t, err)
	assert.Contains(t, *policy.Policy, `"Condition":{"StringEquals":{"lambda:FunctionUrlAuthType":"AWS_IAM"}}`)
	assert.Contains(t, *policy.Policy, `"Condition":{"Bool":{"lambda:InvokedViaFunctionUrl":"true"}}`)
	r.update("approval", strings.Replace(body, "AUTH", "NONE", 1))
	r.settled("approval", types.StackStatusUpdateComplete)
	got, err := client.GetFunctionUrlConfig(t.Context(), &sdklambda.GetFunctionUrlConfigInput{FunctionName: aws.String("approve")})
	require.NoError(t, err)
	assert.Equal(t, outputs["Url"], *got.FunctionUrl, "the URL stays")
	assert.Equal(t, lambdatypes.FunctionUrlAuthTypeNone, got.AuthType)
	_, err = r.client.DeleteStack(t.Context(), &sdk.DeleteStackInput{StackName: aws.String("approval")})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, err := client.GetFunctionUrlConfig(t.Context(), &sdklambda.GetFunctionUrlConfigInput{FunctionName: aws.String("approve")})
		return code(err) == "ResourceNotFoundException"
	}, time.Minute, 5*time.Millisecond)
}

func TestAStackMakesADocumentAndItsVersions(t *testing.T) {
	r := newRig(t, "")
	const body = `{"Resources":{"Checks":{"Type":"AWS::SSM::Document","Properties":{"DocumentType":"Command","UpdateMethod":"NewVersion","Tags":[{"Key":"a","Value":"b"}],
		"Content":{"schemaVersion":"2.2","mainSteps":[{"action":"aws:runShellScript","name":"one","inputs":{"runCommand":["goss"]}}]}}}},
		"Outputs":{"Name":{"Value":{"Ref":"Checks"}}}}`
	r.create("documents", body)
	name := r.settled("documents", types.StackStatusCreateComplete).Outputs[0].OutputValue
	r.update("documents", strings.Replace(body, "goss", "oscap", 1))
	r.settled("documents", types.StackStatusUpdateComplete)
	got, err := ssm.NewFromConfig(r.cfg).GetDocument(t.Context(), &ssm.GetDocumentInput{Name: name})
	require.NoError(t, err)
	assert.Equal(t, "2", *got.DocumentVersion)
	assert.Contains(t, *got.Content, "oscap")
	_, err = r.client.DeleteStack(t.Context(), &sdk.DeleteStackInput{StackName: aws.String("documents")})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, err := ssm.NewFromConfig(r.cfg).GetDocument(t.Context(), &ssm.GetDocumentInput{Name: name})
		return code(err) == "InvalidDocument"
	}, time.Minute, 5*time.Millisecond)
}

func TestChangeSetsSayWhatWouldChange(t *testing.T) {
	r := newRig(t, "")
	ctx := t.Context()
	body := `{"Resources":{
		"Key":{"Type":"AWS::KMS::Key","Properties":{"Description":"images"}},
		"Alias":{"Type":"AWS::KMS::Alias","Properties":{"AliasName":"alias/images","TargetKeyId":{"Fn::GetAtt":["Key","Arn"]}}},
		"Bus":{"Type":"AWS::Events::EventBus","Properties":{"Name":"bus"}},
		"Rule":{"Type":"AWS::Events::Rule","Properties":{"EventBusName":{"Ref":"Bus"},"State":"ENABLED","EventPattern":{"source":["x"]}}}}}`
	first := r.changeSet("keys", body, types.ChangeSetTypeCreate)
	require.Equal(t, types.ChangeSetStatusCreateComplete, first.Status, aws.ToString(first.StatusReason))
	assert.Len(t, first.Changes, 4)
	assert.Equal(t, types.ChangeActionAdd, first.Changes[0].ResourceChange.Action)
	r.settledReview("keys")
	_, err := r.client.ExecuteChangeSet(ctx, &sdk.ExecuteChangeSetInput{ChangeSetName: first.ChangeSetId})
	require.NoError(t, err)
	r.settled("keys", types.StackStatusCreateComplete)
	assert.Regexp(t, `^bus\|keys-Rule-[A-Z2-7]{12}$`, r.physical("keys", "Rule"))
	executed, err := r.client.DescribeChangeSet(ctx, &sdk.DescribeChangeSetInput{ChangeSetName: first.ChangeSetId})
	require.NoError(t, err, "an executed change set can be described")
	assert.Equal(t, types.ExecutionStatusExecuteComplete, executed.ExecutionStatus)
	assert.Len(t, executed.Changes, 4)
	byName, err := r.client.DescribeChangeSet(ctx, &sdk.DescribeChangeSetInput{StackName: aws.String("keys"), ChangeSetName: aws.String("change")})
	require.NoError(t, err)
	assert.Equal(t, first.ChangeSetId, byName.ChangeSetId)
	active, err := r.client.ListChangeSets(ctx, &sdk.ListChangeSetsInput{StackName: aws.String("keys")})
	require.NoError(t, err)
	assert.Empty(t, active.Summaries, "only active ones are listed")
	_, err = r.client.ExecuteChangeSet(ctx, &sdk.ExecuteChangeSetInput{ChangeSetName: first.ChangeSetId})
	assert.Equal(t, "InvalidChangeSetStatus", code(err), "once executed, never again")
	_, err = r.client.DeleteChangeSet(ctx, &sdk.DeleteChangeSetInput{StackName: aws.String("keys"), ChangeSetName: aws.String("change")})
	require.NoError(t, err)
	_, err = r.client.DescribeChangeSet(ctx, &sdk.DescribeChangeSetInput{StackName: aws.String("keys"), ChangeSetName: aws.String("change")})
	assert.Equal(t, "ChangeSetNotFound", code(err), "the CDK waits for that before it makes another of the name")
	happened, err := r.client.DescribeStackEvents(ctx, &sdk.DescribeStackEventsInput{StackName: aws.String("keys")})
	require.NoError(t, err)
	var ofKey []string // newest first
	for _, e := range happened.StackEvents {
		if *e.LogicalResourceId == "Key" {
			ofKey = append(ofKey, string(e.ResourceStatus)+" "+aws.ToString(e.ResourceStatusReason))
		}
	}
	assert.Equal(t, []string{"CREATE_COMPLETE ", "CREATE_IN_PROGRESS Resource creation Initiated", "CREATE_IN_PROGRESS "}, ofKey)

	none := r.changeSet("keys", body, types.ChangeSetTypeUpdate)
	assert.Equal(t, types.ChangeSetStatusFailed, none.Status)
	assert.Contains(t, *none.StatusReason, "The submitted information didn't contain changes.")
	_, err = r.client.ExecuteChangeSet(ctx, &sdk.ExecuteChangeSetInput{ChangeSetName: none.ChangeSetId})
	assert.Equal(t, "InvalidChangeSetStatus", code(err))
	_, err = r.client.DeleteChangeSet(ctx, &sdk.DeleteChangeSetInput{ChangeSetName: none.ChangeSetId})
	require.NoError(t, err)
	_, err = r.client.DescribeChangeSet(ctx, &sdk.DescribeChangeSetInput{ChangeSetName: none.ChangeSetId})
	assert.Equal(t, "ChangeSetNotFound", code(err))

	// A key that is replaced is not known yet to the alias that names it.
	second := r.changeSet("keys", strings.Replace(body, `"images"}},`, `"other"}},`, 1), types.ChangeSetTypeUpdate)
	require.Len(t, second.Changes, 2)
	alias, key := second.Changes[0].ResourceChange, second.Changes[1].ResourceChange
	assert.Equal(t, types.ReplacementTrue, key.Replacement)
	assert.Equal(t, "images", *key.Details[0].Target.BeforeValue)
	assert.Equal(t, "other", *key.Details[0].Target.AfterValue)
	assert.Equal(t, types.ReplacementFalse, alias.Replacement)
	assert.Equal(t, "{{changeSet:KNOWN_AFTER_APPLY}}", *alias.Details[0].Target.AfterValue)
	old := r.physical("keys", "Key")
	_, err = r.client.ExecuteChangeSet(ctx, &sdk.ExecuteChangeSetInput{ChangeSetName: second.ChangeSetId})
	require.NoError(t, err)
	r.settled("keys", types.StackStatusUpdateComplete)
	assert.NotEqual(t, old, r.physical("keys", "Key"))
	resources, err := r.client.ListStackResources(ctx, &sdk.ListStackResourcesInput{StackName: aws.String("keys")})
	require.NoError(t, err)
	assert.Len(t, resources.StackResourceSummaries, 4)
}

func (r *rig) settledReview(name string) {
	r.Helper()
	out, err := r.client.DescribeStacks(r.Context(), &sdk.DescribeStacksInput{StackName: &name})
	require.NoError(r, err)
	assert.Equal(r, types.StackStatusReviewInProgress, out.Stacks[0].StackStatus)
}

func TestWhatIsNotServedIsNamed(t *testing.T) {
	r := newRig(t, "")
	for sentence, tc := range map[string]struct{ body, want string }{
		"a type":              {"Resources: {Table: {Type: AWS::DynamoDB::Table}}", "Table: the type AWS::DynamoDB::Table is not served"},
		"a property":          {"Resources: {Q: {Type: AWS::SQS::Queue, Properties: {Nonsense: 1}}}", "Q (AWS::SQS::Queue): the property Nonsense is not served"},
		"a property within":   {"Resources: {F: {Type: AWS::Lambda::Function, Properties: {Code: {ImageUri: x}, Role: y}}}", "F (AWS::Lambda::Function): the property Code.ImageUri is not served"},
		"a record's property": {"Resources: {L: {Type: AWS::Logs::LogGroup, Properties: {Nonsense: 1}}}", "L (AWS::Logs::LogGroup): the property Nonsense is not served"},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := &rig{T: t, cloud: r.cloud, cfg: r.cfg, client: r.client}
			out := r.changeSet("unserved-"+strings.ReplaceAll(strings.ReplaceAll(sentence, " ", "-"), "'", ""), tc.body, types.ChangeSetTypeCreate)
			assert.Equal(t, types.ChangeSetStatusFailed, out.Status)
			assert.Contains(t, *out.StatusReason, tc.want)
			events, err := r.client.DescribeEvents(t.Context(), &sdk.DescribeEventsInput{ChangeSetName: out.ChangeSetId})
			require.NoError(t, err)
			require.Len(t, events.OperationEvents, 1)
			assert.Contains(t, *events.OperationEvents[0].ValidationStatusReason, tc.want)
			_, err = r.client.CreateStack(t.Context(), &sdk.CreateStackInput{StackName: aws.String("direct"), TemplateBody: &tc.body, Capabilities: iamToo})
			assert.ErrorContains(t, err, tc.want)
		})
	}
	role := "Resources: {R: {Type: AWS::IAM::Role, Properties: {AssumeRolePolicyDocument: {}, RoleName: x}}}"
	_, err := r.client.CreateStack(t.Context(), &sdk.CreateStackInput{StackName: aws.String("direct"), TemplateBody: &role})
	assert.ErrorContains(t, err, "Requires capabilities : [CAPABILITY_NAMED_IAM]")
	late := "Parameters: {P: {Type: String}}\nResources: {T: {Type: AWS::SNS::Topic}}"
	_, err = r.client.CreateStack(t.Context(), &sdk.CreateStackInput{StackName: aws.String("direct"), TemplateBody: &late})
	assert.ErrorContains(t, err, "Parameters: [P] must have values")
	_, err = r.client.DescribeStacks(t.Context(), &sdk.DescribeStacksInput{StackName: aws.String("direct")})
	assert.Error(t, err, "nothing was made of it")
}

func TestExportsBindStacks(t *testing.T) {
	r := newRig(t, "")
	ctx := t.Context()
	r.create("maker", "Resources: {T: {Type: AWS::SNS::Topic}}\nOutputs: {Arn: {Value: !Ref T, Export: {Name: topic}}}")
	st := r.settled("maker", types.StackStatusCreateComplete)
	r.create("user", "Resources: {P: {Type: AWS::SSM::Parameter, Properties: {Type: String, Value: !ImportValue topic}}}\nOutputs: {Name: {Value: !Ref P}}")
	user := r.settled("user", types.StackStatusCreateComplete)
	value, err := ssm.NewFromConfig(r.cfg).GetParameter(ctx, &ssm.GetParameterInput{Name: aws.String(outputs(user)["Name"])})
	require.NoError(t, err)
	assert.Equal(t, outputs(st)["Arn"], *value.Parameter.Value)
	exports, err := r.client.ListExports(ctx, &sdk.ListExportsInput{})
	require.NoError(t, err)
	assert.Equal(t, "topic", *exports.Exports[0].Name)
	_, err = r.client.DeleteStack(ctx, &sdk.DeleteStackInput{StackName: aws.String("maker")})
	assert.ErrorContains(t, err, "Export topic cannot be deleted as it is in use by user")
}

func TestInstancesAreLaunchedIntoDeployedNetworks(t *testing.T) {
	r := newRig(t, "")
	ctx := t.Context()
	r.create("net", `
Resources:
  Vpc: {Type: AWS::EC2::VPC, Properties: {CidrBlock: 10.9.0.0/16, Tags: [{Key: Name, Value: builders}]}}
  Subnet: {Type: AWS::EC2::Subnet, Properties: {VpcId: !Ref Vpc, CidrBlock: 10.9.0.0/24, AvailabilityZone: !Select [1, !GetAZs '']}}
  Group: {Type: AWS::EC2::SecurityGroup, Properties: {GroupDescription: builders, VpcId: !Ref Vpc}}
  Endpoint: {Type: AWS::EC2::VPCEndpoint, Properties: {VpcId: !Ref Vpc, ServiceName: !Sub 'com.amazonaws.${AWS::Region}.ssm', VpcEndpointType: Interface, SubnetIds: [!Ref Subnet]}}
Outputs:
  Default: {Value: !GetAtt Vpc.DefaultSecurityGroup}
`)
	st := r.settled("net", types.StackStatusCreateComplete)
	subnet, group := r.physical("net", "Subnet"), r.physical("net", "Group")
	dir := t.TempDir()
	require.NoError(t, vm.WriteImage(dir, vm.ImageInfo{Kind: vm.Simulated, VolumeGiB: 2, SHA256: "ba5e"}))
	images, err := r.cloud.EC2.RegisterBase(localec2.BaseImage{Name: "debian", OwnerID: "136693071363", ImageDir: dir})
	require.NoError(t, err)
	client := ec2.NewFromConfig(r.cfg)
	launch := &ec2.RunInstancesInput{
		ImageId: aws.String(images["eu-west-1"]), InstanceType: ec2types.InstanceTypeT3Medium, MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
		SubnetId: &subnet, SecurityGroupIds: []string{group},
	}
	run, err := client.RunInstances(ctx, launch)
	require.NoError(t, err)
	i := run.Instances[0]
	assert.Equal(t, r.physical("net", "Vpc"), *i.VpcId)
	assert.Equal(t, "eu-west-1b", *i.Placement.AvailabilityZone)
	assert.Equal(t, group, *i.SecurityGroups[0].GroupId)

	launch.SecurityGroupIds, launch.ClientToken = nil, nil
	again, err := client.RunInstances(ctx, launch)
	require.NoError(t, err)
	assert.Equal(t, outputs(st)["Default"], *again.Instances[0].SecurityGroups[0].GroupId)

	// A subnet in use is not deleted.
	_, err = r.client.DeleteStack(ctx, &sdk.DeleteStackInput{StackName: st.StackId})
	require.NoError(t, err)
	r.settled(*st.StackId, types.StackStatusDeleteFailed)
	assert.Contains(t, strings.Join(r.failures(*st.StackId), "\n"), "DependencyViolation")
}

func TestStacksOutliveARestart(t *testing.T) {
	dir := t.TempDir()
	t.Run("before", func(t *testing.T) {
		r := newRig(t, dir)
		r.create("kept", "Resources: {Q: {Type: AWS::SQS::Queue, Properties: {VisibilityTimeout: 45}}}")
		r.settled("kept", types.StackStatusCreateComplete)
	})
	require.FileExists(t, filepath.Join(dir, "state.json"))
	t.Run("after", func(t *testing.T) {
		r := newRig(t, dir)
		same := "Resources: {Q: {Type: AWS::SQS::Queue, Properties: {VisibilityTimeout: 45}}}"
		_, err := r.client.UpdateStack(t.Context(), &sdk.UpdateStackInput{StackName: aws.String("kept"), TemplateBody: &same})
		assert.ErrorContains(t, err, "No updates are to be performed.")
		r.update("kept", strings.Replace(same, "45", "60", 1))
		r.settled("kept", types.StackStatusUpdateComplete)
	})
}
