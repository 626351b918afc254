package sidecar

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/sidecar/config"
	"github.com/larboard-proxy/larboard/tests/pki"
)

func TestCollector(t *testing.T) {
	dir := t.TempDir()
	ca := pki.New(t, "collector")
	cert, key := pki.Write(t, filepath.Join(dir, "ours"), ca.Issue(nil))
	authority, empty := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "empty.pem")
	for file, text := range map[string][]byte{authority: pki.CertPEM(tls.Certificate{Certificate: [][]byte{ca.Cert.Raw}}), empty: nil} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	to, err := collector(&config.OTLP{Endpoint: "grpc://127.0.0.1:4317", Headers: map[string]config.Secret{"key": "secret"}})
	if err != nil || !to.GRPC || to.Address != "127.0.0.1:4317" || to.TLS != nil || to.Headers["key"] != "secret" {
		t.Errorf("%+v, %v", to, err)
	}
	to, err = collector(&config.OTLP{Endpoint: "https://collector:4318/otlp", TLS: &config.ClientTLS{CA: authority, Cert: cert, Key: key, ServerName: "name"}})
	if err != nil || to.GRPC || to.Path != "/otlp" || to.TLS == nil || to.TLS.RootCAs == nil || to.TLS.ServerName != "name" || to.TLS.InsecureSkipVerify {
		t.Fatalf("%+v, %v", to, err)
	}
	if own, err := to.TLS.GetClientCertificate(nil); err != nil || len(own.Certificate) == 0 {
		t.Errorf("client certificate: %v", err)
	}
	for name, wrong := range map[string]config.ClientTLS{
		"no such file":   {CA: filepath.Join(dir, "none.pem")},
		"no certificate": {CA: empty},
		"no such key":    {Cert: cert, Key: filepath.Join(dir, "none.key")},
	} {
		if _, err := collector(&config.OTLP{Endpoint: "grpcs://collector:4317", TLS: &wrong}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestTelemetryIsOfTheWorkload(t *testing.T) {
	const services = "services: [{name: app, endpoints: [127.0.0.1:9]}]\n"
	for text, want := range map[string]string{
		"listeners: [{name: in, address: 127.0.0.1:0, service: app}]\n" + services:                                                                            "larboard",
		"workload: {service: shop, address: 127.0.0.1:9, listen: 127.0.0.1:0}\nidentity: {dev: {}}\n":                                                         "shop",
		"tracing: {otlp: 'http://127.0.0.1:9', service: front, attributes: {a: b}}\nlisteners: [{name: in, address: 127.0.0.1:0, service: app}]\n" + services: "front",
	} {
		r := start(t, text).resource()
		if r["service.name"] != want || !strings.Contains(r["service.instance.id"], ":") || want == "front" && r["a"] != "b" {
			t.Errorf("%v of\n%s", r, text)
		}
	}
}
