package dns

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// zone answers from records in their text form, as a resolver does.
type zone struct {
	mu      sync.Mutex // guards what follows
	records []dns.RR
	rcode   int
	err     error
	asked   []string // NAME TYPE of each query
}

// set replaces the records.
func (z *zone) set(t testing.TB, records ...string) {
	t.Helper()
	z.mu.Lock()
	defer z.mu.Unlock()
	z.records, z.rcode, z.err = nil, dns.RcodeSuccess, nil
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil || rr == nil {
			t.Fatalf("%q: %v", text, err)
		}
		z.records = append(z.records, rr)
	}
}

// fail makes the resolver unable to tell.
func (z *zone) fail(rcode int, err error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.rcode, z.err = rcode, err
}

func (z *zone) queries() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return len(z.asked)
}

// reply answers a query: the chain of aliases with its end, the addresses of SRV
// targets beside, a SOA where there is nothing.
func (z *zone) reply(q *dns.Msg) *dns.Msg {
	z.mu.Lock()
	defer z.mu.Unlock()
	m := new(dns.Msg).SetRcode(q, z.rcode)
	name, kind := q.Question[0].Name, q.Question[0].Qtype
	z.asked = append(z.asked, name+" "+dns.TypeToString[kind])
	if z.rcode != dns.RcodeSuccess {
		return m
	}
	exists := false
	for range 20 {
		alias := ""
		for _, rr := range z.records {
			h := rr.Header()
			if !strings.EqualFold(h.Name, name) {
				continue
			}
			exists = true
			if c, ok := rr.(*dns.CNAME); ok {
				alias = c.Target
			}
			if h.Rrtype == kind || h.Rrtype == dns.TypeCNAME {
				m.Answer = append(m.Answer, rr)
			}
		}
		if alias == "" {
			break
		}
		name, exists = alias, false
	}
	for _, rr := range z.records {
		if rr.Header().Rrtype == dns.TypeSOA && (len(m.Answer) == 0 || !exists) {
			m.Ns = append(m.Ns, rr)
		}
		for _, answer := range m.Answer {
			if srv, ok := answer.(*dns.SRV); ok && rr.Header().Name == srv.Target && rr.Header().Ttl != 77 {
				m.Extra = append(m.Extra, rr) // a TTL of 77 says: not beside
			}
		}
	}
	if !exists {
		m.Rcode = dns.RcodeNameError
	}
	return m
}

// ask is an exchanger without a network. It goes through the wire format.
func (z *zone) ask(ctx context.Context, server, name string, kind uint16) (*dns.Msg, error) {
	m := z.reply(new(dns.Msg).SetQuestion(name, kind))
	z.mu.Lock()
	err := errors.Join(z.err, ctx.Err())
	z.mu.Unlock()
	if err != nil {
		return nil, err
	}
	wire, err := m.Pack()
	if err != nil {
		return nil, err
	}
	again := new(dns.Msg)
	return again, again.Unpack(wire)
}
