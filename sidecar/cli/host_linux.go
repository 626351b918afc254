package cli

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// givenCPUs are those that the process may run on.
func givenCPUs() (all []int, err error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, os.NewSyscallError("sched_getaffinity", err)
	}
	for n := range len(set) * strconv.IntSize {
		if set.IsSet(n) {
			all = append(all, n)
		}
	}
	return all, nil
}

// bindCPUs binds every thread of the process to cpus. A thread inherits from the one that
// starts it, so the threads are listed until a whole listing holds no unbound one. It is the
// process that is bound and not each loop to a CPU of its own: a goroutine locked to a thread
// is woken ten to twenty times slower, and the kernel keeps a busy thread where it is.
func bindCPUs(cpus []int) error {
	var set unix.CPUSet
	for _, n := range cpus {
		set.Set(n)
	}
	bound := map[int]bool{}
	for again := true; again; {
		again = false
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		for _, t := range threads {
			id, err := strconv.Atoi(t.Name())
			if err != nil || bound[id] {
				continue
			}
			if err := unix.SchedSetaffinity(id, &set); err != nil && err != unix.ESRCH {
				return os.NewSyscallError("sched_setaffinity", err)
			}
			bound[id], again = true, true
		}
	}
	return nil
}

// unboundThread returns a function that gives the thread that calls it the CPUs that the
// process has now: what it starts is not bound with us.
func unboundThread() func() {
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) != nil {
		return nil
	}
	return func() { _ = unix.SchedSetaffinity(0, &set) }
}
