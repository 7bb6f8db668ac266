package factory

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/blueprint"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/metric"
	"github.com/ami-factory/ami-factory/pkg/workflow"
)

// one is the only resource of a type whose id has this in it.
func one(t *testing.T, tpl map[string]any, kind, idHas string) map[string]any {
	t.Helper()
	var found []map[string]any
	for id, r := range ofType(tpl, kind) {
		if strings.Contains(id, idHas) {
			found = append(found, properties(r))
		}
	}
	require.Len(t, found, 1, "%s with %s", kind, idHas)
	return found[0]
}

func written(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return string(b)
}

func variablesOf(t *testing.T, tpl map[string]any) map[string]any {
	t.Helper()
	fn, ok := blueprint.Lookup(string(workflow.Launch))
	require.True(t, ok)
	return functionOf(t, tpl, fn)["Environment"].(map[string]any)["Variables"].(map[string]any)
}

func TestAnOwnNetworkLeadsToEndpointsOnly(t *testing.T) {
	tpl := template(t, variants()["a network without a way out"])
	for _, kind := range []string{"AWS::EC2::InternetGateway", "AWS::EC2::NatGateway", "AWS::EC2::Route", "AWS::EC2::EIP"} {
		assert.Empty(t, ofType(tpl, kind), kind)
	}
	ranges := map[string]bool{}
	for id, s := range ofType(tpl, "AWS::EC2::Subnet") {
		p := properties(s)
		ranges[p["CidrBlock"].(string)] = true
		assert.Equal(t, false, p["MapPublicIpOnLaunch"], id)
		assert.Contains(t, written(t, p["AvailabilityZone"]), "Fn::GetAZs", "asked for at deployment")
	}
	assert.Equal(t, map[string]bool{"10.42.0.0/25": true, "10.42.0.128/25": true}, ranges)
	endpoints := map[string]string{}
	for _, e := range ofType(tpl, "AWS::EC2::VPCEndpoint") {
		p := properties(e)
		endpoints[p["ServiceName"].(string)] = p["VpcEndpointType"].(string)
	}
	assert.Equal(t, map[string]string{
		"com.amazonaws.eu-west-1.ssm": "Interface", "com.amazonaws.eu-west-1.ssmmessages": "Interface",
		"com.amazonaws.eu-west-1.ec2messages": "Interface", "com.amazonaws.eu-west-1.s3": "Gateway",
	}, endpoints)

	builders := one(t, tpl, "AWS::EC2::SecurityGroup", "Builders")
	assert.NotContains(t, builders, "SecurityGroupIngress", "nobody gets in")
	assert.Equal(t, []any{443.0}, ports(builders["SecurityGroupEgress"]))
	doors := one(t, tpl, "AWS::EC2::SecurityGroup", "Endpoints")
	assert.Equal(t, []any{443.0}, ports(doors["SecurityGroupIngress"]))
	assert.Contains(t, written(t, doors["SecurityGroupIngress"]), "SourceSecurityGroupId")
	assert.NotContains(t, written(t, doors["SecurityGroupIngress"]), "Cidr")

	told := variablesOf(t, tpl)
	assert.Contains(t, written(t, told["AMI_FACTORY_SUBNET_IDS"]), "Subnet2")
	assert.Contains(t, written(t, told["AMI_FACTORY_SECURITY_GROUP_IDS"]), "Builders")
}

func ports(rules any) []any {
	var out []any
	for _, r := range rules.([]any) {
		out = append(out, r.(map[string]any)["ToPort"])
	}
	return out
}

func TestEndpointsLetThroughWhatBuildersNeed(t *testing.T) {
	tpl := template(t, variants()["a network without a way out"])
	for id, e := range ofType(tpl, "AWS::EC2::VPCEndpoint") {
		statements := properties(e)["PolicyDocument"].(map[string]any)["Statement"].([]any)
		for _, s := range statements {
			s := s.(map[string]any)
			mine := strings.Contains(written(t, s["Condition"]), `"aws:PrincipalAccount":"111122223333"`)
			open := strings.Contains(written(t, s["Resource"]), "al2023-repos-eu-west-1")
			assert.True(t, mine || open, "%s lets through what is signed for another account: %s", id, written(t, s))
			if properties(e)["VpcEndpointType"] == "Gateway" {
				assert.NotContains(t, texts(s["Action"]), "*")
				assert.NotContains(t, written(t, s["Resource"]), `"*"`)
			}
			if open {
				assert.Equal(t, []string{"s3:GetObject"}, texts(s["Action"]), "what is open can be read, and not written")
			}
		}
	}
}

