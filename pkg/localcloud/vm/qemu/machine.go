package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/agent"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/internal/process"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/network"
)

const (
	connectLimit = 30 * time.Second // for QEMU to start
	quitLimit    = 5 * time.Second  // for QEMU to end on request
	// buttonPause is the interval between presses of the power button: a guest that
	// is still booting ignores the first one.
	buttonPause = 5 * time.Second
)

// machine implements vm.Machine.
type machine struct {
	in      vm.Launch
	agent   *agent.Client
	sockets sockets
	network *network.Network
	*process.Guest
}

// Dial implements vm.Dialer.
func (m *machine) Dial(ctx context.Context, port uint16) (net.Conn, error) {
	return m.network.Dial(ctx, m.in.PrivateIP, port)
}

// Start implements vm.Driver.
func (d *Driver) Start(ctx context.Context, in vm.Launch) (vm.Machine, error) {
	m, err := d.start(ctx, in)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", in.InstanceID, err)
	}
	return m, nil
}

func (d *Driver) start(ctx context.Context, in vm.Launch) (_ *machine, err error) {
	if err := absolute(&in.InstanceDir, &in.ImageDir); err != nil {
		return nil, err
	}
	guest := network.Guest{MAC: in.MAC, IP: in.PrivateIP, Metadata: in.Metadata}
	if err := guest.Validate(); err != nil {
		return nil, err
	}
	first, err := d.prepareDisk(ctx, in)
	if err != nil {
		return nil, err
	}
	var kernel *directBoot
	if first { // on a restart the disk may have another kernel
		if kernel, err = findKernel(in.ImageDir); err != nil {
			return nil, err
		}
	}
	dir, err := os.MkdirTemp(d.sockets, "")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	s := newSockets(dir)
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", s.network)
	if err != nil {
		return nil, err
	}
	defer listener.Close()

	qemu, err := d.launch(in, arguments(in, d.accel(), s, kernel))
	if err != nil {
		return nil, err
	}
	conn, err := accept(ctx, listener, qemu)
	if err != nil {
		return nil, errors.Join(d.explain(in, err), qemu.Kill())
	}
	port, err := d.network.Attach(guest, network.NewStreamLink(conn))
	if err != nil {
		return nil, errors.Join(err, conn.Close(), qemu.Kill())
	}
	m := &machine{
		network: d.network,
		in:      in, sockets: s,
		agent: agent.New(func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", s.agent)
		}),
	}
	m.Guest = process.NewGuest(qemu, in.InstanceID, in.InstanceDir, consoleFile, func() {
		port.Close()
		m.agent.Close()
		_ = os.RemoveAll(dir) // otherwise the driver's Close removes it
	})
	return m, nil
}

// launch starts QEMU. QEMU's own messages go to a file of the instance.
func (d *Driver) launch(in vm.Launch, args []string) (*process.Process, error) {
	log, err := os.Create(filepath.Join(in.InstanceDir, logFile))
	if err != nil {
		return nil, err
	}
	defer log.Close() // the child has its own copy
	cmd := exec.Command(d.system, args...)
	cmd.Stdout, cmd.Stderr = log, log
	return process.Start(cmd)
}

// accept waits until QEMU has connected to its network.
func accept(ctx context.Context, listener net.Listener, qemu *process.Process) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectLimit)
	defer cancel()
	accepted := make(chan struct{})
	defer close(accepted)
	go func() {
		select {
		case <-accepted:
		case <-ctx.Done():
		case <-qemu.Done():
		}
		_ = listener.Close() // makes Accept return
	}()
	conn, err := listener.Accept()
	switch {
	case err == nil:
		return conn, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	<-qemu.Done()
	return nil, fmt.Errorf("qemu ended at once: %w", qemu.Err())
}

// explain adds QEMU's own messages to an error.
func (d *Driver) explain(in vm.Launch, err error) error {
	said, readErr := os.ReadFile(filepath.Join(in.InstanceDir, logFile))
	if readErr != nil || len(bytes.TrimSpace(said)) == 0 {
		return err
	}
	return fmt.Errorf("%w: %s", err, bytes.TrimSpace(said))
}

// Ping implements vm.Machine.
func (m *machine) Ping(ctx context.Context) error {
	if m.Ended() {
		return vm.ErrNotReachable
	}
	return m.agent.Ping(ctx)
}

// Exec implements vm.Machine.
func (m *machine) Exec(ctx context.Context, cmd vm.Command) (vm.Result, error) {
	alive, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-m.Process.Done():
			cancel()
		case <-alive.Done():
		}
	}()
	result, err := m.agent.Exec(alive, cmd)
	if err != nil && ctx.Err() == nil && alive.Err() != nil {
		return vm.Result{}, fmt.Errorf("%w: the machine ended while the command ran", vm.ErrNotReachable)
	}
	return result, err
}

// Shutdown implements vm.Machine. It presses the power button.
func (m *machine) Shutdown(ctx context.Context, grace time.Duration) (forced bool, err error) {
	limit := time.NewTimer(grace)
	defer limit.Stop()
	button := time.NewTicker(buttonPause)
	defer button.Stop()
	for {
		if _, err := qmp(ctx, m.sockets.monitor, "system_powerdown"); err != nil && ctx.Err() != nil {
			return false, ctx.Err()
		} // otherwise QEMU is just ending or does not answer, and is forced in time
		select {
		case <-m.Done():
			return false, nil
		case <-ctx.Done():
			return false, ctx.Err()
		case <-button.C:
		case <-limit.C:
			return true, m.force(ctx)
		}
	}
}

// force makes QEMU quit in an orderly way, so that its disk is complete.
func (m *machine) force(ctx context.Context) error {
	if _, err := qmp(ctx, m.sockets.monitor, "quit"); err != nil {
		return m.Kill()
	}
	limit := time.NewTimer(quitLimit)
	defer limit.Stop()
	select {
	case <-m.Done():
		return nil
	case <-limit.C:
		return m.Kill()
	}
}
