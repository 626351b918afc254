package e2e

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/tests/load"
	"github.com/larboard-proxy/larboard/tests/real"
)

// soakTTL is the life of certificates in TestSoakEverything. A connection ends a twentieth
// of that before they do, which must be more than a busy machine stops somebody for.
func soakTTL() time.Duration { return either(time.Minute, 20*time.Second) }

// svcPath is before the name of a service, by Consul's convention.
const svcPath = "/ns/default/dc/dc1/svc/"

// soakLength is 20 s in `go test`, and in the long form what LARBOARD_SOAK says.
func soakLength(t testing.TB) time.Duration {
	t.Helper()
	if !long() {
		return 20 * time.Second
	}
	text := os.Getenv("LARBOARD_SOAK")
	if text == "" {
		return 30 * time.Minute
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Minute || d > 55*time.Minute {
		t.Fatalf("LARBOARD_SOAK=%s: want a duration from 1m to 55m", text)
	}
	return d
}

// TestSoakEverything: a mesh on Consul and SPIRE with all that happens to one, at the same
// time and for as long as wanted. Certificates are short-lived and their authority is replaced;
// each sidecar gets another configuration every two seconds; instances come and go, by
// the rules and by kill -9; clients break off, read and send slowly, stay away, and send
// garbage, in both versions of HTTP. No request, stream, WebSocket or tunnel of those
// that behave fails, each answer is the right one byte by byte, workloads notice those
// that leave in the middle and nobody else, and what the sidecars hold is the same at
// the end as at the beginning.
func TestSoakEverything(t *testing.T) {
	if !long() {
		t.Parallel()
	}
	s := newSoak(t)
	idle := s.sampleAll()
	s.behave()
	s.multiplexed.start()
	s.misbehave()
	s.watch()
	s.churn()
	s.end(idle)
}

// soak is the mesh: web calls api, whose instances leave politely, shop, whose do not,
// calls, which speaks gRPC, mail, which speaks first, and db through TCP.
type soak struct {
	*connect
	spire  *real.SPIREDomain
	length time.Duration
	began  time.Time

	web, api, shop, db, calls, mail *larboard
	// at web: where its workload finds the services.
	apiAt, shopAt, dbAt, callsAt string
	// anyAt is a listener for api by HTTP, and for mail.
	anyAt string
	// origins of the services.
	apiOrigin, shopOrigin, dbOrigin, callsOrigin, mailOrigin string

	traffic     []*traffic
	tunnels     *tunnelTraffic
	multiplexed *multiplexed
	abuse       *abuse
	sampling    *sampler

	failed, reloads    atomic.Int64
	left, killed, root atomic.Int64 // instances that left and that were killed, new authorities
	background         sync.WaitGroup
	stop               chan struct{}
	ended              sync.Once
}

func newSoak(t *testing.T) *soak {
	t.Helper()
	s := &soak{connect: newConnect(t, real.ConsulOptions{}), length: soakLength(t), stop: make(chan struct{})}
	s.spire = real.SPIRE(t, real.SPIREOptions{TrustDomain: meshDomain, TTL: soakTTL()})
	for _, service := range []string{"web", "api", "shop", "db", "calls", "mail"} {
		s.spire.Register(svcPath+service, real.SPIREEntry{Hint: service})
	}
	s.multiplexed = newMultiplexed(s)
	s.t.Cleanup(s.multiplexed.end)
	s.apiOrigin, s.shopOrigin = origin(t, http.HandlerFunc(s.multiplexed.workload)), origin(t, blobs{})
	s.dbOrigin, s.mailOrigin = echo(t), s.multiplexed.mailOrigin(t)
	called := newCallee(t, "calls")
	s.callsOrigin, s.multiplexed.seen["gRPC stream"] = called.address, &called.cancelled
	s.api = start(t, "api", s.called("api", "api-1", s.apiOrigin, 0))
	s.shop = start(t, "shop", s.called("shop", "shop-1", s.shopOrigin, 0))
	s.db = start(t, "db", s.called("db", "db-1", s.dbOrigin, 0))
	s.calls = start(t, "calls", s.called("calls", "calls-1", s.callsOrigin, 0))
	s.mail = start(t, "mail", s.called("mail", "mail-1", s.mailOrigin, 0))
	s.web = start(t, "web", s.caller(0))
	awaitEndpoints(t, s.web, 5)
	s.apiAt, s.shopAt, s.dbAt = s.web.address("api"), s.web.address("shop"), s.web.address("db")
	s.callsAt, s.anyAt = s.web.address("calls"), s.web.address("any")
	return s
}

// fixed are the sidecars that are there from the beginning to the end.
func (s *soak) fixed() []*larboard { return []*larboard{s.web, s.api, s.shop, s.db, s.calls, s.mail} }

// watch samples, reports and reloads from now on.
func (s *soak) watch() {
	s.t.Cleanup(s.unwatch)
	s.sampling = &sampler{t: s.t, all: map[string][]sample{}}
	s.began = time.Now()
	s.repeat(time.Second, func(int) { s.sampling.take(s.fixed()) })
	s.repeat(either(10*time.Second, 30*time.Second), func(int) { s.progress() })
	configurations := map[*larboard]func(int) string{
		s.web: s.caller,
		s.api: func(i int) string { return s.called("api", "api-1", s.apiOrigin, i) }, s.shop: func(i int) string { return s.called("shop", "shop-1", s.shopOrigin, i) },
		s.db: func(i int) string { return s.called("db", "db-1", s.dbOrigin, i) }, s.calls: func(i int) string { return s.called("calls", "calls-1", s.callsOrigin, i) },
		s.mail: func(i int) string { return s.called("mail", "mail-1", s.mailOrigin, i) },
	}
	s.repeat(2*time.Second/6, func(i int) {
		p := s.fixed()[i%6] // each of them every two seconds
		p.configure(configurations[p](i / 6))
		p.signal(syscall.SIGHUP)
		s.reloads.Add(1)
	})
}

// unwatch ends what watch began; once is enough.
func (s *soak) unwatch() {
	s.ended.Do(func() { close(s.stop) })
	s.background.Wait()
}

// repeat runs something on a goroutine of its own until the end, counting from 1.
func (s *soak) repeat(every time.Duration, do func(i int)) {
	s.background.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for i := 1; ; i++ {
			select {
			case <-s.stop:
				return
			case <-tick.C:
				do(i)
			}
		}
	})
}

