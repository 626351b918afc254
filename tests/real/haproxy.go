package real

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// HAProxy starts HAProxy with the configuration that is made of n loopback addresses to
// listen at, and returns them once it accepts connections at each. It ends with the
// test.
func HAProxy(t testing.TB, n int, configuration func(listen []string) string) []string {
	t.Helper()
	binary, dir := Installed(t, "haproxy"), shortTempDir(t)
	file, log := filepath.Join(dir, "haproxy.cfg"), filepath.Join(dir, "haproxy.log")
	for try := 1; ; try++ {
		var listen []string
		for _, port := range freePorts(t, n) {
			listen = append(listen, fmt.Sprintf("127.0.0.1:%d", port))
		}
		if err := os.WriteFile(file, []byte(configuration(listen)), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := startProcess(binary, log, "-db", "-f", file)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.kill)
		err = p.accepts(listen)
		if err == nil {
			return listen
		}
		if try == 3 {
			text, _ := os.ReadFile(log)
			t.Fatalf("haproxy: %v\n%s", err, tail(string(text), 20))
		}
	}
}

// accepts waits until the process accepts connections at each address, or has ended.
func (p *process) accepts(addresses []string) error {
	deadline := time.Now().Add(startTime)
	for _, address := range addresses {
		for {
			conn, err := net.Dial("tcp", address)
			if err == nil {
				conn.Close()
				break
			}
			if time.Now().After(deadline) {
				return err
			}
			select {
			case <-p.exited:
				return fmt.Errorf("it has ended: %w", p.err)
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	return nil
}
