package capture

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/larboard-proxy/larboard/sidecar/cli"
	"github.com/larboard-proxy/larboard/tests/real"
)

// asLarboard makes the test binary behave as larboard itself, so that tests see a real process.
const asLarboard = "LARBOARD_TEST_AS_BINARY"

func TestMain(m *testing.M) {
	if os.Getenv(asLarboard) != "" {
		os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// within is what anything gets on a busy machine.
const within = 60 * time.Second

// backends are those that every machine of ours has.
func backends() []string { return []string{"nftables", "iptables-nft", "iptables-legacy"} }

// larboard runs the binary inside a namespace; words before the program's name come from before.
func larboard(n *real.NetworkNamespace, before []string, args ...string) real.Ran {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	words := append([]string{asLarboard + "=1"}, before...)
	words = append(append(words, self), args...)
	return n.Run(within, "env", words...)
}

// capture runs `larboard capture`, which has to go well.
func capture(t *testing.T, n *real.NetworkNamespace, args ...string) string {
	t.Helper()
	ran := larboard(n, nil, append([]string{"capture"}, args...)...)
	if ran.Code != 0 {
		t.Fatalf("larboard capture %q: exit code %d\n%s%s", args, ran.Code, ran.Stdout, ran.Stderr)
	}
	return ran.Stdout
}

// The addresses of the two machines, and some that neither has.
const (
	here, here6           = "10.77.0.1", "fd77::1"
	there, there6         = "10.77.0.2", "fd77::2"
	elsewhere, elsewhere6 = "192.0.2.9", "2001:db8::9"
)

// machines are one with an application and its proxy, and another one on the same cable, which
// is the way to everywhere.
func machines(t *testing.T) (app, other *real.NetworkNamespace) {
	t.Helper()
	app, other = real.Namespace(t), real.Namespace(t)
	app.Join("cable", here+"/24,"+here6+"/64", other, there+"/24,"+there6+"/64")
	app.MustRun("ip", "route", "add", "default", "via", there)
	app.MustRun("ip", "-6", "route", "add", "default", "via", there6)
	return app, other
}

// serve answers every request with a name and the address that the client meant.
func serve(n *real.NetworkNamespace, name string, ports ...int) {
	serve4(n, name, ports...)
	for _, port := range ports {
		go accept(n.Listen("tcp6", fmt.Sprintf("[::]:%d", port)), name)
	}
}

// serve4 does so over IPv4 alone.
func serve4(n *real.NetworkNamespace, name string, ports ...int) {
	for _, port := range ports {
		go accept(n.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", port)), name)
	}
}

// accept ends with the listener.
func accept(l net.Listener, name string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go answer(c, name)
	}
}

func answer(c net.Conn, name string) {
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		if strings.TrimSpace(line) == "" {
			break
		}
	}
	fmt.Fprintf(c, "HTTP/1.0 200 OK\r\n\r\n%s %s", name, meant(c))
}

// meant is the destination that a connection had before it was redirected. Source: the
// kernel's socket options SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST, both 80.
func meant(c net.Conn) string {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err.Error()
	}
	var address netip.AddrPort
	var failed error
	local := c.LocalAddr().(*net.TCPAddr).AddrPort()
	err = raw.Control(func(fd uintptr) {
		if local.Addr().Unmap().Is4() {
			var got *unix.IPv6Mreq // 20 bytes, of which a sockaddr_in has 16
			if got, failed = unix.GetsockoptIPv6Mreq(int(fd), unix.SOL_IP, 80); failed == nil {
				b := got.Multiaddr
				address = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:4]))
			}
			return
		}
		var got *unix.IPv6MTUInfo // begins with a sockaddr_in6
		if got, failed = unix.GetsockoptIPv6MTUInfo(int(fd), unix.SOL_IPV6, 80); failed == nil {
			port := binary.NativeEndian.AppendUint16(nil, got.Addr.Port)
			address = netip.AddrPortFrom(netip.AddrFrom16(got.Addr.Addr), binary.BigEndian.Uint16(port))
		}
	})
	if err != nil || failed != nil {
		return local.String() // as it is where the kernel has nothing to tell
	}
	return address.String()
}

// get is what curl gets, run by a user; curl's exit code where it gets nothing.
func get(n *real.NetworkNamespace, user int, address string) string {
	ran := n.Run(within, "setpriv", real.As(user, "curl", "-sS", "--noproxy", "*", "--max-time", "30", "http://"+address+"/")...)
	if ran.Code != 0 {
		return fmt.Sprintf("curl: exit code %d: %s", ran.Code, ran.Stderr)
	}
	return ran.Stdout
}

// connected is a connection between two machines, both ends of it.
func connected(t *testing.T, from, to *real.NetworkNamespace, address string) (client, server net.Conn) {
	t.Helper()
	l := to.Listen("tcp", address)
	client, err := from.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// pass sends a few bytes from one end to the other.
func pass(t *testing.T, when string, from, to net.Conn) {
	t.Helper()
	deadline := time.Now().Add(within)
	from.SetDeadline(deadline)
	to.SetDeadline(deadline)
	if _, err := from.Write([]byte("alive")); err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(to, got); err != nil || string(got) != "alive" {
		t.Fatalf("%s: %s got %q: %v", when, to.LocalAddr(), got, err)
	}
}