func TestAWayOutIsForThePrivateSubnetsAndFlowsAreLogged(t *testing.T) {
	tpl := template(t, variants()["everything"])
	assert.Len(t, ofType(tpl, "AWS::EC2::NatGateway"), 1)
	assert.Len(t, ofType(tpl, "AWS::EC2::Subnet"), 4, "three zones, and the gateway's")
	assert.Equal(t, []any{443.0, 80.0}, ports(one(t, tpl, "AWS::EC2::SecurityGroup", "Builders")["SecurityGroupEgress"]))
	toNAT := 0
	for _, r := range ofType(tpl, "AWS::EC2::Route") {
		if _, ok := properties(r)["NatGatewayId"]; ok {
			toNAT++
			assert.NotContains(t, written(t, properties(r)["RouteTableId"]), "Public")
		}
	}
	assert.Equal(t, 1, toNAT)
	assert.NotContains(t, written(t, variablesOf(t, tpl)["AMI_FACTORY_SUBNET_IDS"]), "PublicSubnet", "builders are not put there")
	flow := one(t, tpl, "AWS::EC2::FlowLog", "")
	assert.Equal(t, "ALL", flow["TrafficType"])
	assert.NotNil(t, flow["DeliverLogsPermissionArn"])
}

func TestSubnetsThatExistAreUsedAsTheyAre(t *testing.T) {
	tpl := template(t, variants()["what exists already"])
	assert.Equal(t, "subnet-0123456789abcdef0,subnet-0123456789abcdef1", variablesOf(t, tpl)["AMI_FACTORY_SUBNET_IDS"])
	assert.Equal(t, "sg-0123456789abcdef0", variablesOf(t, tpl)["AMI_FACTORY_SECURITY_GROUP_IDS"])
	assert.Empty(t, ofType(tpl, "AWS::EC2::SecurityGroup"))
	assert.Empty(t, ofType(tpl, "AWS::EC2::VPC"))

	tpl = template(t, variants()["other figures"])
	group := one(t, tpl, "AWS::EC2::SecurityGroup", "Builders")
	assert.Equal(t, "vpc-0123456789abcdef0", group["VpcId"])
	assert.NotContains(t, group, "SecurityGroupIngress")
	assert.Contains(t, written(t, variablesOf(t, tpl)["AMI_FACTORY_SECURITY_GROUP_IDS"]), "Builders")
}

func TestACustomerKeyEncryptsAllThatIsAtRest(t *testing.T) {
	tpl := template(t, variants()["everything"])
	keys := ofType(tpl, "AWS::KMS::Key")
	require.Len(t, keys, 2, "that one, and the one that signs evidence")
	var key map[string]any
	for id, r := range keys {
		if !strings.HasPrefix(id, "SigningKey") {
			key = properties(r)
		}
	}
	assert.Equal(t, true, key["EnableKeyRotation"])
	for _, r := range ofType(tpl, "AWS::KMS::Key") {
		assert.Equal(t, "Retain", r["DeletionPolicy"], "reports outlive the stack, and need it")
	}
	for kind, property := range map[string]string{"AWS::SNS::Topic": "KmsMasterKeyId", "AWS::SQS::Queue": "KmsMasterKeyId", "AWS::Logs::LogGroup": "KmsKeyId"} {
		resources := ofType(tpl, kind)
		require.NotEmpty(t, resources, kind)
		for id, r := range resources {
			assert.Contains(t, written(t, properties(r)[property]), "Key", id)
		}
	}
	bucket := one(t, tpl, "AWS::S3::Bucket", "Bucket")
	assert.Contains(t, written(t, bucket["BucketEncryption"]), `"BucketKeyEnabled":true`)
	assert.Contains(t, written(t, bucket["BucketEncryption"]), "aws:kms")
	policy := written(t, key["KeyPolicy"])
	for _, service := range []string{"logs.eu-west-1.amazonaws.com", "cloudwatch.amazonaws.com", "events.amazonaws.com"} {
		assert.Contains(t, policy, service)
	}
}

