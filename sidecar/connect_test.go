package sidecar

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/discovery/consul"
	"github.com/larboard-proxy/larboard/sidecar/identity"
)

const connectDomain = "11111111-2222-3333-4444-555555555555.consul"

// connectAuthority signs certificates as Connect does.
type connectAuthority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newConnectAuthority(t *testing.T) *connectAuthority {
	t.Helper()
	a := &connectAuthority{t: t}
	a.key = a.newKey()
	a.cert = a.sign(&x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, URIs: uris("spiffe://" + connectDomain)}, a.key)
	return a
}

func uris(text string) []*url.URL {
	u, err := url.Parse(text)
	if err != nil {
		panic(err)
	}
	return []*url.URL{u}
}

func (a *connectAuthority) newKey() *ecdsa.PrivateKey {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	return key
}

func (a *connectAuthority) sign(c *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	a.t.Helper()
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	parent := a.cert
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	signed, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return signed
}

func inPEM(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

// leaf is an answer of the agent's with a certificate for an ID.
func (a *connectAuthority) leaf(id string) map[string]string {
	key := a.newKey()
	c := a.sign(&x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature, URIs: uris(id)}, key)
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return map[string]string{"CertPEM": inPEM(c), "PrivateKeyPEM": string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))}
}

// rootsOf is an answer of the agent's with authorities.
func rootsOf(all ...*connectAuthority) map[string]any {
	var list []map[string]any
	for i, a := range all {
		list = append(list, map[string]any{"ID": fmt.Sprint(i), "RootCert": inPEM(a.cert), "Active": i == 0})
	}
	return map[string]any{"ActiveRootID": "0", "TrustDomain": connectDomain, "Roots": list}
}

// connectAgent answers blocking queries for one leaf and the roots.
type connectAgent struct {
	mu      sync.Mutex
	index   int
	changed chan struct{}
	answers map[string]any // by the path's last part; absent: 500
}

func (g *connectAgent) set(name string, answer any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.index++
	g.answers[name] = answer
	close(g.changed)
	g.changed = make(chan struct{})
}

func (g *connectAgent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for {
		g.mu.Lock()
		index, changed, answer := fmt.Sprint(g.index), g.changed, g.answers[r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]]
		g.mu.Unlock()
		if answer != nil && r.URL.Query().Get("index") == index {
			select {
			case <-changed:
				continue
			case <-r.Context().Done():
				return
			}
		}
		w.Header().Set("X-Consul-Index", index)
		if answer == nil {
			http.Error(w, "no CA", http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(answer)
		return
	}
}

// connectSource runs the source of web's identity against an agent.
func connectSource(t *testing.T) (*connectAgent, *connectCA, <-chan identity.Material) {
	t.Helper()
	agent := &connectAgent{index: 1, changed: make(chan struct{}), answers: map[string]any{}}
	server := httptest.NewServer(agent)
	client, err := consul.New(consul.Options{Address: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	source := newConnectCA(client, "web", slog.New(slog.DiscardHandler))
	materials := make(chan identity.Material, 16)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- source.Run(ctx, func(m identity.Material) { materials <- m }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
		client.Close()
		server.Close()
	})
	return agent, source, materials
}

func nextMaterial(t *testing.T, materials <-chan identity.Material) identity.Material {
	t.Helper()
	select {
	case m := <-materials:
		return m
	case <-time.After(30 * time.Second):
		t.Fatal("no material came")
		panic("unreachable")
	}
}

func untilError(t *testing.T, s *connectCA, want string) {
	t.Helper()
	late := time.Now().Add(30 * time.Second)
	for !strings.Contains(s.LastError(), want) || want == "" && s.LastError() != "" {
		if time.Now().After(late) {
			t.Fatalf("last error %q, want %q", s.LastError(), want)
		}
		time.Sleep(time.Millisecond)
	}
}

const webID = "spiffe://" + connectDomain + "/ns/default/dc/dc1/svc/web"

func TestConnectCA(t *testing.T) {
	agent, source, materials := connectSource(t)
	first, second := newConnectAuthority(t), newConnectAuthority(t)
	untilError(t, source, `watch certificate of service "web"`)
	untilError(t, source, "watch connect roots")

	agent.set("roots", rootsOf(first))
	agent.set("web", first.leaf(webID))
	m := nextMaterial(t, materials)
	if m.ID.String() != webID || m.Source != "consul" || len(m.Bundles[m.ID.TrustDomain()]) != 1 {
		t.Fatalf("got %v", m)
	}
	untilError(t, source, "")

	agent.set("roots", rootsOf(first)) // the same again
	agent.set("web", agent.answers["web"])
	agent.set("web", second.leaf(webID)) // before its authority is known
	untilError(t, source, "does not verify against consul's roots")
	agent.set("roots", rootsOf(second, first))
	if m := nextMaterial(t, materials); len(m.Bundles[m.ID.TrustDomain()]) != 2 || m.Certificate.Leaf.CheckSignatureFrom(second.cert) != nil {
		t.Errorf("after the rotation: %v", m)
	}
	untilError(t, source, "")

	for _, c := range []struct{ name, id, want string }{
		{"another service", "spiffe://" + connectDomain + "/ns/default/dc/dc1/svc/api", `not for service "web"`},
		{"another namespace", "spiffe://" + connectDomain + "/ns/shop/dc/dc1/svc/web", `in namespace "default"`},
		{"another trust domain", "spiffe://evil.test/ns/default/dc/dc1/svc/web", "no bundle for the own trust domain"},
		{"no service", "spiffe://" + connectDomain + "/agent/client/dc/dc1/id/web", `not for service "web"`},
		{"more than a service", webID + "/x", `not for service "web"`},
	} {
		agent.set("web", second.leaf(c.id))
		untilError(t, source, c.want)
		if len(materials) != 0 {
			t.Fatalf("%s: %v was handed out", c.name, <-materials)
		}
	}
	agent.set("web", map[string]string{"CertPEM": "x"})
	untilError(t, source, "without certificate or key")
	agent.set("web", first.leaf("spiffe://"+connectDomain+"/ap/p/ns/default/dc/dc2/svc/web"))
	nextMaterial(t, materials)
	untilError(t, source, "")
}
