package cli

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/execution"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/rehearsal"
	"github.com/ami-factory/ami-factory/pkg/rehearsal/guests"
)

// deployedFactory is served as "local up" serves it, and the environment points
// AWS clients at it.
func deployedFactory(t *testing.T) *rehearsal.Factory {
	t.Helper()
	opts := rehearsal.Options{
		Guests: vm.Simulated, StateDir: filepath.Join(t.TempDir(), "state"), Version: "test",
		Simulated: guests.Simulated{Boot: time.Second, Provision: time.Minute, Check: time.Second},
	}
	inProcess(t)(&opts)
	f, err := rehearsal.Open(t.Context(), opts)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, f.Close(t.Context())) })
	for _, v := range f.Cloud.Environment() {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	return f
}

// onAWS runs a command with the environment as it is.
func onAWS(t *testing.T, args ...string) result {
	t.Helper()
	var out, errOut buffer
	a := &app{in: strings.NewReader(""), out: &out, err: &errOut}
	return result{a.run(t.Context(), args), out.String(), errOut.String()}
}

func TestABuildOnADeployedFactory(t *testing.T) {
	f := deployedFactory(t)

	r := onAWS(t, "build", "debian-12-docker")
	require.Equal(t, exitOK, r.code, r.err)
	for _, row := range []string{
		`status +Published in `, `recipe +debian-12-docker\n`, `fingerprint +[0-9a-f]{64}\n`, `source +ami-`, `images +eu-central-1 ami-`,
		` +eu-west-1 ami-`, `report +s3://ami-factory-.*/report\.json\n`, `execution +arn:aws:states:eu-west-1:`,
	} {
		assert.Regexp(t, `(?m)^`+row, r.out)
	}
	assert.Contains(t, r.err, "AwaitProvisioned")
	assert.Regexp(t, `(?m)^ +\d+:\d\d  builder: hardening ok after \d+s\n +\d+:\d\d  builder: docker ok after \d+s$`, r.err, "the builder's steps are shown")

	assert.True(t, strings.HasPrefix(r.out, "SIMULATED: no guest was booted"), r.out)
	assert.Regexp(t, `(?m)^why +no image of the recipe is published\n`, r.out)
	assert.Regexp(t, `(?m)^guests +simulated\n`, r.out)

	r = onAWS(t, "build", "debian-12-docker", "--output", "json", "--state-machine", f.StateMachine, "--name", "mine")
	require.Equal(t, exitOK, r.code, r.err)
	var again execution.Result
	require.NoError(t, json.Unmarshal([]byte(r.out), &again))
	assert.Equal(t, "UpToDate", again.Status)
	assert.Equal(t, "simulated", again.Guests, "a program sees it too")
	assert.Equal(t, "mine", again.Execution)
	assert.Len(t, again.Images, 2)

	r = onAWS(t, "build", "debian-12-docker", "--name", "mine")
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.err, "an execution mine has ended", "it is not started twice")

	r = onAWS(t, "build", "debian-99")
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.out, "RecipeInvalid")
	assert.Contains(t, r.out, `unknown recipe "debian-99"`)

	r = onAWS(t, "build", "debian-12-docker", "--force", "-o", "json")
	require.Equal(t, exitOK, r.code, r.err)
	require.NoError(t, json.Unmarshal([]byte(r.out), &again))
	assert.Equal(t, "a bake was asked for", again.Why)

	r = onAWS(t, "build", "debian-12-docker", "--force", "--no-wait")
	require.Equal(t, exitOK, r.code, r.err)
	started, err := f.Cloud.States.DescribeExecution(t.Context(), &sfn.DescribeExecutionInput{ExecutionArn: aws.String(strings.TrimSpace(r.out))})
	require.NoError(t, err)
	assert.JSONEq(t, `{"recipe":"debian-12-docker","force":true}`, aws.ToString(started.Input))
}

func TestABuildThatCannotStart(t *testing.T) {
	deployedFactory(t)
	for sentence, tc := range map[string]struct {
		args []string
		code int
		says string
	}{
		"a name that no recipe can have":     {[]string{"Debian"}, exitUsage, `"Debian" is not the name of a recipe`},
		"a source that is no AMI":            {[]string{"debian-12-docker", "--source", "debian"}, exitUsage, `source "debian" is not an AMI id`},
		"a name that no execution can have":  {[]string{"debian-12-docker", "--name", "a b"}, exitUsage, `--name: "a b" is not the name of an execution`},
		"a region where no factory is":       {[]string{"debian-12-docker", "--region", "eu-central-1"}, exitFailed, "the state machine ami-factory does not exist in this account and region"},
		"a state machine that is not there":  {[]string{"debian-12-docker", "--state-machine", "arn:aws:states:eu-west-1:111122223333:stateMachine:x"}, exitFailed, "StateMachineDoesNotExist"},
		"a state machine that is not an ARN": {[]string{"debian-12-docker", "--state-machine", "x"}, exitUsage, "--state-machine is \"x\", which is not the ARN of a state machine"},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := onAWS(t, append([]string{"build"}, tc.args...)...)
			assert.Equal(t, tc.code, r.code, r.err)
			assert.Contains(t, r.err, tc.says)
			assert.Empty(t, r.out)
		})
	}
}

func TestAPausedRecipeIsResumed(t *testing.T) {
	f := deployedFactory(t)
	key := "triggers/recipes/debian-12-docker.json"
	_, err := f.Cloud.S3.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &f.Bucket, Key: &key, Body: strings.NewReader(`{"failures":3,"paused":true}`)})
	require.NoError(t, err)

	r := onAWS(t, "resume", "debian-12-docker", "--bucket", f.Bucket)
	require.Equal(t, exitOK, r.code, r.err)
	assert.Equal(t, "recipe debian-12-docker is resumed\n", r.out)
	r = onAWS(t, "resume", "debian-12-docker", "--bucket", f.Bucket, "-o", "json")
	require.Equal(t, exitOK, r.code, r.err)
	assert.JSONEq(t, `{"recipe":"debian-12-docker","wasPaused":false}`, r.out)

	r = onAWS(t, "resume", "debian-12-dockr", "--bucket", f.Bucket)
	assert.Equal(t, exitUsage, r.code)
	assert.Contains(t, r.err, `unknown recipe "debian-12-dockr"; did you mean "debian-12-docker"?`)
	theirs := "triggers/recipes/theirs.json"
	_, err = f.Cloud.S3.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &f.Bucket, Key: &theirs, Body: strings.NewReader(`{"failures":1}`)})
	require.NoError(t, err)
	r = onAWS(t, "resume", "theirs", "--bucket", f.Bucket)
	assert.Equal(t, exitOK, r.code, "the deployed factory has recipes that are not here: %s", r.err)

	t.Setenv("AMI_FACTORY_BUCKET", "")
	r = onAWS(t, "resume", "debian-12-docker")
	assert.Equal(t, exitUsage, r.code)
	assert.Contains(t, r.err, "give --bucket or set AMI_FACTORY_BUCKET")
}
