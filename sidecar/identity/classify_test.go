package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/larboard-proxy/larboard/policy"
)

func TestClassify(t *testing.T) {
	remote := func(a tls.AlertError) error { return &net.OpError{Op: "remote error", Err: a} }
	plain := tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake", Conn: &net.TCPConn{}}
	tests := []struct {
		name           string
		err            error
		server, client policy.Reason
		text           string
	}{
		{"plain text", plain, policy.TLSPlainText, policy.UpstreamTLS, "does not speak TLS"},
		{"a bad record later on", tls.RecordHeaderError{Msg: "oversized record"}, policy.TLSHandshake, policy.UpstreamTLS, "oversized"},
		{"end of file", io.EOF, policy.ClientAborted, policy.UpstreamTLS, "closed the connection"},
		{"unexpected end of file", fmt.Errorf("x: %w", io.ErrUnexpectedEOF), policy.ClientAborted, policy.UpstreamTLS, "closed the connection"},
		{"reset", &net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, policy.ClientAborted, policy.UpstreamTLS, "closed the connection"},
		{"deadline", &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, policy.TLSHandshake, policy.ConnectTimeout, "in time"},
		{"context deadline", context.DeadlineExceeded, policy.TLSHandshake, policy.ConnectTimeout, "in time"},
		{"alert about our certificate", remote(42), policy.TLSHandshake, policy.UpstreamTLS, "refuses our certificate"},
		{"alert about an expired certificate", remote(45), policy.TLSHandshake, policy.UpstreamTLS, "refuses our certificate"},
		{"another alert", remote(40), policy.TLSHandshake, policy.UpstreamTLS, "ended the handshake"},
		{"host name", &tls.CertificateVerificationError{Err: x509.HostnameError{Certificate: &x509.Certificate{}, Host: "x"}},
			policy.TLSHandshake, policy.UpstreamTLSIdentity, "x509"},
		{"unknown authority", &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, policy.TLSHandshake, policy.UpstreamTLS, "unknown authority"},
		{"anything else", errors.New("tls: bad finished"), policy.TLSHandshake, policy.UpstreamTLS, "bad finished"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			for server, want := range map[bool]policy.Reason{true: tc.server, false: tc.client} {
				e := Classify(tc.err, server)
				if e.Reason != want || !strings.Contains(e.Error(), tc.text) || !errors.Is(e, tc.err) && !errors.As(tc.err, new(tls.RecordHeaderError)) {
					t.Errorf("server %v: got %v (%s), want %s with %q", server, e, e.Reason, want, tc.text)
				}
				side, phase := policy.Upstream, policy.PhaseConnect
				if server {
					side, phase = policy.Downstream, policy.PhaseAccept
				}
				if e.Side != side || e.Phase != phase || e.Retryable == server || e.MaybeProcessed {
					t.Errorf("server %v: %+v", server, e)
				}
			}
		})
	}
	_, err := PeerID(tls.ConnectionState{})
	if e := Classify(err, false); e.Reason != policy.UpstreamTLSIdentity || e.Side != policy.Upstream || !e.Retryable {
		t.Errorf("an endpoint without a certificate: %+v", e)
	}
	if Classify(nil, true) != nil || IsAlert(nil) || IsAlert(io.EOF) {
		t.Error("nil or another error is misread")
	}
}

// The same, with what crypto/tls really returns over TCP.
func TestClassifyRealHandshakes(t *testing.T) {
	w := newWorld(t)
	api, web := w.own(apiID), w.own(webID)
	server, client := api.ServerConfig(AnyOf(web.ID())), web.ClientConfig(AnyOf(api.ID()))
	tests := []struct {
		name       string
		peer       func(net.Conn)
		asServer   bool
		want       policy.Reason
		text       string
		afterwards bool // the error comes with the first read
	}{
		{"plain HTTP to our listener", func(c net.Conn) { io.WriteString(c, "GET / HTTP/1.1\r\nHost: api\r\n\r\n") },
			true, policy.TLSPlainText, "does not speak TLS", false},
		{"a port scan of our listener", func(c net.Conn) { c.Close() }, true, policy.ClientAborted, "closed the connection", false},
		{"rubbish in a TLS record", func(c net.Conn) { c.Write([]byte{22, 3, 1, 0, 4, 99, 0, 0, 0}) }, true, policy.TLSHandshake, "", false},
		{"an endpoint that speaks plain HTTP", func(c net.Conn) { io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") },
			false, policy.UpstreamTLS, "does not speak TLS", false},
		{"an endpoint that hangs up", func(c net.Conn) { c.Close() }, false, policy.UpstreamTLS, "closed the connection", false},
		{"an endpoint that refuses us", func(c net.Conn) {
			tls.Server(c, w.own(apiID).ServerConfig(Peers{})).Handshake()
		}, false, policy.UpstreamTLS, "refuses our certificate", true},
		{"a caller that refuses us", func(c net.Conn) {
			tls.Client(c, web.ClientConfig(AnyOf(web.ID()))).Handshake()
		}, true, policy.TLSHandshake, "refuses our certificate", false},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			ours, theirs := bufferedPipe()
			done := make(chan struct{})
			go func() {
				defer close(done)
				tc.peer(theirs)
			}()
			conn := tls.Client(ours, client)
			if tc.asServer {
				conn = tls.Server(ours, server)
			}
			err := conn.Handshake()
			if tc.afterwards && err == nil {
				_, err = conn.Read(make([]byte, 1))
			}
			if e := Classify(err, tc.asServer); e == nil || e.Reason != tc.want || !strings.Contains(e.Error(), tc.text) {
				t.Errorf("got %v, want %s with %q", err, tc.want, tc.text)
			}
			ours.Close()
			<-done
		})
	}
}
