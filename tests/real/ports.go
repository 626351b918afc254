package real

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
)

// freePorts returns n loopback ports that are free for TCP and UDP at this moment.
// Somebody else may take one before its server does, so that a start which fails
// is worth another try with new ports.
func freePorts(t testing.TB, n int) []int {
	t.Helper()
	var ports []int
	for tries := 0; len(ports) < n; tries++ {
		if tries > 100*n {
			t.Fatalf("no %d free ports on loopback", n)
		}
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer tcp.Close() // held until all are chosen: each is a different one
		port := tcp.Addr().(*net.TCPAddr).Port
		udp, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		defer udp.Close()
		ports = append(ports, port)
	}
	return ports
}

// portRange returns the first and the last of n loopback ports in a row that are free for TCP at
// this moment, below those that the kernel gives out.
func portRange(t testing.TB, n int) (first, last int) {
	t.Helper()
	for range 100 {
		first = 12000 + rand.IntN(6000-n)
		if inARow(first, n) {
			return first, first + n - 1
		}
	}
	t.Fatalf("no %d free ports in a row on loopback", n)
	return 0, 0
}

func inARow(first, n int) bool {
	for port := first; port < first+n; port++ {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return false
		}
		l.Close()
	}
	return true
}