func TestAKeyThatExistsIsUsedAndLeftAlone(t *testing.T) {
	tpl := template(t, variants()["what exists already"])
	assert.Len(t, ofType(tpl, "AWS::KMS::Key"), 1, "that which signs evidence, and no other")
	one(t, tpl, "AWS::KMS::Key", "SigningKey")
	assert.Contains(t, written(t, one(t, tpl, "AWS::S3::Bucket", "Bucket")["BucketEncryption"]), existingKey)
	assert.Contains(t, written(t, statementsOf(t, tpl, workflow.Resolve, "kms:GenerateDataKey")), existingKey)
}

func TestOnlyTheRoleOfSignMaySign(t *testing.T) {
	for name, props := range variants() {
		tpl := template(t, props)
		if len(ofType(tpl, "AWS::StepFunctions::StateMachine")) == 0 {
			continue // a stack without the factory
		}
		key := one(t, tpl, "AWS::KMS::Key", "SigningKey")
		assert.Equal(t, "ECC_NIST_P256", key["KeySpec"], name)
		assert.Equal(t, "SIGN_VERIFY", key["KeyUsage"], name)
		signing := 0
		for _, s := range key["KeyPolicy"].(map[string]any)["Statement"].([]any) {
			text := written(t, s)
			if !strings.Contains(text, `"kms:Sign"`) {
				assert.NotContains(t, text, `"kms:*"`, name)
				continue
			}
			signing++
			assert.Contains(t, text, `"aws:PrincipalArn":{"Fn::GetAtt":["SignRole`, name)
		}
		assert.Equal(t, 1, signing, name)
	}
}

func TestTheBucketKeepsEvidenceAndDropsWork(t *testing.T) {
	tpl := template(t, variants()["other figures"])
	bucket := one(t, tpl, "AWS::S3::Bucket", "Bucket")
	days := map[string]any{}
	for _, r := range bucket["LifecycleConfiguration"].(map[string]any)["Rules"].([]any) {
		r := r.(map[string]any)
		assert.Equal(t, "Enabled", r["Status"])
		if prefix, ok := r["Prefix"].(string); ok {
			days[prefix] = r["ExpirationInDays"]
			continue
		}
		assert.Equal(t, map[string]any{"NoncurrentDays": 10.0}, r["NoncurrentVersionExpiration"])
		assert.Equal(t, map[string]any{"DaysAfterInitiation": 7.0}, r["AbortIncompleteMultipartUpload"])
		assert.NotContains(t, r, "ExpirationInDays", "what is remembered of recipes stays")
	}
	assert.Equal(t, map[string]any{
		"waits/": 1.0, "plans/": 60.0, "bundles/": 60.0, "checks/": 60.0, "triggers/announcements/": 60.0, "triggers/started/": 60.0, "triggers/findings/": 60.0, "executions/": 1096.0, "site/": 1096.0,
		"feeds/": 60.0, "approvals/": 1096.0, "approving/": 60.0, "requesters/": 1096.0,
	}, days)
	assert.Contains(t, written(t, bucket["OwnershipControls"]), "BucketOwnerEnforced")
	assert.Equal(t, map[string]any{"EventBridgeConfiguration": map[string]any{"EventBridgeEnabled": true}}, bucket["NotificationConfiguration"])
	assert.NotContains(t, bucket, "LoggingConfiguration")
}

func TestAccessesAreLoggedWhereTheContextSays(t *testing.T) {
	tpl := template(t, variants()["what exists already"])
	assert.Equal(t, map[string]any{"DestinationBucketName": "our-logs", "LogFilePrefix": "ami-factory/"}, one(t, tpl, "AWS::S3::Bucket", "")["LoggingConfiguration"])

	tpl = template(t, variants()["everything"])
	assert.Contains(t, written(t, one(t, tpl, "AWS::S3::Bucket", "Bucket")["LoggingConfiguration"]), "AccessLogs")
	policy := written(t, one(t, tpl, "AWS::S3::BucketPolicy", "AccessLogs"))
	assert.Contains(t, policy, "logging.s3.amazonaws.com")
	assert.Contains(t, policy, "aws:SourceArn")
	assert.Contains(t, written(t, one(t, tpl, "AWS::S3::Bucket", "AccessLogs")["OwnershipControls"]), "BucketOwnerEnforced")
}

