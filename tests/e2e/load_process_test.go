package e2e

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// vitals are what a process holds at a moment.
type vitals struct {
	at          time.Time
	memory      int64 // resident, bytes
	descriptors int
}

func (v vitals) String() string {
	return fmt.Sprintf("%.1f MiB resident, %d descriptors", mib(v.memory), v.descriptors)
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

// vitals reads them from the kernel.
func (p *larboard) vitals() vitals {
	p.t.Helper()
	v, err := readVitals(p.pid())
	if err != nil {
		p.t.Fatalf("%s: %v", p.name, err)
	}
	return v
}

func readVitals(pid int) (vitals, error) {
	v := vitals{at: time.Now()}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return v, err
	}
	_, rest, _ := bytes.Cut(status, []byte("VmRSS:"))
	line, _, _ := strings.Cut(string(rest), "kB")
	kb, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
	if err != nil {
		return v, err
	}
	v.memory = kb << 10
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	v.descriptors = len(all)
	return v, err
}

// engineState is what the engine counts as alive.
type engineState struct{ tasks, connections, active float64 }

func (p *larboard) engineState() engineState {
	p.t.Helper()
	all := p.scrape()
	return engineState{all.sum("larboard_engine_tasks"), all.sum("larboard_engine_connections"), all.sum("larboard_connections_active")}
}

// waitBaseline waits until nothing is left of what a test did: no task, no accepted
// connection, and no more descriptors and connections than before but for what the
// pools to endpoints keep.
func (p *larboard) waitBaseline(before engineState, descriptors, kept int) {
	p.t.Helper()
	eventually(p.t, patience, p.name+" is back where it was", func() error {
		now, v := p.engineState(), p.vitals()
		if now.tasks > before.tasks || now.active > before.active ||
			now.connections > before.connections+float64(kept) || v.descriptors > descriptors+kept {
			return fmt.Errorf("%+v with %d descriptors, was %+v with %d", now, v.descriptors, before, descriptors)
		}
		return nil
	})
	if n := p.scrape().sum("larboard_engine_panics_total"); n != 0 {
		p.t.Errorf("%s: %v panics", p.name, n)
	}
}

// worst is the highest resident size seen until stop is called.
func (p *larboard) worst() (stop func() vitals) {
	end, done := make(chan struct{}), make(chan vitals)
	go func() {
		var most vitals
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			if v, err := readVitals(p.pid()); err == nil {
				most.memory, most.descriptors = max(most.memory, v.memory), max(most.descriptors, v.descriptors)
			}
			select {
			case <-end:
				done <- most
				return
			case <-tick.C:
			}
		}
	}()
	return func() vitals {
		close(end)
		return <-done
	}
}
