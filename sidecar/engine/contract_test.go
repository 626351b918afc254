package engine_test

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/engine/sim"
)

// pair is a connection whose both ends one poller watches.
type pair struct {
	t              *testing.T
	p              engine.Poller
	client, server int
	addr           netip.AddrPort
}

const (
	clientToken = 1
	serverToken = 2
)

func newPair(t *testing.T, p engine.Poller, host string) *pair {
	t.Helper()
	l, addr, err := p.Listen(netip.MustParseAddrPort(host + ":0"))
	if err != nil {
		t.Fatal(err)
	}
	k := &pair{t: t, p: p, addr: addr}
	k.must(p.Add(l, 3))
	k.client, err = p.Connect(addr)
	if err != syscall.EINPROGRESS {
		t.Fatalf("connect: %v", err)
	}
	k.must(p.Add(k.client, clientToken))
	if got := k.events(); !slices.Equal(got, []string{"client out", "listener in"}) {
		t.Errorf("connecting: %q", got)
	}
	k.must(p.SocketError(k.client))
	k.server, _, err = p.Accept(l)
	k.must(err)
	if _, _, err := p.Accept(l); err != syscall.EAGAIN {
		t.Errorf("accept of nothing: %v", err)
	}
	k.must(p.Add(k.server, serverToken))
	if got := k.events(); !slices.Equal(got, []string{"server out"}) {
		t.Errorf("accepted: %q", got)
	}
	t.Cleanup(func() {
		for _, fd := range []int{k.client, k.server, l} {
			if fd >= 0 {
				p.CloseSocket(fd, false)
			}
		}
		p.Close()
	})
	return k
}

func (k *pair) must(err error) {
	k.t.Helper()
	if err != nil {
		k.t.Fatal(err)
	}
}

// events collects what comes until nothing more does. The runtime's poller takes its time on
// a busy machine.
func (k *pair) events() []string {
	seen := map[uint64]engine.Ready{}
	var events [16]engine.Event
	for quiet := 0; quiet < 3; { // a wait may return early
		n, err := k.p.Wait(events[:], 20*time.Millisecond)
		k.must(err)
		for _, e := range events[:n] {
			seen[e.Token] |= e.Ready
		}
		quiet++
		if n > 0 {
			quiet = 0
		}
	}
	var all []string
	for token, r := range seen {
		all = append(all, [...]string{1: "client", 2: "server", 3: "listener"}[token]+names(r))
	}
	slices.Sort(all)
	return all
}

func names(r engine.Ready) (s string) {
	for i, name := range []string{" in", " out", " rdhup", " hup", " err"} {
		if r&(1<<i) != 0 {
			s += name
		}
	}
	return s
}

func (k *pair) write(fd int, text string) {
	n, err := k.p.Write(fd, []byte(text))
	if n != len(text) || err != nil {
		k.t.Errorf("write: %d, %v", n, err)
	}
}

// read reads once into room for n bytes.
func (k *pair) read(fd, n int) string {
	b := make([]byte, n)
	n, err := k.p.Read(fd, b)
	if err != nil {
		return err.Error()
	}
	if n == 0 {
		return io.EOF.Error()
	}
	return string(b[:n])
}

func (k *pair) close(fd *int, reset bool) {
	k.must(k.p.CloseSocket(*fd, reset))
	*fd = -1
}

// fill writes until there is no room and returns how much that was.
func (k *pair) fill(fd int) (total int) {
	b := make([]byte, 64<<10)
	for {
		n, err := k.p.Write(fd, b)
		total += n
		if err == syscall.EAGAIN {
			return total
		}
		k.must(err)
	}
}

func (k *pair) drain(fd int) (total int) {
	b := make([]byte, 64<<10)
	for {
		n, err := k.p.Read(fd, b)
		total += n
		if err == syscall.EAGAIN {
			return total
		}
		k.must(err)
	}
}

