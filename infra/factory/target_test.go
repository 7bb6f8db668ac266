package factory

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"
	"github.com/aws/jsii-runtime-go"
	"github.com/cdklabs/cdk-nag-go/cdknag/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/workflow"
)

func targetOf(t *testing.T) (awscdk.App, TargetStack) {
	t.Helper()
	app := awscdk.NewApp(&awscdk.AppProps{Outdir: jsii.String(t.TempDir())})
	return app, NewTargetStack(app, "Target", awscdk.StackProps{})
}

func targetTemplate(t *testing.T) map[string]any {
	t.Helper()
	_, target := targetOf(t)
	raw, err := json.Marshal(assertions.Template_FromStack(target.Stack, nil).ToJSON())
	require.NoError(t, err)
	var out map[string]any
	require.NoError(t, json.Unmarshal(raw, &out))
	return out
}

func TestATargetAccountTrustsTheFactorysRolesAndNobodyElse(t *testing.T) {
	role := one(t, targetTemplate(t), "AWS::IAM::Role", "Role")
	statements := role["AssumeRolePolicyDocument"].(map[string]any)["Statement"].([]any)
	require.Len(t, statements, 1)
	s := statements[0].(map[string]any)
	assert.Contains(t, written(t, s["Principal"]), `{"Ref":"FactoryAccount"}`)
	assert.Equal(t, map[string]any{
		"StringEquals": map[string]any{"sts:ExternalId": map[string]any{"Ref": "ExternalId"}},
		"ArnEquals":    map[string]any{"aws:PrincipalArn": map[string]any{"Ref": "FactoryRoleArns"}},
	}, s["Condition"])
	assert.Equal(t, workflow.TargetRoleName, role["RoleName"])
}

func TestATargetAccountAllowsWhatMovesPointersAndNothingElse(t *testing.T) {
	tpl := targetTemplate(t)
	policy := one(t, tpl, "AWS::IAM::Policy", "")
	var got []string
	for _, s := range policy["PolicyDocument"].(map[string]any)["Statement"].([]any) {
		got = append(got, texts(s.(map[string]any)["Action"])...)
		if action := written(t, s.(map[string]any)["Action"]); action == `"ec2:DescribeImages"` {
			continue
		}
		assert.Contains(t, written(t, s.(map[string]any)["Resource"]), ":parameter/ami-factory/*")
	}
	var want []string
	for _, s := range workflow.TargetPolicy("aws", "1") {
		want = append(want, s.Actions...)
	}
	slices.Sort(got)
	slices.Sort(want)
	assert.Equal(t, want, slices.Compact(got))
}

// A StackSet takes a template alone.
func TestATargetsTemplateStandsAlone(t *testing.T) {
	tpl := targetTemplate(t)
	assert.NotContains(t, tpl, "Rules", "no bootstrapping is asked for")
	for name, p := range tpl["Parameters"].(map[string]any) {
		assert.NotContains(t, written(t, p), "AWS::SSM::", "%s is looked up", name)
	}
	assert.Len(t, tpl["Parameters"], 3)
	assert.Len(t, tpl["Resources"], 2)
}

func TestTheSecurityLinterFindsNothingInATarget(t *testing.T) {
	app, target := targetOf(t)
	awscdk.Aspects_Of(app).Add(cdknag.NewAwsSolutionsChecks(nil), nil)
	assert.Empty(t, findings(target.Stack))
}

func TestTheFactoryNamesTheRolesForTargets(t *testing.T) {
	value := written(t, template(t, nil)["Outputs"].(map[string]any)["PointerRoleArns"])
	for _, s := range workflow.TargetCallers() {
		assert.Contains(t, value, functionID(s)+"Role")
	}
}
