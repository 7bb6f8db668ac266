package native

import "syscall"

// attributes puts a process in a group of its own and ends it with its parent.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// killGroup ends a process and all processes that it has started.
func killGroup(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) }
