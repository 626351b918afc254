package dns

import (
	"context"
	"testing"

	"github.com/miekg/dns"

	"github.com/larboard-proxy/larboard/discovery"
)

// Whatever a resolver sends, what comes of it is bounded, in order and can be
// called, or is an error.
func FuzzAnswer(f *testing.F) {
	z := &zone{}
	z.set(f, "web.test. 60 IN A 10.0.0.1", "a.test. 20 IN CNAME web.test.", "_w._tcp.test. 60 IN SRV 1 5 8080 web.test.", "test. 100 IN SOA ns.test. root.test. 1 2 3 4 300")
	for _, name := range []string{"web.test.", "a.test.", "_w._tcp.test.", "no.test."} {
		for _, kind := range types {
			wire, err := z.reply(new(dns.Msg).SetQuestion(name, kind)).Pack()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(wire)
		}
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		m := new(dns.Msg)
		if m.Unpack(wire) != nil {
			return
		}
		name := "web.test."
		if len(m.Question) > 0 {
			name = m.Question[0].Name
		}
		queries := 0
		ask := func(context.Context, string, string, uint16) (*dns.Msg, error) {
			queries++
			return m, nil
		}
		for kind := range types {
			s := newTest(t, Options{Name: "web.test", Type: kind, Port: 80}, ask)
			s.options.Name = name
			queries = 0
			found, err := s.find(t.Context())
			if queries > maxQueries*(maxChain+1) {
				t.Errorf("%d queries", queries)
			}
			if err != nil {
				continue
			}
			if len(found.endpoints) > maxEndpoints || len(found.endpoints) == 0 != (found.why != "") || found.ttl < 0 {
				t.Errorf("%d endpoints, %q, TTL %v", len(found.endpoints), found.why, found.ttl)
			}
			if wait := s.lifetime(found); wait < s.options.MinTTL || wait > s.options.MaxTTL*11/10 {
				t.Errorf("asks again after %v", wait)
			}
			for i, e := range found.endpoints {
				if err := discovery.CheckAddress(e.Address); err != nil || e.Weight < 1 || e.Weight > 65535 {
					t.Errorf("%+v: %v", e, err)
				}
				if i > 0 && found.endpoints[i-1].Address >= e.Address {
					t.Errorf("%s is not in order", e.Address)
				}
			}
		}
	})
}
