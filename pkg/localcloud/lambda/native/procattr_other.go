//go:build unix && !linux

package native

import "syscall"

// attributes put a process in a group of its own. Only Linux can end it with
// its parent; elsewhere it ends when the Runtime API no longer answers it.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// killGroup ends a process and all that it has started.
func killGroup(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) }
