package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// streams is how many are under way when a connection is told to go away.
const streams = 200

// withRoom gives a connection room for all of them.
const withRoom = ", http2: {max_streams: 300}"

// gate holds what has arrived until it is opened.
type gate struct {
	arrived atomic.Int64
	open    chan struct{}
	once    sync.Once
}

func newGate(t testing.TB) *gate {
	g := &gate{open: make(chan struct{})}
	t.Cleanup(g.release)
	return g
}

func (g *gate) release() { g.once.Do(func() { close(g.open) }) }

func (g *gate) pass() {
	g.arrived.Add(1)
	<-g.open
}

// await waits until all streams stand at the gate.
func (g *gate) await(t testing.TB) {
	t.Helper()
	eventually(t, patience, "all streams are under way", func() error {
		if n := g.arrived.Load(); n != streams {
			return fmt.Errorf("%d of %d", n, streams)
		}
		return nil
	})
}

// patient is a client with requests that are held and others that are answered at once.
type patient interface {
	held() error
	quick() error
}

// failover dials the first address that accepts, as a client does that knows several.
func failover(addresses ...string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (conn net.Conn, err error) {
		for _, address := range addresses {
			if conn, err = new(net.Dialer).DialContext(ctx, "tcp", address); err == nil {
				return conn, nil
			}
		}
		return nil, err
	}
}

// httpPatient sends bodies that cannot be sent again, so that a request that may have
// been lost is lost.
type httpPatient struct{ client *http.Client }

func newHTTPPatient(t testing.TB, dial func(context.Context) (net.Conn, error)) patient {
	client := http2Client(t)
	client.Timeout = 2 * patience
	client.Transport.(*http.Transport).DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }
	return httpPatient{client}
}

func (c httpPatient) held() error  { return c.post("/held") }
func (c httpPatient) quick() error { return c.post("/quick") }

func (c httpPatient) post(path string) error {
	for {
		err := c.postOnce(path)
		// net/http's words where it has closed the body of a request for which it then found
		// no connection: nothing was sent. One that may have been has other words.
		if err == nil || !strings.Contains(err.Error(), "cannot rewind body after connection loss") {
			return err
		}
	}
}

func (c httpPatient) postOnce(path string) error {
	body, w := io.Pipe()
	go func() {
		_, _ = io.WriteString(w, "some text")
		w.Close()
	}()
	resp, err := c.client.Post("http://proxy"+path, "text/plain", body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || string(text) != "some text" || resp.ProtoMajor != 2) {
		err = fmt.Errorf("%s %d %q", resp.Proto, resp.StatusCode, text)
	}
	return err
}

// gatedOrigin sends bodies back, those for /held once the gate is open.
func gatedOrigin(g *gate) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		if r.URL.Path == "/held" {
			g.pass()
		}
		_, _ = w.Write(text)
	}
}

// grpcPatient holds streams of which one message has been answered, and one not.
type grpcPatient struct{ conn *grpc.ClientConn }

func newGRPCPatient(t testing.TB, dial func(context.Context) (net.Conn, error)) patient {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///proxy", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return grpcPatient{conn}
}

func (c grpcPatient) quick() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	out := new(wrapperspb.StringValue)
	err := c.conn.Invoke(ctx, "/test.Gate/Quick", wrapperspb.String("some text"), out)
	if err == nil && out.Value != "some text" {
		err = fmt.Errorf("%q", out.Value)
	}
	return err
}

func (c grpcPatient) held() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	stream, err := c.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/test.Gate/Held")
	if err != nil {
		return err
	}
	for _, text := range []string{"first", "second"} {
		out := new(wrapperspb.StringValue)
		err := stream.SendMsg(wrapperspb.String(text))
		if err == nil {
			err = stream.RecvMsg(out)
		}
		if err == nil && out.Value != text {
			err = fmt.Errorf("%q", out.Value)
		}
		if err != nil {
			return fmt.Errorf("%s message: %w", text, err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	if err := stream.RecvMsg(new(wrapperspb.StringValue)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("at the end: %w", err)
	}
	return nil
}

// gatedGRPC is a server that sends every message back; the second of /test.Gate/Held
// once the gate is open.
func gatedGRPC(t testing.TB, g *gate) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(stream)
		for n := 1; ; n++ {
			message := new(wrapperspb.StringValue)
			err := stream.RecvMsg(message)
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err == nil && n == 2 && method == "/test.Gate/Held" {
				g.pass()
			}
			if err == nil {
				err = stream.SendMsg(message)
			}
			if err != nil {
				return err
			}
		}
	}))
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		<-served
	})
	return l.Addr().String()
}

