package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// multiplexed is clients that behave, of HTTP/2, gRPC, WebSockets and servers that speak
// first. Some leave in the middle of what they do, as clients may. That is seen by the
// workload, each time and at no other time.
type multiplexed struct {
	s    *soak
	stop chan struct{}
	once sync.Once
	all  sync.WaitGroup
	done map[string]*atomic.Int64 // what went well, by kind
	left map[string]*atomic.Int64 // what clients have left, by kind
	seen map[string]*atomic.Int64 // that by the workloads' account
}

// soakLeavers are the kinds of which some leave.
var soakLeavers = []string{"gRPC stream", "HTTP/2", "WebSocket", "greeting"}

func newMultiplexed(s *soak) *multiplexed {
	m := &multiplexed{s: s, stop: make(chan struct{}), done: map[string]*atomic.Int64{}, left: map[string]*atomic.Int64{}, seen: map[string]*atomic.Int64{}}
	for _, kind := range soakLeavers {
		m.left[kind], m.seen[kind] = new(atomic.Int64), new(atomic.Int64)
	}
	return m
}

// client repeats something until the end, on a goroutine of its own.
func (m *multiplexed) client(kind string, pause time.Duration, do func(i int) error) {
	n := m.done[kind]
	if n == nil {
		n = new(atomic.Int64)
		m.done[kind] = n
	}
	m.all.Go(func() {
		for i := 0; ; i++ {
			if err := do(i); err != nil {
				m.s.fail(fmt.Errorf("%s: %w", kind, err))
			} else {
				n.Add(1)
			}
			select {
			case <-m.stop:
				return
			case <-time.After(pause):
			}
		}
	})
}

func (m *multiplexed) end() {
	m.once.Do(func() { close(m.stop) })
	m.all.Wait()
}

func (m *multiplexed) total() (n int) {
	for _, one := range m.done {
		n += int(one.Load())
	}
	return n
}

func (m *multiplexed) String() string {
	var all []string
	for _, kind := range slices.Sorted(maps.Keys(m.done)) {
		one := fmt.Sprintf("%s %d", kind, m.done[kind].Load())
		if left := m.left[kind]; left != nil {
			one += fmt.Sprintf(" (%d left, %d seen)", left.Load(), m.seen[kind].Load())
		}
		all = append(all, one)
	}
	return strings.Join(all, ", ")
}

// missing are the kinds that have not been yet, or that nobody left.
func (m *multiplexed) missing() (all []string) {
	for kind, n := range m.done {
		if n.Load() == 0 {
			all = append(all, "no "+kind)
		}
	}
	for _, kind := range soakLeavers {
		if m.left[kind].Load() == 0 {
			all = append(all, kind+": nobody left")
		}
	}
	return all
}

