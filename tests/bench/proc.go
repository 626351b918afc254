//go:build linux

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// cpuTime is the user and system time all threads of pid have run, in
// nanoseconds: the first field of /proc/PID/task/*/schedstat, which the
// scheduler keeps exactly (utime and stime in /proc/PID/stat come in ticks of
// 10 ms). A thread that ended meanwhile is missing; neither proxy ends
// threads under load.
func cpuTime(pid int) (time.Duration, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("cpu time of process %d: no such process, or a kernel without schedstat", pid)
	}
	var sum time.Duration
	for _, file := range files {
		data, err := os.ReadFile(file)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("cpu time of process %d: %w", pid, err)
		}
		ran, err := parseSchedstat(data)
		if err != nil {
			return 0, fmt.Errorf("cpu time of process %d: %s: %w", pid, file, err)
		}
		sum += ran
	}
	return sum, nil
}

// parseSchedstat takes "ran waited slices", the first two in nanoseconds.
func parseSchedstat(data []byte) (time.Duration, error) {
	fields := bytes.Fields(data)
	if len(fields) != 3 {
		return 0, fmt.Errorf("want 3 fields, got %q", data)
	}
	ns, err := strconv.ParseInt(string(fields[0]), 10, 64)
	return time.Duration(ns), err
}

// writtenBytes is what pid has written to memory, pages that it shares divided among
// their users. Not in it are the kernel's memory of sockets, and pages of the program's own
// file, which come and go with what runs: a larboard whose start is over has few of them.
func writtenBytes(pid int) (int64, error) { return rollup(pid, "Pss_Anon:") }

// residentSetBytes is all resident memory of pid, its program's pages included.
func residentSetBytes(pid int) (int64, error) { return rollup(pid, "Rss:") }

func rollup(pid int, field string) (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, fmt.Errorf("memory of process %d: %w", pid, err)
	}
	return parseRollup(data, field)
}

func parseRollup(rollup []byte, field string) (int64, error) {
	lines := bufio.NewScanner(bytes.NewReader(rollup))
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), field)
		if !ok {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64)
		return kib << 10, err
	}
	return 0, fmt.Errorf("smaps_rollup has no line %s", field)
}

// tick is the unit of /proc/stat (USER_HZ, which is 100 on every architecture
// Go runs on).
const tick = 10 * time.Millisecond

// idleTime is how long the given CPUs have been idle or at interrupts, added up.
// Interrupts are no process's time where the kernel accounts for them apart, and
// here they are the packets of the load itself.
func idleTime(cpus []int) (time.Duration, error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, fmt.Errorf("idle time: %w", err)
	}
	var sum time.Duration
	for _, cpu := range cpus {
		idle, err := parseIdle(data, cpu)
		if err != nil {
			return 0, fmt.Errorf("idle time: %w", err)
		}
		sum += idle
	}
	return sum, nil
}

// parseIdle takes idle, iowait, irq and softirq of "cpuN user nice system idle iowait
// irq softirq ...".
func parseIdle(stat []byte, cpu int) (time.Duration, error) {
	name := "cpu" + strconv.Itoa(cpu)
	for line := range strings.Lines(string(stat)) {
		fields := strings.Fields(line)
		if len(fields) < 8 || fields[0] != name {
			continue
		}
		var sum time.Duration
		for _, field := range fields[4:8] {
			ticks, err := strconv.ParseInt(field, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("%s: %w", name, err)
			}
			sum += time.Duration(ticks) * tick
		}
		return sum, nil
	}
	return 0, fmt.Errorf("no line %s", name)
}