// TestPollerContract plays the same scripts on epoll, on the runtime's poller and on the simulated
// network: what one does, the others must do, or tests on the simulation prove nothing.
func TestPollerContract(t *testing.T) {
	const again = "resource temporarily unavailable"
	type step struct {
		do   func(k *pair) string // what it says is compared too
		want string
		then []string // events
	}
	scripts := []struct {
		name  string
		steps []step
	}{
		{"data is an edge each time", []step{
			{func(k *pair) string { k.write(k.client, "one"); return "" }, "", []string{"server in out"}},
			{func(k *pair) string { return "" }, "", nil},
			{func(k *pair) string { return k.read(k.server, 2) }, "on", nil},
			{func(k *pair) string { k.write(k.client, "two"); return "" }, "", []string{"server in out"}},
			{func(k *pair) string { return k.read(k.server, 9) + k.read(k.server, 9) }, "etwo" + again, nil},
		}},
		{"data and FIN are one event", []step{
			{func(k *pair) string { k.write(k.client, "last"); k.close(&k.client, false); return "" }, "",
				[]string{"server in out rdhup"}},
			{func(k *pair) string { return k.read(k.server, 9) + k.read(k.server, 9) + k.read(k.server, 9) }, "lastEOFEOF", nil},
		}},
		{"half-close, answer, close", []step{
			{func(k *pair) string { k.must(k.p.ShutdownWrite(k.client)); return "" }, "",
				[]string{"client out", "server in out rdhup"}},
			{func(k *pair) string { k.write(k.server, "answer"); return k.read(k.server, 1) }, "EOF", []string{"client in out"}},
			{func(k *pair) string { k.must(k.p.ShutdownWrite(k.server)); return "" }, "",
				[]string{"client in out rdhup hup", "server in out rdhup hup"}},
			{func(k *pair) string { return k.read(k.client, 9) + k.read(k.client, 9) }, "answerEOF", nil},
		}},
		{"a reset says everything, once", []step{
			{func(k *pair) string { k.close(&k.client, true); return "" }, "", []string{"server in out rdhup hup err"}},
			{func(k *pair) string { return k.read(k.server, 9) + k.read(k.server, 9) }, "connection reset by peerEOF", nil},
			{func(k *pair) string { _, err := k.p.Write(k.server, []byte("x")); return err.Error() }, "broken pipe", nil},
		}},
		{"data before a reset is still there", []step{
			{func(k *pair) string { k.write(k.client, "last"); k.close(&k.client, true); return "" }, "",
				[]string{"server in out rdhup hup err"}},
			{func(k *pair) string { return k.read(k.server, 9) + k.read(k.server, 9) }, "lastconnection reset by peer", nil},
		}},
		{"a write to a reset connection", []step{
			{func(k *pair) string { k.close(&k.client, true); return "" }, "", []string{"server in out rdhup hup err"}},
			{func(k *pair) string { _, err := k.p.Write(k.server, []byte("x")); return err.Error() }, "connection reset by peer", nil},
			{func(k *pair) string { return fmt.Sprint(k.p.SocketError(k.server)) }, "<nil>", nil},
		}},
		{"a close with unread data is a reset", []step{
			{func(k *pair) string { k.write(k.server, "unread"); return "" }, "", []string{"client in out"}},
			{func(k *pair) string { k.close(&k.client, false); return "" }, "", []string{"server in out rdhup hup err"}},
			{func(k *pair) string { return fmt.Sprint(k.p.SocketError(k.server), k.p.SocketError(k.server)) },
				"connection reset by peer <nil>", nil},
		}},
		{"data to a closed end brings a reset", []step{
			{func(k *pair) string { k.close(&k.client, false); return "" }, "", []string{"server in out rdhup"}},
			{func(k *pair) string { k.write(k.server, "x"); return "" }, "", []string{"server in out rdhup hup err"}},
			{func(k *pair) string { return k.read(k.server, 1) + fmt.Sprint(k.p.SocketError(k.server)) }, "EOFbroken pipe", nil},
		}},
		{"no write after a half-close of our own", []step{
			{func(k *pair) string { k.must(k.p.ShutdownWrite(k.client)); return "" }, "",
				[]string{"client out", "server in out rdhup"}},
			{func(k *pair) string { _, err := k.p.Write(k.client, []byte("x")); return err.Error() }, "broken pipe", nil},
		}},
		{"the lowest descriptor is used again", []step{
			{func(k *pair) string {
				old := k.client
				k.close(&k.client, false)
				k.client, _ = k.p.Connect(k.addr)
				return fmt.Sprint(k.client == old)
			}, "true", []string{"listener in", "server in out rdhup"}},
		}},
	}
	for _, c := range scripts {
		for name, make := range pollers() {
			t.Run(strings.ReplaceAll(c.name, " ", "_")+"/"+name, func(t *testing.T) {
				k := make(t)
				for i, s := range c.steps {
					if got := s.do(k); got != s.want {
						t.Errorf("step %d: %q, want %q", i, got, s.want)
					}
					if got := k.events(); !slices.Equal(got, s.then) {
						t.Errorf("step %d: events %q, want %q", i, got, s.then)
					}
				}
			})
		}
	}
}