// check compares what was left with what the workloads have seen.
func (m *multiplexed) check(t testing.TB) {
	t.Helper()
	t.Log(m)
	for _, kind := range soakLeavers {
		left := m.left[kind].Load()
		if err := poll(patience, func() error {
			if seen := m.seen[kind].Load(); seen != left {
				return fmt.Errorf("%d clients left, the workload has seen %d", left, seen)
			}
			return nil
		}); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// start lets them begin.
func (m *multiplexed) start() {
	for i := range 3 {
		m.callUnary(newGRPCCaller(m.s.t, m.s.callsAt), 50*time.Millisecond, i)
		m.callStreams(newGRPCCaller(m.s.t, m.s.callsAt))
	}
	m.client("gRPC connection", 2*time.Second, func(i int) error {
		c := newGRPCCaller(m.s.t, m.s.callsAt)
		defer c.conn.Close()
		return saidBack(c, fmt.Sprint("fresh ", i))
	})
	for _, address := range []string{m.s.apiAt, m.s.anyAt} {
		m.exchangeHTTP2(http2Client(m.s.t), address)
	}
	over1 := &http.Transport{}
	breaks := &http.Transport{DialContext: dialToReset}
	over2 := newExtendedConnect(m.s.t)
	m.s.t.Cleanup(over1.CloseIdleConnections)
	for range 2 {
		m.openWebSockets(over1, breaks)
		m.openWebSockets(over2, over2)
	}
	m.client("greeting", 300*time.Millisecond, func(i int) error {
		_, err := greeting(m.s.anyAt)
		if err == nil && i%10 == 9 {
			err = m.greetedAndGone()
		}
		return err
	})
}

// saidBack makes a unary call whose answer is known.
func saidBack(c *grpcCaller, text string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	got, err := c.say(ctx, "echo "+text)
	if err == nil && got != text+" from calls" {
		err = fmt.Errorf("%d bytes came back as %d", len(text), len(got))
	}
	return err
}

// callUnary makes calls of many sizes, and such as the workload refuses.
func (m *multiplexed) callUnary(c *grpcCaller, pause time.Duration, client int) {
	m.client("gRPC call", pause, func(i int) error {
		switch {
		case i%50 == 49:
			_, err := c.say(context.Background(), fmt.Sprint("fail ", uint32(codes.NotFound)))
			if status.Code(err) != codes.NotFound {
				return fmt.Errorf("want NotFound: %w", err)
			}
			return nil
		case i%40 == 39:
			return saidBack(c, strings.Repeat("large", 100_000))
		}
		return saidBack(c, fmt.Sprint(client, strings.Repeat(" call", i%200)))
	})
}

// callStreams opens streams in both directions, which last some seconds.
func (m *multiplexed) callStreams(c *grpcCaller) {
	m.client("gRPC stream", 100*time.Millisecond, func(i int) error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		s, err := c.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/test.Calls/Chat")
		if err != nil {
			return err
		}
		for n := range 20 {
			if err := echoOn(s, strings.Repeat("text", 1<<(n%15))); err != nil {
				return fmt.Errorf("message %d: %w", n, err)
			}
			if i%4 == 3 && n == 10 {
				m.left["gRPC stream"].Add(1)
				cancel()
				if err := s.RecvMsg(&say{}); status.Code(err) != codes.Canceled {
					return fmt.Errorf("after leaving: %w", err)
				}
				return nil
			}
			time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
		}
		if err := s.CloseSend(); err != nil {
			return err
		}
		if err := s.RecvMsg(&say{}); err != io.EOF {
			return fmt.Errorf("at the end: %w", err)
		}
		return nil
	})
}

// exchangeHTTP2 has small and large bodies in both directions as streams of one
// connection.
func (m *multiplexed) exchangeHTTP2(c *http.Client, address string) {
	c.Timeout = 30 * time.Second
	get := func(size, offset int) error {
		resp, err := c.Get(fmt.Sprintf("http://%s/%d/%d", address, size, offset))
		return sameBody(resp, err, blob(size, offset))
	}
	post := func(size, offset int) error {
		body := blob(size, offset)
		resp, err := c.Post("http://"+address+"/", "application/octet-stream", bytes.NewReader(body))
		return sameBody(resp, err, body)
	}
	for range 2 {
		m.client("HTTP/2", 100*time.Millisecond, func(i int) error { return get(i%5000, i%1000) })
	}
	m.client("HTTP/2", 100*time.Millisecond, func(i int) error { return post(1+i*37%30_000, i%1000) })
	m.client("HTTP/2", 2*time.Second, func(i int) error { return get(4<<20, i%1000) })
	m.client("HTTP/2", 2*time.Second, func(i int) error { return post(1<<20, i%1000) })
	m.client("HTTP/2", time.Second, func(int) error {
		resp, err := c.Get("http://" + address + "/endless")
		if err != nil {
			return err
		}
		_, err = io.ReadFull(resp.Body, make([]byte, 100_000))
		if err == nil {
			m.left["HTTP/2"].Add(1)
		}
		resp.Body.Close()
		return err
	})
}

// sameBody wants an answer that is whole and right.
func sameBody(resp *http.Response, err error, want []byte) error {
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 || !bytes.Equal(got, want) {
		return fmt.Errorf("%s %s, %d of %d bytes, the same: %v; %w", resp.Proto, resp.Status, len(got), len(want), bytes.Equal(got, want), err)
	}
	return nil
}

// dialToReset opens connections whose close is a reset.
func dialToReset(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	if err == nil {
		err = c.(*net.TCPConn).SetLinger(0)
	}
	return c, err
}

// openWebSockets opens WebSockets that last some seconds; by breaks it opens those that it
// leaves without a word.
func (m *multiplexed) openWebSockets(stays, breaks http.RoundTripper) {
	m.client("WebSocket", 100*time.Millisecond, func(i int) error {
		transport, leaves := stays, i%4 == 3
		if leaves {
			transport = breaks
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		c, _, err := websocket.Dial(ctx, "http://"+m.s.apiAt+"/echo", &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}})
		if err != nil {
			return err
		}
		defer c.CloseNow()
		c.SetReadLimit(1 << 20)
		for n := range 15 {
			if err := echoOver(c, strings.Repeat("text", 1<<(n%14))); err != nil {
				return fmt.Errorf("message %d: %w", n, err)
			}
			time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
		}
		if leaves {
			m.left["WebSocket"].Add(1)
			return nil
		}
		return c.Close(websocket.StatusNormalClosure, "")
	})
}

