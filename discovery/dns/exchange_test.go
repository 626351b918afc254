package dns

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// serve runs a DNS server on UDP and TCP of one port and returns its address.
func serve(t testing.TB, handle dns.HandlerFunc) string {
	t.Helper()
	var udp net.PacketConn
	var tcp net.Listener
	for try := 0; ; try++ {
		var err error
		if udp, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if tcp, err = net.Listen("tcp", udp.LocalAddr().String()); err == nil {
			break
		}
		udp.Close()
		if try == 20 {
			t.Fatal(err)
		}
	}
	for _, server := range []*dns.Server{{PacketConn: udp, Handler: handle}, {Listener: tcp, Handler: handle}} {
		started, done := make(chan struct{}), make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		go func() {
			defer close(done)
			_ = server.ActivateAndServe() // ends by Shutdown
		}()
		<-started
		t.Cleanup(func() {
			_ = server.Shutdown()
			<-done
		})
	}
	return udp.LocalAddr().String()
}

// long are records that fill a datagram, all of one address.
func long(address string) (all []dns.RR) {
	for range 50 {
		all = append(all, &dns.A{Hdr: dns.RR_Header{Name: "web.test.", Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.ParseIP(address)})
	}
	return all
}

func overTCP(w dns.ResponseWriter) bool { return w.RemoteAddr().Network() == "tcp" }

func send(t testing.TB, w dns.ResponseWriter, m *dns.Msg) {
	if err := w.WriteMsg(m); err != nil {
		t.Errorf("server: %v", err)
	}
}

func TestExchange(t *testing.T) {
	z := &zone{}
	z.set(t, "web.test. 60 IN A 10.0.0.1")
	type handler = func(t *testing.T, w dns.ResponseWriter, q *dns.Msg)
	for name, c := range map[string]struct {
		handle handler
		err    string
	}{
		"plain": {func(t *testing.T, w dns.ResponseWriter, q *dns.Msg) {
			if o := q.IsEdns0(); o == nil || o.UDPSize() != udpSize {
				t.Errorf("EDNS0: %v", o)
			}
			send(t, w, z.reply(q))
		}, ""},
		"too long for UDP": {func(t *testing.T, w dns.ResponseWriter, q *dns.Msg) {
			m := z.reply(q)
			if !overTCP(w) {
				m.Answer, m.Truncated = nil, true
			}
			send(t, w, m)
		}, ""},
		"shortened without a word": {func(t *testing.T, w dns.ResponseWriter, q *dns.Msg) {
			m := z.reply(q)
			if !overTCP(w) {
				m.Answer = long("10.0.0.2")
			}
			send(t, w, m)
		}, ""},
		"long, and no TCP": {func(t *testing.T, w dns.ResponseWriter, q *dns.Msg) {
			if overTCP(w) {
				w.Close()
				return
			}
			m := z.reply(q)
			m.Answer = long("10.0.0.1")
			send(t, w, m)
		}, ""},
		"knows no EDNS0": {func(t *testing.T, w dns.ResponseWriter, q *dns.Msg) {
			if q.IsEdns0() != nil {
				m := new(dns.Msg).SetRcodeFormatError(q)
				m.Question = nil
				send(t, w, m)
				return
			}
			send(t, w, z.reply(q))
		}, ""},
		"forged answers first": {func(t *testing.T, w dns.ResponseWriter, q *dns.Msg) {
			forge := func(change func(m *dns.Msg)) {
				m := new(dns.Msg).SetReply(q)
				m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: "web.test.", Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.IPv4(6, 6, 6, 6)})
				change(m)
				send(t, w, m)
			}
			forge(func(m *dns.Msg) { m.Id++ })
			forge(func(m *dns.Msg) { m.Question[0].Name = "other.test." })
			forge(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAAAA })
			forge(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS })
			forge(func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) })
			forge(func(m *dns.Msg) { m.Question = nil })
			forge(func(m *dns.Msg) { m.Response = false })
			forge(func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify })
			if _, err := w.Write([]byte("no message")); err != nil {
				t.Error(err)
			}
			send(t, w, z.reply(q))
		}, ""},
		"forged answers only": {func(t *testing.T, w dns.ResponseWriter, q *dns.Msg) {
			m := z.reply(q)
			m.Id++
			for range maxStrays {
				send(t, w, m)
			}
		}, "too much that is no answer"},
		"silent over TCP": {func(t *testing.T, w dns.ResponseWriter, q *dns.Msg) {
			if overTCP(w) {
				w.Close()
				return
			}
			m := z.reply(q)
			m.Truncated = true
			send(t, w, m)
		}, "(tcp): EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			server := serve(t, func(w dns.ResponseWriter, q *dns.Msg) { c.handle(t, w, q) })
			s := newTest(t, Options{Name: "web.test", Port: 80, Resolvers: []string{server}}, exchange)
			f, err := s.find(t.Context())
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error %v, want %q", err, c.err)
				}
				return
			}
			if err != nil || addressesOf(f.endpoints) != "10.0.0.1:80" || f.via != server {
				t.Errorf("%+v, %v", f, err)
			}
		})
	}
}

// A resolver that does not answer is left after a while, and at the end of the
// context at once.
func TestExchangeWithSilence(t *testing.T) {
	server := serve(t, func(dns.ResponseWriter, *dns.Msg) {})
	if _, err := exchange(t.Context(), server, "web.test.", dns.TypeA); err == nil || !strings.Contains(err.Error(), "no answer within 2s") {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	timer := time.AfterFunc(10*time.Millisecond, cancel)
	defer timer.Stop()
	start := time.Now()
	if _, err := exchange(ctx, server, "web.test.", dns.TypeA); err == nil || time.Since(start) > queryTime*9/10 {
		t.Errorf("error %v after %v", err, time.Since(start))
	}
}

// Nobody there: the system says so at once.
func TestExchangeWithNobody(t *testing.T) {
	gone, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	if _, err := exchange(t.Context(), gone.LocalAddr().String(), "web.test.", dns.TypeA); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("error %v", err)
	}
}

// Ids and ports of queries are drawn anew each time: who cannot see them has to guess.
func TestExchangeDrawsIdsAndPorts(t *testing.T) {
	var mu sync.Mutex
	ids, ports := map[uint16]bool{}, map[string]bool{}
	server := serve(t, func(w dns.ResponseWriter, q *dns.Msg) {
		mu.Lock()
		defer mu.Unlock()
		ids[q.Id], ports[w.RemoteAddr().String()] = true, true
		send(t, w, new(dns.Msg).SetReply(q))
	})
	for range 20 {
		if _, err := exchange(t.Context(), server, "web.test.", dns.TypeA); err != nil {
			t.Fatal(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(ids) < 18 || len(ports) < 15 {
		t.Errorf("%d ids and %d ports of 20", len(ids), len(ports))
	}
}
