package engine

import (
	"syscall"
	"unsafe"
)

const (
	spliceMove     = 1 // SPLICE_F_MOVE
	spliceNonBlock = 2 // SPLICE_F_NONBLOCK
	fSetPipeSize   = 1031
)

// OpenPipe implements Splicer. A pipe that may not grow (fs.pipe-user-pages-soft) stays as
// large as pipes are.
func (sockets) OpenPipe(size int) (r, w int, err error) {
	var fds [2]int
	if err := syscall.Pipe2(fds[:], syscall.O_NONBLOCK|syscall.O_CLOEXEC); err != nil {
		return 0, 0, err
	}
	syscall.Syscall(syscall.SYS_FCNTL, uintptr(fds[1]), fSetPipeSize, uintptr(size))
	return fds[0], fds[1], nil
}

// ClosePipe implements Splicer.
func (sockets) ClosePipe(r, w int) {
	syscall.Close(r)
	syscall.Close(w)
}

// Splice implements Splicer. It does not sleep: both ends are non-blocking.
func (sockets) Splice(from, to, n int) (int, error) {
	moved, _, e := syscall.RawSyscall6(syscall.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n), spliceMove|spliceNonBlock)
	if e != 0 {
		return 0, e
	}
	return int(moved), nil
}

// ReadPipe implements Splicer.
func (sockets) ReadPipe(r int, p []byte) (int, error) {
	n, err := syscall.Read(r, p)
	return max(n, 0), err
}

// Peek implements Splicer.
func (sockets) Peek(fd int) (int, error) {
	var b [1]byte
	n, _, e := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b)), 1,
		syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}
