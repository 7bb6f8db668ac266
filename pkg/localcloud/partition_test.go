package localcloud_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	formationtypes "github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	sdkec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	eventtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	sdkiam "github.com/aws/aws-sdk-go-v2/service/iam"
	sdkkms "github.com/aws/aws-sdk-go-v2/service/kms"
	sdklambda "github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	sdks3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/servicequotas"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	sdksns "github.com/aws/aws-sdk-go-v2/service/sns"
	sdksqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	sdkssm "github.com/aws/aws-sdk-go-v2/service/ssm"
	sdksts "github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud"
	"github.com/ami-factory/ami-factory/pkg/localcloud/ec2"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// transcript keeps all answers as they came over the wire.
type transcript struct {
	mu      sync.Mutex
	answers []string // each after what was asked
}

func (l *transcript) Do(r *http.Request) (*http.Response, error) {
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	response.Body = io.NopCloser(bytes.NewReader(raw))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answers = append(l.answers, fmt.Sprintf("%s %s %s: %v %s", r.Method, r.URL.Path, r.Header.Get("X-Amz-Target"), response.Header, raw))
	return response, err
}

// askAll calls every served operation of a client that only reads. Members that known
// names get its value, the others are left out; what then lacks something answers
// an error, which is an answer too.
func askAll(t *testing.T, client any, served map[string]wire.Operation, known map[string]string) (asked int) {
	t.Helper()
	v := reflect.ValueOf(client)
	for i := range v.NumMethod() {
		name := v.Type().Method(i).Name
		if !slices.ContainsFunc([]string{"Describe", "Get", "List"}, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) || v.Method(i).Type().NumIn() != 3 {
			continue
		}
		if _, ok := served[name]; !ok && served != nil { // nil: of a REST service
			continue
		}
		in := reflect.New(v.Method(i).Type().In(1).Elem())
		for member, value := range known {
			field := in.Elem().FieldByName(member)
			switch {
			case !field.IsValid():
			case field.Kind() == reflect.Pointer && field.Type().Elem().Kind() == reflect.String:
				field.Set(reflect.ValueOf(&value).Convert(field.Type()))
			case field.Kind() == reflect.Slice && field.Type().Elem().Kind() == reflect.String:
				field.Set(reflect.Append(field, reflect.ValueOf(value).Convert(field.Type().Elem())))
			case field.Kind() == reflect.String:
				field.SetString(value)
			}
		}
		out := v.Method(i).Call([]reflect.Value{reflect.ValueOf(t.Context()), in})
		if out[1].IsNil() {
			asked++
		}
	}
	return asked
}

// A region decides which partition it is: the names of resources, of services as
// principals, and of hosts follow it everywhere.
func TestAnswersNameThePartition(t *testing.T) {
	for _, home := range []string{"cn-north-1", "us-gov-west-1", "eusc-de-east-1", "eu-west-1"} {
		t.Run(home, func(t *testing.T) {
			of := partition.OrDefault(home)
			c := listening(t, func(cfg *localcloud.Config) { cfg.Region = home })
			seen := &transcript{}
			cfg := c.AWSConfig("")
			cfg.HTTPClient, cfg.RetryMaxAttempts = seen, 1
			known := populate(t, c, cfg, of)
			path := func(o *sdks3.Options) { o.UsePathStyle = true }
			served := map[string]map[string]wire.Operation{}
			for _, service := range []wire.Service{
				c.AutoScaling.Wire(), c.CloudFormation.Wire(), c.EC2.Wire(), c.Events.Wire(), c.IAM.Wire(), c.KMS.Wire(), c.Quotas.Wire(), c.SNS.Wire(),
				c.SQS.Wire(), c.SSM.Wire(), c.STS.Wire(), c.Secrets.Wire(), c.States.Wire(),
			} {
				served[service.ID] = service.Operations
			}
			for service, client := range map[string]any{
				"autoscaling": autoscaling.NewFromConfig(cfg), "cloudformation": cloudformation.NewFromConfig(cfg), "ec2": sdkec2.NewFromConfig(cfg),
				"events": eventbridge.NewFromConfig(cfg), "iam": sdkiam.NewFromConfig(cfg), "kms": sdkkms.NewFromConfig(cfg), "lambda": sdklambda.NewFromConfig(cfg),
				"s3": sdks3.NewFromConfig(cfg, path), "scheduler": scheduler.NewFromConfig(cfg), "secretsmanager": secretsmanager.NewFromConfig(cfg),
				"servicequotas": servicequotas.NewFromConfig(cfg), "sns": sdksns.NewFromConfig(cfg), "sqs": sdksqs.NewFromConfig(cfg),
				"ssm": sdkssm.NewFromConfig(cfg), "states": sfn.NewFromConfig(cfg), "sts": sdksts.NewFromConfig(cfg),
			} {
				assert.Positive(t, askAll(t, client, served[service], known[service]), "%s answered nothing", service)
			}
			all := strings.Join(seen.answers, "\n")
			assert.Contains(t, all, "arn:"+of.ID+":")
			foreign := regexp.MustCompile(`.{0,80}arn:aws[a-z-]*:.{0,80}`)
			for _, found := range foreign.FindAllString(all, -1) {
				assert.Contains(t, found, "arn:"+of.ID+":", "an ARN of another partition")
			}
			// Namespaces of XML are the same everywhere, and most services have one name.
			hosts := regexp.MustCompile(`.{0,60}[a-z0-9]\.` + regexp.QuoteMeta(home) + `\.(amazonaws\.[a-z.]+[a-z])`)
			for _, found := range hosts.FindAllStringSubmatch(all, -1) {
				assert.Equal(t, of.DNSSuffix, found[1], found[0])
			}
		})
	}
}

