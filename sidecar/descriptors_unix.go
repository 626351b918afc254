//go:build unix

package sidecar

import "syscall"

// DescriptorLimit raises the process's limit of file descriptors as far as it may be,
// and returns it; 0: it is not known.
func DescriptorLimit() uint64 {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) != nil {
		return 0
	}
	if l.Cur < l.Max {
		raised := l
		raised.Cur = l.Max
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised) == nil {
			return uint64(raised.Cur)
		}
	}
	return uint64(l.Cur)
}
