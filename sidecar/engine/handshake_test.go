package engine

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

// TestTLSWithHandshakesBeside is the tests of TLS again, with handshakes on goroutines.
func TestTLSWithHandshakesBeside(t *testing.T) {
	t.Setenv(besideEnv, "1")
	for name, f := range map[string]func(*testing.T){
		"echo to a standard client":   TestTLSEchoToStandardClient,
		"client and write buffers":    TestTLSClientAndWriteBuffers,
		"pending sees records":        TestTLSPendingSeesBufferedRecords,
		"one-byte segments":           TestTLSSurvivesOneByteSegments,
		"timeout is survived":         TestTLSTimeoutIsSurvived,
		"failure tells the peer":      TestTLSHandshakeFailureTellsThePeer,
		"truncation is seen":          TestTLSTruncationIsSeen,
		"stalled writer":              TestTLSStalledWriterDoesNotHoldTheReader,
		"pending agrees":              TestTLSPendingAgreesWithCryptoTLS,
		"bad peers":                   TestBadPeersInTheHandshake,
		"cancellation and the engine": TestHandshakeIsCancelled,
	} {
		t.Run(name, f)
	}
}

// TestBadPeersInTheHandshake: whoever does not shake hands ends with an error of its own
// kind, in either mode, and nothing is left behind.
func TestBadPeersInTheHandshake(t *testing.T) {
	server, client := tlsPair(t)
	hello := recordedHello(t, client)
	for _, c := range []struct {
		name string
		peer func(*net.TCPConn)
		want func(error) bool
	}{
		{"garbage", func(c *net.TCPConn) { c.Write([]byte("GET / HTTP/1.1\r\n\r\n")) }, func(err error) bool {
			_, ok := errors.AsType[tls.RecordHeaderError](err)
			return ok
		}},
		{"leaves at once", func(c *net.TCPConn) { c.CloseWrite() }, func(err error) bool { return errors.Is(err, io.EOF) }},
		{"half a hello, then gone", func(c *net.TCPConn) { c.Write(hello[:len(hello)/2]); c.CloseWrite() },
			func(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }},
		{"half a hello, then silence", func(c *net.TCPConn) { c.Write(hello[:len(hello)/2]) },
			func(err error) bool { return errors.Is(err, ErrTimeout) }},
		{"no word after the hello", func(c *net.TCPConn) { c.Write(hello) }, func(err error) bool { return errors.Is(err, ErrTimeout) }},
		{"reset after the hello", func(c *net.TCPConn) { c.Write(hello); c.SetLinger(0); c.Close() },
			func(err error) bool { return err != nil && !errors.Is(err, ErrTimeout) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := running(t, Options{})
			got := make(chan error, 1)
			ln := serve(t, e, func(_ *Task, conn *Conn) {
				conn.ReadWithin(150 * time.Millisecond)
				conn.WriteWithin(150 * time.Millisecond)
				x := TLSServer(conn, server)
				defer x.Close()
				err := x.Handshake()
				if again := x.Handshake(); again != err {
					t.Errorf("a second call says %v", again)
				}
				x.ConnectionState()
				got <- err
			})
			c.peer(dialTCP(t, ln))
			if err := <-got; !c.want(err) {
				t.Errorf("%T %v", err, err)
			}
		})
	}
}

// TestSlowKeysLeaveTheLoopSooner: one handshake that waits moves those with RSA, not others.
func TestSlowKeysLeaveTheLoopSooner(t *testing.T) {
	e := running(t, Options{Loops: 1, HandshakesPerTurn: 1})
	on(t, e.Loops()[0], func(task *Task) {
		l := task.Loop()
		for _, c := range []struct {
			waiting    int
			slow, want bool
		}{{0, true, false}, {1, false, false}, {1, true, true}, {pileUp, false, true}} {
			p := &l.pacer
			p.until, p.average, p.queue.waiters = 0, 0, make([]*condWaiter, c.waiting)
			if got := l.overloaded(c.slow); got != c.want {
				t.Errorf("%d wait, slow %v: %v", c.waiting, c.slow, got)
			}
			p.queue.waiters = nil
		}
	})
}

