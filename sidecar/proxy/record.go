package proxy

import (
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
	r.Client, r.Unix, r.PeerID = d.raw.Remote(), d.raw.Unix(), d.PeerID()
	x.loop.proxy.observe(x)
}

func (p *Proxy) observe(x *Exchange) {
	for _, o := range p.observers {
		o.Observe(&x.record)
	}
}
