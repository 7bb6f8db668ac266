package cli

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/doctor"
)

func TestADoctorOfADeployedFactory(t *testing.T) {
	f := deployedFactory(t)
	r := onAWS(t, "doctor")
	for _, row := range []string{
		`CHECK +VERDICT +WHAT WAS LOOKED AT, AND WHAT IT MEANS\n`,
		`identity +ok +credentials: account 111122223333, as arn:aws:iam::111122223333:root, in eu-west-1\n`,
		`deployment +ok +arn:aws:states:eu-west-1:111122223333:stateMachine:ami-factory: its definition is that of this version\n`,
		`functions +warning +version of the functions: deployed is "test", this program is "dev".*\n +-> run the doctor of version test`,
		`(sources)? +ok +source of debian-12-docker: /aws/service/debian/release/12/latest/amd64: ami-[0-9a-f]+ .*, of the owner that the recipe wants\n`,
		`subnets +ok +subnet-[0-9a-f]+ in eu-west-1a: 4091 addresses are free; goes out by NAT gateway nat-[0-9a-f]+\n`,
		`keys +ok +alias/ami-factory in eu-west-1 .*names account 210987654321\n`,
		`bucket +ok +versions of ami-factory-111122223333-eu-west-1: kept\n`,
		`[0-9]+ ok, [0-9]+ warnings?, [0-9]+ problems?, [0-9]+ not checked\n`,
	} {
		assert.Regexp(t, `(?m)^`+row, r.out)
	}
	assert.NotContains(t, r.out, "checking", "progress is no data")
	assert.Contains(t, r.err, "checking keys\n")
	want := exitOK
	if strings.Contains(r.out, "  problem  ") {
		want = exitFailed
	}
	assert.Equal(t, want, r.code, "problems, and nothing else, make it fail")

	url := f.URL
	t.Setenv("AWS_ENDPOINT_URL", "")
	r = onAWS(t, "doctor", "--endpoint-url", url, "--recipe", "debian-12-full", "--output", "json")
	var out struct {
		Findings []doctor.Finding
		Verdict  doctor.Verdict
	}
	require.NoError(t, json.Unmarshal([]byte(r.out), &out), r.out)
	assert.Equal(t, doctor.Worst(out.Findings), out.Verdict)
	var secrets []string
	for _, f := range out.Findings {
		assert.NotContains(t, f.Looked, "debian-12-docker", "another recipe")
		if f.Check == "secrets" {
			secrets = append(secrets, f.Looked)
		}
	}
	assert.Contains(t, strings.Join(secrets, " "), "ami-factory/agents/newrelic (debian-12-full)", "that of the component's parameter")

	_, err := f.Cloud.States.DeleteStateMachine(t.Context(), &sfn.DeleteStateMachineInput{StateMachineArn: aws.String(f.StateMachine)})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		r = onAWS(t, "doctor", "--endpoint-url", url, "--recipe", "debian-12-docker")
		return strings.Contains(r.out, "not deployed yet")
	}, time.Minute, 100*time.Millisecond, "a machine is deleted when it no longer runs")
	assert.Equal(t, exitOK, r.code, r.out)
	assert.Regexp(t, `(?m)^bucket +not checked +not deployed yet`, r.out)
}

func TestADoctorThatIsCalledWrongly(t *testing.T) {
	deployedFactory(t)
	for sentence, tc := range map[string]struct {
		args []string
		code int
		says string
	}{
		"a recipe that is not there":  {[]string{"--recipe", "debian-99"}, exitUsage, `there is no recipe "debian-99" (there are: al2023-docker, debian-12-docker,`},
		"an endpoint that is none":    {[]string{"--endpoint-url", "localhost"}, exitUsage, `--endpoint-url "localhost" is not a URL`},
		"an argument":                 {[]string{"debian-12-docker"}, exitUsage, "takes no arguments"},
		"a folder without recipes":    {[]string{"--userdata", t.TempDir()}, exitUsage, "has no folder recipes"},
		"a machine that is not there": {[]string{"--state-machine", "arn:aws:states:eu-west-1:111122223333:stateMachine:x"}, exitFailed, ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := onAWS(t, append([]string{"doctor"}, tc.args...)...)
			assert.Equal(t, tc.code, r.code, r.err)
			assert.Contains(t, r.err, tc.says)
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.Equal(t, exitInterrupted, callIn(ctx, t, nil, "doctor", "--region", "eu-west-1").code)
}
