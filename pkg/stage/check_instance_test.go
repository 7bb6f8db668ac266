package stage

import (
	"cmp"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/failure"
)

const (
	initDone  = "{\n  \"boot_status_code\": \"enabled-by-generator\",\n  \"detail\": \"DataSourceEc2Local\",\n  \"errors\": [],\n  \"status\": \"done\"\n}\n"
	initError = `{"detail":"('scripts-user', RuntimeError)","errors":["scripts-user: 1 failed"],"status":"error"}` + "\n"
	provOK    = `{"status":"ok","components":[{"name":"hardening","status":"ok","seconds":3,"exit":0}]}` + "\n"
	system    = `{"systemState":"degraded","failedUnits":"b.service a.service ","finished":1772366460}` + "\n" // 12:01:00
)

func provFailed(log string) string {
	return `{"status":"failed","components":[{"name":"docker","status":"failed","seconds":3,"exit":100}],"failed":{"component":"docker","exit":100,"line":12,` +
		`"command":"apt-get install docker.io","logTail":"` + base64.StdEncoding.EncodeToString([]byte(log)) + `"}}` + "\n"
}

func instance(state types.InstanceStateName) types.Instance {
	return types.Instance{InstanceId: aws.String("i-1"), LaunchTime: aws.Time(start), State: &types.InstanceState{Name: state}}
}

type checkInstanceCase struct {
	role    string
	state   types.InstanceStateName
	reason  string
	now     time.Duration // after the launch; default: when a builder is asked
	offline bool
	answer  *ssm.GetCommandInvocationOutput
	upload  string // of the builder
	faults  func(*fakeEC2, *fakeSSM, *fakeS3)
}

func (c checkInstanceCase) run(t *testing.T) (CheckInstanceOutput, *fakeS3, *fakeSSM, error) {
	t.Helper()
	s, e, m := newS3(t), newEC2(home), newSSM()
	if c.state != "" {
		i := instance(c.state)
		if c.reason != "" {
			i.StateReason = &types.StateReason{Code: aws.String(c.reason), Message: aws.String("why")}
		}
		e.instances = []types.Instance{i}
	}
	e.console = "booting\r\nKernel panic - not syncing\r\n"
	m.offline, m.invocation = c.offline, c.answer
	role := c.role
	if role == "" {
		role = "builder"
	}
	in := InstanceInput{Job: job(t, s, "AwaitProvisioned", testPlan()), Role: role, InstanceID: "i-1"}
	in.Now = start.Add(cmp.Or(c.now, askAfter))
	if c.upload != "" {
		s.put("executions/run/provisioned.json", []byte(c.upload))
	}
	if c.faults != nil {
		c.faults(e, m, s)
	}
	check := CheckInstance{Store: s.store(), EC2: e, SSM: m}
	if c.answer != nil {
		// The first attempt asks the guest.
		first := in
		first.Now = start.Add(askAfter)
		_, err := check.Run(t.Context(), first)
		requireCode(t, failure.InstanceNotReady, err)
	}
	out, err := check.Run(t.Context(), in)
	return out, s, m, err
}

func TestProvisionedBuilder(t *testing.T) {
	out, s, m, err := checkInstanceCase{
		state: "running", now: 2 * time.Minute, answer: answered("Success", 0, initDone+provOK+system, ""),
	}.run(t)
	require.NoError(t, err)
	assert.Equal(t, "i-1", out.InstanceID)
	assert.InDelta(t, 60, out.BootSeconds, 0, "by the guest's clock")
	assert.Equal(t, []string{"a.service", "b.service"}, out.FailedUnits)
	require.NotNil(t, out.Console)
	assert.Equal(t, "executions/run/console-builder.log", out.Console.Key)
	assert.Contains(t, string(s.get(out.Console.Key)), "booting")
	require.Len(t, m.sent, 1)
	assert.Equal(t, "ami-factory:run:builder-boot", *m.sent[0].Comment)
	assert.Equal(t, []string{"2580"}, m.sent[0].Parameters["executionTimeout"], "43 of the 45 minutes are left")
}