// extras are what the i-th configuration has beside what all have.
func (s *soak) extras(i int) string {
	return fmt.Sprintf("access_log: {path: /dev/null, format: json}\ntimeouts: {connect: %ds, request_head: 3s, idle: %ds, body: %ds}\n", 25+i%3, 50+i%7, 60+i%5)
}

func (s *soak) identity(service string) string {
	return fmt.Sprintf("identity: {spiffe: {socket: %q, hint: %s}}\n", s.spire.Socket, service)
}

func (s *soak) caller(i int) string {
	text := s.common() + s.extras(i) + s.identity("web") +
		"upstreams: [{service: api, bind: 127.0.0.1:0}, {service: shop, bind: 127.0.0.1:0}, {service: db, bind: 127.0.0.1:0, protocol: tcp}, " +
		"{service: calls, bind: 127.0.0.1:0}, {service: mail, bind: 127.0.0.1:0, protocol: auto}]\n" +
		fmt.Sprintf("services: [{name: api, discovery: {consul: {connect: true}}, tls: {spiffe: {}}, balance: %s}]\n", []string{"round_robin", "p2c", "random"}[i%3]) +
		"listeners:\n- {name: any, address: 127.0.0.1:0, direction: outbound, protocol: auto, routes: [{service: api}], service: mail}\n"
	if i%2 == 1 {
		text += fmt.Sprintf("- {name: extra%d, address: 127.0.0.1:0, direction: outbound, routes: [{match: {path_prefix: /v%d}, service: api}, {service: shop}]}\n", i%5, i)
	}
	return text
}

