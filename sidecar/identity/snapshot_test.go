package identity

import (
	"crypto/tls"
	"crypto/x509"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

func TestIncompleteMaterialIsRefused(t *testing.T) {
	authority := newCA(t, "mesh")
	tests := []struct {
		name  string
		spoil func(*Material)
		text  string
	}{
		{"nothing", func(m *Material) { *m = Material{} }, "without certificate"},
		{"no key", func(m *Material) { m.Certificate.PrivateKey = nil }, "without certificate or key"},
		{"no leaf", func(m *Material) { m.Certificate.Leaf = nil }, "without certificate"},
		{"no own bundle", func(m *Material) { m.Bundles = nil }, "no bundle for the own trust domain"},
		{"an empty own bundle", func(m *Material) { m.Bundles[m.ID.TrustDomain()] = nil }, "no bundle for the own trust domain"},
		{"another name", func(m *Material) { m.ID = spiffeid.RequireFromString(webID) }, "not " + webID},
		{"two names", func(m *Material) { m.Certificate = authority.Issue(nil, apiID, webID) }, "2 URI names"},
		{"an authority", func(m *Material) {
			m.Certificate = authority.Issue(func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }, apiID)
		}, "authority"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			m := authority.material(apiID, nil)
			tc.spoil(&m)
			if _, err := newSnapshot(m, 1); err == nil || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got %v, want %q", err, tc.text)
			}
		})
	}
}

// A holder asks for its configuration once, but asking again must be cheap and
// must give the same value, from any goroutine.
func TestConfigsAreCached(t *testing.T) {
	s := newWorld(t).own(apiID)
	web, other := AnyOf(spiffeid.RequireFromString(webID)), AnyOf(spiffeid.RequireFromString(otherID))
	first := s.ClientConfig(web, "http/1.1")
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if s.ClientConfig(web, "http/1.1") != first {
				t.Error("not the same configuration")
			}
		})
	}
	group.Wait()
	for name, c := range map[string]*tls.Config{
		"peers": s.ClientConfig(other, "http/1.1"), "alpn": s.ClientConfig(web, "h2"), "side": s.ServerConfig(web, "http/1.1"),
	} {
		if c == first {
			t.Errorf("another %s has the same configuration", name)
		}
	}
}

func TestConfigRules(t *testing.T) {
	s := newWorld(t).own(apiID)
	server, client := s.ServerConfig(AnyTrusted()), s.ClientConfig(AnyTrusted())
	for name, c := range map[string]*tls.Config{"server": server, "client": client} {
		if c.MinVersion != tls.VersionTLS13 || c.VerifyConnection == nil || c.VerifyPeerCertificate != nil ||
			c.Renegotiation != tls.RenegotiateNever || c.ClientSessionCache != nil {
			t.Errorf("the %s's configuration breaks a rule", name)
		}
	}
	if !server.SessionTicketsDisabled || server.InsecureSkipVerify || server.ClientAuth != tls.RequestClientCert {
		t.Error("the server's configuration breaks a rule")
	}
}

// Without tickets a client that tries to resume gets a full handshake, in which it
// is authorized again.
func TestNoResumption(t *testing.T) {
	w := newWorld(t)
	api, web := w.own(apiID), w.own(webID)
	client := web.ClientConfig(AnyOf(api.ID())).Clone()
	client.ServerName, client.ClientSessionCache = "api", tls.NewLRUClientSessionCache(8)
	server := api.ServerConfig(AnyOf(web.ID()))
	for range 2 {
		if r := handshake(client, server); r.client != nil || r.serverState.DidResume {
			t.Fatalf("error %v, resumed %v", r.client, r.serverState.DidResume)
		}
	}
}

func TestOldVersionsAreRefused(t *testing.T) {
	w := newWorld(t)
	server := w.own(apiID).ServerConfig(AnyTrusted())
	r := handshake(&tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}, server)
	if e := Classify(r.server, true); e.Reason != policy.TLSHandshake || !strings.Contains(e.Error(), "unsupported versions") {
		t.Errorf("got %v", e)
	}
}

