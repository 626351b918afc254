// Package sim is a network and a clock that exist only in memory, behind the interfaces
// that the engine has for epoll and time. Several engines, each on a Host of its own, and
// scripted peers share one World; a test turns all of it from one goroutine.
//
// Why it exists: what a proxy does when a peer stalls, resets, answers half or comes a
// microsecond before a deadline cannot be tested with real sockets and real time, except by
// luck. Here it is exact and repeatable: the same Seed gives the same delays, the same
// splits and the same order of loops, and virtual time moves only when every loop sleeps.
//
// What is modelled is what Linux does, as far as a program can see it: edge-triggered
// readiness reported as the level at the time of the wait, room announced only after a write
// found none and a third of the buffer is free again, data before a reset still readable, a
// close with unread data as a reset, the lowest free descriptor given out first.
// TestPollerContract (package engine) runs the same script against epoll and against this.
//
// What it must not know: HTTP, TLS, and everything else above the engine's sockets.
//
// Nothing here is safe for use by several goroutines, except for a poller's Wake.
package sim