func (s *soak) called(service, id, workload string, i int) string {
	protocol := "http"
	switch service {
	case "db":
		protocol = "tcp"
	case "mail":
		protocol = "auto"
	}
	text := s.common() + s.extras(i) + s.identity(service) +
		fmt.Sprintf("workload: {service: %s, address: %q, listen: 127.0.0.1:0, protocol: %s, intentions: true, register: {id: %s, tags: [v%d], check: {tcp: true, interval: 1s}}}\n",
			service, workload, protocol, id, i%4)
	if i%2 == 1 {
		text += fmt.Sprintf("listeners: [{name: extra%d, address: 127.0.0.1:0, protocol: %s, service: extra}]\nservices: [{name: extra, endpoints: [%q]}]\n", i%5, protocol, workload)
	}
	return text
}

// behave starts the traffic of which nothing may fail.
func (s *soak) behave() {
	get := func(addr string, size int, o load.Options) {
		o.Addr, o.Path, o.WantBody = addr, fmt.Sprintf("/%d/%d", size, size%1000), blob(size, size%1000)
		s.send(o)
	}
	get(s.apiAt, 128, load.Options{Conns: 16, Rate: 100})
	get(s.apiAt, 4<<10, load.Options{Conns: 8, Rate: 50})
	get(s.apiAt, 64<<10, load.Options{Rate: 20})
	get(s.apiAt, 1<<20, load.Options{Rate: 3})
	get(s.apiAt, 700, load.Options{NewConn: true, Rate: 20})
	get(s.shopAt, 300, load.Options{Rate: 80})
	get(s.shopAt, 1500, load.Options{NewConn: true, Rate: 20})
	for size, rate := range map[int]float64{1000: 40, 100_000: 5} {
		body := blob(size, 5)
		s.send(load.Options{Addr: s.apiAt, Method: "POST", Body: body, WantBody: body, Rate: rate})
	}
	s.tunnels = startTunnels(s.dbAt, s.fail)
	s.t.Cleanup(s.tunnels.end)
}

func (s *soak) send(o load.Options) {
	o.Timeout, o.Host = time.Minute, "soak"
	if !long() {
		o.Rate /= 2 // other tests run beside this one
	}
	what := fmt.Sprintf("%s %s new=%v", o.Method, o.Path, o.NewConn)
	o.OnFailure = func(class string, err error) { s.fail(fmt.Errorf("%s: %s: %w", what, class, err)) }
	s.traffic = append(s.traffic, send(s.t, o))
}

// fail books a failed request of a client that behaves. It may be called from any
// goroutine.
func (s *soak) fail(err error) {
	if s.failed.Add(1) <= 50 {
		s.t.Errorf("after %v (%s): %v", time.Since(s.began).Round(time.Millisecond), time.Now().UTC().Format("15:04:05.000"), err)
	}
}

func (s *soak) requests() int {
	total := int(s.tunnels.done.Load()) + s.multiplexed.total()
	for _, one := range s.traffic {
		total += one.total()
	}
	return total
}

// churn lets instances come and go, and replaces the authority, until the time is over
// and all has happened that the end asks for. On a busy machine that takes longer.
func (s *soak) churn() {
	s.t.Helper()
	r := replacement{spire: s.spire, sidecars: s.fixed(), last: s.began}
	for i := 0; time.Since(s.began) < s.length || time.Since(s.began) < s.length+3*time.Minute && s.missing() != ""; i++ {
		service, at := "api", s.apiOrigin
		switch i % 4 {
		case 1:
			service, at = "calls", s.callsOrigin
		case 3:
			service, at = "shop", s.shopOrigin
		}
		s.visit(service, at, fmt.Sprintf("%s-visitor-%d", service, i))
		if r.step() {
			s.root.Add(1)
			s.agent.Intend("api", real.Source{Name: fmt.Sprint("stranger-", i), Action: "deny"}, real.Source{Name: "web", Action: "allow"})
		}
	}
}

