package localcloud

import (
	"errors"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkevents "github.com/aws/aws-sdk-go-v2/service/eventbridge"
	sdkkms "github.com/aws/aws-sdk-go-v2/service/kms"
	sdksecrets "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	sdksfn "github.com/aws/aws-sdk-go-v2/service/sfn"

	"github.com/ami-factory/ami-factory/pkg/localcloud/iam"
)

// addReadRules are of calls that look at what is deployed and how an account is
// set.
func addReadRules(out map[string]rule) {
	for _, action := range []string{
		"servicequotas:GetAWSDefaultServiceQuota", "servicequotas:GetServiceQuota", "servicequotas:ListServiceQuotas",
		"states:ListStateMachines", "kms:ListKeys", "kms:ListAliases", "secretsmanager:ListSecrets",
	} {
		out[action] = onAll(action)
	}
	out["kms:DescribeKey"] = of(func(a asker, in *sdkkms.DescribeKeyInput) []iam.Request { return a.key("kms:DescribeKey", in.KeyId) })
	out["kms:GetKeyPolicy"] = of(func(a asker, in *sdkkms.GetKeyPolicyInput) []iam.Request { return a.key("kms:GetKeyPolicy", in.KeyId) })
	out["kms:ListGrants"] = of(func(a asker, in *sdkkms.ListGrantsInput) []iam.Request { return a.key("kms:ListGrants", in.KeyId) })
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
	out["lambda:GET"] = readFunction
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

// key asks for an action on a key, which aliases are resolved to.
func (a asker) key(action string, ref *string) []iam.Request {
	arn := a.arn("kms", a.who.Account, "key/unknown")
	if key, err := a.c.KMS.Resolve(a.who.Account, a.who.Region, aws.ToString(ref)); err == nil {
		arn = key.ARN
	}
	return []iam.Request{{Action: action, Resource: arn}}
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

// readFunction decides on reading a function's configuration.
func readFunction(a asker, input any) ([]iam.Request, error) {
	r, ok := input.(*http.Request)
	if !ok {
		return nil, errors.New("a request is expected")
	}
	name, ok := strings.CutPrefix(r.URL.Path, "/2015-03-31/functions/")
	name, configuration := strings.CutSuffix(name, "/configuration")
	if !ok || !configuration || name == "" {
		return nil, errors.New("the embedded AWS does not know what permissions GET " + r.URL.Path + " takes")
	}
	if !strings.HasPrefix(name, "arn:") {
		name = a.arn("lambda", a.who.Account, "function:"+name)
	}
	return []iam.Request{{Action: "lambda:GetFunctionConfiguration", Resource: name}}, nil
}
