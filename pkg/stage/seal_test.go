package stage

import (
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

func TestSeal(t *testing.T) {
	armed := answered("Success", 0, `{"armed":true}`, "")
	for name, c := range map[string]struct {
		state   types.InstanceStateName
		reason  string
		sent    bool // arm.sh was, by an earlier attempt
		answer  *ssm.GetCommandInvocationOutput
		console string
		op      string
		err     error
		want    failure.Code // empty: sealed
		stops   bool
		tells   string
		late    bool // after the builder's time-out
	}{
		"the first attempt arms the builder":       {state: "running", want: failure.SealNotReady, tells: "preparing"},
		"while it arms, nothing is stopped":        {state: "running", sent: true, want: failure.SealNotReady, tells: "preparing"},
		"its agent is not online yet":              {state: "running", op: "SendCommand", err: &ssmtypes.InvalidInstanceId{}, want: failure.SealNotReady, tells: "does not take commands yet"},
		"its agent has long been offline":          {state: "running", late: true, op: "SendCommand", err: &ssmtypes.InvalidInstanceId{}, want: failure.SealFailed, tells: "prepare its seal"},
		"an armed builder is told to stop":         {state: "running", sent: true, answer: armed, stops: true, want: failure.SealNotReady, tells: "told to stop"},
		"it may be stopping by then":               {state: "running", sent: true, answer: armed, stops: true, op: "StopInstances", err: awsErr("IncorrectInstanceState"), want: failure.SealNotReady},
		"a stopping one is waited for":             {state: "stopping", sent: true, answer: armed, want: failure.SealNotReady, tells: "is stopping"},
		"a stopped one is sealed":                  {state: "stopped", reason: "Client.UserInitiatedShutdown", sent: true, answer: armed, console: "ami-factory: seal: done, trim: 1 GiB\n"},
		"an unarmed one must not be stopped":       {state: "running", sent: true, answer: answered("Failed", 1, "", "seal: not armed: no result"), want: failure.SealFailed, tells: "seal: not armed: no result"},
		"arming that is silent shows its output":   {state: "running", sent: true, answer: answered("Failed", 1, "on stdout", ""), want: failure.SealFailed, tells: "on stdout"},
		"stopped before it was armed":              {state: "stopped", reason: "Client.InstanceInitiatedShutdown", want: failure.SealFailed, tells: "before it was sealed"},
		"stopped while it armed":                   {state: "stopped", sent: true, answer: answered("InProgress", -1, "", ""), want: failure.SealFailed, tells: "while it prepared"},
		"stopped by force":                         {state: "stopped", reason: "Server.InternalError", sent: true, answer: armed, want: failure.SealFailed, tells: "not certain"},
		"the seal's script complains":              {state: "stopped", reason: "Client.UserInitiatedShutdown", sent: true, answer: armed, console: "x\r\nami-factory: seal: HYG-01 FAILED\r\n", want: failure.SealFailed, tells: "HYG-01 FAILED"},
		"terminated":                               {state: "terminated", want: failure.InstanceFailed},
		"gone":                                     {want: failure.InstanceFailed, tells: "gone"},
		"EC2 refuses to stop it":                   {state: "running", sent: true, answer: armed, stops: true, op: "StopInstances", err: awsErr("UnsupportedOperation"), want: failure.SealFailed},
		"EC2 throttles":                            {state: "running", op: "DescribeInstances", err: awsErr("RequestLimitExceeded"), want: failure.Throttled},
		"the console of a stopped one is withheld": {state: "stopped", sent: true, answer: armed, op: "GetConsoleOutput", err: awsErr("UnauthorizedOperation"), want: failure.AccessDenied},
	} {
		t.Run(name, func(t *testing.T) {
			s, e, m := newS3(t), newEC2(home), newSSM()
			if c.state != "" {
				i := instance(c.state)
				if c.reason != "" {
					i.StateReason = &types.StateReason{Code: aws.String(c.reason)}
				}
				e.instances = []types.Instance{i}
			}
			if c.sent {
				m.commands = []ssmtypes.Command{{CommandId: aws.String("c"), Comment: aws.String("ami-factory:run:seal"), InstanceIds: []string{"i-1"}}}
			}
			m.invocation, e.console = c.answer, c.console
			if c.op != "" {
				e.faults[c.op], m.faults[c.op] = []error{c.err}, []error{c.err}
			}
			in := InstanceInput{Job: job(t, s, "Seal", testPlan()), InstanceID: "i-1"}
			if c.late {
				in.Now = start.Add(46 * time.Minute)
			}
			out, err := Seal{Store: s.store(), EC2: e, SSM: m}.Run(t.Context(), in)
			assert.Equal(t, c.stops, len(e.stopped) > 0)
			if c.want == "" {
				require.NoError(t, err)
				assert.Equal(t, SealOutput{InstanceID: "i-1"}, out)
				return
			}
			requireCode(t, c.want, err)
			assert.Contains(t, err.Error(), c.tells)
			if !c.sent && c.state == "running" && c.op == "" {
				require.Len(t, m.sent, 1)
				assert.Equal(t, []string{armScript}, m.sent[0].Parameters["commands"])
			}
		})
	}
}
