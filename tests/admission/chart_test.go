package admission

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"

	"github.com/larboard-proxy/larboard/tests/pki"
	"github.com/larboard-proxy/larboard/tests/real"
)

// helm runs it as the administrator.
func (m *mesh) helm(args ...string) real.Ran {
	m.t.Helper()
	all := []string{"--kubeconfig", m.Files.Config[real.KubernetesAdmin], "--namespace", "larboard-system"}
	return real.Run(m.t, 3*time.Minute, real.Tool(m.t, "helm"), append(all, args...)...)
}

const chart = "../../deploy/helm/larboard"

// The chart is installed, changed and taken away by Helm; in between pods are injected as it says.
func TestChart(t *testing.T) {
	m := kubernetes(t)
	must := func(args ...string) {
		t.Helper()
		if ran := m.helm(args...); ran.Code != 0 {
			t.Fatalf("helm %q: %s%s", args, ran.Stdout, ran.Stderr)
		}
	}
	must("install", "larboard", chart, "--create-namespace", "--set", "webhook.failurePolicy=Ignore", "--set", "image.repository=registry.example/larboard")
	m.installed()
	m.start()
	m.namespace("shop", meshed)
	kept, _, err := m.create("shop", plain("one"), "")
	if err != nil || sidecar(kept) == nil || !strings.HasPrefix(sidecar(kept).Image, "registry.example/larboard:") {
		t.Errorf("%v: %s", err, text(kept))
	}
	for _, h := range m.hooks().Webhooks {
		if *h.FailurePolicy != admissionregistrationv1.Ignore {
			t.Errorf("%s: failure policy %s", h.Name, *h.FailurePolicy)
		}
	}
	before := m.hooks().Webhooks[0].ClientConfig.CABundle
	must("upgrade", "larboard", chart, "--set", "webhook.timeoutSeconds=3", "--set", "clean.enabled=true")
	after := m.hooks().Webhooks[0]
	if *after.TimeoutSeconds != 3 || *after.FailurePolicy != admissionregistrationv1.Fail {
		t.Errorf("after the upgrade: %s", text(after))
	}
	m.until("the bundle after the upgrade", func() error {
		if now := m.hooks().Webhooks[0].ClientConfig.CABundle; string(now) != string(before) {
			return fmt.Errorf("%q", now)
		}
		return nil
	})
	must("uninstall", "larboard", "--wait", "--timeout", "60s")
	m.until("a pod without the injector", func() error {
		_, _, err := m.create("shop", plain("alone"), "")
		return err
	})
	if err := m.Call(http.MethodGet, configurations+"larboard-injector", nil, nil); err == nil {
		t.Error("the webhook configuration is still there")
	}
}

// With a certificate of somebody else in files, the webhook configuration is his, too.
func TestCertificateOfSomebodyElse(t *testing.T) {
	m := install(t, manifests(t))
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
			t.Fatal(err)
		}
	}
	first, second := pki.New(t, "first"), pki.New(t, "second")
	path := filepath.Join(t.TempDir(), "tls")
	cert, key := pki.Write(t, path, issue(first))
	trust(bundle(first))
	r := m.start("--cert", cert, "--key", key)
	m.namespace("shop", meshed)
	// The other side's own order: trust both, then change, then trust the new one alone.
	trust(bundle(first, second))
	next := issue(second)
	pki.Write(t, path, next)
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
		kept, _, err := m.create("shop", plain(fmt.Sprint("p-", tries)), "")
		if err == nil && sidecar(kept) == nil {
			err = errors.New("not injected")
		}
		return err
	})
	if got := m.hooks().Webhooks[0].ClientConfig.CABundle; string(got) != string(bundle(second)) {
		t.Errorf("the bundle is not as it was left: %s", got)
	}
}
