//go:build linux

package nspawn

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/network"
)

const (
	tunDevice = "/dev/net/tun"
	guestLink = "eth0" // the name in EC2's images with net.ifnames=0
)

// namespace is a network namespace that is only connected through a TAP device
// of this process. It exists while it is open or a process is in it, and leaves
// nothing on the host.
type namespace struct {
	file *os.File // the namespace
	tap  *os.File // each read and write is a frame
}

// newNamespace makes a namespace with the network interface of a launch.
func newNamespace(t tools, in vm.Launch) (*namespace, error) {
	type result struct {
		namespace *namespace
		err       error
	}
	made := make(chan result)
	go func() {
		// The thread stays in the new namespace. It is never unlocked, so that it ends
		// with this goroutine.
		runtime.LockOSThread()
		n, err := enterNamespace(t, in)
		made <- result{n, err}
	}()
	r := <-made
	if r.err != nil {
		return nil, fmt.Errorf("make the network of %s: %w", in.InstanceID, r.err)
	}
	return r.namespace, nil
}

func enterNamespace(t tools, in vm.Launch) (_ *namespace, err error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("unshare: %w", err)
	}
	n := &namespace{}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
		}
	}()
	if n.file, err = os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid())); err != nil {
		return nil, err
	}
	if n.tap, err = openTAP(guestLink); err != nil {
		return nil, err
	}
	// Set the address here, not by DHCP: cloud-init does not configure the network
	// of a container, and an image may have no DHCP client.
	batch := strings.Join([]string{
		"link set dev lo up",
		fmt.Sprintf("link set dev %s address %s mtu %d up", guestLink, in.MAC, network.MTU),
		fmt.Sprintf("address add %s/16 broadcast + dev %s", in.PrivateIP, guestLink),
		fmt.Sprintf("route add default via %s dev %s", network.GatewayIP, guestLink),
	}, "\n") + "\n"
	cmd := exec.Command(t.ip, "-batch", "-") // starts from this thread, so in its namespace
	cmd.Stdin = strings.NewReader(batch)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("set up %s: %w: %s", guestLink, err, bytes.TrimSpace(out))
	}
	return n, nil
}

// openTAP makes a TAP device in the calling thread's namespace.
func openTAP(name string) (*os.File, error) {
	request, err := unix.NewIfreq(name)
	if err != nil {
		return nil, fmt.Errorf("make TAP device %s: %w", name, err)
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	fd, err := unix.Open(tunDevice, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", tunDevice, err)
	}
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return nil, errors.Join(fmt.Errorf("make TAP device: %w", err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), tunDevice), nil
}

func (n *namespace) close() error {
	var errs []error
	for _, file := range []*os.File{n.tap, n.file} {
		if file == nil {
			continue
		}
		if err := file.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
