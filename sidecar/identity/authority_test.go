package identity

import (
	"context"
	"crypto/x509"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

var meshDomain = spiffeid.RequireTrustDomainFromString("mesh.test")

func newTestAuthority(t testing.TB, change func(*AuthorityOptions)) *Authority {
	t.Helper()
	options := AuthorityOptions{TrustDomain: meshDomain, TTL: 10 * time.Second}
	if change != nil {
		change(&options)
	}
	a, err := NewAuthority(options)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func rootsOf(t *testing.T, a *Authority) []*x509.Certificate {
	t.Helper()
	bundle, err := a.Bundle()
	if err != nil {
		t.Fatal(err)
	}
	return bundle
}

// followed runs a Current on a's source until the test ends.
func followed(t *testing.T, a *Authority, id string) *Current {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	c := NewCurrent(quietLog())
	var group sync.WaitGroup
	group.Go(func() { c.Run(ctx, a.Source(spiffeid.RequireFromString(id))) })
	t.Cleanup(func() {
		cancel()
		group.Wait()
	})
	if _, err := c.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	return c
}

// meet shakes hands both ways with what is current on both sides.
func meet(t *testing.T, a, b *Current) {
	t.Helper()
	meetSnapshots(t, a.Snapshot(), b.Snapshot())
}

func meetSnapshots(t *testing.T, x, y *Snapshot) {
	t.Helper()
	for range 2 {
		r := handshake(x.ClientConfig(AnyOf(y.ID())), y.ServerConfig(AnyOf(x.ID())))
		if r.client != nil || r.server != nil {
			t.Fatalf("%s: %s calls %s: client %v, server %v", time.Now(), x, y, r.client, r.server)
		}
		x, y = y, x
	}
}

func TestAuthorityRotatesAtHalfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newTestAuthority(t, nil)
		api, web := followed(t, a, apiID), followed(t, a, webID)
		for range 240 { // two minutes
			time.Sleep(500 * time.Millisecond)
			synctest.Wait()
			for _, c := range []*Current{api, web} {
				if left := time.Until(c.Snapshot().NotAfter()); left < 4*time.Second {
					t.Fatalf("%s has only %s left", c.Snapshot(), left)
				}
			}
			meet(t, api, web)
		}
		if n := api.Status().Rotations; n < 20 || n > 30 {
			t.Errorf("%d rotations in two minutes of ten-second certificates", n)
		}
	})
}

// At every moment of a root's rotation both sides understand each other, also where
// one side learns of each step half a second late.
func TestRootRotationOverlaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newTestAuthority(t, nil)
		api, web := followed(t, a, apiID), followed(t, a, webID)
		old, before := rootsOf(t, a)[0], web.Snapshot()
		if err := a.RotateRoot(); err != nil {
			t.Fatal(err)
		}
		if err := a.RotateRoot(); err != nil { // while one is under way
			t.Fatal(err)
		}
		if n := len(rootsOf(t, a)); n != 2 {
			t.Fatalf("%d roots", n)
		}
		synctest.Wait()
		if n := api.Snapshot().Authorities(meshDomain); n != 2 {
			t.Fatalf("%d authorities in the bundle, want both", n)
		}
		late := []*Snapshot{before}
		m, err := a.Issue(spiffeid.RequireFromString(otherID)) // by the old root, and kept to its end
		if err != nil {
			t.Fatal(err)
		}
		kept := snapshotOf(t, m)
		for range 300 {
			late = append(late, web.Snapshot())
			meet(t, api, web)
			meetSnapshots(t, api.Snapshot(), late[max(0, len(late)-10)])
			if time.Now().Before(kept.NotAfter()) {
				meetSnapshots(t, api.Snapshot(), kept)
			}
			time.Sleep(50 * time.Millisecond)
			synctest.Wait()
		}
		if n := api.Snapshot().Authorities(meshDomain); n != 1 {
			t.Errorf("%d authorities after the overlap, want 1", n)
		}
		if bundle := rootsOf(t, a); len(bundle) != 1 || bundle[0].Equal(old) {
			t.Error("the old root is still there")
		}
	})
}

func TestRootsAreReplacedBeforeTheyEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newTestAuthority(t, func(o *AuthorityOptions) { o.RootTTL = 100 * time.Second })
		api, web := followed(t, a, apiID), followed(t, a, webID)
		for range 100 {
			time.Sleep(5 * time.Second)
			synctest.Wait()
			meet(t, api, web)
		}
	})
}