func TestBootedVerifier(t *testing.T) {
	_, _, _, err := checkInstanceCase{role: "verifier", state: "running", answer: answered("Success", 0, initDone+system, "")}.run(t)
	require.NoError(t, err, "a verifier has no user data and so no result of components; failed units are for the checks")
}

func TestGuestClockOutOfRangeIsNotBelieved(t *testing.T) {
	out, _, _, err := checkInstanceCase{state: "running", answer: answered("Success", 0, initDone+provOK+`{"systemState":"running","failedUnits":"","finished":5}`, "")}.run(t)
	require.NoError(t, err)
	assert.InDelta(t, 120, out.BootSeconds, 0)
}

func TestCheckInstanceFails(t *testing.T) {
	late := 46 * time.Minute
	for name, c := range map[string]struct {
		checkInstanceCase
		want  failure.Code
		tells []string
		kept  bool // the console is
	}{
		"EC2 does not know the instance yet": {checkInstanceCase{}, failure.InstanceNotReady, nil, false},
		"it is pending":                      {checkInstanceCase{state: "pending"}, failure.InstanceNotReady, nil, false},
		"its agent does not answer yet":      {checkInstanceCase{state: "running", offline: true}, failure.InstanceNotReady, nil, false},
		"cloud-init is at work":              {checkInstanceCase{state: "running"}, failure.InstanceNotReady, nil, false},
		"its agent has just gone": {checkInstanceCase{state: "running", faults: func(_ *fakeEC2, m *fakeSSM, _ *fakeS3) {
			m.faults["SendCommand"] = []error{&ssmtypes.InvalidInstanceId{}}
		}}, failure.InstanceNotReady, nil, false},
		"it is pending for too long":             {checkInstanceCase{state: "pending", now: late}, failure.InstanceTimedOut, []string{"46m0s", "45m0s", "pending"}, true},
		"its agent never answers":                {checkInstanceCase{state: "running", offline: true, now: late}, failure.InstanceTimedOut, []string{"SSM agent", "Kernel panic"}, true},
		"cloud-init never ends":                  {checkInstanceCase{state: "running", answer: answered("InProgress", -1, "", ""), now: late}, failure.InstanceTimedOut, []string{"cloud-init is still"}, true},
		"the question itself times out":          {checkInstanceCase{state: "running", answer: answered("TimedOut", -1, "", "")}, failure.InstanceTimedOut, nil, true},
		"it never comes to be":                   {checkInstanceCase{now: late}, failure.InstanceTimedOut, nil, true},
		"it is terminated":                       {checkInstanceCase{state: "terminated", reason: "Server.InternalError"}, failure.InstanceFailed, []string{"terminated", "Server.InternalError why", "Kernel panic", "s3://factory/executions/run/console-builder.log"}, true},
		"it stopped":                             {checkInstanceCase{state: "stopped", reason: "Client.InstanceInitiatedShutdown"}, failure.InstanceFailed, []string{"stopped"}, true},
		"the question fails":                     {checkInstanceCase{state: "running", answer: answered("Failed", 127, "", "sh: not found")}, failure.InstanceFailed, []string{"sh: not found"}, true},
		"the answer is no JSON":                  {checkInstanceCase{state: "running", answer: answered("Success", 0, "hello", "")}, failure.InstanceFailed, []string{"not JSON"}, true},
		"the answer lacks cloud-init":            {checkInstanceCase{state: "running", answer: answered("Success", 0, system, "")}, failure.InstanceFailed, []string{"lacks cloud-init"}, true},
		"a component fails":                      {checkInstanceCase{state: "running", answer: answered("Success", 0, initError+provFailed("Err:1 http\nE: Unable to locate package\n")+system, "")}, failure.ProvisioningFailed, []string{"component docker", "exit code 100", "line 12", "apt-get install docker.io", "E: Unable to locate package", "console: s3://"}, true},
		"the runner never wrote a result":        {checkInstanceCase{state: "running", answer: answered("Success", 0, initDone+system, "")}, failure.ProvisioningFailed, []string{"bundle was probably not fetched"}, true},
		"cloud-init fails before the components": {checkInstanceCase{state: "running", answer: answered("Success", 0, initError+system, "")}, failure.ProvisioningFailed, []string{"status error", "scripts-user: 1 failed"}, true},
		"cloud-init fails after the components":  {checkInstanceCase{state: "running", answer: answered("Success", 0, initError+provOK+system, "")}, failure.ProvisioningFailed, []string{"status error"}, true},
		"a verifier's cloud-init fails":          {checkInstanceCase{role: "verifier", state: "running", answer: answered("Success", 0, initError+system, "")}, failure.InstanceFailed, []string{"the verifier", "status error"}, true},
		"EC2 throttles": {checkInstanceCase{faults: func(e *fakeEC2, _ *fakeSSM, _ *fakeS3) {
			e.faults["DescribeInstances"] = []error{awsErr("RequestLimitExceeded")}
		}}, failure.Throttled, nil, false},
		"SSM denies": {checkInstanceCase{state: "running", faults: func(_ *fakeEC2, m *fakeSSM, _ *fakeS3) {
			m.faults["ListCommands"] = []error{awsErr("AccessDeniedException")}
		}}, failure.AccessDenied, nil, false},
		"a lost console does not hide the cause": {checkInstanceCase{state: "terminated", faults: func(e *fakeEC2, _ *fakeSSM, _ *fakeS3) {
			e.faults["GetConsoleOutput"] = []error{awsErr("InternalError")}
		}}, failure.InstanceFailed, []string{"could not be kept"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			_, s, _, err := c.run(t)
			requireCode(t, c.want, err)
			for _, text := range c.tells {
				assert.Contains(t, err.Error(), text)
			}
			kept := s.get("executions/run/console-builder.log") != nil
			keptVerifier := s.get("executions/run/console-verifier.log") != nil
			assert.Equal(t, c.kept, kept || keptVerifier)
		})
	}
}

