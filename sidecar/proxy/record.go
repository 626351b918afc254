package proxy

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// finish is the record phase: it runs for every exchange, whatever became of it.
func (x *Exchange) finish(err error) {
	r, d := &x.record, x.Down
	r.Loop, r.Listener, r.Inbound, r.Protocol = x.loop.index, x.conf.Name, x.conf.Inbound, "http"
	if x.Route != nil {
		r.Route, r.Service = x.Route.Name, x.Route.Service.Name
	}
	r.Reason, r.Err, r.Side = policy.ReasonOf(err), err, sideOf(err)
	r.Total = x.since(x.start)
	r.Start = x.loop.loop.Now().Add(-r.Total)
	r.Method, r.Authority, r.Path = x.Req.MethodBytes(), x.Req.AuthorityBytes(), x.Req.PathBytes()
	r.UserAgent, _ = x.Req.Get(message.NameUserAgent)
	r.RequestID, _ = x.Req.Get(message.NameXRequestID)
	if x.sent {
		r.Status = x.Resp.Status
	}
	r.BytesIn, r.BytesOut = int64(x.server.BytesIn()-x.in), int64(x.server.BytesOut()-x.out)
	r.Client, r.PeerID = d.raw.Remote(), d.PeerID()
	x.loop.proxy.observe(x)
}

func (p *Proxy) observe(x *Exchange) {
	for _, o := range p.observers {
		o.Observe(&x.record)
	}
}

// refused counts and logs a connection that ended in its handshake.
func (p *Proxy) refused(d *Downstream, err error) {
	reason := policy.ReasonOf(err)
	name := d.listener.name
	p.meter.Refused(d.loop.index, name, reason)
	p.refusals.log(name, d.raw.Remote().String(), reason, err)
}

// refusalLog writes one line for each listener and reason in a while, so that a
// hostile peer cannot fill the log; what it left out is counted in the next line.
type refusalLog struct {
	mu     sync.Mutex
	logger *slog.Logger
	last   map[refusalKey]*refusalCount
}

type refusalKey struct {
	listener string
	reason   policy.Reason
}

type refusalCount struct {
	at      time.Time
	skipped int
}

const refusalEvery = 10 * time.Second

func (l *refusalLog) init(logger *slog.Logger) {
	l.logger, l.last = logger, map[refusalKey]*refusalCount{}
}

func (l *refusalLog) log(listener, client string, reason policy.Reason, err error) {
	now := time.Now()
	key := refusalKey{listener, reason}
	l.mu.Lock()
	c := l.last[key]
	if c == nil {
		c = &refusalCount{}
		l.last[key] = c
	}
	if now.Sub(c.at) < refusalEvery {
		c.skipped++
		l.mu.Unlock()
		return
	}
	skipped := c.skipped
	c.at, c.skipped = now, 0
	l.mu.Unlock()
	if cause := errors.Unwrap(err); cause != nil {
		err = cause
	}
	l.logger.Warn("connection refused", "listener", listener, "reason", reason.String(), "client", client,
		"error", err.Error(), "sentence", reason.Info().Sentence, "alike_since_last_line", skipped)
}
