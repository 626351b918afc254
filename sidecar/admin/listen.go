package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// probeTimeout bounds the question whether somebody still serves a Unix socket.
const probeTimeout = time.Second

// listen binds what the options name, the address first.
func listen(o Options) (bound []net.Listener, err error) {
	defer func() {
		if err != nil {
			for _, l := range bound {
				l.Close()
			}
			bound = nil
		}
	}()
	if path, isUnix := strings.CutPrefix(o.Address, "unix://"); isUnix {
		if o.Socket != "" {
			return nil, errors.New("address and socket both name a Unix socket; give one")
		}
		o.Address, o.Socket = "", path
	}
	if o.Address == "" && o.Socket == "" {
		return nil, errors.New("neither an address nor a socket is given")
	}
	if o.Address != "" {
		l, err := listenLoopback(o.Address)
		if err != nil {
			return bound, err
		}
		bound = append(bound, l)
	}
	if o.Socket != "" {
		l, err := listenUnix(o.Socket)
		if err != nil {
			return bound, err
		}
		bound = append(bound, l)
	}
	return bound, nil
}

// listenLoopback binds host:port where host is a loopback address or localhost,
// which is taken for 127.0.0.1 without asking a resolver.
func listenLoopback(address string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", address, err)
	}
	if strings.EqualFold(host, "localhost") {
		host = "127.0.0.1"
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("address %q is not a loopback address; the admin interface has no users and serves its own host only: "+
			"use 127.0.0.1, [::1] or a Unix socket", address)
	}
	return net.Listen("tcp", net.JoinHostPort(host, port))
}

// listenUnix binds a Unix socket that only its owner may open. A socket file that a
// dead process has left behind is replaced; one that is served is not.
func listenUnix(path string) (net.Listener, error) {
	if err := removeStale(path); err != nil {
		return nil, err
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		// On Linux the socket file inherits the mode of the descriptor, so that there
		// is no moment at which others can open it. Elsewhere the Chmod below must do.
		return c.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), 0o600) })
	}}
	l, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("socket %q: a file that is not a socket is in the way", path)
	}
	conn, err := net.DialTimeout("unix", path, probeTimeout)
	if err == nil {
		conn.Close()
		return fmt.Errorf("socket %q: another process serves it", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("socket %q: cannot tell whether it is in use: %w", path, err)
	}
	return os.Remove(path)
}
