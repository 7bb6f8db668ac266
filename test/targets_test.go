package test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/blueprint"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/localcloud/fault"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/rehearsal"
	"github.com/ami-factory/ami-factory/userdata"
)

// target is the account that the recipe's images are shared with.
const target = "210987654321"

// targetFactory is simFactory with a recipe that keeps its pointer in the target
// account as well.
func targetFactory(t *testing.T, change func(*rehearsal.Options)) *rehearsal.Factory {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, userdata.FS))
	file := filepath.Join(dir, "recipes", recipeName+".yaml")
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	text := strings.Replace(string(raw), "  parameters: ["+pointer+"]\n", "  parameters: ["+pointer+"]\n  accounts: [\""+target+"\"]\n", 1)
	require.NotEqual(t, string(raw), text)
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return simFactory(t, func(o *rehearsal.Options) {
		o.UserDataDir = dir
		if change != nil {
			change(o)
		}
	})
}

// inTarget is a context of calls of the target account's own people.
func inTarget(region string) context.Context {
	return wire.WithCaller(context.Background(), wire.Caller{Account: target, Region: region})
}

func pointedInTarget(t *testing.T, f *rehearsal.Factory, region string) string {
	t.Helper()
	out, err := f.Cloud.SSM.GetParameter(inTarget(region), &ssm.GetParameterInput{Name: aws.String(pointer)})
	if awserr.IsNotFound(err) {
		return ""
	}
	require.NoError(t, err)
	return aws.ToString(out.Parameter.Value)
}

func TestTargetAccountsGetPointersOfTheirOwn(t *testing.T) {
	t.Parallel()
	f := targetFactory(t, nil)
	first := publish(t, f)
	for _, region := range []string{home, second} {
		assert.Equal(t, first.Images[region], pointed(t, f, region))
		assert.Equal(t, first.Images[region], pointedInTarget(t, f, region))
	}

	// One that cannot be moved there keeps all where they were.
	_, err := f.Cloud.Faults.Add(fault.Rule{Service: "ssm", Operation: "PutParameter", Account: target, Region: second, Code: "ParameterLimitExceeded", Status: 400, Times: 1})
	require.NoError(t, err)
	s := bake(t, f, contract.ExecutionInput{Force: true})
	require.Equal(t, contract.FailedClean, s.Status, s.Cause)
	assert.Equal(t, "PublishFailed", s.Error)
	assert.Contains(t, s.Cause, target+":"+second+":"+pointer)
	for _, region := range []string{home, second} {
		assert.Equal(t, first.Images[region], pointed(t, f, region))
		assert.Equal(t, first.Images[region], pointedInTarget(t, f, region))
	}
}

func TestATargetAccountThatDoesNotTrustTheFactoryEndsTheExecutionBeforeAnythingIsMade(t *testing.T) {
	t.Parallel()
	f := targetFactory(t, nil)
	reader := blueprint.TargetRoleARN("aws", target, blueprint.TargetReaderName)
	role, ok := f.Cloud.IAM.Role(reader)
	require.True(t, ok)
	role.Trust = []byte(strings.ReplaceAll(string(role.Trust), "ami-factory-rehearsal", "the-id-of-somebody-else"))
	require.NoError(t, f.Cloud.IAM.PutRole(role))
	before := take(t, f)
	s := bake(t, f, contract.ExecutionInput{})
	require.Equal(t, contract.FailedClean, s.Status, s.Cause)
	assert.Equal(t, "AccessDenied", s.Error)
	assert.Contains(t, s.Cause, "nothing was started: pointers cannot be kept in account "+target)
	assert.Contains(t, s.Cause, "sts:AssumeRole on resource: "+reader)
	assert.Equal(t, before, take(t, f))
}
