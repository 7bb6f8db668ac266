package agent_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/agent"
)

// fakeAgent speaks the protocol as qemu-ga does, on a socket as QEMU makes it.
type fakeAgent struct {
	path string
	// handle answers what is not a synchronisation; false: never.
	handle func(command string, arguments json.RawMessage) (reply any, ok bool)
	// stale is sent before anything else: replies to an earlier connection.
	stale string

	mu    sync.Mutex
	calls []string
}

func (f *fakeAgent) called() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.calls, " ")
}

func (f *fakeAgent) start(t *testing.T) *agent.Client {
	t.Helper()
	f.path = filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", f.path)
	require.NoError(t, err)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			f.serve(conn)
		}
	})
	client := agent.New(func(ctx context.Context) (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, "unix", f.path) })
	t.Cleanup(func() {
		client.Close()
		_ = listener.Close()
		serving.Wait()
	})
	return client
}

func (f *fakeAgent) serve(conn net.Conn) {
	defer conn.Close()
	_, _ = conn.Write([]byte(f.stale))
	lines := bufio.NewReader(conn)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var request struct {
			Execute   string
			Arguments json.RawMessage
		}
		if json.Unmarshal(bytes.TrimPrefix(line, []byte{0xff}), &request) != nil {
			return
		}
		f.mu.Lock()
		f.calls = append(f.calls, request.Execute)
		f.mu.Unlock()
		if request.Execute == "guest-sync-delimited" {
			var sync struct{ ID int64 }
			_ = json.Unmarshal(request.Arguments, &sync)
			_, _ = conn.Write([]byte("\xff"))
			f.reply(conn, map[string]any{"return": sync.ID})
			continue
		}
		if reply, ok := f.handle(request.Execute, request.Arguments); ok {
			f.reply(conn, reply)
		}
	}
}

func (f *fakeAgent) reply(conn net.Conn, value any) {
	raw, _ := json.Marshal(value)
	_, _ = conn.Write(append(raw, '\n'))
}

func returns(value any) (any, bool) { return map[string]any{"return": value}, true }

func refuses(text string) (any, bool) {
	return map[string]any{"error": map[string]string{"class": "GenericError", "desc": text}}, true
}

func TestPing(t *testing.T) {
	ok := func(string, json.RawMessage) (any, bool) { return returns(struct{}{}) }
	t.Run("an agent that answers", func(t *testing.T) {
		client := (&fakeAgent{handle: ok}).start(t)
		assert.NoError(t, client.Ping(t.Context()))
		assert.NoError(t, client.Ping(t.Context()))
	})
	t.Run("replies to an earlier connection are passed over", func(t *testing.T) {
		f := &fakeAgent{handle: ok, stale: "{\"return\": 17}\n\xff{\"return\": 4711}\n"}
		assert.NoError(t, f.start(t).Ping(t.Context()))
	})
	t.Run("an agent that is silent", func(t *testing.T) {
		client := (&fakeAgent{handle: func(string, json.RawMessage) (any, bool) { return nil, false }}).start(t)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		assert.ErrorIs(t, client.Ping(ctx), vm.ErrNotReachable)
	})
	t.Run("no machine at all", func(t *testing.T) {
		client := agent.New(func(context.Context) (net.Conn, error) { return nil, errors.New("no such socket") })
		assert.ErrorIs(t, client.Ping(t.Context()), vm.ErrNotReachable)
	})
}

// exec plays guest-exec: the command runs for some polls, and ends with status.
type exec struct {
	polls   int
	status  map[string]any
	mu      sync.Mutex
	started []map[string]any
	killed  bool
}

func (e *exec) handle(command string, arguments json.RawMessage) (any, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch command {
	case "guest-exec":
		var a map[string]any
		_ = json.Unmarshal(arguments, &a)
		e.started = append(e.started, a)
		if a["path"] == "/bin/kill" {
			e.killed = true
			return returns(map[string]int{"pid": 5})
		}
		return returns(map[string]int{"pid": 4})
	case "guest-exec-status":
		if e.killed {
			return returns(map[string]any{"exited": true, "signal": 9, "out-data": []byte("begun")})
		}
		if e.polls--; e.polls >= 0 {
			return returns(map[string]any{"exited": false})
		}
		return returns(e.status)
	}
	return refuses("unexpected " + command)
}

