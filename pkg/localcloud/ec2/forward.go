package ec2

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
)

// sshPort is the guest's port to which its public address forwards.
const sshPort = 22

// publicAddress returns the loopback address that serves as an instance's public
// address: 127.31.x.y for the private address 172.31.x.y. All of 127.0.0.0/8 is
// loopback on Linux, so every instance has its own port 22.
func publicAddress(private string) (netip.Addr, error) {
	ip, err := netip.ParseAddr(private)
	if err != nil || !ip.Is4() {
		return netip.Addr{}, fmt.Errorf("%q is not an IPv4 address", private)
	}
	b := ip.As4()
	b[0] = 127
	return netip.AddrFrom4(b), nil
}

// forward forwards connections from a loopback address to a guest.
type forward struct {
	listener net.Listener
	dialer   vm.Dialer
	ctx      context.Context // ends with the machine
	cancel   context.CancelFunc
	work     sync.WaitGroup
}

// openForward listens on the public address of an instance. It returns nil if
// the guest cannot be reached or the port cannot be opened.
func (s *Service) openForward(i *instance, m vm.Machine) *forward {
	dialer, ok := m.(vm.Dialer)
	if !ok {
		return nil
	}
	address, err := publicAddress(aws.ToString(i.PrivateIpAddress))
	if err == nil {
		var listener net.Listener
		if listener, err = net.Listen("tcp", netip.AddrPortFrom(address, sshPort).String()); err == nil {
			ctx, cancel := context.WithCancel(context.Background())
			f := &forward{listener: listener, dialer: dialer, ctx: ctx, cancel: cancel}
			f.work.Go(f.accept)
			return f
		}
	}
	s.cfg.Logger.Warn("the instance has no public address: a loopback port of this machine cannot be opened (ports below 1024 need root)",
		"instance", aws.ToString(i.InstanceId), "error", err)
	return nil
}

func (f *forward) address() string {
	return f.listener.Addr().(*net.TCPAddr).IP.String() // the listener uses TCP
}

func (f *forward) accept() {
	for {
		client, err := f.listener.Accept()
		if err != nil {
			return // closed
		}
		f.work.Go(func() { f.serve(client) })
	}
}

// serve copies both ways until either side ends. If the guest does not accept
// the connection yet, it closes the client's, as with a machine that boots.
func (f *forward) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	guest, err := f.dialer.Dial(f.ctx, sshPort)
	if err != nil {
		return
	}
	defer func() { _ = guest.Close() }()
	stop := context.AfterFunc(f.ctx, func() { _, _ = client.Close(), guest.Close() })
	defer stop()
	done := make(chan struct{}, 2)
	pipe := func(to, from net.Conn) {
		_, _ = io.Copy(to, from) // ends when either side ends
		if half, ok := to.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
		done <- struct{}{}
	}
	go pipe(guest, client)
	go pipe(client, guest)
	<-done
	<-done
}

func (f *forward) close() error {
	if f == nil {
		return nil
	}
	f.cancel()
	err := f.listener.Close()
	f.work.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// setPublic sets or removes an instance's public address. The caller holds s.mu.
func (i *instance) setPublic(address string) {
	i.PublicIpAddress = nil
	i.NetworkInterfaces = slices.Clone(i.NetworkInterfaces) // views share the old slice
	for n := range i.NetworkInterfaces {
		i.NetworkInterfaces[n].Association = nil
	}
	if address == "" {
		return
	}
	i.PublicIpAddress = aws.String(address)
	for n := range i.NetworkInterfaces {
		i.NetworkInterfaces[n].Association = &types.InstanceNetworkInterfaceAssociation{
			PublicIp: aws.String(address), IpOwnerId: aws.String("amazon"), PublicDnsName: aws.String(""),
		}
	}
}
