package cli

import (
	"encoding/pem"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/tests/pki"
)

// issue returns a certificate and its key as PEM; uri may be empty.
func issue(t *testing.T, uri string) (cert, key string) {
	t.Helper()
	var uris []string
	if uri != "" {
		uris = append(uris, uri)
	}
	c := pki.New(t, "authority").Issue(nil, uris...)
	return string(pki.CertPEM(c)), string(pki.KeyPEM(t, c))
}

func encode(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

const withFiles = `listeners:
- {name: web, address: 127.0.0.1:8080, service: web, tls: {certificates: [{cert: site.pem, key: site.key}]}}
services: [{name: web, discovery: {consul: {}}}]
identity:
  files:
    cert: svid.pem
    key: svid.key
    bundle: bundle.pem
    bundles: {other.org: other.pem}
consul:
  address: https://127.0.0.1:8501
  token_file: token
  tls: {ca: ca.pem, cert: client.pem, key: client.key}
metrics: {otlp: {endpoint: "https://127.0.0.1:4318", tls: {ca: metrics.pem}}}
tracing: {otlp: {endpoint: "https://127.0.0.1:4318", tls: {ca: traces.pem}}}
`

func TestNamedFiles(t *testing.T) {
	site, siteKey := issue(t, "")
	svid, svidKey := issue(t, "spiffe://example.org/web")
	whole := map[string]string{
		"larboard.yaml": withFiles, "site.pem": site, "site.key": siteKey, "svid.pem": svid, "svid.key": svidKey,
		"bundle.pem": site, "other.pem": site, "token": "s3cret\n", "ca.pem": site, "client.pem": site, "client.key": siteKey,
		"metrics.pem": site, "traces.pem": site,
	}
	broken := encode("CERTIFICATE", []byte("not DER"))
	for _, test := range []struct{ name, file, content, want string }{
		{"nothing is wrong", "", "", ""},
		{"certificate is no PEM", "site.pem", "hello", "2:82: listeners[0].tls.certificates[0].cert: site.pem: no certificate in PEM form"},
		{"certificate is broken", "site.pem", broken, "2:82: listeners[0].tls.certificates[0].cert: site.pem: a certificate cannot be read"},
		{"key is no PEM", "site.key", "hello", "2:97: listeners[0].tls.certificates[0].key: site.key: no private key in PEM form"},
		{"key of another certificate", "site.key", svidKey, "2:97: listeners[0].tls.certificates[0].key: site.key does not go with site.pem"},
		{"no SVID", "svid.pem", site, "7:10: identity.files.key: svid.key does not go with svid.pem"},
		{"bundle is empty", "bundle.pem", "", "8:13: identity.files.bundle: bundle.pem: no certificate in PEM form"},
		{"bundle of a dotted domain", "other.pem", "", "9:26: identity.files.bundles.other.org: other.pem: no certificate in PEM form"},
		{"token file is empty", "token", "\n", "12:15: consul.token_file: token: the file is empty"},
		{"authority", "ca.pem", "x", "13:13: consul.tls.ca: ca.pem: no certificate in PEM form"},
		{"authority of the metrics' collector", "metrics.pem", "x", "14:64: metrics.otlp.tls.ca: metrics.pem: no certificate in PEM form"},
		{"authority of the traces' collector", "traces.pem", "x", "15:64: tracing.otlp.tls.ca: traces.pem: no certificate in PEM form"},
		{"client key", "client.key", site, "13:44: consul.tls.key: client.key: no private key in PEM form"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := directory(t, whole)
			if test.file != "" {
				dir = directory(t, with(whole, test.file, test.content))
			}
			got := larboard(t, dir, "check")
			if test.want == "" {
				if got.code != 0 {
					t.Fatalf("got %+v", got)
				}
				return
			}
			if first, _, _ := strings.Cut(got.stderr, "\n"); got.code != 2 || !strings.HasPrefix(first, "larboard.yaml:"+test.want) {
				t.Errorf("got\n%s\nwant\n%s", got.stderr, test.want)
			}
		})
	}
	t.Run("certificate without a SPIFFE ID", func(t *testing.T) {
		got := larboard(t, directory(t, with(with(whole, "svid.pem", site), "svid.key", siteKey)), "check")
		contains(t, "stderr", got.stderr, "larboard.yaml:6:11: identity.files.cert: svid.pem: not an X.509-SVID")
	})
	t.Run("names start from the directory of the configuration", func(t *testing.T) {
		dir := directory(t, whole)
		if got := larboard(t, t.TempDir(), "check", "-c", dir+"/larboard.yaml"); got.code != 0 {
			t.Errorf("got %+v", got)
		}
	})
}

// with returns a copy of files with one of them replaced.
func with(files map[string]string, name, content string) map[string]string {
	changed := map[string]string{name: content}
	for other, text := range files {
		if other != name {
			changed[other] = text
		}
	}
	return changed
}
