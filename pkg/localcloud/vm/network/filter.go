package network

import (
	"bytes"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

const dhcpServerPort = 67

// admits reports whether a frame from the guest may enter the network: it must
// have the guest's own addresses, and be ARP, DHCP, or a kind of IPv4 that the
// gateway serves. (In promiscuous mode the stack would answer a ping to any
// address.)
func (p *Port) admits(frame []byte) bool {
	if len(frame) < header.EthernetMinimumSize {
		return false
	}
	ethernet := header.Ethernet(frame)
	if string(ethernet.SourceAddress()) != string(p.mac) {
		return false
	}
	payload := frame[header.EthernetMinimumSize:]
	switch ethernet.Type() {
	case header.ARPProtocolNumber:
		return p.admitsARP(header.ARP(payload))
	case header.IPv4ProtocolNumber:
		return p.admitsIPv4(header.IPv4(payload))
	}
	return false
}

func (p *Port) admitsARP(packet header.ARP) bool {
	if !packet.IsValid() || !bytes.Equal(packet.HardwareAddressSender(), p.mac) {
		return false
	}
	sender, _ := netip.AddrFromSlice(packet.ProtocolAddressSender())
	return sender == p.ip || sender.IsUnspecified() // an unspecified sender probes for a conflict
}

func (p *Port) admitsIPv4(packet header.IPv4) bool {
	if !packet.IsValid(len(packet)) {
		return false
	}
	from := netip.AddrFrom4(packet.SourceAddress().As4())
	to := netip.AddrFrom4(packet.DestinationAddress().As4())
	broadcast := to == netip.AddrFrom4([4]byte{255, 255, 255, 255})
	if from.IsUnspecified() || broadcast {
		return (from.IsUnspecified() || from == p.ip) && isDHCP(packet)
	}
	if from != p.ip || to.IsMulticast() {
		return false
	}
	switch packet.TransportProtocol() {
	case header.TCPProtocolNumber, header.UDPProtocolNumber:
		return true
	case header.ICMPv4ProtocolNumber:
		switch to.String() {
		case GatewayIP, MetadataIP, ResolverIP:
			return true
		}
	}
	return false
}

func isDHCP(packet header.IPv4) bool {
	if packet.TransportProtocol() != header.UDPProtocolNumber || packet.FragmentOffset() != 0 {
		return false
	}
	datagram := header.UDP(packet.Payload())
	return len(datagram) >= header.UDPMinimumSize && datagram.DestinationPort() == dhcpServerPort
}
