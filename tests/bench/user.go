//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// userPeriod is the CPU time between two samples: often enough that the count of a
// window of 2 s is good to about 1.5 %, seldom enough to cost the proxy less than that.
const userPeriod = 200 * time.Microsecond

// sampleRecord is the size of a sample that holds only the instruction's address.
const sampleRecord = 16

// userClock tells how long processes have run outside the kernel. Most kernels do not
// keep that: utime in /proc is what a few hundred ticks have happened to see, good to a
// tenth in a window. So a timer of each thread's CPU time (perf_event_open) takes samples,
// and only those outside the kernel are written. They are not read: how much was
// written says how many there were.
type userClock struct{ threads []userThread }

type userThread struct {
	fd   int
	ring []byte
}

// openUserClock watches the proxies' threads, also those that they start later, if User is
// set; otherwise the clock stands still. The caller closes it.
func openUserClock(spec *loadSpec) (*userClock, error) {
	u := &userClock{}
	if !spec.User {
		return u, nil
	}
	for _, pid := range spec.Watch.Proxies {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
		if err != nil || len(tasks) == 0 {
			u.close()
			return nil, fmt.Errorf("user time of process %d: no such process", pid)
		}
		for _, task := range tasks {
			if err := u.watchOn(spec.Watch.CPUs, filepath.Base(task)); err != nil {
				u.close()
				return nil, fmt.Errorf("user time of process %d: %w", pid, err)
			}
		}
	}
	return u, nil
}

// watchOn names CPUs, since the kernel allows a ring for the threads to come only for one.
func (u *userClock) watchOn(cpus []int, task string) error {
	tid, err := strconv.Atoi(task)
	for _, cpu := range cpus {
		if err == nil {
			err = u.watch(tid, cpu)
		}
	}
	return err
}

func (u *userClock) watch(tid, cpu int) error {
	attr := unix.PerfEventAttr{
		Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_CPU_CLOCK, Sample: uint64(userPeriod), Sample_type: unix.PERF_SAMPLE_IP,
		Bits: unix.PerfBitExcludeKernel | unix.PerfBitExcludeHv | unix.PerfBitInherit,
	}
	attr.Size = uint32(unsafe.Sizeof(attr))
	fd, err := unix.PerfEventOpen(&attr, tid, cpu, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("perf_event_open: %w (kernel.perf_event_paranoid must be 2 at most)", err)
	}
	// Mapped without the right to write, the kernel goes round in it and never stops.
	ring, err := unix.Mmap(fd, 0, 2*os.Getpagesize(), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		unix.Close(fd)
		return fmt.Errorf("perf ring: %w", err)
	}
	u.threads = append(u.threads, userThread{fd: fd, ring: ring})
	return nil
}

// read is the time since the clock was opened.
func (u *userClock) read() time.Duration {
	var samples uint64
	for _, t := range u.threads {
		page := (*unix.PerfEventMmapPage)(unsafe.Pointer(unsafe.SliceData(t.ring)))
		samples += atomic.LoadUint64(&page.Data_head) / sampleRecord
	}
	return time.Duration(samples) * userPeriod
}

func (u *userClock) close() {
	for _, t := range u.threads {
		unix.Munmap(t.ring)
		unix.Close(t.fd)
	}
}
