package network_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/miekg/dns"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/network"
)

func says(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "%s %s", text, r.URL.Path) })
}

func one(metadata http.Handler) network.Guest {
	return network.Guest{MAC: guestMAC, IP: guestIP, Metadata: metadata}
}

func other(metadata http.Handler) network.Guest {
	return network.Guest{MAC: otherMAC, IP: otherIP, Metadata: metadata}
}

func TestMetadataIsTheGuestsOwn(t *testing.T) {
	n := testNetwork(t, network.Options{})
	a := newGuest(t, n, one(says("one")), guestMAC, guestIP)
	b := newGuest(t, n, other(says("other")), otherMAC, otherIP)

	_, body := a.get(t, "169.254.169.254:80", "169.254.169.254", "/latest")
	assert.Equal(t, "one /latest", body)
	_, body = b.get(t, "169.254.169.254:80", "169.254.169.254", "/latest")
	assert.Equal(t, "other /latest", body)
}

func TestGatewayServesByHost(t *testing.T) {
	n := testNetwork(t, network.Options{Local: says("aws")}, "mirror.example")
	g := newGuest(t, n, one(nil), guestMAC, guestIP)
	for name, c := range map[string]struct {
		host   string
		status int
		body   string
	}{
		"the embedded AWS":                {"localcloud.internal", 200, "aws /x"},
		"its name in any case, with port": {"LocalCloud.internal:80", 200, "aws /x"},
		"any other host is refused, and the answer says what is not": {"example.com", 403,
			"example.com cannot be reached from a guest: guests reach localcloud.internal, and the package mirrors of the host's apt configuration (mirror.example)\n"},
		"nor is the gateway a host": {network.GatewayIP, 403, ""},
	} {
		t.Run(name, func(t *testing.T) {
			status, body := g.get(t, network.GatewayIP+":80", c.host, "/x")
			assert.Equal(t, c.status, status)
			if c.body != "" {
				assert.Equal(t, c.body, body)
			}
		})
	}
}

func TestHostsOfThisProcessAreServedInIt(t *testing.T) {
	n := testNetwork(t, network.Options{
		Local: says("aws"), Hosts: map[string]http.Handler{"vendors.localcloud.internal": says("vendors"), "mirror.example": says("before the mirror")},
	}, "mirror.example")
	g := newGuest(t, n, one(nil), guestMAC, guestIP)
	for name, c := range map[string]struct {
		host   string
		status int
		body   string
	}{
		"by name":                        {"vendors.localcloud.internal", 200, "vendors /x"},
		"in any case, with port":         {"Vendors.LocalCloud.internal:80", 200, "vendors /x"},
		"before a mirror of that name":   {"mirror.example", 200, "before the mirror /x"},
		"not on another port":            {"vendors.localcloud.internal:8080", 403, ""},
		"not below it":                   {"a.vendors.localcloud.internal", 403, ""},
		"and the embedded AWS beside it": {"localcloud.internal", 200, "aws /x"},
		"others are told what there is":  {"example.com", 403, "example.com cannot be reached from a guest: guests reach localcloud.internal, mirror.example, vendors.localcloud.internal, and the package mirrors of the host's apt configuration (mirror.example)\n"},
	} {
		t.Run(name, func(t *testing.T) {
			status, body := g.get(t, network.GatewayIP+":80", c.host, "/x")
			assert.Equal(t, c.status, status)
			if c.body != "" {
				assert.Equal(t, c.body, body)
			}
		})
	}
	for _, name := range []string{"localcloud.internal", "Vendors.internal", "vendors.internal:80", "vendors"} {
		_, err := network.New(network.Options{Hosts: map[string]http.Handler{name: says("x")}, CacheDir: t.TempDir()})
		assert.ErrorContains(t, err, "cannot be served", name)
	}
}

func TestConnectionsElsewhereAreReset(t *testing.T) {
	n := testNetwork(t, network.Options{})
	g := newGuest(t, n, one(nil), guestMAC, guestIP)
	// A real listener of this machine: if anything were forwarded, it would answer.
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	require.NoError(t, err)

	for name, to := range map[string]string{
		"an address of the world":         "203.0.113.7:80",
		"this machine":                    "127.0.0.1:" + port,
		"the gateway on this port":        network.GatewayIP + ":" + port,
		"another port of the gateway":     network.GatewayIP + ":443",
		"another port of the metadata":    network.MetadataIP + ":8080",
		"another address of the metadata": "169.254.169.123:80",
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			conn, err := g.dial(ctx, to)
			if !assert.Error(t, err) {
				conn.Close()
			}
			assert.NoError(t, ctx.Err(), "it is refused, not left to wait")
		})
	}
}

func TestGuestsCannotUseAddressesOfOthers(t *testing.T) {
	for name, c := range map[string]struct{ mac, ip string }{
		"another's IP address":  {guestMAC, otherIP},
		"another's MAC address": {otherMAC, guestIP},
	} {
		t.Run(name, func(t *testing.T) {
			n := testNetwork(t, network.Options{})
			thief := newGuest(t, n, one(says("one")), c.mac, c.ip)
			newGuest(t, n, other(says("other")), otherMAC, otherIP)
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			_, err := thief.dial(ctx, "169.254.169.254:80")
			assert.Error(t, err)
		})
	}
}

