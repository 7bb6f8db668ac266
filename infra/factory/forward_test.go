package factory

import (
	"encoding/json"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"
	"github.com/aws/jsii-runtime-go"
	"github.com/cdklabs/cdk-nag-go/cdknag/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/blueprint"
	"github.com/ami-factory/ami-factory/test/golden"
)

func forwardOf(t *testing.T) awscdk.Stack {
	t.Helper()
	app := awscdk.NewApp(&awscdk.AppProps{Outdir: jsii.String(t.TempDir())})
	awscdk.Aspects_Of(app).Add(cdknag.NewAwsSolutionsChecks(nil), nil)
	return NewForwardStack(app, "Forward", awscdk.StackProps{})
}

func forwardTemplate(t *testing.T) map[string]any {
	t.Helper()
	raw, err := json.Marshal(assertions.Template_FromStack(forwardOf(t), nil).ToJSON())
	require.NoError(t, err)
	var out map[string]any
	require.NoError(t, json.Unmarshal(raw, &out))
	return out
}

func TestTheStackOfARegionIsTheGoldenOne(t *testing.T) {
	raw, err := json.MarshalIndent(forwardTemplate(t), "", "  ")
	require.NoError(t, err)
	golden.Testdata(t, "forward.json", append(raw, '\n'))
}

// It makes nothing in the factory's own region, nor where regions do not send each
// other events: all is under that condition.
func TestARegionForwardsWhatTheBlueprintSaysAndNothingElse(t *testing.T) {
	tpl := forwardTemplate(t)
	assert.NotContains(t, tpl, "Rules", "no bootstrapping is asked for")
	assert.Len(t, tpl["Parameters"], 1)
	assert.JSONEq(t, `{"Fn::And":[{"Fn::Equals":[{"Ref":"AWS::Partition"},"`+blueprint.Forwarding+`"]},{"Fn::Not":[{"Fn::Equals":[{"Ref":"AWS::Region"},{"Ref":"FactoryRegion"}]}]}]}`,
		written(t, tpl["Conditions"].(map[string]any)["Forwards"]))
	for id, r := range tpl["Resources"].(map[string]any) {
		assert.Equal(t, "Forwards", r.(resource)["Condition"], id)
	}
	rules := ofType(tpl, "AWS::Events::Rule")
	require.Len(t, rules, len(blueprint.Forwards()))
	for _, f := range blueprint.Forwards() {
		want, err := json.Marshal(f.Pattern)
		require.NoError(t, err)
		found := false
		for _, r := range rules {
			found = found || assert.ObjectsAreEqual(decoded(t, string(want)), decoded(t, written(t, properties(r)["EventPattern"])))
		}
		assert.True(t, found, f.Name)
	}
}

func decoded(t *testing.T, text string) (out any) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(text), &out))
	return out
}

func TestTheSecurityLinterFindsNothingInARegion(t *testing.T) {
	assert.Empty(t, findings(forwardOf(t)))
}
