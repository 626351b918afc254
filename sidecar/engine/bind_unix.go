package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// UnixSockets is what a Poller may also offer.
type UnixSockets interface {
	// ListenUnix binds a new socket to path, which must not exist, and listens there once
	// ready (called in between) has not failed. Any goroutine.
	ListenUnix(path string, ready func() error) (fd int, err error)
	// ConnectUnix returns EAGAIN where the listener's queue is full.
	ConnectUnix(path string) (fd int, err error)
}

// socketFile is the file of a Unix listener. The nil one is none.
type socketFile struct {
	path string
	once sync.Once
	info fs.FileInfo
}

// maxSocketPath is what the address of a Unix socket holds, in bytes (unix(7)).
const maxSocketPath = 107

// bindUnix takes a path. The socket is bound beside it under another name and renamed when
// it listens, so that at every moment the path is either the old socket or a new one that
// answers. A socket that nobody listens on any more is replaced; one that answers is
// EADDRINUSE; a file that is no socket stays.
func (ln *Listener) bindUnix(o ListenOptions) error {
	l := ln.engine.loops[0]
	sockets, ok := l.poller.(UnixSockets)
	if !ok {
		return errors.ErrUnsupported
	}
	if err := vacant(o.Address); err != nil {
		return err
	}
	temporary := filepath.Join(filepath.Dir(o.Address), "."+strconv.Itoa(os.Getpid())+"."+strconv.FormatInt(time.Now().UnixNano()%1e6, 36))
	if max(len(temporary), len(o.Address)) > maxSocketPath {
		return fmt.Errorf("the path is longer than the %d bytes of a Unix socket's address, or the socket's directory leaves no room for a temporary name", maxSocketPath)
	}
	fd, err := sockets.ListenUnix(temporary, func() error {
		if o.Mode == 0 {
			return nil
		}
		return os.Chmod(temporary, o.Mode.Perm())
	})
	if err != nil {
		os.Remove(temporary)
		return err
	}
	info, err := os.Lstat(temporary)
	if err == nil {
		err = os.Rename(temporary, o.Address)
	}
	if err != nil {
		l.poller.CloseSocket(fd, false)
		os.Remove(temporary)
		return err
	}
	ln.file, ln.shared, ln.bound = &socketFile{path: o.Address, info: info}, true, []int{fd}
	return nil
}

// vacant reports, as an error, that something at path is not to be replaced.
func vacant(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode()&fs.ModeSocket == 0:
		return errors.New("there is a file of this name that is not a socket")
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		c.Close()
		return syscall.EADDRINUSE
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, syscall.EPROTOTYPE), errors.Is(err, syscall.EAGAIN), errors.Is(err, os.ErrDeadlineExceeded):
		return syscall.EADDRINUSE
	}
	return err
}

// remove deletes the file if it is still this socket's. Any goroutine.
func (f *socketFile) remove() {
	if f == nil {
		return
	}
	f.once.Do(func() {
		if now, err := os.Lstat(f.path); err == nil && os.SameFile(now, f.info) {
			os.Remove(f.path)
		}
	})
}

// Chmod changes who may connect to a Unix socket; for others it does nothing.
func (ln *Listener) Chmod(mode fs.FileMode) error {
	if ln.file == nil {
		return nil
	}
	if now, err := os.Lstat(ln.file.path); err != nil || !os.SameFile(now, ln.file.info) {
		return errors.Join(err, errors.New("the socket's file is not ours any more"))
	}
	return os.Chmod(ln.file.path, mode.Perm())
}
