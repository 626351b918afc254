// Package upstream holds the cases of rule 1, and a function that others find
// parking through its fact.
package upstream

import (
	"context"
	"sync"

	"sidecar/engine"
	"sidecar/message"
)

type Pool struct {
	mu   sync.Mutex
	rw   sync.RWMutex
	once sync.Once
	conn *engine.Conn
	loop *engine.Loop
}

// Get parks: packages above know.
func (p *Pool) Get() (*engine.Conn, error) { return p.dial() } // want Get:"parks"

func (p *Pool) dial() (*engine.Conn, error) { return p.loop.Dial() } // want dial:"parks"

func (p *Pool) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return 0
}

func (p *Pool) direct(b []byte) { // want direct:"parks"
	p.mu.Lock()
	p.conn.Read(b) // want `rule 1: Read may park .* while p.mu is locked`
	p.mu.Unlock()
	p.conn.Read(b)
}

func (p *Pool) deferred() { // want deferred:"parks"
	p.rw.RLock()
	defer p.rw.RUnlock()
	p.dial() // want `rule 1: dial may park \(it calls Dial\) while p.rw is locked`
}

func (p *Pool) early(fast bool) { // want early:"parks"
	p.mu.Lock()
	if fast {
		p.mu.Unlock()
		p.dial()
		return
	}
	p.mu.Unlock()
	p.dial()
}

func (p *Pool) sometimes(lock bool) { // want sometimes:"parks"
	if lock {
		p.mu.Lock()
	}
	p.dial() // want `rule 1: dial may park`
	if lock {
		p.mu.Unlock()
	}
}

func (p *Pool) loops(t *engine.Task) { // want loops:"parks"
	for range 3 {
		t.Yield() // want `rule 1: Yield may park`
		p.mu.Lock()
	}
}

func (p *Pool) interfaces(tr engine.Transport, s message.Stream, b []byte) { // want interfaces:"parks"
	p.mu.Lock()
	defer p.mu.Unlock()
	tr.Read(b)   // want `rule 1: Read may park`
	s.ReadHead() // want `rule 1: ReadHead may park`
	tr.Close()
	s.Reset()
}

type own interface{ fetch() }

func (p *Pool) fetch() { p.dial() } // want fetch:"parks"

func (p *Pool) ownInterface(o own) { // want ownInterface:"parks"
	p.mu.Lock()
	o.fetch() // want `rule 1: fetch may park \(its implementation Pool.fetch may park\)`
	p.mu.Unlock()
}

func (p *Pool) generic(t *engine.Task) { // want generic:"parks"
	p.mu.Lock()
	engine.Offload(t, func(context.Context) (int, error) { return 1, nil }) // want `rule 1: Offload may park`
	p.mu.Unlock()
}

func (p *Pool) literalsRunElsewhere() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.loop.Post(func() { p.dial() })
}

func (p *Pool) insideALiteral() {
	p.loop.Go("x", func(t *engine.Task) {
		p.mu.Lock()
		t.Park("x") // want `rule 1: Park may park`
		p.mu.Unlock()
	})
}

func (p *Pool) onces() {
	p.once.Do(func() { p.dial() }) // want `rule 1: Once.Do runs a function that may park \(it calls dial\)`
	p.once.Do(p.fetch)             // want `rule 1: Once.Do runs a function that may park`
	p.once.Do(func() { p.Len() })
}