// verdict is what report.sh uploads.
func verdict(cloudInit, provision string) string {
	return `{"schema":1,"cloudInit":` + cloudInit + `,"provision":` + provision + `,"system":` + system + `}`
}

func TestAnUploadedVerdictIsEnough(t *testing.T) {
	out, s, m, err := checkInstanceCase{state: "running", now: 90 * time.Second, upload: verdict(initDone, provOK)}.run(t)
	require.NoError(t, err)
	assert.InDelta(t, 60, out.BootSeconds, 0)
	assert.Equal(t, []string{"a.service", "b.service"}, out.FailedUnits)
	assert.Contains(t, string(s.get(out.Console.Key)), "booting")
	assert.Empty(t, m.sent, "nobody asks")
}

func TestABuilderThatHasNotReportedIsAskedLater(t *testing.T) {
	for name, c := range map[string]checkInstanceCase{
		"soon after its launch":               {state: "running", now: askAfter - time.Second},
		"its agent is slower than its upload": {state: "running", now: time.Minute, offline: true, upload: verdict(initDone, provOK)},
		"and that goes on after it is asked":  {state: "running", offline: true, upload: verdict(initDone, provOK)},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, m, err := c.run(t)
			requireCode(t, failure.InstanceNotReady, err)
			assert.Empty(t, m.sent)
		})
	}
	_, _, _, err := checkInstanceCase{state: "running", now: 46 * time.Minute, offline: true, upload: verdict(initDone, provOK)}.run(t)
	requireCode(t, failure.InstanceTimedOut, err)
	assert.Contains(t, err.Error(), "it is provisioned, but its SSM agent does not answer yet")
	_, _, m, err := checkInstanceCase{role: "verifier", state: "running", now: time.Second}.run(t)
	requireCode(t, failure.InstanceNotReady, err)
	assert.Len(t, m.sent, 1, "a verifier uploads nothing, and is asked at once")
}

