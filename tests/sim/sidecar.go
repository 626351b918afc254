package sim

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/larboard-proxy/larboard/discovery"
	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/policy/limit"
	"github.com/larboard-proxy/larboard/policy/retry"
	"github.com/larboard-proxy/larboard/sidecar/compile"
	"github.com/larboard-proxy/larboard/sidecar/config"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/identity"
	"github.com/larboard-proxy/larboard/sidecar/proxy"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// sidecar is the data plane of one instance, put together as package sidecar does it, with
// the control plane's part played by the schedule.
type sidecar struct {
	node     *node
	engine   *engine.Engine
	proxy    *proxy.Proxy
	identity *identity.Current
	services map[string]*upstream.Service
	applied  uint64
	seen     []*upstream.Endpoint // all that it ever knew
	open     int                  // connections, by the meter
	picks    []*upstream.Local    // of the planted step
	limits   *limit.Registry
	held     []held
}

// ports of every instance, and of the listeners towards the services that it calls.
const (
	meshPort, streamPort       = 20000, 20001 // for others' sidecars
	workloadPort, workloadTCP  = 8000, 8001   // of the workload, on its own host
	callB, callC, callStream   = 9001, 9002, 9003
	serviceB, serviceC, stream = "b", "c", "stream"
)

// startSidecar makes the data plane of n and brings its configuration into force.
func (m *mesh) startSidecar(n *node) (*sidecar, error) {
	e, err := n.host.Engine(engine.Options{Loops: m.plan.loops, HandshakesPerTurn: 1 + m.plan.loops})
	if err != nil {
		return nil, err
	}
	s := &sidecar{node: n, engine: e, services: map[string]*upstream.Service{}, limits: limit.NewRegistry()}
	log := slog.New(slog.DiscardHandler)
	s.proxy = proxy.New(proxy.Options{Engine: e, Observers: []observability.Observer{s}, Meter: s, Log: log})
	for _, l := range e.Loops() {
		s.picks = append(s.picks, upstream.NewLocal(l, func(string, policy.Reason) {}))
	}
	if m.plan.mesh {
		s.identity = identity.NewCurrentAt(log, m.world.Now)
		s.identity.Set(m.material(n))
	}
	n.side = s
	if err := s.apply(); err != nil {
		return nil, err
	}
	for _, service := range []string{serviceB, serviceC, stream} {
		s.update(service, m.registered(service))
	}
	return s, nil
}

// apply brings the node's configuration into force, as a reload does.
func (s *sidecar) apply() error {
	n := s.node
	c, err := n.mesh.tools.config(n.configuration())
	if err != nil {
		return err
	}
	s.applied++
	out, err := compile.Compile(compile.Input{
		Config: c, Identities: s.identities(), Services: s.services, Generation: s.applied, Log: slog.New(slog.DiscardHandler), Limits: s.limits,
	})
	if err != nil {
		return err
	}
	n.mesh.plantStep(s, out.Snapshot)
	plan, err := s.proxy.Prepare(out.Snapshot)
	if err != nil {
		return err
	}
	s.services = out.Services
	for i := range c.Services {
		if len(c.Services[i].Endpoints) > 0 {
			s.update(c.Services[i].Name, written(&c.Services[i]))
		}
	}
	out.Commit()
	n.mesh.plantCap(s)
	s.tellCaptures(c)
	plan.Commit()
	s.keepLimits(out.Limits)
	s.proxy.Reauthorize()
	return nil
}

// identities are the sidecar's own, by name: one that has none, or none.
func (s *sidecar) identities() map[string]*identity.Current {
	if s.identity == nil {
		return nil
	}
	return map[string]*identity.Current{"": s.identity}
}

// written are the endpoints that stand in the configuration.
func written(c *config.Service) (all []discovery.Endpoint) {
	for _, e := range c.Endpoints {
		all = append(all, discovery.Endpoint{ID: e.Address, Address: e.Address, Weight: e.Weight, Source: "static"})
	}
	return all
}

// update gives a service its endpoints, as discovery does.
func (s *sidecar) update(service string, endpoints []discovery.Endpoint) {
	svc := s.services[service]
	if svc == nil {
		return
	}
	was := svc.Set()
	svc.Update(discovery.Update{Service: service, Endpoints: endpoints, At: s.node.mesh.world.Now()})
	s.proxy.Forget(svc, svc.Set().Without(was))
	for _, m := range svc.Set().Members {
		if !slices.Contains(s.seen, m.Endpoint) {
			s.seen = append(s.seen, m.Endpoint)
		}
	}
}

