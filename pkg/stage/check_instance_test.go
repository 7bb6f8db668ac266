package stage

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/localcloud/fault"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/simulated"
	"github.com/ami-factory/ami-factory/pkg/store"
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

// answer is what a guest answers to the question how its first boot ended.
func answer(exit int, stdout, stderr string) *vm.Result {
	return &vm.Result{ExitCode: exit, Stdout: []byte(stdout), Stderr: []byte(stderr)}
}

type checkInstanceCase struct {
	role    string
	state   types.InstanceStateName // "" for an instance that EC2 does not know
	reason  string                  // of the state
	now     time.Duration           // after the launch; default: when a builder is asked
	offline bool                    // its agent never answers
	answer  *vm.Result              // nil: it is not asked before
	busy    bool                    // it is asked before, and its cloud-init does not end
	upload  string                  // of the builder
	faults  func(*cloud)
}

// checkInstanceResult is what the stage leaves behind.
type checkInstanceResult struct {
	*cloud
	id  string
	out CheckInstanceOutput
	err error
}

// sent are the commands to the instance.
func (r checkInstanceResult) sent() []ssmtypes.Command {
	r.t.Helper()
	out, err := r.ssm(home).ListCommands(r.t.Context(), &ssm.ListCommandsInput{InstanceId: &r.id})
	require.NoError(r.t, err)
	return out.Commands
}

// kept is the content of an object; nil if there is none.
func (r checkInstanceResult) kept(key string) []byte {
	r.t.Helper()
	body, err := r.store().Read(context.Background(), key)
	if errors.Is(err, store.ErrNone) {
		return nil
	}
	require.NoError(r.t, err)
	return body
}

// into brings a new builder into a state, and returns its id.
func (c *cloud) into(state types.InstanceStateName) string {
	c.t.Helper()
	if state == "" {
		return "i-0123456789abcdef0"
	}
	id := c.launch(true)
	c.pass(3 * time.Second) // EC2 shows it
	if state == types.InstanceStateNamePending {
		return id
	}
	c.pass(time.Minute)
	switch state {
	case types.InstanceStateNameStopping:
		c.stop(id)
		c.pass(3 * time.Second)
	case types.InstanceStateNameStopped:
		c.stop(id)
		c.pass(5 * time.Minute)
	case types.InstanceStateNameShuttingDown:
		_, err := c.ec2(home).TerminateInstances(c.t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{id}})
		require.NoError(c.t, err)
		c.pass(3 * time.Second)
	case types.InstanceStateNameTerminated:
		c.terminate(id)
	}
	require.Equal(c.t, state, stateOf(c.instance(id)))
	return id
}

func (c checkInstanceCase) run(t *testing.T) checkInstanceResult {
	t.Helper()
	w := newCloud(t)
	w.console, w.reason, w.faults = "booting\r\nKernel panic - not syncing\r\n", c.reason, simulated.Faults{NeverBoots: c.offline}
	w.guest = func(ctx context.Context, _ vm.Command) vm.Result {
		if c.answer == nil {
			_ = w.clock.Wait(ctx, make(chan struct{}), 0)
			return vm.Result{}
		}
		return *c.answer
	}
	r := checkInstanceResult{cloud: w, id: w.into(c.state)}
	in := InstanceInput{Job: job(t, w, "AwaitProvisioned", testPlan()), Role: cmp.Or(c.role, "builder"), InstanceID: r.id}
	in.Now = start.Add(cmp.Or(c.now, askAfter))
	if c.upload != "" {
		_, err := w.store().Put(t.Context(), "executions/run/provisioned.json", "application/json", []byte(c.upload))
		require.NoError(t, err)
	}
	if c.faults != nil {
		c.faults(w)
	}
	check := CheckInstance{Store: w.store(), EC2: odd{Client: w.ec2(home), reason: w.reason}, SSM: w.ssm(home)}
	if c.answer != nil || c.busy {
		// The first attempt asks the guest.
		first := in
		first.Now = start.Add(askAfter)
		_, err := check.Run(t.Context(), first)
		requireCode(t, failure.InstanceNotReady, err)
		w.pass(10 * time.Second)
	}
	r.out, r.err = check.Run(t.Context(), in)
	return r
}

