//go:build !linux

package baseimage

import "syscall"

// processAttributes puts a program in a process group of its own, so that a
// time-out reaches its children.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