func TestFederation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here := newTestAuthority(t, nil)
		there := newTestAuthority(t, func(o *AuthorityOptions) { o.TrustDomain = spiffeid.RequireTrustDomainFromString("other.test") })
		api, web := followed(t, here, apiID), followed(t, there, "spiffe://other.test/svc/web")
		x, y := web.Snapshot(), api.Snapshot()
		if r := handshake(x.ClientConfig(AnyTrusted()), y.ServerConfig(AnyTrusted())); policy.ReasonOf(r.client) != policy.UpstreamTLSIdentity {
			t.Fatalf("strangers met: %v", r.client)
		}
		for _, pair := range [][2]*Authority{{here, there}, {there, here}} {
			if err := pair[0].Federate(pair[1].TrustDomain(), rootsOf(t, pair[1])); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		meet(t, api, web)
		if err := here.Federate(there.TrustDomain(), nil); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		x, y = web.Snapshot(), api.Snapshot()
		if r := handshake(x.ClientConfig(AnyTrusted()), y.ServerConfig(AnyTrusted())); policy.ReasonOf(r.server) != policy.TLSUnknownDomain {
			t.Errorf("the federation was not withdrawn: %v", r.server)
		}
		if here.Federate(meshDomain, nil) == nil {
			t.Error("an authority federates with itself")
		}
	})
}

func TestAuthorityRefuses(t *testing.T) {
	a := newTestAuthority(t, nil)
	for _, id := range []spiffeid.ID{{}, meshDomain.ID(), spiffeid.RequireFromString("spiffe://other.test/svc/api")} {
		if _, err := a.Issue(id); err == nil {
			t.Errorf("issued to %q", id)
		}
	}
	for name, options := range map[string]AuthorityOptions{
		"no domain":       {},
		"a tiny ttl":      {TrustDomain: meshDomain, TTL: time.Second},
		"a tiny root ttl": {TrustDomain: meshDomain, TTL: time.Hour, RootTTL: 2 * time.Hour},
	} {
		if _, err := NewAuthority(options); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestAuthorityNamesServices(t *testing.T) {
	a := newTestAuthority(t, nil)
	if id, err := a.ID("api"); err != nil || id.String() != apiID {
		t.Errorf("got %s, %v", id, err)
	}
	consul := newTestAuthority(t, func(o *AuthorityOptions) {
		o.Path = func(service string) string { return "/ns/default/dc/dc1/svc/" + service }
	})
	if id, err := consul.ID("api"); err != nil || id.Path() != "/ns/default/dc/dc1/svc/api" {
		t.Errorf("got %s, %v", id, err)
	}
	if _, err := a.ID("a b"); err == nil {
		t.Error("a name that makes no path was accepted")
	}
}

// Two processes with one state directory are one authority, also across a root's
// rotation by one of them and the loss of the file.
func TestSharedState(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	synctest.Test(t, func(t *testing.T) {
		shared := func(o *AuthorityOptions) { o.StateDir = dir }
		first, second := newTestAuthority(t, shared), newTestAuthority(t, shared)
		api, web := followed(t, first, apiID), followed(t, second, webID)
		meet(t, api, web)
		if err := first.RotateRoot(); err != nil {
			t.Fatal(err)
		}
		for range 300 {
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
			meet(t, api, web)
		}
		if n := web.Snapshot().Authorities(meshDomain); n != 1 || !rootsOf(t, first)[0].Equal(rootsOf(t, second)[0]) {
			t.Errorf("%d authorities, or not the same", n)
		}
		path := filepath.Join(dir, "authority.json")
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the state has mode %v (%v)", info.Mode(), err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		meet(t, api, followed(t, newTestAuthority(t, shared), webID))
	})
}

func TestBadStateIsNeverOverwritten(t *testing.T) {
	tests := []struct {
		name, content, text string
		mode                os.FileMode
	}{
		{"no json", "roots", "invalid character", 0o600},
		{"another domain", `{"trust_domain":"other.test"}`, `of trust domain "other.test", not "mesh.test"`, 0o600},
		{"a root without a key", `{"trust_domain":"mesh.test","roots":[{"certificate":"x"}]}`, "without certificate or key", 0o600},
		{"readable by others", `{"trust_domain":"mesh.test"}`, "chmod 600", 0o644},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "authority.json")
			if err := os.WriteFile(path, []byte(tc.content), tc.mode); err != nil {
				t.Fatal(err)
			}
			_, err := NewAuthority(AuthorityOptions{TrustDomain: meshDomain, StateDir: dir})
			if err == nil || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got %v, want %q", err, tc.text)
			}
			if now, _ := os.ReadFile(path); string(now) != tc.content {
				t.Error("the file was changed")
			}
		})
	}
}

// While the shared state cannot be read, what was issued stays in use and the
// failure shows; afterwards it goes on.
func TestSourceSurvivesABrokenState(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var log lockedBuffer
		a := newTestAuthority(t, func(o *AuthorityOptions) {
			o.StateDir, o.Log = dir, slog.New(slog.NewTextHandler(&log, nil))
		})
		api := followed(t, a, apiID)
		path := filepath.Join(dir, "authority.json")
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		replaceFile(t, path, []byte("{"))
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if st := api.Status(); st.LastError == "" || st.Generation != 1 || !st.Expired {
			t.Errorf("with a broken state: %+v", st)
		}
		if n := strings.Count(log.String(), "cannot issue"); n != 1 {
			t.Errorf("the failure was logged %d times", n)
		}
		replaceFile(t, path, good)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if st := api.Status(); st.LastError != "" || st.Generation != 2 || st.Expired {
			t.Errorf("afterwards: %+v", st)
		}
	})
}
