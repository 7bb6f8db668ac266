// Package network is the network of guests: a userspace TCP/IP stack in this
// process that only reaches the services below. A guest finds
//
//   - its own instance metadata at http://169.254.169.254, distinguished by its address;
//   - DHCP and DNS, where every name is the gateway's address;
//   - on the gateway, by the Host of the request, the embedded AWS
//     (localcloud.internal), hosts that this process serves itself, and the
//     hosts of this machine's apt configuration, through a cache.
//
// Everything else is refused: connections to other addresses and ports are
// reset, other hosts get 403, and guests cannot reach each other. Frames without
// the guest's own MAC and IP address are dropped.
package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containers/gvisor-tap-vsock/pkg/services/dhcp"
	"github.com/containers/gvisor-tap-vsock/pkg/tap"
	"github.com/containers/gvisor-tap-vsock/pkg/types"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// Addresses of the network. They are those of EC2's default VPC if it has such
// an address.
const (
	Subnet     = "172.31.0.0/16"
	GatewayIP  = "172.31.0.1"
	MetadataIP = "169.254.169.254"
	// ResolverIP is EC2's second address of DNS, in addition to the VPC's own.
	ResolverIP = "169.254.169.253"
	// LocalHost is the name under which guests reach the embedded AWS.
	LocalHost = "localcloud.internal"
	// MTU is the MTU of a VPC.
	MTU = 9001

	gatewayMAC   = "0a:00:ac:1f:00:01"
	searchDomain = "ec2.internal"
	nicID        = 1
)

// Options configures a Network.
type Options struct {
	// Local serves requests for LocalHost. If it is nil, they get 403.
	Local http.Handler
	// Hosts are more names, in lower case, that handlers of this process serve on
	// port 80. They take precedence over mirrors of the same name.
	Hosts map[string]http.Handler
	// Apt lists the mirrors that guests may use; see HostAptSources.
	Apt AptSources
	// CacheDir keeps files from mirrors; it is created if it does not exist.
	CacheDir string
	// Upstream fetches from mirrors. If it is nil, a transport with Apt's proxies
	// does.
	Upstream http.RoundTripper
	Log      *slog.Logger // nil for slog.Default
}

// Network is a network of guests. Its methods are safe for concurrent use.
type Network struct {
	log      *slog.Logger
	stack    *stack.Stack
	endpoint *tap.LinkEndpoint
	pool     *tap.IPPool
	dhcp     *dhcp.Server
	dns      *resolver
	servers  []*http.Server
	serving  sync.WaitGroup

	mu    sync.Mutex
	ports map[tcpip.LinkAddress]*Port
	byIP  map[netip.Addr]*Port
}

// New starts a network.
func New(opts Options) (*Network, error) {
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	n := &Network{
		log:   opts.Log,
		ports: map[tcpip.LinkAddress]*Port{},
		byIP:  map[netip.Addr]*Port{},
	}
	if err := n.start(opts); err != nil {
		return nil, errors.Join(fmt.Errorf("start guest network: %w", err), n.Close())
	}
	return n, nil
}

func (n *Network) start(opts Options) error {
	for name := range opts.Hosts {
		if name == LocalHost || name != strings.ToLower(name) || strings.ContainsAny(name, ":/ ") || !strings.Contains(name, ".") {
			return fmt.Errorf("host %q cannot be served: a name in small letters with a dot, other than %s, is expected", name, LocalHost)
		}
	}
	mirrors, err := newMirrors(opts)
	if err != nil {
		return err
	}
	if err := n.startStack(); err != nil {
		return err
	}
	if err := n.startDHCP(); err != nil {
		return err
	}
	if n.dns, err = startResolver(n.stack); err != nil {
		return err
	}
	if err := n.serve(MetadataIP, 80, http.HandlerFunc(n.serveMetadata)); err != nil {
		return err
	}
	gateway := &gateway{local: opts.Local, hosts: opts.Hosts, mirrors: mirrors}
	ports := append([]uint16{80}, opts.Apt.ports()...)
	slices.Sort(ports)
	for _, port := range slices.Compact(ports) {
		if err := n.serve(GatewayIP, port, gateway); err != nil {
			return err
		}
	}
	return nil
}