func TestDrainBefore(t *testing.T) {
	jitter := rand.New(rand.NewPCG(1, 2))
	tests := []struct {
		name         string
		life, age    time.Duration
		least, final time.Duration // bounds of what is left at the drain
	}{
		{"an hour", time.Hour, time.Minute, 6 * time.Minute, 12 * time.Minute},
		{"ten seconds", 10 * time.Second, time.Second, time.Second, 2 * time.Second},
		{"a year is not cut by weeks", 365 * 24 * time.Hour, 300 * 24 * time.Hour, 10 * time.Minute, 20 * time.Minute},
		{"little left", time.Hour, 58 * time.Minute, time.Minute, time.Minute},
		{"two seconds", 2 * time.Second, 0, time.Second, time.Second},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			start := time.Now()
			end, now := start.Add(tc.life), start.Add(tc.age)
			different := false
			for range 50 {
				at := drainBefore(start, end, now, jitter)
				if left := end.Sub(at); left < tc.least || left > tc.final || at.Before(now) {
					t.Fatalf("drains %s before the end, want %s to %s", left, tc.least, tc.final)
				}
				different = different || at != drainBefore(start, end, now, jitter)
			}
			if tc.least != tc.final && !different {
				t.Error("no jitter")
			}
		})
	}
	if at := drainBefore(time.Unix(0, 0), time.Unix(100, 0), time.Unix(200, 0), jitter); !at.Equal(time.Unix(100, 0)) {
		t.Errorf("an expired certificate drains at %s", at)
	}
}

// The peer's certificate counts as well as ours.
func TestDrainConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, jitter := newWorld(t), rand.New(rand.NewPCG(1, 2))
		s := w.own(apiID) // an hour
		short := w.root.Issue(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(time.Minute) }, webID)
		state := tls.ConnectionState{PeerCertificates: []*x509.Certificate{short.Leaf}}
		if at := s.DrainConnection(state, jitter); !at.Before(short.Leaf.NotAfter) {
			t.Errorf("drains at %s, the peer's certificate ends at %s", at, short.Leaf.NotAfter)
		}
		if at := s.DrainConnection(tls.ConnectionState{}, jitter); !at.After(short.Leaf.NotAfter) || !at.Before(s.NotAfter()) {
			t.Errorf("without a peer's certificate: drains at %s, ours ends at %s", at, s.NotAfter())
		}
		if at := s.ConnectionEnd(state); !at.Equal(short.Leaf.NotAfter) {
			t.Errorf("ends at %s, the peer's certificate at %s", at, short.Leaf.NotAfter)
		}
		if at := s.ConnectionEnd(tls.ConnectionState{}); !at.Equal(s.NotAfter()) {
			t.Errorf("ends at %s, ours at %s", at, s.NotAfter())
		}
	})
}

func BenchmarkMutualHandshake(b *testing.B) {
	w := newWorld(b)
	api, web := w.own(apiID), w.own(webID)
	client, server := web.ClientConfig(AnyOf(api.ID())), api.ServerConfig(AnyOf(web.ID()))
	b.ReportAllocs()
	for b.Loop() {
		if r := handshake(client, server); r.client != nil {
			b.Fatal(r.client)
		}
	}
}

// BenchmarkVerifyPeer shows what remembering a chain saves; it does not measure
// the parsing of the certificate, which crypto/tls does.
func BenchmarkVerifyPeer(b *testing.B) {
	w := newWorld(b)
	s := w.own(apiID)
	state := tls.ConnectionState{PeerCertificates: []*x509.Certificate{w.root.Issue(nil, webID).Leaf}}
	b.Run("remembered", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.verifyPeer(state, x509.ExtKeyUsageClientAuth, AnyTrusted())
		}
	})
	b.Run("new", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.verifyChain(state.PeerCertificates, x509.ExtKeyUsageClientAuth, time.Now())
		}
	})
}
