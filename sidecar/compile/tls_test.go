package compile

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/larboard-proxy/larboard/sidecar/identity"
	"github.com/larboard-proxy/larboard/tests/pki"
)

// give makes id the identity of a holder.
func give(t *testing.T, a *identity.Authority, id spiffeid.ID, to *identity.Current) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	a.Source(id).Run(ctx, func(m identity.Material) { to.Set(m); cancel() })
}

func TestEdgeCertificates(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"one.example", "two.example"} {
		pki.Write(t, filepath.Join(dir, name), pki.SelfSigned(t, name))
	}
	for _, c := range []struct {
		name, protocol string
		alpn           []string
	}{{"http", "http", []string{"h2", "http/1.1"}}, {"tcp offers no protocol", "tcp", nil}} {
		t.Run(c.name, func(t *testing.T) {
			text := fmt.Sprintf("listeners: [{name: in, address: 127.0.0.1:1, protocol: %s, service: a, tls: {certificates: [{cert: %q, key: %q}, {cert: %q, key: %q}]}}]"+services,
				c.protocol, filepath.Join(dir, "one.example.pem"), filepath.Join(dir, "one.example.key"), filepath.Join(dir, "two.example.pem"), filepath.Join(dir, "two.example.key"))
			out := compiled(t, text, nil)
			l := out.Snapshot.Listeners[0]
			m, err := l.TLS()
			if err != nil || m.Identity != nil || l.Allow != nil || len(out.Certificates) != 1 {
				t.Errorf("%+v %v, %d to keep fresh", m, err, len(out.Certificates))
			}
			if !slices.Equal(m.Config.NextProtos, c.alpn) {
				t.Errorf("offers %q", m.Config.NextProtos)
			}
			if c.protocol == "http" && l.Routes[0].Steps[0] == nil {
				t.Error("no forwarded step")
			}
		})
	}
}