// greetedAndGone is a client that resets its connection after the greeting and a word.
func (m *multiplexed) greetedAndGone() error {
	c, err := dialToReset(context.Background(), "tcp", m.s.anyAt)
	if err != nil {
		return err
	}
	defer c.Close()
	r := bufio.NewReader(c)
	for _, want := range []string{"220 hello\n", "EHLO\n"} {
		_ = c.SetDeadline(time.Now().Add(patience))
		if line, err := r.ReadString('\n'); err != nil || line != want {
			return fmt.Errorf("%q, %w; want %q", line, err, want)
		}
		if want != "EHLO\n" {
			if _, err := io.WriteString(c, "EHLO\n"); err != nil {
				return err
			}
		}
	}
	m.left["greeting"].Add(1)
	return nil
}

// workload answers what blobs do, /echo with a WebSocket that sends back what it gets, and
// /endless as long as somebody takes it.
func (m *multiplexed) workload(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/echo":
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			m.s.fail(err)
			return
		}
		defer c.CloseNow()
		c.SetReadLimit(1 << 20)
		for {
			kind, text, err := c.Read(context.Background())
			if err == nil {
				err = c.Write(context.Background(), kind, text)
			}
			if err != nil {
				if websocket.CloseStatus(err) != websocket.StatusNormalClosure {
					m.seen["WebSocket"].Add(1)
				}
				return
			}
		}
	case "/endless":
		for {
			if _, err := w.Write(blob(64<<10, 0)); err != nil {
				m.seen["HTTP/2"].Add(1)
				return
			}
		}
	}
	blobs{}.ServeHTTP(w, r)
}

// greet serves a protocol whose server speaks first, and counts the connections that are
// reset after the first word of the client's.
func (m *multiplexed) greet(c net.Conn) {
	defer c.Close()
	_, err := io.WriteString(c, "220 hello\n")
	r := bufio.NewReader(c)
	for lines := 0; err == nil; lines++ {
		var line string
		if line, err = r.ReadString('\n'); err == nil {
			_, err = io.WriteString(c, line)
		} else if lines > 0 && errors.Is(err, syscall.ECONNRESET) {
			m.seen["greeting"].Add(1)
		}
	}
}

// mailOrigin is the server that greets.
func (m *multiplexed) mailOrigin(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go m.greet(c)
		}
	}()
	return l.Addr().String()
}