// pollers makes connections on each kind of network.
func pollers() map[string]func(*testing.T) *pair {
	return map[string]func(*testing.T) *pair{
		"epoll": func(t *testing.T) *pair {
			p, err := engine.NewEpoll()
			if err != nil {
				t.Fatal(err)
			}
			return newPair(t, p, "127.0.0.1")
		},
		"netpoll": func(t *testing.T) *pair { return newPair(t, engine.NewNetpoll(), "127.0.0.1") },
		"sim": func(t *testing.T) *pair {
			return newPair(t, sim.New(sim.Options{}).Host("10.0.0.1").Poller(), "10.0.0.1")
		},
	}
}

// TestPollerContractOfRoom: room is told once, after a write that found none, and not before
// a good part is free.
func TestPollerContractOfRoom(t *testing.T) {
	for name, make := range pollers() {
		t.Run(name, func(t *testing.T) {
			k := make(t)
			sent := 0
			for n := k.fill(k.client); n > 0; n = k.fill(k.client) {
				sent += n
				k.events()
			}
			for n := 1; n > 0; sent += n { // the kernel may have moved something meanwhile
				var err error
				if n, err = k.p.Write(k.client, []byte("x")); err != nil && err != syscall.EAGAIN {
					t.Fatal(err)
				}
			}
			for _, e := range k.events() { // of the server: bytes that came late
				if strings.HasPrefix(e, "client") {
					t.Errorf("event of a full socket: %q", e)
				}
			}
			told := 0
			for got := 0; got < sent; {
				n := k.drain(k.server)
				got += n
				for _, e := range k.events() {
					if e == "client out" {
						told++
					}
				}
			}
			if told == 0 {
				t.Error("not told of room")
			}
			k.write(k.client, "x")
			if got := k.events(); !slices.Equal(got, []string{"server in out"}) {
				t.Errorf("events %q", got)
			}
			k.drain(k.server) // nobody has asked for room
			if got := k.events(); len(got) != 0 {
				t.Errorf("events %q", got)
			}
		})
	}
}

func TestPollerContractOfRefusal(t *testing.T) {
	for name, make := range pollers() {
		k := make(t)
		l, addr, err := k.p.Listen(netip.AddrPortFrom(k.addr.Addr(), 0))
		k.must(err)
		k.must(k.p.CloseSocket(l, false))
		fd, err := k.p.Connect(addr)
		if err != syscall.EINPROGRESS {
			t.Fatal(err)
		}
		k.must(k.p.Add(fd, clientToken))
		if got := k.events(); !slices.Equal(got, []string{"client in out rdhup hup err"}) {
			t.Errorf("%s: events %q", name, got)
		}
		if err := k.p.SocketError(fd); err != syscall.ECONNREFUSED {
			t.Errorf("%s: %v", name, err)
		}
		k.must(k.p.CloseSocket(fd, false))
	}
}
