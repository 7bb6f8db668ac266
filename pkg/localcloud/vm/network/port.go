package network

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Guest is one network interface.
type Guest struct {
	MAC      string
	IP       string // inside Subnet; DHCP's answer for MAC
	Metadata http.Handler
}

// Link carries Ethernet frames to and from a guest.
type Link interface {
	// ReadFrame reads the next frame into buf, which is large enough for any frame.
	ReadFrame(buf []byte) (int, error)
	// WriteFrame is never called concurrently.
	WriteFrame(frame []byte) error
	// Close ends both directions; ReadFrame and WriteFrame then return errors.
	Close() error
}

const (
	maxFrame = 65536 + 4096 // the largest frame of QEMU
	// queueLength is the number of frames that wait for a guest that does not read.
	// More are dropped, as in a switch, so that one guest cannot block others.
	queueLength = 1024
)

// Port is a guest's connection to a Network.
type Port struct {
	network *Network
	guest   Guest
	mac     net.HardwareAddr
	ip      netip.Addr
	link    Link
	queue   chan []byte
	close   sync.Once
	closing chan struct{}
	done    sync.WaitGroup
}

// Validate returns an error if a guest cannot have these addresses.
func (g Guest) Validate() error {
	_, _, err := g.addresses()
	return err
}

func (g Guest) addresses() (net.HardwareAddr, netip.Addr, error) {
	mac, err := net.ParseMAC(g.MAC)
	if err != nil {
		return nil, netip.Addr{}, fmt.Errorf("network of guest: %w", err)
	}
	ip, err := netip.ParseAddr(g.IP)
	if err != nil {
		return nil, netip.Addr{}, fmt.Errorf("network of guest: %w", err)
	}
	if !netip.MustParsePrefix(Subnet).Contains(ip) || g.IP == GatewayIP {
		return nil, netip.Addr{}, fmt.Errorf("network of guest: address %s is not a guest's in %s", ip, Subnet)
	}
	return mac, ip, nil
}

// Attach connects a guest, until Port.Close or the end of link.
func (n *Network) Attach(guest Guest, link Link) (*Port, error) {
	mac, ip, err := guest.addresses()
	if err != nil {
		return nil, err
	}
	p := &Port{
		network: n, guest: guest, mac: mac, ip: ip, link: link,
		queue: make(chan []byte, queueLength), closing: make(chan struct{}),
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	key := tcpip.LinkAddress(mac)
	if n.ports[key] != nil || n.byIP[ip] != nil {
		return nil, fmt.Errorf("network of guest: %s or %s is in use by another guest", mac, ip)
	}
	n.ports[key], n.byIP[ip] = p, p
	n.pool.Reserve(ip.AsSlice(), mac.String())
	p.done.Go(p.receive)
	p.done.Go(p.send)
	return p, nil
}

// Close disconnects the guest and closes its link.
func (p *Port) Close() {
	p.end()
	p.done.Wait()
}

func (p *Port) end() {
	p.close.Do(func() {
		close(p.closing)
		_ = p.link.Close() // only ends the two loops
		n := p.network
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.ports, tcpip.LinkAddress(p.mac))
		delete(n.byIP, p.ip)
		n.pool.Release(p.mac.String())
	})
}

// receive takes frames from the guest into the stack until the link ends.
func (p *Port) receive() {
	defer p.end()
	buf := make([]byte, maxFrame)
	for {
		size, err := p.link.ReadFrame(buf)
		if err != nil {
			return
		}
		frame := buf[:size]
		if !p.admits(frame) {
			continue
		}
		packet := stack.NewPacketBuffer(stack.PacketBufferOptions{
			Payload: buffer.MakeWithData(bytes.Clone(frame[header.EthernetMinimumSize:])),
		})
		p.network.endpoint.DeliverNetworkPacket(header.Ethernet(frame).Type(), packet)
		packet.DecRef()
	}
}

// send takes frames from the queue to the guest until the link ends.
func (p *Port) send() {
	defer p.end()
	for {
		select {
		case <-p.closing:
			return
		case frame := <-p.queue:
			if err := p.link.WriteFrame(frame); err != nil {
				return
			}
		}
	}
}

// DeliverNetworkPacket takes a frame that the stack sends. It implements
// tap.NetworkSwitch.
func (n *Network) DeliverNetworkPacket(_ tcpip.NetworkProtocolNumber, packet *stack.PacketBuffer) {
	view := packet.ToView()
	frame := bytes.Clone(view.AsSlice())
	view.Release()
	destination := header.Ethernet(frame).DestinationAddress()

	n.mu.Lock()
	defer n.mu.Unlock()
	if destination != header.EthernetBroadcastAddress {
		if port := n.ports[destination]; port != nil {
			port.enqueue(frame)
		}
		return
	}
	for _, port := range n.ports {
		port.enqueue(frame)
	}
}

func (p *Port) enqueue(frame []byte) {
	select {
	case p.queue <- frame:
	default:
	}
}
