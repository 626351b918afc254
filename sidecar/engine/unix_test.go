package engine

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func echoUnix(t *testing.T, e *Engine, o ListenOptions) *Listener {
	t.Helper()
	o.Network = "unix"
	ln, err := e.BindWith(o, func(l *Loop, c *Conn) {
		l.Go("serve", func(task *Task) {
			defer c.Close()
			echo(task, c)
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	ln.Start()
	return ln
}

func say(t *testing.T, path, text string) string {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(c, text)
	c.(*net.UnixConn).CloseWrite()
	all, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(all)
}

func TestUnixListener(t *testing.T) {
	e := running(t, Options{Loops: 3})
	path := filepath.Join(t.TempDir(), "x.sock")
	ln := echoUnix(t, e, ListenOptions{Address: path, Mode: 0o640})
	if got := say(t, path, "hello"); got != "hello" {
		t.Errorf("got %q", got)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if got := ln.Address(); got != "unix://"+path || ln.Addr().IsValid() {
		t.Errorf("address %q, %v", got, ln.Addr())
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("beside the socket: %v", left)
	}
	if _, err := e.BindWith(ListenOptions{Network: "unix", Address: path}, nil); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a second listener: %v", err)
	}
	ln.Close()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Close: %v", err)
	}
}

// One socket serves all loops, and its connections are spread evenly.
func TestUnixConnectionsGoToTheLeastLoadedLoop(t *testing.T) {
	e := running(t, Options{Loops: 4})
	path := filepath.Join(t.TempDir(), "x.sock")
	echoUnix(t, e, ListenOptions{Address: path})
	for range 40 {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		var b [1]byte
		c.Write(b[:])
		io.ReadFull(c, b[:])
	}
	for i, l := range e.Stats().Loops {
		if l.Conns < 8 || l.Conns > 12 {
			t.Errorf("loop %d has %d connections of 40", i, l.Conns)
		}
	}
}

func TestUnixSocketFiles(t *testing.T) {
	e := running(t, Options{Loops: 1})
	dir := t.TempDir()
	dead := filepath.Join(dir, "dead.sock")
	left, err := net.Listen("unix", dead)
	if err != nil {
		t.Fatal(err)
	}
	left.(*net.UnixListener).SetUnlinkOnClose(false)
	left.Close()
	echoUnix(t, e, ListenOptions{Address: dead})
	if got := say(t, dead, "replaced"); got != "replaced" {
		t.Errorf("got %q", got)
	}

	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ path, want string }{
		"a file":          {plain, "not a socket"},
		"no directory":    {filepath.Join(dir, "none", "x.sock"), "no such file"},
		"too long a path": {filepath.Join(dir, strings.Repeat("x", 120)), "longer than the 107 bytes"},
		"a live one":      {dead, "in use"},
	} {
		if _, err := e.BindWith(ListenOptions{Network: "unix", Address: c.path}, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if b, _ := os.ReadFile(plain); string(b) != "precious" {
		t.Error("a file was overwritten")
	}

	// Another process has taken the name: its socket is not ours to remove.
	mine := filepath.Join(dir, "mine.sock")
	ln := echoUnix(t, e, ListenOptions{Address: mine})
	os.Remove(mine)
	theirs, err := net.Listen("unix", mine)
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	ln.Close()
	if _, err := os.Stat(mine); err != nil {
		t.Errorf("the other's socket: %v", err)
	}
}

func TestDialUnix(t *testing.T) {
	e := running(t, Options{Loops: 2})
	dir := t.TempDir()
	path := filepath.Join(dir, "x.sock")
	echoUnix(t, e, ListenOptions{Address: path})
	on(t, e.Loops()[1], func(task *Task) {
		l := task.Loop()
		c, err := l.DialUnix(path, time.Second)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		c.Write([]byte("over"))
		b := make([]byte, 4)
		if n, err := c.Read(b); string(b[:n]) != "over" || !c.Unix() || c.Remote().IsValid() {
			t.Errorf("%q, %v, %v", b[:n], err, c.Remote())
		}
		if _, err := l.DialUnix(filepath.Join(dir, "none"), time.Second); !errors.Is(err, syscall.ENOENT) {
			t.Errorf("no socket: %v", err)
		}
	})
}

// A listener whose queue is full is tried again until the timeout.
func TestDialUnixWaitsForRoomInTheQueue(t *testing.T) {
	e := running(t, Options{Loops: 1})
	path := filepath.Join(t.TempDir(), "full.sock")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	on(t, e.Loops()[0], func(task *Task) {
		l := task.Loop()
		for {
			c, err := l.DialUnix(path, 20*time.Millisecond)
			if err != nil {
				if !errors.Is(err, ErrTimeout) {
					t.Errorf("full: %v", err)
				}
				break
			}
			defer c.Close()
		}
		l.engine.offloads.Go(func() {
			nfd, _, _ := syscall.Accept(fd)
			syscall.Close(nfd)
		})
		c, err := l.DialUnix(path, 10*time.Second)
		if err != nil {
			t.Errorf("with room: %v", err)
			return
		}
		c.Close()
	})
}

func TestFreeBind(t *testing.T) {
	e := running(t, Options{Loops: 2})
	for name, address := range map[string]string{"v4": "192.0.2.77:0", "v6": "[2001:db8::77]:0", "v4 with a port": "192.0.2.77:39123"} {
		if _, err := e.Bind("tcp", address, nil); !errors.Is(err, syscall.EADDRNOTAVAIL) {
			t.Errorf("%s without freebind: %v", name, err)
		}
		ln, err := e.BindWith(ListenOptions{Network: "tcp", Address: address, FreeBind: true}, func(*Loop, *Conn) {})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if ln.Addr().Port() == 0 {
			t.Errorf("%s: bound %v", name, ln.Addr())
		}
		ln.Close()
	}
}

func TestIPv6(t *testing.T) {
	e := running(t, Options{Loops: 2})
	accept := func(l *Loop, c *Conn) { c.Close() }
	for name, c := range map[string]struct {
		only   bool
		v4, v6 bool
	}{"dual": {false, true, true}, "v6 only": {true, false, true}} {
		ln, err := e.BindWith(ListenOptions{Network: "tcp", Address: "[::]:0", OnlyV6: c.only}, accept)
		if err != nil {
			t.Fatal(err)
		}
		ln.Start()
		_, port, _ := net.SplitHostPort(ln.Address())
		for host, want := range map[string]bool{"127.0.0.1": c.v4, "::1": c.v6} {
			conn, err := net.Dial("tcp", net.JoinHostPort(host, port))
			if (err == nil) != want {
				t.Errorf("%s: %s: %v", name, host, err)
			}
			if err == nil {
				conn.Close()
			}
		}
		ln.Close()
	}
	if _, err := e.Bind("tcp", "[fe80::1%nowhere]:0", accept); err == nil || !strings.Contains(err.Error(), `no interface "nowhere"`) {
		t.Errorf("an unknown zone: %v", err)
	}
}

// An IPv4 listener and an IPv6 one share a port where the latter leaves IPv4 alone.
func TestBothFamiliesOnOnePort(t *testing.T) {
	e := running(t, Options{Loops: 2})
	four, err := e.Bind("tcp", "0.0.0.0:0", func(*Loop, *Conn) {})
	if err != nil {
		t.Fatal(err)
	}
	defer four.Close()
	_, port, _ := net.SplitHostPort(four.Address())
	if _, err := e.Bind("tcp", "[::]:"+port, nil); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("both of them: %v", err)
	}
	six, err := e.BindWith(ListenOptions{Network: "tcp", Address: "[::]:" + port, OnlyV6: true}, func(*Loop, *Conn) {})
	if err != nil {
		t.Fatal(err)
	}
	six.Close()
}