// populate makes a resource of each kind, and returns what calls name them by.
func populate(t *testing.T, c *localcloud.Cloud, cfg aws.Config, of partition.Partition) map[string]map[string]string {
	t.Helper()
	ctx := t.Context()
	trust := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":["lambda.amazonaws.com","states.amazonaws.com","scheduler.amazonaws.com","ec2.` + of.DNSSuffix + `"]},"Action":"sts:AssumeRole"}]}`
	iamClient := sdkiam.NewFromConfig(cfg)
	role := must[*sdkiam.CreateRoleOutput](t)(iamClient.CreateRole(ctx, &sdkiam.CreateRoleInput{RoleName: aws.String("r"), AssumeRolePolicyDocument: &trust})).Role
	policy := must[*sdkiam.CreatePolicyOutput](t)(iamClient.CreatePolicy(ctx, &sdkiam.CreatePolicyInput{PolicyName: aws.String("p"), PolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`)})).Policy
	must[*sdkiam.AttachRolePolicyOutput](t)(iamClient.AttachRolePolicy(ctx, &sdkiam.AttachRolePolicyInput{RoleName: role.RoleName, PolicyArn: policy.Arn}))
	must[*sdkiam.AttachRolePolicyOutput](t)(iamClient.AttachRolePolicy(ctx, &sdkiam.AttachRolePolicyInput{
		RoleName: role.RoleName, PolicyArn: aws.String("arn:" + of.ID + ":iam::aws:policy/AmazonSSMManagedInstanceCore"),
	}))
	must[*sdkiam.CreateInstanceProfileOutput](t)(iamClient.CreateInstanceProfile(ctx, &sdkiam.CreateInstanceProfileInput{InstanceProfileName: aws.String("i")}))
	must[*sdkiam.AddRoleToInstanceProfileOutput](t)(iamClient.AddRoleToInstanceProfile(ctx, &sdkiam.AddRoleToInstanceProfileInput{InstanceProfileName: aws.String("i"), RoleName: role.RoleName}))
	must[*sdksts.AssumeRoleOutput](t)(sdksts.NewFromConfig(cfg).AssumeRole(ctx, &sdksts.AssumeRoleInput{RoleArn: role.Arn, RoleSessionName: aws.String("session")}))

	dir := t.TempDir() + "/base"
	require.NoError(t, makeImage(dir))
	ids, err := c.EC2.RegisterBase(ec2.BaseImage{Name: "debian-12-amd64", OwnerID: "136693071363", ImageDir: dir})
	require.NoError(t, err)
	image := ids[c.Region()]
	instance := must[*sdkec2.RunInstancesOutput](t)(sdkec2.NewFromConfig(cfg).RunInstances(ctx, &sdkec2.RunInstancesInput{
		ImageId: &image, MinCount: aws.Int32(1), MaxCount: aws.Int32(1), InstanceType: "t3.micro", IamInstanceProfile: &ec2types.IamInstanceProfileSpecification{Name: aws.String("i")},
	})).Instances[0]
	scaling := autoscaling.NewFromConfig(cfg)
	must[*autoscaling.CreateLaunchConfigurationOutput](t)(scaling.CreateLaunchConfiguration(ctx, &autoscaling.CreateLaunchConfigurationInput{
		LaunchConfigurationName: aws.String("l"), ImageId: &image, InstanceType: aws.String("t3.micro"),
	}))

	s3 := sdks3.NewFromConfig(cfg, func(o *sdks3.Options) { o.UsePathStyle = true })
	must[*sdks3.CreateBucketOutput](t)(s3.CreateBucket(ctx, &sdks3.CreateBucketInput{Bucket: aws.String("b-1")}))
	must[*sdks3.PutBucketPolicyOutput](t)(s3.PutBucketPolicy(ctx, &sdks3.PutBucketPolicyInput{Bucket: aws.String("b-1"), Policy: aws.String(
		`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":"` + of.ARN("s3", "", "", "b-1") + `","Condition":{"Bool":{"aws:SecureTransport":"false"}}}]}`)}))
	key := must[*sdkkms.CreateKeyOutput](t)(sdkkms.NewFromConfig(cfg).CreateKey(ctx, &sdkkms.CreateKeyInput{})).KeyMetadata
	must[*sdkkms.CreateAliasOutput](t)(sdkkms.NewFromConfig(cfg).CreateAlias(ctx, &sdkkms.CreateAliasInput{AliasName: aws.String("alias/a"), TargetKeyId: key.KeyId}))
	must[*secretsmanager.CreateSecretOutput](t)(secretsmanager.NewFromConfig(cfg).CreateSecret(ctx, &secretsmanager.CreateSecretInput{Name: aws.String("s"), SecretString: aws.String("x")}))
	topic := must[*sdksns.CreateTopicOutput](t)(sdksns.NewFromConfig(cfg).CreateTopic(ctx, &sdksns.CreateTopicInput{Name: aws.String("t")})).TopicArn
	queue := must[*sdksqs.CreateQueueOutput](t)(sdksqs.NewFromConfig(cfg).CreateQueue(ctx, &sdksqs.CreateQueueInput{QueueName: aws.String("q")})).QueueUrl
	queueARN := must[*sdksqs.GetQueueAttributesOutput](t)(sdksqs.NewFromConfig(cfg).GetQueueAttributes(ctx, &sdksqs.GetQueueAttributesInput{
		QueueUrl: queue, AttributeNames: []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNameAll},
	})).Attributes["QueueArn"]
	subscription := must[*sdksns.SubscribeOutput](t)(sdksns.NewFromConfig(cfg).Subscribe(ctx, &sdksns.SubscribeInput{
		TopicArn: topic, Protocol: aws.String("sqs"), Endpoint: &queueARN, ReturnSubscriptionArn: true,
	})).SubscriptionArn
	must[*sdksns.PublishOutput](t)(sdksns.NewFromConfig(cfg).Publish(ctx, &sdksns.PublishInput{TopicArn: topic, Message: aws.String("hello")}))
	bus := eventbridge.NewFromConfig(cfg)
	must[*eventbridge.PutRuleOutput](t)(bus.PutRule(ctx, &eventbridge.PutRuleInput{Name: aws.String("rule"), EventPattern: aws.String(`{"source":["x"]}`)}))
	must[*eventbridge.PutTargetsOutput](t)(bus.PutTargets(ctx, &eventbridge.PutTargetsInput{Rule: aws.String("rule"), Targets: []eventtypes.Target{{Id: aws.String("1"), Arn: &queueARN}}}))
	must[*sdkssm.PutParameterOutput](t)(sdkssm.NewFromConfig(cfg).PutParameter(ctx, &sdkssm.PutParameterInput{Name: aws.String("/word"), Value: aws.String("x"), Type: "String"}))

	function := must[*sdklambda.CreateFunctionOutput](t)(sdklambda.NewFromConfig(cfg).CreateFunction(ctx, &sdklambda.CreateFunctionInput{
		FunctionName: aws.String("f"), Role: role.Arn, Runtime: lambdatypes.RuntimeProvidedal2023, Handler: aws.String("bootstrap"), Code: &lambdatypes.FunctionCode{ZipFile: bootstrap(t)},
	}))
	must[*sdklambda.AddPermissionOutput](t)(sdklambda.NewFromConfig(cfg).AddPermission(ctx, &sdklambda.AddPermissionInput{
		FunctionName: aws.String("f"), StatementId: aws.String("other"), Action: aws.String("lambda:InvokeFunction"), Principal: aws.String("444455556666"),
	}))
	machine := must[*sfn.CreateStateMachineOutput](t)(sfn.NewFromConfig(cfg).CreateStateMachine(ctx, &sfn.CreateStateMachineInput{
		Name: aws.String("m"), RoleArn: role.Arn,
		Definition: aws.String(`{"QueryLanguage":"JSONata","StartAt":"Say","States":{"Say":{"Type":"Task","Resource":"arn:` + of.ID + `:states:::sns:publish","Arguments":{"TopicArn":"` + *topic + `","Message":"x"},"End":true}}}`),
	}))
	execution := must[*sfn.StartExecutionOutput](t)(sfn.NewFromConfig(cfg).StartExecution(ctx, &sfn.StartExecutionInput{StateMachineArn: machine.StateMachineArn, Name: aws.String("e")})).ExecutionArn
	require.Eventually(t, func() bool {
		out, err := sfn.NewFromConfig(cfg).DescribeExecution(ctx, &sfn.DescribeExecutionInput{ExecutionArn: execution})
		return err == nil && out.Status == "SUCCEEDED"
	}, time.Minute, 10*time.Millisecond)
	stack := `
Resources:
  Bucket: {Type: AWS::S3::Bucket}
  Role: {Type: AWS::IAM::Role, Properties: {AssumeRolePolicyDocument: {Version: '2012-10-17', Statement: [{Effect: Allow, Principal: {Service: lambda.amazonaws.com}, Action: 'sts:AssumeRole'}]}, ManagedPolicyArns: [!Sub 'arn:${AWS::Partition}:iam::aws:policy/AmazonSSMManagedInstanceCore']}}
  Schedule: {Type: AWS::Scheduler::Schedule, Properties: {Name: s, ScheduleExpression: rate(1 day), FlexibleTimeWindow: {Mode: 'OFF'}, Target: {Arn: ` + queueARN + `, RoleArn: ` + *role.Arn + `}}}
  Alarm: {Type: AWS::CloudWatch::Alarm, Properties: {AlarmName: loud, ComparisonOperator: GreaterThanThreshold, EvaluationPeriods: 1}}
Outputs:
  Bucket: {Value: !GetAtt Bucket.Arn}
  Domain: {Value: !GetAtt Bucket.RegionalDomainName}
  DualStack: {Value: !GetAtt Bucket.DualStackDomainName}
  Alarm: {Value: !GetAtt Alarm.Arn}
  Suffix: {Value: !Sub 'x.${AWS::Region}.${AWS::URLSuffix}'}
`
	formation := cloudformation.NewFromConfig(cfg)
	must[*cloudformation.CreateStackOutput](t)(formation.CreateStack(ctx, &cloudformation.CreateStackInput{StackName: aws.String("stack"), TemplateBody: &stack, Capabilities: []formationtypes.Capability{formationtypes.CapabilityCapabilityIam}}))
	require.NoError(t, cloudformation.NewStackCreateCompleteWaiter(formation, func(o *cloudformation.StackCreateCompleteWaiterOptions) {
		o.MinDelay, o.MaxDelay = 5*time.Millisecond, 50*time.Millisecond
	}).Wait(ctx, &cloudformation.DescribeStacksInput{StackName: aws.String("stack")}, time.Minute))
	return map[string]map[string]string{
		"cloudformation": {"StackName": "stack"},
		"ec2":            {"InstanceId": *instance.InstanceId, "ImageId": image, "Attribute": "launchPermission"},
		"events":         {"Rule": "rule", "Name": "rule", "TargetArn": queueARN},
		"iam":            {"RoleName": "r", "PolicyArn": *policy.Arn, "InstanceProfileName": "i", "VersionId": "v1"},
		"kms":            {"KeyId": *key.KeyId, "PolicyName": "default"},
		"lambda":         {"FunctionName": *function.FunctionArn},
		"s3":             {"Bucket": "b-1", "Key": "k"},
		"scheduler":      {"Name": "s"},
		"secretsmanager": {"SecretId": "s"},
		"servicequotas":  {"ServiceCode": "ec2", "QuotaCode": "L-B665C33B"},
		"sns":            {"TopicArn": *topic, "SubscriptionArn": *subscription, "ResourceArn": *topic},
		"sqs":            {"QueueUrl": *queue, "QueueName": "q", "AttributeNames": "All"},
		"ssm":            {"Name": "/word", "Names": "/word", "Path": "/"},
		"states":         {"StateMachineArn": *machine.StateMachineArn, "ExecutionArn": *execution, "ResourceArn": *machine.StateMachineArn},
		"sts":            {},
		"autoscaling":    {},
	}
}
