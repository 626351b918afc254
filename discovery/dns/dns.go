// Package dns finds endpoints under a DNS name: addresses (A, AAAA) or services
// (SRV). It exists because Go's own resolver hides how long an answer counts and
// why there is none. It is the only importer of the DNS library, and it must not
// know of configuration files, balancing or the proxy.
package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/larboard-proxy/larboard/discovery"
)

// The defaults of Options.
const (
	DefaultMinTTL = time.Second
	DefaultMaxTTL = time.Minute
)

// resolvConf is where the system's resolvers are named.
const resolvConf = "/etc/resolv.conf"

// Options of a source. Name is required, and Port but for SRV records.
type Options struct {
	// Name is complete: no search domain is added to it.
	Name string
	// Type is "a", "aaaa" or "srv"; empty: "a".
	Type string
	Port int
	// Resolvers are IP or IP:port and asked in this order, a later one only where
	// those before it fail; none: those of /etc/resolv.conf, read for each refresh.
	Resolvers []string
	// MinTTL and MaxTTL bound how long an answer counts; 0: the defaults.
	MinTTL, MaxTTL time.Duration
	// OnEmpty is "confirm" (or nothing), "keep" or "accept".
	OnEmpty string
	// Log gets what concerns the answers; nil discards.
	Log *slog.Logger
}

// types are the record types by their names in Options.
var types = map[string]uint16{"a": dns.TypeA, "aaaa": dns.TypeAAAA, "srv": dns.TypeSRV}

// Spec returns what a discovery.Set needs to find the endpoints of o. Errors: what
// is wrong with o.
func Spec(o Options) (discovery.Spec, error) {
	if err := o.complete(); err != nil {
		return discovery.Spec{}, fmt.Errorf("dns: %w", err)
	}
	return discovery.Spec{
		Key:  fmt.Sprintf("dns %q %s %d %q %v %v %s", o.Name, o.Type, o.Port, o.Resolvers, o.MinTTL, o.MaxTTL, o.OnEmpty),
		From: o.from(),
		New:  func() discovery.Source { return newSource(o) },
	}, nil
}

// from names the source for people: dns:NAME/TYPE.
func (o *Options) from() string { return "dns:" + strings.TrimSuffix(o.Name, ".") + "/" + o.Type }

