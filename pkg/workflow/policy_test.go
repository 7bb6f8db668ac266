package workflow

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var deployment = Deployment{
	Partition: "aws", Account: "111122223333", Region: "eu-west-1", URLSuffix: "amazonaws.com", Bucket: "arn:aws:s3:::b", CheckEngines: []string{"arn:aws:s3:::assets/goss"},
	BuilderRole: "arn:aws:iam::111122223333:role/builder", Topic: "arn:aws:sns:eu-west-1:111122223333:t",
	TargetAccounts: []string{"210987654321"},
}

func TestAPolicyAllowsExactlyItsStagesActions(t *testing.T) {
	for _, spec := range Stages() {
		t.Run(string(spec.Stage), func(t *testing.T) {
			var want, got []string
			for _, a := range spec.Actions {
				want = append(want, a.Name)
			}
			for _, s := range spec.Policy(deployment) {
				assert.NotEmpty(t, s.Resources)
				got = append(got, s.Actions...)
			}
			slices.Sort(want)
			slices.Sort(got)
			assert.Equal(t, slices.Compact(want), slices.Compact(got))
		})
	}
}

func TestKeysAreThoseOfTheDeployment(t *testing.T) {
	keys := func(d Deployment) []string {
		spec, ok := Lookup(Distribute)
		require.True(t, ok)
		for _, s := range spec.Policy(d) {
			if slices.Contains(s.Actions, "kms:CreateGrant") {
				return s.Resources
			}
		}
		return nil
	}
	assert.Equal(t, []string{"arn:aws:kms:*:111122223333:key/*"}, keys(deployment))
	named := deployment
	named.Keys = []string{"arn:aws:kms:eu-west-1:111122223333:key/a"}
	assert.Equal(t, named.Keys, keys(named))
}

func TestOnlyTheRolesOfAccountsThatAreNamedMayBeAssumed(t *testing.T) {
	want := map[string][]Stage{TargetReaderName: {Resolve, Retire}, TargetWriterName: {Publish, Cleanup}}
	for _, role := range TargetRoles() {
		assert.Equal(t, want[role.Name], role.Callers, "those that move pointers at home move them elsewhere, and those that read them read")
		for _, s := range role.Callers {
			spec, ok := Lookup(s)
			require.True(t, ok)
			assert.Contains(t, spec.Policy(deployment), Statement{Actions: []string{"sts:AssumeRole"}, Resources: []string{"arn:aws:iam::210987654321:role/" + role.Name}})
			none := deployment
			none.TargetAccounts = nil
			for _, statement := range spec.Policy(none) {
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
	raw, err := json.Marshal(BuilderPolicy())
	require.NoError(t, err)
	assert.JSONEq(t, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow",
		"Action":["ssm:UpdateInstanceInformation","ssmmessages:CreateControlChannel","ssmmessages:OpenControlChannel"],"Resource":["*"]}]}`, string(raw))
}

func TestPoliciesAndTheMachineAreOfTheirPartition(t *testing.T) {
	china := deployment
	china.Partition, china.Region, china.URLSuffix = "aws-cn", "cn-north-1", "amazonaws.com.cn"
	text := func(d Deployment, stage Stage) string {
		spec, ok := Lookup(stage)
		require.True(t, ok)
		raw, err := json.Marshal(spec.Policy(d))
		require.NoError(t, err)
		return string(raw)
	}
	assert.Contains(t, text(deployment, Distribute), `"kms:ViaService":"ec2.*.amazonaws.com"`)
	assert.Contains(t, text(china, Distribute), `"kms:ViaService":"ec2.*.amazonaws.com.cn"`)
	assert.Contains(t, text(deployment, Launch), `"iam:PassedToService":"ec2.amazonaws.com"`)
	assert.Contains(t, text(china, Launch), `"iam:PassedToService":["ec2.amazonaws.com","ec2.amazonaws.com.cn"]`)
	for _, spec := range Functions() {
		for _, s := range spec.Policy(china) {
			for _, arn := range s.Resources {
				if strings.HasPrefix(arn, "arn:aws:") && !strings.HasPrefix(arn, china.Bucket+"/") {
					assert.Contains(t, []string{china.Bucket, china.CheckEngines[0], china.BuilderRole, china.Topic}, arn, "%s: only what the deployment named", spec.Stage)
				}
			}
		}
	}
	definition := InPartition(Definition().JSON(), "aws-cn")
	assert.NotContains(t, definition, "arn:aws:")
	assert.Contains(t, definition, `"arn:aws-cn:states:::lambda:invoke"`)
}
