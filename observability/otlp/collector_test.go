package otlp

import (
	"crypto/tls"
	"testing"
)

func TestURL(t *testing.T) {
	for _, tc := range []struct {
		collector Collector
		want      string
	}{
		{Collector{Address: "127.0.0.1:4318"}, "http://127.0.0.1:4318/v1/metrics"},
		{Collector{Address: "[::1]:4318", Path: "/otlp"}, "http://[::1]:4318/otlp"},
		{Collector{Address: "collector:443", TLS: &tls.Config{}}, "https://collector:443/v1/metrics"},
	} {
		if got := tc.collector.URL("/v1/metrics"); got != tc.want {
			t.Errorf("%s, want %s", got, tc.want)
		}
	}
}

// Two transports share nothing: each is closed with its user.
func TestTransportIsItsOwn(t *testing.T) {
	c := Collector{TLS: &tls.Config{ServerName: "collector"}}
	one, other := c.Transport(), c.Transport()
	if one == other || one.TLSClientConfig.ServerName != "collector" {
		t.Errorf("%p %p %v", one, other, one.TLSClientConfig)
	}
}
