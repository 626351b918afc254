package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// Refusals are worth a line in the process log whatever becomes of the access log:
// somebody is not who they should be, or one of the two configurations is wrong.

// refused counts and logs a connection that ended in its handshake.
func (p *Proxy) refused(d *Downstream, err error) {
	name := d.listener.name
	p.meter.Refused(d.loop.index, name, policy.ReasonOf(err))
	p.refusals.log("connection refused", name, err, "listener", name, "client", d.clientName())
	p.witness(d, err)
}

// witness tells the observers of a connection that was ended for err.
func (p *Proxy) witness(d *Downstream, err error) {
	d.loop.witness(d.listener, err, d.client(), d.unix(), d.PeerID())
}

func (s *loopState) witness(l *Listener, err error, client netip.AddrPort, unix bool, peerID string) {
	if len(s.proxy.witnesses) == 0 {
		return
	}
	r := &s.refusal
	*r = observability.Record{Loop: s.index, Listener: l.name, Inbound: l.conf.Load().Inbound, Reason: policy.ReasonOf(err), Side: sideOf(err),
		Err: err, Start: s.loop.Now(), Client: client, Unix: unix, PeerID: peerID}
	for _, o := range s.proxy.witnesses {
		o.ObserveRefusal(r)
	}
	*r = observability.Record{}
}

// refusedCaller logs a request of somebody who is authentic and not allowed.
func (p *Proxy) refusedCaller(d *Downstream, err error) {
	name := d.listener.name
	p.refusals.log("request refused", name, err, "listener", name, "client", d.clientName())
}

// refusedEndpoint logs an endpoint with which no mesh connection could be made,
// where that is what err says: our side refused the endpoint, or the endpoint us.
func (p *Proxy) refusedEndpoint(c *upstream.Choice, err error) {
	switch policy.ReasonOf(err) {
	case policy.UpstreamTLS, policy.UpstreamTLSIdentity:
		p.refusals.log("endpoint refused", c.Member.Address, err, "service", c.Service.Name, "endpoint", c.Member.Address)
	}
}

// refusalLog writes one line for each place and reason in a while, so that a hostile
// peer cannot fill the log; what it left out is counted in the next line.
type refusalLog struct {
	mu     sync.Mutex
	logger *slog.Logger
	last   map[refusalKey]*refusalCount
}

// refusalKey: where is a listener's name or an endpoint's address.
type refusalKey struct {
	what, where string
	reason      policy.Reason
}

type refusalCount struct {
	at      time.Time
	skipped int
}

const (
	refusalEvery = 10 * time.Second
	// refusalPlaces bounds the table against endpoints that come and go.
	refusalPlaces = 1024
)

func (l *refusalLog) init(logger *slog.Logger) {
	l.logger, l.last = logger, map[refusalKey]*refusalCount{}
}

func (l *refusalLog) log(what, where string, err error, attributes ...any) {
	reason := policy.ReasonOf(err)
	skipped, due := l.due(refusalKey{what, where, reason}, time.Now())
	if !due {
		return
	}
	if cause := errors.Unwrap(err); cause != nil {
		err = cause
	}
	level := slog.LevelWarn
	if reason == policy.ClientAborted {
		level = slog.LevelDebug // as Consul's TCP check of our port does it all the time
	}
	l.logger.Log(context.Background(), level, what, append(attributes, "reason", reason.String(), "error", err.Error(),
		"sentence", reason.Info().Sentence, "alike_since_last_line", skipped)...)
}

// due counts a refusal and reports whether it is to be written, and how many alike
// were not.
func (l *refusalLog) due(key refusalKey, now time.Time) (skipped int, due bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.last[key]
	if c == nil {
		if len(l.last) >= refusalPlaces {
			clear(l.last)
		}
		c = &refusalCount{}
		l.last[key] = c
	}
	if now.Sub(c.at) < refusalEvery {
		c.skipped++
		return 0, false
	}
	skipped = c.skipped
	c.at, c.skipped = now, 0
	return skipped, true
}

// panicked logs the stack of a contained panic, one in a while; all are counted as
// exchanges that ended with the reason internal.
func (p *Proxy) panicked(what string, v any) {
	now, last := time.Now().UnixNano(), p.lastPanic.Load()
	if now-last < int64(refusalEvery) || !p.lastPanic.CompareAndSwap(last, now) {
		return
	}
	p.log.Error(what+" panicked", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
}
