package http1

import (
	"errors"
	"io"
	"syscall"
	"testing"
	"unsafe"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// The engine's types are what the codec runs on.
var (
	_ Transport = (*engine.Conn)(nil)
	_ Transport = (*engine.TLS)(nil)
	_ Buffers   = (*engine.Loop)(nil)
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// reply answers 200 without a body.
func reply(t *testing.T, s *Server) {
	t.Helper()
	must(t, s.WriteHead(answer(200, message.Length, 0)))
	must(t, s.Flush())
}

func TestRecordIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(Server{}); n > 192 {
		t.Errorf("a Server takes %d bytes", n)
	}
	if n := unsafe.Sizeof(Client{}); n > 208 {
		t.Errorf("a Client takes %d bytes", n)
	}
}

func TestIdleHoldsNoBuffer(t *testing.T) {
	s, w, l := newTestServer(whole(post("Content-Length: 2", "hi")))
	if !s.Idle() {
		t.Error("a new connection is not idle")
	}
	var h message.Head
	must(t, s.ReadHead(&h))
	if s.Idle() {
		t.Error("idle within an exchange")
	}
	_, err := readAll(s)
	must(t, err)
	reply(t, s)
	w.pending = true
	if s.Idle() {
		t.Error("idle with bytes in the transport")
	}
	w.pending = false
	if !s.KeepAlive() || !s.Idle() || !s.Release() || l.lent != 0 {
		t.Errorf("keep %v, %d buffers", s.KeepAlive(), l.lent)
	}
	w.in = whole(get())
	must(t, s.ReadHead(&h))
}

func TestPipelinedBytesAreKept(t *testing.T) {
	s, _, l := newTestServer(whole(get() + "GET /2"))
	var h message.Head
	must(t, s.ReadHead(&h))
	reply(t, s)
	if s.Release() || s.Idle() || s.Buffered() != 6 || l.lent == 0 {
		t.Errorf("released %d bytes", s.Buffered())
	}
	s.Reset(policy.None)
	if !s.Release() || l.lent != 0 {
		t.Error("kept after a reset")
	}
}

func TestSetClose(t *testing.T) {
	s, w, _ := newTestServer(whole(get() + get()))
	var h message.Head
	must(t, s.ReadHead(&h))
	s.SetClose()
	reply(t, s)
	if string(w.out) != unix("HTTP/1.1 200 OK\nContent-Length: 0\nConnection: close\n\n") || s.KeepAlive() {
		t.Errorf("sent %q", w.out)
	}
	if err := s.ReadHead(&h); policy.ReasonOf(err) != policy.Internal {
		t.Errorf("a request read after the announced close: %v", err)
	}
	c, cw, _ := newTestClient(whole(ok("Content-Length: 0", "")))
	c.SetClose()
	must(t, c.WriteHead(head("GET", "/", message.NoBody, 0)))
	must(t, c.Flush())
	must(t, c.ReadHead(&h))
	if string(cw.out) != unix("GET / HTTP/1.1\nHost: host.example\nConnection: close\n\n") || c.Reusable() {
		t.Errorf("sent %q", cw.out)
	}
}

// TestEndpointCloseStaysThere: what an endpoint does with its connection, or a
// client with its own, says nothing about the other one.
func TestEndpointCloseStaysThere(t *testing.T) {
	s, w, _ := newTestServer(whole(get()))
	var h message.Head
	must(t, s.ReadHead(&h))
	r := answer(200, message.Length, 0)
	r.Framing.Close = true
	must(t, s.WriteHead(r))
	must(t, s.Flush())
	if !s.KeepAlive() || string(w.out) != unix("HTTP/1.1 200 OK\nContent-Length: 0\n\n") {
		t.Errorf("sent %q", w.out)
	}
}

func TestContinue(t *testing.T) {
	request := post("Expect: 100-continue\r\nContent-Length: 2", "")
	s, w, _ := newTestServer(whole(request))
	var h message.Head
	must(t, s.ReadHead(&h))
	if !h.Framing.Continue || s.DrainBody(100) {
		t.Error("a body that is not coming was drained")
	}
	must(t, s.WriteHead(answer(100, message.NoBody, 0)))
	if string(w.out) != "HTTP/1.1 100 Continue\r\n\r\n" {
		t.Errorf("sent %q", w.out)
	}
	w.in = whole("hi" + get())
	if !s.DrainBody(100) {
		t.Error("not drained")
	}
	reply(t, s)
	if !s.KeepAlive() {
		t.Error("not kept")
	}

	old, w, _ := newTestServer(whole("POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi"))
	must(t, old.ReadHead(&h))
	must(t, old.WriteHead(answer(100, message.NoBody, 0)))
	if len(w.out) != 0 {
		t.Errorf("an interim response to HTTP/1.0: %q", w.out)
	}
}

func TestDrainBody(t *testing.T) {
	for _, tc := range []struct {
		name, request string
		most          int
		drained       bool
	}{
		{"no body", get(), 0, true},
		{"short", post("Content-Length: 4", "abcd"), 100, true},
		{"chunked", chunked("4\r\nabcd\r\n0\r\n\r\n"), 100, true},
		{"too long", post("Content-Length: 100000", string(make([]byte, 100000))), 20000, false},
		{"broken off", post("Content-Length: 4", "ab"), 100, false},
		{"garbled", chunked("x"), 100, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, _, _ := newTestServer(whole(tc.request))
			must(t, s.ReadHead(&message.Head{}))
			if s.DrainBody(tc.most) != tc.drained {
				t.Errorf("drained %v", !tc.drained)
			}
			reply(t, s)
			if s.KeepAlive() != tc.drained {
				t.Errorf("kept %v", s.KeepAlive())
			}
		})
	}
}

