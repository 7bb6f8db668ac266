// Package process runs the long-lived child processes of guests. They end with
// this process, however it ends.
package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
)

// Process is a started child.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of Wait; set before done is closed
}

// Start starts cmd, which must not have a context: a child runs until it ends,
// is killed, or this process ends (on Linux, even by SIGKILL).
func Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, done: make(chan struct{})}
	dieWithParent(cmd)
	started := make(chan error)
	go func() {
		// The kernel sends the parent-death signal when the thread that forked ends,
		// so the thread must live as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return p, nil
}

// PID returns the child's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the child has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err returns how the child ended, or nil for exit code 0. It is only valid
// after Done.
func (p *Process) Err() error { return p.err }

// Kill ends the child at once and waits until it has ended.
func (p *Process) Kill() error {
	if err := p.cmd.Process.Kill(); err != nil && !alreadyEnded(err) {
		return fmt.Errorf("kill process %d: %w", p.PID(), err)
	}
	<-p.done
	return nil
}

func alreadyEnded(err error) bool { return errors.Is(err, os.ErrProcessDone) }
