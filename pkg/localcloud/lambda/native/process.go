package native

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

// errGone is the error of an invocation whose process had already exited.
var errGone = errors.New("the process had exited before the invocation")

// process is one running bootstrap with a Runtime API of its own.
type process struct {
	cmd     *exec.Cmd
	log     *logPipe
	server  *http.Server
	started time.Time
	born    time.Time   // by Options.Now, if there is a Life
	reap    *time.Timer // while it is idle

	work     chan *invocation // taken by the bootstrap's /next
	ready    chan struct{}    // closed at its first /next
	initTook time.Duration    // set before ready is closed
	exited   chan struct{}    // closed when it has ended
	exitErr  error            // set before exited is closed

	mu      sync.Mutex
	current *invocation
	initErr []byte // the body that it posted to /init/error
	ending  bool   // it must not get more work
}

// invocation is one request while a process works on it.
type invocation struct {
	id       string
	arn      string
	payload  []byte
	deadline time.Time
	outcome  chan Outcome // buffered; the first answer counts
}

func (i *invocation) answer(o Outcome) bool {
	select {
	case i.outcome <- o:
		return true
	default:
		return false
	}
}

// start launches a bootstrap.
func start(l *Launcher, o Options) (*process, error) {
	bootstrap := filepath.Join(o.Dir, "bootstrap")
	if info, err := os.Stat(bootstrap); err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
		return nil, fmt.Errorf("couldn't find an executable bootstrap: %s", bootstrap)
	}
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("open the Runtime API: %w", err)
	}
	env, err := o.Env()
	if err != nil {
		closeAll(listener)
		return nil, err
	}
	log, err := newLogPipe(o.Log)
	if err != nil {
		closeAll(listener)
		return nil, err
	}
	p := &process{
		cmd:    exec.Command(bootstrap), // the purpose is to run the function's code
		log:    log,
		work:   make(chan *invocation),
		ready:  make(chan struct{}),
		exited: make(chan struct{}),
	}
	p.cmd.Dir = o.Dir
	d := newDoor(listener.Addr().String())
	p.cmd.Env = append(env, "AWS_LAMBDA_RUNTIME_API="+d.address())
	p.cmd.Stdout, p.cmd.Stderr = log.write, log.write
	p.cmd.SysProcAttr = attributes()
	p.server = &http.Server{Handler: d.guard(p.api()), ReadHeaderTimeout: time.Minute}
	p.started = time.Now()
	err = l.start(p.cmd)
	closeAll(log.write) // the process has its own copy
	if err != nil {
		closeAll(listener, log.read)
		return nil, fmt.Errorf("start %s: %w", bootstrap, err)
	}
	go func() { _ = p.server.Serve(listener) }() // both end with the process
	go log.follow()
	go func() {
		p.exitErr = p.cmd.Wait()
		killGroup(p.cmd.Process.Pid) // processes that it may have left behind
		closeAll(p.server)
		log.close()
		close(p.exited)
	}()
	return p, nil
}

// stop kills the process and waits until it has ended.
func (p *process) stop() {
	select {
	case <-p.exited: // another process may have its id now
		return
	default:
	}
	killGroup(p.cmd.Process.Pid)
	<-p.exited
}

// spent reports whether the process can no longer be used.
func (p *process) spent() bool {
	select {
	case <-p.exited:
		return true
	default:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ending
}

// invoke gives the process one request and waits for its answer. It kills a
// process that takes too long.
func (p *process) invoke(ctx context.Context, o Options, id string, payload []byte) (Outcome, error) {
	select { // a cold start: the init phase has a limit of its own, as on AWS
	case <-p.ready:
	case <-p.exited:
		select {
		case <-p.ready: // it ended after earlier work, not because of this request
			return Outcome{}, errGone
		default:
			return p.crashed(id)
		}
	case <-time.After(initLimit + o.Timeout):
		p.stop()
		return p.timedOut(id, initLimit+o.Timeout), nil
	case <-ctx.Done():
		p.stop()
		return Outcome{}, ctx.Err()
	}
	p.log.mark()
	begun := time.Now()
	inv := &invocation{
		id: id, arn: o.ARN, payload: payload, deadline: begun.Add(o.Timeout), outcome: make(chan Outcome, 1),
	}
	limit := time.NewTimer(o.Timeout)
	defer limit.Stop()

	var out Outcome
	select {
	case p.work <- inv:
	case <-p.exited:
		return Outcome{}, errGone
	case <-limit.C:
		p.stop()
		return p.timedOut(id, o.Timeout), nil
	case <-ctx.Done():
		p.stop()
		return Outcome{}, ctx.Err()
	}
	select {
	case out = <-inv.outcome:
		out.Log = p.log.since()
	case <-p.exited:
		select {
		case out = <-inv.outcome: // it answered, then exited
			out.Log = p.log.since()
		default:
			var err error
			if out, err = p.crashed(id); err != nil {
				return Outcome{}, err
			}
		}
	case <-limit.C:
		p.stop()
		out = p.timedOut(id, o.Timeout)
	case <-ctx.Done():
		p.stop()
		return Outcome{}, ctx.Err()
	}
	out.Duration, out.PeakBytes = time.Since(begun), peakOf(p.cmd.Process.Pid)
	return out, nil
}

func (p *process) timedOut(id string, limit time.Duration) Outcome {
	out := failure("Sandbox.Timedout", fmt.Sprintf("RequestId: %s Error: Task timed out after %.2f seconds", id, limit.Seconds()))
	out.Log, out.Duration = p.log.since(), limit
	return out
}

// crashed returns the outcome of a process that exited without an answer: its
// post to /init/error, or its exit status and last output.
func (p *process) crashed(id string) (Outcome, error) {
	p.mu.Lock()
	initErr := p.initErr
	p.mu.Unlock()
	log := p.log.since()
	if initErr != nil {
		return Outcome{Payload: initErr, FunctionError: "Unhandled", Log: log}, nil
	}
	how := "exit status 0"
	if p.exitErr != nil {
		how = p.exitErr.Error()
	}
	message := fmt.Sprintf("RequestId: %s Error: Runtime exited with error: %s", id, how)
	if tail := lastLines(log, 20); tail != "" {
		message += "\n" + tail
	}
	out := failure("Runtime.ExitError", message)
	out.Log = log
	return out, nil
}
