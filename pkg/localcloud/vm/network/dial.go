package network

import (
	"context"
	"fmt"
	"net"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
)

// Dial connects from the gateway to a TCP port of a guest.
func (n *Network) Dial(ctx context.Context, ip string, port uint16) (net.Conn, error) {
	from := tcpip.FullAddress{NIC: nicID, Addr: address(GatewayIP)}
	to := tcpip.FullAddress{NIC: nicID, Addr: address(ip), Port: port}
	conn, err := gonet.DialTCPWithBind(ctx, n.stack, from, to, ipv4.ProtocolNumber)
	if err != nil {
		return nil, fmt.Errorf("connect to port %d of guest %s: %w", port, ip, err)
	}
	return conn, nil
}