func TestExec(t *testing.T) {
	for name, c := range map[string]struct {
		status map[string]any
		want   vm.Result
	}{
		"output, errors and exit code": {
			map[string]any{"exited": true, "exitcode": 3, "out-data": []byte("out"), "err-data": []byte("err")},
			vm.Result{ExitCode: 3, Stdout: []byte("out"), Stderr: []byte("err")}},
		"nothing written":          {map[string]any{"exited": true, "exitcode": 0}, vm.Result{}},
		"ended by a signal":        {map[string]any{"exited": true, "signal": 15}, vm.Result{ExitCode: 143}},
		"megabytes in one reply":   {map[string]any{"exited": true, "out-data": make([]byte, 3<<20)}, vm.Result{Stdout: make([]byte, 3<<20)}},
		"data that is not a text":  {map[string]any{"exited": true, "out-data": []byte{0, 0xff, '\n'}}, vm.Result{Stdout: []byte{0, 0xff, '\n'}}},
		"an exit code above 128":   {map[string]any{"exited": true, "exitcode": 130}, vm.Result{ExitCode: 130}},
		"output without exit code": {map[string]any{"exited": true, "out-data": []byte("x")}, vm.Result{Stdout: []byte("x")}},
	} {
		t.Run(name, func(t *testing.T) {
			e := &exec{polls: 2, status: c.status}
			client := (&fakeAgent{handle: e.handle}).start(t)
			got, err := client.Exec(t.Context(), vm.Command{Argv: []string{"prog", "a b"}, Stdin: []byte("in")})
			require.NoError(t, err)
			assert.Equal(t, c.want, got)

			require.Len(t, e.started, 1)
			assert.Equal(t, "/usr/bin/setsid", e.started[0]["path"])
			assert.Equal(t, []any{"--", "prog", "a b"}, e.started[0]["arg"])
			assert.Equal(t, "aW4=", e.started[0]["input-data"])
		})
	}
}

func TestCommandThatRunsTooLongIsKilledWithItsGroup(t *testing.T) {
	e := &exec{polls: 1 << 30}
	client := (&fakeAgent{handle: e.handle}).start(t)
	got, err := client.Exec(t.Context(), vm.Command{Argv: []string{"prog"}, Timeout: 50 * time.Millisecond})
	require.NoError(t, err)
	assert.Equal(t, vm.Result{ExitCode: 137, Stdout: []byte("begun"), TimedOut: true}, got)
	require.Len(t, e.started, 2)
	assert.Equal(t, []any{"-9", "--", "-4"}, e.started[1]["arg"])
}

func TestCommandWhoseCallerGivesUpIsKilled(t *testing.T) {
	e := &exec{polls: 1 << 30}
	client := (&fakeAgent{handle: e.handle}).start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := client.Exec(ctx, vm.Command{Argv: []string{"prog"}})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.True(t, e.killed)
}

func TestAgentThatForgotTheCommandWasRestarted(t *testing.T) {
	f := &fakeAgent{handle: func(command string, _ json.RawMessage) (any, bool) {
		if command == "guest-exec" {
			return returns(map[string]int{"pid": 4})
		}
		return refuses("Invalid parameter 'pid'")
	}}
	_, err := f.start(t).Exec(t.Context(), vm.Command{Argv: []string{"apt-get"}})
	var refused *agent.Error
	require.ErrorAs(t, err, &refused)
	assert.Contains(t, err.Error(), "the guest agent was restarted")
}

func TestCommandSurvivesALostConnection(t *testing.T) {
	e := &exec{status: map[string]any{"exited": true, "exitcode": 6}}
	lost := false
	f := &fakeAgent{}
	f.handle = func(command string, arguments json.RawMessage) (any, bool) {
		if command == "guest-exec-status" && !lost {
			lost = true
			return "not a reply", true // after which the client connects again
		}
		return e.handle(command, arguments)
	}
	got, err := f.start(t).Exec(t.Context(), vm.Command{Argv: []string{"prog"}})
	require.NoError(t, err)
	assert.Equal(t, 6, got.ExitCode)
	assert.Equal(t, "guest-sync-delimited guest-exec guest-exec-status guest-sync-delimited guest-exec-status", f.called())
}

func TestCommandWithoutProgram(t *testing.T) {
	_, err := agent.New(nil).Exec(t.Context(), vm.Command{})
	assert.ErrorContains(t, err, "no program given")
}
