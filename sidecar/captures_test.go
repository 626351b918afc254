package sidecar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larboard-proxy/larboard/discovery"
	"github.com/larboard-proxy/larboard/sidecar/config"
	"github.com/larboard-proxy/larboard/sidecar/proxy"
)

// captureRig is a table that is kept up to date, with a resolver and a host that the test plays.
type captureRig struct {
	captures
	t     *testing.T
	play  sync.Mutex // guards what follows
	told  []proxy.Captures
	hosts map[string][]netip.Addr // nil: names fail
	here  []netip.Addr
}

func newCaptureRig(t *testing.T) *captureRig {
	r := &captureRig{t: t, hosts: map[string][]netip.Addr{}, here: addrs("10.9.0.1")}
	r.captures.init(func(c proxy.Captures) { r.set(func() { r.told = append(r.told, c) }) }, slog.New(slog.DiscardHandler))
	r.resolve = func(_ context.Context, name string) ([]netip.Addr, error) {
		r.play.Lock()
		defer r.play.Unlock()
		if r.hosts == nil {
			return nil, errors.New("no such host")
		}
		return slices.Clone(r.hosts[name]), nil
	}
	r.local = func() ([]netip.Addr, error) {
		r.play.Lock()
		defer r.play.Unlock()
		return slices.Clone(r.here), nil
	}
	return r
}

func (r *captureRig) set(f func()) {
	r.play.Lock()
	defer r.play.Unlock()
	f()
}

// last is what the proxy was told last.
func (r *captureRig) last() (c proxy.Captures) {
	r.set(func() {
		if len(r.told) > 0 {
			c = r.told[len(r.told)-1]
		}
	})
	return c
}

func addrs(texts ...string) (all []netip.Addr) {
	for _, text := range texts {
		all = append(all, netip.MustParseAddr(text))
	}
	return all
}

const capturing = "capture: {outbound: true, inbound: true}\nidentity: {dev: {}}\nworkload: {service: web, address: 127.0.0.1:8000, listen: 0.0.0.0:20000}\n"

func (r *captureRig) load(text string) {
	r.t.Helper()
	c, problems := config.Load("test.yaml", []byte(text))
	if len(problems) > 0 {
		r.t.Fatal(problems)
	}
	r.apply(config.Expand(c), nil)
}

// table is what the proxy was told last, in words.
func (r *captureRig) table() string {
	var lines []string
	last := r.last()
	for _, side := range []struct {
		name string
		all  []proxy.CapturedAddress
	}{{"out", last.Outbound}, {"in", last.Inbound}} {
		for _, a := range side.all {
			address := "*"
			if a.Prefix.IsValid() {
				address = a.Prefix.String()
			}
			lines = append(lines, fmt.Sprintf("%s %s %d %s", side.name, address, a.Port, a.Listener))
		}
	}
	return strings.Join(lines, "\n")
}

func (r *captureRig) want(what, table string) {
	r.t.Helper()
	if got := r.table(); got != table {
		r.t.Errorf("%s: the table is\n%s\nwant\n%s", what, got, table)
	}
}

func TestCaptureTable(t *testing.T) {
	r := newCaptureRig(t)
	r.load(capturing + `
upstreams:
- {service: api, captures: ["10.0.0.1:80", "240.0.0.0/24", "*:9092"]}
- {service: stock, captures: ["10.0.0.1:80", "10.0.0.2"]}
`)
	r.want("literal", "out 10.0.0.1/32 80 api\nout 240.0.0.0/24 0 api\nout * 9092 api\nout 10.0.0.2/32 0 stock\nin * 8000 inbound")
	if here := r.last().Local; !slices.Equal(here, addrs("10.9.0.1")) {
		t.Errorf("local addresses: %v", here)
	}
	var claimed []string
	for _, v := range r.views() {
		if v.Error != "" {
			claimed = append(claimed, v.Listener+" "+v.Address+": "+v.Error)
		}
	}
	if !slices.Equal(claimed, []string{"stock 10.0.0.1: api has it"}) {
		t.Errorf("claimed twice: %v", claimed)
	}

	r.load("listeners: [{name: a, address: 127.0.0.1:1, service: a}]\nservices: [{name: a, endpoints: [127.0.0.1:2]}]\n")
	r.want("nothing is captured any more", "")
	told := len(r.told)
	r.load("listeners: [{name: a, address: 127.0.0.1:1, service: a}]\nservices: [{name: a, endpoints: [127.0.0.1:3]}]\n")
	if len(r.told) != told {
		t.Error("the proxy is told of captures where nothing is captured")
	}
}

func TestCaptureNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newCaptureRig(t)
		r.hosts["stock.shop.svc"] = addrs("10.0.0.2", "10.0.0.1", "::ffff:10.0.0.2", "fd00::1")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.run(ctx) }()
		defer func() { cancel(); <-done }()

		text := capturing + "upstreams: [{service: stock, captures: [\"stock.shop.svc:80\", \"10.0.0.1:80\"]}]\n"
		r.load(text)
		r.await(ctx)
		synctest.Wait()
		r.want("resolved", "out 10.0.0.1/32 80 stock\nout 10.0.0.2/32 80 stock\nout fd00::1/128 80 stock\nin * 8000 inbound")

		r.set(func() { r.hosts["stock.shop.svc"] = addrs("10.0.0.3") })
		time.Sleep(resolveEvery + 2*time.Second)
		synctest.Wait()
		changed := "out 10.0.0.3/32 80 stock\nout 10.0.0.1/32 80 stock\nin * 8000 inbound"
		r.want("resolved again", changed)

		hosts := r.hosts
		r.set(func() { r.hosts = nil })
		time.Sleep(5 * resolveEvery)
		synctest.Wait()
		r.want("the last good addresses stay", changed)
		if v := r.views()[1]; v.Error != "no such host" || v.Source != "name stock.shop.svc" {
			t.Errorf("view: %+v", v)
		}
		r.load(text)
		r.want("over a reload", changed)

		r.set(func() { r.hosts, hosts["stock.shop.svc"] = hosts, addrs("10.0.0.4") })
		time.Sleep(resolveAgain + 2*time.Second)
		synctest.Wait()
		r.want("and back", "out 10.0.0.4/32 80 stock\nout 10.0.0.1/32 80 stock\nin * 8000 inbound")

		r.set(func() { r.here = addrs("10.9.0.2") })
		time.Sleep(localEvery + 2*time.Second)
		synctest.Wait()
		if here := r.last().Local; !slices.Equal(here, addrs("10.9.0.2")) {
			t.Errorf("local addresses: %v", here)
		}
	})
}

func TestCaptureNameThatFailsHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newCaptureRig(t)
		r.resolve = func(ctx context.Context, _ string) ([]netip.Addr, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.run(ctx) }()
		defer func() { cancel(); <-done }()
		began := time.Now()
		r.load(capturing + "upstreams: [{service: stock, captures: stock.shop.svc}]\n")
		r.await(ctx)
		if took := time.Since(began); took > discoveryWithin {
			t.Errorf("a start waits for %v", took)
		}
		synctest.Wait()
		if v := r.views()[1]; v.Address != "" || v.Error == "" {
			t.Errorf("view: %+v", v)
		}
	})
}

func TestCaptureFromConsul(t *testing.T) {
	r := newCaptureRig(t)
	r.load(capturing + "upstreams: [{service: api}, {service: db, captures: [\"@consul\", \"10.0.0.9:5432\"], protocol: tcp}]\n")
	instance := func(called ...string) (e discovery.Endpoint) {
		for _, text := range called {
			e.CalledAt = append(e.CalledAt, netip.MustParseAddrPort(text))
		}
		return e
	}
	r.want("nothing yet", "out 10.0.0.9/32 5432 db\nin * 8000 inbound")
	r.discovered(discovery.Update{Service: "api", Endpoints: []discovery.Endpoint{
		instance("240.0.0.1:0", "10.0.0.5:8080"), instance("240.0.0.1:0", "10.0.0.6:8080")}})
	both := "out 10.0.0.5/32 8080 api\nout 10.0.0.6/32 8080 api\nout 240.0.0.1/32 0 api\nout 10.0.0.9/32 5432 db\nin * 8000 inbound"
	r.want("discovered", both)
	told := len(r.told)
	r.discovered(discovery.Update{Service: "api", Err: errors.New("away")})
	r.discovered(discovery.Update{Service: "local", Endpoints: []discovery.Endpoint{{}}})
	if r.want("consul is away", both); len(r.told) != told {
		t.Error("the proxy is told what it knows")
	}
	r.discovered(discovery.Update{Service: "api"})
	r.want("the virtual address stays", "out 240.0.0.1/32 0 api\nout 10.0.0.9/32 5432 db\nin * 8000 inbound")
	r.discovered(discovery.Update{Service: "db", Endpoints: []discovery.Endpoint{instance("240.0.0.1:0")}})
	r.want("claimed twice", "out 240.0.0.1/32 0 api\nout 10.0.0.9/32 5432 db\nin * 8000 inbound")
	r.load(capturing + "upstreams: [{service: db, protocol: tcp}]\n")
	r.want("without the first", "out 240.0.0.1/32 0 db\nin * 8000 inbound")
}
