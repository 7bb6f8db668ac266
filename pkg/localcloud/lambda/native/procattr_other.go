//go:build unix && !linux

package native

import "syscall"

// attributes puts a process in a group of its own. Only Linux can end it with
// its parent; on other systems it ends when the Runtime API no longer answers.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// killGroup ends a process and all processes that it has started.
func killGroup(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) }

// peakOf is not known on this system.
func peakOf(int) int64 { return 0 }