// TestUpgradeTunnel joins a server and a client stream by hand.
func TestUpgradeTunnel(t *testing.T) {
	s, down, dl := newTestServer(whole(get("Connection: upgrade", "Upgrade: websocket") + "early"))
	c, up, ul := newTestClient(whole("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello"))
	var request, response message.Head
	must(t, s.ReadHead(&request))
	must(t, c.WriteHead(&request))
	must(t, c.Flush())
	must(t, c.ReadHead(&response))
	must(t, s.WriteHead(&response))
	must(t, s.Flush())
	for _, pump := range []struct {
		from, to message.Stream
		want     string
	}{{s, c, "early"}, {c, s, "hello"}} {
		p, end, err := pump.from.ReadBody()
		if string(p) != pump.want || end || err != nil {
			t.Errorf("read %q %v %v", p, end, err)
		}
		must(t, pump.to.WriteBody(p, false))
		if _, end, err = pump.from.ReadBody(); !end || err != nil {
			t.Errorf("no end: %v", err)
		}
		must(t, pump.to.WriteBody(nil, true))
	}
	if want := unix("HTTP/1.1 101 Switching Protocols\nConnection: Upgrade\nUpgrade: websocket\n\nhello"); string(down.out) != want {
		t.Errorf("downstream got %q", down.out)
	}
	if want := unix("GET / HTTP/1.1\nHost: a\nConnection: Upgrade\nUpgrade: websocket\n\nearly"); string(up.out) != want {
		t.Errorf("upstream got %q", up.out)
	}
	if !down.fin || !up.fin || s.KeepAlive() || c.Reusable() {
		t.Error("a tunnel's end was not passed on, or its connections are kept")
	}
	if s.Release(); dl.lent != 0 {
		t.Error("server keeps buffers")
	}
	if c.Release(); ul.lent != 0 {
		t.Error("client keeps buffers")
	}
}

func TestConnectIsRefusedUnlessAllowed(t *testing.T) {
	w := &wire{in: whole("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")}
	s := NewServer(w, &lender{}, &ServerOptions{})
	if err := s.ReadHead(&message.Head{}); policy.ReasonOf(err) != policy.MethodRefused {
		t.Error(err)
	}
}

