package blueprint

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/workflow"
)

var site = Site{
	Partition: "aws", Account: "111122223333", Region: "eu-west-1", URLSuffix: "amazonaws.com", Bucket: "arn:aws:s3:::b", CheckEngines: []string{"arn:aws:s3:::assets/goss"},
	BuilderRole: "arn:aws:iam::111122223333:role/builder", Topic: "arn:aws:sns:eu-west-1:111122223333:t",
	TargetAccounts: []string{"210987654321"}, InspectorScan: true, SecurityHub: true,
}

func TestAPolicyAllowsExactlyItsFunctionsActions(t *testing.T) {
	for _, fn := range Functions() {
		t.Run(fn.Name, func(t *testing.T) {
			var want, got []string
			for _, a := range fn.Actions {
				want = append(want, a.Name)
			}
			for _, s := range fn.Policy(site) {
				assert.NotEmpty(t, s.Resources)
				got = append(got, s.Actions...)
			}
			slices.Sort(want)
			slices.Sort(got)
			assert.Equal(t, slices.Compact(want), slices.Compact(got))
		})
	}
}

func TestFindingsAreSentOnlyWhereTheDeploymentWantsIt(t *testing.T) {
	fn, ok := Lookup(string(workflow.Notify))
	require.True(t, ok)
	has := func(s Site, part string) bool {
		raw, err := json.Marshal(fn.Policy(s))
		require.NoError(t, err)
		return strings.Contains(string(raw), part)
	}
	without := site
	without.SecurityHub = false
	for _, part := range []string{"securityhub:BatchImportFindings", "arn:aws:securityhub:eu-west-1:111122223333:product/111122223333/default", "arn:aws:s3:::b/securityhub/*.json"} {
		assert.True(t, has(site, part), part)
		assert.False(t, has(without, part), part)
	}
	assert.Equal(t, "true", fn.Environment(Settings{SecurityHub: true})["AMI_FACTORY_SECURITY_HUB"])
	assert.NotContains(t, fn.Environment(Settings{}), "AMI_FACTORY_SECURITY_HUB")
}

func TestAmazonInspectorIsAskedOnlyIfDeployed(t *testing.T) {
	fn, ok := Lookup(string(workflow.CheckCompliance))
	require.True(t, ok)
	scans := func(s Site) bool {
		return slices.ContainsFunc(fn.Policy(s), func(s Statement) bool {
			return slices.Equal(s.Actions, []string{"inspector-scan:ScanSbom"}) && slices.Equal(s.Resources, []string{"*"})
		})
	}
	without := site
	without.InspectorScan = false
	assert.True(t, scans(site))
	assert.False(t, scans(without))
	for _, f := range Functions() {
		needs := slices.Contains([]string{string(workflow.Resolve), string(workflow.CheckCompliance)}, f.Name)
		assert.Equal(t, needs, f.Environment(Settings{InspectorScan: true})["AMI_FACTORY_INSPECTOR_SCAN"] == "true", f.Name)
		assert.NotContains(t, f.Environment(Settings{}), "AMI_FACTORY_INSPECTOR_SCAN")
	}
}

func TestKeysAreThoseOfTheDeployment(t *testing.T) {
	keys := func(d Site) []string {
		fn, ok := Lookup(string(workflow.Distribute))
		require.True(t, ok)
		for _, s := range fn.Policy(d) {
			if slices.Contains(s.Actions, "kms:CreateGrant") {
				return s.Resources
			}
		}
		return nil
	}
	assert.Equal(t, []string{"arn:aws:kms:*:111122223333:key/*"}, keys(site))
	named := site
	named.Keys = []string{"arn:aws:kms:eu-west-1:111122223333:key/a"}
	assert.Equal(t, named.Keys, keys(named))
}

func TestOnlyTheRolesOfAccountsThatAreNamedMayBeAssumed(t *testing.T) {
	want := map[string][]string{TargetReaderName: {"resolve", "retire"}, TargetWriterName: {"publish", "cleanup"}}
	for _, role := range TargetRoles() {
		assert.Equal(t, want[role.Name], role.Callers, "those that move pointers at home move them elsewhere, and those that read them read")
		for _, s := range role.Callers {
			fn, ok := Lookup(s)
			require.True(t, ok)
			assert.Contains(t, fn.Policy(site), Statement{Actions: []string{"sts:AssumeRole"}, Resources: []string{"arn:aws:iam::210987654321:role/" + role.Name}})
			none := site
			none.TargetAccounts = nil
			for _, statement := range fn.Policy(none) {
				assert.NotContains(t, statement.Actions, "sts:AssumeRole")
			}
		}
	}
}

func TestAPolicyIsWrittenAsIAMTakesIt(t *testing.T) {
	raw, err := json.Marshal(Policy{{Actions: []string{"iam:PassRole"}, Resources: []string{"*"}, Conditions: tagged("aws:RequestTag")}, {Actions: []string{"a:B"}, Resources: []string{"*"}}})
	require.NoError(t, err)
	assert.JSONEq(t, `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":["iam:PassRole"],"Resource":["*"],"Condition":{"StringLike":{"aws:RequestTag/ami-factory:execution":"*"}}},
		{"Effect":"Allow","Action":["a:B"],"Resource":["*"]}]}`, string(raw))
}

func TestABuilderIsReachedBySSMAndReadsNothing(t *testing.T) {
	raw, err := json.Marshal(BuilderRole().Policy)
	require.NoError(t, err)
	assert.JSONEq(t, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow",
		"Action":["ssm:UpdateInstanceInformation","ssmmessages:CreateControlChannel","ssmmessages:OpenControlChannel"],"Resource":["*"]}]}`, string(raw))
}

func TestPoliciesAndTheMachineAreOfTheirPartition(t *testing.T) {
	china := site
	china.Partition, china.Region, china.URLSuffix = "aws-cn", "cn-north-1", "amazonaws.com.cn"
	text := func(d Site, stage workflow.Stage) string {
		fn, ok := Lookup(string(stage))
		require.True(t, ok)
		raw, err := json.Marshal(fn.Policy(d))
		require.NoError(t, err)
		return string(raw)
	}
	assert.Contains(t, text(site, workflow.Distribute), `"kms:ViaService":"ec2.*.amazonaws.com"`)
	assert.Contains(t, text(china, workflow.Distribute), `"kms:ViaService":"ec2.*.amazonaws.com.cn"`)
	assert.Contains(t, text(site, workflow.Launch), `"iam:PassedToService":"ec2.amazonaws.com"`)
	assert.Contains(t, text(china, workflow.Launch), `"iam:PassedToService":["ec2.amazonaws.com","ec2.amazonaws.com.cn"]`)
	for _, fn := range Functions() {
		for _, s := range fn.Policy(china) {
			for _, arn := range s.Resources {
				if strings.HasPrefix(arn, "arn:aws:") && !strings.HasPrefix(arn, china.Bucket+"/") {
					assert.Contains(t, []string{china.Bucket, china.CheckEngines[0], china.BuilderRole, china.Topic}, arn, "%s: only what the deployment named", fn.Name)
				}
			}
		}
	}
	definition := workflow.InPartition(workflow.Definition().JSON(), "aws-cn")
	assert.NotContains(t, definition, "arn:aws:")
	assert.Contains(t, definition, `"arn:aws-cn:states:::lambda:invoke"`)
}
