package factory

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/blueprint"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/partition"
	"github.com/ami-factory/ami-factory/pkg/trigger"
	"github.com/ami-factory/ami-factory/pkg/workflow"
)

func TestTheFunctionsReadWhatTheSchedulesSend(t *testing.T) {
	sent := func(input string) []byte {
		return []byte(strings.ReplaceAll(input, "<aws.scheduler.scheduled-time>", "2026-11-24T03:00:00Z"))
	}
	var watch trigger.WatchInput
	require.NoError(t, json.Unmarshal(sent(blueprint.WatchInput), &watch))
	assert.False(t, watch.Time.IsZero())
	var night trigger.EventInput
	require.NoError(t, json.Unmarshal(sent(blueprint.NightlyInput), &night))
	assert.Equal(t, contract.NightlyEvent, night.DetailType)
	assert.False(t, night.Time.IsZero())
}

// text is a resource's properties, to look into whatever the nesting.
func text(t *testing.T, r resource) string {
	t.Helper()
	b, err := json.Marshal(properties(r))
	require.NoError(t, err)
	return string(b)
}

func TestSchedulesRulesAndSubscriptionsStartTheTriggers(t *testing.T) {
	tpl := template(t, map[string]any{"nightly": "cron(30 2 * * ? *)", "timezone": "Europe/Berlin", "nightlyWindowMinutes": "45", "watch": "rate(1 hour)"})
	byExpression := map[string]map[string]any{}
	for _, s := range ofType(tpl, "AWS::Scheduler::Schedule") {
		p := properties(s)
		byExpression[p["ScheduleExpression"].(string)] = p
		target := p["Target"].(map[string]any)
		assert.NotNil(t, target["DeadLetterConfig"])
		assert.NotNil(t, target["RoleArn"])
	}
	require.Len(t, byExpression, 2)
	night := byExpression["cron(30 2 * * ? *)"]
	assert.Equal(t, "Europe/Berlin", night["ScheduleExpressionTimezone"])
	assert.Equal(t, map[string]any{"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 45.0}, night["FlexibleTimeWindow"])
	assert.Equal(t, blueprint.NightlyInput, night["Target"].(map[string]any)["Input"])
	assert.Equal(t, blueprint.WatchInput, byExpression["rate(1 hour)"]["Target"].(map[string]any)["Input"])

	rules := ofType(tpl, "AWS::Events::Rule")
	hints := 0
	for _, r := range blueprint.Rules("", "", blueprint.FindingRules{}) {
		if r.Hint {
			hints++
		}
	}
	require.Len(t, rules, 5+hints)
	for id, r := range rules {
		p := properties(r)
		_, onBus := p["EventBusName"]
		source := p["EventPattern"].(map[string]any)["source"]
		assert.Equal(t, source.([]any)[0] == "ami-factory", onBus, "%s: the factory's events are on its own bus, those of AWS are not", id)
		target := p["Targets"].([]any)[0].(map[string]any)
		if strings.Contains(written(t, target["Arn"]), functionID(string(workflow.Wake))) { // of no use later
			hints--
			assert.NotContains(t, target, "DeadLetterConfig", id)
			assert.Equal(t, map[string]any{"MaximumEventAgeInSeconds": 300.0, "MaximumRetryAttempts": 2.0}, target["RetryPolicy"], id)
			continue
		}
		assert.NotNil(t, target["DeadLetterConfig"], id)
	}
	assert.Zero(t, hints)
	require.Len(t, ofType(tpl, "AWS::Events::EventBus"), 1)
	subscriptions := ofType(tpl, "AWS::SNS::Subscription")
	require.Len(t, subscriptions, 1)
	for _, s := range subscriptions {
		assert.Equal(t, blueprint.AnnouncementTopics(partition.Default)[0], properties(s)["TopicArn"])
		assert.Equal(t, "us-east-1", properties(s)["Region"], "of the topic, wherever the factory is")
		assert.Equal(t, "lambda", properties(s)["Protocol"])
	}
	allowed := 0
	for _, p := range ofType(tpl, "AWS::Lambda::Permission") {
		assert.Contains(t, properties(p), "SourceArn", "nobody may invoke a trigger for anything but what is deployed")
		if properties(p)["Principal"] == "sns.amazonaws.com" {
			allowed++
			assert.Equal(t, blueprint.AnnouncementTopics(partition.Default)[0], properties(p)["SourceArn"])
		}
	}
	assert.Equal(t, 1, allowed)
	assert.Len(t, ofType(tpl, "AWS::Lambda::EventInvokeConfig"), len(blueprint.Triggers())+len(blueprint.Wakers()))
	for _, q := range ofType(tpl, "AWS::SQS::Queue") {
		assert.Equal(t, true, properties(q)["SqsManagedSseEnabled"])
	}
}

func TestOnlyTheSeveritiesThatWereChosenStartBuilds(t *testing.T) {
	pattern := func(context map[string]any) string {
		for id, r := range ofType(template(t, context), "AWS::Events::Rule") {
			if strings.HasPrefix(id, "InspectorFinding") {
				return text(t, r)
			}
		}
		return ""
	}
	assert.Contains(t, pattern(nil), `"severity":["CRITICAL","HIGH"]`)
	assert.Contains(t, pattern(map[string]any{"findingSeverities": "CRITICAL"}), `"severity":["CRITICAL"]`)
	assert.Empty(t, pattern(map[string]any{"findingSeverities": "none"}), "none: no vulnerability starts a build")
}

func TestFindingsThatPeopleCanMakeStartBuildsOnlyIfThatIsChosen(t *testing.T) {
	const product = "arn:aws:securityhub:eu-west-1:111122223333:product/111122223333/default"
	rules := func(tpl map[string]any) string {
		var out []string
		for _, r := range ofType(tpl, "AWS::Events::Rule") {
			out = append(out, text(t, r))
		}
		return strings.Join(out, "\n")
	}
	tpl := template(t, nil)
	for _, r := range ofType(tpl, "AWS::Events::Rule") {
		p := properties(r)
		for _, source := range p["EventPattern"].(map[string]any)["source"].([]any) {
			_, onBus := p["EventBusName"]
			assert.True(t, onBus || strings.HasPrefix(source.(string), "aws."), "%s: anybody can put events of this source on the default bus", source)
		}
	}
	assert.NotContains(t, rules(tpl), "ondemand")
	assert.Contains(t, rules(tpl), `"ProductArn":[{"wildcard":"arn:*:securityhub:*::product/aws/inspector"}]`)
	assert.Contains(t, rules(tpl), `"metadata":{"product":{"uid":[{"wildcard":"arn:*:securityhub:*::productv2/aws/inspector"}]}}`)
	told := variablesOfStage(t, tpl, blueprint.StartBuilds)
	assert.NotContains(t, told, contract.EnvOnDemand)
	assert.NotContains(t, told, contract.EnvProducts)

	tpl = template(t, map[string]any{"onDemandFindings": "true", "findingProducts": product})
	assert.Contains(t, rules(tpl), `"source":["inspector2.ami.ondemand"]`)
	assert.Contains(t, rules(tpl), `"ProductArn":[{"wildcard":"arn:*:securityhub:*::product/aws/inspector"},"`+product+`"]`)
	told = variablesOfStage(t, tpl, blueprint.StartBuilds)
	assert.Equal(t, "true", told[contract.EnvOnDemand], "the function knows what the rules let in")
	assert.Equal(t, product, told[contract.EnvProducts])

	assert.NotContains(t, rules(template(t, map[string]any{"onDemandFindings": "true", "findingSeverities": "none"})), "ondemand")
}

func TestNoTopicsNoSubscription(t *testing.T) {
	tpl := template(t, map[string]any{"announcementTopics": "none"})
	assert.Empty(t, ofType(tpl, "AWS::SNS::Subscription"))
	for _, p := range ofType(tpl, "AWS::Lambda::Permission") {
		assert.NotEqual(t, "sns.amazonaws.com", properties(p)["Principal"])
	}
}

func TestTriggersMayStartTheFactorysExecutionsOnly(t *testing.T) {
	tpl, found := template(t, nil), 0
	for _, f := range ofType(tpl, "AWS::IAM::Policy") {
		var document struct {
			PolicyDocument struct {
				Statement []struct{ Action, Resource json.RawMessage }
			}
		}
		require.NoError(t, json.Unmarshal([]byte(text(t, f)), &document))
		for _, s := range document.PolicyDocument.Statement {
			for action, resource := range map[string]string{
				"states:StartExecution": ":stateMachine:ami-factory\"", "states:DescribeExecution": ":execution:ami-factory:*\"",
			} {
				if contains(s.Action, action) {
					found++
					assert.Contains(t, string(s.Resource), resource)
				}
			}
		}
	}
	assert.Equal(t, 3, found, "of start-builds both, of approve, which starts builds by hand, the first")
}

// contains says whether a statement's action, or one of its actions, is this one.
func contains(actions json.RawMessage, action string) bool {
	var one string
	var many []string
	if json.Unmarshal(actions, &one) == nil {
		return one == action
	}
	return json.Unmarshal(actions, &many) == nil && slices.Contains(many, action)
}

func TestBadTriggersOfTheContextAreRefused(t *testing.T) {
	for sentence, tc := range map[string]struct {
		context map[string]any
		says    string
	}{
		"a schedule that is none": {map[string]any{"nightly": "at night"}, `context nightly is "at night"`},
		"a watch that is none":    {map[string]any{"watch": "30m"}, `context watch is "30m"`},
		"a zone that is none":     {map[string]any{"timezone": "Berlin, Europe"}, `context timezone is "Berlin, Europe"`},
		"a window of no time":     {map[string]any{"nightlyWindowMinutes": "0"}, `context nightlyWindowMinutes is "0"`},
		"a window of a word":      {map[string]any{"nightlyWindowMinutes": "hour"}, `context nightlyWindowMinutes is "hour"`},
		"a topic that is none":    {map[string]any{"announcementTopics": "al2023"}, `context announcementTopics is "al2023" (allowed: ARNs of topics`},
		"a severity that is none": {map[string]any{"findingSeverities": "HIGH,worst"}, `context findingSeverities is "worst" (allowed: `},
		"a choice that is none":   {map[string]any{"onDemandFindings": "maybe"}, `context onDemandFindings is "maybe" (allowed: true, false)`},
		"a product that is none":  {map[string]any{"findingProducts": "aws/inspector"}, `context findingProducts is "aws/inspector" (allowed: ARNs of products`},
		"any product at all":      {map[string]any{"findingProducts": "*"}, `context findingProducts is "*" (allowed: ARNs of products`},
		"no hours":                {map[string]any{"findingHours": "0"}, `context findingHours is "0"`},
	} {
		t.Run(sentence, func(t *testing.T) {
			tc.context["functions"], tc.context["goss"] = t.TempDir(), filepath.Join(t.TempDir(), "none")
			app := awscdk.NewApp(&awscdk.AppProps{Context: &tc.context, Outdir: jsii.String(t.TempDir())})
			_, err := PropsFromContext(app, nil)
			assert.ErrorContains(t, err, tc.says)
		})
	}
}
