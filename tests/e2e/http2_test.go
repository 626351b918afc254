package e2e

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/larboard-proxy/larboard/tests/pki"
	"github.com/larboard-proxy/larboard/tests/real"
)

// twoListeners is a configuration with a listener in plain text and one with TLS, both
// for the service app; options are added to each listener, and service to the service.
func twoListeners(t testing.TB, endpoint, options, service string) string {
	t.Helper()
	dir := shortDir(t)
	pki.Write(t, filepath.Join(dir, "site"), pki.SelfSigned(t, "localhost"))
	return fmt.Sprintf("listeners:\n- {name: plain, address: 127.0.0.1:0, service: app%s}\n"+
		"- {name: secure, address: 127.0.0.1:0, service: app, tls: {certificates: [{cert: %q, key: %q}]}%s}\n"+
		"services: [{name: app, endpoints: [%q]%s}]\n",
		options, filepath.Join(dir, "site.pem"), filepath.Join(dir, "site.key"), options, endpoint, service)
}

// http2Origin is an origin that speaks HTTP/1.1, and HTTP/2 with prior knowledge.
func http2Origin(t testing.TB, h http.Handler) string {
	t.Helper()
	return originWith(t, h, func(s *http.Server) {
		s.Protocols = new(http.Protocols)
		s.Protocols.SetHTTP1(true)
		s.Protocols.SetUnencryptedHTTP2(true)
	})
}

// http2Client speaks HTTP/2 only: with prior knowledge for http URLs, by ALPN for https
// ones, whose certificates it does not judge. Its connections are closed with the test.
func http2Client(t testing.TB) *http.Client {
	t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	transport.Protocols.SetHTTP2(true)
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Timeout: patience, Transport: transport}
}

// TestH2spec: every case of the conformance test, the strict ones too, on both kinds of
// listeners, with an endpoint of either version of HTTP; and nothing is left of it.
func TestH2spec(t *testing.T) {
	address := http2Origin(t, named("origin"))
	for _, version := range []string{"http1", "http2"} {
		p := start(t, "proxy", twoListeners(t, address, "", ", protocol: "+version))
		before, descriptors := p.engineState(), p.vitals().descriptors
		for _, c := range []struct {
			listener string
			options  real.H2specOptions
			cases    int
		}{
			{"plain", real.H2specOptions{}, 145},
			{"plain", real.H2specOptions{Strict: true}, 146},
			{"secure", real.H2specOptions{TLS: true}, 145},
			{"secure", real.H2specOptions{TLS: true, Strict: true}, 146},
		} {
			t.Run(fmt.Sprintf("%s, strict %t, to %s", c.listener, c.options.Strict, version), func(t *testing.T) {
				r := real.H2spec(t, p.address(c.listener), c.options)
				for _, failed := range append(r.Failed, r.Skipped...) {
					t.Error(failed)
				}
				if r.Passed != c.cases {
					t.Errorf("%d of %d passed", r.Passed, c.cases)
				}
			})
		}
		p.waitBaseline(before, descriptors, 100)
	}
}

// TestBrokenPriorityOfAnEndedStream: an error that is the stream's where the stream is
// open is the connection's where it has ended, and is told in either case.
func TestBrokenPriorityOfAnEndedStream(t *testing.T) {
	p := start(t, "proxy", app(plainListener, origin(t, named("origin"))))
	conn := dial(t, p.address("in"))
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	f := http2.NewFramer(conn, conn)
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, field := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "a"}} {
		if err := encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}); err != nil {
			t.Fatal(err)
		}
	}
	_, err := io.WriteString(conn, http2.ClientPreface)
	if err == nil {
		err = f.WriteSettings()
	}
	if err == nil {
		err = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
	}
	for ended := false; err == nil && !ended; {
		var frame http2.Frame
		if frame, err = f.ReadFrame(); err == nil {
			data, is := frame.(*http2.DataFrame)
			ended = is && data.StreamEnded()
		}
	}
	if err == nil {
		err = f.WriteRawFrame(http2.FramePriority, 0, 1, []byte{0, 0, 0, 0})
	}
	for err == nil {
		var frame http2.Frame
		if frame, err = f.ReadFrame(); err == nil {
			if away, is := frame.(*http2.GoAwayFrame); is && away.ErrCode == http2.ErrCodeFrameSize {
				return
			}
		}
	}
	t.Errorf("no GOAWAY: %v", err)
}
