package sidecar

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/larboard-proxy/larboard/discovery"
	"github.com/larboard-proxy/larboard/sidecar/admin"
	"github.com/larboard-proxy/larboard/sidecar/config"
	"github.com/larboard-proxy/larboard/sidecar/proxy"
)

// captures keep the table of captured addresses up to date: what the configuration says, the
// addresses of the names in it, what Consul knows of services, and the addresses of this host.
type captures struct {
	log     *slog.Logger
	tell    func(proxy.Captures)
	resolve func(ctx context.Context, name string) ([]netip.Addr, error)
	local   func() ([]netip.Addr, error)
	wake    chan struct{} // there are names to resolve

	mu       sync.Mutex // guards what follows; held for moments
	config   *config.Config
	own      []netip.AddrPort
	names    map[string]*resolved
	called   map[string][]netip.AddrPort // by service
	here     []netip.Addr
	told     proxy.Captures
	ever     bool // told holds something
	view     []admin.CaptureView
	disputes map[string]bool // those of the table in force
}

// resolved is what is known of a name.
type resolved struct {
	addrs []netip.Addr // the last good ones
	err   error        // of the last attempt
	due   time.Time
	tried bool
}

const (
	resolveEvery  = 30 * time.Second // system resolvers do not tell how long an answer is good for
	resolveAgain  = 3 * time.Second  // after a failure
	resolveWithin = 5 * time.Second
	localEvery    = 5 * time.Second
)

func (c *captures) init(tell func(proxy.Captures), log *slog.Logger) {
	*c = captures{tell: tell, log: log, wake: make(chan struct{}, 1), names: map[string]*resolved{},
		called: map[string][]netip.AddrPort{}, disputes: map[string]bool{}, local: localAddresses,
		resolve: func(ctx context.Context, name string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", name)
		}}
}

// localAddresses are those of this host's interfaces, but for loopback ones.
func localAddresses() (all []netip.Addr, err error) {
	list, err := net.InterfaceAddrs()
	for _, one := range list {
		if n, ok := one.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok && !ip.IsLoopback() {
				all = append(all, ip.Unmap())
			}
		}
	}
	return all, err
}

// apply brings what the expanded configuration says into force. own are the places where the
// process listens beside the listeners.
func (c *captures) apply(conf *config.Config, own []netip.AddrPort) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.config, c.own = conf, own
	was := c.names
	c.names = map[string]*resolved{}
	c.eachEntry(func(_ *config.Listener, e config.Captured) {
		if e.Name != "" && c.names[e.Name] == nil {
			c.names[e.Name] = cmp.Or(was[e.Name], &resolved{})
		}
	})
	maps.DeleteFunc(c.called, func(name string, _ []netip.AddrPort) bool {
		return !slices.ContainsFunc(conf.Services, func(s config.Service) bool { return s.Name == name })
	})
	if c.active() && c.here == nil {
		c.lookAround()
	}
	c.rebuild()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// active reports whether anything is captured at all.
func (c *captures) active() bool {
	return c.config != nil && (c.config.Capture.Outbound != nil || c.config.Capture.Inbound != nil)
}

func (c *captures) eachEntry(f func(*config.Listener, config.Captured)) {
	for i := range c.config.Listeners {
		l := &c.config.Listeners[i]
		for _, text := range l.Captures {
			if e, err := config.ParseCaptured(text); err == nil { // it has been validated
				f(l, e)
			}
		}
	}
}

