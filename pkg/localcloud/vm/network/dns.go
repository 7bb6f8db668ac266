package network

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"

	"github.com/miekg/dns"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

const (
	dnsPort = 53
	dnsTTL  = 60 // seconds
)

// resolver is the guests' name server. It does not ask other servers.
type resolver struct {
	servers []*dns.Server
	serving sync.WaitGroup
}

// startResolver serves DNS on both resolver addresses, over UDP and TCP.
func startResolver(s *stack.Stack) (*resolver, error) {
	r := &resolver{}
	for _, ip := range []string{GatewayIP, ResolverIP} {
		at := tcpip.FullAddress{NIC: nicID, Addr: address(ip), Port: dnsPort}
		packets, err := gonet.DialUDP(s, &at, nil, ipv4.ProtocolNumber)
		if err != nil {
			return r, fmt.Errorf("dns: %w", err)
		}
		r.serve(&dns.Server{PacketConn: packets, Handler: dns.HandlerFunc(answer)})
		listener, err := gonet.ListenTCP(s, at, ipv4.ProtocolNumber)
		if err != nil {
			return r, fmt.Errorf("dns: %w", err)
		}
		r.serve(&dns.Server{Listener: listener, Handler: dns.HandlerFunc(answer)})
	}
	return r, nil
}

func (r *resolver) serve(server *dns.Server) {
	started := make(chan struct{})
	server.NotifyStartedFunc = func() { close(started) }
	r.servers = append(r.servers, server)
	r.serving.Go(func() { _ = server.ActivateAndServe() }) // returns at Shutdown
	<-started                                              // otherwise Shutdown may come too early
}

func (r *resolver) close() {
	for _, server := range r.servers {
		_ = server.Shutdown()
		if server.PacketConn != nil {
			_ = server.PacketConn.Close()
		}
	}
	r.serving.Wait()
}

// answer returns the gateway's address for every A query, except for private DNS
// names of instances, which have their own addresses. For other types it answers
// NOERROR without records, so that an AAAA query does not make the A query next
// to it fail.
func answer(w dns.ResponseWriter, query *dns.Msg) {
	reply := new(dns.Msg)
	reply.SetReply(query)
	reply.RecursionAvailable = true
	for _, q := range query.Question {
		if q.Qtype != dns.TypeA || q.Qclass != dns.ClassINET {
			continue
		}
		reply.Answer = append(reply.Answer, &dns.A{
			Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: dnsTTL},
			A:   lookup(q.Name),
		})
	}
	// This only fails if the guest has disconnected.
	_ = w.WriteMsg(reply)
}

// lookup returns the address of name: for ip-172-31-0-9.<domain> the address in
// the name, otherwise the gateway's.
func lookup(name string) net.IP {
	label, _, _ := strings.Cut(strings.ToLower(name), ".")
	if dashed, ok := strings.CutPrefix(label, "ip-"); ok {
		ip, err := netip.ParseAddr(strings.ReplaceAll(dashed, "-", "."))
		if err == nil && netip.MustParsePrefix(Subnet).Contains(ip) {
			return ip.AsSlice()
		}
	}
	return net.ParseIP(GatewayIP).To4()
}
