package native

import (
	"os/exec"
	"runtime"
	"sync"
)

// Launcher starts processes from one operating-system thread that it keeps. With
// PR_SET_PDEATHSIG, Linux ends a process with the thread that started it, and Go
// may end any other thread.
type Launcher struct {
	requests chan launch
	once     sync.Once
}

type launch struct {
	cmd  *exec.Cmd
	done chan error
}

// NewLauncher starts the thread.
func NewLauncher() *Launcher {
	l := &Launcher{requests: make(chan launch)}
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for r := range l.requests {
			r.done <- r.cmd.Start()
		}
	}()
	return l
}

func (l *Launcher) start(cmd *exec.Cmd) error {
	r := launch{cmd: cmd, done: make(chan error, 1)}
	l.requests <- r
	return <-r.done
}

// Close ends the thread; no process may be started afterwards.
func (l *Launcher) Close() { l.once.Do(func() { close(l.requests) }) }