// discovered is told of the endpoints of a service. Virtual addresses stay when the last instance
// has gone: who calls one then is to hear that nobody is there, and not to be sent elsewhere.
func (c *captures) discovered(u discovery.Update) {
	if u.Err != nil {
		return
	}
	var called []netip.AddrPort
	for i := range u.Endpoints {
		called = append(called, u.Endpoints[i].CalledAt...)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(called) == 0 {
		for _, a := range c.called[u.Service] {
			if a.Port() == 0 {
				called = append(called, a)
			}
		}
	}
	slices.SortFunc(called, netip.AddrPort.Compare)
	called = slices.Compact(called)
	if len(called) == 0 && c.called[u.Service] == nil || slices.Equal(called, c.called[u.Service]) {
		return
	}
	c.called[u.Service] = called
	if c.active() {
		c.rebuild()
	}
}

// run resolves names, and looks which addresses this host has, until ctx ends.
func (c *captures) run(ctx context.Context) error {
	looked := time.Time{}
	for {
		var tick <-chan time.Time // none where nothing is captured
		if c.looking() {
			tick = time.After(time.Second)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.wake:
		case <-tick:
		}
		c.resolveDue(ctx)
		if now := time.Now(); now.Sub(looked) >= localEvery {
			looked = now
			c.look()
		}
	}
}

func (c *captures) looking() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.active()
}

func (c *captures) look() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.active() && c.lookAround() {
		c.rebuild()
	}
}

// lookAround asks for the addresses of this host and reports whether they have changed.
func (c *captures) lookAround() bool {
	here, err := c.local()
	if err != nil {
		c.log.Warn("the addresses of this host are not known, the last ones stay", "error", err)
		return false
	}
	slices.SortFunc(here, netip.Addr.Compare)
	if slices.Equal(here, c.here) {
		return false
	}
	c.here = here
	return true
}

// resolveDue resolves the names whose time has come, all at once.
func (c *captures) resolveDue(ctx context.Context) {
	var names []string
	c.mu.Lock()
	for name, r := range c.names {
		if !time.Now().Before(r.due) {
			names = append(names, name)
		}
	}
	c.mu.Unlock()
	if len(names) == 0 {
		return
	}
	within, cancel := context.WithTimeout(ctx, resolveWithin)
	defer cancel()
	var group sync.WaitGroup
	for _, name := range names {
		group.Go(func() {
			addrs, err := c.resolve(within, name)
			if ctx.Err() == nil {
				c.resolvedAs(name, addrs, err)
			}
		})
	}
	group.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rebuild()
}

