package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/larboard-proxy/larboard/tests/load"
	"github.com/larboard-proxy/larboard/tests/real"
)

// nameserver is a DNS server whose answers the test changes.
type nameserver struct {
	address string

	mu      sync.Mutex // guards what follows
	records []dns.RR
	silent  bool
	queries int
}

// startNameserver serves UDP until the end of the test.
func startNameserver(t testing.TB) *nameserver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &nameserver{address: conn.LocalAddr().String()}
	started, done := make(chan struct{}), make(chan struct{})
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(n.answer), NotifyStartedFunc: func() { close(started) }}
	go func() {
		defer close(done)
		_ = server.ActivateAndServe() // ends by Shutdown
	}()
	<-started
	t.Cleanup(func() {
		_ = server.Shutdown()
		<-done
	})
	return n
}

func (n *nameserver) answer(w dns.ResponseWriter, q *dns.Msg) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.queries++
	if n.silent {
		return
	}
	m := new(dns.Msg).SetReply(q)
	for _, rr := range n.records {
		if h := rr.Header(); strings.EqualFold(h.Name, q.Question[0].Name) && h.Rrtype == q.Question[0].Qtype {
			m.Answer = append(m.Answer, rr)
		}
	}
	if len(m.Answer) == 0 {
		m.Rcode = dns.RcodeNameError
	}
	_ = w.WriteMsg(m) // the proxy may have ended
}

// set replaces the records, written as in a zone file.
func (n *nameserver) set(t testing.TB, records ...string) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.records, n.silent = nil, false
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		n.records = append(n.records, rr)
	}
}

func (n *nameserver) silence() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.silent = true
}

func (n *nameserver) asked() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.queries
}

// srv are records of a service, one for each address.
func srv(addresses ...string) (records []string) {
	for i, address := range addresses {
		_, port, _ := net.SplitHostPort(address)
		records = append(records, fmt.Sprintf("_web._tcp.test. 1 IN SRV 1 1 %s host%d.test.", port, i), fmt.Sprintf("host%d.test. 1 IN A 127.0.0.1", i))
	}
	return records
}

// replaceFile puts a file in place in one step.
func replaceFile(t testing.TB, path, text string) {
	t.Helper()
	writeFile(t, filepath.Dir(path), filepath.Base(path)+".new", text)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// origins are the sources of the endpoints of web, by address.
type originOf struct {
	Address  string
	Rotation string
	Origin   struct {
		Source, Error string
		Stale         bool
		Index         uint64
		Also          []string `json:"also_in"`
	}
}

func origins(p *larboard) map[string]originOf {
	p.t.Helper()
	var v struct{ Endpoints []originOf }
	p.view("/api/v1/endpoints?service=web", &v)
	all := map[string]originOf{}
	for _, e := range v.Endpoints {
		all[e.Address] = e
	}
	return all
}

// awaitStale waits until endpoints of a source are stale, or no longer.
func awaitStale(t testing.TB, p *larboard, source string, want bool) {
	t.Helper()
	eventually(t, patience, fmt.Sprintf("endpoints of %s are stale: %v", source, want), func() error {
		for _, o := range origins(p) {
			if o.Origin.Source == source && o.Origin.Stale == want {
				return nil
			}
		}
		return fmt.Errorf("%+v", origins(p))
	})
}

// awaitAnswers waits until exactly these answer.
func (r *traffic) awaitAnswers(names ...string) {
	r.t.Helper()
	eventually(r.t, patience, fmt.Sprintf("answers of %v alone", names), func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		now := time.Now()
		for _, name := range names {
			if now.Sub(r.lastAt[name]) > time.Second {
				return fmt.Errorf("%s is silent", name)
			}
		}
		for name, at := range r.lastAt {
			if now.Sub(at) < 200*time.Millisecond && !strings.Contains(strings.Join(names, " "), name) {
				return fmt.Errorf("%s answers", name)
			}
		}
		return nil
	})
}

const webBy = `
loops: 2
listeners: [{name: in, address: 127.0.0.1:0, service: web}]
services: [{name: web, %s}]
`

func TestDiscoveryFileUnderLoad(t *testing.T) {
	var all []string
	for _, name := range []string{"one", "two", "three"} {
		all = append(all, origin(t, named(name)))
	}
	dir := shortDir(t)
	list := filepath.Join(dir, "web.yaml")
	replaceFile(t, list, fmt.Sprintf("- %s\n", all[0]))
	p := launchIn(t, dir, "larboard", fmt.Sprintf(webBy, "discovery: {file: web.yaml}"))
	p.waitReady()
	requests := send(t, load.Options{Addr: p.address("in")})
	requests.awaitAnswers("one")

	replaceFile(t, list, fmt.Sprintf("endpoints:\n- %s\n- {address: %s, weight: 2}\n", all[1], all[2]))
	requests.awaitAnswers("two", "three")
	// In place, in pieces, and never whole: nothing changes, and the place is told.
	writeFile(t, dir, "web.yaml", "endpoints:\n- "+all[0]+"\n- {address: ")
	p.waitLog(list + ":3:")
	requests.awaitAnswers("two", "three")
	awaitStale(t, p, "file:"+list, true)
	if err := os.Remove(list); err != nil {
		t.Fatal(err)
	}
	p.waitLog(list + ": no such file or directory")
	requests.awaitAnswers("two", "three")
	if n := strings.Count(p.log(), list+":3:"); n != 1 {
		t.Errorf("the broken file was logged %d times", n)
	}
	replaceFile(t, list, fmt.Sprintf(`{"endpoints": [%q]}`, all[0]))
	requests.awaitAnswers("one")
	awaitStale(t, p, "file:"+list, false)
	requests.endClean()
}

