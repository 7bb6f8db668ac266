// Package agent runs commands in a virtual machine through the QEMU guest
// agent, on the socket of its virtio-serial port.
//
// Protocol: "QEMU Guest Agent Protocol Reference" of the QEMU manual.
package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
	"time"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
)

const (
	// DefaultTimeout is the default time limit of a command, see vm.Command.
	DefaultTimeout = time.Hour

	pingLimit  = 5 * time.Second  // one request of Ping
	replyLimit = 30 * time.Second // one request of Exec; an emulated guest under load is slow
	// lostAfter is the time after which a guest that does not answer during a
	// command is lost.
	lostAfter = 2 * time.Minute
	killLimit = 20 * time.Second // to end a command and collect its output

	firstPoll = 20 * time.Millisecond
	slowPoll  = 500 * time.Millisecond
)

// Environment returns the environment of commands in guests: that of a root
// login, in a locale that every system has.
func Environment() []string {
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root", "USER=root", "LOGNAME=root", "SHELL=/bin/sh", "LANG=C.UTF-8",
	}
}

// Client is a connection to the agent of one guest. It connects when needed.
// Its methods are safe for concurrent use.
type Client struct {
	session session
}

// New returns a client of the agent to which dial connects.
func New(dial func(context.Context) (net.Conn, error)) *Client {
	return &Client{session: session{dial: dial, busy: make(chan struct{}, 1)}}
}

// Close drops the connection.
func (c *Client) Close() { c.session.close() }

// Ping returns nil if the agent answers, otherwise vm.ErrNotReachable.
func (c *Client) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pingLimit)
	defer cancel()
	return c.session.call(ctx, "guest-ping", nil, nil)
}

type execArguments struct {
	Path          string   `json:"path"`
	Arg           []string `json:"arg"`
	Env           []string `json:"env"`
	InputData     []byte   `json:"input-data,omitempty"`
	CaptureOutput bool     `json:"capture-output"`
}

type execStatus struct {
	Exited   bool   `json:"exited"`
	ExitCode int    `json:"exitcode"`
	Signal   int    `json:"signal"`
	Out      []byte `json:"out-data"`
	Err      []byte `json:"err-data"`
}

// result uses the shell's convention: a process that a signal ended has the code
// 128 + signal.
func (s execStatus) result() vm.Result {
	code := s.ExitCode
	if s.Signal != 0 {
		code = 128 + s.Signal
	}
	return vm.Result{ExitCode: code, Stdout: s.Out, Stderr: s.Err}
}

// Exec runs cmd and waits for it. At the time-out, or when ctx ends, it kills
// the command and the processes of its session in the guest. The agent keeps at
// most 16 MiB of each output stream. A program that does not exist has exit code
// 127.
func (c *Client) Exec(ctx context.Context, cmd vm.Command) (vm.Result, error) {
	if len(cmd.Argv) == 0 {
		return vm.Result{}, errors.New("run command in guest: no program given")
	}
	timeout := cmd.Timeout
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	pid, err := c.start(ctx, cmd)
	if err != nil {
		return vm.Result{}, fmt.Errorf("run %s in guest: %w", cmd.Argv[0], err)
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	status, err := c.wait(limited, pid)
	if err == nil {
		return status.result(), nil
	}
	if limited.Err() == nil {
		return vm.Result{}, fmt.Errorf("run %s in guest: %w", cmd.Argv[0], err)
	}

	// Kill the guest's processes even if the caller's context has ended.
	last, cancelLast := context.WithTimeout(context.WithoutCancel(ctx), killLimit)
	defer cancelLast()
	status, err = c.kill(last, pid)
	switch {
	case ctx.Err() != nil:
		return vm.Result{}, ctx.Err()
	case err != nil:
		return vm.Result{}, fmt.Errorf("run %s in guest: it ran longer than %s and could not be killed: %w", cmd.Argv[0], timeout, err)
	}
	result := status.result()
	result.TimedOut = true
	return result, nil
}

// start returns the process id, which is also the id of a new session and
// process group, because setsid does not fork if it is not a group leader.
func (c *Client) start(ctx context.Context, cmd vm.Command) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, replyLimit)
	defer cancel()
	arguments := execArguments{
		Path: "/usr/bin/setsid", Arg: append([]string{"--"}, cmd.Argv...),
		Env: Environment(), InputData: cmd.Stdin, CaptureOutput: true,
	}
	var started struct {
		PID int `json:"pid"`
	}
	if err := c.session.call(ctx, "guest-exec", arguments, &started); err != nil {
		return 0, err
	}
	return started.PID, nil
}

// wait polls until the process has ended, ctx ends, or the guest is lost.
func (c *Client) wait(ctx context.Context, pid int) (execStatus, error) {
	lastReply := time.Now()
	for pause := firstPoll; ; pause = min(pause*2, slowPoll) {
		status, err := c.status(ctx, pid)
		var refused *Error
		switch {
		case err == nil && status.Exited:
			return status, nil
		case err == nil:
			lastReply = time.Now()
		case errors.As(err, &refused):
			// The agent was restarted and does not know the process.
			return execStatus{}, fmt.Errorf("the result is lost because the guest agent was restarted: %w", err)
		case ctx.Err() != nil:
			return execStatus{}, ctx.Err()
		case time.Since(lastReply) > lostAfter:
			return execStatus{}, err
		}
		if err := sleep(ctx, pause); err != nil {
			return execStatus{}, err
		}
	}
}

func (c *Client) status(ctx context.Context, pid int) (execStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, replyLimit)
	defer cancel()
	var status execStatus
	err := c.session.call(ctx, "guest-exec-status", map[string]int{"pid": pid}, &status)
	return status, err
}

// kill ends the process group and collects the command's output.
func (c *Client) kill(ctx context.Context, pid int) (execStatus, error) {
	arguments := execArguments{
		Path: "/bin/kill", Arg: []string{"-" + strconv.Itoa(int(syscall.SIGKILL)), "--", "-" + strconv.Itoa(pid)}, Env: Environment(),
	}
	if err := c.session.call(ctx, "guest-exec", arguments, nil); err != nil {
		return execStatus{}, err
	}
	return c.wait(ctx, pid)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// Error is an error that the agent returned.
type Error struct {
	Class       string `json:"class"`
	Description string `json:"desc"`
}

// Error implements error.
func (e *Error) Error() string { return "guest agent: " + e.Description }

type request struct {
	Execute   string `json:"execute"`
	Arguments any    `json:"arguments,omitempty"`
}

type response struct {
	Return json.RawMessage `json:"return"`
	Error  *Error          `json:"error"`
}
