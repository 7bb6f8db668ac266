package baseimage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// outputTail is the size of a failed tool's output in an error, in bytes.
const outputTail = 2000

// tool runs the host's programs. If this process is not root, they run as root
// of a user namespace, because files of an image belong to many users.
type tool struct {
	namespaced bool
}

// newTool returns the tool for this process's user.
func newTool() tool { return tool{namespaced: os.Geteuid() != 0} }

// command prepares a program that ends, with its children, when ctx ends.
func (t tool) command(ctx context.Context, argv ...string) *exec.Cmd {
	if t.namespaced {
		argv = append([]string{"unshare", "--user", "--map-root-user", "--map-auto", "--"}, argv...)
	}
	return command(ctx, argv...)
}

func command(ctx context.Context, argv ...string) *exec.Cmd {
	program := argv[0]
	if file, err := lookPath(program); err == nil {
		program = file
	}
	cmd := exec.CommandContext(ctx, program, argv[1:]...)
	cmd.SysProcAttr = processAttributes()
	// TERM first, so that mmdebstrap can unmount and remove its own directory.
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// programOf returns the program in an argument list, without its wrapper.
func programOf(argv []string) string {
	if i := slices.Index(argv, "--"); i >= 0 && i+1 < len(argv) && filepath.Base(argv[0]) == "unshare" {
		argv = argv[i+1:]
	}
	return filepath.Base(argv[0])
}

// run runs a program to its end. An error contains the end of its output.
func (t tool) run(ctx context.Context, argv ...string) error {
	return runCommand(ctx, t.command(ctx, argv...))
}

func runCommand(ctx context.Context, cmd *exec.Cmd) error {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	return explain(ctx, cmd, cmd.Run(), out.Bytes())
}

// explain turns a program's failure into an error with the program, the reason
// and what to do.
func explain(ctx context.Context, cmd *exec.Cmd, err error, output []byte) error {
	if err == nil {
		return nil
	}
	name := programOf(cmd.Args)
	if ctxErr := context.Cause(ctx); ctxErr != nil {
		return fmt.Errorf("%s was stopped: %w", name, ctxErr)
	}
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is not installed: install the package %s: %w", name, packageOf(name), err)
	}
	tail := strings.TrimSpace(string(output[max(0, len(output)-outputTail):]))
	if strings.Contains(tail, "No space left on device") {
		return fmt.Errorf("%s failed because the disk is full: make room or choose another cache folder: %w", name, err)
	}
	return fmt.Errorf("%s failed: %w; its output:\n%s", name, err, tail)
}
