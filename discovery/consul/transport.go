package consul

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// maxAnswer bounds the body of one answer: some ten thousand instances.
const maxAnswer = 32 << 20

// maxIdle is how many idle connections to the agent are kept. Each watch holds
// one connection while it waits, so they are idle for moments only.
const maxIdle = 256

// transport adds the token to each request and bounds each answer.
type transport struct {
	base  http.RoundTripper
	token *tokenSource
}

type paramsKey struct{}

// withParams adds query parameters that the library has no way to give to the
// requests made with the context.
func withParams(ctx context.Context, params url.Values) context.Context {
	return context.WithValue(ctx, paramsKey{}, params)
}

// RoundTrip implements http.RoundTripper.
func (t transport) RoundTrip(req *http.Request) (*http.Response, error) {
	token, err := t.token.get()
	if err != nil {
		return nil, err
	}
	req = req.Clone(req.Context())
	if params, ok := req.Context().Value(paramsKey{}).(url.Values); ok {
		req.URL.RawQuery = strings.TrimPrefix(req.URL.RawQuery+"&"+params.Encode(), "&")
	}
	req.Header.Del("Authorization")
	req.Header.Del("X-Consul-Token")
	if token != "" {
		req.Header.Set("X-Consul-Token", token)
	}
	resp, err := t.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	resp.Body = &bounded{ReadCloser: resp.Body, left: maxAnswer}
	return resp, nil
}

// bounded is a body that fails once it is longer than it may be.
type bounded struct {
	io.ReadCloser
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("answer is longer than %d MiB", maxAnswer>>20)
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// newTransport dials the target and nothing else: no proxy of the environment and
// no redirect to another network applies to a socket.
func newTransport(to target, files TLS) (*http.Transport, error) {
	dialer := &net.Dialer{
		Timeout:         5 * time.Second,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 4},
	}
	t := &http.Transport{
		DialContext:         dialer.DialContext,
		TLSHandshakeTimeout: 5 * time.Second,
		MaxIdleConns:        maxIdle,
		MaxIdleConnsPerHost: maxIdle,
		IdleConnTimeout:     90 * time.Second,
	}
	if to.socket != "" {
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", to.socket)
		}
	}
	if to.scheme == "https" {
		config, err := tlsConfig(files)
		if err != nil {
			return nil, err
		}
		// No HTTP/2: its error for a refused certificate is that a connection could not
		// be made.
		t.TLSClientConfig = config
	}
	return t, nil
}

// tlsConfig verifies the agent by the CA file, or the system's roots without one.
func tlsConfig(files TLS) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: files.ServerName}
	if (files.Cert == "") != (files.Key == "") {
		return nil, errors.New("consul: tls: certificate and key must be given together")
	}
	if files.CA != "" {
		pem, err := os.ReadFile(files.CA)
		if err != nil {
			return nil, fmt.Errorf("consul: tls: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("consul: tls: %s holds no certificate", files.CA)
		}
	}
	if files.Cert == "" {
		return config, nil
	}
	load := func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
		if err != nil {
			return nil, fmt.Errorf("consul: tls: %w", err)
		}
		return &pair, nil
	}
	if _, err := load(); err != nil {
		return nil, err
	}
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	return config, nil
}
