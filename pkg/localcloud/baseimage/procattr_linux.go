package baseimage

import "syscall"

// processAttributes puts a program in a process group of its own, so that a
// time-out reaches its children, and kills it when this process is killed. The
// signal is SIGKILL, because unshare ignores others.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