// configuration is what an operator would write for n.
func (n *node) configuration() string {
	var b strings.Builder
	p := &n.mesh.plan
	fmt.Fprintf(&b, "loops: %d\ntimeouts: {connect: 1s, request_head: 5s, idle: %s, body: 5s, response_head: 8s, tunnel: 10s}\n", p.loops, p.idle)
	if p.mesh {
		fmt.Fprintf(&b, "identity: {dev: {trust_domain: %s, id: \"spiffe://%s%s\"}}\n", trustDomain, trustDomain, compile.ServicePath("", n.service))
	}
	b.WriteString(n.capture())
	n.listeners(&b)
	n.upstreams(&b)
	return b.String()
}

func (n *node) listeners(b *strings.Builder) {
	tls, allow := "", ""
	if n.mesh.plan.mesh {
		tls = ", tls: {spiffe: {}}"
		allow = fmt.Sprintf(", allow: [%s]", strings.Join(n.callers(), ", "))
	}
	b.WriteString("listeners:\n")
	if n.service != "a" {
		fmt.Fprintf(b, "- {name: inbound%s, address: \"%s:%d\"%s%s, service: local%s%s}\n", n.renamed(1), n.ip, meshPort, tls, allow, n.tuned(), n.limiting("in"))
	}
	if n.service == serviceC {
		fmt.Fprintf(b, "- {name: raw, address: \"%s:%d\", protocol: tcp%s%s, service: raw}\n", n.ip, streamPort, tls, allow)
	}
	if n.variant%4 == 3 { // a listener that comes and goes
		fmt.Fprintf(b, "- {name: extra, address: \"127.0.0.1:%d\", service: local}\n", 9100+n.variant)
	}
	for _, u := range n.uses() {
		protocol := "http" + n.tuned()
		if u.name == stream {
			protocol = "tcp"
		}
		fmt.Fprintf(b, "- {name: %s, direction: outbound, %s, service: %s, protocol: %s}\n", u.name+n.renamed(2), n.place(u.port), u.name, protocol)
	}
}

func (n *node) upstreams(b *strings.Builder) {
	tls, retries := "", ""
	if n.mesh.plan.mesh {
		tls = ", tls: {spiffe: {}}"
	}
	if p := &n.mesh.plan; p.retries != "" {
		retries = ", retries: {" + p.retries + "}"
	}
	balance := []string{"round_robin", "random", "p2c"}[n.variant%3]
	fmt.Fprintf(b, "services:\n- {name: local, endpoints: [\"127.0.0.1:%d\"]%s%s%s}\n- {name: raw, endpoints: [\"127.0.0.1:%d\"]}\n", workloadPort, n.version(n.variant), retries, n.breaking(), workloadTCP)
	for _, u := range n.uses() {
		head := 8 + n.variant%2
		version := n.version(n.variant / 2)
		if u.name == stream {
			version = ""
		}
		fmt.Fprintf(b, "- {name: %s, discovery: {consul: {connect: true}}, balance: %s, timeouts: {response_head: %ds}%s%s%s%s%s}\n", u.name, balance, head, tls, version, retries, n.breaking(), n.limiting("to-"+u.name))
	}
}

// renamed makes a reload replace listeners by others at the same addresses, whose
// connections are then drained.
func (n *node) renamed(in int) string {
	if n.variant%4 == in {
		return "-too"
	}
	return ""
}

// tuned are the settings of HTTP/2.
func (n *node) tuned() string {
	if !n.mesh.plan.http2 {
		return ""
	}
	return ", http2: {" + n.mesh.plan.tuning + "}"
}

// version is what a service's endpoints are spoken to in.
func (n *node) version(variant int) string {
	p := &n.mesh.plan
	if !p.http2 {
		return ""
	}
	versions := []string{"auto"}
	if p.forced {
		versions = append(versions, "http2", "http2")
	}
	if !p.grpc {
		versions = append(versions, "http1")
	}
	version := versions[variant%len(versions)]
	if version == "http1" {
		return ", protocol: http1"
	}
	return ", protocol: " + version + n.tuned()
}

// use is a service that an instance calls, and the port of the listener towards it.
type use struct {
	name string
	port int
}

func (n *node) uses() []use {
	switch n.service {
	case "a":
		return []use{{serviceB, callB}, {serviceC, callC}, {stream, callStream}}
	case serviceB:
		return []use{{serviceC, callC}}
	}
	return nil
}

// callers are the SPIFFE IDs that may call n.
func (n *node) callers() (all []string) {
	names := map[string][]string{serviceB: {"a"}, serviceC: {"a", "b"}}[n.service]
	for _, name := range names {
		all = append(all, fmt.Sprintf("%q", "spiffe://"+trustDomain+compile.ServicePath("", name)))
	}
	return all
}

