package config

import (
	"fmt"
	"maps"
	"strings"
	"testing"
)

// withoutSecrets is o as it is read back after it was printed.
func withoutSecrets(o *OTLP) *OTLP {
	if o == nil {
		return nil
	}
	shown := *o
	shown.Headers = maps.Clone(o.Headers)
	for name := range shown.Headers {
		shown.Headers[name] = redacted
	}
	return &shown
}

func TestOTLPParts(t *testing.T) {
	for _, tc := range []struct {
		endpoint, scheme, host, path string
		encrypted                    bool
	}{
		{"http://127.0.0.1:4318", "http", "127.0.0.1:4318", "", false},
		{"http://127.0.0.1:4318/", "http", "127.0.0.1:4318", "", false},
		{"https://collector.example.org:443/otlp/v1/metrics", "https", "collector.example.org:443", "/otlp/v1/metrics", true},
		{"grpc://[::1]:4317", "grpc", "[::1]:4317", "", false},
		{"grpcs://collector:4317", "grpcs", "collector:4317", "", true},
	} {
		o := OTLP{Endpoint: tc.endpoint}
		scheme, host, path := o.Parts()
		if scheme != tc.scheme || host != tc.host || path != tc.path || o.Encrypted() != tc.encrypted {
			t.Errorf("%s: %q %q %q encrypted %v", tc.endpoint, scheme, host, path, o.Encrypted())
		}
	}
}

// Headers mostly hold a key: neither what is printed nor a problem shows one.
func TestOTLPHeadersAreSecret(t *testing.T) {
	const file = "metrics: {otlp: {endpoint: 'http://127.0.0.1:4318', headers: {authorization: very-secret}}}\n" +
		"workload: {service: web, address: 127.0.0.1:8000, listen: 127.0.0.1:20000}\nidentity: {dev: {}}\n"
	c, problems := Load("f.yaml", []byte(file))
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	if c.Metrics.OTLP.Headers["authorization"].Reveal() != "very-secret" {
		t.Error("the header is lost")
	}
	_, problems = Load("f.yaml", []byte(strings.Replace(file, "very-secret", `"very-secret\u0001"`, 1)))
	if len(problems) != 1 {
		t.Errorf("a control character in a header: %v", problems)
	}
	shown := string(Print(c)) + string(PrintJSON(c)) + string(PrintOrigins(c)) + fmt.Sprintf("%v %+v", *c.Metrics.OTLP, *c.Metrics.OTLP) + problems.Error()
	if strings.Contains(shown, "very-secret") {
		t.Errorf("a secret is shown:\n%s", shown)
	}
}