func TestProvisionedBuilder(t *testing.T) {
	r := checkInstanceCase{state: "running", now: 2 * time.Minute, answer: answer(0, initDone+provOK+system, "")}.run(t)
	require.NoError(t, r.err)
	out := r.out
	assert.Equal(t, r.id, out.InstanceID)
	assert.InDelta(t, 60, out.BootSeconds, 0, "by the guest's clock")
	assert.Equal(t, []string{"a.service", "b.service"}, out.FailedUnits)
	require.NotNil(t, out.Console)
	assert.Equal(t, "executions/run/console-builder.log", out.Console.Key)
	assert.Contains(t, string(r.kept(out.Console.Key)), "booting")
	sent := r.sent()
	require.Len(t, sent, 1)
	assert.Equal(t, "ami-factory:run:builder-boot", *sent[0].Comment)
	assert.Equal(t, []string{"2580"}, sent[0].Parameters["executionTimeout"], "43 of the 45 minutes are left")
}

func TestBootedVerifier(t *testing.T) {
	r := checkInstanceCase{role: "verifier", state: "running", answer: answer(0, initDone+system, "")}.run(t)
	require.NoError(t, r.err, "a verifier has no user data and so no result of components; failed units are for the checks")
}

func TestGuestClockOutOfRangeIsNotBelieved(t *testing.T) {
	r := checkInstanceCase{state: "running", answer: answer(0, initDone+provOK+`{"systemState":"running","failedUnits":"","finished":5}`, "")}.run(t)
	require.NoError(t, r.err)
	assert.InDelta(t, 120, r.out.BootSeconds, 0)
}

