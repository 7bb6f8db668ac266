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
	// maxSocketDir leaves room for a file name in the maximum length of a Unix
	// socket's path: 104 (macOS) or 108 bytes.
	maxSocketDir = 70
)

// socketDir makes a private directory with a short path for the sockets of this
// process's machines, and removes the directories of killed processes.
func socketDir() (string, error) {
	parent := os.TempDir()
	if len(parent)+len(socketDirPrefix)+20 > maxSocketDir {
		parent = "/tmp"
	}
	// Glob only fails on a bad pattern, and this one is fixed.
	old, _ := filepath.Glob(filepath.Join(parent, socketDirPrefix+"*"))
	for _, dir := range old {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), socketDirPrefix), "-")
		pid, err := strconv.Atoi(owner)
		if err == nil && pid > 0 && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = os.RemoveAll(dir) // an error means that it belongs to another user
		}
	}
	dir, err := os.MkdirTemp(parent, fmt.Sprintf("%s%d-*", socketDirPrefix, os.Getpid()))
	if err != nil {
		return "", fmt.Errorf("make a directory for sockets: %w", err)
	}
	return dir, nil
}
