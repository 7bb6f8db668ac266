package native

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// attributes puts a process in a group of its own and ends it with its parent.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// killGroup ends a process and all processes that it has started.
func killGroup(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) }

// peakOf returns the most memory that a running process has had resident, in bytes: VmHWM
// of https://man7.org/linux/man-pages/man5/proc_pid_status.5.html. It is 0 if the process
// has ended.
func peakOf(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(status), "\nVmHWM:")
	var kib int64
	if n, _ := fmt.Sscanf(after, "%d kB", &kib); n != 1 {
		return 0
	}
	return kib << 10
}
