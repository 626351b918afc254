package main

import (
	"os"
	"time"
)

// watched names what is read at both edges of a window.
type watched struct {
	Proxy  int   `json:"proxy"`  // process id
	Origin int   `json:"origin"` // process id
	CPUs   []int `json:"cpus"`   // that proxy, load and origin run on
}

// edge is one reading.
type edge struct {
	at    time.Time
	proxy time.Duration // its CPU time
	ours  time.Duration // CPU time of proxy, origin and load
	idle  time.Duration // of CPUs
}

func (w watched) read() (edge, error) {
	e := edge{at: time.Now()}
	var err error
	if e.proxy, err = cpuTime(w.Proxy); err != nil {
		return e, err
	}
	e.ours = e.proxy
	for _, pid := range []int{w.Origin, os.Getpid()} {
		cpu, err := cpuTime(pid)
		if err != nil {
			return e, err
		}
		e.ours += cpu
	}
	e.idle, err = idleTime(w.CPUs)
	return e, err
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
