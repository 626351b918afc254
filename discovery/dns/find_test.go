package dns

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/larboard-proxy/larboard/discovery"
)

func newTest(t testing.TB, o Options, ask exchanger) *source {
	t.Helper()
	if o.Resolvers == nil {
		o.Resolvers = []string{"192.0.2.53"}
	}
	if err := o.complete(); err != nil {
		t.Fatal(err)
	}
	s := newSource(o)
	s.ask, s.rand = ask, func() float64 { return 0 }
	return s
}

func addressesOf(endpoints []discovery.Endpoint) string {
	var all []string
	for _, e := range endpoints {
		text := e.Address
		if e.Weight != 1 {
			text += fmt.Sprintf("*%d", e.Weight)
		}
		all = append(all, text)
	}
	return strings.Join(all, " ")
}

const soa = "test. 600 IN SOA ns.test. root.test. 1 2 3 4 300"

func TestFind(t *testing.T) {
	chain := func(n int) (all []string) {
		for i := range n {
			all = append(all, fmt.Sprintf("c%d.test. 60 IN CNAME c%d.test.", i, i+1))
		}
		return append(all, fmt.Sprintf("c%d.test. 60 IN A 10.0.0.1", n))
	}
	for name, c := range map[string]struct {
		o       Options
		records []string
		want    string
		why     string // of an empty answer or an error
		ttl     time.Duration
	}{
		"addresses, sorted, each once": {Options{Name: "web.test"}, []string{"web.test. 60 IN A 10.0.0.2", "web.test. 30 IN A 10.0.0.1", "WEB.test. 60 IN A 10.0.0.2", "web.test. 5 IN AAAA ::1"},
			"10.0.0.1:80 10.0.0.2:80", "", 30 * time.Second},
		"upper case":        {Options{Name: "WEB.Test."}, []string{"web.test. 60 IN A 10.0.0.2"}, "10.0.0.2:80", "", time.Minute},
		"IPv6":              {Options{Name: "web.test", Type: "aaaa"}, []string{"web.test. 60 IN A 10.0.0.2", "web.test. 60 IN AAAA 2001:db8::1"}, "[2001:db8::1]:80", "", time.Minute},
		"mapped":            {Options{Name: "web.test", Type: "aaaa"}, []string{"web.test. 60 IN AAAA ::ffff:10.0.0.1"}, "10.0.0.1:80", "", time.Minute},
		"not to be called":  {Options{Name: "web.test"}, []string{"web.test. 60 IN A 0.0.0.0", "web.test. 60 IN A 224.0.0.1", "web.test. 60 IN A 255.255.255.255"}, "", "none of its records names an address", time.Minute},
		"alias":             {Options{Name: "a.test"}, []string{"a.test. 20 IN CNAME web.test.", "web.test. 60 IN A 10.0.0.2"}, "10.0.0.2:80", "", 20 * time.Second},
		"aliases":           {Options{Name: "c0.test"}, chain(8), "10.0.0.1:80", "", time.Minute},
		"too many aliases":  {Options{Name: "c0.test"}, chain(9), "", "more than 8 aliases", 0},
		"alias of itself":   {Options{Name: "a.test"}, []string{"a.test. 20 IN CNAME a.test."}, "", "more than 8 aliases", 0},
		"no such name":      {Options{Name: "no.test"}, []string{soa}, "", "no.test. does not exist (NXDOMAIN)", 300 * time.Second},
		"alias to nowhere":  {Options{Name: "a.test"}, []string{soa, "a.test. 20 IN CNAME no.test."}, "", "no.test. does not exist (NXDOMAIN)", 20 * time.Second},
		"no such record":    {Options{Name: "web.test"}, []string{"test. 100 IN SOA ns.test. root.test. 1 2 3 4 300", "web.test. 60 IN TXT hi"}, "", "web.test. has no A record", 100 * time.Second},
		"none, without SOA": {Options{Name: "web.test"}, []string{"web.test. 60 IN TXT hi"}, "", "web.test. has no A record", 0},
		"services": {Options{Name: "_w._tcp.test", Type: "srv"}, []string{"_w._tcp.test. 60 IN SRV 1 5 8080 b.test.", "_w._tcp.test. 60 IN SRV 1 0 8081 a.test.", "_w._tcp.test. 60 IN SRV 2 9 8082 c.test.",
			"a.test. 60 IN A 10.0.0.1", "b.test. 10 IN A 10.0.0.2", "c.test. 1 IN A 10.0.0.3"}, "10.0.0.1:8081 10.0.0.2:8080*5", "", 10 * time.Second},
		"services, addresses asked for": {Options{Name: "_w._tcp.test", Type: "srv"}, []string{"_w._tcp.test. 90 IN SRV 1 1 8080 b.test.", "b.test. 77 IN A 10.0.0.2"}, "10.0.0.2:8080", "", 77 * time.Second},
		"services on IPv6":              {Options{Name: "_w._tcp.test", Type: "srv"}, []string{"_w._tcp.test. 60 IN SRV 1 1 8080 b.test.", "b.test. 77 IN AAAA ::1", "test. 600 IN SOA ns.test. root.test. 1 2 3 4 300"}, "[::1]:8080", "", time.Minute},
		"a service's host is gone":      {Options{Name: "_w._tcp.test", Type: "srv"}, []string{soa, "_w._tcp.test. 60 IN SRV 1 1 8080 a.test.", "_w._tcp.test. 60 IN SRV 1 1 8080 b.test.", "b.test. 60 IN A 10.0.0.2"}, "10.0.0.2:8080", "", time.Minute},
		"no such service":               {Options{Name: "_w._tcp.test", Type: "srv"}, []string{"_w._tcp.test. 60 IN SRV 0 0 0 ."}, "", "none of its records", time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			z := &zone{}
			z.set(t, c.records...)
			if c.o.Type != "srv" {
				c.o.Port = 80
			}
			f, err := newTest(t, c.o, z.ask).find(t.Context())
			if err != nil {
				if c.why == "" || c.ttl != 0 || !strings.Contains(err.Error(), c.why) {
					t.Errorf("error %v, want %q", err, c.why)
				}
				return
			}
			if got := addressesOf(f.endpoints); got != c.want || f.ttl != c.ttl || c.why == "" != (f.why == "") || !strings.Contains(f.why, c.why) || f.via != "192.0.2.53:53" {
				t.Errorf("got %q, %q, TTL %v, via %s; want %q, %q, TTL %v", got, f.why, f.ttl, f.via, c.want, c.why, c.ttl)
			}
		})
	}
}

