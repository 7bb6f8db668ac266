package baseimage

import "syscall"

// processAttributes give a program a process group of its own, so that a
// time-out reaches what it started, and end it when this process is killed:
// at once, since unshare waits out everything gentler.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
