package proxy

import (
	"errors"
	"os"
	"time"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/policy/retry"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// Repeats: whether an attempt is made again is policy/retry's to say; here is what it is
// told, the wait, and what has to be in order before the next one.
//
// Cost: an attempt that is not to be repeated costs a few comparisons and no allocation
// (TestPlainPathAllocatesNothing runs with the default policy).

// try is what an exchange knows of its attempts beyond the one under way.
type try struct {
	until  int64 // Nanos by which the head of the answer must be there; 0: not by the policy
	policy *retry.Policy
	drawn  bool  // the attempt under way is a repeat that counts against the budget
	last   error // that the attempt before failed of; nil: of an answer, or there was none
	// doubtful: the answer is that of some proxy, for a request that may have been processed.
	doubtful bool
}

// pick chooses an endpoint that has not been tried, and where all have been, begins anew,
// unless the last of them would do no better a moment later.
func (x *Exchange) pick() (upstream.Choice, error) {
	if x.try.policy == nil {
		x.try.policy = x.settings.Retries
		if own := x.Route.Retries; own != nil {
			x.try.policy = own
		}
	}
	c, err := x.loop.upstream.Pick(x.Route.Service, &x.tried)
	if err == nil || !x.tried.Any() || hopeless(x.try.last) {
		return c, err
	}
	x.tried.Reset()
	return x.loop.upstream.Pick(x.Route.Service, &x.tried)
}

// hopeless reports whether an endpoint that failed with err is not worth another try within
// the same exchange: it has had all the time that there is to connect, or it is not what it
// should be.
func hopeless(err error) bool {
	switch policy.ReasonOf(err) {
	case policy.ConnectTimeout, policy.UpstreamProtocol, policy.UpstreamTLS, policy.UpstreamTLSIdentity:
		return true
	case policy.EndpointLimit:
		return policy.ErrorOf(err).Phase == policy.PhasePick
	}
	return false
}

// limitTry begins the time of an attempt.
func (x *Exchange) limitTry() {
	x.try.until = 0
	if p := x.try.policy; p != nil && p.PerTry > 0 {
		x.try.until = x.loop.loop.Nanos() + int64(p.PerTry)
	}
}

func (x *Exchange) tryOver() bool {
	return x.try.until != 0 && x.loop.loop.Nanos() >= x.try.until
}

// tryTimeout is err, or where it is a deadline's the one of the attempt.
func tryTimeout(err error) error {
	e := policy.ErrorOf(err)
	if e == nil || e.Side != policy.Upstream || !errors.Is(err, os.ErrDeadlineExceeded) || e.Reason == policy.EndpointLimit {
		return err
	}
	return &policy.Error{Reason: policy.TryTimeout, Side: policy.Upstream, Phase: e.Phase, Retryable: true, MaybeProcessed: e.MaybeProcessed, Err: e.Err}
}

// repeat reports whether the attempt that has ended with err, nil where an answer's head is
// there, is to be made again. It returns when it is time for that, and then everything of
// the attempt is gone; otherwise with what the exchange has come to.
func (x *Exchange) repeat(err error) (again bool, _ error) {
	if x.choice.Service == nil { // there was none to pick: what the last one did is the news
		if x.try.last != nil {
			err = x.try.last
		}
		return false, err
	}
	if err != nil {
		x.loop.proxy.refusedEndpoint(&x.choice, err)
	}
	v := x.judge(err)
	if v.Result == retry.Made && x.overdue() {
		v.Result = retry.Spent
	}
	var ended error
	if v.Result == retry.Made {
		v.Result, ended = x.awaitTurn(err, v)
	}
	if v.Result != retry.Nothing {
		x.loop.proxy.meter.Retry(x.loop.index, x.Route.Service.Name, v.Cause, v.Result)
	}
	if ended != nil {
		return false, ended
	}
	return v.Result == retry.Made, err
}

// judge asks the policy.
func (x *Exchange) judge(err error) retry.Verdict {
	a := retry.Attempt{
		Err: err, Number: x.record.Attempts,
		Idempotent: idempotent(x.Req.MethodBytes()), Replayable: x.body.replayable(),
		Burden: x.up != nil && x.up.Burdened(),
	}
	e := policy.ErrorOf(err)
	switch {
	case err == nil:
		a.Status = x.Resp.Status
		if !x.Resp.Framing.HasBody() {
			a.GRPC, a.Doubtful = x.told, x.try.doubtful
		}
	case e == nil:
	case e.Err == errPeer:
		a.Burden = e.Phase != policy.PhaseConnect // the workload behind it has seen nothing
	case x.up != nil && x.up.Reused && x.up.Alone():
		a.Stale = e.Reason == policy.UpstreamReset || e.Reason == policy.UpstreamClosed
	}
	v := x.try.policy.Decide(a)
	if v.Result == retry.Made && a.Stale {
		// The endpoint closed a kept connection as we chose it; it is as good as any other,
		// over a new connection.
		x.fresh = true
		x.tried.Reset()
	}
	return v
}

// awaitTurn waits until the repeat may begin, and ends the attempt before it. An answer is
// kept meanwhile: where nothing comes of the repeat, it is the client's. The error is that
// of the wait.
func (x *Exchange) awaitTurn(err error, v retry.Verdict) (retry.Result, error) {
	x.giveBack() // of the attempt that has ended
	if err != nil {
		if !x.body.stop(x) {
			return retry.Nothing, x.blame(x.task.Err())
		}
		x.letGo(err)
		x.try.last = err
	}
	result, ended := x.wait(v)
	if result != retry.Made || ended != nil {
		return result, ended
	}
	if err == nil {
		if !x.body.replayable() { // its client has sent more in the meantime than is kept
			return x.refused(retry.Unsafe), nil
		}
		if !x.body.stop(x) {
			return retry.Nothing, x.blame(x.task.Err())
		}
		drawn := x.try.drawn
		x.try.drawn = false // that is the place of the attempt to come
		x.discard()
		x.try.drawn, x.try.last = drawn, nil
	}
	if x.body.err != nil {
		return x.refused(retry.Nothing), x.body.err
	}
	return retry.Made, nil
}

// leastLooks is how often a repeat looks for room in the budget before it is given up, however
// much time has passed meanwhile: the process may have stood still.
const leastLooks = 8

// wait parks for the back-off, and until the budget has room, but not for ever: as long as
// the longest back-off.
func (x *Exchange) wait(v retry.Verdict) (retry.Result, error) {
	l, p := x.loop.loop, x.try.policy
	var pause time.Duration
	if !v.AtOnce && !hopeless(x.try.last) { // if at all, it goes to another endpoint
		pause = p.Backoff.Before(x.record.Attempts+1, l.Rand().Float64())
	}
	patience := l.Nanos() + int64(pause+p.Backoff.Max)
	for looks := 1; ; looks++ {
		if x.until != 0 && l.Nanos()+int64(pause) >= x.until {
			return retry.Spent, nil
		}
		if pause > 0 {
			if err := x.task.Sleep(pause); err != nil {
				return retry.Nothing, x.blame(err)
			}
		}
		if v.Free {
			return retry.Made, nil
		}
		switch x.Route.Service.Repeats.Take(p.Budget, l.Nanos()) {
		case retry.Granted:
			x.try.drawn = true
			return retry.Made, nil
		case retry.Busy:
			pause = max(p.Backoff.Before(x.record.Attempts+1, l.Rand().Float64()), time.Millisecond)
			if looks < leastLooks && p.Backoff.Max > 0 || l.Nanos()+int64(pause) < patience {
				continue
			}
		}
		return retry.OverBudget, nil
	}
}

// refused gives back what was granted for nothing.
func (x *Exchange) refused(r retry.Result) retry.Result {
	x.giveBack()
	return r
}

// giveBack ends a repeat's place in the budget, with its attempt.
func (x *Exchange) giveBack() {
	if x.try.drawn {
		x.try.drawn = false
		x.Route.Service.Repeats.Give()
	}
}

// decided is the end of the attempts: nothing is repeated any more. From here on a repeat is
// an exchange like any other, however long its answer takes.
func (x *Exchange) decided() {
	x.giveBack()
	x.try.until, x.try.last = 0, nil
	x.body.commit(x.loop.loop)
}

// A discarded answer's body is read as far as it is there, so that its connection can be
// used again.
const (
	discardBytes  = 64 << 10
	discardWithin = 5 * time.Millisecond
)

// discard ends an attempt whose answer is not passed on. It hardly waits.
func (x *Exchange) discard() {
	whole := !x.Resp.Framing.HasBody() || string(x.Req.MethodBytes()) == "HEAD"
	for n := 0; !whole && n < discardBytes && x.up.Waiting(); {
		x.up.ReadWithin(discardWithin)
		p, end, err := x.up.ReadBody()
		if err != nil {
			break
		}
		n += len(p)
		whole = end
	}
	if whole {
		x.letGo(nil)
	} else {
		x.letGo(errSettled)
	}
}

func idempotent(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}
