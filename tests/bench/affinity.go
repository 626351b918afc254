//go:build linux

package main

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// onCPU runs start with the calling thread bound to one CPU, so that the
// process it starts inherits the binding from its first instruction on (and
// counts one CPU, as a proxy in a container limited to one would).
func onCPU(cpu int, start func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return fmt.Errorf("cpu affinity: %w", err)
	}
	one.Set(cpu)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return fmt.Errorf("cpu affinity: CPU %d: %w", cpu, err)
	}
	defer unix.SchedSetaffinity(0, &before)
	return start()
}

// twoCPUs picks the CPU of the proxies and that of load and origin.
func twoCPUs() (proxy, load int, err error) {
	cpus, err := allowedCPUs()
	if err != nil {
		return 0, 0, err
	}
	if len(cpus) < 2 {
		return 0, 0, fmt.Errorf("needs two CPUs, one for the proxy and one for load and origin; this process may use %d", len(cpus))
	}
	return cpus[0], cpus[1], nil
}

func allowedCPUs() ([]int, error) {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return nil, fmt.Errorf("cpu affinity: %w", err)
	}
	var cpus []int
	for cpu := range len(allowed) * 64 {
		if allowed.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	return cpus, nil
}
