package localcloud_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// bodies keeps the last answer as it came over the wire: the SDK for Go does not
// tell an empty list from an absent one, boto3 does.
type bodies struct{ last string }

func (b *bodies) Do(r *http.Request) (*http.Response, error) {
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	b.last = string(raw)
	response.Body = io.NopCloser(bytes.NewReader(raw))
	return response, err
}

func TestEmptyListsAreSent(t *testing.T) {
	c := listening(t)
	seen := &bodies{}
	cfg := c.AWSConfigFor(account, region)
	cfg.HTTPClient = seen
	ctx := t.Context()
	image := baseImage(t, c)
	started, err := c.EC2.RunInstances(ctx, &ec2.RunInstancesInput{ImageId: aws.String(image), MinCount: aws.Int32(1), MaxCount: aws.Int32(1), InstanceType: "t3.micro"})
	require.NoError(t, err)
	queue, err := sqs.NewFromConfig(cfg).CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String("q")})
	require.NoError(t, err)
	for sentence, tc := range map[string]struct {
		call func(context.Context) error
		want []string // in the body
		not  []string
	}{
		"EC2: reservations": {func(ctx context.Context) error {
			_, err := ec2.NewFromConfig(cfg).DescribeInstances(ctx, &ec2.DescribeInstancesInput{Filters: []ec2types.Filter{{Name: aws.String("tag:none"), Values: []string{"x"}}}})
			return err
		}, []string{"<reservationSet></reservationSet>"}, nil},
		"EC2: an instance's lists, but not its tags": {func(ctx context.Context) error {
			_, err := ec2.NewFromConfig(cfg).DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{*started.Instances[0].InstanceId}})
			return err
		}, []string{"<productCodes></productCodes>", "<groupSet>"}, []string{"tagSet"}},
		"EC2: images": {func(ctx context.Context) error {
			_, err := ec2.NewFromConfig(cfg).DescribeImages(ctx, &ec2.DescribeImagesInput{Owners: []string{"self"}})
			return err
		}, []string{"<imagesSet></imagesSet>"}, nil},
		"EC2: key pairs": {func(ctx context.Context) error {
			_, err := ec2.NewFromConfig(cfg).DescribeKeyPairs(ctx, &ec2.DescribeKeyPairsInput{})
			return err
		}, []string{"<keySet></keySet>"}, nil},
		"EC2: of attributes, the one asked for": {func(ctx context.Context) error {
			_, err := ec2.NewFromConfig(cfg).DescribeInstanceAttribute(ctx, &ec2.DescribeInstanceAttributeInput{
				InstanceId: started.Instances[0].InstanceId, Attribute: ec2types.InstanceAttributeNameInstanceType,
			})
			return err
		}, []string{"<instanceType><value>t3.micro</value></instanceType>"}, []string{"groupSet", "productCodes", "blockDeviceMapping"}},
		"SSM: parameters that are not there": {func(ctx context.Context) error {
			_, err := ssm.NewFromConfig(cfg).GetParameters(ctx, &ssm.GetParametersInput{Names: []string{"/none"}})
			return err
		}, []string{`"Parameters":[]`, `"InvalidParameters":["/none"]`}, nil},
		"SSM: parameters by path": {func(ctx context.Context) error {
			_, err := ssm.NewFromConfig(cfg).GetParametersByPath(ctx, &ssm.GetParametersByPathInput{Path: aws.String("/none")})
			return err
		}, []string{`"Parameters":[]`}, nil},
		"SSM: described parameters": {func(ctx context.Context) error {
			_, err := ssm.NewFromConfig(cfg).DescribeParameters(ctx, &ssm.DescribeParametersInput{ParameterFilters: []ssmtypes.ParameterStringFilter{
				{Key: aws.String("Name"), Option: aws.String("BeginsWith"), Values: []string{"/none"}},
			}})
			return err
		}, []string{`"Parameters":[]`}, nil},
		"SSM: commands": {func(ctx context.Context) error {
			_, err := ssm.NewFromConfig(cfg).ListCommands(ctx, &ssm.ListCommandsInput{})
			return err
		}, []string{`"Commands":[]`}, nil},
		"Step Functions: machines": {func(ctx context.Context) error {
			_, err := sfn.NewFromConfig(cfg).ListStateMachines(ctx, &sfn.ListStateMachinesInput{})
			return err
		}, []string{`"stateMachines":[]`}, nil},
		"EventBridge: rules": {func(ctx context.Context) error {
			_, err := eventbridge.NewFromConfig(cfg).ListRules(ctx, &eventbridge.ListRulesInput{})
			return err
		}, []string{`"Rules":[]`}, nil},
		"KMS: grants": {func(ctx context.Context) error {
			keys, err := kms.NewFromConfig(cfg).ListKeys(ctx, &kms.ListKeysInput{})
			if err == nil {
				_, err = kms.NewFromConfig(cfg).ListGrants(ctx, &kms.ListGrantsInput{KeyId: keys.Keys[0].KeyId})
			}
			return err
		}, []string{`"Grants":[]`}, nil},
		"IAM: instance profiles": {func(ctx context.Context) error {
			_, err := iam.NewFromConfig(cfg).ListInstanceProfiles(ctx, &iam.ListInstanceProfilesInput{PathPrefix: aws.String("/none/")})
			return err
		}, []string{"<InstanceProfiles></InstanceProfiles>"}, nil},
		"SNS: topics": {func(ctx context.Context) error {
			_, err := sns.NewFromConfig(cfg).ListTopics(ctx, &sns.ListTopicsInput{})
			return err
		}, []string{"<Topics></Topics>"}, nil},
		"CloudFormation: stacks": {func(ctx context.Context) error {
			_, err := cloudformation.NewFromConfig(cfg).DescribeStacks(ctx, &cloudformation.DescribeStacksInput{})
			return err
		}, []string{"<Stacks></Stacks>"}, nil},
		"Secrets Manager: secrets": {func(ctx context.Context) error {
			_, err := secretsmanager.NewFromConfig(cfg).ListSecrets(ctx, &secretsmanager.ListSecretsInput{})
			return err
		}, []string{`"SecretList":[]`}, nil},
		"Lambda: functions": {func(ctx context.Context) error {
			_, err := lambda.NewFromConfig(cfg).ListFunctions(ctx, &lambda.ListFunctionsInput{})
			return err
		}, []string{`"Functions":[]`}, nil},
		"Scheduler: schedules": {func(ctx context.Context) error {
			_, err := scheduler.NewFromConfig(cfg).ListSchedules(ctx, &scheduler.ListSchedulesInput{})
			return err
		}, []string{`"Schedules":[]`}, nil},
		"SQS leaves them out": {func(ctx context.Context) error {
			_, err := sqs.NewFromConfig(cfg).ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: queue.QueueUrl})
			return err
		}, nil, []string{"Messages"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			require.NoError(t, tc.call(ctx))
			body := strings.ReplaceAll(seen.last, ": ", ":")
			for _, want := range tc.want {
				assert.Contains(t, body, want)
			}
			for _, not := range tc.not {
				assert.NotContains(t, body, not)
			}
		})
	}
}
