package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/tests/load"
	"github.com/larboard-proxy/larboard/tests/real"
)

// leafTTL is the life of Connect's certificates in TestConnectRotation, of which they
// have a minute behind them when they are issued. Consul renews those of less than ten
// minutes whenever it is asked.
const leafTTL = 80 * time.Second

// ownIdentity is what /api/v1/identity says of the only identity.
type ownIdentity struct {
	SPIFFEID  string `json:"spiffe_id"`
	Serial    string
	Source    string
	Rotations int
	Error     string
	ExpiresAt time.Time `json:"expires_at"`
	Bundles   []struct{ Authorities int }
}

func identityOf(p *larboard) ownIdentity {
	p.t.Helper()
	var v struct{ Identities []ownIdentity }
	p.view("/api/v1/identity", &v)
	if len(v.Identities) != 1 {
		p.t.Fatalf("%s has %d identities", p.name, len(v.Identities))
	}
	return v.Identities[0]
}

// replaceAuthority gives Connect a new root, as an operator does.
func (c *connect) replaceAuthority() {
	c.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		c.t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		c.t.Fatal(err)
	}
	err = c.agent.Call(http.MethodPut, "/v1/connect/ca/configuration", map[string]any{"Provider": "consul", "Config": map[string]any{
		"PrivateKey":  string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})),
		"LeafCertTTL": leafTTL.String(), "SkipValidate": true,
	}}, nil)
	if err != nil {
		c.t.Fatal(err)
	}
}

// TestConnectRotation: Consul renews certificates all the time and replaces its
// authority, under load.
func TestConnectRotation(t *testing.T) {
	t.Parallel()
	m := newConnect(t, real.ConsulOptions{LeafTTL: leafTTL.String()})
	api := m.sidecar("api", "http", startWorkload(t, "api").address)
	web := m.caller(nil, []string{"api"})
	awaitEndpoints(t, web, 1)
	gets := send(t, load.Options{Addr: web.address("api"), Host: "api"})
	posts := send(t, load.Options{Addr: web.address("api"), Host: "api", Method: "POST", Body: []byte("not to be repeated"), Rate: 50})
	gets.pass(either(3*time.Second, 30*time.Second))
	for round := range 2 {
		m.replaceAuthority()
		for _, p := range []*larboard{api, web} {
			eventually(t, patience, p.name+" trusts all authorities", func() error {
				if id := identityOf(p); len(id.Bundles) != 1 || id.Bundles[0].Authorities < round+2 {
					return fmt.Errorf("%+v", id)
				}
				return nil
			})
		}
		gets.pass(either(3*time.Second, 40*time.Second))
	}
	for _, p := range []*larboard{api, web} {
		eventually(t, patience, p.name+" has rotated", func() error {
			if id := identityOf(p); id.Rotations < 4 {
				return fmt.Errorf("%+v", id)
			}
			return nil
		})
	}
	gets.endClean()
	posts.endClean()
	for _, p := range []*larboard{api, web} {
		id := identityOf(p)
		t.Logf("%s: %s from %s, %d rotations, %d authorities", p.name, id.SPIFFEID, id.Source, id.Rotations, id.Bundles[0].Authorities)
		if id.Source != "consul" || !strings.HasSuffix(id.SPIFFEID, "/ns/default/dc/dc1/svc/"+p.name) || id.Error != "" {
			t.Errorf("%s: %+v", p.name, id)
		}
		if n := p.scrape().sum("larboard_refused_total"); n != 0 {
			t.Errorf("%s refused %v connections", p.name, n)
		}
	}
}

// TestConnectWithoutConsul: what is known stays in force while Consul is away, new
// connections included, and is brought up to date when it is back.
func TestConnectWithoutConsul(t *testing.T) {
	t.Parallel()
	m := newConnect(t, real.ConsulOptions{})
	m.agent.Intend("api", real.Source{Name: "web", Action: "allow"}, real.Source{Name: "*", Action: "deny"})
	api := m.sidecar("api", "tcp", echo(t))
	web := m.caller([]string{"api"}, nil)
	stranger := start(t, "stranger", m.common()+"identity: {consul: {service: stranger}}\nupstreams: [{service: api, bind: 127.0.0.1:0, protocol: tcp}]\n")
	live := echoed(t, web.address("api"))
	before := identityOf(api)

	m.agent.Kill()
	eventually(t, patience, "the loss shows", func() error {
		id, age := identityOf(api), api.scrape().sum("larboard_intentions_age_seconds", `destination="api"`)
		if id.Error == "" || age == 0 {
			return fmt.Errorf("age %v, %+v", age, id)
		}
		return nil
	})
	for range 5 {
		echoed(t, web.address("api"))
		refused(t, stranger.address("api"))
	}
	if err := said(live); err != nil {
		t.Errorf("the old connection: %v", err)
	}
	if id := identityOf(api); id.Serial != before.Serial {
		t.Errorf("the identity has changed: %+v", id)
	}

	m.agent.Restart()
	m.agent.Intend("api", real.Source{Name: "stranger", Action: "allow"}, real.Source{Name: "*", Action: "deny"})
	since := time.Now()
	cut(t, live, since)
	refused(t, web.address("api"))
	echoed(t, stranger.address("api"))
	eventually(t, patience, "the loss is over", func() error {
		id, age := identityOf(api), api.scrape().sum("larboard_intentions_age_seconds", `destination="api"`)
		if id.Error != "" || age != 0 {
			return fmt.Errorf("age %v, %+v", age, id)
		}
		return nil
	})
}
