package sidecar

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"os"
	"runtime/debug"
	"strconv"

	"github.com/larboard-proxy/larboard/observability/metrics"
	"github.com/larboard-proxy/larboard/observability/otlp"
	"github.com/larboard-proxy/larboard/sidecar/config"
)

// openPush makes what sends metrics to a collector, where there is one.
func (s *Sidecar) openPush(c *config.Config) error {
	o := c.Metrics.OTLP
	if o == nil {
		return nil
	}
	to, err := collector(o)
	if err != nil {
		return fmt.Errorf("metrics.otlp: %w", err)
	}
	s.push, err = s.metrics.NewPush(metrics.PushOptions{Collector: to, Interval: o.Interval.D(), Resource: s.resource(), Logger: s.log})
	return err
}

// collector reads the files that o names, and opens no connection.
func collector(o *config.OTLP) (otlp.Collector, error) {
	scheme, host, path := o.Parts()
	c := otlp.Collector{GRPC: scheme == config.OTLPGRPC || scheme == config.OTLPGRPCS, Address: host, Path: path,
		Headers: map[string]string{}, Timeout: o.Timeout.D()}
	for name, value := range o.Headers {
		c.Headers[name] = value.Reveal()
	}
	var err error
	if o.Encrypted() {
		c.TLS, err = clientTLS(o.TLS)
	}
	return c, err
}

// clientTLS is how we call a server of infrastructure, which has a host name and no SPIFFE
// ID; nil: with the system's authorities. A client certificate is read anew for each
// connection.
func clientTLS(t *config.ClientTLS) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if t == nil {
		return c, nil
	}
	c.ServerName = t.ServerName
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, err
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", t.CA)
		}
	}
	if t.Cert != "" {
		load := func() (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
			return &pair, err
		}
		if _, err := load(); err != nil {
			return nil, err
		}
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	return c, nil
}

// resource says whose telemetry it is, metrics and traces alike, by OpenTelemetry's
// conventions: that of the workload, or of a proxy of its own.
func (s *Sidecar) resource() map[string]string {
	host, _ := os.Hostname()
	r := map[string]string{"service.name": "larboard", "service.instance.id": host + ":" + strconv.Itoa(os.Getpid()),
		"host.name": host, "telemetry.distro.name": "larboard"}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		r["telemetry.distro.version"] = info.Main.Version
	}
	if w := s.config0.Workload; w != nil {
		r["service.name"] = w.Service
	}
	if t := s.config0.Tracing; t != nil {
		maps.Copy(r, t.Attributes)
		r["service.name"] = cmp.Or(t.Service, r["service.name"])
	}
	return r
}

// pushMetrics sends metrics until ctx ends.
func (s *Sidecar) pushMetrics(ctx context.Context) {
	if s.push != nil {
		s.run("metrics", func() error { return s.push.Run(ctx) })
	}
}
