package localcloud

import (
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkautoscaling "github.com/aws/aws-sdk-go-v2/service/autoscaling"
	sdkevents "github.com/aws/aws-sdk-go-v2/service/eventbridge"
	sdksecrets "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	sdksfn "github.com/aws/aws-sdk-go-v2/service/sfn"

	"github.com/ami-factory/ami-factory/pkg/localcloud/iam"
)

// addReadRules are of calls that look at what is deployed and how an account is
// set.
func addReadRules(out map[string]rule) {
	for _, action := range []string{
		"servicequotas:GetAWSDefaultServiceQuota", "servicequotas:GetServiceQuota", "servicequotas:ListServiceQuotas",
		"states:ListStateMachines", "secretsmanager:ListSecrets", "autoscaling:DescribeLaunchConfigurations",
	} {
		out[action] = onAll(action)
	}
	out["autoscaling:CreateLaunchConfiguration"] = of(func(a asker, in *sdkautoscaling.CreateLaunchConfigurationInput) []iam.Request {
		return a.launchConfiguration("autoscaling:CreateLaunchConfiguration", in.LaunchConfigurationName)
	})
	out["autoscaling:DeleteLaunchConfiguration"] = of(func(a asker, in *sdkautoscaling.DeleteLaunchConfigurationInput) []iam.Request {
		return a.launchConfiguration("autoscaling:DeleteLaunchConfiguration", in.LaunchConfigurationName)
	})
	out["states:DescribeStateMachine"] = of(func(_ asker, in *sdksfn.DescribeStateMachineInput) []iam.Request {
		return []iam.Request{{Action: "states:DescribeStateMachine", Resource: aws.ToString(in.StateMachineArn)}}
	})
	out["events:ListRules"] = of(func(a asker, in *sdkevents.ListRulesInput) []iam.Request {
		return []iam.Request{{Action: "events:ListRules", Resource: a.arn("events", a.who.Account, "rule/"+busPrefix(in.EventBusName)+"*")}}
	})
	out["events:ListTargetsByRule"] = of(func(a asker, in *sdkevents.ListTargetsByRuleInput) []iam.Request {
		return []iam.Request{{Action: "events:ListTargetsByRule", Resource: a.arn("events", a.who.Account, "rule/"+busPrefix(in.EventBusName)+aws.ToString(in.Rule))}}
	})
	out["secretsmanager:DescribeSecret"] = of(func(a asker, in *sdksecrets.DescribeSecretInput) []iam.Request {
		return []iam.Request{{Action: "secretsmanager:DescribeSecret", Resource: a.secret(aws.ToString(in.SecretId))}}
	})
}

// launchConfiguration asks for an action on a launch configuration, whose ARN has an
// id that callers do not know
// (https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2autoscaling.html).
func (a asker) launchConfiguration(action string, name *string) []iam.Request {
	return []iam.Request{{Action: action, Resource: a.arn("autoscaling", a.who.Account, "launchConfiguration:*:launchConfigurationName/"+aws.ToString(name))}}
}

// busPrefix comes before the names of rules of other buses than the default one.
func busPrefix(bus *string) string {
	name := aws.ToString(bus)
	name = name[strings.LastIndex(name, "/")+1:]
	if name == "" || name == "default" {
		return ""
	}
	return name + "/"
}

// secret is the ARN of a secret; AWS adds six characters to the names.
func (a asker) secret(ref string) string {
	if strings.HasPrefix(ref, "arn:") {
		return ref
	}
	out, err := a.c.Secrets.DescribeSecret(a.ctx, &sdksecrets.DescribeSecretInput{SecretId: &ref})
	if err == nil {
		return aws.ToString(out.ARN)
	}
	return a.arn("secretsmanager", a.who.Account, "secret:"+ref)
}