// nothingLost has a client with streams under way and with new requests all the time,
// while its connection is told to go away; moved is nil once the client is elsewhere.
// What is under way ends only after that, and nothing may fail.
func nothingLost(t testing.TB, c patient, g *gate, leave func(), moved func() error) {
	t.Helper()
	var all sync.WaitGroup
	var answered atomic.Int64
	stop := make(chan struct{})
	defer all.Wait()
	for i := range streams {
		all.Go(func() {
			if err := c.held(); err != nil {
				t.Errorf("stream %d: %v", i, err)
			}
		})
	}
	defer g.release()
	g.await(t)
	for range 4 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := c.quick(); err != nil {
					t.Errorf("a request beside them: %v", err)
					return
				}
				answered.Add(1)
			}
		})
	}
	defer close(stop)
	progress := func() {
		t.Helper()
		enough := answered.Load() + 50
		eventually(t, patience, "requests are answered", func() error {
			if n := answered.Load(); n < enough {
				return fmt.Errorf("%d of %d", n, enough)
			}
			return nil
		})
	}
	progress()
	leave()
	eventually(t, patience, "the client goes elsewhere", moved)
	progress()
}

// TestNoStreamIsLostAtADrain: a reload that changes the listener's settings, one that
// takes the listener away, and SIGTERM, with net/http's client and with grpc-go's.
func TestNoStreamIsLostAtADrain(t *testing.T) {
	for _, client := range []string{"net/http", "grpc-go"} {
		for _, event := range []string{"reload", "reload without the listener", "SIGTERM"} {
			t.Run(client+", "+event, func(t *testing.T) {
				g := newGate(t)
				var endpoint string
				if client == "grpc-go" {
					endpoint = gatedGRPC(t, g)
				} else {
					endpoint = origin(t, gatedOrigin(g))
				}
				listener := "{name: in, address: 127.0.0.1:0, service: app" + withRoom + "}"
				service := "services: [{name: app, endpoints: [" + endpoint + "]" + withRoom + "}]\n"
				configuration := func(listeners string) string { return "listeners: [" + listeners + "]\n" + service }
				first := start(t, "first", configuration(listener))
				second := start(t, "second", configuration(listener))
				leave := func() {
					if status, body := first.reload(); status != http.StatusOK {
						t.Errorf("%d %s", status, body)
					}
				}
				moved := func() error {
					if second.scrape().sum("larboard_requests_total") == 0 {
						return errors.New("the other proxy has seen nothing")
					}
					return nil
				}
				switch event {
				case "reload":
					first.configure(configuration("{name: in, address: 127.0.0.1:0, service: app, timeouts: {body: 50s}" + withRoom + "}"))
					moved = func() error { return nil }
				case "reload without the listener":
					first.configure(configuration("{name: other, address: 127.0.0.1:0, service: app}"))
				case "SIGTERM":
					leave = func() { first.signal(syscall.SIGTERM) }
				}
				dial := failover(first.address("in"), second.address("in"))
				var c patient
				if client == "grpc-go" {
					c = newGRPCPatient(t, dial)
				} else {
					c = newHTTPPatient(t, dial)
				}
				nothingLost(t, c, g, leave, moved)
				if event == "SIGTERM" {
					if code := first.exit(patience); code != 0 {
						t.Errorf("exit code %d\n%s", code, first.log())
					}
				}
			})
		}
	}
}

// TestNoStreamIsLostWhenACalledInstanceLeaves: one of two instances of a service is told to
// end, while streams to both are under way through the caller's sidecar, over more
// connections than one, since each takes 128 of them.
func TestNoStreamIsLostWhenACalledInstanceLeaves(t *testing.T) {
	for _, client := range []string{"net/http", "grpc-go"} {
		t.Run(client, func(t *testing.T) {
			g := newGate(t)
			var endpoint string
			if client == "grpc-go" {
				endpoint = gatedGRPC(t, g)
			} else {
				endpoint = origin(t, gatedOrigin(g))
			}
			mesh := newAuthority(t, meshDomain)
			var called []*larboard
			for i := range 2 {
				called = append(called, start(t, fmt.Sprint("api ", i), newSVIDFiles(t, mesh.svid("api"), mesh).identity()+
					fmt.Sprintf("workload: {service: api, address: %q, listen: 127.0.0.1:0}\n", endpoint)))
			}
			caller := start(t, "web", newSVIDFiles(t, mesh.svid("web"), mesh).identity()+fmt.Sprintf(
				"listeners: [{name: api, direction: outbound, address: 127.0.0.1:0, service: api%s}]\n"+
					"services: [{name: api, endpoints: [%q, %q], tls: {spiffe: {ids: [%q]}}}]\n",
				withRoom, called[0].address("inbound"), called[1].address("inbound"), svcID(meshDomain, "api")))
			var c patient
			dial := failover(caller.address("api"))
			if client == "grpc-go" {
				c = newGRPCPatient(t, dial)
			} else {
				c = newHTTPPatient(t, dial)
			}
			leaves := called[0].address("inbound")
			nothingLost(t, c, g, func() { called[0].signal(syscall.SIGTERM) }, func() error {
				conn, err := net.Dial("tcp", leaves)
				if err == nil {
					conn.Close()
					return errors.New("it still accepts connections")
				}
				return nil
			})
			if code := called[0].exit(patience); code != 0 {
				t.Errorf("exit code %d\n%s", code, called[0].log())
			}
			if n := caller.scrape().sum("larboard_upstream_connections_total"); n > 20 {
				t.Errorf("%v connections to the instances: that was not HTTP/2", n)
			}
		})
	}
}
