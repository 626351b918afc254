package real

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// Redis starts a Redis server, whose clients speak first, and returns its address. It ends
// with the test.
func Redis(t testing.TB) string {
	return listening(t, "redis-server", func(_, port string) []string {
		return []string{"--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no"}
	})
}

// MariaDB starts a MariaDB server, which greets its clients, and returns its address.
// Everybody may do everything. It ends with the test.
func MariaDB(t testing.TB) string {
	return listening(t, "mariadbd", func(dir, port string) []string {
		return []string{"--no-defaults", "--user=root", "--skip-grant-tables", "--bind-address=127.0.0.1", "--port=" + port,
			"--datadir=" + dir, "--socket=" + filepath.Join(dir, "s"), "--pid-file=" + filepath.Join(dir, "pid"),
			"--innodb-buffer-pool-size=8M", "--innodb-log-file-size=4M"}
	})
}

// listening starts a server that is told its directory and its port.
func listening(t testing.TB, program string, args func(dir, port string) []string) string {
	t.Helper()
	binary := Installed(t, program)
	for try := 1; ; try++ {
		dir := shortTempDir(t)
		port, log := strconv.Itoa(freePorts(t, 1)[0]), filepath.Join(dir, "log")
		p, err := startProcess(binary, log, args(dir, port)...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.kill)
		address := net.JoinHostPort("127.0.0.1", port)
		if err = p.accepts([]string{address}); err == nil {
			return address
		}
		if try == 3 {
			text, failure := os.ReadFile(log)
			t.Fatalf("%s: %v\n%s", program, errors.Join(err, failure), tail(string(text), 20))
		}
	}
}
