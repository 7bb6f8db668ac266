//go:build linux

package nspawn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/agent"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/internal/process"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/network"
)

const (
	pingLimit = 5 * time.Second
	// outputGrace is the time to wait for a killed command's output.
	outputGrace = 2 * time.Second
)

// machine implements vm.Machine.
type machine struct {
	in      vm.Launch
	tools   tools
	network *network.Network
	*process.Guest

	mu     sync.Mutex
	leader int // process id of the container's init; 0 if unknown
}

// mountAndBoot runs as the first process of its own process namespace, in its
// own mount namespace: when it is killed, everything in the container is killed
// too, and the mounts disappear. (Otherwise a container would continue after its
// systemd-nspawn was killed.) $1 has the overlay's options, $2 its mount point,
// $3 a file for the network namespace, which is open as descriptor 3. The rest
// is the command line of systemd-nspawn, which needs a file system of its own
// below /run.
const mountAndBoot = `set -e
options=$1 root=$2 network=$3
shift 3
: >"$network"
mount --bind /proc/self/fd/3 "$network"
exec 3<&-
mount -t proc proc /proc
mkdir -p /run/systemd/nspawn
mount -t tmpfs -o mode=0755 tmpfs /run/systemd/nspawn
mount -t overlay -o "$options" overlay "$root"
exec "$@"
`

// Start implements vm.Driver.
func (d *Driver) Start(ctx context.Context, in vm.Launch) (vm.Machine, error) {
	m, err := d.start(ctx, in)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", in.InstanceID, err)
	}
	return m, nil
}

func (d *Driver) start(ctx context.Context, in vm.Launch) (_ *machine, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := absolute(&in.InstanceDir, &in.ImageDir); err != nil {
		return nil, err
	}
	release, err := d.claim(in.InstanceDir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			release()
		}
	}()
	guest := network.Guest{MAC: in.MAC, IP: in.PrivateIP}
	if in.Metadata != nil {
		guest.Metadata = tokenOptional(in.Metadata)
	}
	if err := guest.Validate(); err != nil {
		return nil, err
	}
	n, err := prepare(in)
	if err != nil {
		return nil, err
	}
	namespace, err := newNamespace(d.tools, in)
	if err != nil {
		return nil, err
	}
	port, err := d.network.Attach(guest, network.NewPacketLink(namespace.tap))
	if err != nil {
		return nil, errors.Join(err, namespace.close())
	}
	container, err := d.launch(in, n, namespace)
	if err != nil {
		port.Close()
		return nil, errors.Join(err, namespace.close())
	}
	// The container's processes end with systemd-nspawn.
	guestProcess := process.NewGuest(container, in.InstanceID, in.InstanceDir, consoleFile, func() {
		port.Close()
		_ = namespace.close() // no process uses it any more
		release()
	})
	return &machine{in: in, tools: d.tools, network: d.network, Guest: guestProcess}, nil
}

// Dial implements vm.Dialer.
func (m *machine) Dial(ctx context.Context, port uint16) (net.Conn, error) {
	return m.network.Dial(ctx, m.in.PrivateIP, port)
}

// launch starts the container. Its console is the output of systemd-nspawn.
func (d *Driver) launch(in vm.Launch, n note, ns *namespace) (*process.Process, error) {
	inside := func(name string) string { return filepath.Join(in.InstanceDir, name) }
	options := fmt.Sprintf("lowerdir=%s:%s,upperdir=%s,workdir=%s", inside(hostDir), n.Lower, inside(upperDir), inside(workDir))
	console, err := os.OpenFile(inside(consoleFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer console.Close() // the child has its own copy
	cmd := exec.Command(d.tools.shell, append([]string{"-c", mountAndBoot, "sh", options, inside(mergedDir), inside(networkFile)}, d.nspawnLine(in)...)...)
	cmd.Stdout, cmd.Stderr = console, console
	cmd.Env = append(os.Environ(), "SYSTEMD_NSPAWN_API_VFS_WRITABLE=network")
	cmd.ExtraFiles = []*os.File{ns.file}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Unshareflags: syscall.CLONE_NEWNS}
	return process.Start(cmd)
}

// nspawnLine returns the command line of systemd-nspawn, which works without
// systemd on the host.
func (d *Driver) nspawnLine(in vm.Launch) []string {
	return []string{
		d.tools.nspawn,
		"--quiet", "--boot", "--directory=" + filepath.Join(in.InstanceDir, mergedDir),
		"--machine=" + in.InstanceID, "--hostname=localhost",
		"--register=no", "--keep-unit", "--settings=no", "--link-journal=no",
		"--console=read-only",
		"--network-namespace-path=" + filepath.Join(in.InstanceDir, networkFile),
		"--resolv-conf=off", "--timezone=off",
		"--bind-ro=" + filepath.Join(in.InstanceDir, resolvFile) + ":/run/systemd/resolved.conf.d/localcloud.conf",
		// Container engines in the guest need these.
		"--capability=CAP_NET_ADMIN", "--system-call-filter=add_key keyctl bpf",
		// The signal that makes systemd power off; nspawn sends it to init when it
		// gets SIGTERM.
		"--kill-signal=SIGRTMIN+4",
	}
}

// Ping implements vm.Machine. The guest can run commands once its systemd is up.
func (m *machine) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pingLimit)
	defer cancel()
	leader, err := m.findLeader()
	if err != nil {
		return fmt.Errorf("%w: %w", vm.ErrNotReachable, err)
	}
	if err := m.enter(ctx, leader, "test", "-S", "/run/systemd/private").Run(); err != nil {
		return fmt.Errorf("%w: its init is not up yet: %w", vm.ErrNotReachable, err)
	}
	return nil
}

