package identity

import (
	"fmt"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

func TestPeersAccept(t *testing.T) {
	tests := []struct {
		name     string
		patterns []string
		yes, no  []string
	}{
		{"nobody", nil, nil, []string{webID}},
		{"one ID", []string{webID}, []string{webID}, []string{apiID, webID + "/x", "spiffe://other.test/svc/web"}},
		{"two IDs", []string{webID, apiID}, []string{webID, apiID}, []string{otherID}},
		{"below a path", []string{"spiffe://mesh.test/svc/*"}, []string{webID, "spiffe://mesh.test/svc/a/b"},
			[]string{"spiffe://mesh.test/svc", "spiffe://mesh.test/svcx/a", "spiffe://other.test/svc/web"}},
		{"a trust domain", []string{"spiffe://mesh.test/*"}, []string{webID, "spiffe://mesh.test/a"},
			[]string{"spiffe://mesh.test.evil/a", "spiffe://sub.mesh.test/a"}},
		{"mixed", []string{webID, "spiffe://other.test/a/*"}, []string{webID, "spiffe://other.test/a/b"},
			[]string{apiID, "spiffe://other.test/b"}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			p, err := ParsePeers(tc.patterns...)
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range tc.yes {
				if !p.Accept(spiffeid.RequireFromString(id)) {
					t.Errorf("%s is not accepted by %s", id, p)
				}
			}
			for _, id := range tc.no {
				if p.Accept(spiffeid.RequireFromString(id)) {
					t.Errorf("%s is accepted by %s", id, p)
				}
			}
			if p.Accept(spiffeid.ID{}) || AnyTrusted().Accept(spiffeid.ID{}) {
				t.Error("the zero ID is accepted")
			}
		})
	}
}

func TestPeersRefusesBadPatterns(t *testing.T) {
	for _, text := range []string{"", "*", "/*", "web", "spiffe://mesh.test", "spiffe://*/svc", "spiffe://mesh.test/a*", "spiffe://mesh.test/*/web", "https://mesh.test/a", "spiffe://mesh.test/a/"} {
		if p, err := ParsePeers(webID, text); err == nil {
			t.Errorf("%q was parsed as %s", text, p)
		}
	}
}

func TestPeersKey(t *testing.T) {
	web, api := spiffeid.RequireFromString(webID), spiffeid.RequireFromString(apiID)
	if AnyOf(web, api).Key() != AnyOf(api, web, web).Key() {
		t.Error("the order of names makes another key")
	}
	if AnyOf(web).Key() == AnyOf(api).Key() || (Peers{}).Key() == AnyTrusted().Key() {
		t.Error("different sets share a key")
	}
	pattern, _ := Pattern("spiffe://mesh.test/*")
	if pattern.Key() != MemberOf(web.TrustDomain()).Key() {
		t.Error("two spellings of a trust domain differ")
	}
	if !(Peers{}).IsZero() || !AnyOf().IsZero() || AnyOf(web).IsZero() {
		t.Error("IsZero is wrong")
	}
	many := manyPeers(500)
	if len(many.Key()) > 250 || many.Key() == manyPeers(499).Key() {
		t.Errorf("key of many names: %q", many.Key())
	}
	if text := many.String(); len(text) > 400 || !strings.HasSuffix(text, "and 496 more") {
		t.Errorf("text of many names: %q", text)
	}
}

func manyPeers(n int) Peers {
	var ids []spiffeid.ID
	for i := range n {
		ids = append(ids, spiffeid.RequireFromString(fmt.Sprintf("spiffe://mesh.test/svc/s%d", i)))
	}
	return AnyOf(ids...)
}

func TestAcceptDoesNotAllocate(t *testing.T) {
	p := Union(manyPeers(100), MemberOf(spiffeid.RequireTrustDomainFromString("b.test")))
	id := spiffeid.RequireFromString(webID)
	if n := testing.AllocsPerRun(100, func() { p.Accept(id) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
