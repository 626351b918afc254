package identity

import (
	"crypto/x509"
	"testing"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// FuzzID holds the function from a certificate to an identity against go-spiffe's:
// we may be stricter, never laxer, and every refusal is typed.
func FuzzID(f *testing.F) {
	authority := newCA(f, "mesh")
	for _, uris := range [][]string{
		{webID}, {}, {webID, apiID}, {"https://web"}, {"spiffe://mesh.test"}, {"spiffe://MESH.test/a"},
		{"spiffe://mesh.test/a%2fb"}, {"spiffe://mesh.test/../a"}, {"spiffe://u@mesh.test/a"}, {"spiffe:opaque"},
	} {
		f.Add(authority.leaf(nil, uris...).Leaf.Raw)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		leaf, err := x509.ParseCertificate(der)
		if err != nil {
			return
		}
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
	})
}