func TestAttachRefuses(t *testing.T) {
	n := testNetwork(t, network.Options{})
	wire(t, n, one(nil))
	for name, guest := range map[string]network.Guest{
		"an address in use":                 {MAC: otherMAC, IP: guestIP},
		"a MAC address in use":              {MAC: guestMAC, IP: otherIP},
		"the gateway's address":             {MAC: otherMAC, IP: network.GatewayIP},
		"an address outside of the network": {MAC: otherMAC, IP: "10.0.0.1"},
		"no address":                        {MAC: otherMAC},
		"no MAC address":                    {IP: otherIP},
	} {
		t.Run(name, func(t *testing.T) {
			_, end := net.Pipe()
			defer end.Close()
			_, err := n.Attach(guest, network.NewStreamLink(end))
			assert.Error(t, err)
		})
	}
}

func TestAddressIsFreeAgainAfterClose(t *testing.T) {
	n := testNetwork(t, network.Options{})
	_, end := net.Pipe()
	port, err := n.Attach(one(nil), network.NewStreamLink(end))
	require.NoError(t, err)
	port.Close()
	wire(t, n, one(nil))
}

func TestNames(t *testing.T) {
	n := testNetwork(t, network.Options{})
	g := newGuest(t, n, one(nil), guestMAC, guestIP)
	for name, c := range map[string]struct {
		question string
		qtype    uint16
		want     string // empty: no records
	}{
		"a name of the world is the gateway":       {"mirror.example.com.", dns.TypeA, network.GatewayIP},
		"the embedded AWS is the gateway":          {"localcloud.internal.", dns.TypeA, network.GatewayIP},
		"an instance's private name is its own":    {"ip-172-31-16-21.ec2.internal.", dns.TypeA, otherIP},
		"a name like one outside of the network":   {"ip-10-0-0-1.ec2.internal.", dns.TypeA, network.GatewayIP},
		"there are no addresses of version 6":      {"mirror.example.com.", dns.TypeAAAA, ""},
		"other types are not asked of anyone else": {"mirror.example.com.", dns.TypeTXT, ""},
	} {
		for _, server := range []string{network.GatewayIP, network.ResolverIP} {
			t.Run(name+" at "+server, func(t *testing.T) {
				to := tcpip.FullAddress{NIC: 1, Addr: address(server), Port: 53}
				conn, err := gonet.DialUDP(g.stack, nil, &to, ipv4.ProtocolNumber)
				require.NoError(t, err)
				defer conn.Close()
				query := new(dns.Msg).SetQuestion(c.question, c.qtype)
				exchange := dns.Conn{Conn: conn}
				require.NoError(t, exchange.WriteMsg(query))
				reply, err := exchange.ReadMsg()
				require.NoError(t, err)
				assert.Equal(t, dns.RcodeSuccess, reply.Rcode)
				if c.want == "" {
					assert.Empty(t, reply.Answer)
					return
				}
				require.Len(t, reply.Answer, 1)
				assert.Equal(t, c.want, reply.Answer[0].(*dns.A).A.String())
			})
		}
	}
}

func TestLeaseIsTheAddressOfTheInstance(t *testing.T) {
	n := testNetwork(t, network.Options{})
	link := wire(t, n, one(nil))
	mac, err := net.ParseMAC(guestMAC)
	require.NoError(t, err)
	discover, err := dhcpv4.NewDiscovery(mac, dhcpv4.WithBroadcast(true))
	require.NoError(t, err)
	require.NoError(t, link.WriteFrame(dhcpFrame(mac, discover.ToBytes())))

	buf := make([]byte, 1<<17)
	for {
		size, err := link.ReadFrame(buf)
		require.NoError(t, err)
		if header.Ethernet(buf).Type() != header.IPv4ProtocolNumber {
			continue
		}
		packet := header.IPv4(buf[header.EthernetMinimumSize:size])
		offer, err := dhcpv4.FromBytes(header.UDP(packet.Payload()).Payload())
		require.NoError(t, err)
		assert.Equal(t, dhcpv4.MessageTypeOffer, offer.MessageType())
		assert.Equal(t, guestIP, offer.YourIPAddr.String())
		assert.Equal(t, network.GatewayIP, offer.Router()[0].String())
		assert.Equal(t, network.GatewayIP, offer.DNS()[0].String())
		return
	}
}

// dhcpFrame is a message from a client that has no address yet.
func dhcpFrame(mac net.HardwareAddr, message []byte) []byte {
	length := header.EthernetMinimumSize + header.IPv4MinimumSize + header.UDPMinimumSize + len(message)
	frame := make([]byte, length)
	header.Ethernet(frame).Encode(&header.EthernetFields{
		SrcAddr: tcpip.LinkAddress(mac), DstAddr: header.EthernetBroadcastAddress, Type: header.IPv4ProtocolNumber,
	})
	packet := header.IPv4(frame[header.EthernetMinimumSize:])
	nobody, all := tcpip.AddrFrom4([4]byte{}), tcpip.AddrFrom4(netip.MustParseAddr("255.255.255.255").As4())
	packet.Encode(&header.IPv4Fields{
		TotalLength: uint16(len(packet)), TTL: 64, Protocol: uint8(header.UDPProtocolNumber), SrcAddr: nobody, DstAddr: all,
	})
	packet.SetChecksum(^packet.CalculateChecksum())
	datagram := header.UDP(packet.Payload())
	datagram.Encode(&header.UDPFields{SrcPort: 68, DstPort: 67, Length: uint16(len(datagram))})
	copy(datagram.Payload(), message)
	sum := header.PseudoHeaderChecksum(header.UDPProtocolNumber, nobody, all, uint16(len(datagram)))
	datagram.SetChecksum(^datagram.CalculateChecksum(checksum.Checksum(message, sum)))
	return frame
}
