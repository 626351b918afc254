package proxy

import (
	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// finish is the record phase: it runs for every exchange, whatever became of it.
func (x *Exchange) finish(err error) {
	r, d := &x.record, x.Down
	r.Loop, r.Listener, r.Inbound, r.Protocol = x.loop.index, x.conf.Name, x.conf.Inbound, "http"
	if x.stream != nil {
		r.Protocol = protocolHTTP2
	}
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
	r.GRPC = x.callStatus(err)
	r.BytesIn, r.BytesOut = int64(x.server.BytesIn()), int64(x.server.BytesOut())
	r.Version, r.Fields = versionOf(x), x
	d.active(&r.Active)
	if x.Route != nil {
		r.Active.Service = x.Route.Service.Active()
		x.leaveService()
	}
	r.Client, r.Unix, r.TLS, r.PeerID = d.client(), d.unix(), d.tls != nil, d.PeerID()
	x.loop.proxy.observe(x)
}

// leaveService ends what decide began, once.
func (x *Exchange) leaveService() {
	if x.entered {
		x.entered = false
		x.Route.Service.End()
	}
}

// active notes the connections that are open now.
func (d *Downstream) active(a *observability.Active) {
	a.Process, a.Listener = d.listener.proxy.room.used.Load(), d.listener.room.used.Load()
}

func versionOf(x *Exchange) string {
	switch {
	case x.stream != nil:
		return "2"
	case x.Req.Framing.Minor == 0:
		return "1.0"
	}
	return "1.1"
}

// RequestField implements observability.Fields.
func (x *Exchange) RequestField(name string) ([]byte, bool) { return x.Req.Lookup(name) }

// ResponseField implements observability.Fields. There is none where no answer came.
func (x *Exchange) ResponseField(name string) ([]byte, bool) { return x.Resp.Lookup(name) }

func (p *Proxy) observe(x *Exchange) {
	for _, o := range p.observers {
		o.Observe(&x.record)
	}
}
