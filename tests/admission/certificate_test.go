package admission

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/larboard-proxy/larboard/tests/pki"
)

// With a certificate of somebody else in files, the webhook configuration is his, too.
func (m *mesh) testCertificate() {
	issue := func(ca *pki.CA) tls.Certificate {
		return ca.Issue(func(c *x509.Certificate) { c.DNSNames = []string{"larboard-injector.larboard-system.svc"} })
	}
	bundle := func(all ...*pki.CA) (text []byte) {
		for _, ca := range all {
			text = append(text, pki.CertPEM(tls.Certificate{Certificate: [][]byte{ca.Cert.Raw}})...)
		}
		return text
	}
	trust := func(text []byte) {
		c := m.hooks()
		for i := range c.Webhooks {
			c.Webhooks[i].ClientConfig.CABundle = text
		}
		if err := m.Call(http.MethodPut, configurations+c.Name, c, nil); err != nil {
			m.t.Fatal(err)
		}
	}
	first, second := pki.New(m.t, "first"), pki.New(m.t, "second")
	path := filepath.Join(m.t.TempDir(), "tls")
	cert, key := pki.Write(m.t, path, issue(first))
	trust(bundle(first))
	r := m.start("--cert", cert, "--key", key)
	m.until("injected with the first certificate", func() error {
		_, _, err := m.create("shop", plain("probe"), "?dryRun=All")
		return err
	})
	// The other side's own order: trust both, then change, then trust the new one alone.
	trust(bundle(first, second))
	next := issue(second)
	pki.Write(m.t, path, next)
	m.until("the new certificate", func() error {
		if got := r.metric("larboard_injector_certificate_expiry_timestamp_seconds"); got != float64(next.Leaf.NotAfter.Unix()) || !strings.Contains(r.log.String(), "certificate read") {
			return fmt.Errorf("expires at %v", got)
		}
		conn, err := tls.Dial("tcp", fmt.Sprintf("%s:%d", m.host, r.reviews), &tls.Config{RootCAs: pki.Pool(second.Cert), ServerName: "larboard-injector.larboard-system.svc"})
		if err == nil {
			conn.Close()
		}
		return err
	})
	trust(bundle(second))
	tries := 0
	m.until("injected with the new certificate alone", func() error {
		tries++
		kept, _, err := m.create("shop", plain(fmt.Sprint("certified-", tries)), "")
		if err == nil && sidecar(kept) == nil {
			err = errors.New("not injected")
		}
		return err
	})
	if got := m.hooks().Webhooks[0].ClientConfig.CABundle; string(got) != string(bundle(second)) {
		m.t.Errorf("the bundle is not as it was left: %s", got)
	}
}
