package factory

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"
	"github.com/aws/aws-cdk-go/awscdk/v2/cxapi"
	"github.com/aws/jsii-runtime-go"
	"github.com/cdklabs/cdk-nag-go/cdknag/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const existingKey = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"

// variants are contexts that together make every construct.
func variants() map[string]map[string]any {
	return map[string]map[string]any{
		"the defaults": nil,
		"everything": {
			"network": "own", "nat": true, "flowLogs": true, "encryptionKey": "new", "accessLogs": "new", "executionLog": "all", "executionData": true,
			"alarmSubscribers": "ops@example.test", "executionSubscribers": "https://hooks.example.test/x", "zones": 3,
			"permissionsBoundary": "boundary", "rolePath": "/factory/", "roleNamePrefix": "af-", "tags": "team=images,cost-centre=42",
			"keyArns": "arn:aws:kms:eu-west-1:111122223333:key/1234", "componentParameters": map[string]any{"docker": map[string]any{"logMaxSize": "10m"}},
			"targetAccounts": "210987654321,444455556666", "targetExternalId": "a-long-external-id", "securityHub": true, "inspectorScan": true,
		},
		"a network without a way out": {"network": "own"},
		"as little as can be": {
			"alarms": false, "dashboard": false, "tracing": false, "executionLog": "off", "announcementTopics": "none", "reserveConcurrency": false,
		},
		"other figures": {
			"workDays": 60, "noncurrentDays": 10, "evidenceYears": 3, "logDays": 731, "maxImageAgeDays": 10, "maxDailyCost": 7, "failuresInARow": 2,
			"subnetIds": "subnet-0123456789abcdef0", "vpcId": "vpc-0123456789abcdef0",
		},
		"what exists already": {
			"subnetIds": "subnet-0123456789abcdef0,subnet-0123456789abcdef1", "securityGroupIds": "sg-0123456789abcdef0", "encryptionKey": existingKey, "accessLogs": "our-logs",
			"alarmTopicArns": "arn:aws:sns:eu-west-1:111122223333:ops", "maxImageAgeDays": 0, "maxDailyCost": 0,
		},
	}
}

func TestTheSecurityLinterFindsNothingButWhatIsWrittenDown(t *testing.T) {
	for sentence, context := range variants() {
		t.Run(sentence, func(t *testing.T) {
			app, stack := stackOf(t, context)
			awscdk.Aspects_Of(app).Add(cdknag.NewAwsSolutionsChecks(&cdknag.NagPackProps{Verbose: jsii.Bool(true), Reports: jsii.Bool(false)}), nil)
			assert.Empty(t, findings(stack.Stack))
		})
	}
}

// Without this, a linter that does not run finds nothing either.
func TestTheSecurityLinterFindsWhatIsNotWrittenDown(t *testing.T) {
	app, stack := stackOf(t, nil)
	except(stack.Factory.DeadLetters) // in place of the exception that was there
	awscdk.Aspects_Of(app).Add(cdknag.NewAwsSolutionsChecks(nil), nil)
	found := findings(stack.Stack)
	require.Len(t, found, 1)
	assert.Contains(t, found[0], "AwsSolutions-SQS3")
}

func findings(stack awscdk.Stack) []string {
	annotations := assertions.Annotations_FromStack(stack)
	out := []string{}
	for _, messages := range []*[]*cxapi.SynthesisMessage{
		annotations.FindError(jsii.String("*"), assertions.Match_StringLikeRegexp(jsii.String("AwsSolutions-.*"))),
		annotations.FindWarning(jsii.String("*"), assertions.Match_AnyValue()),
	} {
		for _, m := range *messages {
			out = append(out, fmt.Sprintf("%s: %v", *m.Id, m.Entry.Data))
		}
	}
	slices.Sort(out)
	return out
}

// Control Tower's proactive controls and checkov ask the same; the page has what
// is answered, and the template carries it where checkov reads it.
func TestRulesThatAreNotMetAreAnsweredInTheTemplateAndOnThePage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "docs", "rules.md"))
	require.NoError(t, err)
	for _, a := range answers() {
		assert.Contains(t, string(page), fmt.Sprintf("| `%s` | %s | %s | %s |\n", a.rule, a.kind, a.asks, a.comment))
	}
	skipped := func(context map[string]any, kind string) map[string][]string {
		out := map[string][]string{}
		for id, r := range ofType(template(t, context), kind) {
			metadata, _ := r["Metadata"].(map[string]any)
			list, _ := metadata["checkov"].(map[string]any)
			skip, _ := list["skip"].([]any)
			out[id] = []string{}
			for _, s := range skip {
				one := s.(map[string]any)
				assert.NotEmpty(t, one["comment"], id)
				out[id] = append(out[id], one["id"].(string))
			}
		}
		require.NotEmpty(t, out, kind)
		return out
	}
	for id, rules := range skipped(nil, "AWS::Lambda::Function") {
		assert.Equal(t, []string{"CKV_AWS_115", "CKV_AWS_116", "CKV_AWS_117", "CKV_AWS_173"}, rules, id)
	}
	for id, rules := range skipped(nil, "AWS::Logs::LogGroup") {
		assert.Equal(t, []string{"CKV_AWS_158"}, rules, id)
	}
	for id, rules := range skipped(variants()["everything"], "AWS::Logs::LogGroup") {
		assert.Empty(t, rules, "%s has a customer key, so that the rule is met", id)
	}
}
