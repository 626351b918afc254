package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/tests/load"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

// devAuthority is a larboard that serves the Workload API, for one service.
func devAuthority(t testing.TB, state, socket, service string, ttl time.Duration) *larboard {
	t.Helper()
	return start(t, "authority", fmt.Sprintf("identity: {dev: {trust_domain: mesh.test, ttl: %v, state: %q, socket: %q, id: %q}}\n"+
		"workload: {service: none, address: \"127.0.0.1:1\", listen: 127.0.0.1:0}\n",
		ttl, state, socket, svcID(meshDomain, service)))
}

// updates counts what go-spiffe's client is told.
type updates struct {
	contexts chan *workloadapi.X509Context
	errors   chan error
}

func (u updates) OnX509ContextUpdate(c *workloadapi.X509Context) { u.contexts <- c }
func (u updates) OnX509ContextWatchError(err error)              { u.errors <- err }

// TestWorkloadAPIServesGoSPIFFE: the development authority's socket, consumed by the
// library that workloads use.
func TestWorkloadAPIServesGoSPIFFE(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	socket := filepath.Join(dir, "api.sock")
	devAuthority(t, filepath.Join(dir, "authority"), socket, "web", 3*time.Second)
	client, err := workloadapi.New(t.Context(), workloadapi.WithAddr("unix://"+socket))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	bundles, err := client.FetchX509Bundles(t.Context())
	if err != nil || !bundles.Has(spiffeid.RequireTrustDomainFromString(meshDomain)) {
		t.Errorf("bundles: %v %v", bundles, err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	u := updates{make(chan *workloadapi.X509Context, 16), make(chan error, 16)}
	done := make(chan error, 1)
	go func() { done <- client.WatchX509Context(ctx, u) }()
	serials := map[string]bool{}
	for len(serials) < 3 {
		select {
		case c := <-u.contexts:
			svid := c.DefaultSVID()
			if svid.ID.String() != svcID(meshDomain, "web") {
				t.Errorf("issued to %s", svid.ID)
			}
			serials[svid.Certificates[0].SerialNumber.String()] = true
		case err := <-u.errors:
			t.Fatal(err)
		case <-ctx.Done():
			t.Fatalf("%d different certificates of 3 s within %v", len(serials), patience)
		}
	}
	cancel()
	if err := <-done; err == nil {
		t.Error("the watch ended without an error")
	}
}

// TestGoSPIFFEPeersTalkToASidecar: a client made of go-spiffe's own source and
// tls.Config is let in, and proves whom it talks to.
func TestGoSPIFFEPeersTalkToASidecar(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	state := filepath.Join(dir, "authority")
	devAuthority(t, state, filepath.Join(dir, "api.sock"), "api", time.Hour)
	devAuthority(t, state, filepath.Join(dir, "web.sock"), "web", time.Hour)
	p := start(t, "api", fmt.Sprintf("identity: {spiffe: {socket: %q}}\nworkload: {service: api, address: %q, listen: 127.0.0.1:0, allow: [%q]}\n",
		"unix://"+filepath.Join(dir, "api.sock"), origin(t, named("api")), svcID(meshDomain, "web")))
	source := workloadSource(t, filepath.Join(dir, "web.sock"))
	for _, c := range []struct {
		expected string
		whole    bool
	}{{"api", true}, {"stock", false}} {
		expected := spiffeid.RequireFromString(svcID(meshDomain, c.expected))
		client := &http.Client{Timeout: patience, Transport: &http.Transport{
			TLSClientConfig: tlsconfig.MTLSClientConfig(source, source, tlsconfig.AuthorizeID(expected)), DisableKeepAlives: true,
		}}
		resp, err := client.Get("https://" + p.address("inbound") + "/")
		if err == nil {
			resp.Body.Close()
		}
		if whole := err == nil && resp.StatusCode == 200; whole != c.whole {
			t.Errorf("expecting %s: %v", c.expected, err)
		}
	}
}

// TestColdStartWithoutIdentity: nothing passes until the source is there, and then
// everything does.
func TestColdStartWithoutIdentity(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	socket := func(service string) string { return filepath.Join(dir, service+".sock") }
	source := func(service string) string {
		return fmt.Sprintf("identity: {spiffe: {socket: %q}}\n", "unix://"+socket(service))
	}
	inbound, outbound := freeAddress(t), freeAddress(t)
	called := launch(t, "api", source("api")+fmt.Sprintf("workload: {service: api, address: %q, listen: %q}\n", origin(t, named("api")), inbound))
	caller := launch(t, "web", source("web")+fmt.Sprintf("upstreams: [{service: api, bind: %q, endpoints: [%q]}]\n", outbound, inbound))
	stranger := newAuthority(t, meshDomain).svid("web")

	// At first they wait for it, then they listen and say what is missing.
	eventually(t, patience, "refusals with no_identity", func() error {
		for _, p := range []*larboard{called, caller} {
			if p.ready() == nil {
				t.Fatalf("%s is ready without an identity", p.name)
			}
		}
		if status, _, err := ask(inbound, meshClient(stranger)); err == nil {
			t.Fatalf("the mesh listener answered with %d", status)
		}
		if status, _, err := ask(inbound, nil); err == nil {
			t.Fatalf("the mesh listener answered plain text with %d", status)
		}
		status, reason, err := ask(outbound, nil)
		switch {
		case err == nil && (status != 503 || reason != "no_identity"):
			t.Fatalf("the outbound listener answered %d %s", status, reason)
		case err != nil:
			return err
		case called.scrape().sum("larboard_refused_total", `reason="no_identity"`) == 0:
			return errors.New("not counted")
		}
		return called.logged("connection refused", "reason=no_identity ")
	})
	for _, p := range []*larboard{called, caller} {
		if status, body, err := p.get("/readyz"); status != 503 {
			t.Errorf("%s: /readyz: %d %q %v", p.name, status, body, err)
		}
		if status, body, err := p.get("/healthz"); status != 200 {
			t.Errorf("%s: /healthz: %d %q %v", p.name, status, body, err)
		}
	}

	state := filepath.Join(dir, "authority")
	for _, service := range []string{"api", "web"} {
		devAuthority(t, state, socket(service), service, time.Hour)
	}
	called.waitReady()
	caller.waitReady()
	if status, body, _ := get(t, "http://"+outbound+"/"); status != 200 || body != "api" {
		t.Errorf("after the identity came: %d %q", status, body)
	}
}

// TestFilesRotateUnderLoad: certificates, keys and authorities in files are replaced
// while requests pass, one file at a time as it happens.
func TestFilesRotateUnderLoad(t *testing.T) {
	t.Parallel()
	first, second := newAuthority(t, meshDomain), newAuthority(t, meshDomain)
	api, web := newSVIDFiles(t, first.svid("api"), first), newSVIDFiles(t, first.svid("web"), first)
	called := start(t, "api", api.identity()+fmt.Sprintf("workload: {service: api, address: %q, listen: 127.0.0.1:0}\n", origin(t, named("api"))))
	caller := start(t, "web", web.identity()+fmt.Sprintf("upstreams: [{service: api, bind: 127.0.0.1:0, endpoints: [%q]}]\n", called.address("inbound")))
	traffic := send(t, load.Options{Addr: caller.address("api")})
	traffic.await(50)

	both := func(do func(f svidFiles, p *larboard, service string)) {
		do(api, called, "api")
		do(web, caller, "web")
		traffic.await(50)
	}
	rotate := func(by *authority) {
		both(func(f svidFiles, p *larboard, service string) {
			next := by.svid(service)
			f.writeCert(next) // beside the old key: of no use yet
			p.waitLog("identity files cannot be used")
			f.writeKey(next)
			p.waitSerial(next.Leaf.SerialNumber.Text(16))
		})
	}
	authorities := func(n int, trusted ...*authority) {
		both(func(f svidFiles, p *larboard, _ string) {
			f.trust(trusted...)
			eventually(t, patience, fmt.Sprint(p.name, " trusts ", n), func() error {
				if got := p.identityView().Bundles; len(got) != 1 || got[0].Authorities != n {
					return fmt.Errorf("%+v", got)
				}
				return nil
			})
		})
	}
	rotate(first)
	rotate(first)
	authorities(2, first, second)
	rotate(second)
	authorities(1, second)
	rotate(second)

	traffic.endClean()
	if _, _, err := ask(called.address("inbound"), meshClient(first.svid("web"))); err == nil {
		t.Error("a certificate of the authority that has gone is accepted")
	}
	eventually(t, patience, "the refusal of the old authority, and no other", func() error {
		if n := called.scrape().sum("larboard_refused_total"); n != 1 {
			return fmt.Errorf("%v", n)
		}
		return nil
	})
}

// identityViews are the identities of the admin interface, by name.
func (p *larboard) identityViews() map[string]identityView {
	p.t.Helper()
	var v struct{ Identities []identityView }
	p.view("/api/v1/identity", &v)
	named := map[string]identityView{}
	for _, one := range v.Identities {
		named[one.Name] = one
	}
	return named
}

// identityView is the one identity of a configuration that names none.
func (p *larboard) identityView() identityView {
	p.t.Helper()
	all := p.identityViews()
	if len(all) != 1 {
		p.t.Fatalf("%s: identities %+v", p.name, all)
	}
	return all[""]
}

type identityView struct {
	Name, Serial string
	ID           string `json:"spiffe_id"`
	Rotations    int
	Bundles      []struct{ Authorities int }
}

func (p *larboard) waitSerial(serial string) {
	p.t.Helper()
	eventually(p.t, patience, p.name+" has certificate "+serial, func() error {
		if got := p.identityView().Serial; got != serial {
			return fmt.Errorf("%s", got)
		}
		return nil
	})
}

// TestAuthoritiesThatStartTogetherAgree: processes that find no state to share make
// one, not one each.
func TestAuthoritiesThatStartTogetherAgree(t *testing.T) {
	t.Parallel()
	state := filepath.Join(shortDir(t), "authority")
	identity := func(service string) string {
		return fmt.Sprintf("identity: {dev: {trust_domain: mesh.test, state: %q, id: %q}}\n", state, svcID(meshDomain, service))
	}
	workload := origin(t, named("api"))
	var called []*larboard
	for range 4 {
		called = append(called, launch(t, "api", identity("api")+fmt.Sprintf("workload: {service: api, address: %q, listen: 127.0.0.1:0}\n", workload)))
	}
	var endpoints []string
	for _, p := range called {
		p.waitReady()
		endpoints = append(endpoints, p.address("inbound"))
	}
	caller := start(t, "web", identity("web")+"upstreams:\n- {service: api, bind: 127.0.0.1:0, endpoints: ["+strings.Join(endpoints, ", ")+"]}\n")
	for range 12 { // each loop goes round by itself
		if status, body, _ := get(t, "http://"+caller.address("api")+"/"); status != 200 || body != "api" {
			t.Errorf("got %d %q", status, body)
		}
	}
	for i, p := range called {
		if n := p.scrape().sum("larboard_requests_total", `listener="inbound"`, `code_class="2xx"`); n == 0 {
			t.Errorf("instance %d answered nothing", i)
		}
	}
}