func TestLogsAreKeptForTheDaysOfTheContext(t *testing.T) {
	for days, tpl := range map[float64]map[string]any{90: template(t, nil), 731: template(t, variants()["other figures"])} {
		groups := ofType(tpl, "AWS::Logs::LogGroup")
		assert.Len(t, groups, len(blueprint.Functions())+1)
		for id, g := range groups {
			assert.InDelta(t, days, properties(g)["RetentionInDays"], 0, id)
		}
	}
}

func TestTheStateMachineLogsAndTracesWhatTheContextSays(t *testing.T) {
	for sentence, tc := range map[string]struct {
		context map[string]any
		level   string
		data    bool
		traced  bool
	}{
		"errors, without data, by default": {nil, "ERROR", false, true},
		"all, with data":                   {variants()["everything"], "ALL", true, true},
		"nothing":                          {variants()["as little as can be"], "OFF", false, false},
	} {
		t.Run(sentence, func(t *testing.T) {
			tpl := template(t, tc.context)
			p := one(t, tpl, "AWS::StepFunctions::StateMachine", "")
			logs := p["LoggingConfiguration"].(map[string]any)
			assert.Equal(t, tc.level, logs["Level"])
			assert.Equal(t, tc.data, logs["IncludeExecutionData"] == true)
			assert.Equal(t, map[string]any{"Enabled": tc.traced}, p["TracingConfiguration"])
			for id, f := range ofType(tpl, "AWS::Lambda::Function") {
				if tc.traced {
					assert.Equal(t, map[string]any{"Mode": "Active"}, properties(f)["TracingConfig"], id)
				} else {
					assert.NotContains(t, properties(f), "TracingConfig", id)
				}
			}
		})
	}
}

func TestTriggersRunOnceAtATime(t *testing.T) {
	reservations := func(tpl map[string]any) map[string]any {
		out := map[string]any{}
		for _, fn := range blueprint.Functions() {
			if n := functionOf(t, tpl, fn)["ReservedConcurrentExecutions"]; n != nil {
				out[fn.Name] = n
			}
		}
		return out
	}
	assert.Equal(t, map[string]any{"start-builds": 1.0, "watch-sources": 1.0, "release-announced": 1.0}, reservations(template(t, nil)))
	assert.Empty(t, reservations(template(t, variants()["as little as can be"])))
}

// alarmsIn are the alarms by the beginning of their ids.
func alarmsIn(tpl map[string]any) map[string]map[string]any {
	out := map[string]map[string]any{}
	for id, a := range ofType(tpl, "AWS::CloudWatch::Alarm") {
		out[strings.TrimSuffix(hash.ReplaceAllString(id, ""), "Alarm")] = properties(a)
	}
	return out
}

func TestAlarmsTellWhatSomebodyHasToLookInto(t *testing.T) {
	tpl := template(t, variants()["other figures"])
	alarms := alarmsIn(tpl)
	assert.Equal(t, []string{
		"DailyCost", "DeadLetters", "ExecutionsTimedOut", "FailedDirty", "FailingInARow", "OldImages", "RecipesPaused", "SilentErrors", "Throttles1", "Throttles2", "Throttles3",
	}, slices.Sorted(maps.Keys(alarms)))
	for id, a := range alarms {
		assert.NotEmpty(t, a["AlarmDescription"], id)
		assert.Contains(t, written(t, a["AlarmActions"]), "AlarmTopic", id)
		assert.Contains(t, written(t, a["OKActions"]), "AlarmTopic", "%s: that it is over is told as well", id)
		returned := 0
		for _, m := range a["Metrics"].([]any) {
			if m.(map[string]any)["ReturnData"] == true {
				returned++
			}
		}
		assert.Equal(t, 1, returned, "%s compares one value", id)
		assert.LessOrEqual(t, len(a["Metrics"].([]any)), mostTerms+1, id)
	}
	assert.Contains(t, written(t, alarms["FailedDirty"]["Metrics"]), `"Dimensions":[{"Name":"Status","Value":"FailedDirty"}]`)
	assert.InDelta(t, 864000, alarms["OldImages"]["Threshold"], 0)
	assert.InDelta(t, 7, alarms["DailyCost"]["Threshold"], 0)
	assert.InDelta(t, 2, alarms["FailingInARow"]["EvaluationPeriods"], 0)
	throttles := written(t, alarms["Throttles1"]) + written(t, alarms["Throttles2"]) + written(t, alarms["Throttles3"])
	for _, fn := range blueprint.Functions() {
		assert.Contains(t, throttles, functionID(fn.Name), "throttles of %s are seen", fn.Name)
	}
}

