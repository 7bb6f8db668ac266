package qemu

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

const (
	socketDirPrefix = "ami-factory-qemu-"
	// maxSocketDir leaves room for a file name in the 104 (macOS) or 108 bytes
	// that the path of a Unix socket may have.
	maxSocketDir = 70
)

// socketDir makes a private directory with a short path for the sockets of this
// process's machines, and removes those of processes that were killed.
func socketDir() (string, error) {
	parent := os.TempDir()
	if len(parent)+len(socketDirPrefix)+20 > maxSocketDir {
		parent = "/tmp"
	}
	// The pattern has no metacharacter of its own, the only cause of an error.
	old, _ := filepath.Glob(filepath.Join(parent, socketDirPrefix+"*"))
	for _, dir := range old {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), socketDirPrefix), "-")
		pid, err := strconv.Atoi(owner)
		if err == nil && pid > 0 && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = os.RemoveAll(dir) // somebody else's: not ours to remove
		}
	}
	dir, err := os.MkdirTemp(parent, fmt.Sprintf("%s%d-*", socketDirPrefix, os.Getpid()))
	if err != nil {
		return "", fmt.Errorf("make a directory for sockets: %w", err)
	}
	return dir, nil
}