func TestCheckInstanceFails(t *testing.T) {
	late := 46 * time.Minute
	for name, c := range map[string]struct {
		checkInstanceCase
		want  failure.Code
		tells []string
		kept  bool // the console is
	}{
		"EC2 does not know the instance yet":     {checkInstanceCase{}, failure.InstanceNotReady, nil, false},
		"it is pending":                          {checkInstanceCase{state: "pending"}, failure.InstanceNotReady, nil, false},
		"its agent does not answer yet":          {checkInstanceCase{state: "running", offline: true}, failure.InstanceNotReady, nil, false},
		"cloud-init is at work":                  {checkInstanceCase{state: "running"}, failure.InstanceNotReady, nil, false},
		"its agent has just gone":                {checkInstanceCase{state: "running", faults: func(c *cloud) { c.fail("ssm", "SendCommand", "InvalidInstanceId") }}, failure.InstanceNotReady, nil, false},
		"it is pending for too long":             {checkInstanceCase{state: "pending", now: late}, failure.InstanceTimedOut, []string{"46m0s", "45m0s", "pending"}, false},
		"its agent never answers":                {checkInstanceCase{state: "running", offline: true, now: late}, failure.InstanceTimedOut, []string{"SSM agent", "Kernel panic"}, true},
		"cloud-init never ends":                  {checkInstanceCase{state: "running", busy: true, now: late}, failure.InstanceTimedOut, []string{"cloud-init is still"}, true},
		"the question itself times out":          {checkInstanceCase{state: "running", answer: &vm.Result{TimedOut: true}}, failure.InstanceTimedOut, nil, true},
		"it never comes to be":                   {checkInstanceCase{now: late}, failure.InstanceTimedOut, nil, false},
		"it is terminated":                       {checkInstanceCase{state: "terminated", reason: "Server.InternalError"}, failure.InstanceFailed, []string{"terminated", "Server.InternalError why", "Kernel panic", "s3://factory/executions/run/console-builder.log"}, true},
		"it stopped":                             {checkInstanceCase{state: "stopped", reason: "Client.InstanceInitiatedShutdown"}, failure.InstanceFailed, []string{"stopped"}, true},
		"the question fails":                     {checkInstanceCase{state: "running", answer: answer(127, "", "sh: not found")}, failure.InstanceFailed, []string{"sh: not found"}, true},
		"the answer is no JSON":                  {checkInstanceCase{state: "running", answer: answer(0, "hello", "")}, failure.InstanceFailed, []string{"not JSON"}, true},
		"the answer lacks cloud-init":            {checkInstanceCase{state: "running", answer: answer(0, system, "")}, failure.InstanceFailed, []string{"lacks cloud-init"}, true},
		"a component fails":                      {checkInstanceCase{state: "running", answer: answer(0, initError+provFailed("Err:1 http\nE: Unable to locate package\n")+system, "")}, failure.ProvisioningFailed, []string{"component docker", "exit code 100", "line 12", "apt-get install docker.io", "E: Unable to locate package", "console: s3://"}, true},
		"the runner never wrote a result":        {checkInstanceCase{state: "running", answer: answer(0, initDone+system, "")}, failure.ProvisioningFailed, []string{"bundle was probably not fetched"}, true},
		"cloud-init fails before the components": {checkInstanceCase{state: "running", answer: answer(0, initError+system, "")}, failure.ProvisioningFailed, []string{"status error", "scripts-user: 1 failed"}, true},
		"cloud-init fails after the components":  {checkInstanceCase{state: "running", answer: answer(0, initError+provOK+system, "")}, failure.ProvisioningFailed, []string{"status error"}, true},
		"a verifier's cloud-init fails":          {checkInstanceCase{role: "verifier", state: "running", answer: answer(0, initError+system, "")}, failure.InstanceFailed, []string{"the verifier", "status error"}, true},
		"EC2 throttles":                          {checkInstanceCase{faults: func(c *cloud) { c.fail("ec2", "DescribeInstances", "RequestLimitExceeded") }}, failure.Throttled, nil, false},
		"SSM denies":                             {checkInstanceCase{state: "running", faults: func(c *cloud) { c.fail("ssm", "ListCommands", "AccessDeniedException") }}, failure.AccessDenied, nil, false},
		"a lost console does not hide the cause": {checkInstanceCase{state: "terminated", faults: func(c *cloud) { c.fail("ec2", "GetConsoleOutput", "InternalError") }}, failure.InstanceFailed, []string{"could not be kept"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := c.run(t)
			requireCode(t, c.want, r.err)
			for _, text := range c.tells {
				assert.Contains(t, r.err.Error(), text)
			}
			kept := r.kept("executions/run/console-builder.log") != nil
			keptVerifier := r.kept("executions/run/console-verifier.log") != nil
			assert.Equal(t, c.kept, kept || keptVerifier)
		})
	}
}

// verdict is what report.sh uploads.
func verdict(cloudInit, provision string) string {
	return `{"schema":1,"cloudInit":` + cloudInit + `,"provision":` + provision + `,"system":` + system + `}`
}

func TestAnUploadedVerdictIsEnough(t *testing.T) {
	r := checkInstanceCase{state: "running", now: 90 * time.Second, upload: verdict(initDone, provOK)}.run(t)
	require.NoError(t, r.err)
	out := r.out
	assert.InDelta(t, 60, out.BootSeconds, 0)
	assert.Equal(t, []string{"a.service", "b.service"}, out.FailedUnits)
	assert.Contains(t, string(r.kept(out.Console.Key)), "booting")
	assert.Empty(t, r.sent(), "the builder is not asked")
}

