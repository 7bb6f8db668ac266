package network_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/network"
)

const (
	guestMAC = "0a:ff:ac:1f:10:14"
	guestIP  = "172.31.16.20"
	otherMAC = "0a:ff:ac:1f:10:15"
	otherIP  = "172.31.16.21"
)

// testNetwork starts a network that knows the given mirrors.
func testNetwork(t *testing.T, opts network.Options, mirrors ...string) *network.Network {
	t.Helper()
	opts.Apt.Mirrors = map[string]*url.URL{}
	for _, host := range mirrors {
		opts.Apt.Mirrors[host] = &url.URL{Scheme: "http", Host: host}
	}
	if opts.CacheDir == "" {
		opts.CacheDir = t.TempDir()
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	n, err := network.New(opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	return n
}

// wire connects a port of the network with a test's end that speaks QEMU's protocol.
func wire(t *testing.T, n *network.Network, guest network.Guest) network.Link {
	t.Helper()
	ours, theirs := net.Pipe()
	_, err := n.Attach(guest, network.NewStreamLink(theirs))
	require.NoError(t, err)
	link := network.NewStreamLink(ours)
	t.Cleanup(func() { _ = link.Close() })
	return link
}

// testGuest is a guest's operating system, as far as its network goes: a second
// userspace stack.
type testGuest struct {
	stack *stack.Stack
}

// newGuest attaches a guest. It uses mac and ip, whatever the network expects.
func newGuest(t *testing.T, n *network.Network, expected network.Guest, mac, ip string) *testGuest {
	t.Helper()
	link := wire(t, n, expected)
	hardware, err := net.ParseMAC(mac)
	require.NoError(t, err)
	endpoint := channel.New(256, network.MTU, tcpip.LinkAddress(hardware))
	endpoint.LinkEPCapabilities = stack.CapabilityResolutionRequired
	g := &testGuest{stack: stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
	})}
	require.Nil(t, g.stack.CreateNIC(1, ethernet.New(endpoint)))
	require.Nil(t, g.stack.AddProtocolAddress(1, tcpip.ProtocolAddress{
		Protocol:          ipv4.ProtocolNumber,
		AddressWithPrefix: tcpip.AddressWithPrefix{Address: address(ip), PrefixLen: 16},
	}, stack.AddressProperties{}))
	g.stack.SetRouteTable([]tcpip.Route{
		{Destination: tcpip.AddressWithPrefix{Address: address("172.31.0.0"), PrefixLen: 16}.Subnet(), NIC: 1},
		{Destination: header.IPv4EmptySubnet, Gateway: address(network.GatewayIP), NIC: 1},
	})
	ctx, cancel := context.WithCancel(context.Background())
	go func() { // out
		for {
			packet := endpoint.ReadContext(ctx)
			if packet == nil {
				return
			}
			err := link.WriteFrame(packet.ToView().AsSlice())
			packet.DecRef()
			if err != nil {
				return
			}
		}
	}()
	go func() { // in
		buf := make([]byte, 1<<17)
		for {
			size, err := link.ReadFrame(buf)
			if err != nil {
				return
			}
			packet := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(bytes.Clone(buf[:size]))})
			endpoint.InjectInbound(0, packet)
			packet.DecRef()
		}
	}()
	t.Cleanup(func() {
		cancel()
		_ = link.Close()
		g.stack.Close()
	})
	return g
}

func address(ip string) tcpip.Address { return tcpip.AddrFrom4(netip.MustParseAddr(ip).As4()) }

func (g *testGuest) dial(ctx context.Context, to string) (net.Conn, error) {
	at := netip.MustParseAddrPort(to)
	return gonet.DialContextTCP(ctx, g.stack, tcpip.FullAddress{NIC: 1, Addr: address(at.Addr().String()), Port: at.Port()}, ipv4.ProtocolNumber)
}

// get asks for a path of a host name at an address, as a guest does after DNS.
func (g *testGuest) get(t *testing.T, at, host, path string, header ...string) (int, string) {
	t.Helper()
	conn, err := g.dial(t.Context(), at)
	require.NoError(t, err)
	defer conn.Close()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+host+path, nil)
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	require.NoError(t, request.Write(conn))
	response, err := http.ReadResponse(bufio.NewReader(conn), request)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return response.StatusCode, "broken off: " + err.Error()
	}
	return response.StatusCode, string(body)
}