// Exec implements vm.Machine.
func (m *machine) Exec(ctx context.Context, command vm.Command) (vm.Result, error) {
	if len(command.Argv) == 0 {
		return vm.Result{}, errors.New("run command in guest: no program given")
	}
	if err := m.Ping(ctx); err != nil {
		return vm.Result{}, fmt.Errorf("run %s in guest: %w", command.Argv[0], err)
	}
	leader, err := m.findLeader()
	if err != nil {
		return vm.Result{}, fmt.Errorf("run %s in guest: %w: %w", command.Argv[0], vm.ErrNotReachable, err)
	}
	timeout := command.Timeout
	if timeout <= 0 {
		timeout = agent.DefaultTimeout
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := m.enter(limited, leader, command.Argv...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(command.Stdin), &stdout, &stderr
	runErr := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return vm.Result{}, ctx.Err()
	case m.Ended():
		return vm.Result{}, fmt.Errorf("%w: the machine ended while the command ran", vm.ErrNotReachable)
	case cmd.ProcessState == nil:
		return vm.Result{}, fmt.Errorf("run %s in guest: %w", command.Argv[0], runErr)
	}
	return vm.Result{
		ExitCode: exitCode(cmd.ProcessState), Stdout: stdout.Bytes(), Stderr: stderr.Bytes(),
		TimedOut: limited.Err() != nil,
	}, nil
}

// enter returns the command that runs argv in the container, in a session of its
// own. When ctx ends, the command and the processes of its session are killed.
func (m *machine) enter(ctx context.Context, leader int, argv ...string) *exec.Cmd {
	args := append([]string{
		"--target", strconv.Itoa(leader), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd", "--",
	}, argv...)
	cmd := exec.CommandContext(ctx, m.tools.nsenter, args...)
	cmd.Env = agent.Environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = outputGrace
	return cmd
}

// exitCode uses the shell's convention: a process that a signal ended has the
// code 128 + signal.
func exitCode(state *os.ProcessState) int {
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return state.ExitCode()
}

// findLeader finds the container's init: the child of systemd-nspawn that has
// the process id 1 in its namespace.
func (m *machine) findLeader() (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.Ended() {
		return 0, errors.New("the machine has ended")
	}
	if m.leader != 0 && isInit(m.leader) {
		return m.leader, nil
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", m.PID()))
	if err != nil {
		return 0, fmt.Errorf("find the container's init: %w", err)
	}
	for field := range strings.FieldsSeq(string(children)) {
		pid, err := strconv.Atoi(field)
		if err == nil && isInit(pid) {
			m.leader = pid
			return pid, nil
		}
	}
	return 0, errors.New("the container has no init yet")
}

func isInit(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(status)) {
		if numbers, ok := strings.CutPrefix(line, "NSpid:"); ok {
			fields := strings.Fields(numbers)
			return len(fields) > 1 && fields[len(fields)-1] == "1"
		}
	}
	return false
}

// Shutdown implements vm.Machine.
func (m *machine) Shutdown(ctx context.Context, grace time.Duration) (forced bool, err error) {
	// The process may have just ended.
	if err := syscall.Kill(m.PID(), syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return false, fmt.Errorf("shut down %s: %w", m.in.InstanceID, err)
	}
	limit := time.NewTimer(grace)
	defer limit.Stop()
	select {
	case <-m.Done():
		return false, nil
	case <-ctx.Done():
		return false, ctx.Err()
	case <-limit.C:
		return true, m.Kill()
	}
}

func absolute(paths ...*string) error {
	for _, path := range paths {
		abs, err := filepath.Abs(*path)
		if err != nil {
			return err
		}
		*path = abs
	}
	return nil
}