// missing is what has not happened yet; empty: nothing.
func (s *soak) missing() string {
	var all []string
	if s.left.Load() == 0 || s.root.Load() == 0 {
		all = append(all, fmt.Sprintf("%d instances left, %d new authorities", s.left.Load(), s.root.Load()))
	}
	all = append(all, s.abuse.missing()...)
	all = append(all, s.multiplexed.missing()...)
	for _, p := range s.fixed() {
		counted, id := p.scrape(), identityOf(p)
		if counted.sum("larboard_config_reloads_total", `result="applied"`) == 0 || id.Rotations == 0 {
			all = append(all, p.name+" was not reloaded or its certificate not rotated")
		}
		if p == s.web && counted.sum("larboard_http2_abuse_total", `reason="http2_rapid_reset"`) == 0 {
			all = append(all, p.name+" met no rapid resets")
		}
		if p != s.web && counted.sum("larboard_refused_total") == 0 {
			all = append(all, p.name+" refused no garbage")
		}
	}
	return strings.Join(all, "; ")
}

// replacement takes SPIRE's authority through the steps of its replacement, again and
// again. Each step has its time since the one before, so that nothing signed by the old
// one is in use when that leaves the bundle: from the taint on new certificates are signed by
// the new one, and no tunnel here lasts for more than 15 s.
type replacement struct {
	spire    *real.SPIREDomain
	sidecars []*larboard
	last     time.Time
	done     int // steps
	old, new string
}

// step does what is due, and reports whether a new authority has begun to sign.
func (r *replacement) step() (signs bool) {
	after := []time.Duration{3 * time.Second, 5 * time.Second, 12 * time.Second, time.Minute}
	if time.Since(r.last) < after[r.done] || r.done == 1 && !r.trusted() {
		return false
	}
	r.last = time.Now()
	switch r.done {
	case 0:
		r.new = r.spire.Authority("prepare", "")
	case 1:
		r.spire.Authority("activate", r.new)
	case 2:
		r.old = r.spire.Authority("taint", r.spire.OldAuthority())
	case 3:
		r.spire.Authority("revoke", r.old)
		r.last = r.last.Add(10 * time.Second)
	}
	r.done = (r.done + 1) % len(after)
	return r.done == 2
}

// trusted reports whether all sidecars know the authority that is prepared: what it signs
// is refused by those that do not.
func (r *replacement) trusted() bool {
	return !slices.ContainsFunc(r.sidecars, func(p *larboard) bool {
		id := identityOf(p)
		return len(id.Bundles) != 1 || id.Bundles[0].Authorities < 2
	})
}

// visit is the life of an instance, which makes itself known. One of api or calls is told
// to leave; one of shop, where all requests may be repeated, is killed.
func (s *soak) visit(service, workload, id string) {
	s.t.Helper()
	p := start(s.t, id, s.called(service, id, workload, 0))
	defer p.kill()
	address := p.address("inbound")
	s.awaitKnown(address, true)
	s.pass(2 * time.Second)
	if service == "shop" {
		p.kill()
		s.pass(time.Second)
		s.agent.Deregister(id+"-sidecar-proxy", id)
		s.awaitKnown(address, false)
		s.killed.Add(1)
		return
	}
	p.signal(syscall.SIGTERM)
	s.awaitKnown(address, false)
	if code := p.exit(2 * patience); code != 0 {
		s.t.Errorf("%s: exit code %d\n%s", id, code, tail(p.log(), 10))
	}
	s.left.Add(1)
}

// awaitKnown waits until web's sidecar has an endpoint, or has it no more.
func (s *soak) awaitKnown(address string, want bool) {
	s.t.Helper()
	eventually(s.t, 2*patience, fmt.Sprintf("web knows %s: %v", address, want), func() error {
		if slices.ContainsFunc(endpoints(s.web), func(e endpoint) bool { return e.Address == address }) != want {
			return fmt.Errorf("it is otherwise")
		}
		return nil
	})
}

