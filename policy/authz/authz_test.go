package authz

import (
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

var own = spiffeid.RequireTrustDomainFromString("example.org")

func id(s string) spiffeid.ID {
	if s == "" {
		return spiffeid.ID{}
	}
	return spiffeid.RequireFromString(s)
}

func TestAllow(t *testing.T) {
	list := []string{"/web", "/ns/a/*", "spiffe://partner.test/client", "spiffe://friend.test/*", "/ns/a/batch"}
	for _, c := range []struct {
		name   string
		allow  []string
		caller string
		want   policy.Reason
		rule   string
	}{
		{"empty list, member", nil, "spiffe://example.org/any", policy.None, "default: every member of example.org"},
		{"empty list, foreign", nil, "spiffe://evil.test/any", policy.NotAllowed, "default deny: foreign trust domain"},
		{"empty list, look-alike domain", nil, "spiffe://example.org.evil.test/any", policy.NotAllowed, "default deny: foreign trust domain"},
		{"empty list, nobody", nil, "", policy.TLSNoID, "default deny: no identity"},
		{"empty list, the trust domain itself", nil, "spiffe://example.org", policy.TLSNoID, "default deny: the ID is that of a trust domain, not of a member"},
		{"exact", list, "spiffe://example.org/web", policy.None, "/web"},
		{"exact is no prefix", list, "spiffe://example.org/web/x", policy.NotAllowed, "default deny: no pattern names the caller"},
		{"exact path of another domain", list, "spiffe://evil.test/web", policy.NotAllowed, "default deny: foreign trust domain"},
		{"below", list, "spiffe://example.org/ns/a/sa/web", policy.None, "/ns/a/*"},
		{"exact named before wider", list, "spiffe://example.org/ns/a/batch", policy.None, "/ns/a/batch"},
		{"below is not the path itself", list, "spiffe://example.org/ns/a", policy.NotAllowed, "default deny: no pattern names the caller"},
		{"below is by segments", list, "spiffe://example.org/ns/ab/x", policy.NotAllowed, "default deny: no pattern names the caller"},
		{"foreign, named", list, "spiffe://partner.test/client", policy.None, "spiffe://partner.test/client"},
		{"foreign, another", list, "spiffe://partner.test/other", policy.NotAllowed, "default deny: foreign trust domain"},
		{"foreign domain named whole", list, "spiffe://friend.test/a/b", policy.None, "spiffe://friend.test/*"},
		{"own domain, not named", list, "spiffe://example.org/other", policy.NotAllowed, "default deny: no pattern names the caller"},
		{"star is our own domain only", []string{"*"}, "spiffe://evil.test/any", policy.NotAllowed, "default deny: foreign trust domain"},
		{"star", []string{"*"}, "spiffe://example.org/any", policy.None, "*"},
		{"nobody, with a list", list, "", policy.TLSNoID, "default deny: no identity"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := Compile(c.allow, own)
			if err != nil {
				t.Fatal(err)
			}
			v := l.Allow(id(c.caller))
			if v.Reason() != c.want || v.Rule() != c.rule {
				t.Errorf("%s by %q, want %s by %q", v.Reason(), v.Rule(), c.want, c.rule)
			}
			permit, ok := v.Permit()
			if ok != (c.want == policy.None) || ok != v.Allowed() || ok != permit.Valid() {
				t.Errorf("permit %v, valid %v", ok, permit.Valid())
			}
			if ok && (permit.ID() != id(c.caller) || permit.Rule() != c.rule) {
				t.Errorf("permit for %s by %q", permit.ID(), permit.Rule())
			}
		})
	}
}

func TestZeroValuesDeny(t *testing.T) {
	var v Verdict
	if v.Allowed() || v.Reason() != policy.NotAllowed || v.Rule() == "" {
		t.Errorf("zero verdict: allowed %v, %s, %q", v.Allowed(), v.Reason(), v.Rule())
	}
	if (Permit{}).Valid() {
		t.Error("the zero permit is valid")
	}
}

func TestCompileRefuses(t *testing.T) {
	for _, c := range []struct{ name, pattern, want string }{
		{"empty", "", "cannot be empty"},
		{"no scheme", "web", "scheme"},
		{"whole domain without star", "spiffe://partner.test", "end it with /*"},
		{"any domain", "spiffe://*/web", "star stands only"},
		{"star inside", "/ns/*/web", "star stands only"},
		{"part of a segment", "/web-*", "star stands only"},
		{"two stars", "/ns/*/*", "star stands only"},
		{"trailing slash", "/web/", "trailing slash"},
		{"dot segments", "/ns/../web", "dot"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Compile([]string{c.pattern}, own)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestCompileReportsAllProblems(t *testing.T) {
	_, err := Compile([]string{"one", "/fine", "two"}, own)
	if err == nil || !strings.Contains(err.Error(), `"one"`) || !strings.Contains(err.Error(), `"two"`) {
		t.Errorf("got %v", err)
	}
	if _, err := Compile(nil, spiffeid.TrustDomain{}); err == nil {
		t.Error("compiled without a trust domain of our own")
	}
}

func TestAllowAllocatesNothing(t *testing.T) {
	l, err := Compile([]string{"/web", "/ns/*"}, own)
	if err != nil {
		t.Fatal(err)
	}
	for _, caller := range []spiffeid.ID{id("spiffe://example.org/web"), id("spiffe://example.org/ns/x"), id("spiffe://example.org/no"), id("spiffe://evil.test/no")} {
		if n := testing.AllocsPerRun(100, func() { l.Allow(caller) }); n != 0 {
			t.Errorf("%s: %v allocations", caller, n)
		}
	}
}

func FuzzCompile(f *testing.F) {
	f.Add("/ns/a/*", "/ns/a/b")
	f.Add("*", "/x")
	f.Fuzz(func(t *testing.T, pattern, path string) {
		l, err := Compile([]string{pattern}, own)
		if err != nil {
			return
		}
		stranger, err := spiffeid.FromPath(spiffeid.RequireTrustDomainFromString("evil.test"), path)
		if err == nil && l.Allow(stranger).Allowed() && !strings.HasPrefix(pattern, "spiffe://evil.test/") {
			t.Errorf("pattern %q allows %s", pattern, stranger)
		}
	})
}