// complete checks o and fills in what it leaves out.
func (o *Options) complete() error {
	if o.Type == "" {
		o.Type = "a"
	}
	if types[o.Type] == 0 {
		return fmt.Errorf("type %q is not a, aaaa or srv", o.Type)
	}
	if _, ok := dns.IsDomainName(o.Name); !ok || o.Name == "" || len(o.Name) > 254 {
		return fmt.Errorf("%q is not a DNS name", o.Name)
	}
	if o.Type != "srv" && (o.Port < 1 || o.Port > 65535) {
		return fmt.Errorf("port %d is not between 1 and 65535", o.Port)
	}
	if o.MinTTL == 0 {
		o.MinTTL = DefaultMinTTL
	}
	if o.MaxTTL == 0 {
		o.MaxTTL = max(DefaultMaxTTL, o.MinTTL)
	}
	if o.MinTTL < 0 || o.MaxTTL < o.MinTTL {
		return fmt.Errorf("TTL bounds %v to %v", o.MinTTL, o.MaxTTL)
	}
	if o.OnEmpty == "" {
		o.OnEmpty = confirm
	}
	if !slices.Contains([]string{confirm, keep, accept}, o.OnEmpty) {
		return fmt.Errorf("on empty: %q is not confirm, keep or accept", o.OnEmpty)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Resolvers = slices.Clone(o.Resolvers)
	for i, text := range o.Resolvers {
		server, err := serverAddress(text)
		if err != nil {
			return err
		}
		o.Resolvers[i] = server
	}
	return nil
}

// serverAddress turns IP or IP:port into IP:port.
func serverAddress(text string) (string, error) {
	if ip, err := netip.ParseAddr(text); err == nil {
		return net.JoinHostPort(ip.String(), "53"), nil
	}
	if at, err := netip.ParseAddrPort(text); err != nil || at.Port() == 0 {
		return "", fmt.Errorf("resolver %q is not IP or IP:port", text)
	}
	return text, nil
}

const (
	// refreshTime bounds one refresh with all its queries.
	refreshTime = 10 * time.Second
	// After an error the name is asked for again after a random time between half a
	// bound and the bound, which doubles.
	firstBackoff = 500 * time.Millisecond
	maxBackoff   = 5 * time.Second
	// maxNegative bounds how long it counts that a name does not exist, whatever its
	// SOA record says (RFC 2308 section 5 advises one to three hours, for caches).
	maxNegative = 30 * time.Second
)

// source watches one name. Its state is owned by Run.
type source struct {
	// immutable
	options Options
	ask     exchanger
	conf    string         // path of resolv.conf
	rand    func() float64 // in [0, 1)

	guard    guard
	failures int
	index    uint64 // counts the sets that differed
	sent     []discovery.Endpoint
	cut      bool // the last set was cut: said once
}

func newSource(o Options) *source {
	return &source{options: o, ask: exchange, conf: resolvConf, rand: rand.Float64, guard: guard{mode: o.OnEmpty}}
}

// Run implements discovery.Source. It returns ctx's error only.
func (s *source) Run(ctx context.Context, out func(discovery.Update)) error {
	for {
		wait := s.refresh(ctx, out)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// refresh asks once, reports, and returns how long to wait before the next time.
func (s *source) refresh(ctx context.Context, out func(discovery.Update)) time.Duration {
	within, cancel := context.WithTimeout(ctx, refreshTime)
	defer cancel()
	f, err := s.find(within)
	if ctx.Err() != nil {
		return 0
	}
	if err != nil {
		s.guard.failed()
		out(discovery.Update{Err: s.explain(err), At: time.Now()})
		bound := min(maxBackoff, firstBackoff<<min(s.failures, 8))
		s.failures++
		return bound/2 + time.Duration(s.rand()*float64(bound)/2)
	}
	s.failures = 0
	now := time.Now()
	deliver, again := s.guard.judge(now, len(f.endpoints) == 0)
	if !deliver {
		out(discovery.Update{Err: s.explain(f.keptError(s.options.OnEmpty)), At: now})
		return min(again, s.lifetime(f))
	}
	if s.index == 0 || !discovery.Equal(s.sent, f.endpoints) {
		s.index++
		s.sent = f.endpoints
	}
	s.mentionCut(f)
	out(discovery.Update{Endpoints: f.endpoints, Index: s.index, Via: f.via, At: now})
	return s.lifetime(f)
}

// lifetime is how long an answer counts, and up to a tenth more, so that proxies
// that began together do not ask together.
func (s *source) lifetime(f *found) time.Duration {
	most := s.options.MaxTTL
	if len(f.endpoints) == 0 {
		most = max(s.options.MinTTL, min(most, maxNegative))
	}
	ttl := max(s.options.MinTTL, min(most, f.ttl))
	return ttl + time.Duration(s.rand()*float64(ttl)/10)
}

func (s *source) explain(err error) error {
	return fmt.Errorf("dns: %s records of %s: %w", strings.ToUpper(s.options.Type), s.options.Name, err)
}

func (s *source) mentionCut(f *found) {
	if f.cut && !s.cut {
		s.options.Log.Warn("dns answer has more endpoints than are taken", "name", s.options.Name, "taken", len(f.endpoints))
	}
	s.cut = f.cut
}

// keptError says why an answer without endpoints changes nothing.
func (f *found) keptError(mode string) error {
	if mode == keep {
		return fmt.Errorf("%s; the last endpoints are kept as configured", f.why)
	}
	return fmt.Errorf("%s; the last endpoints are kept until that is confirmed", f.why)
}

var errNoServer = errors.New("no resolver is known")

// servers returns the resolvers to ask.
func (s *source) servers() ([]string, error) {
	if len(s.options.Resolvers) > 0 {
		return s.options.Resolvers, nil
	}
	conf, err := dns.ClientConfigFromFile(s.conf)
	if err != nil {
		return nil, fmt.Errorf("resolvers: %w", err)
	}
	var list []string
	for _, host := range conf.Servers {
		if _, err := netip.ParseAddr(host); err == nil && len(list) < maxServers {
			list = append(list, net.JoinHostPort(host, conf.Port))
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%w: %s names none", errNoServer, s.conf)
	}
	return list, nil
}
