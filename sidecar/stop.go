package sidecar

import (
	"context"
	"time"
)

// Stop begins the graceful end; any number of times, from any goroutine. The steps,
// in their order:
//
//  1. not ready: /readyz answers 503;
//  2. inbound listeners close, their connections finish what is under way, and each
//     answer announces the close;
//  3. outbound listeners serve on until inbound has ended, since the workload may
//     still need others to answer, and then end in the same way;
//  4. at the deadline (timeouts.drain) what is left is cut;
//  5. the access log is flushed, and Run returns.
func (s *Sidecar) Stop() {
	s.stopping.Store(true)
	s.stopNow()
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
	s.log.Info("draining", "inbound", s.proxy.Active(true), "outbound", s.proxy.Active(false), "deadline", within.String(), "generation", generation)
	for _, inbound := range []bool{true, false} {
		s.proxy.Drain(inbound)
		for s.proxy.Active(inbound) > 0 && time.Now().Before(deadline) && ctx.Err() == nil {
			time.Sleep(drainPoll)
		}
	}
	left := s.proxy.Active(true) + s.proxy.Active(false)
	s.proxy.CloseIdle()
	s.engine.Drain(time.Now())
	s.log.Info("drained", "took", time.Since(began).Round(time.Millisecond).String(), "cut", left)
	return left == 0 || ctx.Err() == nil
}
