//go:build linux

package main

import (
	"crypto/sha256"
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestUserClockTellsKernelTimeApart(t *testing.T) {
	cpus, err := allowedCPUs()
	if err != nil {
		t.Fatal(err)
	}
	u, err := openUserClock(&loadSpec{User: true, Watch: watched{Proxies: []int{os.Getpid()}, CPUs: cpus}})
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		// A container that forbids it: then the message has to say what is missing.
		if !strings.Contains(err.Error(), "kernel.perf_event_paranoid") {
			t.Error(err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer u.close()
	cpu := func() time.Duration {
		var r unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_THREAD, &r); err != nil {
			t.Fatal(err)
		}
		return time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	const spent = 200 * time.Millisecond
	outside := func(work func()) time.Duration {
		before := u.read()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			runtime.LockOSThread() // a thread that ends here, and so is a new one each time
			for end := cpu() + spent; cpu() < end; {
				work()
			}
		}()
		<-ended
		return u.read() - before
	}
	page := make([]byte, 1<<20)
	if got := outside(func() { sha256.Sum256(page) }); got < spent*3/4 {
		t.Errorf("%v outside the kernel, of %v that were spent there", got, spent)
	}
	random, err := os.Open("/dev/urandom")
	if err != nil {
		t.Fatal(err)
	}
	defer random.Close()
	if got := outside(func() { unix.Read(int(random.Fd()), page) }); got > spent/4 {
		t.Errorf("%v outside the kernel, of %v that were spent in it", got, spent)
	}
	if _, err := openUserClock(&loadSpec{User: true, Watch: watched{Proxies: []int{-1}}}); err == nil {
		t.Error("user time of no process")
	}
}
