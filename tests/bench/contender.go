//go:build linux

package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/larboard-proxy/larboard/tests/real"
)

// contender returns a side by its name in a scenario.
func (b *bench) contender(ctx context.Context, name string) (contender, error) {
	switch name {
	case "haproxy":
		return haproxy(name, b.o.haproxy, "", b.o.bare), nil
	case "haproxy-auto":
		return haproxy(name, b.o.haproxy, "\n    option splice-auto", b.o.bare), nil
	case "haproxy-forced":
		return haproxy(name, b.o.haproxy, "\n    option splice-request\n    option splice-response", b.o.bare), nil
	case "haproxy-httplog":
		return haproxy(name, b.o.haproxy, "\n    option httplog\n    log {{.Sinks.Syslog}} local0", b.o.bare), nil
	case "haproxy-pair":
		return haproxyPair(b.o.haproxy, b.o.bare), nil
	case "larboard":
		return larboard(name, b.larboard), nil
	case "larboard-full":
		return larboardFull(name, b.larboard, larboardSinks), nil
	case "larboard-broken":
		return larboardFull(name, b.larboard, larboardBroken), nil
	case "larboard-pair":
		return larboardPair(name, b.larboard), nil
	case "larboard-consul":
		return b.inConsul(ctx, larboardConsul(b.larboard))
	case "net-http":
		return netHTTP(b.self), nil
	case "query":
		return b.inConsul(ctx, contender{name: name})
	case "consul-pair":
		return b.inConsul(ctx, consulPair())
	case "ghostunnel-pair":
		binary, err := real.Build(ctx, "ghostunnel", b.progress)
		return ghostunnelPair(binary), err
	}
	return contender{}, fmt.Errorf("no contender %q", name)
}

// sides are the two contenders of a scenario.
func (b *bench) sides(ctx context.Context, s scenario) (reference, subject contender, err error) {
	against, with := s.against, s.with
	if against == "" {
		against = "haproxy"
	}
	if with == "" {
		with = "larboard"
	}
	switch {
	case b.o.noise:
		with = against
	case b.o.baseline != "":
		against = with
	}
	if reference, err = b.contender(ctx, against); err != nil {
		return reference, subject, err
	}
	if subject, err = b.contender(ctx, with); err != nil {
		return reference, subject, err
	}
	if b.o.noise {
		subject.name += " again"
	}
	if b.o.baseline != "" {
		reference.name = "baseline"
		for i := range reference.parts {
			reference.parts[i].argv = larboardArgv(b.o.baseline)
		}
	}
	return reference, subject, nil
}

func allOf(s *site) []string {
	all := []string{s.HTTP, s.HTTPS, s.TCP, s.Bulk}
	if s.WantMutual {
		all = append(all, s.Mutual)
	}
	if s.WantH2 {
		all = append(all, h2Only(s)...)
	}
	return all
}

func h2Only(s *site) []string { return []string{s.H2, s.H2Down, s.H2TLS} }

func atNear(s *site) []string { return []string{s.Near} }
func atFar(s *site) []string  { return []string{s.Far} }

// haproxy is its best for this work: one thread, upstream connections reused, no
// log, and the same fields added to requests as Larboard adds, unless bare. no
// strict-limits and ulimit-n: with a maxconn that is never reached it would otherwise
// insist on twice as many descriptors.
func haproxy(name, binary, splice string, bare bool) contender {
	return contender{name: name, parts: []part{{
		name: name, argv: haproxyArgv(binary), listens: allOf,
		config: haproxyText(haproxyGlobal+haproxyOne, splice, bare),
	}}}
}

func haproxyPair(binary string, bare bool) contender {
	near, far := haproxyText(haproxyGlobal+haproxyNear, "", bare), haproxyText(haproxyGlobal+haproxyFar, "", true)
	return contender{name: "haproxy-pair", parts: []part{
		{name: "haproxy far", argv: haproxyArgv(binary), config: far, listens: atFar},
		{name: "haproxy near", argv: haproxyArgv(binary), config: near, listens: atNear},
	}, answers: func(s *site) string { return s.Near }}
}

func haproxyArgv(binary string) func(string, *site) []string {
	return func(config string, _ *site) []string { return []string{binary, "-q", "-db", "-f", config} }
}

func haproxyText(config, splice string, bare bool) string {
	fields := haproxyFields
	if bare {
		fields = ""
	}
	return strings.NewReplacer("@fields", fields, "@splice", splice).Replace(config)
}

// larboard is one loop with what it does by default: counters, histograms,
// timeouts, forwarded headers and request ids; only the access log is off.
func larboard(name, binary string) contender {
	return contender{name: name, parts: []part{{name: name, argv: larboardArgv(binary), config: larboardGlobal + larboardOne, listens: allOf}}}
}

// larboardFull is larboard with everything on that a mesh asks of a request: retries with
// their budget, breaker, ejection, a limit, traces of one request in a hundred and a log.
func larboardFull(name, binary, sinks string) contender {
	return contender{name: name, parts: []part{{name: name, argv: larboardArgv(binary), config: sinks + larboardEverything,
		listens: func(s *site) []string { return []string{s.HTTP} }}}}
}

func larboardPair(name, binary string) contender {
	return contender{name: name, parts: []part{
		{name: "larboard far", argv: larboardArgv(binary), config: larboardGlobal + larboardFar, listens: atFar},
		{name: "larboard near", argv: larboardArgv(binary), config: larboardGlobal + larboardNear, listens: atNear},
	}, answers: func(s *site) string { return s.Near }}
}

func larboardConsul(binary string) contender {
	return contender{name: "larboard-consul", parts: []part{
		{name: "larboard", argv: larboardArgv(binary), config: larboardGlobal + larboardDiscovery, listens: func(s *site) []string { return []string{s.HTTP} }},
	}}
}

func larboardArgv(binary string) func(string, *site) []string {
	return func(config string, _ *site) []string { return []string{binary, "run", "-c", config} }
}

// ghostunnelPair carries bytes between two TLS tunnels, one process for each end.
func ghostunnelPair(binary string) contender {
	return contender{name: "ghostunnel-pair", parts: []part{
		{name: "ghostunnel far", listens: atFar, argv: func(_ string, s *site) []string {
			return []string{binary, "server", "--listen", s.Far, "--target", s.Origin.HTTP, "--keystore", s.Files.Far.Both,
				"--cacert", s.Files.CA, "--allow-uri", spiffeID("near"), "--quiet=all"}
		}},
		{name: "ghostunnel near", listens: atNear, argv: func(_ string, s *site) []string {
			return []string{binary, "client", "--listen", s.Near, "--target", s.Far, "--keystore", s.Files.Near.Both,
				"--cacert", s.Files.CA, "--override-server-name", serverName, "--verify-uri", spiffeID("far"), "--quiet=all"}
		}},
	}, answers: func(s *site) string { return s.Near }}
}