// TestReadErrors holds whom and what a transport's error blames.
func TestReadErrors(t *testing.T) {
	cancelled := &policy.Error{Reason: policy.RequestDeadline, Side: policy.Internally}
	for _, tc := range []struct {
		name   string
		server bool
		data   string
		err    error
		want   policy.Error
	}{
		{"silent client", true, "", errTimeout, policy.Error{Reason: policy.RequestTimeout, Side: policy.Downstream, Phase: policy.PhaseHead}},
		{"slow head", true, "GET /", errTimeout, policy.Error{Reason: policy.RequestTimeout, Side: policy.Downstream, Phase: policy.PhaseHead}},
		{"head reset", true, "GET /", syscall.ECONNRESET, policy.Error{Reason: policy.ClientAborted, Side: policy.Downstream, Phase: policy.PhaseHead}},
		{"body reset", true, post("Content-Length: 2", "x"), syscall.ECONNRESET, policy.Error{Reason: policy.BodyAborted, Side: policy.Downstream, Phase: policy.PhaseBody}},
		{"slow body", true, post("Content-Length: 2", "x"), errTimeout, policy.Error{Reason: policy.BodyAborted, Side: policy.Downstream, Phase: policy.PhaseBody}},
		{"drained", true, "", engine.ErrDrain, policy.Error{Reason: policy.Draining, Side: policy.Internally, Phase: policy.PhaseHead}},
		{"closed before the answer", false, "", io.EOF, policy.Error{Reason: policy.UpstreamClosed, Side: policy.Upstream, Phase: policy.PhaseWait, Retryable: true, MaybeProcessed: true}},
		{"reset before the answer", false, "", syscall.ECONNRESET, policy.Error{Reason: policy.UpstreamReset, Side: policy.Upstream, Phase: policy.PhaseWait, Retryable: true, MaybeProcessed: true}},
		{"no answer in time", false, "", engine.ErrTimeout, policy.Error{Reason: policy.UpstreamTimeout, Side: policy.Upstream, Phase: policy.PhaseWait, Retryable: true, MaybeProcessed: true}},
		{"malformed answer", false, "x\r\n", io.EOF, policy.Error{Reason: policy.UpstreamProtocol, Side: policy.Upstream, Phase: policy.PhaseWait, Retryable: true, MaybeProcessed: true}},
		{"answer broken off", false, ok("Content-Length: 2", "x"), syscall.ECONNRESET, policy.Error{Reason: policy.UpstreamTruncated, Side: policy.Upstream, Phase: policy.PhaseBody, MaybeProcessed: true}},
		{"slow answer", false, ok("Content-Length: 2", "x"), errTimeout, policy.Error{Reason: policy.UpstreamTimeout, Side: policy.Upstream, Phase: policy.PhaseBody, MaybeProcessed: true}},
		{"client went while we waited", false, "", engine.ErrPeerReset, policy.Error{Reason: policy.ClientAborted, Side: policy.Downstream, Phase: policy.PhaseWait, MaybeProcessed: true}},
		{"cancelled", false, "", cancelled, *cancelled},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, w, _ := newTestServer(whole(tc.data))
			c, cw, _ := newTestClient(whole(tc.data))
			w.inErr, cw.inErr = tc.err, tc.err
			var stream message.Stream = s
			if !tc.server {
				stream = c
				must(t, c.WriteHead(head("GET", "/", message.NoBody, 0)))
				must(t, c.Flush())
			}
			err := stream.ReadHead(&message.Head{})
			if err == nil {
				_, err = readAll(stream)
			}
			check(t, err, tc.want)
		})
	}
}

func check(t *testing.T, err error, want policy.Error) {
	t.Helper()
	var e *policy.Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v", err)
	}
	got := *e
	got.Err = nil
	if got != want {
		t.Errorf("got %+v (%v)\nwant %+v", got, e, want)
	}
}

