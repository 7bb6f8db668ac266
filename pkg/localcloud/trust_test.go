package localcloud_test

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdkec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	eventtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	sdkiam "github.com/aws/aws-sdk-go-v2/service/iam"
	sdklambda "github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	sdksts "github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud"
	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
	"github.com/ami-factory/ami-factory/pkg/localcloud/iam"
)

const (
	other     = "444455556666"
	otherRole = "arn:aws:iam::" + other + ":role/target"
)

// trusting makes a role with a trust policy of one statement, for a principal and
// under a condition, which may be empty; it may do everything.
func trusting(t *testing.T, c *localcloud.Cloud, role, principal, condition string) {
	t.Helper()
	if condition != "" {
		condition = `,"Condition":` + condition
	}
	require.NoError(t, c.IAM.PutRole(iam.Role{
		ARN:      role,
		Trust:    fmt.Appendf(nil, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":%s,"Action":"sts:AssumeRole"%s}]}`, principal, condition),
		Policies: map[string]json.RawMessage{"all": []byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`)},
	}))
}

// once is a configuration without retries, as the role testRole has it in a
// function.
func once(c *localcloud.Cloud) aws.Config {
	cfg := c.AWSConfigOfRole("", testRole, "f")
	cfg.RetryMaxAttempts = 1
	return cfg
}

func TestWhoMayAssumeARole(t *testing.T) {
	const assume = "sts:AssumeRole " + otherRole
	const here = "sts:AssumeRole arn:aws:iam::" + account + ":role/near"
	for sentence, tc := range map[string]struct {
		near                 bool // the role is of the caller's own account
		principal, condition string
		needs                []string // statements of the caller's role
		externalID           *string
		allowed              bool
	}{
		"another account's role, which both sides allow":         {principal: `{"AWS":"` + account + `"}`, needs: []string{assume}, allowed: true},
		"one that the caller's own policies do not allow":        {principal: `{"AWS":"` + testRole + `"}`, needs: []string{"ec2:DescribeImages *"}},
		"one that does not trust the account":                    {principal: `{"AWS":"777788889999"}`, needs: []string{assume}},
		"one that trusts another role":                           {principal: `{"AWS":"` + testRole + `x"}`, needs: []string{assume}},
		"the external id fits":                                   {principal: `{"AWS":"` + account + `"}`, condition: `{"StringEquals":{"sts:ExternalId":"factory"}}`, needs: []string{assume}, externalID: aws.String("factory"), allowed: true},
		"the external id does not":                               {principal: `{"AWS":"` + account + `"}`, condition: `{"StringEquals":{"sts:ExternalId":"factory"}}`, needs: []string{assume}, externalID: aws.String("x")},
		"the external id is missing":                             {principal: `{"AWS":"` + account + `"}`, condition: `{"StringEquals":{"sts:ExternalId":"factory"}}`, needs: []string{assume}},
		"the organisation fits":                                  {principal: `"*"`, condition: `{"StringEquals":{"aws:PrincipalOrgID":"o-factory"}}`, needs: []string{assume}, allowed: true},
		"the organisation is another":                            {principal: `"*"`, condition: `{"StringEquals":{"aws:PrincipalOrgID":"o-other"}}`, needs: []string{assume}},
		"one of the own account that trusts this very role":      {near: true, principal: `{"AWS":"` + testRole + `"}`, needs: []string{"ec2:DescribeImages *"}, allowed: true},
		"one that trusts the own account, allowed by policies":   {near: true, principal: `{"AWS":"` + account + `"}`, needs: []string{here}, allowed: true},
		"one that trusts the own account, without such a policy": {near: true, principal: `{"AWS":"` + account + `"}`, needs: []string{"ec2:DescribeImages *"}},
		"one that trusts nobody here, whatever the policies say": {near: true, principal: `{"Service":"lambda.amazonaws.com"}`, needs: []string{here}},
		"a deny of the caller's own wins":                        {near: true, principal: `{"AWS":"` + testRole + `"}`, needs: []string{"!" + here}},
	} {
		t.Run(sentence, func(t *testing.T) {
			c := listening(t, func(cfg *localcloud.Config) {
				cfg.EnforceIAM = true
				cfg.Organizations = func(string) []string { return []string{"arn:aws:organizations::111122223333:organization/o-factory"} }
			})
			role := otherRole
			if tc.near {
				role = "arn:aws:iam::" + account + ":role/near"
			}
			trusting(t, c, role, tc.principal, tc.condition)
			allow(t, c, testRole, tc.needs...)
			_, err := sdksts.NewFromConfig(once(c)).AssumeRole(t.Context(), &sdksts.AssumeRoleInput{RoleArn: &role, RoleSessionName: aws.String("s1"), ExternalId: tc.externalID})
			if tc.allowed {
				require.NoError(t, err)
				return
			}
			var api smithy.APIError
			require.ErrorAs(t, err, &api)
			assert.Equal(t, "AccessDenied", api.ErrorCode())
			assert.Equal(t, "User: arn:aws:sts::"+account+":assumed-role/stage/lambda-f is not authorized to perform: sts:AssumeRole on resource: "+role, api.ErrorMessage())
		})
	}
}

func TestASessionLastsNoLongerThanItsRoleLets(t *testing.T) {
	c := enforcing(t)
	trusting(t, c, otherRole, `{"AWS":["`+account+`","`+other+`"]}`, "")
	_, err := c.IAM.CreateRole(t.Context(), &sdkiam.CreateRoleInput{RoleName: aws.String("short"), AssumeRolePolicyDocument: aws.String(
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + account + `"},"Action":"sts:AssumeRole"}]}`)})
	require.NoError(t, err)
	allow(t, c, testRole, "sts:AssumeRole *")
	assume := func(cfg aws.Config, role string) error {
		_, err := sdksts.NewFromConfig(cfg).AssumeRole(t.Context(), &sdksts.AssumeRoleInput{RoleArn: &role, RoleSessionName: aws.String("s1"), DurationSeconds: aws.Int32(7200)})
		return err
	}
	require.NoError(t, assume(c.AWSConfig(""), otherRole))
	require.ErrorContains(t, assume(c.AWSConfig(""), "arn:aws:iam::"+account+":role/short"), "exceeds the MaxSessionDuration set for this role")
	require.ErrorContains(t, assume(once(c), otherRole), "role chaining")
}

// bootstrap is an archive with a program that nobody starts.
func bootstrap(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	f, err := w.CreateHeader(&zip.FileHeader{Name: "bootstrap", Method: zip.Deflate})
	require.NoError(t, err)
	_, err = f.Write([]byte("#!/bin/sh\n"))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return out.Bytes()
}

func TestServicesTakeRolesThatTrustThemAndThatTheCallerMayPass(t *testing.T) {
	const role = "arn:aws:iam::" + account + ":role/worker"
	archive := bootstrap(t)
	function := func(cfg aws.Config) error {
		_, err := sdklambda.NewFromConfig(cfg).CreateFunction(t.Context(), &sdklambda.CreateFunctionInput{
			FunctionName: aws.String("f"), Role: aws.String(role), Runtime: lambdatypes.RuntimeProvidedal2023, Handler: aws.String("bootstrap"), Code: &lambdatypes.FunctionCode{ZipFile: archive},
		})
		return err
	}
	machine := func(cfg aws.Config) error {
		_, err := sfn.NewFromConfig(cfg).CreateStateMachine(t.Context(), &sfn.CreateStateMachineInput{
			Name: aws.String("m"), RoleArn: aws.String(role), Definition: aws.String(`{"QueryLanguage":"JSONata","StartAt":"A","States":{"A":{"Type":"Succeed"}}}`),
		})
		return err
	}
	const functionARN, machineARN = "arn:aws:lambda:" + region + ":" + account + ":function:f", "arn:aws:states:" + region + ":" + account + ":stateMachine:m"
	passed := func(service string) string {
		return `iam:PassRole ` + role + ` {"StringEquals":{"iam:PassedToService":"` + service + `"}}`
	}
	for sentence, tc := range map[string]struct {
		make            func(aws.Config) error
		service, create string
		arn, cannotSay  string
		otherService    string
	}{
		"Lambda":         {function, "lambda.amazonaws.com", "lambda:CreateFunction", functionARN, "The role defined for the function cannot be assumed by Lambda.", "states.amazonaws.com"},
		"Step Functions": {machine, "states.amazonaws.com", "states:CreateStateMachine", machineARN, "Neither the global service principal states.amazonaws.com, nor the regional one is authorized to assume the provided role.", "lambda.amazonaws.com"},
	} {
		t.Run(sentence, func(t *testing.T) {
			c := enforcing(t)
			trusting(t, c, role, `{"Service":"`+tc.otherService+`"}`, "")
			require.ErrorContains(t, tc.make(c.AWSConfig("")), tc.cannotSay)
			trusting(t, c, role, `{"Service":"`+tc.service+`"}`, `{"StringEquals":{"aws:SourceAccount":"`+other+`"}}`)
			require.ErrorContains(t, tc.make(c.AWSConfig("")), tc.cannotSay, "for another account only")
			trusting(t, c, role, `{"Service":"`+tc.service+`"}`, `{"StringEquals":{"aws:SourceAccount":"`+account+`"},"ArnLike":{"aws:SourceArn":"`+tc.arn+`"}}`)
			allow(t, c, testRole, tc.create+" "+tc.arn)
			require.ErrorContains(t, tc.make(once(c)), "is not authorized to perform: iam:PassRole on resource: "+role)
			allow(t, c, testRole, tc.create+" "+tc.arn, passed(tc.otherService))
			require.ErrorContains(t, tc.make(once(c)), "iam:PassRole")
			allow(t, c, testRole, passed(tc.service))
			require.ErrorContains(t, tc.make(once(c)), tc.create)
			allow(t, c, testRole, tc.create+" "+tc.arn, passed(tc.service))
			require.NoError(t, tc.make(once(c)))
		})
	}
}

func TestEventBridgeTakesARoleThatTheCallerMayPass(t *testing.T) {
	const role = "arn:aws:iam::" + account + ":role/worker"
	c := enforcing(t)
	_, err := c.Events.PutRule(t.Context(), &eventbridge.PutRuleInput{Name: aws.String("r"), EventPattern: aws.String(`{"source":["s"]}`)})
	require.NoError(t, err)
	put := func() error {
		_, err := eventbridge.NewFromConfig(once(c)).PutTargets(t.Context(), &eventbridge.PutTargetsInput{Rule: aws.String("r"), Targets: []eventtypes.Target{{
			Id: aws.String("t"), Arn: aws.String("arn:aws:states:" + region + ":" + account + ":stateMachine:m"), RoleArn: aws.String(role),
		}}})
		return err
	}
	const targets = "events:PutTargets arn:aws:events:" + region + ":" + account + ":rule/r"
	allow(t, c, testRole, targets)
	require.ErrorContains(t, put(), "iam:PassRole on resource: "+role)
	allow(t, c, testRole, targets, `iam:PassRole `+role+` {"StringEquals":{"iam:PassedToService":"events.amazonaws.com"}}`)
	require.NoError(t, put())
}

func TestAnInstanceHasTheRoleOfItsProfileIfTheRoleTrustsEC2(t *testing.T) {
	c, _, g := guests(t, "web")
	trusting(t, c, "arn:aws:iam::"+account+":role/web", `{"Service":"lambda.amazonaws.com"}`, "")
	_, raw := g[0].fetch("/latest/meta-data/iam/security-credentials/web")
	assert.NotContains(t, raw, "Success")
	trusting(t, c, "arn:aws:iam::"+account+":role/web", `{"Service":"ec2.amazonaws.com"}`, "")
	_, err := g[0].secret(g[0].credentials(), "ami-factory/agents/newrelic")
	require.NoError(t, err)

	_, err = sdkec2.NewFromConfig(c.AWSConfig("")).RunInstances(t.Context(), &sdkec2.RunInstancesInput{
		ImageId: aws.String(baseImage(t, c)), InstanceType: ec2types.InstanceTypeT3Medium, MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
		IamInstanceProfile: &ec2types.IamInstanceProfileSpecification{Name: aws.String("none")},
	})
	require.ErrorContains(t, err, "Invalid IAM Instance Profile")
}

// sessionIn is a configuration of a session of a role, which the root of its
// account assumes.
func sessionIn(t *testing.T, c *localcloud.Cloud, role string) aws.Config {
	t.Helper()
	of := strings.Split(role, ":")[4]
	out, err := sdksts.NewFromConfig(c.AWSConfigFor(of, "")).AssumeRole(t.Context(), &sdksts.AssumeRoleInput{RoleArn: &role, RoleSessionName: aws.String("s1")})
	require.NoError(t, err)
	cfg := c.AWSConfig("")
	cfg.RetryMaxAttempts = 1
	k := out.Credentials
	cfg.Credentials = credentials.NewStaticCredentialsProvider(*k.AccessKeyId, *k.SecretAccessKey, *k.SessionToken)
	return cfg
}

func TestWhatAllowedCallsIsTold(t *testing.T) {
	c := enforcing(t)
	allow(t, c, testRole, "ec2:DescribeImages *", "ec2:DescribeVpcs *")
	_, err := sdkec2.NewFromConfig(once(c)).DescribeImages(t.Context(), &sdkec2.DescribeImagesInput{})
	require.NoError(t, err)
	response, err := c.Control().Do(t.Context(), http.MethodGet, localcloud.PermissionsPath, nil)
	require.NoError(t, err)
	defer response.Body.Close()
	var got map[string][]iam.Use
	require.NoError(t, json.NewDecoder(response.Body).Decode(&got))
	assert.Equal(t, map[string][]iam.Use{testRole: {
		{Permission: iam.Permission{Policy: "calls", Grant: authz.Grant{Statement: 1, Action: "ec2:DescribeImages", Resource: "*"}}, Requests: 1},
		{Permission: iam.Permission{Policy: "calls", Grant: authz.Grant{Statement: 2, Action: "ec2:DescribeVpcs", Resource: "*"}}},
	}}, got)
}
