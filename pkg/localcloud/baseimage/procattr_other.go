//go:build !linux

package baseimage

import "syscall"

// processAttributes give a program a process group of its own, so that a
// time-out reaches what it started.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