// pass lets the traffic run for a while.
func (s *soak) pass(d time.Duration) { s.traffic[0].pass(d) }

func (s *soak) progress() {
	line := fmt.Sprintf("%6v: %d requests, %d failed, %d reloads, %d left, %d killed, %d roots; %v; abuse %v",
		time.Since(s.began).Round(time.Second), s.requests(), s.failed.Load(), s.reloads.Load(), s.left.Load(), s.killed.Load(), s.root.Load(), s.multiplexed, s.abuse)
	for _, p := range s.fixed() {
		line += "\n\t" + s.sampling.last(p.name)
	}
	s.t.Log(line)
}

// end stops everything and judges.
func (s *soak) end(idle map[string]sample) {
	s.t.Helper()
	s.unwatch()
	s.progress()
	if missing := s.missing(); missing != "" {
		s.t.Error(missing)
	}
	s.abuse.end()
	s.tunnels.end()
	s.multiplexed.end()
	for _, one := range s.traffic {
		one.endClean()
	}
	s.multiplexed.check(s.t)
	total := s.requests()
	s.t.Logf("%v: %d requests, streams and tunnels, %d failed; %d reloads, %d instances left, %d were killed, %d authorities",
		time.Since(s.began).Round(time.Second), total, s.failed.Load(), s.reloads.Load(), s.left.Load(), s.killed.Load(), s.root.Load()+1)
	for _, p := range s.fixed() {
		s.checkCounters(p)
	}
	s.sampling.check(idle, s.fixed())
}

// checkCounters looks at what a sidecar says of itself.
func (s *soak) checkCounters(p *larboard) {
	s.t.Helper()
	all := p.scrape()
	id := identityOf(p)
	s.t.Logf("%s: %v reloads applied, %d certificates, %v connections refused", p.name,
		all.sum("larboard_config_reloads_total", `result="applied"`), id.Rotations, all.sum("larboard_refused_total"))
	counted := 0
	for series, n := range all {
		if strings.HasPrefix(series, "larboard_http2_abuse_total") && n > 0 {
			s.t.Logf("%s: %s %v", p.name, series, n)
		}
		if strings.HasPrefix(series, "larboard_endpoint_requests_total") && strings.Contains(series, `outcome="ok"`) {
			counted++
		}
	}
	if counted > 16 {
		s.t.Errorf("%s: series of %d endpoints, most of which left", p.name, counted)
	}
	if n := all.sum("larboard_config_reloads_total", `result="refused"`); n != 0 {
		s.t.Errorf("%s: %v reloads refused\n%s", p.name, n, tail(p.log(), 10))
	}
	if id.Error != "" {
		s.t.Errorf("%s: %+v", p.name, id)
	}
	if n := all.sum("larboard_engine_panics_total"); n != 0 {
		s.t.Errorf("%s: %v panics", p.name, n)
	}
}

// blobs answers GET /SIZE/OFFSET with that piece of the noise, and others with what
// they have sent, where they said how much it is.
type blobs struct{}

var soakNoise = sync.OnceValue(func() []byte {
	all := make([]byte, 4<<20+1000)
	_, _ = noise(3).Read(all)
	return all
})

func blob(size, offset int) []byte { return soakNoise()[offset : offset+size] }

func (blobs) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method != http.MethodGet && r.ContentLength < 0:
		named("chunked")(w, r)
		return
	case r.Method != http.MethodGet:
		mirror{}.ServeHTTP(w, r)
		return
	}
	var size, offset int
	if _, err := fmt.Sscanf(r.URL.Path, "/%d/%d", &size, &offset); err != nil || size < 0 || size > 4<<20 || offset < 0 || offset > 1000 {
		http.Error(w, "want /SIZE/OFFSET", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Length", fmt.Sprint(size))
	_, _ = w.Write(blob(size, offset))
}