func TestWriteErrors(t *testing.T) {
	for _, tc := range []struct {
		name    string
		server  bool
		err     error
		partial int
		want    policy.Error
	}{
		{"client gone", true, syscall.EPIPE, 0, policy.Error{Reason: policy.ClientAborted, Side: policy.Downstream, Phase: policy.PhaseBody}},
		{"endpoint gone, nothing sent", false, syscall.EPIPE, 0, policy.Error{Reason: policy.UpstreamReset, Side: policy.Upstream, Phase: policy.PhaseSend, Retryable: true}},
		{"endpoint gone, something sent", false, syscall.ECONNRESET, 5, policy.Error{Reason: policy.UpstreamReset, Side: policy.Upstream, Phase: policy.PhaseSend, Retryable: true, MaybeProcessed: true}},
		{"endpoint does not read", false, errTimeout, 5, policy.Error{Reason: policy.UpstreamTimeout, Side: policy.Upstream, Phase: policy.PhaseSend, Retryable: true, MaybeProcessed: true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, w, _ := newTestServer(whole(get()))
			c, cw, l := newTestClient(nil)
			w.outErr, cw.outErr = tc.err, tc.err
			w.partial, cw.partial = tc.partial, tc.partial
			if tc.server {
				must(t, s.ReadHead(&message.Head{}))
				must(t, s.WriteHead(answer(200, message.NoBody, 0)))
				check(t, s.Flush(), tc.want)
				return
			}
			must(t, c.WriteHead(head("GET", "/", message.NoBody, 0)))
			check(t, c.WriteBody(nil, true), tc.want)
			if c.Reusable() || l.lent != 0 {
				t.Errorf("reusable %v, %d buffers kept", c.Reusable(), l.lent)
			}
		})
	}
}

// TestEarlyAnswerAfterWriteError: an endpoint that answers and closes without
// reading the whole body is still heard.
func TestEarlyAnswerAfterWriteError(t *testing.T) {
	c, w, _ := newTestClient(whole("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n"))
	must(t, c.WriteHead(head("POST", "/", message.Length, 100)))
	must(t, c.WriteBody(make([]byte, 50), false))
	w.outErr = syscall.EPIPE
	if err := c.WriteBody(make([]byte, 50), true); err == nil {
		t.Fatal("no error")
	}
	var h message.Head
	must(t, c.ReadHead(&h))
	if h.Status != 413 || c.Reusable() {
		t.Errorf("status %d, reusable %v", h.Status, c.Reusable())
	}
}

// TestClientReuse: one exchange leaves nothing behind for the next.
func TestClientReuse(t *testing.T) {
	c, w, _ := newTestClient(whole(ok("Content-Length: 7", "")))
	var h message.Head
	must(t, c.WriteHead(head("HEAD", "/", message.NoBody, 0)))
	must(t, c.Flush())
	must(t, c.ReadHead(&h))
	if !c.Reusable() || !c.Release() {
		t.Fatal("not reusable")
	}
	w.in = whole(ok("Content-Length: 7", "content"))
	must(t, c.WriteHead(head("GET", "/", message.NoBody, 0)))
	must(t, c.Flush())
	must(t, c.ReadHead(&h))
	if body, err := readAll(c); string(body) != "content" || err != nil {
		t.Errorf("read %q %v", body, err)
	}
	w.pending = true
	if c.Reusable() {
		t.Error("reusable with bytes in the transport")
	}
	if err := c.WriteHead(head("GET", "/", message.NoBody, 0)); policy.ReasonOf(err) != policy.Internal {
		t.Errorf("written on a connection that is not reusable: %v", err)
	}
}

