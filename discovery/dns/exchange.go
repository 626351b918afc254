package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	// queryTime bounds one query to one resolver over one transport.
	queryTime = 2 * time.Second
	// udpSize is offered by EDNS0: what passes without fragments (DNS flag day 2020).
	udpSize = 1232
	// doubtful is the size in bytes from which a datagram is not believed to be the
	// whole answer: Consul, as it comes, shortens answers to fit and does not say so.
	doubtful = udpSize / 2
	// maxStrays bounds the datagrams read while waiting for the answer: others may
	// send what is not one.
	maxStrays = 64
)

// exchanger asks a resolver once. It blocks until there is an answer to the question,
// for a few times queryTime at most.
type exchanger func(ctx context.Context, server, name string, kind uint16) (*dns.Msg, error)

// exchange asks over UDP, over TCP where the answer does not fit (RFC 7766 section
// 5) or may not have fitted, and without EDNS0 where the resolver does not know it
// (RFC 6891 section 7).
func exchange(ctx context.Context, server, name string, kind uint16) (*dns.Msg, error) {
	query := new(dns.Msg).SetQuestion(name, kind)
	query.SetEdns0(udpSize, false)
	m, size, err := once(ctx, "udp", server, query)
	if err == nil && refusesEDNS(m) {
		query = new(dns.Msg).SetQuestion(name, kind)
		m, size, err = once(ctx, "udp", server, query)
	}
	if err != nil || !m.Truncated && size < doubtful {
		return m, err
	}
	query.Id = dns.Id()
	whole, _, err := once(ctx, "tcp", server, query)
	if err != nil && !m.Truncated {
		return m, nil // no TCP there: what came has to do
	}
	return whole, err
}

func refusesEDNS(m *dns.Msg) bool {
	return (m.Rcode == dns.RcodeFormatError || m.Rcode == dns.RcodeNotImplemented) && m.IsEdns0() == nil
}

// once sends a query over a socket of its own, whose port the system draws, and
// waits for its answer; size is that of the message on the wire.
func once(ctx context.Context, network, server string, query *dns.Msg) (m *dns.Msg, size int, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, network, server)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", server, err)
	}
	defer raw.Close()
	defer context.AfterFunc(ctx, func() { raw.Close() })()
	conn := &dns.Conn{Conn: raw}
	if err = conn.WriteMsg(query); err == nil {
		if m, size, err = await(conn, query); err == nil {
			return m, size, nil
		}
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("no answer within %v", queryTime)
	}
	return nil, 0, fmt.Errorf("%s (%s): %w", server, network, err)
}

var errStrays = errors.New("too much that is no answer to the question")

// await reads until the answer to query has come. What cannot be read, and what
// answers another question or has another id, is passed over.
func await(conn *dns.Conn, query *dns.Msg) (*dns.Msg, int, error) {
	buffer := make([]byte, dns.MaxMsgSize)
	for range maxStrays {
		n, err := conn.Read(buffer)
		if err != nil {
			return nil, 0, err
		}
		m := new(dns.Msg)
		if m.Unpack(buffer[:n]) == nil && answers(m, query) {
			return m, n, nil
		}
	}
	return nil, 0, errStrays
}

// answers reports whether m is an answer to query. Resolvers that do not understand
// a query may leave the question out.
func answers(m, query *dns.Msg) bool {
	if !m.Response || m.Id != query.Id || m.Opcode != dns.OpcodeQuery {
		return false
	}
	if len(m.Question) == 0 {
		return m.Rcode == dns.RcodeFormatError || m.Rcode == dns.RcodeNotImplemented
	}
	want, got := query.Question[0], m.Question[0]
	return len(m.Question) == 1 && got.Qtype == want.Qtype && got.Qclass == want.Qclass && strings.EqualFold(got.Name, want.Name)
}
