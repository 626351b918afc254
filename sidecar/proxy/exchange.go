// Start here: an exchange is one request and its answer, from the first byte of
// its head to its record. Everything else in this package is called from it.
//
// Cost: on the plain path two receives, two sends and no allocation
// (TestPlainPathAllocatesNothing, make bench).

package proxy

import (
	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// run carries one exchange through its phases and reports whether the connection
// may carry another.
func (x *Exchange) run() (keep bool) {
	err := x.receive() // 1. head
	if err == errNoRequest {
		return false
	}
	if err == nil {
		err = x.decide() // 2. snapshot, route, authorization, steps
	}
	if err == nil {
		err = x.attempts() // 3. endpoint, connection, request sent, response head
	}
	if err == nil {
		err = x.respond() // 4. response, streamed
	}
	if err != nil {
		x.answer(err) // 5. or the proxy's own answer
	}
	x.settle(err) // 6. siblings ended, connection returned or closed
	x.finish(err) // 7. record: counters, log lines, span, decision
	return x.stream == nil && x.Down.state == stateExchange && x.http1.KeepAlive() && x.task.Err() == nil
}

// receive reads the request head. errNoRequest: the client left without one.
func (x *Exchange) receive() error {
	d := x.Down
	x.conf = d.listener.conf.Load()
	x.server.ReadWithin(x.conf.Timeouts.RequestHead)
	x.start = x.loop.loop.Nanos()
	err := x.server.ReadHead(&x.Req)
	x.record.RequestHead = x.since(x.start)
	if err == nil {
		x.grpc = isCall(&x.Req)
		x.body.expect(&x.Req)
		x.joinTrace()
	}
	return x.headError(err)
}

// decide finds the route and asks whether the caller may use it.
func (x *Exchange) decide() error {
	if err := x.Down.authorize(x.conf); err != nil {
		x.loop.proxy.refusedCaller(x.Down, err)
		return err
	}
	i, ok := x.conf.Table.Match(x.Req.AuthorityBytes(), x.Req.PathBytes())
	if !ok {
		return &policy.Error{Reason: policy.NoRoute, Side: policy.Downstream, Phase: policy.PhaseRoute}
	}
	x.Route = x.conf.Routes[i]
	x.Route.Service.Repeats.Enter()
	x.entered = true
	if err := x.loop.mayBegin(); err != nil {
		return err
	}
	x.settings = x.Route.Service.Settings()
	if x.settings.Timeouts.Request > 0 {
		x.until = x.start + int64(x.settings.Timeouts.Request)
	}
	if err := x.heedTimeout(); err != nil {
		return err
	}
	for _, s := range x.Route.Steps {
		if err := s.Request(x); err != nil {
			return err
		}
	}
	return nil
}

// attempts tries endpoints until one has answered with a head.
func (x *Exchange) attempts() error {
	if err := x.body.begin(x); err != nil {
		return err
	}
	x.server.WatchAbort(x.task)
	for {
		err := x.attempt()
		again, err := x.repeat(err)
		if !again {
			x.decided()
			return err
		}
	}
}

// respond sends the response head and streams its body.
func (x *Exchange) respond() error {
	for _, s := range x.Route.Steps {
		if err := s.Response(x); err != nil {
			return err
		}
	}
	if x.Resp.Framing.Kind == message.Tunnel {
		return x.tunnel()
	}
	x.closeIfLast()
	server := x.server
	server.WriteWithin(x.clientSilence())
	if err := server.WriteHead(&x.Resp); err != nil {
		return err
	}
	if x.Resp.Framing.Kind == message.NoBody {
		x.sent = true
		return server.Flush()
	}
	return x.streamBody()
}
