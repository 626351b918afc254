//go:build !race && !larboard_debug

package engine

import (
	"net/netip"
	"runtime"
	"syscall"
	"testing"
)

// idleBytes is what an idle connection may cost: its record, or that and a goroutine.
var idleBytes = map[Kind]int64{Events: 260, Goroutines: 4 << 10}

// TestIdleConnectionCost opens connections that wait for their first request and asserts
// what each costs in Go memory: the Conn, its place in the table, and a closure as an owner
// would have.
func TestIdleConnectionCost(t *testing.T) {
	const conns = 4000
	e := running(t, Options{})
	ln, err := e.Listen("tcp", "127.0.0.1:0", func(_ *Loop, c *Conn) {
		c.OnReadable(func() { c.Close() })
	})
	if err != nil {
		t.Fatal(err)
	}
	before := heap()
	clients := connectRaw(t, ln.Addr(), conns)
	eventually(t, "all to be accepted", func() bool { return e.Stats().Total().Conns == conns })
	if per := (heap() - before) / conns; per > idleBytes[e.options.Kind] {
		t.Errorf("an idle connection costs %d bytes", per)
	} else {
		t.Logf("%d bytes each", per)
	}
	s := e.Stats()
	if a, b := s.Loops[0].Conns, s.Loops[1].Conns; a < conns/3 || b < conns/3 {
		t.Errorf("connections are spread %d to %d", a, b)
	}
	for _, fd := range clients {
		syscall.Close(fd)
	}
	eventually(t, "all to be closed", func() bool { return e.Stats().Total().Conns == 0 })
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// connectRaw opens client sockets that cost no Go memory.
func connectRaw(t *testing.T, addr netip.AddrPort, n int) []int {
	t.Helper()
	fds := make([]int, n)
	for i := range fds {
		fd, err := netSockets{}.Connect(addr)
		if fd < 0 {
			t.Fatal(err)
		}
		fds[i] = fd
	}
	return fds
}