// A stage that has to wait says so by an error, all night long.
func TestPollsRingNoAlarm(t *testing.T) {
	errors := written(t, alarmsIn(template(t, nil))["SilentErrors"])
	for _, row := range workflow.Stages() {
		if row.NotYet != "" {
			assert.NotContains(t, errors, `"`+functionID(string(row.Stage)), row.Stage)
		}
	}
	for _, s := range silent() {
		assert.Contains(t, errors, functionID(s))
	}
}

func TestAlarmsThatAreNotWantedAreNotMade(t *testing.T) {
	tpl := template(t, variants()["what exists already"])
	alarms := alarmsIn(tpl)
	assert.NotContains(t, alarms, "OldImages")
	assert.NotContains(t, alarms, "DailyCost")
	assert.Len(t, ofType(tpl, "AWS::SNS::Topic"), 1, "alarms tell the topic that is there")
	for id, a := range alarms {
		assert.Equal(t, []any{"arn:aws:sns:eu-west-1:111122223333:ops"}, a["AlarmActions"], id)
	}
	assert.Empty(t, ofType(template(t, variants()["as little as can be"]), "AWS::CloudWatch::Alarm"))
}

// An alarm on a figure that nobody publishes never rings.
func TestAlarmsAndDashboardReadFiguresThatAreThere(t *testing.T) {
	tpl := template(t, nil)
	filtered := map[string]bool{}
	for _, f := range ofType(tpl, "AWS::Logs::MetricFilter") {
		for _, m := range properties(f)["MetricTransformations"].([]any) {
			name := m.(map[string]any)["MetricName"].(string)
			filtered[name] = true
			assert.Equal(t, metric.Namespace, m.(map[string]any)["MetricNamespace"])
			assert.Equal(t, "{ $."+name+" = * }", properties(f)["FilterPattern"])
		}
	}
	for id, a := range alarmsIn(tpl) {
		for _, m := range a["Metrics"].([]any) {
			stat := keysOf(m.(map[string]any)["MetricStat"])
			which := keysOf(stat["Metric"])
			if which["Namespace"] != metric.Namespace {
				continue
			}
			spec, ok := metric.Lookup(which["MetricName"].(string))
			require.True(t, ok, "%s: %v", id, which["MetricName"])
			dimensions, _ := which["Dimensions"].([]any)
			assert.True(t, len(dimensions) == len(spec.Dimensions) || len(dimensions) == 0 && filtered[spec.Name],
				"%s: nobody publishes %s with %d dimensions", id, spec.Name, len(dimensions))
		}
	}
	body := written(t, one(t, tpl, "AWS::CloudWatch::Dashboard", ""))
	for _, spec := range metric.Table() {
		if len(spec.Dimensions) > 0 {
			assert.Contains(t, body, fmt.Sprintf(`SEARCH('{AmiFactory,%s} MetricName=`, strings.Join(spec.Dimensions, ",")))
			assert.Contains(t, body, spec.Name)
		}
	}
}

