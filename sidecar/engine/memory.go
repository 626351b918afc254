package engine

import (
	"sync/atomic"
	"time"
)

// memory accounts for the buffers of all loops, those at hand included: what they ask of the
// system. Cost: an atomic addition when a buffer is made or dropped; taking one from a pool
// and giving it back touch nothing shared but a flag that is hardly ever written.
//
// Above a first mark the buffers are short: what is given back is dropped, and new work is to
// be refused (Loop.Short). At the limit reads of work under way wait until there is room
// (Conn.AwaitInput), oldest first; they hold no buffer meanwhile, so what has one goes on and
// frees it. Short writes that cannot wait may pass the limit by a buffer for each loop.
type memory struct {
	limit atomic.Int64 // bytes; 0: none
	used  atomic.Int64
	short atomic.Bool
	told  atomic.Int64 // when the log was told, nanoseconds
}

// In eighths of the limit: where buffers become short, and where that ends.
const shortFrom, shortUntil = 6, 5

func (m *memory) grow(e *Engine, n int) {
	used, limit := m.used.Add(int64(n)), m.limit.Load()
	if limit > 0 && used >= limit/8*shortFrom && !m.short.Load() && m.short.CompareAndSwap(false, true) {
		e.tellMemory("buffers are short: new work is refused", used, limit)
	}
}

func (m *memory) shrink(e *Engine, n int) {
	used := m.used.Add(-int64(n))
	if m.short.Load() && used < m.limit.Load()/8*shortUntil {
		m.short.Store(false)
	}
}

// tellMemory writes a warning, one in a while.
func (e *Engine) tellMemory(what string, used, limit int64) {
	now, last := e.Nanos(), e.memory.told.Load()
	if (last == 0 || now-last > int64(tellPeriod)) && e.memory.told.CompareAndSwap(last, max(now, 1)) {
		e.options.Log.Warn(what, "buffer_bytes", used, "limit", limit)
	}
}

// LimitBuffers bounds the memory of all buffers, in bytes; 0: no bound. Any goroutine, at any
// time.
func (e *Engine) LimitBuffers(bytes int64) {
	e.memory.limit.Store(max(bytes, 0))
	if bytes <= 0 {
		e.memory.short.Store(false)
	}
	e.memory.grow(e, 0)
	e.memory.shrink(e, 0)
}

// BufferBytes is the memory of all buffers, and what LimitBuffers allows. Any goroutine.
func (e *Engine) BufferBytes() (used, limit int64) {
	return e.memory.used.Load(), e.memory.limit.Load()
}

// Short reports whether buffers are short, so that work which has not begun should be
// refused. The loop gives up first what it has at hand. Loop only.
func (l *Loop) Short() bool {
	m := &l.engine.memory
	if !m.short.Load() {
		return false
	}
	l.buffers.drop(l)
	return m.short.Load()
}

// HasRoom reports whether a buffer of size bytes can be had within the limit. Loop only.
func (l *Loop) HasRoom(size int) bool {
	m := &l.engine.memory
	limit := m.limit.Load()
	if limit == 0 || m.used.Load()+int64(size) <= limit {
		return true
	}
	i := classOf(size)
	return i >= 0 && len(l.buffers.class[i].free) > 0
}

// room is the queue of tasks that wait for memory.
type room struct {
	waiting ring[TaskRef]
	timer   *Timer
}

const (
	// roomEvery is how often those who wait for memory are looked at: what frees it may be
	// another loop.
	roomEvery = 5 * time.Millisecond
	// roomPatience is how long one of them sleeps at most.
	roomPatience = time.Second
)

// AwaitInput parks until a read may find something and a buffer of size bytes can be had
// within the limit, so that neither wait holds one. Errors are those of Read.
func (c *Conn) AwaitInput(size int) error {
	if c.flags&(flagUntried|flagReadable|flagClosed) == 0 {
		if err := c.waitReadable(); err != nil {
			return err
		}
	}
	return c.awaitRoom(size)
}

// Quiet reports that a read would wait.
func (c *Conn) Quiet() bool { return c.flags&(flagUntried|flagReadable|flagClosed) == 0 }

// AwaitInput is Conn.AwaitInput, for plaintext: it may return before there is any.
func (x *TLS) AwaitInput(size int) error {
	if x.Quiet() {
		return x.conn.AwaitInput(size)
	}
	return x.conn.awaitRoom(size)
}

// Quiet reports that a read would wait.
func (x *TLS) Quiet() bool {
	return x.state == tlsReady && x.err == nil && x.dry && !x.held && x.conn.Quiet()
}

func (c *Conn) awaitRoom(size int) error {
	l := c.loop
	t := l.current
	if t == nil || l.HasRoom(size) {
		return nil
	}
	l.counts.bufferWaits++
	for queued := false; !l.HasRoom(size); {
		if c.flags&flagClosed != 0 {
			return ErrClosed
		}
		if c.passed(c.readBy) {
			return ErrTimeout
		}
		if !queued {
			l.queueForRoom(t)
		}
		left := roomPatience
		if c.readBy != 0 {
			left = min(left, time.Duration(c.readBy-l.Nanos()))
		}
		err := t.ParkFor("buffer", left)
		if queued = err == ErrTimeout; err != nil && !queued {
			return err
		}
	}
	return nil
}

func (l *Loop) queueForRoom(t *Task) {
	r := &l.room
	r.waiting.push(t.Ref())
	if r.waiting.len() > 1 {
		return
	}
	if r.timer == nil {
		r.timer = l.NewTimer()
	}
	r.timer.Arm(roomEvery, l.offerRoom)
}

// offerRoom wakes as many of those who wait as there is room for.
func (l *Loop) offerRoom() {
	r, m := &l.room, &l.engine.memory
	l.buffers.drop(l)
	room := m.limit.Load() - m.used.Load()
	if m.limit.Load() == 0 {
		room = 1 << 62
	}
	for room > 0 && r.waiting.len() > 0 {
		ref := r.waiting.pop()
		if ref.Live() {
			ref.Wake()
			room -= int64(bufferClasses[1])
		}
	}
	if r.waiting.len() > 0 {
		r.timer.Arm(roomEvery, l.offerRoom)
	}
}
