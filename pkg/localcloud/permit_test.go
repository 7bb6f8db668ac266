package localcloud_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdkec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	eventtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	sdkiam "github.com/aws/aws-sdk-go-v2/service/iam"
	sdkkms "github.com/aws/aws-sdk-go-v2/service/kms"
	sdklambda "github.com/aws/aws-sdk-go-v2/service/lambda"
	sdks3 "github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"
	sdksns "github.com/aws/aws-sdk-go-v2/service/sns"
	sdkssm "github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"
	sdksts "github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/iam"
	"github.com/ami-factory/ami-factory/pkg/localcloud/lambda"
)

const testRole = "arn:aws:iam::" + account + ":role/stage"

// enforcing is an embedded AWS that holds roles to their policies.
func enforcing(t *testing.T) *localcloud.Cloud {
	t.Helper()
	return listening(t, func(cfg *localcloud.Config) { cfg.EnforceIAM = true })
}

// allow gives the role one policy of the statements, "action resource" or
// "action resource condition"; a ! before the action denies it.
func allow(t *testing.T, c *localcloud.Cloud, role string, statements ...string) {
	t.Helper()
	var all []map[string]any
	for _, text := range statements {
		fields := strings.SplitN(text, " ", 3)
		s := map[string]any{"Effect": "Allow", "Action": fields[0], "Resource": fields[1]}
		if action, denied := strings.CutPrefix(fields[0], "!"); denied {
			s["Effect"], s["Action"] = "Deny", action
		}
		if len(fields) > 2 {
			s["Condition"] = json.RawMessage(fields[2])
		}
		all = append(all, s)
	}
	policies := map[string]json.RawMessage{}
	if len(all) > 0 {
		raw, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": all})
		require.NoError(t, err)
		policies["calls"] = raw
	}
	require.NoError(t, c.IAM.PutRole(iam.Role{ARN: role, Policies: policies}))
}

// permitted is a call and what it takes.
type permitted struct {
	call  func(aws.Config) error
	needs []string // as allow takes them; without each of them the call is denied
}

