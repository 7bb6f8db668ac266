package wire_test

import (
	"os"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire/wiretest"
)

// operations names operations whose methods wiretest replaces.
func operations(names ...string) map[string]wire.Operation {
	m := make(map[string]wire.Operation, len(names))
	for _, name := range names {
		m[name] = nil
	}
	return m
}

func TestEveryMemberSurvivesAWSJSON(t *testing.T) {
	t.Run("ssm", func(t *testing.T) {
		wiretest.RoundTrip(t, wire.Service{ID: "ssm", Name: "SSM", Protocol: wire.AWSJSON, TargetPrefix: "AmazonSSM",
			Operations: operations("SendCommand", "GetCommandInvocation", "ListCommandInvocations", "ListCommands", "CancelCommand",
				"DescribeInstanceInformation", "PutParameter", "GetParameter", "GetParameters", "GetParametersByPath",
				"GetParameterHistory", "DescribeParameters", "DeleteParameter", "LabelParameterVersion",
				"AddTagsToResource", "ListTagsForResource", "DescribeDocument", "GetDocument", "CreateDocument"),
		}, func(c aws.Config) *ssm.Client { return ssm.NewFromConfig(c) })
	})
	t.Run("states", func(t *testing.T) {
		wiretest.RoundTrip(t, wire.Service{ID: "states", Name: "Step Functions", Protocol: wire.AWSJSON, TargetPrefix: "AWSStepFunctions",
			Operations: operations("CreateStateMachine", "UpdateStateMachine", "DescribeStateMachine", "ListStateMachines", "DeleteStateMachine",
				"StartExecution", "DescribeExecution", "GetExecutionHistory", "ListExecutions", "StopExecution", "RedriveExecution",
				"SendTaskSuccess", "SendTaskFailure", "SendTaskHeartbeat", "ValidateStateMachineDefinition", "TagResource"),
		}, func(c aws.Config) *sfn.Client { return sfn.NewFromConfig(c) })
	})
	t.Run("kms", func(t *testing.T) {
		wiretest.RoundTrip(t, wire.Service{ID: "kms", Name: "KMS", Protocol: wire.AWSJSON, TargetPrefix: "TrentService",
			Operations: operations("CreateKey", "DescribeKey", "CreateAlias", "ListAliases", "ListKeys", "CreateGrant", "PutKeyPolicy", "Encrypt", "Decrypt"),
		}, func(c aws.Config) *kms.Client { return kms.NewFromConfig(c) })
	})
	t.Run("events", func(t *testing.T) {
		wiretest.RoundTrip(t, wire.Service{ID: "events", Name: "EventBridge", Protocol: wire.AWSJSON, TargetPrefix: "AWSEvents",
			Operations: operations("PutEvents", "PutRule", "PutTargets", "ListRules", "ListTargetsByRule", "DescribeRule", "RemoveTargets", "DeleteRule"),
		}, func(c aws.Config) *eventbridge.Client { return eventbridge.NewFromConfig(c) })
	})
}

func TestEveryMemberSurvivesAWSQuery(t *testing.T) {
	t.Run("sts", func(t *testing.T) {
		wiretest.RoundTrip(t, wire.Service{ID: "sts", Name: "STS", Protocol: wire.AWSQuery, Version: "2011-06-15",
			Operations: operations("GetCallerIdentity", "AssumeRole", "GetSessionToken", "GetAccessKeyInfo"),
		}, func(c aws.Config) *sts.Client { return sts.NewFromConfig(c) })
	})
	t.Run("sns", func(t *testing.T) {
		wiretest.RoundTrip(t, wire.Service{ID: "sns", Name: "SNS", Protocol: wire.AWSQuery, Version: "2010-03-31",
			Operations: operations("CreateTopic", "Publish", "PublishBatch", "Subscribe", "Unsubscribe", "ListTopics", "ListSubscriptions",
				"ListSubscriptionsByTopic", "GetTopicAttributes", "SetTopicAttributes", "GetSubscriptionAttributes",
				"TagResource", "UntagResource", "ListTagsForResource", "CheckIfPhoneNumberIsOptedOut", "DeleteTopic"),
		}, func(c aws.Config) *sns.Client { return sns.NewFromConfig(c) })
	})
	t.Run("iam", func(t *testing.T) {
		wiretest.RoundTrip(t, wire.Service{ID: "iam", Name: "IAM", Protocol: wire.AWSQuery, Version: "2010-05-08",
			Operations: operations("CreateRole", "GetRole", "ListRoles", "PutRolePolicy", "GetRolePolicy", "AttachRolePolicy",
				"ListAttachedRolePolicies", "CreateInstanceProfile", "AddRoleToInstanceProfile", "GetInstanceProfile", "SimulatePrincipalPolicy"),
		}, func(c aws.Config) *iam.Client { return iam.NewFromConfig(c) })
	})
}

func TestEveryMemberSurvivesEC2Query(t *testing.T) {
	list, err := os.ReadFile("internal/ec2names/operations.txt")
	require.NoError(t, err)
	wiretest.RoundTrip(t, wire.Service{ID: "ec2", Name: "EC2", Protocol: wire.EC2Query, Version: "2016-11-15",
		Operations: operations(strings.Fields(string(list))...),
	}, func(c aws.Config) *ec2.Client { return ec2.NewFromConfig(c) })
}
