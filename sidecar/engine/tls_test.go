package engine

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/tests/pki"
)

// tlsPair makes configurations of a server and of a client that trusts it.
func tlsPair(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	cert := pki.SelfSigned(t, "test")
	server = &tls.Config{Certificates: []tls.Certificate{cert}, SessionTicketsDisabled: true, MinVersion: tls.VersionTLS12}
	client = &tls.Config{RootCAs: pki.Pool(cert.Leaf), ServerName: "test"}
	return server, client
}

func serveTLS(t testing.TB, e *Engine, cfg *tls.Config, handle func(*Task, *TLS)) *Listener {
	return serve(t, e, func(task *Task, c *Conn) {
		c.SetDeadline(c.Loop().Now().Add(20 * time.Second))
		x := TLSServer(c, cfg)
		defer x.Close()
		handle(task, x)
	})
}

func echoTLS(_ *Task, x *TLS) {
	b := make([]byte, 32<<10)
	for {
		n, err := x.Read(b)
		if err != nil {
			return
		}
		if _, err := x.Write(b[:n]); err != nil {
			return
		}
	}
}

func TestTLSEchoToStandardClient(t *testing.T) {
	server, client := tlsPair(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			e := running(t, Options{})
			ln := serveTLS(t, e, server, echoTLS)
			cfg := client.Clone()
			cfg.MinVersion, cfg.MaxVersion = version, version
			for range 4 {
				c := tls.Client(dialTCP(t, ln), cfg)
				out := bytes.Repeat([]byte("0123456789abcdef"), 20_000)
				go c.Write(out)
				in := make([]byte, len(out))
				if _, err := io.ReadFull(c, in); err != nil || !bytes.Equal(in, out) {
					t.Fatalf("echo: %v", err)
				}
				c.CloseWrite()
				if n, err := c.Read(in); n != 0 || err != io.EOF {
					t.Errorf("end: %d, %v", n, err)
				}
			}
		})
	}
}

func TestTLSClientAndWriteBuffers(t *testing.T) {
	server, client := tlsPair(t)
	e := running(t, Options{})
	ln := serveTLS(t, e, server, echoTLS)
	for _, body := range []int{0, 10, 8 << 10, 100 << 10} {
		on(t, e.Loops()[1], func(task *Task) {
			c, err := task.Loop().Dial(ln.Addr(), time.Second)
			if err != nil {
				t.Error(err)
				return
			}
			x := TLSClient(c, client)
			defer x.Close()
			out := bytes.Repeat([]byte{'b'}, body)
			n, err := x.WriteBuffers([]byte("head"), out)
			if err != nil || n != 4+body {
				t.Errorf("wrote %d, %v", n, err)
			}
			in := make([]byte, 4+body)
			if err := readFull(x, in); err != nil || string(in[:4]) != "head" || !bytes.Equal(in[4:], out) {
				t.Errorf("echo of %d: %v", body, err)
			}
			if x.Pending() { // readiness may be noted late, for what has been read: then a read finds nothing
				c.SetReadDeadline(c.Loop().Now().Add(10 * time.Millisecond))
				if n, err := x.Read(in); n != 0 || !errors.Is(err, ErrTimeout) {
					t.Errorf("pending with everything read: %d, %v", n, err)
				}
			}
			if v := x.ConnectionState().Version; v != tls.VersionTLS13 {
				t.Errorf("version %x", v)
			}
		})
	}
}

