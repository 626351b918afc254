package identity

import (
	"crypto/x509"
	"net/url"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// FuzzID holds the function from a certificate to an identity against go-spiffe's:
// we may be stricter, never laxer, and every refusal is typed. The input is the
// certificate's URI names, one a line, which reaches further than random DER.
func FuzzID(f *testing.F) {
	for _, names := range []string{
		webID, "", webID + "\n" + apiID, webID + "\n", "https://web", "spiffe://mesh.test", "spiffe://mesh.test/",
		"spiffe://MESH.test/a", "SPIFFE://mesh.test/a", "spiffe://mesh.test/a%2fb", "spiffe://mesh.test/../a",
		"spiffe://u@mesh.test/a", "spiffe://mesh.test:80/a", "spiffe:opaque", "spiffe://mesh.test/a?b", "spiffe://mesh.test/a#b",
		"spiffe:///a", "//mesh.test/a", "spiffe://mesh.test//a", "spiffe://mesh.test/\u0430",
	} {
		f.Add(names)
	}
	f.Fuzz(func(t *testing.T, names string) {
		leaf := &x509.Certificate{}
		for name := range strings.SplitSeq(names, "\n") {
			if u, err := url.Parse(name); err == nil {
				leaf.URIs = append(leaf.URIs, u)
			}
		}
		checkID(t, leaf)
	})
}

// FuzzCertificate is FuzzID from the certificate's bytes.
func FuzzCertificate(f *testing.F) {
	authority := newCA(f, "mesh")
	for _, uris := range [][]string{
		{webID}, {}, {webID, apiID}, {"https://web"}, {"spiffe://mesh.test"}, {"spiffe://MESH.test/a"},
		{"spiffe://mesh.test/a%2fb"}, {"spiffe://mesh.test/../a"}, {"spiffe://u@mesh.test/a"}, {"spiffe:opaque"},
	} {
		f.Add(authority.Issue(nil, uris...).Leaf.Raw)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		leaf, err := x509.ParseCertificate(der)
		if err != nil {
			return
		}
		checkID(t, leaf)
	})
}

func checkID(t *testing.T, leaf *x509.Certificate) {
	t.Helper()
	id, r := idOf(leaf)
	if r != nil {
		switch r.reason {
		case policy.TLSNoID, policy.TLSSeveralIDs:
		default:
			t.Errorf("reason %s", r.reason)
		}
		if !id.IsZero() || r.err.Error() == "" {
			t.Errorf("refused with id %q and text %q", id, r.err)
		}
		return
	}
	theirs, err := x509svid.IDFromCert(leaf)
	if err != nil || theirs != id || id.Path() == "" || len(leaf.URIs) != 1 {
		t.Errorf("we read %q, go-spiffe %q (%v)", id, theirs, err)
	}
}