// waitingTasks makes a state machine "waits" whose executions wait for a token, and
// returns what starts one and answers its token.
func waitingTasks(t *testing.T, c *localcloud.Cloud) func() *string {
	t.Helper()
	const role = "arn:aws:iam::" + account + ":role/waits"
	tokens := make(chan string, 1)
	require.NoError(t, c.Lambda.Deploy(lambda.Function{
		Name: "keep-token", Timeout: time.Minute, MemoryMiB: 128, Handler: func(_ context.Context, event []byte) ([]byte, error) {
			var in struct{ Token string }
			if err := json.Unmarshal(event, &in); err != nil {
				return nil, err
			}
			tokens <- in.Token
			return []byte(`{}`), nil
		},
	}))
	require.NoError(t, c.IAM.PutRole(iam.Role{ARN: role, Policies: map[string]json.RawMessage{
		"all": []byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`),
	}}))
	made, err := c.States.CreateStateMachine(t.Context(), &sfn.CreateStateMachineInput{
		Name: aws.String("waits"), RoleArn: aws.String(role), Definition: aws.String(`{"QueryLanguage":"JSONata","StartAt":"A","States":{
			"A":{"Type":"Task","Resource":"arn:aws:states:::lambda:invoke.waitForTaskToken","Arguments":{"FunctionName":"keep-token","Payload":{"token":"{% $states.context.Task.Token %}"}},"End":true}}}`),
	})
	require.NoError(t, err)
	return func() *string {
		_, err := c.States.StartExecution(t.Context(), &sfn.StartExecutionInput{StateMachineArn: made.StateMachineArn})
		require.NoError(t, err)
		select {
		case token := <-tokens:
			return &token
		case <-time.After(time.Minute):
			t.Fatal("the state machine did not call the function")
			return nil
		}
	}
}

// calls are one of every kind, on resources that are there.
func calls(t *testing.T, c *localcloud.Cloud) map[string]permitted {
	t.Helper()
	ctx := t.Context()
	mine := func(tags ...ec2types.Tag) []ec2types.TagSpecification {
		return []ec2types.TagSpecification{{ResourceType: ec2types.ResourceTypeInstance, Tags: tags}}
	}
	tag := ec2types.Tag{Key: aws.String("team"), Value: aws.String("x")}
	require.NoError(t, c.IAM.PutRole(iam.Role{ARN: "arn:aws:iam::" + account + ":role/builder"}))
	_, err := c.IAM.CreateInstanceProfile(ctx, &sdkiam.CreateInstanceProfileInput{InstanceProfileName: aws.String("builders")})
	require.NoError(t, err)
	_, err = c.IAM.AddRoleToInstanceProfile(ctx, &sdkiam.AddRoleToInstanceProfileInput{InstanceProfileName: aws.String("builders"), RoleName: aws.String("builder")})
	require.NoError(t, err)
	image := baseImage(t, c)
	launch := func(change func(*sdkec2.RunInstancesInput)) *sdkec2.RunInstancesInput {
		in := &sdkec2.RunInstancesInput{
			ImageId: aws.String(image), InstanceType: ec2types.InstanceTypeT3Medium, MinCount: aws.Int32(1), MaxCount: aws.Int32(1), TagSpecifications: mine(tag),
		}
		if change != nil {
			change(in)
		}
		return in
	}
	made, err := c.EC2.RunInstances(ctx, launch(nil))
	require.NoError(t, err)
	instance := *made.Instances[0].InstanceId
	require.NoError(t, sdkec2.NewInstanceRunningWaiter(c.EC2, func(o *sdkec2.InstanceRunningWaiterOptions) {
		o.MinDelay, o.MaxDelay = 5*time.Millisecond, 50*time.Millisecond
	}).
		Wait(ctx, &sdkec2.DescribeInstancesInput{InstanceIds: []string{instance}}, time.Minute))
	_, err = c.SSM.PutParameter(ctx, &sdkssm.PutParameterInput{Name: aws.String("/team/x"), Value: aws.String("v"), Type: ssmtypes.ParameterTypeString})
	require.NoError(t, err)
	_, err = c.S3.CreateBucket(ctx, &sdks3.CreateBucketInput{Bucket: aws.String("plans"), CreateBucketConfiguration: &s3types.CreateBucketConfiguration{LocationConstraint: region}})
	require.NoError(t, err)
	_, err = c.S3.PutObject(ctx, &sdks3.PutObjectInput{Bucket: aws.String("plans"), Key: aws.String("a/b"), Body: strings.NewReader("v")})
	require.NoError(t, err)
	topic, err := c.SNS.CreateTopic(ctx, &sdksns.CreateTopicInput{Name: aws.String("news")})
	require.NoError(t, err)
	key, err := c.KMS.CreateKey(ctx, &sdkkms.CreateKeyInput{})
	require.NoError(t, err)
	_, err = c.EC2.CreateKeyPair(ctx, &sdkec2.CreateKeyPairInput{KeyName: aws.String("login")})
	require.NoError(t, err)
	group, err := c.EC2.CreateSecurityGroup(ctx, &sdkec2.CreateSecurityGroupInput{GroupName: aws.String("there"), Description: aws.String("x")})
	require.NoError(t, err)

	const machine = "arn:aws:states:" + region + ":" + account + ":stateMachine:waits"
	waiting := waitingTasks(t, c)

	const ec2ARN = "arn:aws:ec2:" + region + ":" + account + ":"
	const imageARN = "arn:aws:ec2:" + region + "::image/"
	const createTags = `ec2:CreateTags ` + ec2ARN + `instance/* {"StringEquals":{"ec2:CreateAction":"RunInstances","aws:RequestTag/team":"x"}}`
	toLaunch := []string{
		"ec2:RunInstances " + imageARN + image + ` {"StringEquals":{"ec2:Owner":"136693071363"}}`, "ec2:RunInstances " + ec2ARN + "subnet/*", "ec2:RunInstances " + ec2ARN + "security-group/*",
		"ec2:RunInstances " + ec2ARN + "network-interface/*", "ec2:RunInstances " + ec2ARN + "volume/*",
		`ec2:RunInstances ` + ec2ARN + `instance/* {"ForAllValues:StringEquals":{"aws:TagKeys":["team"]},"Null":{"aws:RequestTag/team":"false"}}`, createTags,
	}
	toPass := `iam:PassRole arn:aws:iam::` + account + `:role/builder {"StringEquals":{"iam:PassedToService":"ec2.amazonaws.com"}}`
	var forKey []string
	for _, action := range []string{"CreateGrant", "Decrypt", "DescribeKey", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom", "ReEncryptTo"} {
		forKey = append(forKey, "kms:"+action+" "+*key.KeyMetadata.Arn+` {"StringLike":{"kms:ViaService":"ec2.*.amazonaws.com"}}`)
	}
	run := func(in *sdkec2.RunInstancesInput) func(aws.Config) error {
		return func(cfg aws.Config) error {
			_, err := sdkec2.NewFromConfig(cfg).RunInstances(context.Background(), in)
			return err
		}
	}
	bucket := func(cfg aws.Config) *sdks3.Client {
		return sdks3.NewFromConfig(cfg, func(o *sdks3.Options) { o.UsePathStyle = true })
	}
	return map[string]permitted{
		"making a key pair": {func(cfg aws.Config) error {
			_, err := sdkec2.NewFromConfig(cfg).CreateKeyPair(ctx, &sdkec2.CreateKeyPairInput{KeyName: aws.String("packer")})
			return err
		}, []string{"ec2:CreateKeyPair " + ec2ARN + "key-pair/packer"}},
		"deleting a key pair": {func(cfg aws.Config) error {
			_, err := sdkec2.NewFromConfig(cfg).DeleteKeyPair(ctx, &sdkec2.DeleteKeyPairInput{KeyName: aws.String("other")})
			return err
		}, []string{"ec2:DeleteKeyPair " + ec2ARN + "key-pair/other"}},
		"launching with a key pair": {func(cfg aws.Config) error {
			_, err := sdkec2.NewFromConfig(cfg).RunInstances(ctx, launch(func(in *sdkec2.RunInstancesInput) { in.KeyName = aws.String("login") }))
			return err
		}, append(slices.Clone(toLaunch), "ec2:RunInstances "+ec2ARN+"key-pair/login")},
		"making a security group": {func(cfg aws.Config) error {
			_, err := sdkec2.NewFromConfig(cfg).CreateSecurityGroup(ctx, &sdkec2.CreateSecurityGroupInput{GroupName: aws.String("packer"), Description: aws.String("x")})
			return err
		}, []string{"ec2:CreateSecurityGroup " + ec2ARN + "security-group/*"}},
		"letting a port in": {func(cfg aws.Config) error {
			_, err := sdkec2.NewFromConfig(cfg).AuthorizeSecurityGroupIngress(ctx, &sdkec2.AuthorizeSecurityGroupIngressInput{
				GroupId: group.GroupId, IpProtocol: aws.String("tcp"), FromPort: aws.Int32(22), ToPort: aws.Int32(22), CidrIp: aws.String("0.0.0.0/0"),
			})
			return err
		}, []string{"ec2:AuthorizeSecurityGroupIngress " + ec2ARN + "security-group/" + *group.GroupId}},
		"an attribute of an instance": {func(cfg aws.Config) error {
			_, err := sdkec2.NewFromConfig(cfg).DescribeInstanceAttribute(ctx, &sdkec2.DescribeInstanceAttributeInput{InstanceId: aws.String(instance), Attribute: ec2types.InstanceAttributeNameInstanceType})
			return err
		}, []string{"ec2:DescribeInstanceAttribute " + ec2ARN + "instance/" + instance}},
		"describing parameters": {func(cfg aws.Config) error {
			_, err := sdkssm.NewFromConfig(cfg).DescribeParameters(ctx, &sdkssm.DescribeParametersInput{})
			return err
		}, []string{"ssm:DescribeParameters *"}},
		"listing images": {func(cfg aws.Config) error {
			_, err := sdkec2.NewFromConfig(cfg).DescribeImages(ctx, &sdkec2.DescribeImagesInput{})
			return err
		}, []string{"ec2:DescribeImages *"}},
		"launching": {run(launch(nil)), toLaunch},
		"launching with a role": {run(launch(func(in *sdkec2.RunInstancesInput) {
			in.IamInstanceProfile = &ec2types.IamInstanceProfileSpecification{Name: aws.String("builders")}
		})), append([]string{toPass}, toLaunch...)},
		"launching with a customer's key": {run(launch(func(in *sdkec2.RunInstancesInput) {
			in.BlockDeviceMappings = []ec2types.BlockDeviceMapping{{DeviceName: made.Instances[0].RootDeviceName, Ebs: &ec2types.EbsBlockDevice{Encrypted: aws.Bool(true), KmsKeyId: key.KeyMetadata.KeyId}}}
		})), append(forKey, toLaunch...)},
		"reading the console of one's own": {func(cfg aws.Config) error {
			_, err := sdkec2.NewFromConfig(cfg).GetConsoleOutput(ctx, &sdkec2.GetConsoleOutputInput{InstanceId: &instance})
			return err
		}, []string{`ec2:GetConsoleOutput ` + ec2ARN + `instance/* {"StringEquals":{"aws:ResourceTag/team":"x"}}`}},
		"tagging what is there": {func(cfg aws.Config) error {
			_, err := sdkec2.NewFromConfig(cfg).CreateTags(ctx, &sdkec2.CreateTagsInput{Resources: []string{instance}, Tags: []ec2types.Tag{tag}})
			return err
		}, []string{`ec2:CreateTags ` + ec2ARN + `instance/* {"StringEquals":{"ec2:ResourceTag/team":"x","aws:RequestTag/team":"x"},"Null":{"ec2:CreateAction":"true"}}`}},
		"reading a parameter": {func(cfg aws.Config) error {
			_, err := sdkssm.NewFromConfig(cfg).GetParameter(ctx, &sdkssm.GetParameterInput{Name: aws.String("/team/x")})
			return err
		}, []string{"ssm:GetParameter arn:aws:ssm:*:" + account + ":parameter/team/*"}},
		"reading several parameters": {func(cfg aws.Config) error {
			_, err := sdkssm.NewFromConfig(cfg).GetParameters(ctx, &sdkssm.GetParametersInput{Names: []string{"/team/x"}})
			return err
		}, []string{"ssm:GetParameters arn:aws:ssm:*:" + account + ":parameter/team/*"}},
		"pointing a parameter to an image": {func(cfg aws.Config) error {
			_, err := sdkssm.NewFromConfig(cfg).PutParameter(ctx, &sdkssm.PutParameterInput{Name: aws.String("/team/image"), Value: &image, Type: ssmtypes.ParameterTypeString, DataType: aws.String("aws:ec2:image"), Overwrite: aws.Bool(true)})
			return err
		}, []string{"ssm:PutParameter arn:aws:ssm:*:" + account + ":parameter/team/image", "ec2:DescribeImages *"}},
		"running a command": {func(cfg aws.Config) error {
			_, err := sdkssm.NewFromConfig(cfg).SendCommand(ctx, &sdkssm.SendCommandInput{DocumentName: aws.String("AWS-RunShellScript"), InstanceIds: []string{instance}, Parameters: map[string][]string{"commands": {"true"}}})
			return err
		}, []string{"ssm:SendCommand arn:aws:ssm:*::document/AWS-RunShellScript", `ssm:SendCommand ` + ec2ARN + `instance/* {"StringLike":{"ssm:resourceTag/team":"*"}}`}},
		"reading an object": {func(cfg aws.Config) error {
			_, err := bucket(cfg).GetObject(ctx, &sdks3.GetObjectInput{Bucket: aws.String("plans"), Key: aws.String("a/b")})
			return err
		}, []string{"s3:GetObject arn:aws:s3:::plans/a/*"}},
		"writing an object": {func(cfg aws.Config) error {
			_, err := bucket(cfg).PutObject(ctx, &sdks3.PutObjectInput{Bucket: aws.String("plans"), Key: aws.String("a/c"), Body: strings.NewReader("v")})
			return err
		}, []string{"s3:PutObject arn:aws:s3:::plans/*"}},
		"listing objects": {func(cfg aws.Config) error {
			_, err := bucket(cfg).ListObjectsV2(ctx, &sdks3.ListObjectsV2Input{Bucket: aws.String("plans")})
			return err
		}, []string{"s3:ListBucket arn:aws:s3:::plans"}},
		"deleting an object": {func(cfg aws.Config) error {
			_, err := bucket(cfg).DeleteObject(ctx, &sdks3.DeleteObjectInput{Bucket: aws.String("plans"), Key: aws.String("a/c")})
			return err
		}, []string{"s3:DeleteObject arn:aws:s3:::plans/a/*"}},
		"deleting a version of an object": {func(cfg aws.Config) error {
			_, err := bucket(cfg).DeleteObject(ctx, &sdks3.DeleteObjectInput{Bucket: aws.String("plans"), Key: aws.String("a/c"), VersionId: aws.String("null")})
			return err
		}, []string{"s3:DeleteObjectVersion arn:aws:s3:::plans/a/*"}},
		"making a bucket notify": {func(cfg aws.Config) error {
			_, err := bucket(cfg).PutBucketNotificationConfiguration(ctx, &sdks3.PutBucketNotificationConfigurationInput{
				Bucket: aws.String("plans"), NotificationConfiguration: &s3types.NotificationConfiguration{EventBridgeConfiguration: &s3types.EventBridgeConfiguration{}},
			})
			return err
		}, []string{"s3:PutBucketNotification arn:aws:s3:::plans"}},
		"reading whom a bucket notifies": {func(cfg aws.Config) error {
			_, err := bucket(cfg).GetBucketNotificationConfiguration(ctx, &sdks3.GetBucketNotificationConfigurationInput{Bucket: aws.String("plans")})
			return err
		}, []string{"s3:GetBucketNotification arn:aws:s3:::plans"}},
		"answering for a task that succeeded": {func(cfg aws.Config) error {
			_, err := sfn.NewFromConfig(cfg).SendTaskSuccess(ctx, &sfn.SendTaskSuccessInput{TaskToken: waiting(), Output: aws.String("{}")})
			return err
		}, []string{"states:SendTaskSuccess " + machine}},
		"answering for a task that failed": {func(cfg aws.Config) error {
			_, err := sfn.NewFromConfig(cfg).SendTaskFailure(ctx, &sfn.SendTaskFailureInput{TaskToken: waiting()})
			return err
		}, []string{"states:SendTaskFailure " + machine}},
		"a sign of life of a task": {func(cfg aws.Config) error {
			_, err := sfn.NewFromConfig(cfg).SendTaskHeartbeat(ctx, &sfn.SendTaskHeartbeatInput{TaskToken: waiting()})
			return err
		}, []string{"states:SendTaskHeartbeat " + machine}},
		"publishing a message": {func(cfg aws.Config) error {
			_, err := sdksns.NewFromConfig(cfg).Publish(ctx, &sdksns.PublishInput{TopicArn: topic.TopicArn, Message: aws.String("m")})
			return err
		}, []string{"sns:Publish " + *topic.TopicArn}},
		"sending an event of its own source": {func(cfg aws.Config) error {
			_, err := eventbridge.NewFromConfig(cfg).PutEvents(ctx, &eventbridge.PutEventsInput{Entries: []eventtypes.PutEventsRequestEntry{{Source: aws.String("team"), DetailType: aws.String("d"), Detail: aws.String("{}")}}})
			return err
		}, []string{`events:PutEvents arn:aws:events:` + region + `:` + account + `:event-bus/default {"StringEquals":{"events:source":"team"}}`}},
	}
}

func TestARoleMayDoWhatItsPolicyAllowsAndNoPartLess(t *testing.T) {
	c := enforcing(t)
	cfg := c.AWSConfigOfRole("", testRole, "f")
	cfg.RetryMaxAttempts = 1
	for sentence, tc := range calls(t, c) {
		t.Run(sentence, func(t *testing.T) {
			allow(t, c, testRole, tc.needs...)
			require.NoError(t, tc.call(cfg))
			for i, missing := range tc.needs {
				allow(t, c, testRole, append(append([]string{}, tc.needs[:i]...), tc.needs[i+1:]...)...)
				err := tc.call(cfg)
				action, _, _ := strings.Cut(missing, " ")
				require.ErrorContains(t, err, "User: arn:aws:sts::"+account+":assumed-role/stage/lambda-f is not authorized to perform: "+action+" on resource: ", missing)
				require.ErrorContains(t, err, "because no identity-based policy allows the "+action+" action", missing)
			}
		})
	}
}

func TestADenialLooksAsOnAWS(t *testing.T) {
	c := enforcing(t)
	all := calls(t, c)
	allow(t, c, testRole)
	cfg := c.AWSConfigOfRole("", testRole, "f")
	cfg.RetryMaxAttempts = 1
	for sentence, want := range map[string]struct{ code, begins string }{
		"listing images":       {"UnauthorizedOperation", "You are not authorized to perform this operation. User: arn:aws:sts::"},
		"reading a parameter":  {"AccessDeniedException", "User: arn:aws:sts::"},
		"reading an object":    {"AccessDenied", "User: arn:aws:sts::"},
		"publishing a message": {"AuthorizationError", "User: arn:aws:sts::"},
	} {
		t.Run(sentence, func(t *testing.T) {
			var api smithy.APIError
			require.ErrorAs(t, all[sentence].call(cfg), &api)
			assert.Equal(t, want.code, api.ErrorCode())
			assert.True(t, strings.HasPrefix(api.ErrorMessage(), want.begins), api.ErrorMessage())
		})
	}
	t.Run("an explicit deny says so", func(t *testing.T) {
		require.NoError(t, c.IAM.PutRole(iam.Role{ARN: testRole, Policies: map[string]json.RawMessage{
			"calls": []byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"ec2:DescribeImages","Resource":"*"}]}`),
		}}))
		require.ErrorContains(t, all["listing images"].call(cfg), "ec2:DescribeImages on resource: * with an explicit deny in an identity-based policy")
		require.NoError(t, all["reading a parameter"].call(cfg))
	})
	t.Run("a boundary too", func(t *testing.T) {
		require.NoError(t, c.IAM.PutRole(iam.Role{
			ARN:      testRole,
			Policies: map[string]json.RawMessage{"calls": []byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`)},
			Boundary: []byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"ec2:*","Resource":"*"}]}`),
		}))
		require.NoError(t, all["listing images"].call(cfg))
		require.ErrorContains(t, all["reading a parameter"].call(cfg), "because no permissions boundary allows the ssm:GetParameter action")
	})
}

func TestWhatTheTableDoesNotHoldIsRefusedToRoles(t *testing.T) {
	c := enforcing(t)
	calls(t, c)
	require.NoError(t, c.IAM.PutRole(iam.Role{ARN: testRole, Policies: map[string]json.RawMessage{
		"all": []byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`),
	}}))
	cfg := c.AWSConfigOfRole("", testRole, "f")
	cfg.RetryMaxAttempts = 1
	ctx := t.Context()
	objects := sdks3.NewFromConfig(cfg, func(o *sdks3.Options) { o.UsePathStyle = true })
	for sentence, call := range map[string]func() error{
		"an operation": func() error {
			_, err := sdkssm.NewFromConfig(cfg).ListTagsForResource(ctx, &sdkssm.ListTagsForResourceInput{ResourceId: aws.String("/team/x"), ResourceType: ssmtypes.ResourceTypeForTaggingParameter})
			return err
		},
		"one of Step Functions": func() error {
			_, err := sfn.NewFromConfig(cfg).ListTagsForResource(ctx, &sfn.ListTagsForResourceInput{ResourceArn: aws.String("arn:aws:states:" + region + ":" + account + ":stateMachine:m")})
			return err
		},
		"another role": func() error {
			_, err := sdksts.NewFromConfig(cfg).AssumeRole(ctx, &sdksts.AssumeRoleInput{RoleArn: aws.String(testRole + "2"), RoleSessionName: aws.String("up")})
			return err
		},
		"the tags of a function": func() error {
			_, err := sdklambda.NewFromConfig(cfg).ListTags(ctx, &sdklambda.ListTagsInput{Resource: aws.String("arn:aws:lambda:" + region + ":" + account + ":function:f")})
			return err
		},
		"deleting a bucket": func() error {
			_, err := objects.DeleteBucket(ctx, &sdks3.DeleteBucketInput{Bucket: aws.String("plans")})
			return err
		},
		"copying an object": func() error {
			_, err := objects.CopyObject(ctx, &sdks3.CopyObjectInput{Bucket: aws.String("plans"), Key: aws.String("a/d"), CopySource: aws.String("plans/a/b")})
			return err
		},
		"a bucket's own matters": func() error {
			_, err := objects.GetBucketTagging(ctx, &sdks3.GetBucketTaggingInput{Bucket: aws.String("plans")})
			return err
		},
		"a new bucket": func() error {
			_, err := objects.CreateBucket(ctx, &sdks3.CreateBucketInput{Bucket: aws.String("mine")})
			return err
		},
	} {
		t.Run(sentence, func(t *testing.T) { require.ErrorContains(t, call(), "is not authorized to perform") })
	}
	_, err := sdksts.NewFromConfig(cfg).GetCallerIdentity(ctx, &sdksts.GetCallerIdentityInput{})
	require.NoError(t, err, "who one is may be asked without a permission")
}

func TestThatThereIsNoSuchObjectIsToldToThoseWhoMayListThem(t *testing.T) {
	c := enforcing(t)
	calls(t, c)
	cfg := c.AWSConfigOfRole("", testRole, "f")
	cfg.RetryMaxAttempts = 1
	objects := sdks3.NewFromConfig(cfg, func(o *sdks3.Options) { o.UsePathStyle = true })
	read := func() error {
		_, err := objects.GetObject(t.Context(), &sdks3.GetObjectInput{Bucket: aws.String("plans"), Key: aws.String("none")})
		return err
	}
	allow(t, c, testRole, "s3:GetObject arn:aws:s3:::plans/*")
	require.ErrorContains(t, read(), "AccessDenied")
	allow(t, c, testRole, "s3:GetObject arn:aws:s3:::plans/*", "s3:ListBucket arn:aws:s3:::plans")
	var none *s3types.NoSuchKey
	require.ErrorAs(t, read(), &none)
}

func TestWhoIsHeldToPolicies(t *testing.T) {
	c := enforcing(t)
	list := calls(t, c)["listing images"].call
	assume := func(role string) aws.Config {
		out, err := c.STS.AssumeRole(t.Context(), &sdksts.AssumeRoleInput{RoleArn: aws.String(role), RoleSessionName: aws.String("by-hand")})
		require.NoError(t, err)
		cfg := c.AWSConfig("")
		cfg.RetryMaxAttempts = 1
		cfg.Credentials = credentials.NewStaticCredentialsProvider(*out.Credentials.AccessKeyId, *out.Credentials.SecretAccessKey, *out.Credentials.SessionToken)
		return cfg
	}
	require.NoError(t, list(c.AWSConfig("")), "programs of this machine may do all")
	require.NoError(t, list(c.AWSConfigFor("444455556666", "")))
	_, err := c.STS.AssumeRole(t.Context(), &sdksts.AssumeRoleInput{RoleArn: aws.String(testRole), RoleSessionName: aws.String("by-hand")})
	require.ErrorContains(t, err, "AccessDenied", "a role that is not there cannot be assumed")
	allow(t, c, testRole)
	gone := assume(testRole)
	require.ErrorContains(t, list(gone), "UnauthorizedOperation")
	allow(t, c, testRole, "ec2:DescribeImages *")
	require.NoError(t, list(assume(testRole)))
	unknown := c.AWSConfig("")
	unknown.RetryMaxAttempts = 1
	unknown.Credentials = credentials.NewStaticCredentialsProvider("ASIA0123456789ABCDEF", "x", "y")
	require.ErrorContains(t, list(unknown), "AuthFailure", "a key that nobody has minted is not the account's root")
}

func TestCredentialsEndAndAFunctionsAreRenewed(t *testing.T) {
	now := &laterClock{Clock: clock.NewReal()}
	c := listening(t, func(cfg *localcloud.Config) { cfg.EnforceIAM, cfg.Clock, cfg.Driver = true, now, echoing(now) })
	allow(t, c, testRole, "ec2:DescribeImages *")
	list := func(cfg aws.Config) error {
		_, err := sdkec2.NewFromConfig(cfg).DescribeImages(t.Context(), &sdkec2.DescribeImagesInput{})
		return err
	}
	ofFunction := c.AWSConfigOfRole("", testRole, "f")
	k, err := ofFunction.Credentials.Retrieve(t.Context())
	require.NoError(t, err)
	kept := c.AWSConfig("")
	kept.RetryMaxAttempts = 1
	kept.Credentials = credentials.StaticCredentialsProvider{Value: k}
	require.NoError(t, list(kept))
	now.by.Store(int64(13 * time.Hour))
	require.ErrorContains(t, list(kept), "RequestExpired")
	require.NoError(t, list(ofFunction))
}

func TestAStateMachineInvokesWhatItsRoleMay(t *testing.T) {
	c := enforcing(t)
	require.NoError(t, c.Lambda.Deploy(lambda.Function{
		Name: "f", Timeout: time.Minute, MemoryMiB: 128, Handler: func(context.Context, []byte) ([]byte, error) { return []byte(`{}`), nil },
	}))
	const function = "arn:aws:lambda:" + region + ":" + account + ":function:f"
	topic, err := c.SNS.CreateTopic(t.Context(), &sdksns.CreateTopicInput{Name: aws.String("news")})
	require.NoError(t, err)
	allow(t, c, testRole)
	made, err := c.States.CreateStateMachine(t.Context(), &sfn.CreateStateMachineInput{
		Name: aws.String("m"), RoleArn: aws.String(testRole), Definition: aws.String(`{"QueryLanguage":"JSONata","StartAt":"A","States":{
			"A":{"Type":"Task","Resource":"arn:aws:states:::lambda:invoke","Arguments":{"FunctionName":"` + function + `"},"Next":"B"},
			"B":{"Type":"Task","Resource":"arn:aws:states:::sns:publish","Arguments":{"TopicArn":"` + *topic.TopicArn + `","Message":"m"},"Next":"C"},
			"C":{"Type":"Task","Resource":"arn:aws:states:::events:putEvents","Arguments":{"Entries":[{"Source":"s","DetailType":"d","Detail":{}}]},"End":true}}}`),
	})
	require.NoError(t, err)
	run := func() *sfn.DescribeExecutionOutput {
		started, err := c.States.StartExecution(t.Context(), &sfn.StartExecutionInput{StateMachineArn: made.StateMachineArn})
		require.NoError(t, err)
		var out *sfn.DescribeExecutionOutput
		require.Eventually(t, func() bool {
			out, err = c.States.DescribeExecution(t.Context(), &sfn.DescribeExecutionInput{ExecutionArn: started.ExecutionArn})
			return err == nil && out.Status != sfntypes.ExecutionStatusRunning
		}, time.Minute, 5*time.Millisecond)
		return out
	}
	named := []string{"Lambda.AccessDeniedException", "SNS.AuthorizationErrorException", "EventBridge.AccessDeniedException"}
	needs := []string{"lambda:InvokeFunction " + function, "sns:Publish " + *topic.TopicArn, "events:PutEvents arn:aws:events:*:" + account + ":event-bus/default"}
	for i, missing := range needs {
		allow(t, c, testRole, needs[:i]...)
		out := run()
		require.Equal(t, sfntypes.ExecutionStatusFailed, out.Status)
		action, _, _ := strings.Cut(missing, " ")
		assert.Contains(t, aws.ToString(out.Cause), "User: arn:aws:sts::"+account+":assumed-role/stage/states is not authorized to perform: "+action)
		assert.Equal(t, named[i], aws.ToString(out.Error))
	}
	allow(t, c, testRole, needs...)
	require.Equal(t, sfntypes.ExecutionStatusSucceeded, run().Status)
}