func TestAnUploadedVerdictFailsAsTheAnswerOverSSM(t *testing.T) {
	failed := provFailed("Err:1 http\nE: Unable to \x1b[31mlocate package\n")
	for name, c := range map[string]struct{ cloudInit, provision string }{
		"a component fails":                      {initError, failed},
		"a component fails, before cloud-init":   {"null", failed},
		"the runner never wrote a result":        {initDone, "null"},
		"cloud-init fails before the components": {initError, "null"},
		"cloud-init fails after the components":  {initError, provOK},
	} {
		t.Run(name, func(t *testing.T) {
			_, s, m, err := checkInstanceCase{state: "running", offline: true, upload: verdict(c.cloudInit, c.provision)}.run(t)
			requireCode(t, failure.ProvisioningFailed, err)
			assert.Empty(t, m.sent)
			assert.NotNil(t, s.get("executions/run/console-builder.log"))
			if c.cloudInit == "null" {
				c.cloudInit = initError
			}
			if c.provision == "null" {
				c.provision = ""
			}
			_, _, _, asked := checkInstanceCase{state: "running", answer: answered("Success", 0, c.cloudInit+c.provision+system, "")}.run(t)
			assert.Equal(t, asked.Error(), err.Error(), "it says the same")
			assert.NotContains(t, err.Error(), "\x1b")
		})
	}
}

// A builder that cannot install its SSM agent powers itself off.
func TestABuilderThatHasGoneHasSaidWhy(t *testing.T) {
	for _, state := range []types.InstanceStateName{"shutting-down", "stopping", "stopped", "terminated"} {
		_, _, _, err := checkInstanceCase{state: state, offline: true, upload: verdict("null", provFailed("no such host\n"))}.run(t)
		requireCode(t, failure.ProvisioningFailed, err)
		assert.Contains(t, err.Error(), "component docker failed with exit code 100")
		assert.Contains(t, err.Error(), "no such host")
		_, _, _, err = checkInstanceCase{state: state, reason: "Client.InstanceInitiatedShutdown", upload: verdict(initDone, provOK)}.run(t)
		requireCode(t, failure.InstanceFailed, err)
		assert.Contains(t, err.Error(), string(state)+" before its first boot was over")
	}
}

func TestAnUploadThatIsNoVerdictIsAskedAboutOverSSM(t *testing.T) {
	for name, upload := range map[string]string{
		"no JSON":                 "it went well",
		"another schema":          strings.Replace(verdict(initDone, provOK), `"schema":1`, `"schema":2`, 1),
		"no schema":               `{"cloudInit":` + initDone + `,"provision":` + provOK + `}`,
		"cloud-init is not known": verdict("null", provOK),
		"other types":             verdict(initDone, `{"status":1}`),
		"something follows":       verdict(initDone, provOK) + verdict(initDone, provOK),
		"too large":               verdict(initDone, provOK) + strings.Repeat(" ", maxVerdict),
	} {
		t.Run(name, func(t *testing.T) {
			_, _, m, err := checkInstanceCase{state: "running", now: time.Second, upload: upload}.run(t)
			requireCode(t, failure.InstanceNotReady, err)
			assert.Len(t, m.sent, 1)
		})
	}
	t.Run("a verifier uploads none", func(t *testing.T) {
		_, _, m, err := checkInstanceCase{role: "verifier", state: "running", upload: verdict(initDone, provOK)}.run(t)
		requireCode(t, failure.InstanceNotReady, err)
		assert.Len(t, m.sent, 1)
	})
	t.Run("one that cannot be read is not overlooked", func(t *testing.T) {
		_, _, m, err := checkInstanceCase{state: "running", faults: func(_ *fakeEC2, _ *fakeSSM, s *fakeS3) {
			s.faults["GetObject"] = []error{nil, awsErr("AccessDenied")}
		}}.run(t)
		requireCode(t, failure.AccessDenied, err)
		assert.Empty(t, m.sent)
	})
}

func TestConsoleOfAnOldInstanceType(t *testing.T) {
	e := newEC2(home)
	e.console = "x"
	e.faults["GetConsoleOutput latest"] = []error{awsErr("UnsupportedOperation")}
	got, err := readConsole(t.Context(), e, "i-1")
	require.NoError(t, err)
	assert.Equal(t, "x", string(got))
}

func TestTailStartsWithAWholeLine(t *testing.T) {
	long := make([]byte, 0, 4000)
	for range 400 {
		long = append(long, "123456789\n"...)
	}
	got := tail(long)
	assert.LessOrEqual(t, len(got), consoleTail)
	assert.Equal(t, "123456789\n", got[:10])
	assert.Equal(t, "short", tail([]byte("short\r\n")))
}