func TestFindIsBounded(t *testing.T) {
	var many, targets []string
	for i := range maxEndpoints + 10 {
		many = append(many, fmt.Sprintf("web.test. 60 IN A 10.0.%d.%d", i/256, i%256))
	}
	for i := range maxQueries {
		targets = append(targets, fmt.Sprintf("_w._tcp.test. 60 IN SRV 1 1 80 h%d.test.", i), fmt.Sprintf("h%d.test. 77 IN A 10.0.0.1", i))
	}
	z := &zone{}
	z.set(t, many...)
	f, err := newTest(t, Options{Name: "web.test", Port: 80}, z.ask).find(t.Context())
	if err != nil || len(f.endpoints) != maxEndpoints || !f.cut {
		t.Errorf("%d endpoints, cut %v, %v", len(f.endpoints), f.cut, err)
	}
	// One host with many services, and its address beside each of them.
	var one []string
	for i := range maxQueries {
		one = append(one, fmt.Sprintf("_w._tcp.test. 60 IN SRV 1 1 %d h.test.", i+1), "h.test. 60 IN A 10.0.0.1")
	}
	z.set(t, one...)
	f, err = newTest(t, Options{Name: "_w._tcp.test", Type: "srv"}, z.ask).find(t.Context())
	if err != nil || len(f.endpoints) != maxQueries {
		t.Errorf("%d endpoints, %v", len(f.endpoints), err)
	}
	z.set(t, targets...)
	if _, err = newTest(t, Options{Name: "_w._tcp.test", Type: "srv"}, z.ask).find(t.Context()); err == nil || !strings.Contains(err.Error(), "more than 64 queries") {
		t.Errorf("error %v", err)
	}
}

// A later resolver is asked where those before it cannot tell, and keeps being
// asked first during the refresh.
func TestResolversInTheirOrder(t *testing.T) {
	var asked []string
	good := &zone{}
	good.set(t, "_w._tcp.test. 60 IN SRV 1 1 80 h.test.", "h.test. 77 IN A 10.0.0.1")
	bad := &zone{}
	ask := func(ctx context.Context, server, name string, kind uint16) (*dns.Msg, error) {
		asked = append(asked, strings.TrimSuffix(server, ":53"))
		switch server {
		case "192.0.2.1:53":
			return nil, errors.New("192.0.2.1:53 is silent")
		case "192.0.2.2:53":
			return bad.ask(ctx, server, name, kind)
		}
		return good.ask(ctx, server, name, kind)
	}
	bad.fail(dns.RcodeServerFailure, nil)
	s := newTest(t, Options{Name: "_w._tcp.test", Type: "srv", Resolvers: []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}}, ask)
	f, err := s.find(t.Context())
	if err != nil || addressesOf(f.endpoints) != "10.0.0.1:80" || f.via != "192.0.2.3:53" {
		t.Fatalf("%+v, %v", f, err)
	}
	if want := []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.3"}; !slices.Equal(asked, want) {
		t.Errorf("asked %v, want %v", asked, want)
	}
	good.fail(dns.RcodeRefused, nil)
	want := "192.0.2.1:53 is silent; 192.0.2.2:53 answered SERVFAIL; 192.0.2.3:53 answered REFUSED"
	if _, err := s.find(t.Context()); err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	// That a name does not exist is an answer.
	asked = nil
	bad.set(t, soa)
	if f, err := s.find(t.Context()); err != nil || f.why == "" || len(asked) != 2 {
		t.Errorf("%+v, %v, asked %v", f, err, asked)
	}
}

func TestOptions(t *testing.T) {
	for name, c := range map[string]struct {
		o   Options
		err string
	}{
		"least":          {Options{Name: "web", Port: 1}, ""},
		"services":       {Options{Name: "_web._tcp.x", Type: "srv"}, ""},
		"no name":        {Options{Port: 1}, "not a DNS name"},
		"long name":      {Options{Name: strings.Repeat("a.", 128), Port: 1}, "not a DNS name"},
		"no port":        {Options{Name: "web"}, "port 0"},
		"type":           {Options{Name: "web", Type: "mx", Port: 1}, `type "mx"`},
		"bounds":         {Options{Name: "web", Port: 1, MinTTL: 2, MaxTTL: 1}, "TTL bounds"},
		"on empty":       {Options{Name: "web", Port: 1, OnEmpty: "x"}, "on empty"},
		"resolver":       {Options{Name: "web", Port: 1, Resolvers: []string{"dns.test"}}, "resolver"},
		"resolver port":  {Options{Name: "web", Port: 1, Resolvers: []string{"10.0.0.1:0"}}, "resolver"},
		"resolver forms": {Options{Name: "web", Port: 1, Resolvers: []string{"10.0.0.1", "::1", "[::1]:5353"}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			spec, err := Spec(c.o)
			if c.err == "" && (err != nil || spec.New == nil || spec.From == "") || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("error %v, want %q", err, c.err)
			}
		})
	}
}