// Observe implements observability.Observer.
func (s *sidecar) Observe(r *observability.Record) {
	m := s.node.mesh
	m.count("records", r.Reason.String())
	m.log("%s %s %s status %d %s endpoint %s attempts %d in %v: %v", s.node.name, r.Listener, r.Path, r.Status, r.Reason, r.Endpoint, r.Attempts, r.Total, r.Err)
	m.record(s.node, r)
	s.checkBreaking(r)
	s.checkLimiting(r)
	if !r.Inbound && r.Endpoint != "" {
		m.checkEndpoint(s.node, r)
	}
	if r.Reason == policy.Internal {
		m.violate("%s: an exchange failed inside: %v", s.node.name, r.Err)
	}
}

// The methods of proxy.Meter.

// Conn implements proxy.Meter.
func (s *sidecar) Conn(_ int, _ string, delta int) { s.open += delta }

// Refused implements proxy.Meter.
func (s *sidecar) Refused(_ int, listener string, r policy.Reason) {
	if r == policy.CaptureLoop || r == policy.CaptureUnknown {
		s.node.mesh.violate("%s: a captured connection is for nobody: %s", listener, r)
	}
	s.node.mesh.count("handshakes refused", r.String())
	s.node.mesh.log("%s %s refused a connection: %s", s.node.name, listener, r)
}

// HTTP2Abuse implements proxy.Meter: nobody here attacks, but links that are cut are silent.
func (s *sidecar) HTTP2Abuse(_ int, listener string, r policy.Reason) {
	m := s.node.mesh
	if (r == policy.HTTP2Stalled || r == policy.HTTP2PingTimeout) && m.faulty() {
		m.count("abuse in a fault", r.String())
		return
	}
	m.violate("abuse of %s: %s", listener, r)
}

// UpstreamAbuse implements proxy.Meter: nobody here attacks.
func (s *sidecar) UpstreamAbuse(_ int, service string, r policy.Reason) {
	s.node.mesh.violate("abuse by an endpoint of %s: %s", service, r)
}

// Cut implements proxy.Meter.
func (s *sidecar) Cut(_ int, listener string, r policy.Reason) {
	s.node.mesh.count("connections cut", r.String())
	s.node.mesh.log("%s %s cut a connection: %s", s.node.name, listener, r)
}

// UpstreamConn implements proxy.Meter.
func (s *sidecar) UpstreamConn(_ int, _ string, r policy.Reason) {
	s.node.mesh.count("connections to endpoints", r.String())
}

// Limited implements proxy.Meter.
func (s *sidecar) Limited(_ int, listener, limit string) {
	s.node.mesh.count("limited", listener+" "+limit)
}

// Quota implements proxy.Meter.
func (s *sidecar) Quota(_ int, result string) { s.node.mesh.count("asked for a quota", result) }

// Retry implements proxy.Meter.
func (s *sidecar) Retry(_ int, _ string, c retry.Cause, r retry.Result) {
	s.node.mesh.count("repeats", c.String()+" "+r.String())
}

// ForgetEndpoint implements proxy.Meter.
func (s *sidecar) ForgetEndpoint(int, string, string) {}

// leftovers says what is still in use although nothing is under way.
func (s *sidecar) leftovers() error {
	total := s.engine.Stats().Total()
	s.node.mesh.result.Counts[Counter{"bytes", "spliced"}] += int(total.Spliced)
	var errs []error
	if total.Tasks != 0 || total.Buffers != 0 || total.Offloads != 0 {
		errs = append(errs, fmt.Errorf("%d tasks, %d buffers, %d offloads", total.Tasks, total.Buffers, total.Offloads))
	}
	if total.Panics != 0 || total.Goexits != 0 {
		errs = append(errs, fmt.Errorf("%d panics", total.Panics+total.Goexits))
	}
	return errors.Join(append(errs, s.inflight())...)
}

// inflight says which endpoints are thought to serve although nothing is under way.
func (s *sidecar) inflight() error {
	var errs []error
	for _, e := range s.seen {
		if n := e.Inflight(); n != 0 {
			errs = append(errs, fmt.Errorf("endpoint %s has %d in flight", e.Address, n))
		}
	}
	return errors.Join(errs...)
}

// muxes says which endpoints are thought to have connections of HTTP/2 when none is open.
func (s *sidecar) muxes() error {
	var errs []error
	for _, e := range s.seen {
		if n := e.Muxes(); n != 0 {
			errs = append(errs, fmt.Errorf("endpoint %s has %d connections of HTTP/2", e.Address, n))
		}
	}
	return errors.Join(errs...)
}

// connections says what is open after the longest idle time.
func (s *sidecar) connections() error {
	if n := s.engine.Stats().Total().Conns; n != 0 || s.open != 0 {
		return fmt.Errorf("%d connections open, %d by the meter, after an idle time of %v", n, s.open, 2*time.Minute)
	}
	return nil
}
