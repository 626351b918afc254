package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// socketPathLimit is sockaddr_un's 107 bytes less the room for the private name.
const socketPathLimit = 107 - len(".s4294967295/s")

// listenPrivate binds a Unix socket that only its owner may open, from its first
// moment: it is bound in a private directory and then renamed into place, which
// also replaces a stale file without a gap. The alternatives were rejected:
// a umask is process-wide, and chmod after bind leaves a moment.
func listenPrivate(path string) (net.Listener, error) {
	if len(path) > socketPathLimit {
		return nil, fmt.Errorf("identity: workload api socket: %s is longer than %d bytes, the most a socket's name may have", path, socketPathLimit)
	}
	if err := checkReplaceable(path); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("identity: workload api socket: %w", err)
	}
	private, err := os.MkdirTemp(filepath.Dir(path), ".s")
	if err != nil {
		return nil, fmt.Errorf("identity: workload api socket: %w", err)
	}
	defer os.RemoveAll(private)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(private, "s"), Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("identity: workload api socket: %w", err)
	}
	l.SetUnlinkOnClose(false) // it would unlink the name before the rename
	s := &privateListener{UnixListener: l, path: path}
	if err := s.place(filepath.Join(private, "s")); err != nil {
		l.Close()
		return nil, fmt.Errorf("identity: workload api socket: %w", err)
	}
	return s, nil
}

// checkReplaceable refuses to replace anything but the socket of a process that
// no longer listens.
func checkReplaceable(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("identity: workload api socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("identity: workload api socket: %s exists and is no socket", path)
	}
	conn, err := net.Dial("unix", path)
	switch {
	case err == nil:
		conn.Close()
		return fmt.Errorf("identity: workload api socket: %s is in use by another process", path)
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return fmt.Errorf("identity: workload api socket: %s exists and cannot be probed: %w", path, err)
}

// privateListener removes its socket file when closed, if it is still its own.
type privateListener struct {
	*net.UnixListener
	path  string
	file  fs.FileInfo
	close sync.Once
}

func (l *privateListener) place(from string) error {
	if err := os.Chmod(from, 0o600); err != nil {
		return err
	}
	var err error
	if l.file, err = os.Lstat(from); err != nil {
		return err
	}
	return os.Rename(from, l.path)
}

// Close stops listening; it may be called more than once.
func (l *privateListener) Close() error {
	err := net.ErrClosed
	l.close.Do(func() {
		err = l.UnixListener.Close()
		if now, statErr := os.Lstat(l.path); statErr == nil && os.SameFile(l.file, now) {
			os.Remove(l.path)
		}
	})
	return err
}