// TestReadOnAfterInterruption: a deadline or a cancellation loses nothing.
func TestReadOnAfterInterruption(t *testing.T) {
	s, w, _ := newTestServer(whole(get("Connection: upgrade", "Upgrade: x")))
	w.inErr = errTimeout
	must(t, s.ReadHead(&message.Head{}))
	r := answer(101, message.Tunnel, 0)
	r.SetUpgrade("x")
	must(t, s.WriteHead(r))
	must(t, s.Flush())
	for range 2 {
		if _, _, err := s.ReadBody(); policy.ReasonOf(err) != policy.TunnelIdle {
			t.Errorf("silence: %v", err)
		}
	}
	w.in = whole("opaque")
	if p, _, err := s.ReadBody(); string(p) != "opaque" || err != nil {
		t.Errorf("read %q %v", p, err)
	}

	w.inErr = syscall.ECONNRESET
	if _, _, err := s.ReadBody(); policy.ReasonOf(err) != policy.ClientAborted {
		t.Errorf("reset: %v", err)
	}
	w.outErr = errTimeout
	if err := s.WriteBody([]byte("x"), true); policy.ReasonOf(err) != policy.TunnelIdle {
		t.Errorf("stuck: %v", err)
	}

	s, w, _ = newTestServer(whole(post("Content-Length: 4", "ab")))
	w.inErr = errors.New("cancelled")
	must(t, s.ReadHead(&message.Head{}))
	if _, err := readAll(s); policy.ReasonOf(err) != policy.BodyAborted {
		t.Errorf("interrupted: %v", err)
	}
	reply(t, s)
	if s.KeepAlive() {
		t.Error("kept with an unread body")
	}
	if w.in = whole("cd"); !s.DrainBody(10) {
		t.Error("not drained")
	}
}

// TestReleaseKeepsNothingUseless: bytes that no exchange can follow are given
// back with their buffer.
func TestReleaseKeepsNothingUseless(t *testing.T) {
	for name, request := range map[string]string{
		"close":       get("Connection: close") + get(),
		"unread body": post("Content-Length: 4", "abcd"),
		"malformed":   "GET / HTTP/7\r\n\r\n",
	} {
		s, _, l := newTestServer(whole(request))
		if s.ReadHead(&message.Head{}) == nil {
			reply(t, s)
		}
		if !s.Release() || l.lent != 0 {
			t.Errorf("%s: %d buffers kept", name, l.lent)
		}
	}
}

// TestBodyViews holds what one piece is: the end comes with the last data where
// it is known, the data of all buffered chunks comes at once, and what follows
// the message is left alone.
func TestBodyViews(t *testing.T) {
	type piece struct {
		data string
		end  bool
	}
	for _, tc := range []struct {
		name string
		in   []string
		want []piece
		left int
	}{
		{"length", []string{post("Content-Length: 3", "abc") + "next"}, []piece{{"abc", true}}, 4},
		{"length in two", []string{post("Content-Length: 3", "ab"), "cnext"}, []piece{{"ab", false}, {"c", true}}, 4},
		{"nothing", []string{post("Content-Length: 0", "") + "next"}, []piece{{"", true}}, 4},
		{"chunks in one buffer", []string{chunked("1\r\na\r\n2;x\r\nbc\r\n0\r\nX: 1\r\n\r\n") + "next"}, []piece{{"abc", true}}, 4},
		{"chunks without their end", []string{chunked("1\r\na\r\n2\r\nb"), "c\r\n0\r", "\n\r\nnext"},
			[]piece{{"ab", false}, {"c", false}, {"", true}}, 4},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var in [][]byte
			for _, p := range tc.in {
				in = append(in, []byte(p))
			}
			s, _, _ := newTestServer(in)
			must(t, s.ReadHead(&message.Head{}))
			for _, want := range tc.want {
				p, end, err := s.ReadBody()
				must(t, err)
				if string(p) != want.data || end != want.end {
					t.Errorf("got %q %v, want %q %v", p, end, want.data, want.end)
				}
			}
			if s.Buffered() != tc.left {
				t.Errorf("%d bytes left, want %d", s.Buffered(), tc.left)
			}
		})
	}
}
