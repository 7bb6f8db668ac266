package cli

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// serving runs "local up" until the returned function is called or the test ends.
func serving(t *testing.T, state string) (out, errOut *buffer, end func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	out, errOut = &buffer{}, &buffer{}
	a := &app{in: strings.NewReader(""), out: out, err: errOut, tune: inProcess(t)}
	var code int
	var served sync.WaitGroup
	served.Go(func() {
		code = a.run(ctx, []string{"local", "up", "--schedules=false", "--guests", "simulated", "--state", state, "--listen", "127.0.0.1:0"})
	})
	end = func() int {
		cancel()
		served.Wait()
		return code
	}
	t.Cleanup(func() { end() })
	require.Eventually(t, func() bool { return strings.Contains(errOut.String(), "serving") }, time.Minute, 10*time.Millisecond, errOut.String())
	return out, errOut, end
}

func TestWhatIsServedIsToldToOtherShells(t *testing.T) {
	state := t.TempDir()
	for _, command := range []string{"env", "status", "down"} {
		r := call(t, nil, "local", command, "--state", state)
		assert.Equal(t, exitFailed, r.code, command)
		assert.Contains(t, r.err, "no embedded AWS is running with the state folder "+state)
		assert.Empty(t, r.out)
	}
	r := call(t, nil, "local", "status", "--state", state, "-o", "json")
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.out, `"running": false`)

	out, errOut, end := serving(t, state)
	dir := filepath.Join(state, "simulated")
	assert.Contains(t, errOut.String(), "logs are in "+filepath.Join(dir, "local.log"))
	for _, name := range []string{runName, "local.log", "secret-access-key"} {
		info, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o600), info.Mode().Perm(), name)
	}
	var exported []string
	for line := range strings.Lines(out.String()) {
		if strings.HasPrefix(line, "export ") {
			exported = append(exported, line)
		}
	}
	for _, where := range []string{state, dir} {
		r = call(t, nil, "local", "env", "--state", where)
		require.Equal(t, exitOK, r.code, r.err)
		assert.Equal(t, strings.Join(exported, ""), r.out)
	}
	assert.Contains(t, r.out, "export AWS_ACCESS_KEY_ID=111122223333\n")
	assert.Contains(t, r.out, "export AMI_FACTORY_BUCKET=")
	r = call(t, nil, "local", "env", "--state", state, "-o", "json")
	var env map[string]string
	require.NoError(t, json.Unmarshal([]byte(r.out), &env), r.out)
	assert.Len(t, env["AWS_SECRET_ACCESS_KEY"], 40)

	r = call(t, nil, "local", "status", "--state", state)
	require.Equal(t, exitOK, r.code, r.err)
	for _, row := range []string{`address +http://127\.0\.0\.1:`, `process +[0-9]+`, `state +/`, `guests +simulated`, `deployed +yes`, `executions +none`, `images +none`} {
		assert.Regexp(t, `(?m)^`+row, r.out)
	}
	assert.NotContains(t, errOut.String(), "found no", "asking for the status finds nothing in any region, which is no notice to the user")
	run, err := findRun(state, "simulated")
	require.NoError(t, err)
	assert.Equal(t, os.Getpid(), run.PID)
	_, err = findRun(state, "vm")
	require.ErrorIs(t, err, errNotRunning)
	r = call(t, nil, "local", "status", "--state", state, "--guests", "docker")
	assert.Equal(t, exitUsage, r.code)

	ctx := t.Context()
	client := sfn.NewFromConfig(run.config("eu-west-1"))
	input := `{"recipe":"debian-12-docker"}`
	name := "mine"
	_, err = client.StartExecution(ctx, &sfn.StartExecutionInput{StateMachineArn: &run.StateMachine, Name: &name, Input: &input})
	require.NoError(t, err)
	assert.Contains(t, errOut.String(), "execution mine of ami-factory started")
	status, err := run.status(ctx)
	require.NoError(t, err)
	assert.Equal(t, []string{"mine"}, status.Executing)
	require.Eventually(t, func() bool { return strings.Contains(errOut.String(), "execution mine of ami-factory ended after ") }, 2*time.Minute, 50*time.Millisecond, errOut.String())
	assert.Regexp(t, `execution mine of ami-factory ended after [0-9ms]+: SUCCEEDED, Published`, errOut.String())
	status, err = run.status(ctx)
	require.NoError(t, err)
	assert.Equal(t, map[string]int{"eu-central-1": 1, "eu-west-1": 1}, status.Images)

	_, err = ec2.NewFromConfig(run.config("us-west-2")).DescribeImages(ctx, &ec2.DescribeImagesInput{Owners: []string{"self"}})
	require.NoError(t, err)
	assert.Regexp(t, `DescribeImages of account 111122223333 in us-west-2 found no images: there are .*1 of account 111122223333 in eu-central-1.*1 of account 111122223333 in eu-west-1`, errOut.String())

	assert.Equal(t, exitOK, end())
	r = call(t, nil, "local", "env", "--state", state)
	assert.Equal(t, exitFailed, r.code)
	assert.NoFileExists(t, filepath.Join(dir, runName))
}

// TestOnlyTheProcessThatServesIsStopped: what is recorded may be out of date, and
// the process id another program's by now.
func TestOnlyTheProcessThatServesIsStopped(t *testing.T) {
	state := t.TempDir()
	dir := filepath.Join(state, "simulated")
	require.NoError(t, os.MkdirAll(dir, 0o700))
	other := exec.CommandContext(t.Context(), "sleep", "600")
	require.NoError(t, other.Start())
	defer func() {
		_ = other.Process.Kill()
		_ = other.Wait() // it was killed
	}()
	stale := localRun{PID: other.Process.Pid, URL: "http://127.0.0.1:1", State: dir}
	require.NoError(t, stale.write())
	down := func() result { return call(t, nil, "local", "down", "--state", state) }
	assert.Equal(t, exitFailed, down().code, "nobody has the lock")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "lock"), []byte("1\n"), 0o600))
	assert.Equal(t, exitFailed, down().code, "nobody has the lock that is there")

	_, _, end := serving(t, state)
	defer end()
	require.NoError(t, stale.write())
	r := down()
	assert.Equal(t, exitFailed, r.code, "another process than the recorded one has the lock")
	assert.Contains(t, r.err, "no embedded AWS is running")
	require.NoError(t, other.Process.Signal(syscall.Signal(0)), "the other program runs on")
}