func (c *captures) resolvedAs(name string, addrs []netip.Addr, err error) {
	for i := range addrs {
		addrs[i] = addrs[i].Unmap().WithZone("")
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	addrs = slices.Compact(addrs)
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.names[name]
	if r == nil {
		return
	}
	if err == nil && len(addrs) == 0 {
		err = fmt.Errorf("%s has no address", name)
	}
	if err != nil && (r.err == nil || !r.tried) {
		c.log.Warn("captured name cannot be resolved, the last addresses stay", "name", name, "error", err, "addresses", len(r.addrs))
	}
	if err == nil && r.tried && (r.err != nil || !slices.Equal(addrs, r.addrs)) {
		c.log.Info("captured name resolved", "name", name, "addresses", addrs)
	}
	r.err, r.tried, r.due = err, true, time.Now().Add(resolveAgain)
	if err == nil {
		r.addrs, r.due = addrs, time.Now().Add(resolveEvery)
	}
}

// await gives names a bounded time for their first answer.
func (c *captures) await(ctx context.Context) {
	within, cancel := context.WithTimeout(ctx, discoveryWithin)
	defer cancel()
	for !c.tried() {
		select {
		case <-within.Done():
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// tried reports whether every name has been resolved or has failed to.
func (c *captures) tried() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.names {
		if !r.tried {
			return false
		}
	}
	return true
}

// rebuild makes the table anew, and tells the proxy where it has changed; mu is held.
func (c *captures) rebuild() {
	b := captureTable{captures: c, claimed: map[claim]string{}}
	if c.active() {
		b.told.Local, b.told.Own = c.here, c.own
		c.eachEntry(b.add)
	}
	c.view = b.view
	for text := range b.disputes {
		if !c.disputes[text] {
			c.log.Warn("captured address claimed twice: the first in the file has it", "claim", text)
		}
	}
	c.disputes = b.disputes
	if !c.ever && !c.active() || c.ever && reflect.DeepEqual(b.told, c.told) {
		return
	}
	c.told, c.ever = b.told, c.active()
	c.tell(b.told)
}

// captureTable is a table in the making.
type captureTable struct {
	*captures
	told     proxy.Captures
	view     []admin.CaptureView
	claimed  map[claim]string // the listener that has it
	disputes map[string]bool
}

// claim is an entry of the table, as it can be had once.
type claim struct {
	inbound bool
	prefix  netip.Prefix
	port    uint16
}

// add adds what one of a listener's captures comes to.
func (b *captureTable) add(l *config.Listener, e config.Captured) {
	switch {
	case e.Prefix.IsValid():
		b.entry(l, e.Prefix, e.Port, "configuration")
	case e.Any:
		b.entry(l, netip.Prefix{}, e.Port, "configuration")
	case e.Name != "":
		b.named(l, e)
	case e.Consul:
		for _, service := range servicesOf(l) {
			for _, a := range b.called[service] {
				b.entry(l, netip.PrefixFrom(a.Addr(), a.Addr().BitLen()), a.Port(), "consul")
			}
		}
	}
}

func (b *captureTable) named(l *config.Listener, e config.Captured) {
	r := b.names[e.Name]
	if r == nil {
		return
	}
	source := "name " + e.Name
	if len(r.addrs) == 0 {
		b.view = append(b.view, admin.CaptureView{Listener: l.Name, Direction: string(l.Direction), Port: e.Port, Source: source, Error: errorText(r.err)})
	}
	for _, a := range r.addrs {
		b.entry(l, netip.PrefixFrom(a, a.BitLen()), e.Port, source)
		b.view[len(b.view)-1].Error = errorText(r.err)
	}
}

// servicesOf are those that a listener's traffic goes to.
func servicesOf(l *config.Listener) (all []string) {
	if l.Service != "" {
		all = append(all, l.Service)
	}
	for _, r := range l.Routes {
		if !slices.Contains(all, r.Service) {
			all = append(all, r.Service)
		}
	}
	return all
}

func (b *captureTable) entry(l *config.Listener, p netip.Prefix, port uint16, source string) {
	v := admin.CaptureView{Listener: l.Name, Direction: string(l.Direction), Address: "*", Port: port, Source: source}
	if p.IsSingleIP() {
		v.Address = p.Addr().String()
	} else if p.IsValid() {
		v.Address = p.String()
	}
	key := claim{l.Direction == config.Inbound, p, port}
	first, taken := b.claimed[key]
	switch {
	case taken && first != l.Name:
		v.Error = fmt.Sprintf("%s has it", first)
		if b.disputes == nil {
			b.disputes = map[string]bool{}
		}
		b.disputes[fmt.Sprintf("%s (port %d) by %s and %s", v.Address, port, first, l.Name)] = true
	case taken: // by itself, from another source
	default:
		b.claimed[key] = l.Name
		a := proxy.CapturedAddress{Prefix: p, Port: port, Listener: l.Name}
		if key.inbound {
			b.told.Inbound = append(b.told.Inbound, a)
		} else {
			b.told.Outbound = append(b.told.Outbound, a)
		}
	}
	b.view = append(b.view, v)
}

// views shows the table.
func (c *captures) views() []admin.CaptureView {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.view)
}

// ownPlaces are where the process listens beside the proxy's listeners.
func (s *Sidecar) ownPlaces() (all []netip.AddrPort) {
	places := []string{s.ProbesAddr()}
	for _, a := range s.admin {
		places = append(places, a.Addr().String())
	}
	for _, place := range places {
		if at, err := netip.ParseAddrPort(place); err == nil {
			all = append(all, at)
		}
	}
	return all
}