func TestABuilderThatHasNotReportedIsAskedLater(t *testing.T) {
	for name, c := range map[string]checkInstanceCase{
		"soon after its launch":               {state: "running", now: askAfter - time.Second},
		"its agent is slower than its upload": {state: "running", now: time.Minute, offline: true, upload: verdict(initDone, provOK)},
		"and that goes on after it is asked":  {state: "running", offline: true, upload: verdict(initDone, provOK)},
	} {
		t.Run(name, func(t *testing.T) {
			r := c.run(t)
			requireCode(t, failure.InstanceNotReady, r.err)
			assert.Empty(t, r.sent())
		})
	}
	r := checkInstanceCase{state: "running", now: 46 * time.Minute, offline: true, upload: verdict(initDone, provOK)}.run(t)
	requireCode(t, failure.InstanceTimedOut, r.err)
	assert.Contains(t, r.err.Error(), "it is provisioned, but its SSM agent does not answer yet")
	r = checkInstanceCase{role: "verifier", state: "running", now: time.Second}.run(t)
	requireCode(t, failure.InstanceNotReady, r.err)
	assert.Len(t, r.sent(), 1, "a verifier uploads nothing, and is asked at once")
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
			r := checkInstanceCase{state: "running", offline: true, upload: verdict(c.cloudInit, c.provision)}.run(t)
			requireCode(t, failure.ProvisioningFailed, r.err)
			assert.Empty(t, r.sent())
			assert.NotNil(t, r.kept("executions/run/console-builder.log"))
			if c.cloudInit == "null" {
				c.cloudInit = initError
			}
			if c.provision == "null" {
				c.provision = ""
			}
			asked := checkInstanceCase{state: "running", answer: answer(0, c.cloudInit+c.provision+system, "")}.run(t)
			require.Error(t, asked.err)
			assert.Equal(t, strings.ReplaceAll(asked.err.Error(), asked.id, r.id), r.err.Error(), "it says the same")
			assert.NotContains(t, r.err.Error(), "\x1b")
		})
	}
}

// A builder that cannot install its SSM agent powers itself off.
func TestABuilderThatHasGoneHasSaidWhy(t *testing.T) {
	for _, state := range []types.InstanceStateName{"shutting-down", "stopping", "stopped", "terminated"} {
		t.Run(string(state), func(t *testing.T) {
			r := checkInstanceCase{state: state, offline: true, upload: verdict("null", provFailed("no such host\n"))}.run(t)
			requireCode(t, failure.ProvisioningFailed, r.err)
			assert.Contains(t, r.err.Error(), "component docker failed with exit code 100")
			assert.Contains(t, r.err.Error(), "no such host")
		})
		t.Run(string(state)+", although it is provisioned", func(t *testing.T) {
			r := checkInstanceCase{state: state, reason: "Client.InstanceInitiatedShutdown", upload: verdict(initDone, provOK)}.run(t)
			requireCode(t, failure.InstanceFailed, r.err)
			assert.Contains(t, r.err.Error(), string(state)+" before its first boot was over")
		})
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
		"too large":               verdict(initDone, provOK) + strings.Repeat(" ", contract.BuilderUploadBytes),
	} {
		t.Run(name, func(t *testing.T) {
			r := checkInstanceCase{state: "running", now: time.Second, upload: upload}.run(t)
			requireCode(t, failure.InstanceNotReady, r.err)
			assert.Len(t, r.sent(), 1)
		})
	}
	t.Run("a verifier uploads none", func(t *testing.T) {
		r := checkInstanceCase{role: "verifier", state: "running", upload: verdict(initDone, provOK)}.run(t)
		requireCode(t, failure.InstanceNotReady, r.err)
		assert.Len(t, r.sent(), 1)
	})
	t.Run("one that cannot be read is not overlooked", func(t *testing.T) {
		r := checkInstanceCase{state: "running", faults: func(c *cloud) { c.failFrom(2, "s3", "GET", "AccessDenied") }}.run(t) // the first reads the plan
		requireCode(t, failure.AccessDenied, r.err)
		assert.Empty(t, r.sent())
	})
}

func TestConsoleOfAnOldInstanceType(t *testing.T) {
	c := newCloud(t)
	c.console = "x"
	id := c.builder(true, false)
	_, err := c.Faults.Add(fault.Rule{Service: "ec2", Operation: "GetConsoleOutput", Code: "UnsupportedOperation"}) // of the latest output
	require.NoError(t, err)
	got, err := readConsole(t.Context(), c.ec2(home), id)
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
