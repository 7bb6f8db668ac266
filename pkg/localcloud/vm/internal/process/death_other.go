//go:build !linux

package process

import (
	"os/exec"
	"syscall"
)

// dieWithParent keeps a terminal's Ctrl-C from the child. This system has no
// parent-death signal: a child survives a SIGKILL of this process.
func dieWithParent(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = !cmd.SysProcAttr.Setsid
}
