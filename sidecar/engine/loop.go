package engine

import (
	"math/rand/v2"
	"time"
)

// Loop is one event loop: an epoll instance and everything that belongs to it.
//
// Cost of a turn: one epoll call, two clock reads, and two atomic stores for each resume
// (what the watchdog samples).
type Loop struct {
	debugState

	// Immutable after New.
	engine *Engine
	index  int
	poller Poller

	// Owned by the loop: touched by its goroutine, and its tasks while they run.
	time      instant
	wheel     wheel
	current   *Task // nil between tasks
	runnable  ring[*Task]
	active    []*Task // started and not finished
	workers   workers
	table     []*Conn     // by descriptor
	serial    uint32      // generation of the next connection
	idle      ring[*Conn] // whose OnReadable function is due
	endings   ring[func()]
	kept      map[any]any
	accepting []*acceptor

	unwatched  []*Conn // to be watched for resets soon
	watchTimer *Timer

	buffers   buffers
	pipes     pipes
	room      room
	queues    []*outQueue
	belowTLS  bool // inside tls.Conn.Write, where nothing may park
	pacer     pacer
	draining  draining
	abandoned []string
	names     map[string]*string
	random    *rand.Rand
	counts    counts
	events    [maxEvents]Event
	upkeep    Timer

	// Any goroutine.
	posts     posts
	pulse     pulse
	published published
	load      load
}

// activity is what a loop does when it runs no task.
type activity int

const (
	inLoop activity = iota
	inPost
	inAccept
	inReadable
	inTimer
	inEnding
)

var activityNames = [...]string{
	inLoop: "loop", inPost: "post", inAccept: "accept", inReadable: "on readable", inTimer: "timer",
	inEnding: "end of turn",
}

func newLoop(e *Engine, index int, p Poller) *Loop {
	l := &Loop{engine: e, index: index, poller: p, names: map[string]*string{}}
	l.random = rand.New(rand.NewPCG(e.options.Seed, uint64(index)))
	l.time.start(e.options.Clock)
	l.wheel.start(l.time.nanos)
	l.pacer.perTurn = e.options.HandshakesPerTurn
	l.pacer.left = l.pacer.perTurn
	l.upkeep.loop, l.upkeep.f = l, l.runUpkeep
	l.draining.timer = l.NewTimer()
	l.pipes.splicer, _ = p.(Splicer)
	l.pulse.polling.Store(true)
	return l
}

// Index is the loop's place in Engine.Loops.
func (l *Loop) Index() int { return l.index }

// Rand is the loop's source of jitter and random choice, seeded by Options.Seed. Loop only.
func (l *Loop) Rand() *rand.Rand { return l.random }

// Current is the task that runs now, nil in a callback. Loop only.
func (l *Loop) Current() *Task { return l.current }

// Step makes one turn and waits at most max for something to do (negative: without limit).
// It reports whether anything ran. For tests that turn loops themselves: never beside Run.
func (l *Loop) Step(max time.Duration) bool {
	before := l.counts.steps
	l.time.refresh() // it may be long since the last turn, and timers count from here
	l.turn(max)
	l.publish()
	return l.counts.steps != before
}

func (l *Loop) run() {
	l.pulse.polling.Store(false)
	for !l.draining.done {
		l.turn(-1)
	}
	l.end()
}

// turn is: wait, take events, run what other goroutines posted, callbacks, timers, and each
// task that was runnable by then once, and what is to come after them.
func (l *Loop) turn(max time.Duration) {
	n := l.wait(max)
	l.time.refresh()
	l.doing(inLoop)
	checkTurn(l)
	l.counts.turns++
	began := l.time.nanos
	for i := range l.events[:n] {
		l.dispatch(&l.events[i])
	}
	l.counts.steps += uint64(n)
	l.acceptReady()
	l.runPosts()
	l.wheel.advance(l.time.nanos, l.expire)
	l.runIdle()
	l.pacer.turn()
	l.runTasks()
	l.runEndings()
	if l.draining.active {
		l.drainTurn()
	}
	l.measure(began)
}

// wait polls when there is work already, otherwise sleeps until an event, a post, a timer
// or max.
func (l *Loop) wait(max time.Duration) int {
	timeout := l.timeout(max)
	if timeout == 0 {
		return l.poll(0)
	}
	l.publish()
	if !l.posts.sleep() {
		timeout = 0
	}
	l.pulse.polling.Store(true)
	n := l.poll(timeout)
	l.pulse.polling.Store(false)
	l.posts.awake()
	return n
}

func (l *Loop) poll(timeout time.Duration) int {
	n, err := l.poller.Wait(l.events[:], timeout)
	if err != nil {
		panic("engine: poller: " + err.Error()) // the loop cannot go on without it
	}
	return n
}

func (l *Loop) timeout(limit time.Duration) time.Duration {
	if l.runnable.len() > 0 || l.idle.len() > 0 || l.endings.len() > 0 || l.posts.waiting() || l.pacer.waiting() || l.acceptPending() {
		return 0
	}
	at := l.wheel.next()
	if at < 0 {
		return limit
	}
	d := time.Duration(max(at-l.time.nanos, 0))
	if limit >= 0 {
		d = min(d, limit)
	}
	return d
}

// dispatch hands one event to its connection or listener. An event whose generation is not
// the registered one belongs to a descriptor that was closed earlier in this batch.
func (l *Loop) dispatch(ev *Event) {
	fd, gen := int(uint32(ev.Token)), uint32(ev.Token>>32)
	if gen&listenerBit != 0 {
		l.listenerReady(gen)
		return
	}
	if fd >= len(l.table) || l.table[fd] == nil || l.table[fd].gen != gen {
		l.counts.stale++
		return
	}
	l.table[fd].event(ev.Ready)
}

// runTasks resumes each task that is runnable now once; those that yield or start meanwhile
// come after the next poll.
func (l *Loop) runTasks() {
	for n := l.runnable.len(); n > 0; n-- {
		l.resume(l.runnable.pop())
	}
}

// runIdle calls the functions of idle connections that became readable or expired.
func (l *Loop) runIdle() {
	for n := l.idle.len(); n > 0; n-- {
		c := l.idle.pop()
		c.flags &^= flagQueued
		if f := c.onReadable; f != nil && c.flags&flagClosed == 0 {
			c.onReadable = nil
			if !l.guard(inReadable, f) {
				l.cut(c, ErrClosed) // its owner is gone
			}
		}
	}
}
