package dns

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/larboard-proxy/larboard/discovery"
)

const (
	maxEndpoints = 1024 // of one name
	maxQueries   = 64   // questions of one refresh
	maxServers   = 8
	rounds       = 2 // each resolver is asked so often, where all fail
)

// found is what a refresh has found out.
type found struct {
	endpoints []discovery.Endpoint
	ttl       time.Duration
	why       string // there is no endpoint
	via       string // resolver that answered
	cut       bool   // there were more than maxEndpoints
}

// search is one refresh.
type search struct {
	source  *source
	servers []string
	first   int // the server that answered last is asked first
	queries int
	ttl     uint32
}

// find asks for the name. Errors: no resolver could tell.
func (s *source) find(ctx context.Context) (*found, error) {
	servers, err := s.servers()
	if err != nil {
		return nil, err
	}
	r := &search{source: s, servers: servers, ttl: 1<<31 - 1}
	name := dns.CanonicalName(s.options.Name)
	answer, extra, err := r.lookup(ctx, name, types[s.options.Type])
	if err != nil {
		return nil, err
	}
	f := &found{why: answer.why}
	if s.options.Type == "srv" {
		f.endpoints, err = r.services(ctx, answer.records, extra)
	} else {
		f.endpoints = r.hosts(answer.records)
	}
	if err != nil {
		return nil, err
	}
	f.endpoints, f.cut = ordered(f.endpoints)
	f.ttl, f.via = time.Duration(r.ttl)*time.Second, r.servers[r.first]
	if f.why == "" && len(f.endpoints) == 0 {
		f.why = "none of its records names an address that can be called"
	}
	return f, nil
}

// lookup asks for the records of one name, along its aliases, and returns them with
// the additional records beside them.
func (r *search) lookup(ctx context.Context, name string, kind uint16) (reply, []dns.RR, error) {
	for range maxChain {
		m, err := r.query(ctx, name, kind)
		if err != nil {
			return reply{}, nil, err
		}
		answer, err := interpret(m, name, kind)
		if err != nil {
			return reply{}, nil, err
		}
		r.ttl = min(r.ttl, answer.ttl)
		if len(answer.records) > 0 || answer.why != "" {
			return answer, m.Extra, nil
		}
		name = answer.name
	}
	return reply{}, nil, fmt.Errorf("more than %d aliases", maxChain)
}

// query asks the resolvers in turn for an answer that says something.
func (r *search) query(ctx context.Context, name string, kind uint16) (*dns.Msg, error) {
	if r.queries++; r.queries > maxQueries {
		return nil, fmt.Errorf("takes more than %d queries", maxQueries)
	}
	var errs []error
	for i := range rounds * len(r.servers) {
		at := (r.first + i) % len(r.servers)
		m, err := r.source.ask(ctx, r.servers[at], name, kind)
		if err == nil && m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
			err = fmt.Errorf("%s answered %s", r.servers[at], rcode(m.Rcode))
		}
		if err == nil {
			r.first = at
			return m, nil
		}
		if i < len(r.servers) { // the second round says the same
			errs = append(errs, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, oneLine(errs)
}

// oneLine joins errors for the log.
func oneLine(errs []error) error {
	texts := make([]string, len(errs))
	for i, err := range errs {
		texts[i] = err.Error()
	}
	return errors.New(strings.Join(texts, "; "))
}

// hosts turns address records into endpoints.
func (r *search) hosts(records []dns.RR) (all []discovery.Endpoint) {
	for _, ip := range addresses(records) {
		all = append(all, r.endpoint(ip, r.source.options.Port))
	}
	return all
}

func (r *search) endpoint(ip netip.Addr, port int) discovery.Endpoint {
	address := net.JoinHostPort(ip.String(), strconv.Itoa(port))
	return discovery.Endpoint{ID: address, Address: address, Weight: 1, Source: r.source.options.from()}
}

// addresses are those of A and AAAA records that can be called, each once: Consul
// repeats a host's beside each of its services.
func addresses(records []dns.RR) (all []netip.Addr) {
	for _, rr := range records {
		var raw net.IP
		switch rr := rr.(type) {
		case *dns.A:
			raw = rr.A
		case *dns.AAAA:
			raw = rr.AAAA
		}
		ip, ok := netip.AddrFromSlice(raw)
		ip = ip.Unmap()
		if !ok || ip.IsUnspecified() || ip.IsMulticast() || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
			continue
		}
		all = append(all, ip)
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}

// services turns SRV records into endpoints: those of the lowest priority, with
// their weights (RFC 2782). A weight of 0 asks for hardly any traffic and gets the
// least there is, 1.
func (r *search) services(ctx context.Context, records []dns.RR, extra []dns.RR) (all []discovery.Endpoint, err error) {
	known := map[string][]netip.Addr{}
	for _, srv := range preferred(records) {
		target := dns.CanonicalName(srv.Target)
		ips, ok := known[target]
		if !ok {
			if ips, err = r.target(ctx, target, extra); err != nil {
				return nil, err
			}
			known[target] = ips
		}
		for _, ip := range ips {
			e := r.endpoint(ip, int(srv.Port))
			e.Weight, e.Node = max(1, int(srv.Weight)), strings.TrimSuffix(target, ".")
			all = append(all, e)
		}
		if len(all) > maxEndpoints {
			break
		}
	}
	return all, nil
}

// preferred are the usable records of the lowest priority, in a stable order.
func preferred(records []dns.RR) (best []*dns.SRV) {
	for _, rr := range records {
		srv, ok := rr.(*dns.SRV)
		if !ok || srv.Target == "." || srv.Target == "" || srv.Port == 0 {
			continue // "." says that there is no such service
		}
		if len(best) > 0 && srv.Priority < best[0].Priority {
			best = best[:0]
		}
		if len(best) == 0 || srv.Priority == best[0].Priority {
			best = append(best, srv)
		}
	}
	slices.SortFunc(best, func(a, b *dns.SRV) int {
		return cmp.Or(strings.Compare(a.Target, b.Target), cmp.Compare(a.Port, b.Port), cmp.Compare(b.Weight, a.Weight))
	})
	return best
}

// target finds the addresses of a service's host: those that came with the answer,
// else by a query; IPv4 ones, and IPv6 ones where there are none. A host that does
// not exist has none; one that nobody can tell of is an error.
func (r *search) target(ctx context.Context, target string, extra []dns.RR) ([]netip.Addr, error) {
	for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
		beside := reply{name: target, ttl: r.ttl}
		beside.collect(extra, kind)
		if ips := addresses(beside.records); len(ips) > 0 {
			r.ttl = beside.ttl
			return ips, nil
		}
	}
	for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
		answer, _, err := r.lookup(ctx, target, kind)
		if err != nil {
			return nil, fmt.Errorf("host %s: %w", target, err)
		}
		if ips := addresses(answer.records); len(ips) > 0 {
			return ips, nil
		}
	}
	return nil, nil
}

// ordered sorts by address, since resolvers rotate their answers, takes each address
// once, and not too many.
func ordered(all []discovery.Endpoint) (kept []discovery.Endpoint, cut bool) {
	slices.SortStableFunc(all, func(a, b discovery.Endpoint) int { return strings.Compare(a.Address, b.Address) })
	all = slices.CompactFunc(all, func(a, b discovery.Endpoint) bool { return a.Address == b.Address })
	if len(all) > maxEndpoints {
		return all[:maxEndpoints], true
	}
	return all, false
}
