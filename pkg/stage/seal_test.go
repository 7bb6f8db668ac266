package stage

import (
	"context"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/simulated"
)

// seal runs the stage once.
func (c *cloud) seal(id string, late bool) (SealOutput, error) {
	c.t.Helper()
	in := InstanceInput{Job: job(c.t, c, "Seal", testPlan()), InstanceID: id}
	in.Now = c.clock.Now()
	if late {
		in.Now = in.Now.Add(46 * time.Minute)
	}
	return Seal{Store: c.store(), EC2: odd{Client: c.ec2(home), reason: c.reason}, SSM: c.ssm(home)}.Run(c.t.Context(), in)
}

// arm runs the stage up to the end of arm.sh, which answers as the guest does.
func (c *cloud) arm(id string) {
	c.t.Helper()
	_, err := c.seal(id, false)
	requireCode(c.t, failure.SealNotReady, err)
	c.pass(10 * time.Second)
}

func TestSeal(t *testing.T) {
	ended := func(exit int, stdout, stderr string) func(context.Context, vm.Command) vm.Result {
		return func(context.Context, vm.Command) vm.Result {
			return vm.Result{ExitCode: exit, Stdout: []byte(stdout), Stderr: []byte(stderr)}
		}
	}
	orderly := func(c *cloud, id string) { c.arm(id); c.stop(id); c.pass(5 * time.Minute) }
	for name, tc := range map[string]struct {
		guest   func(context.Context, vm.Command) vm.Result
		busy    bool // arm.sh does not end
		faults  simulated.Faults
		console string
		before  func(c *cloud, id string)
		late    bool         // after the builder's time-out
		want    failure.Code // empty: sealed
		tells   string
	}{
		"the first attempt arms the builder":       {want: failure.SealNotReady, tells: "preparing"},
		"its agent is not online yet":              {faults: simulated.Faults{NeverBoots: true}, want: failure.SealNotReady, tells: "does not take commands yet"},
		"its agent has long been offline":          {faults: simulated.Faults{NeverBoots: true}, late: true, want: failure.SealFailed, tells: "prepare its seal"},
		"an armed builder is told to stop":         {before: (*cloud).arm, want: failure.SealNotReady, tells: "told to stop"},
		"it may be stopping by then":               {before: func(c *cloud, id string) { c.arm(id); c.fail("ec2", "StopInstances", "IncorrectInstanceState") }, want: failure.SealNotReady},
		"a stopping one is waited for":             {before: func(c *cloud, id string) { c.arm(id); c.stop(id); c.pass(5 * time.Second) }, want: failure.SealNotReady, tells: "is stopping"},
		"a stopped one is sealed":                  {before: orderly, console: "ami-factory: seal: done, trim: 1 GiB\n"},
		"an unarmed one must not be stopped":       {guest: ended(1, "", "seal: not armed: no result"), before: (*cloud).arm, want: failure.SealFailed, tells: "seal: not armed: no result"},
		"arming that is silent shows its output":   {guest: ended(1, "on stdout", ""), before: (*cloud).arm, want: failure.SealFailed, tells: "on stdout"},
		"stopped before it was armed":              {before: func(c *cloud, id string) { c.stop(id); c.pass(5 * time.Minute) }, want: failure.SealFailed, tells: "before it was sealed"},
		"stopped by force":                         {before: func(c *cloud, id string) { orderly(c, id); c.reason = "Server.InternalError" }, want: failure.SealFailed, tells: "not certain"},
		"the seal's script complains":              {before: orderly, console: "x\r\nami-factory: seal: HYG-01 FAILED\r\n", want: failure.SealFailed, tells: "HYG-01 FAILED"},
		"terminated":                               {before: (*cloud).terminate, want: failure.InstanceFailed},
		"EC2 refuses to stop it":                   {before: func(c *cloud, id string) { c.arm(id); c.fail("ec2", "StopInstances", "UnsupportedOperation") }, want: failure.SealFailed},
		"EC2 throttles":                            {before: func(c *cloud, _ string) { c.fail("ec2", "DescribeInstances", "RequestLimitExceeded") }, want: failure.Throttled},
		"the console of a stopped one is withheld": {before: func(c *cloud, id string) { orderly(c, id); c.fail("ec2", "GetConsoleOutput", "UnauthorizedOperation") }, want: failure.AccessDenied},
		"while it arms, nothing is stopped":        {busy: true, before: (*cloud).arm, want: failure.SealNotReady, tells: "preparing"},
		"stopped while it armed":                   {busy: true, before: orderly, want: failure.SealFailed, tells: "while it prepared"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCloud(t)
			c.guest, c.faults, c.console = tc.guest, tc.faults, tc.console
			if tc.busy {
				c.guest = func(ctx context.Context, _ vm.Command) vm.Result {
					_ = c.clock.Wait(ctx, make(chan struct{}), 0)
					return vm.Result{}
				}
			}
			id := c.builder(true, false)
			if tc.before != nil {
				tc.before(c, id)
			}
			out, err := c.seal(id, tc.late)
			if tc.want == "" {
				require.NoError(t, err)
				assert.Equal(t, SealOutput{InstanceID: id}, out)
				return
			}
			requireCode(t, tc.want, err)
			assert.Contains(t, err.Error(), tc.tells)
		})
	}
	t.Run("gone", func(t *testing.T) {
		_, err := newCloud(t).seal("i-0123456789abcdef0", false)
		requireCode(t, failure.InstanceFailed, err)
		assert.ErrorContains(t, err, "gone")
	})
}

func TestSealRunsItsScriptAndStopsOnlyWhenThatHasEnded(t *testing.T) {
	c := newCloud(t)
	var ran []string
	c.guest = func(_ context.Context, cmd vm.Command) vm.Result {
		ran = append(ran, string(cmd.Stdin))
		return vm.Result{}
	}
	id := c.builder(true, false)
	c.arm(id)
	assert.Equal(t, []string{armScript + "\n"}, ran)
	assert.Equal(t, types.InstanceStateNameRunning, stateOf(c.instance(id)))
	_, err := c.seal(id, false)
	requireCode(t, failure.SealNotReady, err)
	c.pass(5 * time.Minute)
	assert.Equal(t, types.InstanceStateNameStopped, stateOf(c.instance(id)))
	assert.Len(t, ran, 1, "the script runs once")
	assert.Equal(t, "Client.UserInitiatedShutdown", aws.ToString(c.instance(id).StateReason.Code))
}
