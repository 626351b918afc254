package probes

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"github.com/larboard-proxy/larboard/sidecar/health"
)

const (
	// mostRead bounds what is read of an answer's body, so that a short one does not end
	// in a reset.
	mostRead = 64 << 10
	// mostRedirects are followed, as the kubelet does.
	mostRedirects = 10
	userAgent     = "kube-probe/larboard"
)

// run makes the check and returns what it found in words, and whether that is good.
func (c Check) run(ctx context.Context) (said string, ok bool) {
	switch {
	case c.HTTP != nil:
		return c.HTTP.ask(ctx, c.Timeout)
	case c.TCP != nil:
		return health.Once(ctx, health.Spec{Kind: health.TCP, Timeout: c.Timeout}, portAddress("127.0.0.1", c.TCP.Port), dialHere)
	}
	return health.Once(ctx, health.Spec{Kind: health.GRPC, Timeout: c.Timeout, Service: c.GRPC.Service},
		portAddress("127.0.0.1", c.GRPC.Port), dialHere)
}

func portAddress(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// dialHere connects to the port of address on this host, whatever host it names: over IPv4
// or, where nobody listens there, over IPv6.
func dialHere(ctx context.Context, _, address string) (net.Conn, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return conn, err
	}
	if six, err6 := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort("::1", port)); err6 == nil {
		return six, nil
	}
	return nil, err
}

// ask does what the kubelet's HTTP probe does: redirects on the same host are followed, one
// that leads elsewhere is good, certificates are not verified.
//
// The URL names the address that the kubelet has asked, since that is what the workload would
// have been asked by without us; the connection goes to loopback in any case.
func (p *HTTP) ask(ctx context.Context, timeout time.Duration) (said string, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	target := url.URL{Scheme: "http", Host: portAddress(askedHost(ctx), p.Port)}
	if p.Secure {
		target.Scheme = "https"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String()+p.Path, nil)
	if err != nil {
		return "request: " + err.Error(), false
	}
	request.Header.Set("User-Agent", userAgent)
	request.Header.Set("Accept", "*/*")
	for name, value := range p.Headers {
		if http.CanonicalHeaderKey(name) == "Host" {
			request.Host = value
			continue
		}
		request.Header.Set(name, value)
	}
	if p.Host != "" {
		request.Host = p.Host
	}
	client := http.Client{CheckRedirect: stayHere, Transport: &http.Transport{
		DialContext: dialHere, DialTLSContext: dialHereTLS, DisableKeepAlives: true, DisableCompression: true, ForceAttemptHTTP2: true,
	}}
	answer, err := client.Do(request)
	if err != nil {
		return failure(err, timeout), false
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, mostRead)) // the verdict stands already
	said = fmt.Sprintf("status %d", answer.StatusCode)
	if answer.StatusCode < 200 || answer.StatusCode > 399 {
		return said + ", expected 200-399", false
	}
	return said, true
}

// askedHost is the address of this host that the prober has connected to.
func askedHost(ctx context.Context) string {
	if local, ok := ctx.Value(http.LocalAddrContextKey).(net.Addr); ok {
		if host, _, err := net.SplitHostPort(local.String()); err == nil {
			return host
		}
	}
	return "127.0.0.1"
}

// stayHere ends at a redirect to another host, whose status is then the answer.
func stayHere(next *http.Request, before []*http.Request) error {
	switch {
	case next.URL.Hostname() != before[0].URL.Hostname():
		return http.ErrUseLastResponse
	case len(before) >= mostRedirects:
		return fmt.Errorf("%d redirects", len(before))
	}
	return nil
}

// dialHereTLS is dialHere with a handshake. The certificate is not verified: it is made out
// for the service's name, by an authority that nobody has told us, and the kubelet does not
// either. What is verified in its place is that the peer is on this host, where nobody can
// be in between; and nothing secret is sent.
func dialHereTLS(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := dialHere(ctx, network, address)
	if err != nil {
		return nil, err
	}
	secured := tls.Client(conn, &tls.Config{
		InsecureSkipVerify: true,
		NextProtos:         []string{"h2", "http/1.1"},
		VerifyConnection: func(tls.ConnectionState) error {
			if at, ok := conn.RemoteAddr().(*net.TCPAddr); !ok || !at.IP.IsLoopback() {
				return fmt.Errorf("%v is not on this host", conn.RemoteAddr())
			}
			return nil
		},
	})
	if err := secured.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("tls: %w", err)
	}
	return secured, nil
}

// failure words an error briefly, without the URL.
func failure(err error, timeout time.Duration) string {
	if asked, ok := errors.AsType[*url.Error](err); ok {
		err = asked.Err
	}
	var no syscall.Errno
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("no answer within %s", timeout)
	case errors.As(err, &no):
		return no.Error()
	}
	return err.Error()
}
