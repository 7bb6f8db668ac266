package baseimage

import "syscall"

// processAttributes give a program a process group of its own, so that a
// time-out reaches what it started, and end it when this process is killed.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
