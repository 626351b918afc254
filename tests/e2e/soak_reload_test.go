package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/tests/load"
)

// TestSaturationWithAReloadEverySecond: as many requests as go through, on kept and
// on new connections, tunnels that live throughout, and SIGHUP every second with a
// configuration that differs each time. No request fails, no tunnel ends, memory and
// descriptors stay flat.
func TestSaturationWithAReloadEverySecond(t *testing.T) {
	one, two, echo := startWorkload(t, "one"), startWorkload(t, "two"), upgradeOrigin(t)
	configuration := func(i int) string {
		endpoints, extra := one.address, ""
		if i%2 == 1 {
			endpoints += ", " + two.address
		}
		if i%3 == 2 {
			extra = fmt.Sprintf("- {name: extra%d, address: 127.0.0.1:0, service: app}\n", i)
		}
		return "listeners:\n- {name: in, address: 127.0.0.1:0, service: app, timeouts: {body: " + fmt.Sprint(60+i%5) + "s}}\n" +
			"- {name: tunnels, address: 127.0.0.1:0, service: echo}\n" + extra +
			"services:\n- {name: app, endpoints: [" + endpoints + "], balance: " + []string{"round_robin", "p2c", "random"}[i%3] + "}\n" +
			"- {name: echo, endpoints: [" + echo + "]}\n"
	}
	p := start(t, "proxy", configuration(0))
	address := p.address("in")
	before, idle := p.engineState(), p.vitals()
	tunnels := make([]*tunnel, 20)
	for i := range tunnels {
		tunnels[i] = openTunnel(t, p.address("tunnels"))
	}
	kept := send(t, load.Options{Addr: address, Conns: 32, Rate: -1})
	posts := send(t, load.Options{Addr: address, Conns: 8, Method: "POST", Body: []byte(strings.Repeat("x", 20_000)), Rate: 100})
	fresh := send(t, load.Options{Addr: address, NewConn: true, Rate: 50})

	var seen []vitals
	length := either(10*time.Second, 5*time.Minute)
	for i := 1; i <= int(length/time.Second); i++ {
		p.configure(configuration(i))
		p.signal(syscall.SIGHUP)
		kept.pass(time.Second)
		for _, tun := range tunnels {
			tun.echo(fmt.Sprintf("round %d", i))
		}
		seen = append(seen, p.vitals())
	}
	for _, traffic := range []*traffic{kept, posts, fresh} {
		traffic.endClean()
	}
	if n := p.scrape().sum("larboard_config_reloads_total", `result="applied"`); n != float64(len(seen)) {
		t.Errorf("%v reloads applied, want %d", n, len(seen))
	}
	checkFlat(t, seen)
	for _, tun := range tunnels {
		tun.conn.Close()
	}
	p.waitBaseline(before, idle.descriptors, 100)
}

// checkFlat compares the first with the last quarter of what was seen after a
// warm-up, by medians for memory, which goes up and down with the collector.
func checkFlat(t testing.TB, seen []vitals) {
	t.Helper()
	settled := seen[len(seen)/4:]
	quarter := max(len(settled)/4, 1)
	first, last := settled[:quarter], settled[len(settled)-quarter:]
	a, b := middle(first), middle(last)
	minutes := last[len(last)-1].at.Sub(first[0].at).Minutes()
	t.Logf("at first %v, at last %v: %+.2f MiB and %+d descriptors in %.1f minutes", a, b, mib(b.memory-a.memory), b.descriptors-a.descriptors, minutes)
	allowed := a.memory/5 + 4<<20 // within seconds the collector has its say
	if long() {
		allowed = a.memory/10 + 2<<20
	}
	if grown := b.memory - a.memory; grown > allowed {
		t.Errorf("memory grew by %.1f MiB from %.1f", mib(grown), mib(a.memory))
	}
	if b.descriptors > a.descriptors+32 {
		t.Errorf("descriptors grew from %d to %d", a.descriptors, b.descriptors)
	}
}

func middle(all []vitals) vitals {
	var memory []int64
	var descriptors []int
	for _, v := range all {
		memory, descriptors = append(memory, v.memory), append(descriptors, v.descriptors)
	}
	slices.Sort(memory)
	slices.Sort(descriptors)
	return vitals{at: all[len(all)/2].at, memory: memory[len(memory)/2], descriptors: descriptors[len(descriptors)/2]}
}

// upgradeOrigin switches to a protocol that sends every byte back.
func upgradeOrigin(t testing.TB) string {
	t.Helper()
	var open sync.WaitGroup
	t.Cleanup(open.Wait)
	return origin(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, buffered, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		open.Go(func() {
			defer conn.Close()
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+r.Header.Get("Upgrade")+"\r\n\r\n")
			_, _ = io.Copy(conn, buffered)
		})
	}))
}

// tunnel is a client's end of an upgraded connection.
type tunnel struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
}

func openTunnel(t testing.TB, address string) *tunnel {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	tun := &tunnel{t, conn, bufio.NewReader(conn)}
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: echo\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(tun.r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("upgrade: %v %v", resp, err)
	}
	return tun
}

// echo sends a text through the tunnel and wants it back.
func (tun *tunnel) echo(text string) {
	tun.t.Helper()
	_ = tun.conn.SetDeadline(time.Now().Add(patience))
	_, err := io.WriteString(tun.conn, text)
	got := make([]byte, len(text))
	if err == nil {
		_, err = io.ReadFull(tun.r, got)
	}
	if err != nil || string(got) != text {
		tun.t.Fatalf("tunnel: got %q, %v; want %q", got, err, text)
	}
}
