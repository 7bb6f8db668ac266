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

	"github.com/ami-factory/ami-factory/pkg/blueprint"
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
	for name, parameter := range map[string]string{blueprint.TargetReaderName: "PointerReadRoleArns", blueprint.TargetWriterName: "PointerWriteRoleArns"} {
		t.Run(name, func(t *testing.T) {
			role := roleNamed(t, targetTemplate(t), name)
			statements := role["AssumeRolePolicyDocument"].(map[string]any)["Statement"].([]any)
			require.Len(t, statements, 1)
			s := statements[0].(map[string]any)
			assert.Contains(t, written(t, s["Principal"]), `{"Ref":"FactoryAccount"}`)
			assert.Equal(t, map[string]any{
				"StringEquals": map[string]any{"sts:ExternalId": map[string]any{"Ref": "ExternalId"}},
				"ArnEquals":    map[string]any{"aws:PrincipalArn": map[string]any{"Ref": parameter}},
			}, s["Condition"])
		})
	}
}

func roleNamed(t *testing.T, tpl map[string]any, name string) map[string]any {
	t.Helper()
	for _, r := range ofType(tpl, "AWS::IAM::Role") {
		if properties(r)["RoleName"] == name {
			return properties(r)
		}
	}
	require.Fail(t, "there is no role", name)
	return nil
}

func TestATargetAccountAllowsWhatMovesPointersAndNothingElse(t *testing.T) {
	tpl := targetTemplate(t)
	got := map[string][]string{}
	for _, p := range ofType(tpl, "AWS::IAM::Policy") {
		role := written(t, properties(p)["Roles"])
		for _, s := range properties(p)["PolicyDocument"].(map[string]any)["Statement"].([]any) {
			s := s.(map[string]any)
			on := "*"
			if resource := written(t, s["Resource"]); resource != `"*"` {
				assert.Contains(t, resource, ":parameter/ami-factory/*")
				on = "pointers"
			}
			for _, action := range texts(s["Action"]) {
				got[role[:len(`[{"Ref":"Read`)]] = append(got[role[:len(`[{"Ref":"Read`)]], action+" on "+on)
			}
		}
	}
	for _, actions := range got {
		slices.Sort(actions)
	}
	assert.Equal(t, map[string][]string{
		`[{"Ref":"Read`: {"ssm:GetParameter on pointers", "ssm:GetParameterHistory on pointers"},
		`[{"Ref":"Writ`: {
			"ec2:DescribeImages on *", "ssm:AddTagsToResource on pointers", "ssm:DeleteParameter on pointers", "ssm:GetParameter on pointers", "ssm:PutParameter on pointers",
		},
	}, got)
}

// A StackSet takes a template alone.
func TestATargetsTemplateStandsAlone(t *testing.T) {
	tpl := targetTemplate(t)
	assert.NotContains(t, tpl, "Rules", "no bootstrapping is asked for")
	for name, p := range tpl["Parameters"].(map[string]any) {
		assert.NotContains(t, written(t, p), "AWS::SSM::", "%s is looked up", name)
	}
	assert.Len(t, tpl["Parameters"], 4)
	assert.Len(t, tpl["Resources"], 4)
}

func TestTheSecurityLinterFindsNothingInATarget(t *testing.T) {
	app, target := targetOf(t)
	awscdk.Aspects_Of(app).Add(cdknag.NewAwsSolutionsChecks(nil), nil)
	assert.Empty(t, findings(target.Stack))
}

func TestTheFactoryNamesTheRolesForTargets(t *testing.T) {
	outputs := template(t, nil)["Outputs"].(map[string]any)
	for output, roles := range map[string][]string{"PointerReadRoleArns": {"ResolveRole", "RetireRole"}, "PointerWriteRoleArns": {"PublishRole", "CleanupRole"}} {
		for _, role := range roles {
			assert.Contains(t, written(t, outputs[output]), role)
		}
	}
}