func readFull(x Transport, b []byte) error {
	for len(b) > 0 {
		n, err := x.Read(b)
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// TestTLSPendingSeesBufferedRecords sends records in one segment: after the first is read,
// the socket has nothing and no edge will come, but crypto/tls holds the second.
func TestTLSPendingSeesBufferedRecords(t *testing.T) {
	server, client := tlsPair(t)
	e := running(t, Options{})
	result := make(chan error, 1)
	ln := serveTLS(t, e, server, func(task *Task, x *TLS) { result <- readPipelined(task, x) })
	batch := &batching{TCPConn: dialTCP(t, ln)}
	c := tls.Client(batch, client)
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	batch.hold = true
	c.Write([]byte("first"))
	c.Write([]byte("second"))
	batch.TCPConn.Write(batch.held)
	if err := <-result; err != nil {
		t.Error(err)
	}
}

// batching holds writes back so that they leave as one segment.
type batching struct {
	*net.TCPConn
	hold bool
	held []byte
}

func (b *batching) Write(p []byte) (int, error) {
	if !b.hold {
		return b.TCPConn.Write(p)
	}
	b.held = append(b.held, p...)
	return len(p), nil
}

func readPipelined(task *Task, x *TLS) error {
	b := make([]byte, 100)
	n, err := x.Read(b)
	if err != nil || string(b[:n]) != "first" {
		return errors.Join(errors.New("first: "+string(b[:n])), err)
	}
	for range 2 { // asking twice loses nothing
		if !x.Pending() {
			return errors.New("not pending with a record buffered")
		}
	}
	if x.Conn().Pending() {
		return errors.New("the socket is not drained: the test shows nothing")
	}
	n, err = x.Read(b)
	if err != nil || string(b[:n]) != "second" {
		return errors.Join(errors.New("second: "+string(b[:n])), err)
	}
	if x.Pending() {
		return errors.New("pending with everything read")
	}
	return nil
}

// TestTLSSurvivesOneByteSegments delivers records in pieces: each ends in a would-block
// inside crypto/tls.
func TestTLSSurvivesOneByteSegments(t *testing.T) {
	server, client := tlsPair(t)
	e := running(t, Options{})
	ln := serveTLS(t, e, server, echoTLS)
	batch := &batching{TCPConn: dialTCP(t, ln)}
	c := tls.Client(batch, client)
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	batch.hold = true
	c.Write([]byte("drop by drop"))
	for i := range batch.held {
		batch.TCPConn.Write(batch.held[i : i+1])
	}
	b := make([]byte, 12)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "drop by drop" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestTLSTimeoutIsSurvived(t *testing.T) {
	server, client := tlsPair(t)
	e := running(t, Options{})
	result := make(chan error, 1)
	timedOut := make(chan struct{})
	ln := serveTLS(t, e, server, func(task *Task, x *TLS) {
		b := make([]byte, 10)
		x.Handshake()
		x.Conn().SetReadDeadline(x.Conn().Loop().Now().Add(5 * time.Millisecond))
		if _, err := x.Read(b); err != ErrTimeout {
			result <- errors.Join(errors.New("want a timeout"), err)
			return
		}
		close(timedOut)
		x.Conn().SetReadDeadline(x.Conn().Loop().Now().Add(10 * time.Second))
		n, err := x.Read(b)
		if string(b[:n]) != "late" {
			result <- errors.Join(errors.New("got "+string(b[:n])), err)
			return
		}
		result <- nil
	})
	c := tls.Client(dialTCP(t, ln), client)
	c.Handshake()
	<-timedOut
	c.Write([]byte("late"))
	if err := <-result; err != nil {
		t.Error(err)
	}
}

func TestTLSHandshakeFailureTellsThePeer(t *testing.T) {
	server, client := tlsPair(t)
	server.ClientAuth = tls.RequireAnyClientCert
	e := running(t, Options{})
	result := make(chan error, 1)
	ln := serveTLS(t, e, server, func(_ *Task, x *TLS) { result <- x.Handshake() })
	c := tls.Client(dialTCP(t, ln), client)
	c.Handshake()
	_, err := c.Read(make([]byte, 1))
	var alert *net.OpError
	if !errors.As(err, &alert) {
		t.Errorf("client got %v, want the alert", err)
	}
	if err := <-result; err == nil {
		t.Error("server accepted no certificate")
	}
}

func TestTLSTruncationIsSeen(t *testing.T) {
	server, client := tlsPair(t)
	for _, truncated := range []bool{false, true} {
		e := running(t, Options{})
		result := make(chan bool, 1)
		ln := serveTLS(t, e, server, func(_ *Task, x *TLS) {
			if _, err := readAll(x); err != nil {
				t.Error(err)
			}
			result <- x.Truncated()
		})
		raw := dialTCP(t, ln)
		c := tls.Client(raw, client)
		c.Write([]byte("x"))
		if !truncated {
			c.CloseWrite()
		}
		raw.CloseWrite()
		if got := <-result; got != truncated {
			t.Errorf("truncated %v, want %v", got, truncated)
		}
	}
}

// TestTLSStalledWriterDoesNotHoldTheReader is the lock of crypto/tls that two tasks share: a
// peer that does not read parks the writer; then the reader must still be served.
func TestTLSStalledWriterDoesNotHoldTheReader(t *testing.T) {
	server, client := tlsPair(t)
	e := running(t, Options{})
	result := make(chan error, 2)
	ln := serveTLS(t, e, server, func(task *Task, x *TLS) {
		x.Handshake()
		done := false
		x.Conn().Loop().Go("writer", func(*Task) {
			_, err := x.Write(make([]byte, 64<<20))
			result <- err
			done = true
			task.Wake()
		})
		_, err := readAll(x)
		result <- err
		x.Close()
		for !done {
			task.Park("writer")
		}
	})
	raw := dialTCP(t, ln)
	c := tls.Client(raw, client)
	c.Handshake()
	c.Write([]byte("hello"))
	raw.Write([]byte{23, 3, 3, 0, 32})
	raw.Write(make([]byte, 32)) // a record that does not decrypt
	if err := <-result; err == nil || errors.Is(err, ErrClosed) {
		t.Errorf("reader: %v", err)
	}
	if err := <-result; err == nil { // closed, or the alert's error if it was not parked just then
		t.Error("writer succeeded")
	}
}

func TestFramesCountsRecordsInAnyPieces(t *testing.T) {
	stream := []byte{23, 3, 3, 0, 2, 'a', 'b', 22, 3, 3, 0, 0, 23, 3, 3, 1, 0}
	stream = append(stream, make([]byte, 256)...)
	stream = append(stream, 23, 3, 3, 0, 9)
	for size := 1; size <= len(stream); size++ {
		var f frames
		for p := stream; len(p) > 0; {
			n := min(size, len(p))
			f.see(p[:n])
			p = p[n:]
		}
		if f.complete != 3 || f.left != 9 {
			t.Fatalf("in pieces of %d: %d complete, %d left", size, f.complete, f.left)
		}
	}
}

// TestTLSPendingAgreesWithCryptoTLS reads requests of random shapes and compares what the
// record headers say with what crypto/tls says.
func TestTLSPendingAgreesWithCryptoTLS(t *testing.T) {
	server, client := tlsPair(t)
	e := running(t, Options{})
	result := make(chan int, 1)
	ln := serveTLS(t, e, server, func(task *Task, x *TLS) {
		known := 0
		b := make([]byte, 40)
		for {
			n, err := x.Read(b)
			if err != nil {
				break
			}
			echo := bytes.Clone(b[:n])
			if x.dry {
				known++
				if n, err := x.readNow(b[:1], wireDry); n != 0 || err != ErrWouldBlock {
					t.Errorf("dry, but crypto/tls had %d, %v", n, err)
				}
			}
			x.Write(echo)
		}
		result <- known
	})
	batch := &batching{TCPConn: dialTCP(t, ln)}
	c := tls.Client(batch, client)
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		batch.hold, batch.held = true, nil
		total := 0
		for range 1 + i%3 {
			n, _ := c.Write(make([]byte, 1+i*7%100))
			total += n
		}
		cut := i % len(batch.held)
		batch.TCPConn.Write(batch.held[:cut])
		batch.TCPConn.Write(batch.held[cut:])
		if _, err := io.ReadFull(c, make([]byte, total)); err != nil {
			t.Fatal(err)
		}
	}
	batch.hold = false
	c.CloseWrite()
	if known := <-result; known == 0 {
		t.Error("never known to be dry")
	}
}
