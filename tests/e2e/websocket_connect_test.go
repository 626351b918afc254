package e2e

//lint:file-ignore SA1019 the Transport of net/http, which is to be used instead, refuses the pseudo-field :protocol

import (
	"context"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"testing"

	"golang.org/x/net/http2"
)

// extendedConnect has a WebSocket client that knows only HTTP/1.1's handshake open its
// WebSockets by CONNECT of HTTP/2 (RFC 8441).
type extendedConnect struct{ http2 *http2.Transport }

// newExtendedConnect speaks with prior knowledge; its connections are closed with the
// test.
func newExtendedConnect(t testing.TB) extendedConnect {
	transport := &http2.Transport{AllowHTTP: true, DialTLSContext: func(ctx context.Context, _, address string, _ *tls.Config) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}}
	x := extendedConnect{transport}
	t.Cleanup(x.closeIdle)
	return x
}

func (x extendedConnect) closeIdle() { x.http2.CloseIdleConnections() }

func (x extendedConnect) RoundTrip(r *http.Request) (*http.Response, error) {
	up, send := io.Pipe()
	connect := r.Clone(r.Context())
	connect.Method, connect.Body, connect.ContentLength = http.MethodConnect, up, -1
	connect.Header.Set(":protocol", "websocket")
	key := connect.Header.Get("Sec-WebSocket-Key")
	for _, name := range []string{"Connection", "Upgrade", "Sec-WebSocket-Key"} {
		connect.Header.Del(name)
	}
	resp, err := x.http2.RoundTrip(connect)
	if err != nil || resp.StatusCode != http.StatusOK {
		send.Close()
		return resp, err
	}
	accept := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	resp.StatusCode = http.StatusSwitchingProtocols
	resp.Header.Set("Connection", "Upgrade")
	resp.Header.Set("Upgrade", "websocket")
	resp.Header.Set("Sec-WebSocket-Accept", base64.StdEncoding.EncodeToString(accept[:]))
	resp.Body = struct {
		io.ReadCloser
		io.Writer
	}{resp.Body, send}
	return resp, nil
}