// recordedHello is what a client says first.
func recordedHello(t *testing.T, cfg *tls.Config) []byte {
	t.Helper()
	near, far := net.Pipe()
	defer near.Close()
	go tls.Client(far, cfg).Handshake()
	b := make([]byte, 4096)
	n, err := near.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

// TestHandshakeIsCancelled: a task that is cancelled while a slow key signs returns at once,
// and the goroutine ends by itself.
func TestHandshakeIsCancelled(t *testing.T) {
	server, client := tlsPair(t)
	signing, release := make(chan struct{}), make(chan struct{})
	slow := server.Clone()
	slow.Certificates = nil
	slow.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		close(signing)
		<-release
		return &server.Certificates[0], nil
	}
	e := running(t, Options{HandshakeOffload: OffloadAlways})
	got := make(chan error, 1)
	var l *Loop
	var ref TaskRef
	started := make(chan struct{})
	ln := serve(t, e, func(task *Task, conn *Conn) {
		l, ref = task.Loop(), task.Ref()
		close(started)
		x := TLSServer(conn, slow)
		defer x.Close()
		got <- x.Handshake()
		x.ConnectionState()
	})
	go tls.Client(dialTCP(t, ln), client).Handshake()
	<-started
	<-signing
	l.Post(func() { ref.Cancel(errTest) })
	if err := <-got; err != errTest {
		t.Error(err)
	}
	close(release)
}

// TestHandshakesAreRefusedBeyondTheQueue fills the queue of those who wait for a slot.
func TestHandshakesAreRefusedBeyondTheQueue(t *testing.T) {
	server, _ := tlsPair(t)
	e := running(t, Options{HandshakeOffload: OffloadAlways, Handshakes: 1})
	e.handshakes.waiting.Add(waitPerSlot)
	got := make(chan error, 1)
	ln := serve(t, e, func(_ *Task, conn *Conn) { got <- TLSServer(conn, server).Handshake() })
	dialTCP(t, ln)
	if err := <-got; err != ErrOverload {
		t.Error(err)
	}
	e.handshakes.waiting.Add(-waitPerSlot)
}

// TestPanicsInHandshakesBesideAreContained: a callback of the configuration that panics
// fails its handshake and gives its slot back.
func TestPanicsInHandshakesBesideAreContained(t *testing.T) {
	server, client := tlsPair(t)
	broken := server.Clone()
	broken.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { panic("boom") }
	e := running(t, Options{HandshakeOffload: OffloadAlways, Handshakes: 1})
	got := make(chan error, 1)
	ln := serve(t, e, func(_ *Task, conn *Conn) {
		x := TLSServer(conn, broken)
		defer x.Close()
		got <- x.Handshake()
	})
	for range 3 {
		go tls.Client(dialTCP(t, ln), client).Handshake()
		if err := <-got; err == nil || !strings.Contains(err.Error(), "boom") {
			t.Error(err)
		}
	}
}

// TestHandshakesLeaveALoopUnderOverload opens many connections at once: some of their
// handshakes are computed beside the loop, with an RSA key too, and all succeed.
func TestHandshakesLeaveALoopUnderOverload(t *testing.T) {
	for _, kind := range []string{"ECDSA", "RSA"} {
		t.Run(kind, func(t *testing.T) {
			server, client := tlsPair(t)
			if kind == "RSA" {
				server, client = rsaPair(t)
			}
			e := running(t, Options{Loops: 1})
			ln := serveTLS(t, e, server, echoTLS)
			for burst := 40; burst <= 200; burst += 5 { // a busy machine spreads a burst out
				shakeAll(t, ln, client, burst)
				if e.Stats().Total().Beside > 0 {
					return
				}
			}
			t.Error("no handshake left the loop")
		})
	}
}

func shakeAll(t *testing.T, ln *Listener, cfg *tls.Config, n int) {
	t.Helper()
	conns, done := make([]*net.TCPConn, n), make(chan error, n)
	for i := range conns {
		conns[i] = dialTCP(t, ln)
	}
	for _, c := range conns {
		go func() {
			x := tls.Client(c, cfg)
			defer x.Close()
			x.Write([]byte("hello"))
			_, err := io.ReadFull(x, make([]byte, 5))
			done <- err
		}()
	}
	for range conns {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func rsaPair(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}}, SessionTicketsDisabled: true},
		&tls.Config{RootCAs: pool, ServerName: "test"}
}
