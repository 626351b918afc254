package proxy

import (
	"encoding/hex"
	"math/rand/v2"

	crand "crypto/rand"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/http2"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// loopState is what the data plane keeps for each loop. Owned by the loop.
type loopState struct {
	proxy    *Proxy
	loop     *engine.Loop
	index    int
	upstream *upstream.Local
	free     []*Exchange
	random   *rand.ChaCha8
	idText   [32]byte
	conns    Downstream // head of the list of live connections
	review   review     // the pass of Reauthorize over them

	turnedAway int                  // connections that are being told of a limit
	refusal    observability.Record // what witness tells; used again
}

func newLoopState(p *Proxy, l *engine.Loop) *loopState {
	s := &loopState{proxy: p, loop: l, index: l.Index(), random: newRandom()}
	s.upstream = upstream.NewLocal(l, func(service string, r policy.Reason) { p.meter.UpstreamConn(s.index, service, r) })
	s.upstream.OnBroken(s.brokenUpstream)
	s.conns.next, s.conns.prev = &s.conns, &s.conns
	return s
}

func newRandom() *rand.ChaCha8 {
	var seed [32]byte
	crand.Read(seed[:])
	return rand.NewChaCha8(seed)
}

// brokenUpstream counts and logs a shared connection that was ended for what its endpoint
// did.
func (s *loopState) brokenUpstream(service, endpoint string, err error) {
	s.proxy.meter.UpstreamAbuse(s.index, service, policy.ReasonOf(err))
	s.proxy.refusals.log("connection to endpoint ended", endpoint, err, "service", service, "endpoint", endpoint)
}

// maxFree bounds the exchanges kept for reuse, keptHead the memory of each head in
// them: after a burst of heads as large as the limits allow, little stays.
const (
	maxFree  = 1024
	keptHead = 8 << 10
)

func (s *loopState) exchange() *Exchange {
	if n := len(s.free); n > 0 {
		x := s.free[n-1]
		s.free[n-1] = nil
		s.free = s.free[:n-1]
		return x
	}
	x := &Exchange{loop: s}
	x.serve, x.serveStream = x.serveOn, x.serveStreamOn
	x.body.run = x.pumpBody
	return x
}

func (s *loopState) recycle(x *Exchange) {
	x.reset()
	x.Req.Trim(keptHead)
	x.Resp.Trim(keptHead)
	if x.stream != nil {
		x.stream.Close()
		x.stream = nil
	} else {
		x.http1.Release()
	}
	x.server = nil
	x.Down = nil
	if len(s.free) < maxFree {
		s.free = append(s.free, x)
	}
}

// keptExchanges is how many of them stay at hand when a burst is over.
const keptExchanges = 16

// GiveBack lets go of what a burst has left in the pools of each loop. Any goroutine.
func (p *Proxy) GiveBack() {
	for _, s := range p.loops {
		s.loop.Post(s.giveBack)
	}
}

func (s *loopState) giveBack() {
	http2.GiveBack(s.loop)
	if n := min(len(s.free), keptExchanges); n < cap(s.free) {
		s.free = append(make([]*Exchange, 0, keptExchanges), s.free[:n]...)
	}
}

func (s *loopState) track(d *Downstream) {
	d.prev, d.next = &s.conns, s.conns.next
	d.next.prev = d
	s.conns.next = d
	s.proxy.count(d, 1)
}

func (s *loopState) untrack(d *Downstream) {
	if s.review.next == d {
		s.review.next = d.next
	}
	d.prev.next, d.next.prev = d.next, d.prev
	d.next, d.prev = nil, nil
	d.listener.leave()
	s.proxy.count(d, -1)
}

// requestID makes a random id of 32 hexadecimal digits, valid until the next call.
func (s *loopState) requestID() []byte {
	var b [16]byte
	s.random.Read(b[:])
	hex.Encode(s.idText[:], b[:])
	return s.idText[:]
}