func TestDiscoveryDNSUnderLoad(t *testing.T) {
	one, two := origin(t, named("one")), origin(t, named("two"))
	ns := startNameserver(t)
	ns.set(t, srv(one)...)
	const settings = "discovery: {dns: {name: _web._tcp.test, type: srv, resolvers: [%q], min_ttl: 100ms, max_ttl: 200ms, on_empty: %s}}"
	p := start(t, "larboard", fmt.Sprintf(webBy, fmt.Sprintf(settings, ns.address, "confirm")))
	const source = "dns:_web._tcp.test/srv"
	requests := send(t, load.Options{Addr: p.address("in")})
	requests.awaitAnswers("one")
	ns.set(t, srv(one, two)...)
	requests.awaitAnswers("one", "two")
	ns.set(t, srv(two)...)
	requests.awaitAnswers("two")

	// The server goes silent, comes back, and then knows the name no more.
	ns.silence()
	awaitStale(t, p, source, true)
	before, began := ns.asked(), time.Now()
	requests.pass(either(3*time.Second, 60*time.Second))
	if rate := float64(ns.asked()-before) / time.Since(began).Seconds(); rate > 4 {
		t.Errorf("%.1f queries a second to a silent server", rate)
	}
	requests.awaitAnswers("two")
	ns.set(t, srv(one)...)
	requests.awaitAnswers("one")
	awaitStale(t, p, source, false)
	ns.set(t)
	awaitStale(t, p, source, true)
	// A question under way meanwhile may have learnt the host's name, and then no address for it.
	eventually(t, patience, "the name does not exist", func() error {
		if e := origins(p)[one]; !strings.Contains(e.Origin.Error, "does not exist (NXDOMAIN); the last endpoints are kept until that is confirmed") {
			return fmt.Errorf("%+v", e)
		}
		return nil
	})
	requests.pass(time.Second)
	requests.endClean()
	// Ten seconds later it is believed.
	eventually(t, 2*patience, "no endpoint is left", func() error {
		if n := len(origins(p)); n != 0 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	if status, _, _ := get(t, "http://"+p.address("in")); status != 503 {
		t.Errorf("status %d without endpoints", status)
	}
}

// Endpoints of the configuration, a file and Consul serve together; each source
// fails for itself.
func TestDiscoveryOfSeveralSources(t *testing.T) {
	agent := real.Consul(t, real.ConsulOptions{})
	fixed, listed, found := origin(t, named("fixed")), origin(t, named("listed")), origin(t, named("found"))
	register := func(id, address string) {
		host, port, _ := net.SplitHostPort(address)
		var n int
		fmt.Sscan(port, &n)
		// Without a check: one with a TTL is critical once its agent has restarted.
		agent.Register(real.Service{ID: id, Name: "web", Address: host, Port: n})
	}
	register("found", found)
	register("again", listed)
	dir := shortDir(t)
	list := filepath.Join(dir, "web.yaml")
	replaceFile(t, list, fmt.Sprintf("- %s\n", listed))
	p := launchIn(t, dir, "larboard", fmt.Sprintf(webBy, fmt.Sprintf("endpoints: [%q], discovery: [file: web.yaml, consul: {}]", fixed))+
		fmt.Sprintf("consul: {address: %q, wait: 30s}\n", agent.Address))
	p.waitReady()
	requests := send(t, load.Options{Addr: p.address("in")})
	requests.awaitAnswers("fixed", "listed", "found")
	all := origins(p)
	for address, want := range map[string]string{fixed: "static", listed: "file:" + list, found: "consul"} {
		if got := all[address].Origin.Source; got != want {
			t.Errorf("%s is said to come from %q, want %q", address, got, want)
		}
	}
	if also := all[listed].Origin.Also; len(also) != 1 || also[0] != "consul" || all[found].Origin.Index == 0 || all[listed].Rotation != "in: weight 1 of 3" {
		t.Errorf("%+v", all)
	}

	agent.Kill()
	awaitStale(t, p, "consul", true)
	if all := origins(p); all[fixed].Origin.Stale || all[listed].Origin.Stale || len(all) != 3 {
		t.Errorf("with Consul away: %+v", all)
	}
	replaceFile(t, list, "[]")
	eventually(t, patience, "Consul's endpoint comes forth", func() error {
		if origins(p)[listed].Origin.Source != "consul" {
			return errors.New("not yet")
		}
		return nil
	})
	requests.awaitAnswers("fixed", "listed", "found")
	agent.Restart()
	awaitStale(t, p, "consul", false)
	requests.endClean()

	// A start does not wait for Consul while others have endpoints.
	agent.Kill()
	began := time.Now()
	again := launchIn(t, shortDir(t), "without Consul", fmt.Sprintf(webBy, fmt.Sprintf("endpoints: [%q], discovery: {consul: {}}", fixed))+fmt.Sprintf("consul: {address: %q}\n", agent.Address))
	again.waitReady()
	t.Logf("ready without Consul after %v", time.Since(began))
	if _, body, _ := get(t, "http://"+again.address("in")); body != "fixed" {
		t.Errorf("answered by %q", body)
	}
	if strings.Contains(again.log(), "not every service has endpoints yet") {
		t.Errorf("the start waited:\n%s", again.log())
	}
}
