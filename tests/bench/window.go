//go:build linux

package main

import (
	"os"
	"time"
)

// watched names what is read at both edges of a window.
type watched struct {
	Proxies []int `json:"proxies"` // process ids; their time is added up
	Origin  int   `json:"origin"`  // process id
	CPUs    []int `json:"cpus"`    // that proxies, load and origin run on
}

// edge is one reading.
type edge struct {
	at    time.Time
	proxy time.Duration // CPU time of all proxies
	ours  time.Duration // CPU time of proxy, origin and load
	idle  time.Duration // of CPUs
}

func (w watched) read() (edge, error) {
	e := edge{at: time.Now()}
	var err error
	if e.proxy, err = cpuTimes(w.Proxies...); err != nil {
		return e, err
	}
	rest, err := cpuTimes(w.Origin, os.Getpid())
	if err != nil {
		return e, err
	}
	e.ours = e.proxy + rest
	e.idle, err = idleTime(w.CPUs)
	return e, err
}

func cpuTimes(pids ...int) (sum time.Duration, err error) {
	for _, pid := range pids {
		cpu, err := cpuTime(pid)
		if err != nil {
			return 0, err
		}
		sum += cpu
	}
	return sum, nil
}

// between tells what the proxy used from a to e, and the foreign share: the
// time that neither was idle nor belongs to proxy, origin or load, as a share
// of one CPU. Other processes and a hypervisor's steal are in it;
// a tail latency measured beside much of it is theirs.
func (e edge) between(a edge, cpus int) (proxy, elapsed time.Duration, foreign float64) {
	elapsed = e.at.Sub(a.at)
	rest := time.Duration(cpus)*elapsed - (e.idle - a.idle) - (e.ours - a.ours)
	return e.proxy - a.proxy, elapsed, max(0, float64(rest)/float64(elapsed))
}