func TestTheDashboardIsADocument(t *testing.T) {
	p := one(t, template(t, nil), "AWS::CloudWatch::Dashboard", "")
	parts := p["DashboardBody"].(map[string]any)["Fn::Join"].([]any)[1].([]any)
	var b strings.Builder
	for _, part := range parts {
		if s, ok := part.(string); ok {
			b.WriteString(s)
		} else {
			b.WriteString("x")
		}
	}
	var body struct {
		Widgets []struct{ X, Y, Width, Height int }
	}
	require.NoError(t, json.Unmarshal([]byte(b.String()), &body))
	assert.Len(t, body.Widgets, 9)
	for i, w := range body.Widgets {
		for _, v := range body.Widgets[:i] {
			apart := w.X >= v.X+v.Width || v.X >= w.X+w.Width || w.Y >= v.Y+v.Height || v.Y >= w.Y+w.Height
			assert.True(t, apart, "widgets lie on one another: %v %v", v, w)
		}
	}
}

func TestOnlyAlarmsOfTheAccountPublishToTheirTopic(t *testing.T) {
	policy := written(t, one(t, template(t, nil), "AWS::SNS::TopicPolicy", "AlarmTopic"))
	assert.Contains(t, policy, "cloudwatch.amazonaws.com")
	assert.Contains(t, policy, `"aws:SourceAccount":"111122223333"`)
	assert.Contains(t, policy, ":alarm:*")
}

func TestSubscribersAreToldByMailOrRequest(t *testing.T) {
	tpl := template(t, variants()["everything"])
	assert.Equal(t, "email", one(t, tpl, "AWS::SNS::Subscription", "AlarmSubscriber")["Protocol"])
	assert.Equal(t, "https", one(t, tpl, "AWS::SNS::Subscription", "ExecutionSubscriber")["Protocol"])
}

func TestEveryRoleIsAsTheContextWantsRoles(t *testing.T) {
	names := map[string]bool{}
	for id, r := range ofType(template(t, variants()["everything"]), "AWS::IAM::Role") {
		p := properties(r)
		assert.Equal(t, "arn:aws:iam::111122223333:policy/boundary", p["PermissionsBoundary"], id)
		assert.Equal(t, "/factory/", p["Path"], id)
		name, _ := p["RoleName"].(string)
		assert.True(t, strings.HasPrefix(name, "af-") && len(name) <= 64 && !names[name], "%s is named %s", id, name)
		names[name] = true
		assert.Contains(t, written(t, p["Tags"]), `{"Key":"team","Value":"images"}`, id)
	}
	for id, r := range ofType(template(t, nil), "AWS::IAM::Role") {
		for _, absent := range []string{"PermissionsBoundary", "Path", "RoleName", "Tags"} {
			assert.NotContains(t, properties(r), absent, id)
		}
	}
}

func TestWhatCanBeTaggedIsTagged(t *testing.T) {
	tpl := template(t, variants()["everything"])
	for _, kind := range []string{"AWS::S3::Bucket", "AWS::SNS::Topic", "AWS::SQS::Queue", "AWS::Lambda::Function", "AWS::StepFunctions::StateMachine", "AWS::Logs::LogGroup", "AWS::EC2::VPC", "AWS::KMS::Key"} {
		resources := ofType(tpl, kind)
		require.NotEmpty(t, resources, kind)
		for id, r := range resources {
			assert.Contains(t, written(t, properties(r)["Tags"]), `"cost-centre"`, id)
		}
	}
}

// TestTheDocumentOfScriptsIsStoredByteForByte proves that CloudFormation is given the
// document as a text, since it would write a mapping in bytes of its own, whose hash the
// functions do not know.
func TestTheDocumentOfScriptsIsStoredByteForByte(t *testing.T) {
	for name, props := range variants() {
		tpl := template(t, props)
		if len(ofType(tpl, "AWS::StepFunctions::StateMachine")) == 0 {
			continue // a stack without the factory
		}
		document := one(t, tpl, "AWS::SSM::Document", "ScriptDocument")
		assert.Equal(t, contract.ScriptDocumentContent, document["Content"], name)
		assert.Equal(t, contract.ScriptDocument, document["Name"], name)
		assert.Equal(t, "NewVersion", document["UpdateMethod"], "a document with a name is never replaced")
		assert.NotContains(t, written(t, tpl), "AWS-RunShellScript", name)
		for _, stage := range []workflow.Stage{workflow.CheckInstance, workflow.Seal, workflow.RunCompliance} {
			assert.Contains(t, written(t, statementsOf(t, tpl, stage, "ssm:SendCommand")), ":document/"+contract.ScriptDocument, name)
		}
	}
}
