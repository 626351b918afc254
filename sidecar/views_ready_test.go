package sidecar

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/larboard-proxy/larboard/sidecar/identity"
)

func TestNotReadyWithoutAValidIdentity(t *testing.T) {
	domain := spiffeid.RequireTrustDomainFromString("example.test")
	authority, err := identity.NewAuthority(identity.AuthorityOptions{TrustDomain: domain, TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	material, err := authority.Issue(spiffeid.RequireFromPath(domain, "/svc/web"))
	if err != nil {
		t.Fatal(err)
	}
	current := identity.NewCurrent(slog.New(slog.DiscardHandler))
	own := identities{all: []*ownIdentity{{current: current}}}
	if ready, why := own.ready(time.Now()); ready || why[0] != "no identity yet" {
		t.Errorf("before the first: %v %q", ready, why)
	}
	current.Set(material)
	snap := current.Snapshot()
	if ready, why := own.ready(time.Now()); !ready {
		t.Errorf("with a valid one: %q", why)
	}
	after := snap.NotAfter().Add(3 * time.Second)
	if ready, why := own.ready(after); ready || !strings.HasPrefix(why[0], "identity expired at "+snap.NotAfter().UTC().Format(time.RFC3339)) {
		t.Errorf("after its end: %v %q", ready, why)
	}

	own.all = append(own.all, &ownIdentity{name: "other", current: identity.NewCurrent(slog.New(slog.DiscardHandler))})
	if ready, why := own.ready(time.Now()); !ready {
		t.Errorf("one of two can serve: %q", why)
	}
	if ready, why := own.ready(after); ready || len(why) != 2 || why[1] != "other: no identity yet" {
		t.Errorf("neither of two: %v %q", ready, why)
	}
}
