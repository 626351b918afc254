package engine

import (
	"sync/atomic"
	"time"
)

// counts are a loop's own; published is the copy that others may read. Publishing happens
// before a loop sleeps, and every 5 ms at the latest while it is busy.
type counts struct {
	turns, resumes, steps uint64
	stale, panics         uint64
	goexits, backoffs     uint64
	accepted, dialled     uint64
	spliced, bufferWaits  uint64
	coroutines, conns     int
	shakes, beside        uint64 // handshakes begun: on the loop, beside it
	offloads              int
	lag, lastLag          time.Duration
}

// LoopStats is what a loop publishes about itself.
type LoopStats struct {
	Tasks          int           // started and not ended
	Coroutines     int           // of tasks and of the pool
	Conns          int           // open connections, idle ones included
	Buffers        int           // pooled buffers in use
	BuffersFree    int           // pooled buffers at hand
	BufferBytes    int           // memory of both
	Offloads       int           // tasks waiting for offloaded work
	Turns          uint64        // of the loop
	Resumes        uint64        // of tasks
	Accepted       uint64        // connections
	Dialled        uint64        // connections
	Pipes          int           // for splicing, in use or at hand; two descriptors each
	Spliced        uint64        // bytes that went through them
	BufferWaits    uint64        // reads that waited for room under the limit of buffers
	AcceptBackoffs uint64        // pauses because descriptors had run out
	StaleEvents    uint64        // for descriptors closed in the same batch
	Panics         uint64        // contained
	Goexits        uint64        // contained
	Lag            time.Duration // longest turn in the last seconds
	Handshakes     uint64        // begun, those beside the loop included
	Beside         uint64        // handshakes computed beside the loop
	Stalls         uint64        // seen by the watchdog
}

// Stats is a snapshot of all loops; the numbers of one loop belong together only roughly.
type Stats struct {
	Loops []LoopStats
}

// Total adds up the loops; Lag is the largest.
func (s Stats) Total() LoopStats {
	var t LoopStats
	for _, l := range s.Loops {
		t.Tasks += l.Tasks
		t.Coroutines += l.Coroutines
		t.Conns += l.Conns
		t.Buffers += l.Buffers
		t.BuffersFree += l.BuffersFree
		t.BufferBytes += l.BufferBytes
		t.Offloads += l.Offloads
		t.Turns += l.Turns
		t.Resumes += l.Resumes
		t.Accepted += l.Accepted
		t.Dialled += l.Dialled
		t.Pipes += l.Pipes
		t.BufferWaits += l.BufferWaits
		t.Spliced += l.Spliced
		t.AcceptBackoffs += l.AcceptBackoffs
		t.StaleEvents += l.StaleEvents
		t.Panics += l.Panics
		t.Handshakes += l.Handshakes
		t.Beside += l.Beside
		t.Goexits += l.Goexits
		t.Lag = max(t.Lag, l.Lag)
		t.Stalls += l.Stalls
	}
	return t
}

type published struct {
	pipes                                                          atomic.Int64
	spliced, shakes, beside, waits                                 atomic.Uint64
	tasks, coroutines, buffers, buffersFree, bufferBytes, offloads atomic.Int64
	turns, resumes, accepted, dialled, backoffs, stale             atomic.Uint64
	panics, goexits                                                atomic.Uint64
	lag                                                            atomic.Int64
	at                                                             int64 // owned by the loop
}

// Stats reads what the loops have published. Any goroutine.
func (e *Engine) Stats() Stats {
	s := Stats{Loops: make([]LoopStats, len(e.loops))}
	for i, l := range e.loops {
		p := &l.published
		s.Loops[i] = LoopStats{
			Tasks: int(p.tasks.Load()), Coroutines: int(p.coroutines.Load()), Conns: int(l.load.open.Load()),
			Buffers: int(p.buffers.Load()), BuffersFree: int(p.buffersFree.Load()),
			BufferBytes: int(p.bufferBytes.Load()), Offloads: int(p.offloads.Load()),
			Turns: p.turns.Load(), Resumes: p.resumes.Load(), Accepted: p.accepted.Load(), Dialled: p.dialled.Load(),
			Pipes: int(p.pipes.Load()), Spliced: p.spliced.Load(),
			Handshakes: p.shakes.Load() + p.beside.Load(), Beside: p.beside.Load(),
			BufferWaits:    p.waits.Load(),
			AcceptBackoffs: p.backoffs.Load(), StaleEvents: p.stale.Load(),
			Panics: p.panics.Load(), Goexits: p.goexits.Load(),
			Lag: time.Duration(p.lag.Load()), Stalls: l.pulse.stalls.Load(),
		}
	}
	return s
}

func setInt(a *atomic.Int64, v int) {
	if a.Load() != int64(v) {
		a.Store(int64(v))
	}
}

func setUint(a *atomic.Uint64, v uint64) {
	if a.Load() != v {
		a.Store(v)
	}
}

func (l *Loop) publish() {
	p, c := &l.published, &l.counts
	p.at = l.time.nanos
	setInt(&p.tasks, len(l.active))
	setInt(&p.coroutines, c.coroutines)
	setInt(&p.buffers, l.buffers.used())
	setInt(&p.buffersFree, l.buffers.spare())
	setInt(&p.bufferBytes, l.buffers.bytes())
	setInt(&p.offloads, c.offloads)
	setInt(&p.lag, int(max(c.lag, c.lastLag)))
	setUint(&p.turns, c.turns)
	setUint(&p.resumes, c.resumes)
	setUint(&p.accepted, c.accepted)
	setUint(&p.dialled, c.dialled)
	setInt(&p.pipes, l.pipes.open)
	setUint(&p.waits, c.bufferWaits)
	setUint(&p.spliced, c.spliced)
	setUint(&p.shakes, c.shakes)
	setUint(&p.beside, c.beside)
	setUint(&p.backoffs, c.backoffs)
	setUint(&p.stale, c.stale)
	setUint(&p.panics, c.panics)
	setUint(&p.goexits, c.goexits)
}

const publishEvery = int64(5 * time.Millisecond)

// measure ends a turn that began at the given time.
func (l *Loop) measure(began int64) {
	l.time.refresh()
	l.counts.lag = max(l.counts.lag, time.Duration(l.time.nanos-began))
	l.pacer.turned(l.time.nanos - began)
	if l.time.nanos-l.published.at > publishEvery {
		l.publish()
	}
}

// lagWindow forgets lags older than two upkeep periods.
func (c *counts) lagWindow() { c.lastLag, c.lag = c.lag, 0 }