func (n *Network) startStack() error {
	endpoint, err := tap.NewLinkEndpoint(false, MTU, gatewayMAC, GatewayIP, []string{MetadataIP, ResolverIP})
	if err != nil {
		return err
	}
	endpoint.Connect(n)
	n.endpoint = endpoint
	n.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
	})
	if err := n.stack.CreateNIC(nicID, endpoint); err != nil {
		return errors.New(err.String())
	}
	for _, ip := range []string{GatewayIP, MetadataIP, ResolverIP} {
		address := tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: address(ip).WithPrefix()}
		if err := n.stack.AddProtocolAddress(nicID, address, stack.AddressProperties{}); err != nil {
			return errors.New(err.String())
		}
	}
	// The stack answers for every address, so that it resets connections without a
	// listener at once instead of letting the guest wait. There is no forwarder.
	n.stack.SetPromiscuousMode(nicID, true)
	n.stack.SetSpoofing(nicID, true)

	sack := tcpip.TCPSACKEnabled(true)
	if err := n.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &sack); err != nil {
		return errors.New(err.String())
	}
	_, subnet, err := net.ParseCIDR(Subnet)
	if err != nil {
		return err
	}
	destination, err := tcpip.NewSubnet(tcpip.AddrFromSlice(subnet.IP), tcpip.MaskFromBytes(subnet.Mask))
	if err != nil {
		return err
	}
	n.stack.SetRouteTable([]tcpip.Route{{Destination: destination, NIC: nicID}})
	n.pool = tap.NewIPPool(subnet)
	n.pool.Reserve(net.ParseIP(GatewayIP), gatewayMAC)
	return nil
}

func (n *Network) startDHCP() error {
	server, err := dhcp.New(&types.Configuration{
		Subnet: Subnet, GatewayIP: GatewayIP, MTU: MTU, DNSSearchDomains: []string{searchDomain},
	}, n.stack, n.pool)
	if err != nil {
		return fmt.Errorf("dhcp: %w", err)
	}
	n.dhcp = server
	n.serving.Go(func() { _ = server.Serve() }) // returns when Close closes its socket
	return nil
}

// serve starts an HTTP server inside the network.
func (n *Network) serve(ip string, port uint16, h http.Handler) error {
	listener, err := gonet.ListenTCP(n.stack, tcpip.FullAddress{NIC: nicID, Addr: address(ip), Port: port}, ipv4.ProtocolNumber)
	if err != nil {
		return fmt.Errorf("listen on %s:%d inside the network: %w", ip, port, err)
	}
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(n.log.Handler(), slog.LevelDebug),
	}
	n.servers = append(n.servers, server)
	n.serving.Go(func() { _ = server.Serve(listener) }) // returns when Close closes it
	return nil
}

// serveMetadata passes the request to the metadata service of the guest that
// sends it.
func (n *Network) serveMetadata(w http.ResponseWriter, r *http.Request) {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		http.Error(w, "unknown guest", http.StatusForbidden)
		return
	}
	n.mu.Lock()
	port := n.byIP[from.Addr().Unmap()]
	n.mu.Unlock()
	if port == nil || port.guest.Metadata == nil {
		http.Error(w, "no instance metadata for "+from.Addr().String(), http.StatusNotFound)
		return
	}
	port.guest.Metadata.ServeHTTP(w, r)
}

// Close ends the network and disconnects guests that are still attached.
func (n *Network) Close() error {
	n.mu.Lock()
	ports := make([]*Port, 0, len(n.ports))
	for _, port := range n.ports {
		ports = append(ports, port)
	}
	n.mu.Unlock()
	for _, port := range ports {
		port.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for _, server := range n.servers {
		if err := server.Shutdown(ctx); err != nil {
			_ = server.Close() // what has not ended by itself
		}
	}
	if n.dhcp != nil {
		_ = n.dhcp.Underlying.Close()
	}
	if n.dns != nil {
		n.dns.close()
	}
	n.serving.Wait()
	if n.stack != nil {
		n.stack.Close()
		n.stack.Wait()
	}
	return nil
}

func address(ip string) tcpip.Address {
	return tcpip.AddrFrom4(netip.MustParseAddr(ip).As4())
}
