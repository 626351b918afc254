package sidecar

import (
	"context"
	"time"
)

// Stop begins the graceful end; any number of times, from any goroutine. The steps,
// in their order:
//
//  1. not ready: /readyz and the probes' /ready answer 503; /healthz and /live go on
//     saying 200, since a proxy that ends is not to be restarted;
//  2. what we have registered in Consul is deregistered, and what we have adopted put
//     into maintenance; a Consul that is away delays this by 3 s at most;
//  3. where that was so, inbound serves on for register.propagation, until the others
//     have heard of it;
//  4. inbound listeners close, their connections finish what is under way, and each
//     answer announces the close;
//  5. an application that runs below us is asked to end: once inbound has ended, or when
//     two thirds of the time are over, so that it may still end what only it can end;
//  6. outbound listeners serve on, new connections too, until the workload has gone
//     (drain.outbound; see departure), and then end in the same way as inbound;
//  7. at the deadline (timeouts.drain, from the beginning) what is left is cut;
//  8. the access log is flushed, metrics and spans are sent once more, and Run returns.
//
// Steps 3 and 4 are short where the application below us has ended already.
func (s *Sidecar) Stop() {
	s.stopping.Store(true)
	s.stopNow()
}

// Leave does what comes before the end while everything is still served, for those who know
// that it will come: not ready, and what we have registered in Consul is deregistered. It
// returns when the others have heard of it (register.propagation), or ctx ends; any number of
// times, from any goroutine. There is no way back.
func (s *Sidecar) Leave(ctx context.Context) {
	if s.leaving.CompareAndSwap(false, true) {
		s.log.Info("leaving", "inbound", s.proxy.Active(true), "outbound", s.proxy.Active(false))
	}
	s.awaitPropagation(ctx, time.Now().Add(s.current().Timeouts.Drain.D()))
}

// drainPoll is how often the end of a phase is looked for.
const drainPoll = 20 * time.Millisecond

// drain reports whether it came to its end, or to its deadline, before ctx ended.
func (s *Sidecar) drain(ctx context.Context) bool {
	s.applying.Lock() // a reload under way opens its listeners before they are closed
	generation := s.generation
	s.applying.Unlock()
	began := time.Now()
	within := s.current().Timeouts.Drain.D()
	deadline := began.Add(within)
	until := func(at time.Time, over func() bool) {
		for !over() && time.Now().Before(at) && ctx.Err() == nil {
			time.Sleep(drainPoll)
		}
	}
	s.log.Info("draining", "inbound", s.proxy.Active(true), "outbound", s.proxy.Active(false), "deadline", within.String(), "generation", generation)
	workload := s.departing()
	s.awaitPropagation(ctx, deadline)
	s.proxy.Drain(true)
	until(began.Add(workload.inboundShare(within)), func() bool {
		workload.watch()
		return s.proxy.Active(true) == 0
	})
	workload.end()
	until(deadline, workload.gone)
	workload.say(deadline)
	s.proxy.Drain(false)
	until(deadline, func() bool { return s.proxy.Active(true)+s.proxy.Active(false) == 0 })
	left := s.proxy.Active(true) + s.proxy.Active(false)
	s.proxy.CloseIdle()
	s.engine.Drain(time.Now())
	s.log.Info("drained", "took", time.Since(began).Round(time.Millisecond).String(), "cut", left)
	return left == 0 || ctx.Err() == nil
}

// awaitPropagation takes us out of Consul and gives the others time to hear of it.
func (s *Sidecar) awaitPropagation(ctx context.Context, deadline time.Time) {
	wait := s.leave(ctx)
	if wait <= 0 || s.applicationEnded() {
		return
	}
	timer := time.NewTimer(min(wait, time.Until(deadline)))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.applicationEnd():
	case <-ctx.Done():
	}
}
