package ssm_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	sdk "github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/kms"
	"github.com/ami-factory/ami-factory/pkg/localcloud/ssm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

const (
	account  = "111122223333"
	region   = "eu-west-1"
	instance = "i-0123456789abcdef0"
)

// guest runs its commands on the host, in a shell of its own.
type guest struct {
	vm.Machine // nil: what the tests do not call

	mu   sync.Mutex
	down bool
	lost bool // Exec fails half-way
}

func (g *guest) set(down bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.down = down
}

func (g *guest) Ping(context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.down {
		return vm.ErrNotReachable
	}
	return nil
}

func (g *guest) Exec(ctx context.Context, c vm.Command) (vm.Result, error) {
	if g.lost {
		return vm.Result{}, vm.ErrNotReachable
	}
	limited, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	cmd := exec.CommandContext(limited, c.Argv[0], c.Argv[1:]...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(c.Stdin), &stdout, &stderr
	cmd.WaitDelay = 10 * time.Millisecond
	err := cmd.Run()
	result := vm.Result{Stdout: stdout.Bytes(), Stderr: stderr.Bytes(), TimedOut: limited.Err() != nil && ctx.Err() == nil}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		result.ExitCode, err = exit.ExitCode(), nil
	}
	if limited.Err() != nil {
		err = ctx.Err()
	}
	return result, err
}

// fleet is the instances of one account and region.
type fleet struct {
	mu       sync.Mutex
	machines map[string]*guest
	states   map[string]ec2types.InstanceStateName
}

func (f *fleet) Machine(a, r, id string) (vm.Machine, ec2types.InstanceStateName, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	g, ok := f.machines[id]
	if !ok || a != account || r != region {
		return nil, "", false
	}
	return g, f.states[id], true
}

func (f *fleet) set(id string, state ec2types.InstanceStateName) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.states[id] = state
}

// bucket keeps the objects that commands store.
type bucket struct {
	mu      sync.Mutex
	objects map[string]string
}

func (b *bucket) Put(_ context.Context, name, key, _ string, body io.Reader) error {
	raw, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.objects[name+"/"+key] = string(raw)
	return nil
}

type emitted struct {
	detailType string
	detail     map[string]any
}

type rig struct {
	*ssm.Service
	clock   *clock.Virtual
	guest   *guest
	fleet   *fleet
	bucket  *bucket
	release func()

	mu     sync.Mutex
	events []emitted
}

func (r *rig) seen(detailType string) []map[string]any {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []map[string]any
	for _, e := range r.events {
		if e.detailType == detailType {
			out = append(out, e.detail)
		}
	}
	return out
}

// newRig makes an SSM with one running instance on a virtual clock, which the
// test holds.
func newRig(t *testing.T) *rig {
	t.Helper()
	c := clock.NewVirtual(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	caller := wire.Caller{Account: account, Region: region}
	r := &rig{
		clock: c, guest: &guest{}, bucket: &bucket{objects: map[string]string{}},
		fleet: &fleet{machines: map[string]*guest{}, states: map[string]ec2types.InstanceStateName{}},
	}
	r.fleet.machines[instance] = r.guest
	r.fleet.set(instance, ec2types.InstanceStateNameRunning)
	r.Service = ssm.New(ssm.Config{
		Clock: c, Default: caller, Machines: r.fleet, Objects: r.bucket, Keys: kms.New(c, caller),
		Instances:   func(context.Context, string, string) []string { return []string{instance, "i-unknown"} },
		ImageExists: func(_ context.Context, _, _, id string) bool { return id == "ami-good" },
		Emit: func(_ context.Context, _, _, detailType string, _ []string, detail any) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.events = append(r.events, emitted{detailType, detail.(map[string]any)})
		},
	})
	r.release = c.Hold()
	t.Cleanup(func() {
		require.NoError(t, r.Close(context.Background()))
		r.release()
	})
	return r
}

// send sends a script and returns the command's id.
func (r *rig) send(t *testing.T, script string, change ...func(*sdk.SendCommandInput)) string {
	t.Helper()
	in := &sdk.SendCommandInput{
		DocumentName: aws.String("AWS-RunShellScript"), InstanceIds: []string{instance}, Parameters: map[string][]string{"commands": {script}},
	}
	for _, f := range change {
		f(in)
	}
	out, err := r.SendCommand(t.Context(), in)
	require.NoError(t, err)
	return *out.Command.CommandId
}

// result waits on the clock until the command is over.
func (r *rig) result(t *testing.T, id string) *sdk.GetCommandInvocationOutput {
	t.Helper()
	for {
		out, err := r.GetCommandInvocation(t.Context(), &sdk.GetCommandInvocationInput{CommandId: aws.String(id), InstanceId: aws.String(instance)})
		require.NoError(t, err)
		switch out.Status {
		case types.CommandInvocationStatusPending, types.CommandInvocationStatusInProgress, types.CommandInvocationStatusCancelling:
			require.NoError(t, r.clock.Sleep(t.Context(), time.Second))
		default:
			return out
		}
	}
}
