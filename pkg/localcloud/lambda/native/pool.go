// Package native runs Lambda functions as processes of this machine: a bootstrap
// for the provided.al2023 runtime, with the Lambda Runtime API on the loopback
// interface.
//
// It uses real time, whatever the clock of the embedded AWS is.
package native

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Defaults and limits of AWS Lambda.
const (
	// MaxResponse is the largest response of a synchronous invocation, in bytes.
	MaxResponse = 6 * 1024 * 1024
	// initLimit is the time limit of the init phase.
	initLimit = 10 * time.Second
)

// Options describes the function that a Pool runs.
type Options struct {
	ARN string
	// Dir contains the executable bootstrap; it is the working directory.
	Dir string
	// Env returns the complete environment of a new process, as NAME=value, without
	// the address of the Runtime API.
	Env func() ([]string, error)
	// Timeout is the time limit of one invocation.
	Timeout time.Duration
	// MaxProcesses limits how many processes run at once; more invocations wait.
	MaxProcesses int
	// Idle is the time for which an idle process is kept.
	Idle time.Duration
	// Life is the time after its start for which a process gets work, measured by
	// Now, because the credentials in its environment expire. 0 means no limit.
	Life time.Duration
	Now  func() time.Time
	// Log receives every line that the processes write.
	Log func(line string)
}

// Outcome is the result of an invocation.
type Outcome struct {
	Payload []byte
	// FunctionError is "Unhandled" if the function failed; Payload is then an
	// object with errorType and errorMessage.
	FunctionError string
	Cold          bool          // a process was started for it
	Init          time.Duration // time of that start, until it asked for work
	Duration      time.Duration // of the invocation itself
	Log           string        // the output of the process during the invocation
	PeakBytes     int64         // the most memory that the process has had resident; 0: not known
}

// ErrClosed is the error of invocations after Close.
var ErrClosed = errors.New("the function's processes have been stopped")

// Pool manages the processes of one function. It is safe for concurrent use.
type Pool struct {
	options  Options
	launcher *Launcher
	slots    chan struct{} // one element for each running invocation

	mu     sync.Mutex
	idle   []*process // the most recently used is last
	all    map[*process]struct{}
	closed bool
	ctx    context.Context
	cancel context.CancelFunc
}

// NewPool returns a Pool without processes.
func NewPool(l *Launcher, o Options) *Pool {
	ctx, cancel := context.WithCancel(context.Background())
	return &Pool{
		options: o, launcher: l, slots: make(chan struct{}, max(o.MaxProcesses, 1)),
		all: map[*process]struct{}{}, ctx: ctx, cancel: cancel,
	}
}

// Invoke runs the function once. After an error it is unknown whether the
// function ran to its end: ctx ended or the pool was closed.
func (p *Pool) Invoke(ctx context.Context, requestID string, payload []byte) (Outcome, error) {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return Outcome{}, ctx.Err()
	case <-p.ctx.Done():
		return Outcome{}, ErrClosed
	}
	for {
		proc, cold, err := p.take()
		if errors.Is(err, ErrClosed) {
			return Outcome{}, err
		}
		if err != nil {
			return failure("Runtime.InvalidEntrypoint", fmt.Sprintf("RequestId: %s Error: %v", requestID, err)), nil
		}
		out, err := proc.invoke(ctx, p.options, requestID, payload)
		if errors.Is(err, errGone) && !cold {
			p.drop(proc) // it exited before it accepted the work
			continue
		}
		out.Cold = cold
		if cold {
			out.Init = proc.initTook
		}
		if err != nil || proc.spent() {
			p.drop(proc)
		} else {
			p.put(proc)
		}
		if p.ctx.Err() != nil {
			return Outcome{}, ErrClosed
		}
		return out, err
	}
}

// take returns a process without work, or starts one.
func (p *Pool) take() (proc *process, cold bool, err error) {
	for {
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return nil, false, ErrClosed
		}
		n := len(p.idle)
		if n == 0 {
			p.mu.Unlock()
			break
		}
		proc, p.idle = p.idle[n-1], p.idle[:n-1]
		p.mu.Unlock()
		proc.reap.Stop()
		if p.options.Life == 0 || p.options.Now().Sub(proc.born) < p.options.Life {
			return proc, false, nil
		}
		p.drop(proc)
	}

	var born time.Time
	if p.options.Life > 0 {
		born = p.options.Now()
	}
	proc, err = start(p.launcher, p.options)
	if err != nil {
		return nil, true, err
	}
	proc.born = born
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		proc.stop()
		return nil, true, ErrClosed
	}
	p.all[proc] = struct{}{}
	return proc, true, nil
}

// put keeps a process for the next invocation, for a while.
func (p *Pool) put(proc *process) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return // Close stops the process
	}
	p.idle = append(p.idle, proc)
	proc.reap = time.AfterFunc(p.options.Idle, func() { p.expire(proc) })
}

// expire ends a process that is still idle.
func (p *Pool) expire(proc *process) {
	p.mu.Lock()
	for i, other := range p.idle {
		if other == proc {
			p.idle = append(p.idle[:i], p.idle[i+1:]...)
			p.mu.Unlock()
			p.drop(proc)
			return
		}
	}
	p.mu.Unlock()
}

// drop ends a process.
func (p *Pool) drop(proc *process) {
	proc.stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.all, proc)
}

// Processes returns the number of processes.
func (p *Pool) Processes() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.all)
}

// Close kills all processes and waits until they have ended. Running invocations
// return ErrClosed.
func (p *Pool) Close() {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.closed = true
	var all []*process
	for proc := range p.all {
		all = append(all, proc)
	}
	for _, proc := range p.idle {
		proc.reap.Stop()
	}
	p.idle = nil
	p.mu.Unlock()
	p.cancel()
	for _, proc := range all {
		p.drop(proc)
	}
	for range cap(p.slots) { // until no process is being started
		p.slots <- struct{}{}
	}
}

// failure returns the outcome of an invocation that Lambda itself reports as
// failed.
func failure(errorType, message string) Outcome {
	raw, err := json.Marshal(map[string]string{"errorType": errorType, "errorMessage": message})
	if err != nil { // strings can always be marshalled
		raw = []byte(`{"errorType":"Runtime.Unknown"}`)
	}
	return Outcome{Payload: raw, FunctionError: "Unhandled"}
}
